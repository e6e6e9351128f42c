//! Port: who is alive, and whose a camera is.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::ids::{CameraId, WorkerId};

/// What a worker says of itself, again and again; without a word for the time of a lease it is taken for dead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Told anew by each process: one that was paused is not taken for the one that came after it.
    pub epoch: u64,
    /// Cameras that it can run.
    pub capacity: f64,
    /// It is about to end, and gets no cameras.
    pub draining: bool,
}

/// Whose a camera is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The worker.
    pub worker: WorkerId,
    /// Of which of its lives.
    pub epoch: u64,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// A worker spoke; `None`: it is gone.
    Worker(WorkerId, Option<Lease>),
    /// A camera has an owner, at this revision of its entry; `None`: it has none, and its entry may be made anew.
    Owner(CameraId, Option<(Owner, u64)>),
    /// All that was there when the watch began has been told.
    Complete,
}

/// How a claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The camera is ours, at this revision.
    Won(u64),
    /// Somebody else was faster; the watch tells who.
    Lost,
}

/// Why the registry did not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the cluster's registry can't be used: {0}")]
pub struct RegistryError(pub String);

/// Leases and owners, kept where all workers see them.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Writes this worker's lease, which ends on its own unless it is written again in time.
    ///
    /// # Errors
    /// When the registry can't be reached, or another process has the name.
    async fn renew(&self, lease: &Lease) -> Result<(), RegistryError>;
    /// Takes the lease back.
    ///
    /// # Errors
    /// When the registry can't be reached.
    async fn leave(&self) -> Result<(), RegistryError>;
    /// Makes a camera this worker's, if its entry is still at `over` (`None`: if there is none).
    ///
    /// # Errors
    /// When the registry can't be reached; whose the camera is then nobody knows until the watch tells.
    async fn claim(&self, camera: &CameraId, owner: &Owner, over: Option<u64>) -> Result<Claimed, RegistryError>;
    /// Forgets whose a camera was that is not registered any more.
    ///
    /// # Errors
    /// When the registry can't be reached.
    async fn forget(&self, camera: &CameraId) -> Result<(), RegistryError>;
    /// Everything that is there, then everything that changes. The channel ends when the watch does, and with every break of the connection:
    /// what was said meanwhile may not be heard.
    ///
    /// # Errors
    /// When the registry can't be reached.
    async fn watch(&self) -> Result<mpsc::Receiver<Note>, RegistryError>;
}
