//! Face crops from full-resolution planes, whole pictures as RGB, JPEG.

use bytes::Bytes;
use image::{RgbImage, error::EncodingError};
use jpeg_encoder::{ColorType, Encoder};

use super::{BBox, Point, Similarity, planes::Picture, scale, tensor::Recipe, warp::Warper};

/// The values of a crop as they are: R, G, B of a pixel beside each other, 0 to 255.
pub const PLAIN: Recipe = Recipe { bgr: false, interleaved: true, mean: [0.0; 3], scale: [1.0; 3] };

/// A crop of `width` x `height` pixels, channels R, G, B from 0 to 255, row by row: `to_crop` maps picture points to crop points. As
/// [`Warper::fill`], for callers who keep no buffers. Empty when the transform is degenerate.
pub fn warp(picture: &Picture, to_crop: &Similarity, width: u32, height: u32) -> Vec<f32> {
    let mut out = vec![0.0; width as usize * height as usize * 3];
    if !Warper::default().fill(picture, to_crop, (width, height), &PLAIN, false, &mut out) {
        out.clear();
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
