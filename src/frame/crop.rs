//! Face crops from full-resolution planes, whole pictures as RGB, JPEG.

use bytes::Bytes;
use image::{RgbImage, error::EncodingError};
use jpeg_encoder::{ColorType, Encoder};

use super::{
    BBox, Point, Similarity,
    planes::{Picture, PixelFormat, Plane},
    scale::{self, ToRgb},
};

/// Samples a picture at real coordinates; integers are pixel centres, outside is black.
struct Sampler<'a> {
    planes: [Plane<'a>; 3],
    format: PixelFormat,
    size: (u32, u32),
    to_rgb: ToRgb,
}

impl<'a> Sampler<'a> {
    fn new(picture: &'a Picture) -> Self {
        let format = picture.format();
        let second = if format == PixelFormat::Rgb { 0 } else { 1 };
        let third = if format == PixelFormat::I420 { 2 } else { second };
        Self {
            planes: [picture.plane(0), picture.plane(second), picture.plane(third)],
            format,
            size: (picture.width(), picture.height()),
            to_rgb: ToRgb::new(picture.color()),
        }
    }

    /// One channel, bilinear; `outside` is the value beyond the border.
    #[inline]
    fn at(&self, plane: usize, (step, offset): (usize, usize), size: (u32, u32), x: f32, y: f32, outside: f32) -> f32 {
        let p = &self.planes[plane];
        // Truncation is the floor from 0 on, and four neighbours inside need no questions: nearly every sample of a face.
        let (xi, yi) = (x as i32, y as i32);
        if x >= 0.0 && y >= 0.0 && xi + 1 < size.0 as i32 && yi + 1 < size.1 as i32 {
            let (fx, fy) = (x - xi as f32, y - yi as f32);
            let above = yi as usize * p.stride + xi as usize * step + offset;
            let rows = (p.data.get(above..=above + step), p.data.get(above + p.stride..=above + p.stride + step));
            if let (Some(a), Some(b)) = rows {
                let across = |row: &[u8]| f32::from(row[0]) * (1.0 - fx) + f32::from(row[row.len() - 1]) * fx;
                return across(a) * (1.0 - fy) + across(b) * fy;
            }
        }
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = (x - x0, y - y0);
        let get = |xi: f32, yi: f32| -> f32 {
            if xi < 0.0 || yi < 0.0 || xi >= size.0 as f32 || yi >= size.1 as f32 {
                return outside;
            }
            let index = yi as usize * p.stride + xi as usize * step + offset;
            p.data.get(index).map_or(outside, |v| f32::from(*v))
        };
        let top = get(x0, y0) * (1.0 - fx) + get(x0 + 1.0, y0) * fx;
        let bottom = get(x0, y0 + 1.0) * (1.0 - fx) + get(x0 + 1.0, y0 + 1.0) * fx;
        top * (1.0 - fy) + bottom * fy
    }

    fn rgb(&self, x: f32, y: f32) -> [f32; 3] {
        if self.format == PixelFormat::Rgb {
            return [0, 1, 2].map(|c| self.at(0, (3, c), self.size, x, y, 0.0));
        }
        let luma_inside = x > -1.0 && y > -1.0 && x < self.size.0 as f32 && y < self.size.1 as f32;
        if !luma_inside {
            return [0.0; 3];
        }
        let chroma = (self.size.0.div_ceil(2), self.size.1.div_ceil(2));
        // Chroma is sited between two rows and, as MPEG-2 does, on every second column; the border repeats.
        let (cx, cy) = (x / 2.0, (y - 0.5) / 2.0);
        let (cx, cy) = (cx.clamp(0.0, chroma.0 as f32 - 1.0), cy.clamp(0.0, chroma.1 as f32 - 1.0));
        let luma = self.at(0, (1, 0), self.size, x, y, 16.0);
        let (u, v) = if self.format == PixelFormat::I420 {
            (self.at(1, (1, 0), chroma, cx, cy, 128.0), self.at(2, (1, 0), chroma, cx, cy, 128.0))
        } else {
            (self.at(1, (2, 0), chroma, cx, cy, 128.0), self.at(1, (2, 1), chroma, cx, cy, 128.0))
        };
        self.to_rgb.convert(luma, u, v)
    }
}

/// A crop of `width` x `height` pixels, channels R, G, B from 0 to 255, row by row: `to_crop` maps picture points to crop points.
///
/// Bilinear, black beyond the border, as `cv2.warpAffine` does it. Where the crop shrinks the face by more than two, each pixel is
/// the mean of several samples, so that nothing aliases. Empty when the transform is degenerate.
pub fn warp(picture: &Picture, to_crop: &Similarity, width: u32, height: u32) -> Vec<f32> {
    let mut out = Vec::with_capacity(width as usize * height as usize * 3);
    let Some(to_picture) = to_crop.inverse() else { return out };
    let sampler = Sampler::new(picture);
    let shrink = to_picture.scale();
    let samples = if shrink > 2.0 { (shrink.ceil() as u32).min(8) } else { 1 };
    let weight = 1.0 / (samples * samples) as f32;
    let offset = |i: u32| (i as f32 + 0.5) / samples as f32 - 0.5;
    for v in 0..height {
        for u in 0..width {
            let mut sum = [0f32; 3];
            for j in 0..samples {
                for i in 0..samples {
                    let p = to_picture.apply(Point::new(u as f32 + offset(i), v as f32 + offset(j)));
                    let rgb = sampler.rgb(p.x, p.y);
                    sum.iter_mut().zip(rgb).for_each(|(s, c)| *s += c * weight);
                }
            }
            out.extend_from_slice(&sum);
        }
    }
    out
}

/// The upright transform that maps a box to a crop of `width` x `height` (the box is made to its shape around its centre).
pub fn box_transform(bbox: &BBox, width: u32, height: u32) -> Similarity {
    let scale = (width as f32 / bbox.width().max(1.0)).min(height as f32 / bbox.height().max(1.0));
    let c = bbox.center();
    // Box edges are edges of pixels, sampling counts from their centres.
    Similarity {
        a: scale,
        b: 0.0,
        tx: (width as f32 - 1.0) / 2.0 - scale * (c.x - 0.5),
        ty: (height as f32 - 1.0) / 2.0 - scale * (c.y - 0.5),
    }
}

/// The part of a picture under a box, clipped to the picture, with its left and top edge in the picture's pixels.
pub fn cut_out(picture: &Picture, bbox: &BBox) -> (RgbImage, Point) {
    let inside = bbox.clipped(picture.width(), picture.height());
    let (x, y) = (inside.x1.floor(), inside.y1.floor());
    let edge = |from: f32, to: f32| (to.ceil() - from).max(1.0) as u32;
    let (width, height) = (edge(x, inside.x2), edge(y, inside.y2));
    let moved = Similarity { a: 1.0, b: 0.0, tx: -x, ty: -y };
    let rgb = warp(picture, &moved, width, height).into_iter().map(|v| (v + 0.5) as u8).collect();
    let image = RgbImage::from_raw(width, height, rgb).unwrap_or_else(|| RgbImage::new(width, height));
    (image, Point::new(x, y))
}

/// The whole picture as RGB.
pub fn to_rgb(picture: &Picture) -> RgbImage {
    scale::rgb_at(picture, picture.width(), picture.height())
}

/// The whole picture as RGB with a longer side of at most `side` pixels (0: its own size), and the factor it was scaled by. Colours are
/// converted at the small size.
pub fn to_rgb_within(picture: &Picture, side: u32) -> (RgbImage, f32) {
    let longer = picture.width().max(picture.height());
    if side == 0 || longer <= side {
        return (to_rgb(picture), 1.0);
    }
    let (width, height) = scale::fitted(picture.width(), picture.height(), side);
    (scale::rgb_at(picture, width, height), side as f32 / longer as f32)
}

/// A picture scaled to a size.
pub fn resized(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    scale::rgb_resized(image, width, height)
}

/// JPEG of `quality` 1 to 100.
///
/// # Errors
/// When the picture is larger than JPEG allows (65535 pixels an edge).
pub fn jpeg(image: &RgbImage, quality: u8) -> Result<Bytes, image::ImageError> {
    let fail = |error: Box<dyn std::error::Error + Send + Sync>| {
        image::ImageError::Encoding(EncodingError::new(image::ImageFormat::Jpeg.into(), error))
    };
    let edge = |edge: u32| u16::try_from(edge).map_err(|e| fail(e.into()));
    let (width, height) = (edge(image.width())?, edge(image.height())?);
    let mut out = Vec::new();
    Encoder::new(&mut out, quality.clamp(1, 100))
        .encode(image.as_raw(), width, height, ColorType::Rgb)
        .map_err(|e| fail(e.into()))?;
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient() -> Picture {
        Picture::from_rgb(RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8 * 3, y as u8 * 4, 100])))
    }

    #[test]
    fn the_identity_copies_pixels() {
        let same = Similarity { a: 1.0, b: 0.0, tx: 0.0, ty: 0.0 };
        let crop = warp(&gradient(), &same, 10, 10);
        let at = |x: usize, y: usize| &crop[(y * 10 + x) * 3..][..3];
        assert_eq!(at(0, 0), [0.0, 0.0, 100.0]);
        assert_eq!(at(7, 3), [21.0, 12.0, 100.0]);
    }

    #[test]
    fn beyond_the_border_is_black() {
        let far = Similarity { a: 1.0, b: 0.0, tx: -1000.0, ty: 0.0 };
        assert!(warp(&gradient(), &far, 8, 8).iter().all(|c| *c == 0.0));
        let nothing = Similarity { a: 0.0, b: 0.0, tx: 0.0, ty: 0.0 };
        assert!(warp(&gradient(), &nothing, 8, 8).is_empty());
    }

    #[test]
    fn a_part_is_cut_out_where_it_is() {
        let (part, corner) = cut_out(&gradient(), &BBox::new(10.4, -5.0, 20.2, 8.0));
        assert_eq!((part.dimensions(), corner), ((11, 8), Point::new(10.0, 0.0)));
        assert_eq!(part.get_pixel(2, 3).0, [36, 12, 100]);
        let (nothing, _) = cut_out(&gradient(), &BBox::new(500.0, 500.0, 600.0, 600.0));
        assert_eq!(nothing.dimensions(), (1, 1));
    }

    #[test]
    fn a_box_fills_its_crop() {
        let t = box_transform(&BBox::new(10.0, 20.0, 30.0, 40.0), 40, 40);
        let p = t.apply(Point::new(9.5, 19.5));
        assert!((p.x + 0.5).abs() < 1e-3 && (p.y + 0.5).abs() < 1e-3, "{p:?}");
    }

    #[test]
    fn jpeg_round_trip_keeps_the_size() {
        let bytes = jpeg(&to_rgb(&gradient()), 90).unwrap();
        let back = image::load_from_memory(&bytes).unwrap();
        assert_eq!((back.width(), back.height()), (64, 48));
    }
}
