//! Pixels → detector input: scaled once, colour converted at the small size, normalised.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
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
    let half = part.halved();
    match picture.format() {
        PixelFormat::Rgb => {
            let rgb = resized(picture.plane(0), part, PixelType::U8x3, (width, height));
            RgbImage::from_raw(width, height, rgb).unwrap_or_else(|| RgbImage::new(width, height))
        }
        PixelFormat::I420 => {
            let y = resized(picture.plane(0), part, PixelType::U8, (width, height));
            let u = resized(picture.plane(1), half, PixelType::U8, (width, height));
            let v = resized(picture.plane(2), half, PixelType::U8, (width, height));
            joined(ToRgb::new(picture.color()), width, height, &y, u.iter().copied().zip(v.iter().copied()))
        }
        PixelFormat::Nv12 => {
            let y = resized(picture.plane(0), part, PixelType::U8, (width, height));
            let uv = resized(picture.plane(1), half, PixelType::U8x2, (width, height));
            joined(ToRgb::new(picture.color()), width, height, &y, uv.chunks_exact(2).map(|c| (c[0], c[1])))
        }
    }
}

fn joined(to_rgb: ToRgb, width: u32, height: u32, y: &[u8], uv: impl Iterator<Item = (u8, u8)>) -> RgbImage {
    let mut out = RgbImage::new(width, height);
    for ((pixel, y), (u, v)) in out.as_mut().chunks_exact_mut(3).zip(y).zip(uv) {
        let rgb = to_rgb.convert(f32::from(*y), f32::from(u), f32::from(v));
        pixel.copy_from_slice(&rgb.map(|c| (c + 0.5) as u8));
    }
    out
}

/// A part of a plane scaled with a triangle filter wide enough not to alias (area-like when it shrinks); packed rows.
fn resized(plane: Plane<'_>, part: Part, kind: PixelType, (dw, dh): (u32, u32)) -> Vec<u8> {
    let (bytes, w, h) = (kind.size(), part.width, part.height);
    let row = w as usize * bytes;
    let mut packed = Vec::with_capacity(row * h as usize);
    for y in 0..h as usize {
        let start = (part.y as usize + y) * plane.stride + part.x as usize * bytes;
        let line = plane.data.get(start..start + row).unwrap_or_default();
        packed.extend_from_slice(line);
        // A short last row of a broken buffer must not shift anything.
        packed.resize((y + 1) * row, 0);
    }
    if (w, h) == (dw, dh) {
        return packed;
    }
    let mut out = Image::new(dw, dh, kind);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    let done = ImageRef::new(w, h, &packed, kind).ok().map(|src| Resizer::new().resize(&src, &mut out, &options));
    debug_assert!(matches!(done, Some(Ok(()))), "sizes and pixel types agree by construction");
    out.into_vec()
}

/// An RGB image scaled to a size.
pub fn rgb_resized(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let plane = Plane { data: image.as_raw(), stride: image.width() as usize * 3 };
    let all = Part { x: 0, y: 0, width: image.width(), height: image.height() };
    let rgb = resized(plane, all, PixelType::U8x3, (width, height));
    RgbImage::from_raw(width, height, rgb).unwrap_or_else(|| RgbImage::new(width, height))
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
