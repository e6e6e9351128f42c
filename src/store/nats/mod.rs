//! The state of several processes in NATS JetStream.
//!
//! NATS holds the truth: buckets of sealed values, a stream of events, an object store of pictures. Each node follows them and
//! applies them to a SQLite database of its own, so every read is the one of the embedded mode. A write goes to NATS, which refuses it when
//! somebody was faster, and returns when the own replica has it. `docs/cluster.md` tells what lies where.

mod bucket;
mod cameras;
mod connect;
mod embeddings;
mod erasure;
mod events;
mod fault;
mod feed;
pub mod frames;
mod people;
mod pictures;
mod records;
pub mod registry;
mod replica;
mod settings;
pub mod statuses;
pub mod tokens;
mod unknowns;

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Notify, broadcast, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub use self::settings::ClusterSettings;
use self::{
    connect::Cluster,
    events::Owned,
    fault::{Fault, LIMIT, within},
    replica::{Follower, Progress, Told},
};
use super::{
    StoreError,
    sqlite::{
        SqliteStore,
        replica::{Erased, Source},
    },
};
use crate::{identity::GalleryChange, vault::VaultSettings};

/// Changes of the gallery that wait for a follower at most; who lags compares everything.
const CHANGES: usize = 1024;
/// Longest time without progress of a new replica that reads what there is.
const STILL: Duration = Duration::from_secs(30);
/// The key of the log's id, by which the keys of the vault are proven, too.
const LOG: &str = "log";

/// What a node's replica holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// All that there is.
    Everything,
    /// All but events, which a worker writes and nobody asks it for: most of what is written in a cluster.
    AllButEvents,
}

/// The store of the cluster mode: see the module.
pub struct ClusterStore {
    holds: Holds,
    cluster: Arc<Cluster>,
    replica: Arc<SqliteStore>,
    erased: Erased,
    log_id: String,
    told: Told,
    owned: Owned,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Holds {
    fn source(self, source: Source) -> bool {
        self == Self::Everything || !matches!(source, Source::Events | Source::Amended)
    }
}

impl ClusterStore {
    /// Connects to the NATS servers, makes what is missing there, and brings the replica in `data_dir` up to date; finishes erasures that
    /// were interrupted. The replica may be thrown away at any time while no node runs on it.
    ///
    /// # Errors
    /// When no server can be used, the key is missing or is not that of the cluster, or the folder can't be used.
    pub async fn open(
        settings: &ClusterSettings,
        data_dir: &Path,
        storage: &VaultSettings,
        holds: Holds,
    ) -> Result<Arc<Self>, StoreError> {
        let (dir, vault) = (data_dir.to_owned(), storage.clone());
        let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&dir, &vault)).await;
        let replica = Arc::new(opened.map_err(|e| StoreError::Cluster(e.to_string()))??);
        let opened = Self::open_on(settings, &replica, holds).await;
        if opened.is_err() {
            replica.close().await;
        }
        opened
    }

    async fn open_on(
        settings: &ClusterSettings,
        replica: &Arc<SqliteStore>,
        holds: Holds,
    ) -> Result<Arc<Self>, StoreError> {
        let failed = |fault: Fault| StoreError::Cluster(fault.to_string());
        let cluster = Arc::new(Cluster::connect(settings, replica.vault()).await?);
        let log_id = log_id(&cluster).await?;
        let (applied, erased) = replica.replica_of(&log_id).await.map_err(|e| failed(e.into()))?;
        let applied = match is_of_the_cluster(&cluster, &applied).await.map_err(failed)? {
            true => applied,
            false => {
                return Err(StoreError::Cluster(
                    "the replica in the data folder is ahead of the cluster, which lost something (a NATS server was restored from an older copy?); move the data folder's visage.db away, then it is read anew".into(),
                ));
            }
        };
        let told = Told {
            progress: watch::Sender::new(Progress { applied, ..Progress::default() }),
            cameras: watch::Sender::new(0),
            gallery: broadcast::Sender::new(CHANGES),
            rewrites: Arc::new(Notify::new()),
        };
        let stop = CancellationToken::new();
        let follower = Follower {
            cluster: cluster.clone(),
            store: replica.clone(),
            erased: erased.clone(),
            applied,
            holds,
            told: told.clone(),
        };
        let following = tokio::spawn(follower.run(stop.clone()));
        let store = Arc::new(Self {
            holds,
            cluster,
            replica: replica.clone(),
            erased,
            log_id,
            told,
            owned: Owned::default(),
            stop: stop.clone(),
            tasks: Mutex::new(vec![following]),
        });
        if let Err(error) = store.ready().await {
            store.end().await;
            return Err(error);
        }
        // Interrupted erasures go on; where the servers fail just now, the task tries again.
        if let Err(fault) = store.resume().await {
            tracing::error!(%fault, "erasures that were interrupted are not finished yet");
        }
        let tending = tokio::spawn({
            let store = Arc::downgrade(&store);
            async move { erasure::tend(store, stop).await }
        });
        store.tasks.lock().await.push(tending);
        Ok(store)
    }

    /// Waits until the replica has all that there was.
    async fn ready(&self) -> Result<(), StoreError> {
        let mut progress = self.told.progress.subscribe();
        loop {
            let seen = progress.borrow_and_update().clone();
            if seen.ready {
                return Ok(());
            }
            if tokio::time::timeout(STILL, progress.changed()).await.is_err() {
                let why = seen.trouble.unwrap_or_else(|| "nothing comes".into());
                return Err(StoreError::Cluster(format!("the replica can't be brought up to date: {why}")));
            }
        }
    }

    /// Name of this node.
    pub fn node(&self) -> &str {
        &self.cluster.node
    }

    /// What names of streams and buckets begin with.
    pub fn name(&self) -> &str {
        &self.cluster.name
    }

    /// Counts up with every connection to the servers.
    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        self.cluster.connections.clone()
    }

    /// JetStream, for further buckets.
    pub fn jetstream(&self) -> &async_nats::jetstream::Context {
        &self.cluster.js
    }

    /// The node's own database: for reading only.
    pub fn replica(&self) -> &Arc<SqliteStore> {
        &self.replica
    }

    /// Counts up when the replica took over changes of cameras, this node's own among them.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.told.cameras.subscribe()
    }

    /// Changes of the gallery that the replica took over, this node's own among them; who lags has to compare everything
    /// ([`crate::identity::Gallery::follow`] does).
    pub fn gallery_changes(&self) -> broadcast::Receiver<GalleryChange> {
        self.told.gallery.subscribe()
    }

    /// Whether the servers answer and the replica keeps up with them.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub async fn probe(&self) -> Result<(), String> {
        self.replica.probe().await?;
        self.up_to_date().await.map_err(|fault| fault.to_string())
    }

    async fn up_to_date(&self) -> Result<(), Fault> {
        self.cluster.connected()?;
        for source in [Source::People, Source::Faces, Source::Cameras] {
            let bucket = self.cluster.bucket(source)?;
            let last = bucket::last_of(bucket.stream(), &bucket.subject(">")).await?;
            self.applied(source, last.map_or(0, |message| message.sequence)).await?;
        }
        let last = bucket::last_of(&self.cluster.events, &self.cluster.subject("*")).await?;
        self.applied(Source::Events, last.map_or(0, |message| message.sequence)).await?;
        Ok(())
    }

    /// Waits until the replica has applied a revision.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when it does not within [`LIMIT`].
    async fn applied(&self, source: Source, revision: u64) -> Result<(), Fault> {
        if !self.holds.source(source) {
            return Ok(());
        }
        let mut progress = self.told.progress.subscribe();
        let reached = progress.wait_for(|p| p.applied[source as usize] >= revision);
        match tokio::time::timeout(LIMIT, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Fault::Failed(error.to_string())),
            Err(_) => {
                let why = self.told.progress.borrow().trouble.clone().unwrap_or_else(|| "it is slow".into());
                Err(Fault::Unavailable(format!("this node's replica is behind the cluster ({}): {why}", source.name())))
            }
        }
    }

    /// Stops following and closes the database.
    pub async fn close(&self) {
        self.end().await;
        self.replica.close().await;
    }

    async fn end(&self) {
        self.stop.cancel();
        for task in self.tasks.lock().await.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the cluster's store ended badly");
            }
        }
    }
}

/// The id of the cluster's log, made by the first node; reading it proves that this node has the cluster's key.
async fn log_id(cluster: &Cluster) -> Result<String, StoreError> {
    let failed = |fault: Fault| match fault {
        Fault::Failed(why) => StoreError::Cluster(format!(
            "this node has another key than the cluster: {why}; give every node the same one with storage.key or storage.key_file"
        )),
        other => StoreError::Cluster(other.to_string()),
    };
    let settings = cluster.bucket(Source::Settings).map_err(failed)?;
    for _ in 0..3 {
        if let Some((_, id)) = settings.get::<String>(LOG).await.map_err(failed)? {
            return Ok(id);
        }
        match settings.create(LOG, &uuid::Uuid::now_v7().simple().to_string()).await {
            // Somebody else may have made it.
            Ok(_) | Err(Fault::Conflict) => {}
            Err(fault) => return Err(failed(fault)),
        }
    }
    Err(StoreError::Cluster("the cluster's log has no id; see whether NATS keeps what is written".into()))
}

/// Whether a replica is not ahead of the cluster.
async fn is_of_the_cluster(cluster: &Cluster, applied: &[u64]) -> Result<bool, Fault> {
    for source in Source::ALL {
        let stream = match source {
            Source::Events => &cluster.events,
            _ => cluster.bucket(source)?.stream(),
        };
        let info = within(source.name(), stream.get_info()).await?;
        if applied[source as usize] > info.state.last_sequence {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod guarded_tests;
#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod worker_tests;
