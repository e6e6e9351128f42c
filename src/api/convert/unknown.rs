//! Groups of unknown faces on the wire.

use std::collections::BTreeSet;

use super::time;
use crate::{identity::UnknownFace, pipeline::unknowns::UnknownGroup, proto::v1};

/// Faces in an answer about one group, at most.
const FACES: usize = 100;

/// A group without its faces.
pub fn listed(group: &UnknownGroup) -> v1::Unknown {
    let cameras: BTreeSet<&str> = group.faces.iter().map(|f| f.camera.as_str()).collect();
    v1::Unknown {
        name: format!("unknowns/{}", group.id),
        face_count: group.faces.len() as u32,
        first_seen_time: Some(time(group.first_seen())),
        last_seen_time: Some(time(group.last_seen())),
        cameras: cameras.into_iter().map(|c| format!("cameras/{c}")).collect(),
        dismissed: group.dismissed,
        faces: Vec::new(),
    }
}

/// A group with its newest faces.
pub fn to_wire(group: &UnknownGroup) -> v1::Unknown {
    v1::Unknown { faces: group.faces.iter().take(FACES).map(face).collect(), ..listed(group) }
}

fn face(face: &UnknownFace) -> v1::UnknownFace {
    v1::UnknownFace {
        camera: format!("cameras/{}", face.camera),
        track: face.track.to_string(),
        event: format!("events/{}", face.event),
        begin_time: Some(time(face.began)),
        end_time: Some(time(face.ended)),
        quality: face.quality,
        model: face.template.model.to_string(),
    }
}
