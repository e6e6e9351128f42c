//! Events on the wire.

use super::{duration, face, time};
use crate::{
    event::{Event, EventFilter, EventKind, Feedback},
    proto::v1,
};

/// An event.
pub fn to_wire(event: &Event) -> v1::Event {
    let b = &event.body;
    let person = b.matched.as_ref().and_then(|m| m.person.as_ref());
    v1::Event {
        name: format!("events/{}", b.id),
        position: event.position,
        kind: kind(b.kind).into(),
        camera: format!("cameras/{}", b.camera),
        capture_time: b.captured.map(|c| time(c.at)),
        picture_time: b.pictured.map(time),
        create_time: Some(time(b.created)),
        track: b.track.as_ref().map(ToString::to_string).unwrap_or_default(),
        face: b.face.as_ref().map(|f| face::detected(f, b.quality, b.face_size_px, b.liveness)),
        r#match: b.matched.as_ref().map(face::matched),
        frame_size: b.frame_size.map(|(width, height)| v1::ImageSize { width, height }),
        dwell: b.dwell_ms.map(|ms| duration(std::time::Duration::from_millis(ms))),
        looks: b.looks,
        camera_state: b.camera_state.clone().unwrap_or_default(),
        reason: b.reason.clone(),
        corrects: b.corrects.as_ref().map(|id| format!("events/{id}")).unwrap_or_default(),
        has_image: event.has_image,
        watchlists: person.map(|p| p.watchlists.clone()).unwrap_or_default(),
        model: b.model.as_ref().map(ToString::to_string).unwrap_or_default(),
        feedback: match event.feedback {
            None => v1::Feedback::Unspecified,
            Some(Feedback::Right) => v1::Feedback::Right,
            Some(Feedback::Wrong) => v1::Feedback::Wrong,
        }
        .into(),
        camera_labels: b.camera_labels.clone().into_iter().collect(),
    }
}

fn kind(kind: EventKind) -> v1::EventKind {
    match kind {
        EventKind::Appeared => v1::EventKind::Appeared,
        EventKind::Recognized => v1::EventKind::Recognized,
        EventKind::Unknown => v1::EventKind::Unknown,
        EventKind::Corrected => v1::EventKind::Corrected,
        EventKind::Left => v1::EventKind::Left,
        EventKind::CameraState => v1::EventKind::CameraState,
    }
}

/// A filter; none wants everything.
///
/// # Errors
/// Every faulty field at once.
pub fn filter(wire: Option<v1::EventFilter>) -> Result<EventFilter, Vec<(String, String)>> {
    let wire = wire.unwrap_or_default();
    let mut faults = Vec::new();
    let mut filter = EventFilter {
        camera_labels: wire.camera_labels.into_iter().collect(),
        watchlists: wire.watchlists,
        min_confidence: wire.min_confidence,
        ..Default::default()
    };
    for name in &wire.cameras {
        match name.strip_prefix("cameras/").unwrap_or(name).parse() {
            Ok(id) => filter.cameras.push(id),
            Err(e) => faults.push(("filter.cameras".into(), format!("{e}"))),
        }
    }
    for name in &wire.people {
        match name.strip_prefix("people/").unwrap_or(name).parse() {
            Ok(id) => filter.people.push(id),
            Err(e) => faults.push(("filter.people".into(), format!("{e}"))),
        }
    }
    for number in &wire.kinds {
        match v1::EventKind::try_from(*number) {
            Ok(v1::EventKind::Appeared) => filter.kinds.push(EventKind::Appeared),
            Ok(v1::EventKind::Recognized) => filter.kinds.push(EventKind::Recognized),
            Ok(v1::EventKind::Unknown) => filter.kinds.push(EventKind::Unknown),
            Ok(v1::EventKind::Corrected) => filter.kinds.push(EventKind::Corrected),
            Ok(v1::EventKind::Left) => filter.kinds.push(EventKind::Left),
            Ok(v1::EventKind::CameraState) => filter.kinds.push(EventKind::CameraState),
            Ok(v1::EventKind::Unspecified) | Err(_) => {
                faults.push(("filter.kinds".into(), format!("{number} is no kind of event")));
            }
        }
    }
    if !(0.0..=1.0).contains(&filter.min_confidence) {
        faults.push(("filter.min_confidence".into(), "give a number from 0 to 1".into()));
    }
    if faults.is_empty() { Ok(filter) } else { Err(faults) }
}
