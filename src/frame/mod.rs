//! What a camera saw: frames, their pixels, and what is cut out of them.
//!
//! In: mapped decoder buffers ([`Pixels`]) or a picture sent by a user ([`still`]). Out: a detector input ([`tensor`]), a face
//! crop ([`crop`]), a JPEG. Pixels are shared, never copied on the way. Absent on purpose: GStreamer, models, faces.

pub mod annotate;
pub mod blur;
pub mod contact_sheet;
pub mod crop;
mod filter;
pub mod geometry;
mod lanes;
pub mod lettering;
pub mod luma;
#[cfg(test)]
mod made;
pub mod planes;
pub mod region;
mod resample;
pub mod scale;
pub mod still;
pub mod tensor;
pub mod warp;
#[cfg(target_arch = "x86_64")]
mod wide;

use std::time::{Duration, Instant};

pub use geometry::{BBox, Point, Similarity};
pub use planes::{ColorMatrix, Picture, PixelFormat, Pixels, Plane};

use crate::{
    ids::CameraId,
    time::{CaptureTime, Timestamp},
};

/// Why a frame was decoded when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Decoded {
    /// As it came.
    #[default]
    AsItCame,
    /// A key frame, alone: pictures around it were left encoded.
    Alone,
    /// Later than it came, because the camera woke up. Newer ones must not replace it.
    Late,
}

/// One decoded frame of a camera. Cheap to clone: the pixels are shared.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Camera that saw it.
    pub camera: CameraId,
    /// Counts up by one with each decoded frame of this camera's connection.
    pub sequence: u64,
    /// Presentation time stamp of the stream, if it has one.
    pub pts: Option<Duration>,
    /// When it was captured.
    pub captured: CaptureTime,
    /// When it arrived here minus the known latency: the clock to track by, which no camera can set forward or back.
    pub arrived: Timestamp,
    /// When it came out of the decoder, on the monotonic clock.
    pub received: Instant,
    /// Why it was decoded.
    pub decoded: Decoded,
    /// Its pixels.
    pub picture: Picture,
}
