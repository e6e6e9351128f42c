//! How cameras fare, told by each worker of its own, for those who are asked and do not run them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::jetstream::{
    Context,
    kv::{Operation, Store},
    message::PublishMessage,
};
use futures::StreamExt;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{ClusterStore, fault::LIMIT, registry};
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
        let begun = tokio::time::timeout(LIMIT, self.bucket.watch_with_history(">")).await.map_err(|e| failed(&e))?;
        let mut entries = begun.map_err(|e| failed(&e))?;
        let (words, heard) = mpsc::channel(WORDS);
        let (bucket, vault, mut connections) = (self.bucket.clone(), self.vault.clone(), self.connections.clone());
        connections.mark_unchanged();
        let hearing = tokio::spawn(async move {
            let listen = async {
                while let Some(Ok(entry)) = entries.next().await {
                    let Ok(worker) = entry.key.parse::<WorkerId>() else { continue };
                    let read = || {
                        let plain = vault.unseal(&place(&bucket, &worker), &entry.value).ok()?;
                        serde_json::from_slice(&plain).ok()
                    };
                    let said = (entry.operation == Operation::Put).then(read).flatten().unwrap_or_default();
                    if words.send((worker, said)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = connections.changed() => {}
                () = listen => {}
            }
        });
        Ok((heard, hearing))
    }
}
