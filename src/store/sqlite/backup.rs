//! Backups: a consistent copy of a data folder while a server works there, and back.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

pub use super::archive::{ArchiveError, Manifest};
use super::{
    CommandError, DATABASE, archive, connect,
    fault::opening as database,
    ledger::{self, Erasure, Ledger, LedgerError},
    locked, ready, schema,
};
use crate::{store::StoreError, time, vault::VaultSettings};

/// Where the database goes that a restored one replaces; an erasure removes it with the copies made before upgrades.
const REPLACED: &str = "visage.before-restore.db";

/// Why there is no backup, or none was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing to back up.
    #[error("the data folder {0} holds no data; name the server's with --data-dir")]
    Nothing(PathBuf),
    /// The database is of an older program.
    #[error(
        "the data in {0} are of an older version; start the server once, which brings them up to date after a copy was made"
    )]
    Older(PathBuf),
    /// The backup can't be read.
    #[error("the backup {path}: {source}")]
    Archive {
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: ArchiveError,
    },
    /// There is something already.
    #[error(
        "the data folder {0} holds data already; --replace puts them aside as {REPLACED}, where a further restore or an erasure removes them"
    )]
    Occupied(PathBuf),
    /// The list of erasures.
    #[error("{0}")]
    Erasures(String),
    /// A file.
    #[error("{path} can't be written: {source}; make room there")]
    File {
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl From<LedgerError> for BackupError {
    fn from(error: LedgerError) -> Self {
        Self::Erasures(error.to_string())
    }
}

fn file(path: &Path) -> impl Fn(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path: path.clone(), source }
}

/// Writes a backup of a data folder to a file, also while a server works there; reads it again and compares. The key is not in it. Blocks.
///
/// # Errors
/// When there are no data or older ones, the key is missing, or the file can't be written; an unfinished file does not stay.
pub fn create(data_dir: &Path, storage: &VaultSettings, out: &Path) -> Result<Manifest, BackupError> {
    let path = data_dir.join(DATABASE);
    if !path.is_file() {
        return Err(BackupError::Nothing(data_dir.to_owned()));
    }
    let found = schema::version(&path)?;
    if found < schema::STEPS.len() as i64 {
        return Err(if found == 0 { BackupError::Nothing(data_dir.to_owned()) } else { BackupError::Older(path) });
    }
    let key = storage.open(data_dir, false).map_err(StoreError::Key)?.key_id();
    // Beside the file to be: the folder of the data may have no room for a second copy.
    let place = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let work = tempfile::tempdir_in(place).map_err(file(place))?;
    let copy = work.path().join(DATABASE);
    {
        let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(&path, read_only).map_err(database(&path))?;
        connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(database(&path))?;
        connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()]).map_err(database(&copy))?;
    }
    let mut manifest = Manifest::new(found, time::now(), key.map_or_else(String::new, |id| id.to_string()));
    {
        let connection = Connection::open(&copy).map_err(database(&copy))?;
        let count = |table: &str| {
            let sql = format!("SELECT count(*) FROM {table}");
            connection.query_row(&sql, [], |r| r.get::<_, i64>(0)).map(|n| n as u64).map_err(database(&copy))
        };
        (manifest.cameras, manifest.people) = (count("cameras")?, count("people")?);
        (manifest.faces, manifest.events) = (count("faces")?, count("events")?);
    }
    let mut files = vec![(DATABASE.to_owned(), copy)];
    let list = data_dir.join(ledger::FILE);
    if list.is_file() {
        files.push((ledger::FILE.to_owned(), list));
    }
    files.extend(archive::audit_files(data_dir).map_err(file(data_dir))?);
    let manifest = archive::write(out, manifest, &files).map_err(file(out))?;
    check(out)?;
    Ok(manifest)
}

/// Reads a whole backup and compares it with its manifest. Blocks.
///
/// # Errors
/// When it is damaged or none.
pub fn check(backup: &Path) -> Result<Manifest, BackupError> {
    archive::read(backup, None).map_err(|source| BackupError::Archive { path: backup.to_owned(), source })
}

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// What the backup held.
    pub manifest: Manifest,
    /// Erasures that were carried out again, since the backup is older than they.
    pub erased_again: usize,
    /// Where the data that were there before are now.
    pub replaced: Option<PathBuf>,
}

/// Puts a backup in place of what a data folder holds, or into a new one; no server may work there. Whoever was erased since the backup was
/// made is erased in it, by the list of erasures in the data folder and in `erasures`. Resume tokens of before are refused afterwards:
/// positions of events may have been given twice. Blocks.
///
/// # Errors
/// When the backup is damaged or of a newer version, its key is not at hand, a server works there, or the folder holds data and `replace`
/// is not said. What was there stays.
pub fn restore(
    data_dir: &Path,
    storage: &VaultSettings,
    backup: &Path,
    erasures: Option<&Path>,
    replace: bool,
) -> Result<Restored, BackupError> {
    let _lock = locked(data_dir)?;
    let target = data_dir.join(DATABASE);
    let occupied = schema::version(&target)? > 0;
    if occupied && !replace {
        return Err(BackupError::Occupied(data_dir.to_owned()));
    }
    let work = tempfile::tempdir_in(data_dir).map_err(file(data_dir))?;
    let manifest = archive::read(backup, Some(work.path()))
        .map_err(|source| BackupError::Archive { path: backup.to_owned(), source })?;
    // The key lies in the data folder or where the settings say, never in the backup.
    let vault = std::sync::Arc::new(storage.open(data_dir, false).map_err(StoreError::Key)?);
    let named = VaultSettings { key_file: key_file(data_dir, storage), ..storage.clone() };
    let restored = work.path().join(DATABASE);
    let (mut connection, _) = ready(work.path(), &named)?;

    let mut known: Vec<Erasure> = Ledger::of(data_dir, &vault).read()?;
    known.extend(Ledger::of(work.path(), &vault).read()?);
    if let Some(list) = erasures {
        if !list.is_file() {
            return Err(BackupError::Erasures(format!("there is no list of erasures {}", list.display())));
        }
        known.extend(Ledger::at(list.to_owned(), &vault).read()?);
    }
    known.sort_by(|a, b| (a.erased, &a.receipt).cmp(&(b.erased, &b.receipt)));
    known.dedup_by(|a, b| a.receipt == b.receipt);
    let failed = |e: CommandError| BackupError::Erasures(e.to_string());
    let done = ledger::receipts(&connection, &vault).map_err(failed)?;
    known.retain(|e| done.iter().all(|d| d.receipt != e.receipt));
    ledger::carry_out(&mut connection, &vault, &known).map_err(failed)?;
    let all = ledger::receipts(&connection, &vault).map_err(failed)?;
    schema::forget_log_id(&connection).map_err(database(&restored))?;
    settle(connection, &restored)?;

    let replaced = occupied.then(|| data_dir.join(REPLACED));
    if let Some(aside) = &replaced {
        settle(connect(&target).map_err(database(&target))?, &target)?;
        match fs::remove_file(aside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(file(aside)(e)),
            _ => {}
        }
        // A second name and then a swap: at no moment is there no database, which the next start would take for a new folder.
        fs::hard_link(&target, aside).map_err(file(aside))?;
    }
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(data_dir.join(format!("{DATABASE}{suffix}")));
    }
    // The list first: the database may know fewer erasures than it, never more.
    let list = Ledger::of(data_dir, &vault);
    let listed = list.read()?;
    let missing: Vec<Erasure> = all.into_iter().filter(|e| listed.iter().all(|l| l.receipt != e.receipt)).collect();
    if !missing.is_empty() {
        list.add(&missing)?;
    }
    for (name, path) in archive::audit_files(work.path()).map_err(file(work.path()))? {
        let to = data_dir.join(&name);
        if !to.exists() {
            if let Some(dir) = to.parent() {
                fs::create_dir_all(dir).map_err(file(dir))?;
            }
            fs::rename(path, &to).map_err(file(&to))?;
        }
    }
    fs::rename(&restored, &target).map_err(file(&target))?;
    File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(file(data_dir))?;
    Ok(Restored { manifest, erased_again: known.len(), replaced })
}

/// The key's file by its whole path, for a database that lies elsewhere for a while.
fn key_file(data_dir: &Path, storage: &VaultSettings) -> String {
    storage.file(data_dir).map_or_else(String::new, |path| path.display().to_string())
}

/// Brings everything into the database's one file, on the disk.
fn settle(connection: Connection, path: &Path) -> Result<(), BackupError> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(database(path))?;
    connection.close().map_err(|(_, e)| database(path)(e))?;
    File::open(path).and_then(|f| f.sync_all()).map_err(file(path))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            SqliteStore,
            tests::{anna, camera, face, recognized},
        },
        *,
    };
    use crate::{
        camera::CameraStore,
        event::EventLog,
        identity::{GalleryStore, Person},
    };

    fn everything(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files.extend(everything(&path)),
                false => files.push((path.clone(), fs::read(&path).unwrap())),
            }
        }
        files
    }

    fn traces(dir: &Path, name: &str) -> Vec<PathBuf> {
        let holds = |bytes: &[u8]| bytes.windows(name.len()).any(|w| w == name.as_bytes());
        everything(dir).into_iter().filter(|(_, bytes)| holds(bytes)).map(|(path, _)| path).collect()
    }

    #[tokio::test]
    async fn a_backup_brings_everything_back_but_whoever_was_erased_since() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let storage = VaultSettings::default();
        let backup = elsewhere.path().join("monday.tgz");
        assert!(matches!(create(dir.path(), &storage, &backup), Err(BackupError::Nothing(_))));
        let store = SqliteStore::open(dir.path(), &storage).unwrap();
        let anna = anna();
        let berta = Person { id: "berta".parse().unwrap(), display_name: "Bertalan Vox".into(), ..anna.clone() };
        for person in [&anna, &berta] {
            store.insert_person(person).await.unwrap();
            store.insert_face(&face(person), None).await.unwrap();
        }
        store.insert(&camera("door")).await.unwrap();
        let event = store.append(vec![recognized(&anna), recognized(&berta)]).await.unwrap().remove(0);
        let log = store.log_id().to_owned();
        // While the server works.
        let manifest = create(dir.path(), &storage, &backup).unwrap();
        assert_eq!((manifest.people, manifest.faces, manifest.cameras, manifest.events), (2, 2, 1, 2));
        assert_eq!(check(&backup).unwrap(), manifest);
        assert!(matches!(restore(dir.path(), &storage, &backup, None, true), Err(BackupError::Store(_))), "in use");
        store.append(vec![recognized(&berta)]).await.unwrap();
        store.erase_person(&anna.id, time::now()).await.unwrap();
        store.close().await;
        drop(store);
        assert_eq!(traces(dir.path(), "Annabella"), Vec::<PathBuf>::new());

        assert!(matches!(restore(dir.path(), &storage, &backup, None, false), Err(BackupError::Occupied(_))));
        let restored = restore(dir.path(), &storage, &backup, None, true).unwrap();
        assert_eq!((restored.erased_again, restored.replaced.is_some()), (1, true));
        assert_eq!(traces(dir.path(), "Annabella"), Vec::<PathBuf>::new());
        assert!(!traces(dir.path(), "Bertalan").is_empty(), "the test looks for what is there");
        let store = SqliteStore::open(dir.path(), &storage).unwrap();
        assert!(store.person(&anna.id).await.is_err());
        assert_eq!(store.faces(&berta.id).await.unwrap().len(), 1);
        assert_eq!(CameraStore::list(&store).await.unwrap().len(), 1);
        let kept = store.get(&event.body.id).await.unwrap();
        assert!(kept.body.matched.unwrap().person.is_none() && !kept.has_image && kept.body.template.is_none());
        assert_eq!(store.bounds().await.unwrap().latest, 2);
        assert_ne!(
            store.log_id(),
            log,
            "a resume token of before would pass over events whose positions are given again"
        );
        // The next erasure takes the data that were put aside with it.
        assert!(dir.path().join(REPLACED).is_file());
        store.erase_person(&berta.id, time::now()).await.unwrap();
        store.close().await;
        assert_eq!(traces(dir.path(), "Bertalan"), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn into_a_new_folder_it_takes_the_key_and_the_list_of_erasures() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let storage = VaultSettings::default();
        let backup = elsewhere.path().join("b.tgz");
        let store = SqliteStore::open(dir.path(), &storage).unwrap();
        let anna = anna();
        store.insert_person(&anna).await.unwrap();
        create(dir.path(), &storage, &backup).unwrap();
        store.erase_person(&anna.id, time::now()).await.unwrap();
        store.close().await;

        let new = elsewhere.path().join("new");
        let missing = restore(&new, &storage, &backup, None, false).err().unwrap().to_string();
        assert!(missing.contains("visage.key"), "{missing}");
        fs::copy(dir.path().join("visage.key"), new.join("visage.key")).unwrap();
        let list = dir.path().join(ledger::FILE);
        let restored = restore(&new, &storage, &backup, Some(&list), false).unwrap();
        assert_eq!((restored.erased_again, restored.replaced), (1, None));
        assert_eq!(traces(&new, "Annabella"), Vec::<PathBuf>::new());
        let store = SqliteStore::open(&new, &storage).unwrap();
        assert!(store.person(&anna.id).await.is_err());
        store.close().await;
        drop(store);
        // Damage is told, and what is there stays.
        let mut bytes = fs::read(&backup).unwrap();
        // A single bit in the middle of packed zeros may stand for the same zeros.
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(&backup, bytes).unwrap();
        assert!(restore(&new, &storage, &backup, None, true).is_err());
        assert!(SqliteStore::open(&new, &storage).is_ok());
        let left = fs::read_dir(&new).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        assert!(left.into_iter().all(|name| !name.starts_with(".tmp")), "unpacked data are left");
    }
}
