//! The files of the log: `audit-NUMBER.jsonl`, named by the number of their first record, and the lock between processes.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::AuditError;

const LOCK: &str = "lock";
const PREFIX: &str = "audit-";
const ENDING: &str = ".jsonl";

/// A file of the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// Number of its first record.
    pub first: u64,
    /// Where.
    pub path: PathBuf,
}

impl Segment {
    /// The file that begins with a record.
    pub fn beginning(dir: &Path, first: u64) -> Self {
        Self { first, path: dir.join(format!("{PREFIX}{first:012}{ENDING}")) }
    }
}

/// The files by their first record.
pub(super) fn list(dir: &Path) -> Result<Vec<Segment>, AuditError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(AuditError::file(dir))? {
        let path = entry.map_err(AuditError::file(dir))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let number = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(ENDING));
        if let Some(first) = number.and_then(|n| n.parse().ok()) {
            found.push(Segment { first, path });
        }
    }
    found.sort();
    Ok(found)
}

/// Makes the folder where it is missing, for its owner alone.
pub(super) fn make(dir: &Path) -> Result<(), AuditError> {
    if !dir.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(AuditError::file(dir))?;
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
    }
    Ok(())
}

/// Opens a file to be written at its end; it is made where it is missing.
pub(super) fn open(path: &Path) -> Result<File, AuditError> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    file.map_err(AuditError::file(path))
}

/// Names of new files reach the disk.
pub(super) fn sync_folder(dir: &Path) -> Result<(), AuditError> {
    File::open(dir).and_then(|f| f.sync_all()).map_err(AuditError::file(dir))
}

/// Holds the log against other processes until it is dropped; writers alone, readers together.
pub(super) fn lock(dir: &Path, to_write: bool) -> Result<File, AuditError> {
    let path = dir.join(LOCK);
    let file = if to_write { open(&path)? } else { File::open(&path).map_err(AuditError::file(&path))? };
    let held = if to_write { file.lock() } else { file.lock_shared() };
    held.map_err(AuditError::file(&path)).map(|()| file)
}

/// The first line of a file; empty when there is none.
pub(super) fn first_line(path: &Path) -> Result<Vec<u8>, AuditError> {
    let file = File::open(path).map_err(AuditError::file(path))?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(file.take(super::record::LONGEST as u64));
    reader.read_until(b'\n', &mut line).map_err(AuditError::file(path))?;
    line.pop_if(|end| *end == b'\n');
    Ok(line)
}
