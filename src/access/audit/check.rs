//! Reading the log: record by record, and whether the chain holds. Works beside a server: what is written meanwhile is left for the next time.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use super::{
    AuditError, FOLDER,
    record::{Hash, LONGEST, ORIGIN, RETENTION, Record},
    segments,
};

/// A chain that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Number of the first record that is kept; 0 when there is none.
    pub first: u64,
    /// Number of the last record; 0 when there is none.
    pub last: u64,
    /// Its hash.
    pub hash: Hash,
    /// Files.
    pub files: usize,
    /// Bytes of half a record at the end, as a crash leaves it; the server removes them when it starts.
    pub torn: u64,
}

/// Where the chain breaks first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Number of the record that is wrong, as its place in the chain says.
    pub record: u64,
    /// The file.
    pub path: PathBuf,
    /// The line of the file, counted from 1.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

/// Why a log does not verify.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The chain breaks.
    #[error("the audit log breaks at record {} ({}, line {}): {}", .0.record, .0.path.display(), .0.line, .0.what)]
    Broken(Broken),
    /// It can't be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Calls `each` with every line of the log, with its file and its number in that file; half a line at the end is not one. Bytes of that half.
///
/// # Errors
/// When the log can't be read, or as `each` fails.
pub fn lines<E: From<AuditError>>(
    data_dir: &Path,
    mut each: impl FnMut(&Path, u64, &[u8]) -> Result<(), E>,
) -> Result<(usize, u64), E> {
    let dir = data_dir.join(FOLDER);
    // Lengths under the lock: nobody is in the middle of a record then.
    let files = {
        let _lock = segments::lock(&dir, false)?;
        let sized = |s: segments::Segment| {
            let facts = std::fs::metadata(&s.path).map_err(AuditError::file(&s.path))?;
            Ok::<_, AuditError>((s.path, facts.len()))
        };
        segments::list(&dir)?.into_iter().map(sized).collect::<Result<Vec<_>, _>>()?
    };
    let mut torn = 0;
    for (path, length) in &files {
        let file = match File::open(path) {
            Ok(file) => file,
            // Retention came between.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(AuditError::file(path)(error).into()),
        };
        let (mut reader, mut number) = (BufReader::new(file.take(*length)), 0);
        loop {
            let mut line = Vec::new();
            reader.by_ref().take(LONGEST as u64).read_until(b'\n', &mut line).map_err(AuditError::file(path))?;
            number += 1;
            match line.pop() {
                None => break,
                Some(b'\n') => each(path, number, &line)?,
                Some(_) if line.len() + 1 < LONGEST => torn = line.len() as u64 + 1,
                Some(end) => {
                    line.push(end);
                    each(path, number, &line)?;
                }
            }
        }
    }
    Ok((files.len(), torn))
}

/// Verifies the log of a data folder.
///
/// # Errors
/// At the first record that is wrong, or when the log can't be read.
pub fn verify(data_dir: &Path) -> Result<Verified, CheckError> {
    verify_from(data_dir, None)
}

/// The same, and that a record which was noted elsewhere is still the one it was.
///
/// # Errors
/// As [`verify`], and when that record is gone or another one.
pub fn verify_from(data_dir: &Path, noted: Option<(u64, Hash)>) -> Result<Verified, CheckError> {
    let mut chain = Chain { first: None, number: 0, hash: ORIGIN, removed: 0, noted, met: false };
    let (files, torn) =
        lines::<CheckError>(data_dir, |path, line, bytes| chain.take(path, line, bytes).map_err(CheckError::Broken))?;
    let end = |what: String| {
        CheckError::Broken(Broken { record: chain.number + 1, path: data_dir.join(FOLDER), line: 1, what })
    };
    if let Some((first, path)) = &chain.first
        && *first > 1
        && chain.removed + 1 < *first
    {
        let what = format!(
            "records {} to {} are missing, and no record of retention tells of them",
            chain.removed + 1,
            first - 1
        );
        return Err(CheckError::Broken(Broken { record: chain.removed + 1, path: path.clone(), line: 1, what }));
    }
    if let Some((number, _)) = chain.noted.filter(|_| !chain.met) {
        return Err(end(format!("record {number}, which was noted before, is not there")));
    }
    let first = chain.first.as_ref().map_or(0, |(first, _)| *first);
    Ok(Verified { first, last: chain.number, hash: chain.hash, files, torn })
}

struct Chain {
    first: Option<(u64, PathBuf)>,
    number: u64,
    hash: Hash,
    /// Up to which record retention says that it removed them.
    removed: u64,
    noted: Option<(u64, Hash)>,
    met: bool,
}

impl Chain {
    fn take(&mut self, path: &Path, line: u64, bytes: &[u8]) -> Result<(), Broken> {
        let expected = self.number + 1;
        let broken = |record: u64, what: String| Broken { record, path: path.to_owned(), line, what };
        let record = Record::parse(bytes).map_err(|e| broken(expected, e.to_string()))?;
        match &self.first {
            None if record.number == 0 || (record.number == 1 && record.previous != ORIGIN) => {
                return Err(broken(1, "does not begin a log".into()));
            }
            None => self.first = Some((record.number, path.to_owned())),
            Some(_) if record.number != expected => {
                return Err(broken(expected, format!("record {} stands in its place", record.number)));
            }
            Some(_) if record.previous != self.hash => {
                return Err(broken(expected, "does not follow the record before it".into()));
            }
            Some(_) => {}
        }
        if record.entry.method == RETENTION && record.entry.token == "local" {
            let removed = record.entry.subjects.first().and_then(|s| s.strip_prefix("records/1-"));
            self.removed = self.removed.max(removed.and_then(|n| n.parse().ok()).unwrap_or(0));
        }
        if let Some((number, hash)) = self.noted
            && number == record.number
        {
            if hash != record.hash {
                return Err(broken(number, "is another one than was noted".into()));
            }
            self.met = true;
        }
        (self.number, self.hash) = (record.number, record.hash);
        Ok(())
    }
}
