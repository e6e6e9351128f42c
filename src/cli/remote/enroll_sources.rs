//! Which pictures belong to whom: from the command line or from a folder of folders.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    cli::{error::Failure, picture_file},
    ids::slugify,
};

/// One person to enrol and their pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Id of the person.
    pub person: String,
    /// Name for a person that does not exist yet.
    pub display_name: String,
    /// Their pictures, sorted.
    pub pictures: Vec<PathBuf>,
}

/// The people of `dir/<person>/*.{jpg,jpeg,png,webp}`: the folder's name is the display name, its slug the id.
/// Hidden entries and other files are passed over; folders without pictures come back as the second value.
/// Fails when two folders give one id, a name gives none, or there is no picture at all.
pub fn from_dir(dir: &Path) -> Result<(Vec<Source>, Vec<PathBuf>), Failure> {
    let mut people: BTreeMap<String, (PathBuf, Source)> = BTreeMap::new();
    let mut empty = Vec::new();
    for folder in entries(dir)?.into_iter().filter(|path| path.is_dir()) {
        let display_name = file_name(&folder);
        let person = slugify(&display_name);
        if person.is_empty() {
            return Err(Failure::new(format!("no id can be made of the folder's name {display_name:?}"))
                .hint("use letters a-z or digits in it"));
        }
        let pictures: Vec<_> =
            entries(&folder)?.into_iter().filter(|path| picture_file::looks_like_picture(path)).collect();
        if pictures.is_empty() {
            empty.push(folder);
            continue;
        }
        if let Some((other, _)) = people.get(&person) {
            let message = format!("{} and {} give the same id {person:?}", other.display(), folder.display());
            return Err(Failure::new(message).hint("rename one of the folders"));
        }
        people.insert(person.clone(), (folder, Source { person, display_name, pictures }));
    }
    if people.is_empty() {
        return Err(Failure::new(format!("no pictures in {}", dir.display()))
            .hint("expected DIR/<person>/*.{jpg,jpeg,png,webp}"));
    }
    Ok((people.into_values().map(|(_, source)| source).collect(), empty))
}

/// The visible entries of a folder, sorted by name.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |e: &std::io::Error| Failure::new(format!("cannot read the folder {}", dir.display())).because(e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| failed(&e))? {
        let path = entry.map_err(|e| failed(&e))?.path();
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, file: &str) {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }

    #[test]
    fn folders_become_people() {
        let dir = tempfile::tempdir().unwrap();
        for file in
            ["Ann Lee/b.jpg", "Ann Lee/a.PNG", "Ann Lee/notes.txt", "Ann Lee/.c.jpg", "bob/1.webp", "none/x.txt"]
        {
            put(dir.path(), file);
        }
        let (people, empty) = from_dir(dir.path()).unwrap();
        assert_eq!(people.len(), 2);
        assert_eq!((people[0].person.as_str(), people[0].display_name.as_str()), ("ann-lee", "Ann Lee"));
        assert_eq!(people[0].pictures, [dir.path().join("Ann Lee/a.PNG"), dir.path().join("Ann Lee/b.jpg")]);
        assert_eq!(empty, [dir.path().join("none")]);
    }

    #[test]
    fn ambiguous_empty_and_nameless_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(from_dir(dir.path()).unwrap_err().message.starts_with("no pictures in"));
        put(dir.path(), "Ann Lee/a.jpg");
        put(dir.path(), "ann-lee/a.jpg");
        assert!(from_dir(dir.path()).unwrap_err().message.contains("same id \"ann-lee\""));
        let other = tempfile::tempdir().unwrap();
        put(other.path(), "李/a.jpg");
        assert!(from_dir(other.path()).unwrap_err().message.contains("no id can be made"));
    }
}
