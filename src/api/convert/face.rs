//! Faces and matches on the wire.

use crate::{
    face::{Detection, Quality},
    identity::{Decision, Person},
    pipeline::fleet::FaceAnswer,
    proto::v1,
};

/// A detection with its quality.
pub fn detected(d: &Detection, quality: f32, size_px: f32) -> v1::DetectedFace {
    let b = d.bbox;
    v1::DetectedFace {
        bbox: Some(v1::BoundingBox { x1: b.x1, y1: b.y1, x2: b.x2, y2: b.y2 }),
        score: d.score,
        landmarks: d.landmarks.iter().map(|p| v1::Point { x: p.x, y: p.y }).collect(),
        quality,
        size_px,
    }
}

/// A measured detection.
pub fn measured((d, q): &(Detection, Quality)) -> v1::DetectedFace {
    detected(d, q.value, q.size_px)
}

/// The answer to "who is it".
pub fn matched(decision: &Decision, person: Option<&Person>) -> v1::Match {
    v1::Match {
        person: person.map(|p| format!("people/{}", p.id)).unwrap_or_default(),
        display_name: person.map(|p| p.display_name.clone()).unwrap_or_default(),
        similarity: decision.similarity,
        margin: decision.margin,
        threshold: decision.threshold,
        confidence: decision.confidence,
        reason: decision.reason().unwrap_or_default().to_owned(),
    }
}

/// A face with its answer.
pub fn identified(answer: &FaceAnswer) -> v1::IdentifiedFace {
    v1::IdentifiedFace {
        face: Some(detected(&answer.detection, answer.quality.value, answer.quality.size_px)),
        r#match: Some(matched(&answer.decision, answer.person.as_ref())),
    }
}
