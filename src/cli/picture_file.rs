//! Pictures from and to disk: size limited before reading, folders and devices refused by name.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::error::Failure;
use crate::whole_file;

/// Most bytes of a picture that the client reads; the server's own limit may be lower.
pub const MAX_BYTES: u64 = 32 << 20;

/// Endings of pictures, lower case.
const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Whether the file's name ends like a picture that the server reads.
pub fn looks_like_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// Checks that `path` is a readable regular file of an allowed size, without reading it.
pub fn check(path: &Path) -> Result<(), Failure> {
    let facts = fs::metadata(path).map_err(|e| unreadable(path, &e))?;
    if facts.is_dir() {
        return Err(Failure::new(format!("{} is a folder, not a picture", path.display()))
            .hint("folders are enrolled with `visage enroll --from-dir DIR`"));
    }
    if !facts.is_file() {
        return Err(Failure::new(format!("{} is not a regular file", path.display())));
    }
    match facts.len() {
        0 => Err(Failure::new(format!("{} is empty", path.display()))),
        size if size > MAX_BYTES => Err(Failure::new(format!(
            "{} has {:.1} MiB; pictures may have at most {} MiB",
            path.display(),
            size as f64 / f64::from(1 << 20),
            MAX_BYTES >> 20
        ))),
        _ => Ok(()),
    }
}

/// Reads a picture off the async threads, after [`check`].
pub async fn read(path: PathBuf) -> Result<Bytes, Failure> {
    let task = tokio::task::spawn_blocking(move || {
        check(&path)?;
        fs::read(&path).map(Bytes::from).map_err(|e| unreadable(&path, &e))
    });
    task.await.map_err(|e| Failure::new("reading a file was interrupted").because(&e))?
}

/// Whether a file to be drawn ends like a picture that can be written: asked before the work, not after.
///
/// # Errors
/// When the ending is neither `png` nor `jpg` nor `jpeg`.
pub fn check_drawn(path: &Path) -> Result<(), Failure> {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).unwrap_or_default();
    if ["png", "jpg", "jpeg"].contains(&ending.as_str()) {
        return Ok(());
    }
    Err(Failure::usage(format!("{} ends neither in .png nor in .jpg", path.display())))
}

/// Writes a picture, whole or not at all; `-` stands for `out`.
pub fn write(path: &Path, bytes: &[u8], out: &mut dyn io::Write) -> Result<(), Failure> {
    if path == Path::new("-") {
        out.write_all(bytes)?;
        return Ok(out.flush()?);
    }
    whole_file::write(path, bytes).map_err(|e| Failure::new(format!("cannot write {}", path.display())).because(&e))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot read {}", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_empty_and_missing_files_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let message = |path: &Path| check(path).unwrap_err().message;
        assert!(message(dir.path()).ends_with("is a folder, not a picture"));
        let empty = dir.path().join("empty.jpg");
        fs::write(&empty, b"").unwrap();
        assert!(message(&empty).ends_with("empty.jpg is empty"));
        assert!(message(&dir.path().join("none.jpg")).starts_with("cannot read"));
    }

    #[test]
    fn large_files_are_refused_before_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.png");
        fs::File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(check(&path).unwrap_err().message.contains("at most 32 MiB"));
    }

    #[test]
    fn endings() {
        assert!(looks_like_picture(Path::new("a/B.JPEG")));
        assert!(check_drawn(Path::new("a.JPG")).is_ok() && check_drawn(Path::new("a.png")).is_ok());
        assert!(check_drawn(Path::new("a.webp")).unwrap_err().message.contains(".png"));
        assert!(!looks_like_picture(Path::new("a/notes.txt")) && !looks_like_picture(Path::new("jpg")));
    }
}
