//! Port: where registered cameras are kept.

use async_trait::async_trait;

use super::CameraSpec;
use crate::ids::CameraId;

/// Why a camera could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum CameraStoreError {
    /// No such camera.
    #[error("camera {0} does not exist; `visage camera list` shows those that do")]
    NotFound(CameraId),
    /// The id is taken.
    #[error("camera {0} exists already; choose another id or update it")]
    AlreadyExists(CameraId),
    /// Somebody else changed it meanwhile.
    #[error("camera {0} was changed by somebody else meanwhile; read it again and repeat the change")]
    Conflict(CameraId),
    /// The disk takes or gives nothing at the moment; try again later.
    #[error("{0}")]
    Unavailable(String),
    /// The store failed.
    #[error("the camera store failed: {0}")]
    Storage(String),
}

/// Keeps registered cameras. Every method is durable when it returns.
#[async_trait]
pub trait CameraStore: Send + Sync {
    /// All cameras, by id.
    async fn list(&self) -> Result<Vec<CameraSpec>, CameraStoreError>;
    /// Adds one. Fails when the id is taken.
    async fn insert(&self, spec: &CameraSpec) -> Result<(), CameraStoreError>;
    /// Replaces one whose stored revision is `spec.revision - 1`.
    async fn update(&self, spec: &CameraSpec) -> Result<(), CameraStoreError>;
    /// Removes one.
    async fn remove(&self, id: &CameraId) -> Result<(), CameraStoreError>;
}
