//! A face that the detector found, in pixels of the full frame.

use serde::{Deserialize, Serialize};

use crate::frame::{BBox, Point};

/// Five landmarks: left eye, right eye, nose, left mouth corner, right mouth corner, as seen in the picture.
pub type Landmarks = [Point; 5];

/// A detected face.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Where, in pixels of the full frame; may leave it.
    pub bbox: BBox,
    /// Detector score, 0 to 1.
    pub score: f32,
    /// Landmarks in pixels of the full frame.
    pub landmarks: Landmarks,
}

impl Detection {
    /// The same face in a picture whose origin lies elsewhere.
    pub fn moved(&self, dx: f32, dy: f32) -> Self {
        let b = self.bbox;
        Self {
            bbox: BBox::new(b.x1 + dx, b.y1 + dy, b.x2 + dx, b.y2 + dy),
            landmarks: self.landmarks.map(|p| Point::new(p.x + dx, p.y + dy)),
            ..*self
        }
    }
}
