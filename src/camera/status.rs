//! How a camera fares: state, since when, a reason a person can act on.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What a camera is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CameraState {
    /// An attempt is under way.
    Connecting,
    /// Frames arrive.
    Streaming,
    /// Connected, but no frame has come for a while.
    Stalled,
    /// Failed or ended; the next attempt is planned.
    Retrying,
    /// The camera refuses us; retried rarely, since a person must act.
    Refused,
    /// Switched off.
    Disabled,
}

impl CameraState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Connecting, Self::Streaming, Self::Stalled, Self::Retrying, Self::Refused, Self::Disabled];

    /// The name in the API, such as `STREAMING`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "CONNECTING",
            Self::Streaming => "STREAMING",
            Self::Stalled => "STALLED",
            Self::Retrying => "RETRYING",
            Self::Refused => "REFUSED",
            Self::Disabled => "DISABLED",
        }
    }
}

/// Why a camera does not stream: a stable code and a sentence with the next step. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable word, such as `unauthorized`.
    pub code: Cow<'static, str>,
    /// Sentence, such as `401: the camera refused the user name or password`.
    pub message: String,
}

/// How a camera fares at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CameraStatus {
    /// State.
    pub state: CameraState,
    /// Why; `None` while streaming.
    pub reason: Option<Reason>,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// When the next attempt is due.
    pub next_retry: Option<Timestamp>,
    /// Size of decoded pictures.
    pub resolution: Option<(u32, u32)>,
    /// Codec: H264, H265, JPEG.
    pub codec: Option<Cow<'static, str>>,
    /// Frames a second that arrive, decoded or not, over the last seconds.
    pub fps_in: f32,
    /// Frames a second that are decoded, over the last seconds.
    pub fps_decoded: f32,
    /// Frames a second handed on for detection, over the last seconds.
    pub fps_sampled: f32,
    /// Time between key frames as seen.
    pub key_frame_interval: Option<Duration>,
    /// Frames that arrived, decoded or not, since the camera was started.
    pub frames_received: u64,
    /// Frames handed on since the camera was started.
    pub frames_sampled: u64,
    /// Frames not handed on, by reason.
    pub frames_skipped: BTreeMap<Cow<'static, str>, u64>,
    /// Median time in the decoder.
    pub decode_latency: Option<Duration>,
    /// Failed or ended connections since the camera was started.
    pub reconnects: u64,
    /// Only key frames are decoded at present, since nothing happens.
    pub key_frames_only: bool,
    /// How often something happened while only key frames were decoded, since the camera was started.
    pub wakes: u64,
}

impl CameraStatus {
    /// The state of a camera that nobody has tried yet.
    pub fn new(state: CameraState, since: Timestamp) -> Self {
        Self {
            state,
            reason: None,
            since,
            next_retry: None,
            resolution: None,
            codec: None,
            fps_in: 0.0,
            fps_decoded: 0.0,
            fps_sampled: 0.0,
            key_frame_interval: None,
            frames_received: 0,
            frames_sampled: 0,
            frames_skipped: BTreeMap::new(),
            decode_latency: None,
            reconnects: 0,
            key_frames_only: false,
            wakes: 0,
        }
    }
}
