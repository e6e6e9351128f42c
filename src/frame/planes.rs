//! Read-only views of decoded pixels in the decoder's own format, shared without copying.

use std::{fmt, sync::Arc};

/// Layout of the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// Planes Y, U, V; chroma halved in both directions.
    I420,
    /// Planes Y and interleaved UV; chroma halved in both directions.
    Nv12,
    /// One plane of packed R, G, B bytes.
    Rgb,
}

/// How YCbCr becomes RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColorMatrix {
    /// ITU-R BT.709 when true, BT.601 otherwise.
    pub bt709: bool,
    /// Y and chroma use 0..255 when true (JPEG), 16..235 and 16..240 otherwise.
    pub full_range: bool,
}

/// One plane: rows of `stride` bytes.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// Bytes of the plane; at least `stride * (rows - 1) + used bytes of a row`.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// Whoever holds pixels: a mapped GStreamer buffer, a decoded still picture.
pub trait Pixels: Send + Sync {
    /// Layout.
    fn format(&self) -> PixelFormat;
    /// Width and height in pixels, both at least 1.
    fn size(&self) -> (u32, u32);
    /// Plane `index` (0 is Y or RGB).
    fn plane(&self, index: usize) -> Plane<'_>;
    /// How YCbCr becomes RGB; ignored for RGB.
    fn color(&self) -> ColorMatrix;
}

/// Shared pixels.
#[derive(Clone)]
pub struct Picture(Arc<dyn Pixels>);

impl Picture {
    /// Shares pixels.
    pub fn new(pixels: impl Pixels + 'static) -> Self {
        Self(Arc::new(pixels))
    }

    /// Wraps packed RGB bytes.
    pub fn from_rgb(image: image::RgbImage) -> Self {
        Self::new(image)
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.0.size().0
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.0.size().1
    }
}

impl std::ops::Deref for Picture {
    type Target = dyn Pixels;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({:?} {}x{})", self.0.format(), self.width(), self.height())
    }
}

impl Pixels for image::RgbImage {
    fn format(&self) -> PixelFormat {
        PixelFormat::Rgb
    }
    fn size(&self) -> (u32, u32) {
        self.dimensions()
    }
    fn plane(&self, _index: usize) -> Plane<'_> {
        Plane { data: self.as_raw(), stride: self.width() as usize * 3 }
    }
    fn color(&self) -> ColorMatrix {
        ColorMatrix { bt709: false, full_range: true }
    }
}
