//! Pixels at another size: each plane scaled for itself, colour converted at the small size. [`super::tensor`] goes on from here.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{CroppedImage, Image, ImageRef},
};
use image::RgbImage;

use super::planes::{ColorMatrix, Picture, PixelFormat, Plane};

/// YCbCr → RGB for 8-bit values, coefficients of ITU-R BT.601 and BT.709.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToRgb {
    y_offset: f32,
    y_scale: f32,
    rv: f32,
    gu: f32,
    gv: f32,
    bu: f32,
}

impl ToRgb {
    pub(super) fn new(color: ColorMatrix) -> Self {
        let (kr, kb) = if color.bt709 { (0.2126, 0.0722) } else { (0.299, 0.114) };
        let kg = 1.0 - kr - kb;
        let (y_offset, y_scale, c_scale) =
            if color.full_range { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
        Self {
            y_offset,
            y_scale,
            rv: 2.0 * (1.0 - kr) * c_scale,
            gu: -2.0 * kb * (1.0 - kb) / kg * c_scale,
            gv: -2.0 * kr * (1.0 - kr) / kg * c_scale,
            bu: 2.0 * (1.0 - kb) * c_scale,
        }
    }

    /// Channels 0 to 255, not rounded.
    #[inline]
    pub(super) fn convert(&self, y: f32, u: f32, v: f32) -> [f32; 3] {
        let (y, u, v) = ((y - self.y_offset) * self.y_scale, u - 128.0, v - 128.0);
        [y + self.rv * v, y + self.gu * u + self.gv * v, y + self.bu * u].map(|c| c.clamp(0.0, 255.0))
    }

    /// A row of packed R, G, B in whole grey levels.
    fn row(&self, y: &[u8], uv: impl Iterator<Item = (u8, u8)>, out: &mut [u8]) {
        for ((pixel, y), (u, v)) in out.chunks_exact_mut(3).zip(y).zip(uv) {
            let rgb = self.convert(f32::from(*y), f32::from(u), f32::from(v));
            pixel.copy_from_slice(&rgb.map(|c| (c + 0.5) as u8));
        }
    }
}

/// Size of the detector's input for a picture: the longer side becomes `side`, the shape is kept, nothing is enlarged.
pub fn fitted(width: u32, height: u32, side: u32) -> (u32, u32) {
    let longer = width.max(height).max(1);
    if longer <= side {
        return (width.max(1), height.max(1));
    }
    let scale = f64::from(side) / f64::from(longer);
    let edge = |e: u32| ((f64::from(e) * scale).round() as u32).max(1);
    (edge(width), edge(height))
}

/// A rectangle of whole pixels of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Left column.
    pub x: u32,
    /// Top row.
    pub y: u32,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

impl Part {
    /// All of a picture.
    pub fn whole(picture: &Picture) -> Self {
        Self { x: 0, y: 0, width: picture.width(), height: picture.height() }
    }

    /// The same part of planes with half the columns and rows.
    fn halved(&self) -> Self {
        let (x, y) = (self.x / 2, self.y / 2);
        let (right, bottom) = ((self.x + self.width).div_ceil(2), (self.y + self.height).div_ceil(2));
        Self { x, y, width: right - x, height: bottom - y }
    }
}

/// The picture as RGB at `width` x `height`; no resampling when it has that size.
pub fn rgb_at(picture: &Picture, width: u32, height: u32) -> RgbImage {
    rgb_of(picture, Part::whole(picture), width, height)
}

/// A part of a picture as RGB at `width` x `height`; no more of the picture is touched. What lies beyond the picture is 0 in every plane.
pub fn rgb_of(picture: &Picture, part: Part, width: u32, height: u32) -> RgbImage {
    let mut planes = Planes::default();
    let mut out = RgbImage::new(width, height);
    let row = width as usize * 3;
    let scaled = planes.scaled(picture, part, (width, height));
    let rows = out.as_mut().chunks_exact_mut(row.max(1)).enumerate();
    match scaled {
        Scaled::Rgb(rgb) => rows.for_each(|(i, out)| out.copy_from_slice(rgb.row(i))),
        Scaled::I420(to_rgb, y, u, v) => rows.for_each(|(i, out)| {
            to_rgb.row(y.row(i), u.row(i).iter().copied().zip(v.row(i).iter().copied()), out);
        }),
        Scaled::Nv12(to_rgb, y, uv) => rows.for_each(|(i, out)| {
            to_rgb.row(y.row(i), uv.row(i).as_chunks::<2>().0.iter().map(|[u, v]| (*u, *v)), out);
        }),
    }
    out
}

/// Rows of a plane at the size that was asked for: the picture's own where it has that size, else in a buffer.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    data: &'a [u8],
    stride: usize,
    used: usize,
}

impl<'a> Rows<'a> {
    /// Row `i`, without what lies between rows.
    #[inline]
    pub(super) fn row(&self, i: usize) -> &'a [u8] {
        &self.data[i * self.stride..i * self.stride + self.used]
    }
}

/// The planes of a part of a picture, all at one size.
pub(super) enum Scaled<'a> {
    /// R, G, B.
    Rgb(Rows<'a>),
    /// Y, U, V.
    I420(ToRgb, Rows<'a>, Rows<'a>, Rows<'a>),
    /// Y, and U beside V.
    Nv12(ToRgb, Rows<'a>, Rows<'a>),
}

/// Scales planes into buffers that are kept from picture to picture.
#[derive(Default)]
pub(super) struct Planes {
    resizer: Resizer,
    scaled: [Vec<u8>; 3],
    packed: Vec<u8>,
}

impl Planes {
    /// The planes of `part` at `size`, scaled with a triangle filter wide enough not to alias (area-like when it shrinks).
    pub(super) fn scaled<'a>(&'a mut self, picture: &'a Picture, part: Part, size: (u32, u32)) -> Scaled<'a> {
        let half = part.halved();
        let Self { resizer, scaled: [first, second, third], packed } = self;
        let mut plane = |index, part, kind, out| resized(resizer, packed, picture.plane(index), part, kind, size, out);
        match picture.format() {
            PixelFormat::Rgb => Scaled::Rgb(plane(0, part, PixelType::U8x3, first)),
            PixelFormat::I420 => {
                let y = plane(0, part, PixelType::U8, first);
                let (u, v) = (plane(1, half, PixelType::U8, second), plane(2, half, PixelType::U8, third));
                Scaled::I420(ToRgb::new(picture.color()), y, u, v)
            }
            PixelFormat::Nv12 => {
                let y = plane(0, part, PixelType::U8, first);
                Scaled::Nv12(ToRgb::new(picture.color()), y, plane(1, half, PixelType::U8x2, second))
            }
        }
    }
}

/// A part of a plane at a size: read in place, strides and all; copied first only where the buffer is shorter than its rows say, or
/// its rows do not begin at whole pixels.
fn resized<'a>(
    resizer: &mut Resizer,
    packed: &mut Vec<u8>,
    plane: Plane<'a>,
    part: Part,
    kind: PixelType,
    size: (u32, u32),
    out: &'a mut Vec<u8>,
) -> Rows<'a> {
    let (bytes, w, h) = (kind.size(), part.width as usize, part.height as usize);
    let (left, row) = (part.x as usize * bytes, w * bytes);
    let start = part.y as usize * plane.stride + left;
    // The last row may end where its pixels do.
    let complete =
        h > 0 && row > 0 && left + row <= plane.stride && plane.data.len() >= start + (h - 1) * plane.stride + row;
    if (part.width, part.height) == size {
        if complete {
            return Rows { data: &plane.data[start..], stride: plane.stride, used: row };
        }
        pack(plane, part, bytes, out);
        return Rows { data: out, stride: row, used: row };
    }
    let used = size.0 as usize * bytes;
    // Each byte is written by the resampler, so none is cleared for it.
    out.resize(used * size.1 as usize, 0);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    let mut target = Image::from_slice_u8(size.0, size.1, out, kind).ok();
    let rows = (part.y as usize + h) * plane.stride;
    let whole = (complete && plane.stride.is_multiple_of(bytes) && plane.data.len() >= rows).then_some(());
    let whole =
        whole.and_then(|()| ImageRef::new((plane.stride / bytes) as u32, part.y + part.height, plane.data, kind).ok());
    // A view of the part alone: the filter must not reach what lies between rows.
    let view = whole.as_ref().and_then(|w| CroppedImage::new(w, part.x, part.y, part.width, part.height).ok());
    let done = match (&mut target, view) {
        (Some(target), Some(view)) => resizer.resize(&view, target, &options).is_ok(),
        (Some(target), None) => {
            pack(plane, part, bytes, packed);
            let source = ImageRef::new(part.width, part.height, packed, kind);
            source.is_ok_and(|source| resizer.resize(&source, target, &options).is_ok())
        }
        (None, _) => false,
    };
    debug_assert!(done, "sizes and pixel types agree by construction");
    Rows { data: out, stride: used, used }
}

/// Copies the rows of a part one after another; what a broken buffer lacks is 0 and shifts nothing.
fn pack(plane: Plane<'_>, part: Part, bytes: usize, packed: &mut Vec<u8>) {
    let row = part.width as usize * bytes;
    packed.clear();
    packed.reserve(row * part.height as usize);
    for y in 0..part.height as usize {
        let start = (part.y as usize + y) * plane.stride + part.x as usize * bytes;
        packed.extend_from_slice(plane.data.get(start..start + row).unwrap_or_default());
        packed.resize((y + 1) * row, 0);
    }
}

/// An RGB image scaled to a size.
pub fn rgb_resized(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image.clone();
    }
    let plane = Plane { data: image.as_raw(), stride: image.width() as usize * 3 };
    let all = Part { x: 0, y: 0, width: image.width(), height: image.height() };
    let (mut resizer, mut packed, mut out) = (Resizer::new(), Vec::new(), Vec::new());
    resized(&mut resizer, &mut packed, plane, all, PixelType::U8x3, (width, height), &mut out);
    RgbImage::from_raw(width, height, out).unwrap_or_else(|| RgbImage::new(width, height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::planes::Pixels;

    pub(super) struct Yuv {
        size: (u32, u32),
        planes: [Vec<u8>; 3],
        strides: [usize; 3],
    }

    impl Pixels for Yuv {
        fn format(&self) -> PixelFormat {
            PixelFormat::I420
        }
        fn size(&self) -> (u32, u32) {
            self.size
        }
        fn plane(&self, index: usize) -> Plane<'_> {
            Plane { data: &self.planes[index], stride: self.strides[index] }
        }
        fn color(&self) -> ColorMatrix {
            ColorMatrix { bt709: true, full_range: false }
        }
    }

    #[test]
    fn limited_range_black_white_and_red_come_out_right() {
        let to_rgb = ToRgb::new(ColorMatrix { bt709: true, full_range: false });
        assert_eq!(to_rgb.convert(16.0, 128.0, 128.0), [0.0; 3]);
        assert_eq!(to_rgb.convert(235.0, 128.0, 128.0), [255.0; 3]);
        // BT.709 pure red is Y 63, Cb 102, Cr 240.
        let [r, g, b] = to_rgb.convert(63.0, 102.0, 240.0);
        assert!(r > 252.0 && g < 3.0 && b < 3.0, "{r} {g} {b}");
    }

    #[test]
    fn strides_do_not_leak_into_the_picture() {
        let (w, h, stride) = (6usize, 4usize, 16usize);
        let mut y = vec![255u8; stride * h];
        (0..h).for_each(|r| y[r * stride..r * stride + w].fill(126));
        let chroma = vec![128u8; 8 * 2];
        let yuv = Yuv { size: (6, 4), planes: [y, chroma.clone(), chroma], strides: [stride, 8, 8] };
        let rgb = rgb_at(&Picture::new(yuv), 3, 2);
        assert!(rgb.pixels().all(|p| p.0.iter().all(|c| (*c as i32 - 128).abs() <= 1)), "{rgb:?}");
    }

    #[test]
    fn fits_without_enlarging() {
        assert_eq!(fitted(1920, 1080, 640), (640, 360));
        assert_eq!(fitted(320, 200, 640), (320, 200));
        assert_eq!(fitted(10000, 1, 640), (640, 1));
    }

    #[test]
    fn the_same_size_is_not_resampled() {
        let image = RgbImage::from_fn(7, 5, |x, y| image::Rgb([x as u8 * 9, y as u8 * 20, 77]));
        assert_eq!(rgb_at(&Picture::from_rgb(image.clone()), 7, 5), image);
    }
}
