//! The annotation: `wider_face_val_bbx_gt.txt`, and the list of faces that count as easy, medium and hard.
//!
//! Annotation: picture path, number of faces, then a line a face: `x y w h blur expression illumination invalid occlusion pose`; a picture
//! without faces is followed by one line of zeros. Difficulty list: lines `easy|medium|hard PATH i j …`, faces counted from 1 as
//! in the MATLAB files' `gt_list`; a picture that a setting does not name has no faces that count in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::super::{EvaluationError, read_text};

/// A box as the annotation has it: left, top, width, height, pixels.
pub type Rect = [f32; 4];

/// A setting of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `easy`, `medium`, `hard`, or `all`.
    pub name: String,
    /// For each picture of [`Truth::pictures`], in order: which faces count, counted from 0. Detections of others are neither right nor wrong.
    pub counting: Vec<BTreeSet<usize>>,
}

/// Pictures with their faces.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Truth {
    /// Path below the folder of pictures, with its ending, and the boxes; by path.
    pub pictures: Vec<(String, Vec<Rect>)>,
    /// For each picture the faces that the annotation calls invalid.
    pub(super) invalid: Vec<BTreeSet<usize>>,
}

impl Truth {
    /// Reads the text annotation.
    ///
    /// # Errors
    /// With the line that is not as the format asks.
    pub fn read(path: &Path) -> Result<Self, EvaluationError> {
        let text = read_text(path)?;
        let at = |line: usize, message: String| EvaluationError::Line { path: path.to_owned(), line, message };
        let mut lines =
            text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())).filter(|(_, l)| !l.is_empty()).peekable();
        let mut pictures: BTreeMap<String, (Vec<Rect>, BTreeSet<usize>)> = BTreeMap::new();
        while let Some((number, name)) = lines.next() {
            if numbers(name).is_some() {
                return Err(at(
                    number,
                    format!(
                        "{name:?} stands where a picture's path is expected; the number of faces before it is wrong"
                    ),
                ));
            }
            let count = lines.next().and_then(|(_, line)| line.parse::<usize>().ok());
            let count = count.ok_or_else(|| at(number + 1, "the number of faces is expected".into()))?;
            let (mut faces, mut invalid) = (Vec::new(), BTreeSet::new());
            // A picture without faces may be followed by a line of zeros.
            let zeros = count == 0 && lines.peek().is_some_and(|(_, l)| numbers(l).is_some());
            for face in 0..count.max(usize::from(zeros)) {
                let (number, line) = lines
                    .next()
                    .ok_or_else(|| at(number, format!("{count} faces are promised, the file ends before")))?;
                let values = numbers(line).filter(|v| v.len() >= 4);
                let values =
                    values.ok_or_else(|| at(number, "a face is `x y w h …`, numbers separated by blanks".into()))?;
                if count > 0 {
                    faces.push([values[0], values[1], values[2], values[3]]);
                    if values.get(7).is_some_and(|v| *v != 0.0) {
                        invalid.insert(face);
                    }
                }
            }
            pictures.insert(name.to_owned(), (faces, invalid));
        }
        if pictures.is_empty() {
            return Err(EvaluationError::TooLittle(format!(
                "{} names no pictures; it should be wider_face_val_bbx_gt.txt",
                path.display()
            )));
        }
        let mut truth = Self::default();
        for (name, (faces, invalid)) in pictures {
            truth.pictures.push((name, faces));
            truth.invalid.push(invalid);
        }
        Ok(truth)
    }

    /// The setting `all`: every face that is not marked invalid. It is none of the official ones.
    pub fn all(&self) -> Setting {
        let counting = self
            .pictures
            .iter()
            .zip(&self.invalid)
            .map(|((_, faces), invalid)| (0..faces.len()).filter(|face| !invalid.contains(face)).collect());
        Setting { name: "all".into(), counting: counting.collect() }
    }

    /// Reads the difficulty list: the settings in the order in which it names them first.
    ///
    /// # Errors
    /// With the line that names an unknown picture or face.
    pub fn settings(&self, path: &Path) -> Result<Vec<Setting>, EvaluationError> {
        let text = read_text(path)?;
        let at = |line: usize, message: String| EvaluationError::Line { path: path.to_owned(), line, message };
        let index: BTreeMap<String, usize> =
            self.pictures.iter().enumerate().map(|(i, (name, _))| (stem(name).to_owned(), i)).collect();
        let mut settings: Vec<Setting> = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let (Some(name), Some(picture)) = (words.next(), words.next()) else {
                return Err(at(number, "a line is `easy|medium|hard PATH i j …`".into()));
            };
            let picture = *index
                .get(stem(picture))
                .ok_or_else(|| at(number, format!("picture {picture} is not in the annotation")))?;
            let faces = self.pictures[picture].1.len();
            let place = settings.iter().position(|s| s.name == name).unwrap_or_else(|| {
                settings.push(Setting { name: name.to_owned(), counting: vec![BTreeSet::new(); self.pictures.len()] });
                settings.len() - 1
            });
            for word in words {
                let face = word.parse::<usize>().ok().filter(|face| (1..=faces).contains(face));
                let face = face.ok_or_else(|| {
                    at(number, format!("{word:?} is no face of this picture: it has faces 1 to {faces}"))
                })?;
                settings[place].counting[picture].insert(face - 1);
            }
        }
        if settings.is_empty() {
            return Err(EvaluationError::TooLittle(format!(
                "{} names no setting; a line is `easy|medium|hard PATH i j …`",
                path.display()
            )));
        }
        Ok(settings)
    }
}

/// A picture's path without its ending: predictions and difficulty lists may leave it out.
pub fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, ending)) if ["jpg", "jpeg", "png", "webp", "txt"].contains(&ending) => stem,
        _ => name,
    }
}

/// The finite numbers of a line, or `None` when there is anything else on it.
pub(super) fn numbers(line: &str) -> Option<Vec<f32>> {
    line.split_whitespace().map(|word| word.parse::<f32>().ok().filter(|v| v.is_finite())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "0--Parade/a.jpg\n2\n10 20 30 40 0 0 0 0 0 0 \n50 60 7 8 0 0 0 1 0 0\n1--Hands/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n1--Hands/c.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n";

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn faces_invalid_ones_and_pictures_without_any_are_read() {
        let truth = Truth::read(file(TEXT).path()).unwrap();
        assert_eq!(truth.pictures.len(), 3);
        assert_eq!(truth.pictures[0].1, [[10.0, 20.0, 30.0, 40.0], [50.0, 60.0, 7.0, 8.0]]);
        assert!(truth.pictures[1].1.is_empty());
        let all = truth.all();
        assert_eq!(all.counting, [BTreeSet::from([0]), BTreeSet::new(), BTreeSet::from([0])]);
    }

    #[test]
    fn difficulty_lists_count_from_one() {
        let truth = Truth::read(file(TEXT).path()).unwrap();
        let settings = truth
            .settings(file("# exported\neasy 0--Parade/a 1\nhard 0--Parade/a.jpg 1 2\nhard 1--Hands/c 1\n").path())
            .unwrap();
        assert_eq!(settings[0].name, "easy");
        assert_eq!(settings[0].counting[0], BTreeSet::from([0]));
        assert_eq!(settings[1].counting, [BTreeSet::from([0, 1]), BTreeSet::new(), BTreeSet::from([0])]);
        for (text, says) in [
            ("easy", "line 1: a line is"),
            ("easy nowhere 1", "not in the annotation"),
            ("easy 0--Parade/a 3", "faces 1 to 2"),
            ("easy 0--Parade/a 0", "faces 1 to 2"),
            ("", "names no setting"),
        ] {
            let error = truth.settings(file(text).path()).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn faults_name_the_line() {
        for (text, says) in [
            ("a.jpg\n2\n1 2 3 4\n", "2 faces are promised"),
            ("a.jpg\nx\n", "line 2: the number of faces"),
            ("a.jpg\n1\n1 2 3\n", "line 3: a face is"),
            ("a.jpg\n1\n1 2 3 4\n5 6 7 8\n", "line 4: \"5 6 7 8\" stands where"),
            ("a.jpg\n99999999999\n1 2 3 4\n", "promised"),
            ("", "names no pictures"),
        ] {
            let error = Truth::read(file(text).path()).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(text in "[0-9a-z./ \n-]{0,120}") {
            let _ = Truth::read(file(&text).path());
        }
    }
}
