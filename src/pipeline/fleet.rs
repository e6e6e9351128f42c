//! Placeholder: every registered camera with its tasks.

use crate::{
    camera::{CameraSpec, CameraStatus, CameraStoreError, SpecError},
    face::{Detection, Quality},
    identity::{Decision, Person},
    ids::CameraId,
    time::Timestamp,
};
use std::time::Duration;

/// A camera as registered and how it fares.
#[derive(Debug, Clone)]
pub struct CameraView {
    /// As registered.
    pub spec: CameraSpec,
    /// How it fares.
    pub status: CameraStatus,
    /// Median time from hand-over to detections.
    pub detection_latency: Option<Duration>,
    /// Faces tracked at this moment.
    pub active_tracks: u32,
}

/// Why the fleet refused.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Faulty values.
    #[error("the camera is not valid: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<SpecError>),
    /// Store.
    #[error(transparent)]
    Store(#[from] CameraStoreError),
    /// Limit reached.
    #[error("this server takes at most {0} cameras; raise cameras.max or remove one")]
    TooMany(usize),
    /// No frame to show.
    #[error("camera {camera} has no frame to show: {why}")]
    NoFrame {
        /// Which.
        camera: CameraId,
        /// Its state and reason.
        why: String,
    },
    /// Faces.
    #[error(transparent)]
    Face(#[from] crate::face::FaceError),
    /// Gallery.
    #[error(transparent)]
    Gallery(#[from] crate::identity::GalleryError),
    /// Picture could not be encoded.
    #[error("the picture could not be encoded: {0}")]
    Encode(String),
}

/// A face with the answer to "who is it".
#[derive(Debug, Clone)]
pub struct FaceAnswer {
    /// Where.
    pub detection: Detection,
    /// How good.
    pub quality: Quality,
    /// Who, with figures.
    pub decision: Decision,
    /// The person, when known.
    pub person: Option<Person>,
}

/// A picture of a camera.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// JPEG bytes.
    pub jpeg: bytes::Bytes,
    /// When the frame was captured.
    pub captured: Timestamp,
    /// Faces, when annotated.
    pub faces: Vec<FaceAnswer>,
}

/// Every registered camera with its tasks. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {}

impl Fleet {
    /// Registers and starts a camera. `validate_only` checks and changes nothing.
    pub async fn create(&self, _spec: CameraSpec, _validate_only: bool) -> Result<CameraView, FleetError> {
        unimplemented!()
    }
    /// One camera.
    pub fn get(&self, _id: &CameraId) -> Option<CameraView> {
        unimplemented!()
    }
    /// All cameras, by id.
    pub fn list(&self) -> Vec<CameraView> {
        unimplemented!()
    }
    /// Replaces a camera; `spec.revision` must be one above the present one. Restarts the stream only if it must.
    pub async fn update(&self, _spec: CameraSpec) -> Result<CameraView, FleetError> {
        unimplemented!()
    }
    /// Stops and forgets a camera.
    pub async fn delete(&self, _id: &CameraId) -> Result<(), FleetError> {
        unimplemented!()
    }
    /// Changes whenever a camera is added, removed, changed, or changes its state.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        unimplemented!()
    }
    /// The newest frame as JPEG.
    pub async fn snapshot(&self, _id: &CameraId, _annotate: bool) -> Result<Snapshot, FleetError> {
        unimplemented!()
    }
}
