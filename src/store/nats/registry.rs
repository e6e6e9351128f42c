//! Leases of workers and owners of cameras, in two buckets.
//!
//! A lease is a key that ends on its own: the server removes it when it is not written again in time, and tells everybody who watches. Names of
//! workers and ids of cameras lie there as they are; nothing of a person does, so nothing is sealed.

use std::{sync::Mutex as PlainMutex, time::Duration};

use async_nats::jetstream::{
    Context,
    context::PublishErrorKind,
    kv::{self, Operation, Store},
    message::PublishMessage,
};
use async_trait::async_trait;
use futures::StreamExt;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{ClusterStore, bucket::last_of, fault::LIMIT};
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
        let (workers, owners) = (self.workers.clone(), self.owners.clone());
        let workers_watch = begun(&workers).await?;
        let owners_watch = begun(&owners).await?;
        let worker_note = |key: &str, value: Option<(&[u8], u64)>| {
            let lease = value.and_then(|(bytes, _)| serde_json::from_slice(bytes).ok());
            key.parse().ok().map(|name: WorkerId| Note::Worker(name, lease))
        };
        let owner_note = |key: &str, value: Option<(&[u8], u64)>| {
            let owner = value.and_then(|(bytes, revision)| Some((serde_json::from_slice(bytes).ok()?, revision)));
            key.parse().ok().map(|camera: CameraId| Note::Owner(camera, owner))
        };
        let watching = tokio::spawn(async move {
            let told = notes.clone();
            // Everything there was of both, then whatever changes; the end of one is the end of all.
            let (mut workers, mut owners) = (workers_watch, owners_watch);
            let follow = async {
                let there = async {
                    workers.told(&told, worker_note, true).await?;
                    owners.told(&told, owner_note, true).await?;
                    told.send(Note::Complete).await.ok()
                };
                if there.await.is_some() {
                    tokio::select! {
                        _ = workers.told(&notes, worker_note, false) => {}
                        _ = owners.told(&notes, owner_note, false) => {}
                        () = notes.closed() => {}
                    }
                }
            };
            tokio::select! {
                _ = connections.changed() => {}
                () = follow => {}
            }
        });
        let mut watches = self.watches.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        watches.retain(|watch| !watch.is_finished());
        watches.push(watching);
        Ok(receiver)
    }
}

/// A watch of a bucket, and whether all that was there when it began has been told.
struct Watched {
    entries: kv::Watch,
    behind: bool,
}

async fn begun(store: &Store) -> Result<Watched, RegistryError> {
    let began = async {
        let entries = store.watch_with_history(">").await.map_err(failed)?;
        let info = store.stream.get_info().await.map_err(failed)?;
        Ok(Watched { entries, behind: info.state.messages > 0 })
    };
    tokio::time::timeout(LIMIT, began).await.map_err(failed)?
}

impl Watched {
    /// Passes on what is told: all that was there, or without an end. `None` when watch or receiver ended.
    async fn told(
        &mut self,
        notes: &mpsc::Sender<Note>,
        note: impl Fn(&str, Option<(&[u8], u64)>) -> Option<Note>,
        only_there: bool,
    ) -> Option<()> {
        while self.behind || !only_there {
            let entry = self.entries.next().await?.ok()?;
            let value = (entry.operation == Operation::Put).then_some((entry.value.as_ref(), entry.revision));
            if let Some(note) = note(&entry.key, value) {
                notes.send(note).await.ok()?;
            }
            self.behind &= !entry.seen_current;
        }
        Some(())
    }
}
