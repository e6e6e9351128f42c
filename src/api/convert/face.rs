//! Faces and matches on the wire.

use crate::{
    event::{EventMatch, NamedPerson},
    face::{Detection, Quality},
    identity::{NearFace, Route, ThresholdSource, WhyCode},
    pipeline::fleet::FaceAnswer,
    proto::v1,
};

/// A detection with its quality and, where it was asked for, its liveness.
pub fn detected(d: &Detection, quality: f32, size_px: f32, liveness: Option<f32>) -> v1::DetectedFace {
    let b = d.bbox;
    v1::DetectedFace {
        bbox: Some(v1::BoundingBox { x1: b.x1, y1: b.y1, x2: b.x2, y2: b.y2 }),
        score: d.score,
        landmarks: d.landmarks.iter().map(|p| v1::Point { x: p.x, y: p.y }).collect(),
        quality,
        size_px,
        liveness,
    }
}

/// A measured detection.
pub fn measured((d, q): &(Detection, Quality)) -> v1::DetectedFace {
    detected(d, q.value, q.size_px, q.liveness)
}

/// The answer to "who is it".
pub fn matched(m: &EventMatch) -> v1::Match {
    let person = m.person.as_ref();
    let name = person.map(|p| format!("people/{}", p.id)).unwrap_or_default();
    let near =
        |near: &NearFace| v1::NearFace { face: format!("{name}/faces/{}", near.face), similarity: near.similarity };
    // A face has no name without its person.
    let near_faces = person.map(|_| m.basis.faces.iter().map(near).collect()).unwrap_or_default();
    v1::Match {
        display_name: person.map(|p| p.display_name.clone()).unwrap_or_default(),
        similarity: m.similarity,
        margin: m.margin,
        threshold: m.threshold,
        confidence: m.confidence,
        reason: m.reason.clone(),
        near_faces,
        runner_up_similarity: m.basis.runner_up,
        threshold_source: source(m.basis.source).into(),
        unknown_reason: m.code.map(|code| v1::UnknownReason {
            code: reason(code).into(),
            value: m.value,
            needed: m.needed,
        }),
        route: route(m.basis.route).into(),
        classifier_lead: m.basis.lead,
        person: name,
    }
}

fn source(source: ThresholdSource) -> v1::ThresholdSource {
    match source {
        ThresholdSource::Unknown => v1::ThresholdSource::Unspecified,
        ThresholdSource::Model => v1::ThresholdSource::Model,
        ThresholdSource::Config => v1::ThresholdSource::Config,
        ThresholdSource::Calibrated => v1::ThresholdSource::Calibrated,
        ThresholdSource::Camera => v1::ThresholdSource::Camera,
        ThresholdSource::Request => v1::ThresholdSource::Request,
        ThresholdSource::Person => v1::ThresholdSource::Person,
    }
}

/// What chose.
pub fn route(route: Route) -> v1::DecisionRoute {
    match route {
        Route::Similarity => v1::DecisionRoute::Similarity,
        Route::Classifier => v1::DecisionRoute::Classifier,
    }
}

fn reason(code: WhyCode) -> v1::UnknownReasonCode {
    match code {
        WhyCode::EmptyGallery => v1::UnknownReasonCode::EmptyGallery,
        WhyCode::BelowThreshold => v1::UnknownReasonCode::BelowThreshold,
        WhyCode::RunnerUpTooClose => v1::UnknownReasonCode::RunnerUpTooClose,
        WhyCode::NegativeExemplar => v1::UnknownReasonCode::NegativeExemplar,
        WhyCode::OtherFaceOfPicture => v1::UnknownReasonCode::OtherFaceOfPicture,
        WhyCode::TooSmall => v1::UnknownReasonCode::TooSmall,
        WhyCode::TooBlurred => v1::UnknownReasonCode::TooBlurred,
        WhyCode::TurnedAway => v1::UnknownReasonCode::TurnedAway,
        WhyCode::EyesHidden => v1::UnknownReasonCode::EyesHidden,
        WhyCode::MouthHidden => v1::UnknownReasonCode::MouthHidden,
        WhyCode::OverExposed => v1::UnknownReasonCode::OverExposed,
        WhyCode::TooFewLooks => v1::UnknownReasonCode::TooFewLooks,
        WhyCode::NoLook => v1::UnknownReasonCode::NoLook,
        WhyCode::Erased => v1::UnknownReasonCode::Erased,
        WhyCode::TakenBack => v1::UnknownReasonCode::TakenBack,
    }
}

/// A face with its answer.
pub fn identified(answer: &FaceAnswer) -> v1::IdentifiedFace {
    v1::IdentifiedFace {
        face: Some(measured(&(answer.detection, answer.quality))),
        r#match: Some(matched(&EventMatch::of(&answer.decision, answer.person.clone().map(NamedPerson::from)))),
    }
}
