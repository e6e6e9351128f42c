//! Cameras that run on another node: how they fare, and the port by which their frames are asked for.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::CameraStatus;
use crate::{ids::CameraId, time::Timestamp};

/// How a camera elsewhere fares, as its node says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FarStatus {
    /// Its stream; with a substream, that one.
    pub status: CameraStatus,
    /// Its main stream beside a substream.
    pub main: Option<CameraStatus>,
    /// Median time from hand-over to detections.
    pub detection_latency: Option<Duration>,
    /// Faces tracked at that moment.
    pub active_tracks: u32,
    /// Faces found in frames since its node started it.
    pub faces_found: u64,
}

impl From<CameraStatus> for FarStatus {
    fn from(status: CameraStatus) -> Self {
        Self { status, main: None, detection_latency: None, active_tracks: 0, faces_found: 0 }
    }
}

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
