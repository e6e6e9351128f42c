//! Files that appear whole or not at all: written under a temporary name beside their place, then renamed.
//!
//! What stood there before stays until the new content is on the disk. A device or a pipe (`/dev/stdout`) is written as it is.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use image::{ImageFormat, RgbImage};
use tempfile::NamedTempFile;

/// A file that is being written; dropped before [`WholeFile::finish`] it leaves nothing.
pub struct WholeFile(To);

enum To {
    Beside { part: BufWriter<NamedTempFile>, path: PathBuf },
    Straight(BufWriter<File>),
}

impl WholeFile {
    /// Begins a file, buffered. A new one gets the permissions that any new file of this process gets, one that replaces another keeps that
    /// one's; through a link the file behind it is replaced.
    ///
    /// # Errors
    /// When `path` is a folder, or its folder is missing or can't be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let there = fs::metadata(path).ok();
        if there.as_ref().is_some_and(|facts| !facts.is_file()) {
            return Ok(Self(To::Straight(BufWriter::new(File::create(path)?))));
        }
        let path = if there.is_some() { fs::canonicalize(path)? } else { path.to_owned() };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mode = there.map_or(0o666, |facts| facts.permissions().mode() & 0o777);
        let part = tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(dir)?;
        Ok(Self(To::Beside { part: BufWriter::new(part), path }))
    }

    /// Lets everybody read it, whatever this process gives new files.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn readable_by_all(self) -> io::Result<Self> {
        if let To::Beside { part, .. } = &self.0 {
            part.get_ref().as_file().set_permissions(Permissions::from_mode(0o644))?;
        }
        Ok(self)
    }

    /// Lets its owner alone read it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn readable_by_owner(self) -> io::Result<Self> {
        if let To::Beside { part, .. } = &self.0 {
            part.get_ref().as_file().set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(self)
    }

    /// Puts the file in its place, its content on the disk first.
    ///
    /// # Errors
    /// When the disk is full or the place can't be taken; what stood there before is still there.
    pub fn finish(self) -> io::Result<()> {
        match self.0 {
            To::Straight(mut file) => file.flush(),
            To::Beside { part, path } => {
                let part = part.into_inner().map_err(io::IntoInnerError::into_error)?;
                part.as_file().sync_all()?;
                part.persist(&path).map(drop).map_err(|e| e.error)
            }
        }
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            To::Beside { part, .. } => part.write(bytes),
            To::Straight(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            To::Beside { part, .. } => part.flush(),
            To::Straight(file) => file.flush(),
        }
    }
}

/// Writes a file whole.
///
/// # Errors
/// As [`WholeFile::create`] and [`WholeFile::finish`].
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = WholeFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Writes a picture whole, in the format that the file's ending names.
///
/// # Errors
/// As [`write()`], and when the ending names no format that can be written.
pub fn write_picture(path: &Path, picture: &RgbImage) -> io::Result<()> {
    let format = ImageFormat::from_path(path).map_err(io::Error::other)?;
    let mut bytes = io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).map_err(io::Error::other)?;
    write(path, bytes.get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_is_not_finished_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write(&path, b"old").unwrap();
        let mut file = WholeFile::create(&path).unwrap();
        file.write_all(b"half of the n").unwrap();
        drop(file);
        assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (b"old".to_vec(), 1));
        write(&path, b"new").unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (b"new".to_vec(), 1));
    }

    #[test]
    fn permissions_are_those_of_any_file_and_links_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (path, plain, link) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        fs::write(&plain, b"").unwrap();
        write(&path, b"1").unwrap();
        assert_eq!(mode(&path), mode(&plain));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, b"2").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"2".to_vec(), 0o600));
        let mut all = WholeFile::create(&path).unwrap().readable_by_all().unwrap();
        all.write_all(b"3").unwrap();
        all.finish().unwrap();
        assert_eq!(mode(&path), 0o644);
    }

    #[test]
    fn devices_are_written_as_they_are_and_folders_refused() {
        use std::os::unix::fs::FileTypeExt;
        write(Path::new("/dev/null"), b"x").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path(), b"x").is_err());
        assert!(write(&dir.path().join("none/a"), b"x").is_err());
    }

    #[test]
    fn pictures_follow_the_ending() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        write_picture(&path, &RgbImage::from_pixel(3, 2, image::Rgb([1, 2, 3]))).unwrap();
        assert_eq!(image::open(&path).unwrap().into_rgb8().get_pixel(2, 1).0, [1, 2, 3]);
        assert!(write_picture(&dir.path().join("a.txt"), &RgbImage::new(1, 1)).is_err());
    }
}
