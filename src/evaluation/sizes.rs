//! The detector at several input sizes: which faces are lost as they shrink, and how far off their landmarks are.
//!
//! What the detector finds with a high score at the largest size counts as the truth, so the figures say what scaling costs, not what the detector misses
//! anyway. Faces are told apart by their width in pixels of the detector's input, which is what decides. Pure.

use serde::Serialize;

use crate::face::Detection;

/// Lower edges of the bins, pixels of the detector's input.
const EDGES: [f32; 11] = [0.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 32.0, 48.0, 96.0];
/// Overlap from which a detection is the face.
const SAME_IOU: f32 = 0.4;

/// Faces of one range of widths.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Least width, pixels of the detector's input.
    pub from_px: f32,
    /// Faces looked for.
    pub faces: usize,
    /// Share found at a score above 0.5.
    pub found_at_half: f64,
    /// Share found above the wanted score.
    pub found: f64,
    /// Mean distance of the landmarks' middle from the truth's, in eye distances, of the faces found at 0.5.
    pub landmarks_off: f64,
}

/// Collects pictures.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    bins: [(usize, usize, usize, f64); EDGES.len()],
}

impl Sizes {
    /// Takes what was found (score above 0.5) in a picture that was scaled by `scale`, beside the truth; both in the picture's own pixels.
    pub fn add(&mut self, truth: &[Detection], found: &[Detection], scale: f32, min_score: f32) {
        for face in truth {
            let width = face.bbox.width() * scale;
            let Some(i) = EDGES.iter().rposition(|edge| width >= *edge) else { continue };
            let bin = &mut self.bins[i];
            bin.0 += 1;
            let same = found.iter().filter(|d| d.bbox.iou(&face.bbox) > SAME_IOU);
            let Some(best) = same.max_by(|a, b| a.score.total_cmp(&b.score)) else { continue };
            bin.1 += 1;
            bin.2 += usize::from(best.score > min_score);
            bin.3 += off(face, best);
        }
    }

    /// The bins that hold faces, narrowest first.
    pub fn bins(&self) -> Vec<Bin> {
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        let filled = EDGES.iter().zip(&self.bins).filter(|(_, b)| b.0 > 0);
        filled
            .map(|(from_px, (faces, half, found, off))| Bin {
                from_px: *from_px,
                faces: *faces,
                found_at_half: share(*half, *faces),
                found: share(*found, *faces),
                landmarks_off: off / (*half).max(1) as f64,
            })
            .collect()
    }
}

/// Mean distance of the landmarks, in eye distances of the truth.
fn off(truth: &Detection, found: &Detection) -> f64 {
    let eyes = truth.landmarks[0].distance(truth.landmarks[1]).max(1.0);
    let sum: f32 = truth.landmarks.iter().zip(&found.landmarks).map(|(a, b)| a.distance(*b)).sum();
    f64::from(sum / truth.landmarks.len() as f32 / eyes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{BBox, Point};

    fn face(x: f32, edge: f32, score: f32) -> Detection {
        let at = |fx: f32, fy: f32| Point::new(x + fx * edge, fy * edge);
        let landmarks = [at(0.25, 0.4), at(0.75, 0.4), at(0.5, 0.6), at(0.3, 0.8), at(0.7, 0.8)];
        Detection { bbox: BBox::new(x, 0.0, x + edge, edge), score, landmarks }
    }

    #[test]
    fn faces_are_counted_by_their_width_in_the_input() {
        let truth = [face(0.0, 40.0, 0.95), face(200.0, 100.0, 0.95), face(400.0, 40.0, 0.95)];
        let mut sizes = Sizes::default();
        sizes.add(&truth, &[face(0.0, 40.0, 0.6), face(205.0, 100.0, 0.9)], 0.5, 0.8);
        let bins = sizes.bins();
        assert_eq!(bins.iter().map(|b| (b.from_px, b.faces)).collect::<Vec<_>>(), [(20.0, 2), (48.0, 1)]);
        assert_eq!((bins[0].found_at_half, bins[0].found), (0.5, 0.0));
        assert!(bins[1].found == 1.0 && (bins[1].landmarks_off - 0.1).abs() < 1e-6, "{bins:?}");
        assert!(Sizes::default().bins().is_empty());
    }
}
