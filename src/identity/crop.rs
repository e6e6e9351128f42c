//! The picture of an enrolled face that is kept, so that another model can embed it later.

use bytes::Bytes;

use crate::{
    face::Detection,
    frame::{
        BBox, Picture, Point, crop,
        still::{self, StillError, StillLimits},
    },
};

/// Edge of the crop in sizes of the face's longer edge: what any aligned or boxed crop of the face reaches into, turned by up to 45 degrees.
const REACH: f32 = 2.0;
/// Longest edge that is kept, pixels: the face itself has half of it, more than embedders look at.
pub const MAX_EDGE_PX: u32 = 512;
/// JPEG quality: what it loses is less than a step of the decoder's rounding in most pixels.
const JPEG_QUALITY: u8 = 95;
/// A crop as it is read back: our own, so small.
const LIMITS: StillLimits = StillLimits { bytes: 4 << 20, pixels: 4 << 20 };

/// An upright cut around a face at the picture's own resolution, the longer edge at most [`MAX_EDGE_PX`].
#[derive(Debug, Clone, PartialEq)]
pub struct FaceCrop {
    /// JPEG.
    pub jpeg: Bytes,
    /// The face in the crop's pixels.
    pub detection: Detection,
}

impl FaceCrop {
    /// Cuts a face out of a picture. What lies beyond the picture is left out; it is black for every alignment either way.
    ///
    /// # Errors
    /// When the crop can't be encoded.
    pub fn cut(picture: &Picture, detection: &Detection) -> Result<Self, StillError> {
        let b = &detection.bbox;
        let (c, half) = (b.center(), b.width().max(b.height()) * REACH / 2.0);
        let (mut image, corner) = crop::cut_out(picture, &BBox::new(c.x - half, c.y - half, c.x + half, c.y + half));
        let mut detection = detection.moved(-corner.x, -corner.y);
        let longer = image.width().max(image.height());
        if longer > MAX_EDGE_PX {
            let size = |edge: u32| (u64::from(edge) * u64::from(MAX_EDGE_PX) / u64::from(longer)).max(1) as u32;
            let (width, height) = (size(image.width()), size(image.height()));
            let scale = (width as f32 / image.width() as f32, height as f32 / image.height() as f32);
            image = crop::resized(&image, width, height);
            detection = scaled(&detection, scale);
        }
        let jpeg = crop::jpeg(&image, JPEG_QUALITY).map_err(|e| StillError::NotAPicture(e.to_string()))?;
        Ok(Self { jpeg, detection })
    }

    /// The pixels.
    ///
    /// # Errors
    /// When the bytes are no picture: damaged data.
    pub fn picture(&self) -> Result<Picture, StillError> {
        still::decode(&self.jpeg, &LIMITS)
    }
}

/// A detection in a picture scaled by `sx`, `sy`. Landmarks count pixel centres, so the half pixel is scaled with them.
fn scaled(d: &Detection, (sx, sy): (f32, f32)) -> Detection {
    let b = d.bbox;
    Detection {
        bbox: BBox::new(b.x1 * sx, b.y1 * sy, b.x2 * sx, b.y2 * sy),
        landmarks: d.landmarks.map(|p| Point::new((p.x + 0.5) * sx - 0.5, (p.y + 0.5) * sy - 0.5)),
        ..*d
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    fn face(x: f32, y: f32, size: f32) -> Detection {
        let at = |u: f32, v: f32| Point::new(x + u * size, y + v * size);
        Detection {
            bbox: BBox::new(x, y, x + size, y + size),
            score: 0.9,
            landmarks: [at(0.3, 0.4), at(0.7, 0.4), at(0.5, 0.6), at(0.35, 0.8), at(0.65, 0.8)],
        }
    }

    /// A red dot of 9 pixels where the first landmark is.
    fn dotted(width: u32, height: u32, detection: &Detection, dot: f32) -> Picture {
        let p = detection.landmarks[0];
        Picture::from_rgb(RgbImage::from_fn(width, height, |x, y| {
            let near = (x as f32 - p.x).abs() <= dot && (y as f32 - p.y).abs() <= dot;
            if near { image::Rgb([250, 20, 20]) } else { image::Rgb([60, 120, 60]) }
        }))
    }

    fn red_at(crop: &FaceCrop) -> bool {
        let p = crop.detection.landmarks[0];
        let image = image::load_from_memory(&crop.jpeg).unwrap().into_rgb8();
        image.get_pixel(p.x.round() as u32, p.y.round() as u32).0[0] > 200
    }

    #[test]
    fn landmarks_stay_on_the_face_at_its_own_resolution() {
        let detection = face(100.0, 80.0, 60.0);
        let crop = FaceCrop::cut(&dotted(400, 300, &detection, 4.0), &detection).unwrap();
        let picture = crop.picture().unwrap();
        assert_eq!((picture.width(), picture.height()), (120, 120));
        assert!(red_at(&crop));
        assert_eq!(crop.detection.bbox.width(), 60.0);
    }

    #[test]
    fn large_faces_are_scaled_down_and_faces_at_the_border_are_clipped() {
        let detection = face(1000.0, 900.0, 600.0);
        let crop = FaceCrop::cut(&dotted(3000, 2500, &detection, 20.0), &detection).unwrap();
        let picture = crop.picture().unwrap();
        assert_eq!((picture.width(), picture.height()), (512, 512));
        assert!(red_at(&crop) && (crop.detection.bbox.width() - 256.0).abs() < 1.0);
        let detection = face(-20.0, -10.0, 60.0);
        let crop = FaceCrop::cut(&dotted(200, 200, &detection, 3.0), &detection).unwrap();
        let picture = crop.picture().unwrap();
        assert_eq!((picture.width(), picture.height()), (70, 80));
        assert_eq!(crop.detection.bbox.x1, -20.0);
    }
}
