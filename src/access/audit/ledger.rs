//! The end of the log: records are chained and appended under a lock that the server and commands share. Blocks.
//!
//! A batch is written at once and is on the disk (`fdatasync`) before [`Ledger::append`] returns. What a crash left half-written at the end was
//! promised to nobody: it is removed, and a record tells so.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use super::{
    AuditError,
    record::{Entry, Hash, ORIGIN, REPAIR, RETENTION, Record},
    segments::{self, Segment},
};
use crate::time::{Timestamp, now};

/// Where the log ends.
struct Tail {
    segment: Option<Segment>,
    file: Option<File>,
    length: u64,
    /// Number of the last record; 0 when there is none.
    number: u64,
    hash: Hash,
}

/// The log of a data folder, to be written.
pub struct Ledger {
    dir: PathBuf,
    file_bytes: u64,
    tail: Option<Tail>,
}

impl Ledger {
    /// The log of a data folder; nothing is read or made before the first append. `file_bytes`: after how many another file begins.
    pub fn of(data_dir: &Path, file_bytes: u64) -> Self {
        Self { dir: data_dir.join(super::FOLDER), file_bytes, tail: None }
    }

    /// Makes the log ready and repairs its end; the number of the last record.
    ///
    /// # Errors
    /// When the folder can't be used, or the last record is not one.
    pub fn open(&mut self) -> Result<u64, AuditError> {
        self.append(&[])?;
        Ok(self.tail.as_ref().map_or(0, |tail| tail.number))
    }

    /// Appends records, all or none; they are on the disk when this returns.
    ///
    /// # Errors
    /// When the folder can't be used, or the last record is not one.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), AuditError> {
        segments::make(&self.dir)?;
        let _lock = segments::lock(&self.dir, true)?;
        self.catch_up()?;
        self.write(entries)
    }

    /// Removes files whose records are all older than `before`, and says so in a record first; how many files went.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub fn expire(&mut self, before: Timestamp) -> Result<usize, AuditError> {
        segments::make(&self.dir)?;
        let _lock = segments::lock(&self.dir, true)?;
        let files = segments::list(&self.dir)?;
        let mut old = 0;
        for next in files.iter().skip(1) {
            // What begins after a file is not older than its last record.
            match Record::parse(&segments::first_line(&next.path)?) {
                Ok(record) if record.entry.time < before => old += 1,
                _ => break,
            }
        }
        let (Some(kept), true) = (files.get(old), old > 0) else { return Ok(0) };
        self.catch_up()?;
        self.write(&[Entry::local(now(), RETENTION, format!("records/1-{}", kept.first - 1), "OK")])?;
        for file in files.iter().take(old) {
            fs::remove_file(&file.path).map_err(AuditError::file(&file.path))?;
        }
        segments::sync_folder(&self.dir)?;
        Ok(old)
    }

    /// Finds the end anew where another process wrote, or nothing is known of it yet.
    fn catch_up(&mut self) -> Result<(), AuditError> {
        let newest = segments::list(&self.dir)?.pop();
        if let Some(tail) = &self.tail
            && tail.segment == newest
            && newest.as_ref().is_none_or(|s| fs::metadata(&s.path).is_ok_and(|facts| facts.len() == tail.length))
        {
            return Ok(());
        }
        let (tail, torn) = self.find_tail()?;
        self.tail = Some(tail);
        if torn > 0 {
            tracing::warn!(
                bytes = torn,
                "the audit log ended in half a record, which was removed; nobody was promised that one"
            );
            self.write(&[Entry::local(now(), REPAIR, format!("bytes/{torn}"), "OK")])?;
        }
        Ok(())
    }

    /// Where the log ends, and how many bytes of half a record were removed there.
    fn find_tail(&self) -> Result<(Tail, u64), AuditError> {
        let mut torn = 0;
        for segment in segments::list(&self.dir)?.into_iter().rev() {
            let file = segments::open(&segment.path)?;
            let bytes = fs::read(&segment.path).map_err(AuditError::file(&segment.path))?;
            let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
            if whole < bytes.len() {
                torn += (bytes.len() - whole) as u64;
                file.set_len(whole as u64).and_then(|()| file.sync_data()).map_err(AuditError::file(&segment.path))?;
            }
            if whole == 0 {
                // A crash right after the file was made.
                fs::remove_file(&segment.path).map_err(AuditError::file(&segment.path))?;
                continue;
            }
            let begin = bytes[..whole - 1].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
            let last = Record::parse(&bytes[begin..whole - 1]).map_err(|e| AuditError::Damaged {
                path: segment.path.clone(),
                message: format!("its last line {e}"),
            })?;
            let length = whole as u64;
            let tail = Tail { segment: Some(segment), file: Some(file), length, number: last.number, hash: last.hash };
            return Ok((tail, torn));
        }
        Ok((Tail { segment: None, file: None, length: 0, number: 0, hash: ORIGIN }, torn))
    }

    fn write(&mut self, entries: &[Entry]) -> Result<(), AuditError> {
        let Some(mut tail) = self.tail.take() else { return Err(AuditError::Closed) };
        let (mut text, first) = (String::new(), tail.number + 1);
        for entry in entries {
            let line = Record::line(tail.number + 1, entry, &tail.hash);
            let (line, hash) =
                line.map_err(|e| AuditError::Damaged { path: self.dir.clone(), message: e.to_string() })?;
            text.push_str(&line);
            (tail.number, tail.hash) = (tail.number + 1, hash);
        }
        if text.is_empty() {
            self.tail = Some(tail);
            return Ok(());
        }
        let (file, path, length) = match (tail.file.take(), tail.segment.take()) {
            (Some(file), Some(segment)) if tail.length + text.len() as u64 <= self.file_bytes => {
                (file, segment, tail.length)
            }
            _ => {
                let segment = Segment::beginning(&self.dir, first);
                let file = segments::open(&segment.path)?;
                segments::sync_folder(&self.dir)?;
                (file, segment, 0)
            }
        };
        if let Err(error) = (&file).write_all(text.as_bytes()).and_then(|()| file.sync_data()) {
            // Half of it must not stand before what is written next; where this fails too, the next append repairs it.
            let _ = file.set_len(length);
            return Err(AuditError::file(&path.path)(error));
        }
        tail.length = length + text.len() as u64;
        (tail.file, tail.segment) = (Some(file), Some(path));
        self.tail = Some(tail);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::access::audit::check::verify;

    fn entry(i: usize) -> Entry {
        Entry::local(now(), "test", format!("things/{i}"), "OK")
    }

    #[test]
    fn two_writers_make_one_chain_over_many_files() {
        let dir = tempfile::tempdir().unwrap();
        let (mut one, mut two) = (Ledger::of(dir.path(), 2000), Ledger::of(dir.path(), 2000));
        for i in 0..40 {
            let ledger = if i % 3 == 0 { &mut two } else { &mut one };
            ledger.append(&[entry(i), entry(i)]).unwrap();
        }
        let verified = verify(dir.path()).unwrap();
        assert_eq!((verified.first, verified.last, verified.torn), (1, 80, 0));
        assert!(verified.files > 5, "{verified:?}");
    }

    #[test]
    fn a_torn_end_is_repaired_and_told_and_a_changed_one_is_not_built_upon() {
        let dir = tempfile::tempdir().unwrap();
        Ledger::of(dir.path(), 1 << 20).append(&[entry(1), entry(2)]).unwrap();
        let path = segments::list(&dir.path().join(super::super::FOLDER)).unwrap().pop().unwrap().path;
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"{\"record\":3,\"ti"].concat()).unwrap();
        assert_eq!(verify(dir.path()).unwrap().torn, 15);
        let mut ledger = Ledger::of(dir.path(), 1 << 20);
        assert_eq!(ledger.open().unwrap(), 3, "the repair is a record");
        ledger.append(&[entry(4)]).unwrap();
        let verified = verify(dir.path()).unwrap();
        assert_eq!((verified.last, verified.torn), (4, 0));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(REPAIR) && text.contains("bytes/15"));
        // A file that a crash left empty.
        fs::write(Segment::beginning(&dir.path().join("audit"), 5).path, b"").unwrap();
        ledger.append(&[entry(5)]).unwrap();
        assert_eq!(verify(dir.path()).unwrap().last, 5);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("things/5", "things/6")).unwrap();
        assert!(matches!(Ledger::of(dir.path(), 1 << 20).open(), Err(AuditError::Damaged { .. })));
        assert!(verify(dir.path()).unwrap_err().to_string().contains("record 5"));
    }

    #[test]
    fn what_retention_removed_is_told_and_what_somebody_else_removed_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::of(dir.path(), 1000);
        let mut old = entry(1);
        old.time = now().checked_sub(Duration::from_secs(86_400 * 30)).unwrap();
        for _ in 0..20 {
            ledger.append(std::slice::from_ref(&old)).unwrap();
        }
        ledger.append(&[entry(2)]).unwrap();
        let files = segments::list(&dir.path().join("audit")).unwrap().len();
        let before = now().checked_sub(Duration::from_secs(86_400)).unwrap();
        let removed = ledger.expire(before).unwrap();
        assert!(removed > 2 && removed < files, "{removed} of {files}");
        let verified = verify(dir.path()).unwrap();
        assert!(verified.first > 5 && verified.last == 22, "{verified:?}");
        assert_eq!(ledger.expire(before).unwrap(), 0);
        let first = segments::list(&dir.path().join("audit")).unwrap().remove(0);
        fs::remove_file(first.path).unwrap();
        let broken = verify(dir.path()).unwrap_err().to_string();
        assert!(broken.contains("are missing"), "{broken}");
    }

    #[test]
    fn a_folder_that_can_not_be_written_is_an_error_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::of(dir.path(), 1000);
        ledger.append(&[entry(1)]).unwrap();
        let (folder, aside) = (dir.path().join("audit"), dir.path().join("aside"));
        fs::rename(&folder, &aside).unwrap();
        fs::write(&folder, b"in the way").unwrap();
        assert!(matches!(ledger.append(&[entry(2)]), Err(AuditError::File { .. })));
        fs::remove_file(&folder).unwrap();
        fs::rename(&aside, &folder).unwrap();
        ledger.append(&[entry(2)]).unwrap();
        assert_eq!(verify(dir.path()).unwrap().last, 2);
    }
}
