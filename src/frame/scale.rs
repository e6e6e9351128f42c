//! Pictures at another size as RGB, and what sizes and colours mean. [`super::tensor`] writes a network's input instead.

use image::RgbImage;

use super::{
    planes::{ColorMatrix, Picture, Plane},
    resample::{Resampler, Sink},
};

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
    #[inline(always)]
    pub(super) fn convert(&self, y: f32, u: f32, v: f32) -> [f32; 3] {
        let (y, u, v) = ((y - self.y_offset) * self.y_scale, u - 128.0, v - 128.0);
        let (r, g, b) = (y + self.rv * v, y + self.gu * u + self.gv * v, y + self.bu * u);
        [r.clamp(0.0, 255.0), g.clamp(0.0, 255.0), b.clamp(0.0, 255.0)]
    }

    /// Rows of Y, U, V of one length become R, G, B.
    #[inline(always)]
    pub(super) fn lines(&self, [y, u, v]: [&mut [f32]; 3]) {
        for ((y, u), v) in y.iter_mut().zip(u).zip(v) {
            [*y, *u, *v] = self.convert(*y, *u, *v);
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
    pub(super) fn halved(&self) -> Self {
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
    let mut out = RgbImage::new(width, height);
    Resampler::default().run(picture, part, (width, height), Bytes { out: out.as_mut(), width: width as usize });
    out
}

/// An RGB image scaled to a size.
pub fn rgb_resized(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image.clone();
    }
    let plane = Plane { data: image.as_raw(), stride: image.width() as usize * 3 };
    let all = Part { x: 0, y: 0, width: image.width(), height: image.height() };
    let mut out = RgbImage::new(width, height);
    Resampler::default().rgb(plane, all, (width, height), Bytes { out: out.as_mut(), width: width as usize });
    out
}

/// Packs rows as bytes, in whole grey levels.
struct Bytes<'a> {
    out: &'a mut [u8],
    width: usize,
}

impl Sink for Bytes<'_> {
    #[inline(always)]
    fn row(&mut self, i: usize, [r, g, b]: [&[f32]; 3]) {
        let row = &mut self.out[i * self.width * 3..][..self.width * 3];
        for (((pixel, r), g), b) in row.as_chunks_mut::<3>().0.iter_mut().zip(r).zip(g).zip(b) {
            *pixel = [(r + 0.5) as u8, (g + 0.5) as u8, (b + 0.5) as u8];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{
        PixelFormat,
        made::{BT709, Made},
    };

    #[test]
    fn limited_range_black_white_and_red_come_out_right() {
        let to_rgb = ToRgb::new(BT709);
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
        let planes = vec![(y, stride), (chroma.clone(), 8), (chroma, 8)];
        let yuv = Made { format: PixelFormat::I420, size: (6, 4), planes, color: BT709 };
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
