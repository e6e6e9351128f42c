//! Makes a face in a picture unrecognisable.

use image::{
    RgbImage,
    imageops::{self, FilterType},
};

use super::BBox;

/// Colours that are left across a face; four do not tell eyes from a mouth.
const BLOCKS: u32 = 4;
/// Hair and chin are beside the detector's box.
const GROWN: f32 = 1.25;

/// Replaces a face by a smooth patch of 4 x 4 mean colours. A box that leaves the picture is cut, one beside it does nothing.
pub fn blur(image: &mut RgbImage, face: &BBox) {
    let area = face.grown(GROWN);
    let edge = |value: f32, most: u32| if value.is_finite() { (value.max(0.0) as u32).min(most) } else { 0 };
    let (x1, y1) = (edge(area.x1.floor(), image.width()), edge(area.y1.floor(), image.height()));
    let (x2, y2) = (edge(area.x2.ceil(), image.width()), edge(area.y2.ceil(), image.height()));
    if x2 <= x1 || y2 <= y1 {
        return;
    }
    let face = imageops::crop_imm(image, x1, y1, x2 - x1, y2 - y1).to_image();
    let means = imageops::resize(&face, BLOCKS.min(x2 - x1), BLOCKS.min(y2 - y1), FilterType::Triangle);
    let patch = imageops::resize(&means, x2 - x1, y2 - y1, FilterType::Triangle);
    imageops::replace(image, &patch, i64::from(x1), i64::from(y1));
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn a_face_loses_its_detail_and_the_rest_keeps_it() {
        let checks =
            |x: u32, y: u32| if (x / 2 + y / 2).is_multiple_of(2) { Rgb([255, 255, 255]) } else { Rgb([0, 0, 0]) };
        let before = RgbImage::from_fn(200, 100, checks);
        let mut image = before.clone();
        blur(&mut image, &BBox::new(100.0, 30.0, 140.0, 70.0));
        let inside: Vec<u8> = (105..135).map(|x| image.get_pixel(x, 50).0[0]).collect();
        assert!(inside.iter().all(|v| (90..=165).contains(v)), "the pattern is still seen: {inside:?}");
        for (x, y) in [(90, 50), (150, 50), (120, 20), (120, 80), (0, 0)] {
            assert_eq!(image.get_pixel(x, y), before.get_pixel(x, y));
        }
    }

    #[test]
    fn odd_boxes_do_no_harm() {
        let mut image = RgbImage::new(20, 10);
        for face in [
            BBox::new(-50.0, -50.0, 500.0, 500.0),
            BBox::new(30.0, 0.0, 40.0, 5.0),
            BBox::new(5.0, 5.0, 5.2, 5.2),
            BBox::new(9.0, 9.0, 1.0, 1.0),
            BBox::new(f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3.0),
        ] {
            blur(&mut image, &face);
        }
        blur(&mut RgbImage::new(0, 0), &BBox::new(0.0, 0.0, 1.0, 1.0));
    }
}
