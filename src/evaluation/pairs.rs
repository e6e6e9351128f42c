//! Lists of pairs: LFW's `pairs.txt` and its relatives.
//!
//! Format (<http://vis-www.cs.umass.edu/lfw/README.txt>): a first line `FOLDS N` (View 2) or `N` (View 1, such as `pairsDevTest.txt`), then for each
//! fold N lines `name i j` (one person, pictures i and j) and N lines `name i name j` (different people), separated by tabs. Picture i
//! of a name is `name/name_000i.jpg`. Lists of other data sets are read, too: without a first line of numbers, or with lines `path path 0|1`
//! (1: one person).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{EvaluationError, people::Sample};

/// Folds of a list that names none.
const FOLDS: usize = 10;
/// Endings tried for picture i of a name, in this order.
const ENDINGS: [&str; 6] = ["jpg", "png", "jpeg", "JPG", "PNG", "webp"];

/// A comparison of two pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Index of the first picture.
    pub a: usize,
    /// Index of the second.
    pub b: usize,
    /// Whether both show one person.
    pub same: bool,
    /// Fold, counted from 0.
    pub fold: usize,
}

/// Pictures, each once, and the pairs to compare.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PairList {
    /// The pictures.
    pub samples: Vec<Sample>,
    /// The comparisons.
    pub pairs: Vec<Pair>,
}

/// Pictures found for a list, each once.
struct Pictures<'a> {
    dir: &'a Path,
    known: HashMap<(String, PathBuf), usize>,
    samples: Vec<Sample>,
}

impl Pictures<'_> {
    fn index(&mut self, person: &str, path: PathBuf) -> usize {
        *self.known.entry((person.to_owned(), path.clone())).or_insert_with(|| {
            self.samples.push(Sample { person: person.to_owned(), path });
            self.samples.len() - 1
        })
    }

    /// Picture `number` of a name in LFW's naming.
    fn numbered(&mut self, name: &str, number: u32) -> Result<usize, String> {
        inside(name)?;
        let stem = format!("{name}_{number:04}");
        let folder = self.dir.join(name);
        let file = ENDINGS.iter().map(|ending| folder.join(format!("{stem}.{ending}"))).find(|path| path.is_file());
        let file = file.ok_or_else(|| {
            format!(
                "there is no picture {} (nor .png, .jpeg, .webp); is the data set complete, and the right folder named?",
                folder.join(format!("{stem}.jpg")).display()
            )
        })?;
        Ok(self.index(name, file))
    }

    /// A picture by its path below the folder; its person is the folder it lies in.
    fn named(&mut self, path: &str) -> Result<usize, String> {
        inside(path)?;
        let full = self.dir.join(path);
        if !full.is_file() {
            return Err(format!(
                "there is no picture {}; paths are meant relative to the named folder",
                full.display()
            ));
        }
        let person = Path::new(path).parent().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(self.index(&person, full))
    }
}

/// A list from outside must not name files elsewhere.
fn inside(path: &str) -> Result<(), String> {
    let plain = Path::new(path).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if plain && !path.is_empty() { Ok(()) } else { Err(format!("{path:?} leaves the folder of the pictures")) }
}

/// Reads a list; `dir` is the folder of the pictures.
///
/// # Errors
/// With the line, when one is not as the format asks, a picture does not exist, or the first line promises another number of lines.
pub fn read(list: &Path, dir: &Path) -> Result<PairList, EvaluationError> {
    let text = super::read_text(list)?;
    let at = |line: usize, message: String| EvaluationError::Line { path: list.to_owned(), line, message };
    let mut lines = text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())).filter(|(_, l)| !l.is_empty()).peekable();
    let header = lines.peek().and_then(|(_, line)| {
        let numbers: Option<Vec<usize>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
        numbers.filter(|n| n.len() <= 2)
    });
    if header.is_some() {
        lines.next();
    }
    let mut pictures = Pictures { dir, known: HashMap::new(), samples: Vec::new() };
    let mut pairs = Vec::new();
    for (number, line) in lines {
        let pair = parsed(line, &mut pictures).map_err(|message| at(number, message))?;
        pairs.push(pair);
    }
    if pairs.is_empty() {
        return Err(EvaluationError::TooLittle(format!(
            "{} names no pairs; a line is `name i j`, `name i name j` or `path path 0|1`",
            list.display()
        )));
    }
    let (folds, each) = match header.as_deref() {
        Some(&[folds, each]) => (folds, Some(each)),
        Some(&[each]) => (1, Some(each)),
        _ => (1, None),
    };
    let promised = each.map(|each| folds.saturating_mul(each).saturating_mul(2));
    if promised.is_some_and(|promised| promised != pairs.len()) {
        let promised = promised.unwrap_or_default();
        return Err(at(1, format!("promises {promised} pairs, and {} follow; is the file complete?", pairs.len())));
    }
    let mut turn = [0; 2];
    for (i, pair) in pairs.iter_mut().enumerate() {
        pair.fold = match each {
            Some(each) if folds > 1 => i / (2 * each.max(1)),
            // One set: pairs of each kind take turns.
            _ => {
                let turn = &mut turn[usize::from(pair.same)];
                *turn += 1;
                (*turn - 1) % FOLDS
            }
        };
    }
    Ok(PairList { samples: pictures.samples, pairs })
}

fn parsed(line: &str, pictures: &mut Pictures<'_>) -> Result<Pair, String> {
    let words: Vec<&str> = if line.contains('\t') {
        line.split('\t').map(str::trim).filter(|w| !w.is_empty()).collect()
    } else {
        line.split_whitespace().collect()
    };
    let number = |word: &str| word.parse::<u32>().map_err(|_| format!("{word:?} is no number of a picture"));
    let (a, b, same) = match words[..] {
        [name, i, j] if i.parse::<u32>().is_ok() => {
            (pictures.numbered(name, number(i)?)?, pictures.numbered(name, number(j)?)?, true)
        }
        [a, b, same @ ("0" | "1")] => (pictures.named(a)?, pictures.named(b)?, same == "1"),
        [first, i, second, j] => {
            (pictures.numbered(first, number(i)?)?, pictures.numbered(second, number(j)?)?, first == second)
        }
        _ => return Err("a line is `name i j`, `name i name j` or `path path 0|1`, separated by tabs".into()),
    };
    Ok(Pair { a, b, same, fold: 0 })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn people() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in ["Ann_B/Ann_B_0001.jpg", "Ann_B/Ann_B_0002.png", "Cem/Cem_0001.jpeg", "Cem/Cem_0010.jpg"] {
            fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            fs::write(dir.path().join(file), b"x").unwrap();
        }
        dir
    }

    fn list(text: &str) -> Result<PairList, EvaluationError> {
        let dir = people();
        let file = dir.path().join("pairs.txt");
        fs::write(&file, text).unwrap();
        read(&file, dir.path())
    }

    #[test]
    fn view_2_has_folds_of_both_kinds() {
        let read = list("2\t1\nAnn_B\t1\t2\nAnn_B\t1\tCem\t1\nCem\t1\t10\nAnn_B\t2\tCem\t10\n").unwrap();
        let kinds: Vec<(bool, usize)> = read.pairs.iter().map(|p| (p.same, p.fold)).collect();
        assert_eq!(kinds, [(true, 0), (false, 0), (true, 1), (false, 1)]);
        assert_eq!(read.samples.len(), 4, "each picture once");
        assert!(read.samples[1].path.ends_with("Ann_B/Ann_B_0002.png"));
        assert_eq!(read.samples[read.pairs[3].b].name(), "Cem/Cem_0010.jpg");
    }

    #[test]
    fn one_set_is_dealt_to_ten_folds() {
        let read = list("2\nAnn_B 1 2\nCem 1 10\r\nAnn_B 1 Cem 1\n\nAnn_B 2 Cem 10\n").unwrap();
        let kinds: Vec<(bool, usize)> = read.pairs.iter().map(|p| (p.same, p.fold)).collect();
        assert_eq!(kinds, [(true, 0), (true, 1), (false, 0), (false, 1)]);
        assert_eq!(list("Ann_B\t1\t2\n").unwrap().pairs.len(), 1, "no first line of numbers");
    }

    #[test]
    fn paths_with_labels_are_read() {
        let read =
            list("Ann_B/Ann_B_0001.jpg Ann_B/Ann_B_0002.png 1\nAnn_B/Ann_B_0001.jpg Cem/Cem_0010.jpg 0").unwrap();
        assert!(read.pairs[0].same && !read.pairs[1].same);
        assert_eq!(read.samples[2].person, "Cem");
    }

    #[test]
    fn faults_name_the_line() {
        for (text, says) in [
            ("1\t1\nAnn_B\t1\t9\nAnn_B\t1\tCem\t1", "line 2: there is no picture"),
            ("10\t300\nAnn_B\t1\t2", "line 1: promises 6000 pairs, and 1 follow"),
            ("18446744073709551615 9\nAnn_B 1 2", "line 1: promises"),
            ("Ann_B\t1", "line 1: a line is"),
            ("Ann_B\t1\tCem\tx", "line 1: \"x\" is no number"),
            ("../x 1 2", "leaves the folder"),
            ("../x ../y 1", "leaves the folder"),
            ("", "names no pairs"),
            ("10 300", "names no pairs"),
        ] {
            let error = list(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(text in "[0-9a-zA-Z_./\t \n-]{0,200}") {
            let _ = list(&text);
        }
    }
}
