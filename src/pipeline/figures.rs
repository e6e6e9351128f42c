//! What the events of an appearance say about how well faces are recognised, as metrics: figures and reasons, never who.

use crate::{
    event::{EventKind, EventMatch, NewEvent},
    identity::WhyCode,
    telemetry::{self, Match, Outcome, Seen},
};

/// Counts what an event says about its appearance. APPEARED says nothing yet, and LEFT only that nothing was said.
pub(super) fn count(event: &NewEvent) {
    let Some(outcome) = outcome(event) else { return };
    telemetry::decided(&event.camera, outcome);
    if outcome != Outcome::Undecided && event.face.is_some() {
        let seen = Seen { size_px: event.face_size_px, quality: event.quality, looks: event.looks };
        telemetry::seen(&event.camera, seen);
    }
}

fn outcome(event: &NewEvent) -> Option<Outcome> {
    let told = event.matched.as_ref();
    match event.kind {
        EventKind::Recognized => told.map(|m| Outcome::Named(figures(m))),
        EventKind::Unknown => {
            let m = told?;
            let reason = m.code.map_or("", WhyCode::as_str);
            Some(Outcome::Unknown { reason, best: compared(m.code).then_some(m.similarity) })
        }
        EventKind::Corrected => Some(Outcome::Corrected(told.filter(|m| m.person.is_some()).map(figures))),
        EventKind::Left => told.is_none().then_some(Outcome::Undecided),
        EventKind::Appeared | EventKind::CameraState => None,
    }
}

fn figures(m: &EventMatch) -> Match {
    Match { similarity: m.similarity, threshold: m.threshold, confidence: m.confidence, second: m.basis.runner_up }
}

/// Whether the best person was compared with and is somebody else as far as the server can tell. Two who are too close, a face that was
/// ruled out and too few looks may well be the right person: their similarity is none of a non-match.
fn compared(code: Option<WhyCode>) -> bool {
    code == Some(WhyCode::BelowThreshold)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{ids::EventId, time};

    fn event(kind: EventKind, matched: Option<EventMatch>) -> NewEvent {
        let camera = "door".parse().unwrap();
        NewEvent { matched, ..NewEvent::new(EventId::generate(), kind, camera, BTreeMap::new(), time::now()) }
    }

    fn unknown(code: WhyCode) -> EventMatch {
        EventMatch { similarity: 0.3, code: Some(code), ..EventMatch::default() }
    }

    #[test]
    fn an_appearance_is_counted_once() {
        assert_eq!(outcome(&event(EventKind::Appeared, None)), None);
        assert_eq!(outcome(&event(EventKind::Left, Some(unknown(WhyCode::NoLook)))), None);
        assert_eq!(outcome(&event(EventKind::Left, None)), Some(Outcome::Undecided));
    }

    #[test]
    fn only_a_face_below_the_threshold_is_a_non_match() {
        let told = |code| outcome(&event(EventKind::Unknown, Some(unknown(code))));
        let below = Outcome::Unknown { reason: "below_threshold", best: Some(0.3) };
        assert_eq!(told(WhyCode::BelowThreshold), Some(below));
        let close = Outcome::Unknown { reason: "runner_up_too_close", best: None };
        assert_eq!(told(WhyCode::RunnerUpTooClose), Some(close));
        assert_eq!(told(WhyCode::TooSmall), Some(Outcome::Unknown { reason: "too_small", best: None }));
    }

    #[test]
    fn the_words_are_those_that_events_keep() {
        for code in [WhyCode::EmptyGallery, WhyCode::BelowThreshold, WhyCode::OtherFaceOfPicture, WhyCode::TakenBack] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
