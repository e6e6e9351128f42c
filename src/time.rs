//! Capture time and the wall clock. The only reader of the wall clock.

use serde::{Deserialize, Serialize};

pub use jiff::Timestamp;

/// The wall clock, now.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Where a capture time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureOrigin {
    /// RTCP sender reports of the camera: the camera's own clock.
    SenderReport,
    /// Arrival at this machine minus the known pipeline latency.
    Arrival,
}

/// When a frame was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureTime {
    /// Wall time.
    pub at: Timestamp,
    /// Whose clock said so.
    pub origin: CaptureOrigin,
}

/// Seconds from `earlier` to `later`; negative when the clock went back.
pub fn seconds_between(earlier: Timestamp, later: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64()
}
