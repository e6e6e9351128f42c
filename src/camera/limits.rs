//! What a stream may be: where it may come from and how large its pictures may be.

use super::networks::Networks;

/// Limits of every stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamLimits {
    /// Where cameras may be.
    pub networks: Networks,
    /// Most pixels of a picture, width times height.
    pub max_pixels: u64,
}

/// 8192 x 4320, the largest pictures of what is sold as 8K.
pub const MAX_PIXELS: u64 = 8192 * 4320;

impl Default for StreamLimits {
    fn default() -> Self {
        Self { networks: Networks::default(), max_pixels: MAX_PIXELS }
    }
}
