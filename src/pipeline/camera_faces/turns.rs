//! Which appearance goes on under which track: exchanges, cuts, returns, ends.
//!
//! The tracker only knows boxes. What faces look like says that two tracks took each other's face, that one went over to another face, or that
//! a new one shows somebody who was lost a moment ago.

use super::{CameraFaces, Draft};
use crate::{
    face::Embedding,
    ids::TrackId,
    pipeline::appearance::Appearance,
    time::{self, Timestamp},
    track::{
        EndedTrack,
        appearance::{Departed, Origin, SURE_LOOKS, are_exchanged, find_return},
    },
};

/// A track that ended and may come back.
pub(super) struct Held {
    ended: EndedTrack,
    appearance: Appearance,
    template: Embedding,
}

impl CameraFaces {
    /// Two tracks that took each other's face when they met change places: each appearance goes on with its own face.
    pub(super) fn exchange(&mut self, switched: &mut Vec<TrackId>, matched: &mut [(TrackId, usize)]) {
        let threshold = self.context().thresholds.similarity;
        let mut settled: Vec<TrackId> = Vec::new();
        for id in switched.iter() {
            let Some(shows) = self.live.get(id).filter(|_| !settled.contains(id)).and_then(Appearance::shows) else {
                continue;
            };
            let mut others = self.live.iter().filter(|(other, _)| *other != id);
            let partner = others.find(|(_, other)| {
                other.shows().is_some_and(|other| are_exchanged(&shows, &other, threshold, &self.parts.returns))
            });
            let Some(partner) = partner.map(|(partner, _)| partner.clone()) else { continue };
            if !self.tracker.exchange(id, &partner) {
                continue;
            }
            if let Some(mut a) = self.live.remove(id) {
                self.live.entry(partner.clone()).and_modify(|b| a.exchange(b));
                self.live.insert(id.clone(), a);
            }
            for (name, _) in matched.iter_mut() {
                if name == id {
                    *name = partner.clone();
                } else if *name == partner {
                    *name = id.clone();
                }
            }
            settled.extend([id.clone(), partner]);
        }
        switched.retain(|id| !settled.contains(id));
    }

    /// Cuts tracks that went over to another face: the first face's appearance is over and told, the second begins.
    pub(super) fn cut(
        &mut self,
        switched: Vec<TrackId>,
        matched: &mut [(TrackId, usize)],
        looked: &mut Vec<TrackId>,
    ) -> Vec<Draft> {
        let ctx = self.context();
        let mut events = Vec::new();
        for id in switched {
            let Some((mut ended, new)) = self.tracker.split(&id) else { continue };
            let Some(mut first) = self.live.remove(&id) else { continue };
            if let Some(second) = first.split(new.clone(), &ctx, &self.parts.looks) {
                ended.last_seen = ended.last_seen.min(second.began);
                matched.iter_mut().filter(|(m, _)| *m == id).for_each(|(m, _)| *m = new.clone());
                self.live.insert(new.clone(), second);
                looked.push(new);
            }
            // Told at once: nobody can come back to this track.
            events.extend(first.left(&ended, &self.parts.gallery, &ctx));
        }
        events
    }

    /// Joins new tracks to appearances that were lost or ended a moment ago, when they are the same face.
    pub(super) fn rejoin(&mut self, looked: &[TrackId], matched: &mut [(TrackId, usize)]) {
        let threshold = self.context().thresholds.similarity;
        for id in looked {
            let Some(new) = self.live.get(id).filter(|a| !a.is_told()) else { continue };
            let Some(template) = new.decider.template() else { continue };
            let gone = self.departed();
            let old = match find_return(&gone, &template, new.began, threshold, &self.parts.returns) {
                Origin::Continues(old) => old,
                origin => {
                    let waits = origin == Origin::Unsure && new.looks() < SURE_LOOKS;
                    self.live.entry(id.clone()).and_modify(|new| new.waits = waits);
                    continue;
                }
            };
            if !self.tracker.continue_as(&old, id) {
                continue;
            }
            let held = self.held.iter().position(|h| h.ended.id == old);
            let past = match held {
                Some(place) => Some(self.held.swap_remove(place).appearance),
                None => self.live.remove(&old),
            };
            if let (Some(mut appearance), Some(new)) = (past, self.live.remove(id)) {
                appearance.goes_on_as(new);
                matched.iter_mut().filter(|(m, _)| m == id).for_each(|(m, _)| *m = old.clone());
                self.live.insert(old, appearance);
            }
        }
    }

    /// Tracks that may come back under a new one: those that ended a moment ago and those not found in this frame.
    fn departed(&self) -> Vec<Departed> {
        let held = self.held.iter().map(|h| Departed {
            track: h.ended.id.clone(),
            last_seen: h.ended.last_seen,
            template: h.template.clone(),
        });
        let lost = self.tracker.lost().filter_map(|(id, last_seen)| {
            Some(Departed { track: id.clone(), last_seen, template: self.live.get(id)?.decider.template()? })
        });
        held.chain(lost).collect()
    }

    /// Ended tracks: those that may come back are held, the others and those held too long are told. A track that waited to its end to be an
    /// appearance that goes on is asked about first.
    pub(super) async fn end(&mut self, ended: Vec<EndedTrack>, at: Timestamp) -> Vec<Draft> {
        let unasked = |id: &TrackId| self.live.get(id).is_some_and(|a| a.decider.is_unasked());
        let waited: Vec<(TrackId, usize)> =
            ended.iter().filter(|e| unasked(&e.id)).map(|e| (e.id.clone(), 0)).collect();
        let mut events = Vec::new();
        if !waited.is_empty() {
            for (id, _) in &waited {
                self.live.entry(id.clone()).and_modify(|a| a.waits = false);
            }
            events = self.assess(at, &waited, true).await;
        }
        let ctx = self.context();
        for ended in ended {
            let Some(appearance) = self.live.remove(&ended.id) else { continue };
            match appearance.decider.template() {
                Some(template) => self.held.push(Held { ended, appearance, template }),
                None => events.extend(appearance.left(&ended, &self.parts.gallery, &ctx)),
            }
        }
        events.extend(self.release(Some(at)));
        events
    }

    /// Tells the LEFT of held tracks whose time is over; all of them without a time.
    pub(super) fn release(&mut self, at: Option<Timestamp>) -> Vec<Draft> {
        let ctx = self.context();
        let within = f64::from(self.parts.returns.within_ms) / 1000.0;
        let over = |h: &Held| at.is_none_or(|at| time::seconds_between(h.ended.last_seen, at) > within);
        let (gone, kept): (Vec<Held>, Vec<Held>) = std::mem::take(&mut self.held).into_iter().partition(over);
        self.held = kept;
        gone.into_iter().flat_map(|h| h.appearance.left(&h.ended, &self.parts.gallery, &ctx)).collect()
    }
}
