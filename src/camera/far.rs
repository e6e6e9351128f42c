//! Port: frames of cameras that run on another node.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{ids::CameraId, time::Timestamp};

/// The newest frame of a camera elsewhere.
#[derive(Debug, Clone)]
pub struct FarFrame {
    /// When it was captured.
    pub captured: Timestamp,
    /// JPEG.
    pub jpeg: Bytes,
}

/// Asks the node that runs a camera.
#[async_trait]
pub trait FarFrames: Send + Sync {
    /// Its newest frame.
    ///
    /// # Errors
    /// Why there is none, as the end of "camera X has no frame to show: …".
    async fn newest(&self, camera: &CameraId) -> Result<FarFrame, String>;
}
