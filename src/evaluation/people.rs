//! A folder of people: `DIR/<person>/*.{jpg,jpeg,png,webp}`, everything in one order on every machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    EvaluationError,
    pairs::{Pair, PairList},
};

/// Endings of pictures, lower case; LFW's own is the first.
const ENDINGS: [&str; 4] = ["jpg", "png", "jpeg", "webp"];
/// Folds of an all-pairs comparison, as many as LFW has.
const FOLDS: usize = 10;
/// Most pairs of an all-pairs comparison: beyond it they don't fit into memory with ease.
const MAX_PAIRS: usize = 60_000_000;

/// A picture and whose face it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Name of the folder.
    pub person: String,
    /// The picture.
    pub path: PathBuf,
}

impl Sample {
    /// `person/file`, as reports and `groups.csv` name it.
    pub fn name(&self) -> String {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{}/{file}", self.person)
    }
}

/// Whether the file's name ends like a picture that can be read.
pub fn looks_like_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

fn sorted_entries(dir: &Path) -> Result<Vec<PathBuf>, EvaluationError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(EvaluationError::file(dir))? {
        let path = entry.map_err(EvaluationError::file(dir))?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Pictures of a folder, sorted by name; folders in it are looked into, too.
///
/// # Errors
/// When a folder can't be read or there is no picture.
pub fn pictures(dir: &Path) -> Result<Vec<PathBuf>, EvaluationError> {
    let mut found = Vec::new();
    collect(dir, 0, &mut found)?;
    if found.is_empty() {
        return Err(EvaluationError::TooLittle(format!(
            "there are no pictures (jpg, jpeg, png, webp) in {}",
            dir.display()
        )));
    }
    Ok(found)
}

fn collect(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), EvaluationError> {
    for path in sorted_entries(dir)? {
        // Links may lead in circles: eight levels are more than any data set has.
        if path.is_dir() && depth < 8 {
            collect(&path, depth + 1, found)?;
        } else if path.is_file() && looks_like_picture(&path) {
            found.push(path);
        }
    }
    Ok(())
}

/// Pictures of a folder of people, by person, then by file name. Files beside the folders are left alone.
///
/// # Errors
/// When a folder can't be read or there is no picture in any folder.
pub fn read(dir: &Path) -> Result<Vec<Sample>, EvaluationError> {
    let mut samples = Vec::new();
    for folder in sorted_entries(dir)?.into_iter().filter(|p| p.is_dir()) {
        let person = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = sorted_entries(&folder)?.into_iter().filter(|p| p.is_file() && looks_like_picture(p));
        samples.extend(files.map(|path| Sample { person: person.clone(), path }));
    }
    if samples.is_empty() {
        return Err(EvaluationError::TooLittle(format!(
            "there are no pictures in folders of {}; a folder of people is DIR/<person>/*.jpg",
            dir.display()
        )));
    }
    Ok(samples)
}

/// All pictures against all. A genuine pair belongs to its person's fold: the people who have two pictures or more take turns. A pair of two
/// people belongs to the fold of the sum of their numbers, so a person's impostor pairs are spread over the folds.
///
/// # Errors
/// When there are too many pairs to keep.
pub fn all_pairs(samples: Vec<Sample>) -> Result<PairList, EvaluationError> {
    let count = samples.len() * samples.len().saturating_sub(1) / 2;
    if count > MAX_PAIRS {
        return Err(EvaluationError::TooLittle(format!(
            "{} pictures make {count} pairs, at most {MAX_PAIRS} are compared: name the pairs in a file (--pairs), or take a part of the folder",
            samples.len()
        )));
    }
    let mut number = vec![0; samples.len()];
    let mut with_pairs = vec![0; samples.len()];
    let (mut people, mut paired) = (0, 0);
    let mut start = 0;
    while start < samples.len() {
        let end = start + samples[start..].iter().take_while(|s| s.person == samples[start].person).count();
        number[start..end].fill(people);
        with_pairs[start..end].fill(paired);
        people += 1;
        paired += usize::from(end - start > 1);
        start = end;
    }
    let folds = FOLDS.min(paired.max(1));
    let mut pairs = Vec::with_capacity(count);
    for a in 0..samples.len() {
        for b in a + 1..samples.len() {
            let same = number[a] == number[b];
            let fold = if same { with_pairs[a] % folds } else { (number[a] + number[b]) % folds };
            pairs.push(Pair { a, b, same, fold });
        }
    }
    Ok(PairList { samples, pairs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        dir
    }

    #[test]
    fn people_are_folders_and_everything_else_is_left_alone() {
        let dir = folder(&["b/2.PNG", "b/1.jpg", "a/x.webp", "a/notes.txt", "pairs.txt", ".git/c.jpg", "empty/readme"]);
        let names: Vec<String> = read(dir.path()).unwrap().iter().map(Sample::name).collect();
        assert_eq!(names, ["a/x.webp", "b/1.jpg", "b/2.PNG"]);
        assert_eq!(pictures(dir.path()).unwrap().len(), 3);
    }

    #[test]
    fn an_empty_folder_says_what_a_folder_of_people_is() {
        let dir = folder(&["a.jpg"]);
        assert!(read(dir.path()).unwrap_err().to_string().contains("DIR/<person>"));
        assert!(read(&dir.path().join("nowhere")).unwrap_err().to_string().contains("can't be read"));
        assert!(pictures(folder(&["a.txt"]).path()).is_err());
    }

    #[test]
    fn all_pairs_are_made_once_with_folds_by_person() {
        let sample =
            |person: &str, i: usize| Sample { person: person.into(), path: format!("{person}/{i}.jpg").into() };
        let samples =
            vec![sample("a", 1), sample("a", 2), sample("b", 1), sample("c", 1), sample("c", 2), sample("c", 3)];
        let list = all_pairs(samples).unwrap();
        assert_eq!(list.pairs.len(), 15);
        assert_eq!(list.pairs.iter().filter(|p| p.same).count(), 4);
        let folds: Vec<usize> = list.pairs.iter().filter(|p| p.same).map(|p| p.fold).collect();
        assert_eq!(folds, [0, 1, 1, 1], "two people have pairs, so there are two folds");
        assert!(list.pairs.iter().all(|p| p.fold < 2));
        assert!(all_pairs(Vec::new()).unwrap().pairs.is_empty());
    }
}
