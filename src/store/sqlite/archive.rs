//! A backup as one file: a gzipped tar with a manifest first, then the files that it lists with their sizes and SHA-256.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{time::Timestamp, whole_file::WholeFile};

const MANIFEST: &str = "manifest.json";
const MANIFEST_MOST: u64 = 1 << 20;
/// The form that this program writes and reads.
const FORMAT: u32 = 1;
/// Files beside the database that go along, besides those of `audit/`.
const FOLDER: &str = "audit";

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the form: 1.
    pub format: u32,
    /// Version of the program that made it.
    pub visage: String,
    /// Version of the database.
    pub schema: i64,
    /// When it was made.
    pub created: Timestamp,
    /// Tells the key apart that its pictures, embeddings and passwords are sealed with; the key is not in it.
    pub key: String,
    /// Number of cameras.
    pub cameras: u64,
    /// Number of people.
    pub people: u64,
    /// Number of enrolled faces.
    pub faces: u64,
    /// Number of events.
    pub events: u64,
    /// Its files.
    pub files: Vec<Piece>,
}

impl Manifest {
    /// One of nothing yet.
    pub(super) fn new(schema: i64, created: Timestamp, key: String) -> Self {
        let visage = env!("CARGO_PKG_VERSION").to_owned();
        let (cameras, people, faces, events) = (0, 0, 0, 0);
        Self { format: FORMAT, visage, schema, created, key, cameras, people, faces, events, files: Vec::new() }
    }
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Its path in the data folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// Why a backup can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not one, is cut short, or was changed.
    #[error("{0}")]
    Broken(String),
}

fn broken(text: impl Into<String>) -> ArchiveError {
    ArchiveError::Broken(text.into())
}

/// Copies while it counts and hashes.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<(u64, String)> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok((bytes, hex::encode(hash.finalize()))),
            n => {
                hash.update(&buffer[..n]);
                to.write_all(&buffer[..n])?;
                bytes += n as u64;
            }
        }
    }
}

/// Writes a backup of files with their names in the data folder, whole or not at all, readable by its owner alone.
pub(super) fn write(out: &Path, mut manifest: Manifest, files: &[(String, PathBuf)]) -> io::Result<Manifest> {
    for (name, path) in files {
        let (bytes, sha256) = copy(&mut File::open(path)?, &mut io::sink())?;
        manifest.files.push(Piece { name: name.clone(), bytes, sha256 });
    }
    let file = WholeFile::create(out)?.readable_by_owner()?;
    // Sealed pictures don't get smaller.
    let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    let text = serde_json::to_vec_pretty(&manifest)?;
    append(&mut tar, MANIFEST, text.len() as u64, &mut &text[..])?;
    for (piece, (name, path)) in manifest.files.iter().zip(files) {
        // One that grows meanwhile is taken as long as it was.
        append(&mut tar, name, piece.bytes, &mut File::open(path)?.take(piece.bytes))?;
    }
    tar.into_inner()?.finish()?.finish()?;
    Ok(manifest)
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: u64, from: &mut dyn Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, from)
}

/// Whether a name is one that a backup has: a file of the data folder, or of the audit log.
fn is_expected(name: &str) -> bool {
    if [super::DATABASE, super::ledger::FILE].contains(&name) {
        return true;
    }
    let parts: Vec<Component<'_>> = Path::new(name).components().collect();
    matches!(parts[..], [Component::Normal(folder), Component::Normal(_)] if folder == FOLDER)
}

/// Unpacks a backup into a folder (`None`: only reads it) and compares every byte with the manifest.
///
/// # Errors
/// When it can't be read, holds anything else, or is not what was written.
pub(super) fn read(archive: &Path, into: Option<&Path>) -> Result<Manifest, ArchiveError> {
    let mut tar = tar::Archive::new(GzDecoder::new(File::open(archive)?));
    let unreadable = |e: io::Error| broken(format!("it is no backup, or is cut short: {e}"));
    let mut entries = tar.entries().map_err(unreadable)?;
    let first = entries.next().ok_or_else(|| broken("it is empty"))?.map_err(unreadable)?;
    if first.path().map_err(unreadable)?.as_os_str() != MANIFEST {
        return Err(broken("it is no backup: it does not begin with a manifest"));
    }
    let mut text = Vec::new();
    first.take(MANIFEST_MOST).read_to_end(&mut text).map_err(unreadable)?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|e| broken(format!("its manifest can't be read: {e}")))?;
    if manifest.format != FORMAT {
        return Err(broken(format!(
            "it is of the form {}, this program reads {FORMAT}: use a newer visage",
            manifest.format
        )));
    }
    for piece in &manifest.files {
        let mut entry =
            entries.next().ok_or_else(|| broken(format!("{} is missing in it", piece.name)))?.map_err(unreadable)?;
        let name = entry.path().map_err(unreadable)?.to_string_lossy().into_owned();
        if name != piece.name || !is_expected(&name) || !entry.header().entry_type().is_file() {
            return Err(broken(format!("it holds {name:?}, which no backup does")));
        }
        let mut limited = (&mut entry).take(piece.bytes + 1);
        let (bytes, sha256) = match into {
            Some(folder) => copy(&mut limited, &mut new_file(&folder.join(&name))?),
            None => copy(&mut limited, &mut io::sink()),
        }
        .map_err(unreadable)?;
        if (bytes, &sha256) != (piece.bytes, &piece.sha256) {
            return Err(broken(format!("{name} in it is not what was written: the backup is damaged")));
        }
    }
    if !manifest.files.iter().any(|piece| piece.name == super::DATABASE) {
        return Err(broken("there is no database in it"));
    }
    Ok(manifest)
}

fn new_file(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The files of the audit log with their names.
pub(super) fn audit_files(data_dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(data_dir.join(FOLDER)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
            files.push((format!("{FOLDER}/{name}"), entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(dir: &Path) -> (PathBuf, Manifest) {
        fs::write(dir.join(super::super::DATABASE), vec![7; 100_000]).unwrap();
        let files = [(super::super::DATABASE.to_owned(), dir.join(super::super::DATABASE))];
        let out = dir.join("b.tgz");
        let manifest = Manifest::new(6, crate::time::now(), "k".into());
        let manifest = write(&out, manifest, &files).unwrap();
        (out, manifest)
    }

    #[test]
    fn what_was_written_is_read_and_any_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (out, manifest) = made(dir.path());
        assert_eq!(read(&out, None).unwrap(), manifest);
        let into = tempfile::tempdir().unwrap();
        read(&out, Some(into.path())).unwrap();
        assert_eq!(fs::read(into.path().join(super::super::DATABASE)).unwrap(), vec![7; 100_000]);
        let whole = fs::read(&out).unwrap();
        // The last bytes are the padding of the tar and the sum of the gzip, which hold nothing.
        for cut in [0, 1, 20, whole.len() / 2] {
            fs::write(&out, &whole[..cut]).unwrap();
            assert!(read(&out, None).is_err(), "cut at {cut}");
        }
        for at in (12..whole.len()).step_by(7) {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            fs::write(&out, &changed).unwrap();
            // A changed byte of the padding harms nobody; whatever is accepted is what was written.
            if let Ok(found) = read(&out, None) {
                assert_eq!(found.files, manifest.files);
            }
        }
    }

    #[test]
    fn nothing_is_unpacked_outside_the_folder() {
        for name in ["../x", "/etc/x", "audit/../x", "audit/a/b", "visage.key", "x"] {
            assert!(!is_expected(name), "{name}");
        }
        assert!(is_expected("visage.db") && is_expected("audit/1.jsonl") && is_expected("erasures.jsonl"));
    }
}
