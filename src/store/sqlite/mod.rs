//! Everything durable of the embedded mode in one SQLite database (WAL, full synchronisation).
//!
//! One thread writes, one reads; each has a bounded queue of commands whose overflow policy is to wait. Async callers never block.

mod archive;
pub mod backup;
mod cameras;
mod embeddings;
mod events;
mod fault;
mod ledger;
mod people;
mod probe;
mod recent;
pub(in crate::store) mod replica;
mod replica_apply;
pub(in crate::store) mod replica_events;
mod schema;
mod sealing;
pub mod tokens;
mod unknowns;

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument;

use self::{ledger::Ledger, recent::Recent};
use super::StoreError;
use crate::{
    identity::embeddings::Coverage,
    ids::ModelId,
    telemetry,
    vault::{Vault, VaultSettings},
};

/// Commands that wait for a thread at most; then askers wait.
const QUEUE: usize = 256;
const DATABASE: &str = "visage.db";
const LOCK: &str = "visage.lock";

type Command = Box<dyn FnOnce(&mut Connection) + Send>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error("stored data can't be read: {0}")]
    Data(#[from] serde_json::Error),
    #[error("stored data can't be read: {0}")]
    Value(String),
    #[error("{0}")]
    Disk(String),
    #[error("the store is closed")]
    Closed,
}

/// A connection with the thread that owns it.
struct Lane {
    commands: mpsc::Sender<Command>,
}

impl Lane {
    fn start(name: &str, mut connection: Connection) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (commands, mut queue) = mpsc::channel::<Command>(QUEUE);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            while let Some(command) = queue.blocking_recv() {
                command(&mut connection);
            }
        })?;
        Ok((Self { commands }, thread))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, CommandError> + Send + 'static,
    ) -> Result<T, CommandError> {
        let (reply, answer) = oneshot::channel();
        let command: Command = Box::new(move |connection| {
            // An asker that has gone needs no answer; the work is done all the same.
            let _ = reply.send(work(connection));
        });
        self.commands.send(command).await.map_err(|_| CommandError::Closed)?;
        answer.await.map_err(|_| CommandError::Closed)?
    }
}

/// The store of the embedded mode.
pub struct SqliteStore {
    writer: Mutex<Option<Arc<Lane>>>,
    reader: Mutex<Option<Arc<Lane>>>,
    /// The writer's, then the reader's.
    threads: Mutex<Vec<JoinHandle<()>>>,
    latest: watch::Sender<u64>,
    recent: Arc<Recent>,
    log_id: String,
    vault: Arc<Vault>,
    ledger: Ledger,
    _lock: File,
}

impl SqliteStore {
    /// Opens or makes the database in a folder, brings its schema up to date (after a copy was made), and locks the folder. Blocks.
    ///
    /// # Errors
    /// When the folder can't be written, another server uses it, the key is missing or another's, the data are of a newer version, or the
    /// file is damaged.
    pub fn open(data_dir: &Path, storage: &VaultSettings) -> Result<Self, StoreError> {
        let folder = |source| StoreError::Folder { path: data_dir.to_owned(), source };
        let lock = locked(data_dir)?;
        let path = data_dir.join(DATABASE);
        let database = fault::opening(&path);
        let (mut writer, vault) = ready(data_dir, storage)?;
        // `visage token` writes here too: a transaction that began by reading would fail at once instead of waiting its turn.
        writer.set_transaction_behavior(rusqlite::TransactionBehavior::Immediate);
        let ledger = Ledger::of(data_dir, &vault);
        ledger::reconcile(&mut writer, &ledger).map_err(fault::opening_work(&path))?;
        let reader = connect(&path).map_err(&database)?;
        sealing::teach(&reader, &vault).map_err(&database)?;
        let latest = events::latest(&writer).map_err(&database)?;
        let log_id = schema::log_id(&writer).map_err(&database)?;
        let (writer, writing) = Lane::start("store-writer", writer).map_err(folder)?;
        let (reader, reading) = Lane::start("store-reader", reader).map_err(folder)?;
        Ok(Self {
            writer: Mutex::new(Some(writer.into())),
            reader: Mutex::new(Some(reader.into())),
            threads: Mutex::new(vec![writing, reading]),
            latest: watch::Sender::new(latest),
            recent: Arc::default(),
            log_id,
            vault,
            ledger,
            _lock: lock,
        })
    }

    /// Whether [`SqliteStore::open`] would find the folder free and of a version it knows; changes nothing. Blocks.
    ///
    /// # Errors
    /// When another server uses it, the data are of a newer version, or the file is damaged.
    pub fn look(data_dir: &Path) -> Result<(), StoreError> {
        let lock = File::open(data_dir.join(LOCK));
        if lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))) {
            return Err(StoreError::InUse(data_dir.to_owned()));
        }
        let path = data_dir.join(DATABASE);
        if path.is_file() { schema::look(&path) } else { Ok(()) }
    }

    /// The model that a folder's gallery was moved to, and how many faces each model embedded; reads only, also while a server works there.
    /// Blocks.
    ///
    /// # Errors
    /// When the file can't be read, or is older than this program and was not brought up to date yet.
    pub fn embedders(data_dir: &Path) -> Result<(Option<ModelId>, Vec<Coverage>), StoreError> {
        let path = data_dir.join(DATABASE);
        let fail = |e: &dyn std::fmt::Display| StoreError::Database { path: path.clone(), message: e.to_string() };
        let read_only = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(&path, read_only).map_err(|e| fail(&e))?;
        embeddings::overview(&connection).map_err(|e| fail(&e))
    }

    /// The keys that pieces are sealed with.
    pub(in crate::store) fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Finishes waiting commands, closes the database and waits for the threads. Later commands fail.
    pub async fn close(&self) {
        // The writer last and alone: whoever closes last puts the log of changes into the database.
        for lane in [&self.reader, &self.writer] {
            lane.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(thread) = self.threads.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return };
            let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
            if !matches!(joined, Ok(true)) {
                tracing::error!("a store thread ended badly");
            }
        }
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, CommandError> + Send + 'static,
    ) -> Result<T, CommandError> {
        // Within a request or a decision it is a part of that; on its own it is not worth a trace.
        let alone = tracing::Span::current().is_none();
        let span = if alone { tracing::Span::none() } else { tracing::info_span!("store_write") };
        timed("write", lane(&self.writer)?.run(work)).instrument(span).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, CommandError> + Send + 'static,
    ) -> Result<T, CommandError> {
        timed("read", lane(&self.reader)?.run(work)).await
    }
}

/// Tells how long an operation took, and whether the database failed at it.
async fn timed<T>(
    operation: &'static str,
    work: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, CommandError> {
    let began = std::time::Instant::now();
    let done = work.await;
    telemetry::store_done(operation, began.elapsed(), matches!(done, Err(CommandError::Sql(_))));
    done
}

fn lane(lane: &Mutex<Option<Arc<Lane>>>) -> Result<Arc<Lane>, CommandError> {
    lane.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(CommandError::Closed)
}

/// A folder with an empty or old database, for this process alone until the lock is dropped.
fn locked(data_dir: &Path) -> Result<File, StoreError> {
    let folder = |source| StoreError::Folder { path: data_dir.to_owned(), source };
    make_private_dir(data_dir).map_err(folder)?;
    let lock = File::create(data_dir.join(LOCK)).map_err(folder)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(data_dir.to_owned())),
        Err(TryLockError::Error(source)) => return Err(folder(source)),
    }
    touch_private(&data_dir.join(DATABASE)).map_err(folder)?;
    Ok(lock)
}

/// The database of a locked folder, of this program's version, with its vault.
fn ready(data_dir: &Path, storage: &VaultSettings) -> Result<(Connection, Arc<Vault>), StoreError> {
    let path = data_dir.join(DATABASE);
    let database = fault::opening(&path);
    let mut connection = connect(&path).map_err(&database)?;
    schema::known(&connection, &path)?;
    let new = !sealing::is_sealed(&connection).map_err(&database)?;
    let vault = Arc::new(storage.open(data_dir, new).map_err(StoreError::Key)?);
    sealing::teach(&connection, &vault).map_err(&database)?;
    schema::upgrade(&mut connection, &path)?;
    sealing::prove(&connection, &vault)?;
    Ok((connection, vault))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What is deleted is overwritten: erasure must not leave names or faces in free pages.
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(connection)
}

fn make_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn touch_private(path: &PathBuf) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

/// An embedding's values as little-endian bytes.
fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[cfg(test)]
mod embedding_tests;
#[cfg(test)]
mod replica_tests;
#[cfg(test)]
mod sealing_tests;
#[cfg(test)]
pub(in crate::store) mod tests;
#[cfg(test)]
mod unknown_tests;
