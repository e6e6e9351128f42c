//! What a client may send: section `[limits]`. Enforced before anything is decoded.

use serde::{Deserialize, Serialize};

/// Input limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiLimits {
    /// Most bytes of a message.
    pub message_bytes: usize,
    /// Most bytes of a picture.
    pub picture_bytes: usize,
    /// Most pixels of a picture.
    pub picture_pixels: u64,
    /// Most faces of a picture.
    pub faces_per_picture: usize,
    /// Most pictures of one enrolment stream.
    pub pictures_per_enrolment: usize,
    /// Most requests at one time on one connection.
    pub requests_per_connection: usize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            message_bytes: 48 << 20,
            picture_bytes: 20 << 20,
            picture_pixels: 50_000_000,
            faces_per_picture: 200,
            pictures_per_enrolment: 10_000,
            requests_per_connection: 256,
        }
    }
}
