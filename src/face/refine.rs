//! Landmarks of a face that the detector saw small, found again in a close-up.
//!
//! A face of 18 pixels in the detector's input may have 60 in the frame: its landmarks are then off by a sixth of the eye distance, and the
//! crop that is embedded is aligned by them. [`Closeup`] cuts the face out at a resolution at which the detector places landmarks well;
//! [`Closeup::landmarks`] brings what it finds there back into the frame. Pure; docs/small-faces.md has the figures.

use super::{Detection, Landmarks};
use crate::frame::{BBox, Picture, Point, Similarity, crop, tensor::Recipe, warp::Warper};

/// Edge of the close-up, pixels: the face takes half of it.
pub const EDGE: u32 = 128;
/// Faces at least so wide in the detector's input need no close-up: above it nothing was gained.
const WIDE_ENOUGH_PX: f32 = 28.0;
/// The frame must hold so many times the resolution of the detector's input, or a close-up shows nothing new.
const LEAST_RESOLUTION: f32 = 1.4;
/// The face found must overlap the one looked for so much, or it is another.
const LEAST_IOU: f32 = 0.3;
/// Least detector score in the close-up.
pub const MIN_SCORE: f32 = 0.3;

/// A close-up of a face: how the frame maps to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Closeup {
    to_crop: Similarity,
    sought: BBox,
}

impl Closeup {
    /// The close-up of a detection that was made on the frame scaled by `scale` (at most 1); `None` where it would bring nothing.
    pub fn of(detection: &Detection, scale: f32) -> Option<Self> {
        let width = detection.bbox.width();
        let finite =
            [detection.bbox.x1, detection.bbox.y1, detection.bbox.x2, detection.bbox.y2].iter().all(|v| v.is_finite());
        if !finite || width < 1.0 || width * scale >= WIDE_ENOUGH_PX || scale * LEAST_RESOLUTION > 1.0 {
            return None;
        }
        let (center, edge) = (detection.bbox.center(), width.max(detection.bbox.height()));
        let square = BBox::new(center.x - edge, center.y - edge, center.x + edge, center.y + edge);
        Some(Self { to_crop: crop::box_transform(&square, EDGE, EDGE), sought: detection.bbox })
    }

    /// Its pixels, `EDGE` x `EDGE`, black beyond the frame, into their place of a tensor.
    pub fn fill(&self, warper: &mut Warper, picture: &Picture, recipe: &Recipe, place: &mut [f32]) {
        warper.fill(picture, &self.to_crop, (EDGE, EDGE), recipe, false, place);
    }

    /// Landmarks in the frame from what was found in the close-up; `None` when the face was not found again.
    pub fn landmarks(&self, found: &[Detection]) -> Option<Landmarks> {
        let back = self.to_crop.inverse()?;
        // Boxes count edges of pixels, the transform their centres: half a pixel of the frame matters to no overlap.
        let in_frame = |d: &Detection| {
            let (a, b) = (back.apply(Point::new(d.bbox.x1, d.bbox.y1)), back.apply(Point::new(d.bbox.x2, d.bbox.y2)));
            BBox::new(a.x, a.y, b.x, b.y)
        };
        let same = found.iter().filter(|d| in_frame(d).iou(&self.sought) >= LEAST_IOU);
        let best = same.max_by(|a, b| a.score.total_cmp(&b.score))?;
        let landmarks = best.landmarks.map(|p| back.apply(p));
        landmarks.iter().all(|p| p.x.is_finite() && p.y.is_finite()).then_some(landmarks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(x: f32, y: f32, edge: f32) -> Detection {
        let at = |fx: f32, fy: f32| Point::new(x + fx * edge, y + fy * edge);
        let landmarks = [at(0.3, 0.4), at(0.7, 0.4), at(0.5, 0.6), at(0.35, 0.8), at(0.65, 0.8)];
        Detection { bbox: BBox::new(x, y, x + edge, y + edge), score: 0.9, landmarks }
    }

    #[test]
    fn only_small_faces_of_large_frames_get_a_closeup() {
        assert!(Closeup::of(&detection(100.0, 100.0, 60.0), 1.0 / 3.0).is_some());
        assert!(Closeup::of(&detection(100.0, 100.0, 90.0), 1.0 / 3.0).is_none(), "30 px in the input are enough");
        assert!(Closeup::of(&detection(100.0, 100.0, 20.0), 0.9).is_none(), "the frame shows no more");
        for broken in [f32::NAN, f32::INFINITY, 0.0] {
            assert!(Closeup::of(&detection(100.0, 100.0, broken), 0.2).is_none());
        }
    }

    #[test]
    fn landmarks_come_back_into_the_frame() {
        let face = detection(100.0, 40.0, 60.0);
        let closeup = Closeup::of(&face, 0.25).unwrap();
        // What a perfect detector finds in the close-up: twice the face, so 64 of 128 pixels are the face.
        let to = |p: Point| closeup.to_crop.apply(p);
        let (a, b) = (to(Point::new(100.0, 40.0)), to(Point::new(160.0, 100.0)));
        assert!((b.x - a.x - 64.0).abs() < 0.1, "{a:?} {b:?}");
        let seen = Detection { bbox: BBox::new(a.x, a.y, b.x, b.y), score: 0.8, landmarks: face.landmarks.map(to) };
        let elsewhere = Detection { bbox: BBox::new(0.0, 0.0, 20.0, 20.0), score: 0.99, ..seen };
        let found = closeup.landmarks(&[elsewhere, seen]).unwrap();
        for (p, q) in found.iter().zip(&face.landmarks) {
            assert!(p.distance(*q) < 1e-3, "{p:?} {q:?}");
        }
        assert_eq!(closeup.landmarks(&[elsewhere]), None);
        let lost = Detection { landmarks: [Point::new(f32::NAN, 0.0); 5], ..seen };
        assert_eq!(closeup.landmarks(&[lost]), None);
    }

    #[test]
    fn the_pixels_are_those_of_the_face() {
        let image = image::RgbImage::from_fn(200, 200, |x, y| {
            image::Rgb([if (100..160).contains(&x) && (40..100).contains(&y) { 200 } else { 10 }; 3])
        });
        let mut pixels = vec![f32::NAN; (EDGE * EDGE * 3) as usize];
        let closeup = Closeup::of(&detection(100.0, 40.0, 60.0), 0.25).unwrap();
        closeup.fill(&mut Warper::default(), &Picture::from_rgb(image), &crop::PLAIN, &mut pixels);
        let at = |x: usize, y: usize| pixels[(y * EDGE as usize + x) * 3];
        assert!(at(64, 64) == 200.0 && at(36, 36) == 200.0 && at(20, 64) == 10.0 && at(64, 110) == 10.0);
    }
}
