//! How cameras fare, told by each worker of its own, for those who are asked and do not run them.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use async_nats::jetstream::{Context, Message, consumer::DeliverPolicy, kv::Store, message::PublishMessage};
use futures::StreamExt;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    ClusterStore,
    fault::{Fault, LIMIT},
    feed::{Feed, is_mark},
    registry,
};
use crate::{
    camera::FarStatus,
    cluster::RegistryError,
    ids::{CameraId, WorkerId},
    store::StoreError,
    vault::Vault,
};

/// Words of workers on their way.
const WORDS: usize = 256;

/// The statuses of one worker's cameras.
pub type Statuses = BTreeMap<CameraId, FarStatus>;

/// Where statuses are told. What is written ends on its own.
pub struct NatsStatuses {
    js: Context,
    bucket: Store,
    vault: Arc<Vault>,
    connections: watch::Receiver<u64>,
    lives: Duration,
}

fn place(bucket: &Store, worker: &WorkerId) -> String {
    format!("{}/{worker}", bucket.name)
}

impl NatsStatuses {
    /// Statuses beside a store; what a worker said is forgotten after `lives`.
    ///
    /// # Errors
    /// When the bucket can't be made.
    pub async fn open(store: &ClusterStore, copies: usize, lives: Duration) -> Result<Self, StoreError> {
        let js = store.jetstream().clone();
        let bucket = registry::bucket(&js, format!("{}-statuses", store.name()), copies, true).await?;
        let (vault, connections) = (store.replica.vault().clone(), store.connections());
        Ok(Self { js, bucket, vault, connections, lives })
    }

    /// Tells how a worker's cameras fare.
    ///
    /// # Errors
    /// When it can't be told.
    pub async fn tell(&self, worker: &WorkerId, statuses: &Statuses) -> Result<(), RegistryError> {
        let failed = |error: &dyn std::fmt::Display| RegistryError(error.to_string());
        let value = serde_json::to_vec(statuses).map_err(|e| failed(&e))?;
        let sealed = self.vault.seal(&place(&self.bucket, worker), &value).map_err(|e| failed(&e))?;
        let message = PublishMessage::build().payload(sealed.into()).ttl(self.lives);
        let published = async { self.js.send_publish(format!("{}{worker}", self.bucket.prefix), message).await?.await };
        let done = tokio::time::timeout(LIMIT, published).await.map_err(|e| failed(&e))?;
        done.map(drop).map_err(|e| failed(&e))
    }

    /// What every worker says, from its last word on. The channel ends with the watch; the task is the caller's.
    ///
    /// # Errors
    /// When it can't be heard.
    pub async fn hear(&self) -> Result<(mpsc::Receiver<(WorkerId, Statuses)>, JoinHandle<()>), RegistryError> {
        let failed = |error: &dyn std::fmt::Display| RegistryError(error.to_string());
        let mut feed = Feed::open(&self.bucket.stream, "statuses", DeliverPolicy::All).await.map_err(|e| failed(&e))?;
        let (words, heard) = mpsc::channel(WORDS);
        let (bucket, vault, mut connections) = (self.bucket.clone(), self.vault.clone(), self.connections.clone());
        connections.mark_unchanged();
        let read = move |message: &Message| {
            let worker = message.subject.strip_prefix(&bucket.prefix)?.parse::<WorkerId>().ok()?;
            let said = || {
                let plain = vault.unseal(&place(&bucket, &worker), &message.payload).ok()?;
                serde_json::from_slice(&plain).ok()
            };
            let said = (!is_mark(message)).then(said).flatten().unwrap_or_default();
            Some((worker, said))
        };
        let hearing = tokio::spawn(async move {
            let listen = async {
                loop {
                    let chunk = feed.there().await?;
                    if chunk.is_empty() {
                        break;
                    }
                    for word in chunk.iter().filter_map(&read) {
                        words.send(word).await.map_err(|e| Fault::Failed(e.to_string()))?;
                    }
                }
                let mut live = pin!(feed.live().await?);
                while let Some(message) = live.next().await {
                    if let Some(word) = read(&message?) {
                        words.send(word).await.map_err(|e| Fault::Failed(e.to_string()))?;
                    }
                }
                Ok::<(), Fault>(())
            };
            tokio::select! {
                _ = connections.changed() => {}
                ended = listen => if let Err(fault) = ended {
                    tracing::debug!(%fault, "statuses are not heard any more");
                },
            }
        });
        Ok((heard, hearing))
    }
}
