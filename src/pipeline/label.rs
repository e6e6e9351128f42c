//! How faces are marked in pictures that the server draws.

use crate::{face::Detection, frame::annotate::Mark};

/// JPEG quality of drawn pictures, 1 to 100.
pub(super) const JPEG_QUALITY: u8 = 88;

/// Box, landmarks and a label such as `Anna 97%` or `unknown`.
pub(super) fn mark(detection: &Detection, name: Option<&str>, confidence: f32) -> Mark {
    Mark {
        bbox: detection.bbox,
        landmarks: Some(detection.landmarks),
        label: match name {
            Some(name) => format!("{name} {:.0}%", (confidence * 100.0).floor()),
            None => "unknown".into(),
        },
        known: name.is_some(),
    }
}

/// The mark for a picture scaled by `scale`.
pub(super) fn scaled(mut mark: Mark, scale: f32) -> Mark {
    let b = &mut mark.bbox;
    (b.x1, b.y1, b.x2, b.y2) = (b.x1 * scale, b.y1 * scale, b.x2 * scale, b.y2 * scale);
    if let Some(landmarks) = &mut mark.landmarks {
        for p in landmarks {
            (p.x, p.y) = (p.x * scale, p.y * scale);
        }
    }
    mark
}
