//! Which events are wanted.

use std::collections::BTreeMap;

use super::{Event, EventKind};
use crate::ids::{CameraId, PersonId};

/// Which events are wanted; empty lists do not restrict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventFilter {
    /// Cameras.
    pub cameras: Vec<CameraId>,
    /// Labels the camera must have had.
    pub camera_labels: BTreeMap<String, String>,
    /// Labels the camera must have had for the caller to see its events at all; a filter of their own can't undo it.
    pub bound_labels: BTreeMap<String, String>,
    /// People.
    pub people: Vec<PersonId>,
    /// Watchlists of the person.
    pub watchlists: Vec<String>,
    /// Kinds.
    pub kinds: Vec<EventKind>,
    /// Least confidence of events that name somebody, 0 to 1.
    pub min_confidence: f32,
}

impl EventFilter {
    /// Whether an event is wanted.
    pub fn matches(&self, event: &Event) -> bool {
        let body = &event.body;
        let matched = body.matched.as_ref();
        let person = matched.and_then(|m| m.person.as_ref());
        (self.cameras.is_empty() || self.cameras.contains(&body.camera))
            && self.camera_labels.iter().all(|(k, v)| body.camera_labels.get(k) == Some(v))
            && self.bound_labels.iter().all(|(k, v)| body.camera_labels.get(k) == Some(v))
            && (self.kinds.is_empty() || self.kinds.contains(&body.kind))
            && (self.people.is_empty() || person.is_some_and(|p| self.people.contains(&p.id)))
            && (self.watchlists.is_empty()
                || person.is_some_and(|p| p.watchlists.iter().any(|w| self.watchlists.contains(w))))
            && (person.is_none() || matched.is_some_and(|m| m.confidence >= self.min_confidence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{EventMatch, NamedPerson, NewEvent},
        ids::EventId,
        time::now,
    };

    fn event(kind: EventKind, person: Option<&str>, confidence: f32) -> Event {
        let labels = BTreeMap::from([("site".to_owned(), "berlin".to_owned())]);
        let mut body = NewEvent::new(EventId::generate(), kind, "door".parse().unwrap(), labels, now());
        body.matched = Some(EventMatch {
            person: person.map(|id| NamedPerson {
                id: id.parse().unwrap(),
                display_name: id.into(),
                watchlists: vec!["staff".into()],
            }),
            similarity: 0.5,
            margin: 0.1,
            threshold: 0.4,
            confidence,
            ..EventMatch::default()
        });
        Event { position: 1, body, has_image: false, feedback: None }
    }

    #[test]
    fn every_part_restricts_and_nothing_restricts_by_itself() {
        let anna = event(EventKind::Recognized, Some("anna"), 0.9);
        let nobody = event(EventKind::Unknown, None, 0.1);
        let all = EventFilter::default();
        assert!(all.matches(&anna) && all.matches(&nobody));
        let people = EventFilter { people: vec!["anna".parse().unwrap()], ..all.clone() };
        assert!(people.matches(&anna) && !people.matches(&nobody));
        let sure = EventFilter { min_confidence: 0.95, ..all.clone() };
        assert!(!sure.matches(&anna) && sure.matches(&nobody), "confidence judges names only");
        let staff = EventFilter { watchlists: vec!["staff".into()], ..all.clone() };
        assert!(staff.matches(&anna) && !staff.matches(&nobody));
        let kinds = EventFilter { kinds: vec![EventKind::Unknown], ..all.clone() };
        assert!(!kinds.matches(&anna) && kinds.matches(&nobody));
        let labels = EventFilter { camera_labels: BTreeMap::from([("site".into(), "paris".into())]), ..all.clone() };
        assert!(!labels.matches(&anna));
        let berlin = BTreeMap::from([("site".to_owned(), "berlin".to_owned())]);
        let bound = EventFilter { bound_labels: berlin, ..all.clone() };
        assert!(bound.matches(&anna) && !EventFilter { camera_labels: labels.camera_labels, ..bound }.matches(&anna));
        let cameras = EventFilter { cameras: vec!["lobby".parse().unwrap()], ..all };
        assert!(!cameras.matches(&anna));
    }
}
