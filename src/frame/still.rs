//! Placeholder: pictures sent by users.

/// Why bytes are no usable picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StillError {
    /// Too many bytes.
    #[error("the picture has {bytes} bytes, the limit is {limit}: send a smaller one or raise limits.picture_bytes")]
    TooManyBytes {
        /// Bytes sent.
        bytes: usize,
        /// Limit.
        limit: usize,
    },
    /// Too many pixels.
    #[error(
        "the picture has {width}x{height} pixels, the limit is {limit} pixels: scale it down or raise limits.picture_pixels"
    )]
    TooManyPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Limit.
        limit: u64,
    },
    /// Not a picture.
    #[error("these bytes are no picture that can be read ({0}): send JPEG, PNG or WebP")]
    NotAPicture(String),
}
