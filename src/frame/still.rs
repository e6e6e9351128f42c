//! Pictures sent by users: bytes and pixels are limited before anything is decoded.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, metadata::Orientation};

use super::Picture;

/// What a picture may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct StillLimits {
    /// Most bytes of the encoded picture.
    pub bytes: usize,
    /// Most pixels, width times height.
    pub pixels: u64,
}

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

/// Decodes JPEG, PNG or WebP (told by content, not by name) to RGB, turned upright as its EXIF orientation says.
///
/// # Errors
/// When the bytes are too many, promise too many pixels, or are no such picture. Pixels are counted from the header alone.
pub fn decode(bytes: &[u8], limits: &StillLimits) -> Result<Picture, StillError> {
    if bytes.len() > limits.bytes {
        return Err(StillError::TooManyBytes { bytes: bytes.len(), limit: limits.bytes });
    }
    let unreadable = |e: image::ImageError| StillError::NotAPicture(e.to_string());
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| StillError::NotAPicture(e.to_string()))?;
    match reader.format() {
        Some(ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP) => {}
        Some(other) => return Err(StillError::NotAPicture(format!("{other:?} is not supported"))),
        None => return Err(StillError::NotAPicture("the format is unknown".into())),
    }
    let mut budget = image::Limits::default();
    // Room for 16-bit RGBA and the decoder's own buffers.
    budget.max_alloc = Some(limits.pixels.saturating_mul(16).max(1 << 20));
    reader.limits(budget);
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels {
        return Err(StillError::TooManyPixels { width, height, limit: limits.pixels });
    }
    if width == 0 || height == 0 {
        return Err(StillError::NotAPicture("it has no pixels".into()));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    image.apply_orientation(orientation);
    Ok(Picture::from_rgb(image.into_rgb8()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: StillLimits = StillLimits { bytes: 1 << 20, pixels: 100 * 100 };

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image::RgbImage::from_pixel(width, height, image::Rgb([1, 2, 3])).write_to(&mut out, ImageFormat::Png).unwrap();
        out.into_inner()
    }

    #[test]
    fn reads_pictures_within_the_limits() {
        let picture = decode(&png(100, 50), &LIMITS).unwrap();
        assert_eq!((picture.width(), picture.height()), (100, 50));
        assert_eq!(&picture.plane(0).data[..3], [1, 2, 3]);
    }

    #[test]
    fn refuses_what_is_too_large_before_decoding() {
        assert!(matches!(decode(&png(101, 100), &LIMITS), Err(StillError::TooManyPixels { width: 101, .. })));
        let tiny = StillLimits { bytes: 10, ..LIMITS };
        assert!(matches!(decode(&png(1, 1), &tiny), Err(StillError::TooManyBytes { .. })));
    }

    #[test]
    fn refuses_rubbish_and_truncated_pictures() {
        let mut cut = png(90, 90);
        cut.truncate(60);
        for bad in [&b"hello"[..], b"", b"GIF89a\x01\x00\x01\x00", &cut] {
            assert!(matches!(decode(bad, &LIMITS), Err(StillError::NotAPicture(_))));
        }
    }
}
