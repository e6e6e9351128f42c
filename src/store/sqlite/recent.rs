//! The newest events in memory: subscribers at the end of the log, nearly all of them, are served without asking the database for each.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::event::{Event, NewEvent};

/// Events at hand at most.
const MOST: usize = 1024;

/// The end of the log, without holes. Only the writer's thread changes it, in its turn.
#[derive(Default)]
pub(super) struct Recent(Mutex<VecDeque<Event>>);

impl Recent {
    fn events(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds events that were written; without templates, which nobody is sent.
    pub(super) fn add(&self, written: &[Event]) {
        let mut events = self.events();
        for event in written {
            if events.len() == MOST {
                events.pop_front();
            }
            let body = NewEvent { template: None, ..event.body.clone() };
            events.push_back(Event { body, ..*event });
        }
    }

    /// Something written was changed or removed: what is at hand may not be what the log holds any more.
    pub(super) fn forget(&self) {
        self.events().clear();
    }

    /// The events after a position, at most `limit`; `None` when the database has to be asked, since older ones may be wanted.
    pub(super) fn after(&self, position: u64, limit: usize) -> Option<Vec<Event>> {
        let events = self.events();
        let first = events.front()?.position;
        let skip = usize::try_from(position.checked_sub(first.checked_sub(1)?)?).ok()?;
        Some(events.iter().skip(skip).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::EventKind, ids::EventId, time::now};

    fn event(position: u64) -> Event {
        let camera = "door".parse().unwrap();
        let body = NewEvent::new(EventId::generate(), EventKind::Appeared, camera, Default::default(), now());
        let body = NewEvent { template: Some(vec![1.0]), ..body };
        Event { position, body, has_image: false, feedback: None }
    }

    fn positions(recent: &Recent, after: u64, limit: usize) -> Option<Vec<u64>> {
        recent.after(after, limit).map(|events| events.iter().map(|e| e.position).collect())
    }

    #[test]
    fn the_end_of_the_log_is_at_hand_and_what_is_older_is_not() {
        let recent = Recent::default();
        assert_eq!(positions(&recent, 0, 9), None, "nothing is known");
        recent.add(&[event(5), event(6)]);
        recent.add(&[event(7)]);
        assert_eq!(positions(&recent, 3, 9), None, "4 may be in the database");
        assert_eq!(positions(&recent, 4, 9), Some(vec![5, 6, 7]));
        assert_eq!(positions(&recent, 5, 1), Some(vec![6]));
        assert_eq!(positions(&recent, 7, 9), Some(vec![]));
        assert_eq!(positions(&recent, 99, 9), Some(vec![]));
        assert!(recent.after(4, 9).unwrap().iter().all(|e| e.body.template.is_none()));
        recent.forget();
        assert_eq!(positions(&recent, 6, 9), None);
        let many: Vec<Event> = (8..3000).map(event).collect();
        recent.add(&many);
        assert_eq!(positions(&recent, 1974, 9), None);
        assert_eq!(recent.after(1975, usize::MAX).unwrap().len(), MOST);
    }
}
