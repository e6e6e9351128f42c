//! Placeholder of the door to faces.

use crate::{
    face::{Detection, Embedding, Quality},
    frame::Picture,
    ids::CameraId,
    inference::{
        InferenceSettings,
        manifest::{LoadedModel, ModelEntry},
    },
};

/// Who asks: one slot a camera, so that no camera starves another; still pictures share one bounded queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Slot {
    /// A camera: at most one waiting request.
    Camera(CameraId),
    /// A still picture.
    Still,
}

/// Why faces could not be found or embedded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FaceError {
    /// A network could not be loaded or run.
    #[error("model {model} failed: {message}")]
    Model {
        /// Its id.
        model: String,
        /// What the runtime said, with the next step.
        message: String,
    },
    /// The runtime library or execution provider is missing.
    #[error("{0}")]
    Runtime(String),
    /// Too many still pictures wait; try again.
    #[error("too many pictures are waiting; try again in a moment")]
    Busy,
    /// The engine is shutting down.
    #[error("the server is shutting down")]
    Stopped,
}

/// Runs the detector and the embedder. Cheap to clone.
#[derive(Clone)]
pub struct FaceEngine {}

impl FaceEngine {
    /// Loads both networks and starts the workers.
    pub fn start(
        _settings: &InferenceSettings,
        _detector: LoadedModel,
        _embedder: LoadedModel,
    ) -> Result<Self, FaceError> {
        unimplemented!()
    }
    /// Faces of a picture, highest score first. `min_score` overrides the setting.
    pub async fn detect(
        &self,
        _slot: Slot,
        _picture: &Picture,
        _min_score: Option<f32>,
    ) -> Result<Vec<Detection>, FaceError> {
        unimplemented!()
    }
    /// One embedding for each detection, in order.
    pub async fn embed(&self, _picture: &Picture, _detections: &[Detection]) -> Result<Vec<Embedding>, FaceError> {
        unimplemented!()
    }
    /// Quality of a detection for recognition; reads pixels of the face only, on the caller's thread (well under 1 ms).
    pub fn measure(&self, _picture: &Picture, _detection: &Detection) -> Quality {
        unimplemented!()
    }
    /// The detector's description.
    pub fn detector(&self) -> &ModelEntry {
        unimplemented!()
    }
    /// The embedder's description (its `embedder` part is always there).
    pub fn embedder(&self) -> &ModelEntry {
        unimplemented!()
    }
    /// `cpu` or `cuda`.
    pub fn provider(&self) -> &'static str {
        unimplemented!()
    }
    /// Threads that own sessions.
    pub fn workers(&self) -> usize {
        unimplemented!()
    }
    /// Version of ONNX Runtime.
    pub fn runtime_version(&self) -> String {
        unimplemented!()
    }
    /// Stops the workers and waits for them; later calls answer [`FaceError::Stopped`].
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
