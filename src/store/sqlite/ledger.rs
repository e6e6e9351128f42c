//! Who was erased, in a file beside the database: what an older copy of the database brings back is erased again.
//!
//! A line is written before the erasure is: one that a crash interrupted is finished at the next start.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{CommandError, people, schema};
use crate::{
    ids::PersonId,
    time::Timestamp,
    vault::{Vault, VaultError},
};

/// The file's name in the data folder.
pub(super) const FILE: &str = "erasures.jsonl";

/// One erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Erasure {
    /// Id of the receipt.
    pub(super) receipt: String,
    pub(super) erased: Timestamp,
    pub(super) person: PersonId,
}

/// A line of the file. Who it was is sealed: ids may be names.
#[derive(Serialize, Deserialize)]
struct Line {
    receipt: String,
    erased: Timestamp,
    person: String,
}

/// Why the list can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("the list of erasures {path} can't be used: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("line {line} of the list of erasures {path} can't be read ({why}); restore that file from a copy")]
    Line { path: PathBuf, line: usize, why: String },
}

impl From<LedgerError> for CommandError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::File { .. } => Self::Disk(error.to_string()),
            LedgerError::Line { .. } => Self::Value(error.to_string()),
        }
    }
}

/// The place that a sealed person of a receipt belongs to.
fn place(receipt: &str) -> String {
    format!("erasure/{receipt}")
}

/// Who was erased with a receipt, as it is kept: sealed, in hexadecimal digits.
pub(super) fn sealed(vault: &Vault, receipt: &str, person: &PersonId) -> Result<String, VaultError> {
    Ok(hex::encode_upper(vault.seal(&place(receipt), person.as_str().as_bytes())?))
}

/// The other way.
pub(super) fn unsealed(vault: &Vault, receipt: &str, person: &str) -> Result<PersonId, String> {
    let bytes = hex::decode(person).map_err(|e| e.to_string())?;
    let plain = vault.unseal(&place(receipt), &bytes).map_err(|e| e.to_string())?;
    String::from_utf8(plain).map_err(|e| e.to_string())?.parse().map_err(|e| format!("{e}"))
}

/// The list of a data folder.
#[derive(Clone)]
pub(super) struct Ledger {
    path: PathBuf,
    vault: Arc<Vault>,
}

impl Ledger {
    pub(super) fn of(data_dir: &Path, vault: &Arc<Vault>) -> Self {
        Self::at(data_dir.join(FILE), vault)
    }

    pub(super) fn at(path: PathBuf, vault: &Arc<Vault>) -> Self {
        Self { path, vault: vault.clone() }
    }

    fn file(&self, source: io::Error) -> LedgerError {
        LedgerError::File { path: self.path.clone(), source }
    }

    /// All erasures; none without a file. A last line that was not finished was never promised and is passed over.
    pub(super) fn read(&self) -> Result<Vec<Erasure>, LedgerError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.file(e)),
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let line = |(at, line): (usize, &str)| {
            let fault = |why: String| LedgerError::Line { path: self.path.clone(), line: at + 1, why };
            let Line { receipt, erased, person } = serde_json::from_str(line).map_err(|e| fault(e.to_string()))?;
            let person = unsealed(&self.vault, &receipt, &person).map_err(fault)?;
            Ok(Erasure { receipt, erased, person })
        };
        whole.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(line).collect()
    }

    /// Adds erasures; they are on the disk when it returns.
    pub(super) fn add(&self, erasures: &[Erasure]) -> Result<(), LedgerError> {
        let mut text = String::new();
        for e in erasures {
            let person = sealed(&self.vault, &e.receipt, &e.person)
                .map_err(|why| self.file(io::Error::other(why.to_string())))?;
            let line = Line { receipt: e.receipt.clone(), erased: e.erased, person };
            text += &serde_json::to_string(&line).map_err(|why| self.file(io::Error::other(why)))?;
            text.push('\n');
        }
        self.append(text.as_bytes()).map_err(|e| self.file(e))
    }

    /// Removes the list: it is of data that are no longer here.
    pub(super) fn remove(&self) -> Result<(), LedgerError> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.file(e)),
            _ => Ok(()),
        }
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let new = !self.path.exists();
        let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(&self.path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let mut last = [b'\n'];
        if length > 0 {
            file.seek(SeekFrom::Start(length - 1))?;
            file.read_exact(&mut last)?;
        }
        // Half a line, from a crash, ends here.
        let end = if last == [b'\n'] { length } else { whole_length(&self.path)? };
        file.set_len(end)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a line must not stay: it would damage the next one.
            let _ = file.set_len(end);
        }
        written?;
        match self.path.parent() {
            Some(dir) if new => fs::File::open(dir)?.sync_all(),
            _ => Ok(()),
        }
    }
}

/// Bytes up to the end of the last whole line.
fn whole_length(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    Ok(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at as u64 + 1))
}

/// Makes database and list agree: erasures that the database does not know are carried out in it, those that the list does not know are added to it.
/// Returns how many were carried out.
pub(super) fn reconcile(c: &mut Connection, ledger: &Ledger) -> Result<usize, CommandError> {
    let listed = ledger.read()?;
    let done = receipts(c, &ledger.vault)?;
    let listed_ids: BTreeSet<&str> = listed.iter().map(|e| e.receipt.as_str()).collect();
    let unlisted: Vec<Erasure> = done.iter().filter(|e| !listed_ids.contains(e.receipt.as_str())).cloned().collect();
    if !unlisted.is_empty() {
        ledger.add(&unlisted)?;
    }
    let done: BTreeSet<String> = done.into_iter().map(|e| e.receipt).collect();
    let open: Vec<Erasure> = listed.into_iter().filter(|e| !done.contains(&e.receipt)).collect();
    carry_out(c, &ledger.vault, &open)?;
    Ok(open.len())
}

/// Erases people in a database that does not know of it yet.
pub(super) fn carry_out(c: &mut Connection, vault: &Vault, open: &[Erasure]) -> Result<(), CommandError> {
    if open.is_empty() {
        return Ok(());
    }
    let transaction = c.transaction()?;
    for erasure in open {
        people::erase(&transaction, vault, erasure, Some(erasure.erased))?;
    }
    transaction.commit()?;
    people::overwrite(c)?;
    schema::remove_copies(c);
    tracing::info!(erasures = open.len(), "erasures that the database did not know of were carried out again");
    Ok(())
}

/// Erasures that a database knows of.
pub(super) fn receipts(c: &Connection, vault: &Vault) -> Result<Vec<Erasure>, CommandError> {
    let mut statement =
        c.prepare("SELECT id, json_extract(receipt, '$.erased'), json_extract(receipt, '$.person') FROM erasures")?;
    let rows = statement.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get(2)?)))?;
    rows.map(|row| {
        let (receipt, erased, person): (String, String, String) = row?;
        let erased = erased.parse().map_err(|e| CommandError::Value(format!("{e}")))?;
        let person = unsealed(vault, &receipt, &person).map_err(CommandError::Value)?;
        Ok(Erasure { receipt, erased, person })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::VaultSettings;

    fn erasure(n: u32) -> Erasure {
        Erasure { receipt: format!("r{n}"), erased: crate::time::now(), person: format!("p-{n}").parse().unwrap() }
    }

    #[test]
    fn lines_are_read_back_and_a_torn_one_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Arc::new(VaultSettings::default().open(dir.path(), true).unwrap());
        let ledger = Ledger::of(dir.path(), &vault);
        assert!(ledger.read().unwrap().is_empty());
        let both = [erasure(1), erasure(2)];
        ledger.add(&both[..1]).unwrap();
        ledger.add(&both[1..]).unwrap();
        assert_eq!(ledger.read().unwrap(), both);
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(!text.contains("p-1"), "the id is in the clear: {text}");
        // A crash in the middle of a line.
        fs::write(dir.path().join(FILE), format!("{text}{{\"receipt\":\"r3\",")).unwrap();
        assert_eq!(ledger.read().unwrap(), both);
        ledger.add(&[erasure(4)]).unwrap();
        let read = ledger.read().unwrap();
        assert_eq!((read.len(), read[2].receipt.as_str()), (3, "r4"));
    }

    #[test]
    fn damage_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Arc::new(VaultSettings::default().open(dir.path(), true).unwrap());
        let ledger = Ledger::of(dir.path(), &vault);
        ledger.add(&[erasure(1)]).unwrap();
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        fs::write(dir.path().join(FILE), format!("{text}nonsense\n")).unwrap();
        let told = ledger.read().unwrap_err().to_string();
        assert!(told.contains("line 2") && told.contains(FILE), "{told}");
        // Another's line under this receipt.
        fs::write(dir.path().join(FILE), text.replace("r1", "r9")).unwrap();
        assert!(ledger.read().is_err());
    }
}
