//! Leases of workers and owners of cameras, in two buckets.
//!
//! A lease is a key that ends on its own: the server removes it when it is not written again in time, and tells everybody who watches. Names of
//! workers and ids of cameras lie there as they are; nothing of a person does, so nothing is sealed.

use std::{pin::pin, sync::Mutex as PlainMutex, time::Duration};

use async_nats::jetstream::{
    Context, Message,
    consumer::DeliverPolicy,
    context::PublishErrorKind,
    kv::{self, Store},
    message::PublishMessage,
};
use async_trait::async_trait;
use futures::StreamExt;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    ClusterStore,
    bucket::last_of,
    fault::LIMIT,
    feed::{Feed, is_mark},
};
use crate::{
    cluster::{
        Lease, Owner, Registry, RegistryError,
        registry::{Claimed, Note},
    },
    ids::{CameraId, WorkerId},
    store::StoreError,
};

/// Notes on their way to the worker; who does not take them makes the watch wait.
const NOTES: usize = 1024;
/// How long the server keeps the mark of a lease that ended.
const MARK: Duration = Duration::from_secs(60);

/// The registry of one worker.
pub struct NatsRegistry {
    me: WorkerId,
    lease: Duration,
    js: Context,
    workers: Store,
    owners: Store,
    /// The sequence of this worker's last renewal.
    written: tokio::sync::Mutex<u64>,
    watches: PlainMutex<Vec<JoinHandle<()>>>,
    /// Counts up with every connection: what was said in between may be gone, marks of leases that ended among it.
    connections: watch::Receiver<u64>,
}

fn failed(error: impl std::fmt::Display) -> RegistryError {
    RegistryError(error.to_string())
}

pub(super) async fn bucket(js: &Context, name: String, copies: usize, ends: bool) -> Result<Store, StoreError> {
    if let Ok(store) = js.get_key_value(&name).await
        && store.stream.cached_info().config.num_replicas == copies
    {
        return Ok(store);
    }
    let config = kv::Config {
        bucket: name.clone(),
        // A lease ends in time only where nothing older stands behind it.
        history: 1,
        num_replicas: copies,
        limit_markers: ends.then_some(MARK),
        ..Default::default()
    };
    let made = js.create_or_update_key_value(config).await;
    made.map_err(|e| {
        StoreError::Cluster(format!("the bucket {name} can't be made: {e}; nats-server 2.11 or later is needed"))
    })
}

impl NatsRegistry {
    /// The registry beside a store, for a worker whose lease lasts so long.
    ///
    /// # Errors
    /// When the buckets can't be made.
    pub async fn open(store: &ClusterStore, me: WorkerId, lease: Duration, copies: usize) -> Result<Self, StoreError> {
        let js = store.jetstream().clone();
        let workers = bucket(&js, format!("{}-workers", store.name()), copies, true).await?;
        let owners = bucket(&js, format!("{}-owners", store.name()), copies, false).await?;
        let (written, watches, connections) = (Default::default(), Default::default(), store.connections());
        Ok(Self { me, lease, js, workers, owners, written, watches, connections })
    }

    /// Writes a key if its last message is still `over` (0: none); its sequence, or `None` when it is another.
    async fn put(
        &self,
        store: &Store,
        key: &str,
        value: Vec<u8>,
        over: u64,
        ends: Option<Duration>,
    ) -> Result<Option<u64>, RegistryError> {
        let mut message = PublishMessage::build().payload(value.into()).expected_last_subject_sequence(over);
        if let Some(ends) = ends {
            message = message.ttl(ends);
        }
        let published = async { self.js.send_publish(format!("{}{key}", store.prefix), message).await?.await };
        match tokio::time::timeout(LIMIT, published).await {
            Ok(Ok(ack)) => Ok(Some(ack.sequence)),
            Ok(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
            Ok(Err(error)) => Err(failed(error)),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whose a camera is, whether or not they live.
    ///
    /// # Errors
    /// When the registry can't be reached.
    pub async fn owner(&self, camera: &CameraId) -> Result<Option<Owner>, RegistryError> {
        Ok(self.read::<Owner>(&self.owners, camera.as_str()).await?.1)
    }

    /// What stands at a key: its sequence, and its value unless it is the mark of something removed.
    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        store: &Store,
        key: &str,
    ) -> Result<(u64, Option<T>), RegistryError> {
        let last = last_of(&store.stream, &format!("{}{key}", store.prefix)).await.map_err(failed)?;
        let Some(message) = last else { return Ok((0, None)) };
        Ok((message.sequence, serde_json::from_slice(&message.payload).ok()))
    }
}

impl Drop for NatsRegistry {
    fn drop(&mut self) {
        let watches = self.watches.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        watches.iter().for_each(JoinHandle::abort);
    }
}

#[async_trait]
impl Registry for NatsRegistry {
    async fn renew(&self, lease: &Lease) -> Result<(), RegistryError> {
        let value = serde_json::to_vec(lease).map_err(failed)?;
        let mut written = self.written.lock().await;
        if let Some(sequence) =
            self.put(&self.workers, self.me.as_str(), value.clone(), *written, Some(self.lease)).await?
        {
            *written = sequence;
            return Ok(());
        }
        let (sequence, other) = self.read::<Lease>(&self.workers, self.me.as_str()).await?;
        if other.is_some_and(|other| other.epoch != lease.epoch) {
            return Err(RegistryError(format!(
                "another process of the name {} holds its lease; give each its own with cluster.node",
                self.me
            )));
        }
        // It had ended, or the answer to the last renewal was lost.
        match self.put(&self.workers, self.me.as_str(), value, sequence, Some(self.lease)).await? {
            Some(sequence) => {
                *written = sequence;
                Ok(())
            }
            None => Err(RegistryError("the lease is written by two at once".into())),
        }
    }

    async fn leave(&self) -> Result<(), RegistryError> {
        let written = *self.written.lock().await;
        if written == 0 {
            return Ok(());
        }
        let gone = self.workers.purge_expect_revision_with_ttl(self.me.as_str(), written, MARK);
        tokio::time::timeout(LIMIT, gone).await.map_err(failed)?.map_err(failed)
    }

    async fn claim(&self, camera: &CameraId, owner: &Owner, over: Option<u64>) -> Result<Claimed, RegistryError> {
        let value = serde_json::to_vec(owner).map_err(failed)?;
        let won = match self.put(&self.owners, camera.as_str(), value.clone(), over.unwrap_or(0), None).await? {
            None if over.is_none() => {
                // The mark of a camera that was forgotten counts as nothing.
                match self.read::<Owner>(&self.owners, camera.as_str()).await? {
                    (mark, None) => self.put(&self.owners, camera.as_str(), value, mark, None).await?,
                    _ => None,
                }
            }
            won => won,
        };
        Ok(won.map_or(Claimed::Lost, Claimed::Won))
    }

    async fn forget(&self, camera: &CameraId) -> Result<(), RegistryError> {
        let gone = self.owners.purge(camera.as_str());
        tokio::time::timeout(LIMIT, gone).await.map_err(failed)?.map_err(failed)
    }

    async fn watch(&self) -> Result<mpsc::Receiver<Note>, RegistryError> {
        let (notes, receiver) = mpsc::channel(NOTES);
        let mut connections = self.connections.clone();
        connections.mark_unchanged();
        let watched = (Watched::begin(&self.workers).await?, Watched::begin(&self.owners).await?);
        let worker_note = |key: &str, value: Option<(&[u8], u64)>| {
            let lease = value.and_then(|(bytes, _)| serde_json::from_slice(bytes).ok());
            key.parse().ok().map(|name: WorkerId| Note::Worker(name, lease))
        };
        let owner_note = |key: &str, value: Option<(&[u8], u64)>| {
            let owner = value.and_then(|(bytes, revision)| Some((serde_json::from_slice(bytes).ok()?, revision)));
            key.parse().ok().map(|camera: CameraId| Note::Owner(camera, owner))
        };
        let watching = tokio::spawn(async move {
            let (mut workers, mut owners) = watched;
            // Everything there was of both, then whatever changes; the end of one is the end of all.
            let follow = async {
                workers.there(&notes, worker_note).await?;
                owners.there(&notes, owner_note).await?;
                notes.send(Note::Complete).await.map_err(failed)?;
                tokio::select! {
                    ended = workers.live(&notes, worker_note) => ended,
                    ended = owners.live(&notes, owner_note) => ended,
                    () = notes.closed() => Ok(()),
                }
            };
            tokio::select! {
                _ = connections.changed() => {}
                ended = follow => if let Err(error) = ended {
                    tracing::warn!(%error, "leases and owners are not heard of any more; it is begun anew");
                },
            }
        });
        let mut watches = self.watches.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        watches.retain(|watch| !watch.is_finished());
        watches.push(watching);
        Ok(receiver)
    }
}

/// A watch of a bucket.
struct Watched {
    prefix: String,
    feed: Feed,
}

impl Watched {
    async fn begin(bucket: &Store) -> Result<Self, RegistryError> {
        let feed = Feed::open(&bucket.stream, "leases and owners", DeliverPolicy::All).await.map_err(failed)?;
        Ok(Self { prefix: bucket.prefix.clone(), feed })
    }

    /// Passes on all that is there.
    async fn there(&mut self, notes: &mpsc::Sender<Note>, note: impl Noted) -> Result<(), RegistryError> {
        loop {
            let chunk = self.feed.there().await.map_err(failed)?;
            if chunk.is_empty() {
                return Ok(());
            }
            for message in chunk {
                tell(&self.prefix, &message, notes, &note).await?;
            }
        }
    }

    /// Passes on whatever comes.
    async fn live(self, notes: &mpsc::Sender<Note>, note: impl Noted) -> Result<(), RegistryError> {
        let mut messages = pin!(self.feed.live().await.map_err(failed)?);
        while let Some(message) = messages.next().await {
            tell(&self.prefix, &message.map_err(failed)?, notes, &note).await?;
        }
        Ok(())
    }
}

/// Makes a note of a key and what it says; of nothing, when the key is gone.
trait Noted: Fn(&str, Option<(&[u8], u64)>) -> Option<Note> {}
impl<F: Fn(&str, Option<(&[u8], u64)>) -> Option<Note>> Noted for F {}

async fn tell(
    prefix: &str,
    message: &Message,
    notes: &mpsc::Sender<Note>,
    note: &impl Noted,
) -> Result<(), RegistryError> {
    let revision = message.info().map_err(failed)?.stream_sequence;
    let value = (!is_mark(message)).then_some((message.payload.as_ref(), revision));
    match message.subject.strip_prefix(prefix).and_then(|key| note(key, value)) {
        Some(note) => notes.send(note).await.map_err(failed),
        None => Ok(()),
    }
}
