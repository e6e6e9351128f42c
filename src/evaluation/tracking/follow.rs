//! The server's way of following faces, on footage instead of a camera.
//!
//! It is made of the parts that serve, in the order of `pipeline/camera_faces.rs`: [`Tracker`], [`LookPlanner`], the looks of a
//! [`TrackDecider`], tracks cut in two when they go over to another face, and appearances that go on after a face came back.

use std::collections::BTreeMap;

use super::{Footage, Moment, Seen, Trail};
use crate::{
    face::{Distance, Embedding},
    identity::{DeciderSettings, Look, Taken, TrackDecider},
    ids::{ModelId, TrackId},
    inference::manifest::EmbedderSpec,
    time::{Timestamp, seconds_between},
    track::{
        EndedTrack, Least, LookPlanner, LookSettings, TrackSettings, Tracker,
        appearance::{
            APPEAR_WITHIN_MS, DOUBTED_LOOKS, Departed, Origin, ReturnSettings, SURE_LOOKS, Shows, are_exchanged,
            find_return,
        },
    },
};

/// How to follow.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The tracker.
    pub track: TrackSettings,
    /// Which crops are embedded.
    pub looks: LookSettings,
    /// What a crop must have.
    pub least: Least,
    /// How looks are fused.
    pub decider: DeciderSettings,
    /// Which appearances go on.
    pub returns: ReturnSettings,
    /// Embedder of the footage.
    pub model: ModelId,
    /// What the manifest says of it.
    pub spec: EmbedderSpec,
}

struct Live {
    began: Timestamp,
    planner: LookPlanner,
    decider: TrackDecider,
    told: bool,
    waits: bool,
}

impl Live {
    fn shows(&self) -> Option<Shows> {
        let evidence = self.decider.evidence();
        Some(Shows { template: evidence.template()?, doubted: evidence.doubted()? })
    }
}

struct Held {
    ended: EndedTrack,
    live: Live,
    template: Embedding,
}

struct Follower<'a> {
    settings: &'a Settings,
    tracker: Tracker,
    live: BTreeMap<TrackId, Live>,
    held: Vec<Held>,
    /// Number of each track; tracks that turned out to be one appearance share one.
    numbers: BTreeMap<TrackId, usize>,
    /// Numbers that turned out to be others.
    same: BTreeMap<usize, usize>,
    looks: usize,
}

/// Follows the faces of footage: numbers of appearances as subscribers are told, and how many crops were embedded.
pub fn follow(footage: &Footage, settings: &Settings) -> (Trail, usize) {
    let mut follower = Follower {
        settings,
        tracker: Tracker::new(settings.track.clone()),
        live: BTreeMap::new(),
        held: Vec::new(),
        numbers: BTreeMap::new(),
        same: BTreeMap::new(),
        looks: 0,
    };
    let mut trail: Trail = footage.moments.iter().map(|m| follower.step(m, footage.size)).collect();
    for told in trail.iter_mut().flatten() {
        while let Some(number) = follower.same.get(&told.0) {
            told.0 = *number;
        }
    }
    (trail, follower.looks)
}

impl Follower<'_> {
    fn step(&mut self, moment: &Moment, size: (u32, u32)) -> Vec<(usize, usize)> {
        let at = Timestamp::from_millisecond(moment.at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        let least = self.settings.least.face_px / 2.0;
        let wanted: Vec<usize> = (0..moment.seen.len())
            .filter(|i| {
                let bbox = &moment.seen[*i].detection.bbox;
                bbox.width().min(bbox.height()) >= least
            })
            .collect();
        let detections: Vec<_> = wanted.iter().map(|i| moment.seen[*i].detection).collect();
        let report = self.tracker.step(at, size, &detections);
        let mut matched: Vec<(TrackId, usize)> = report.matched.into_iter().map(|(id, i)| (id, wanted[i])).collect();
        for id in &report.started {
            let live = self.fresh(at);
            self.live.insert(id.clone(), live);
        }
        let (mut looked, mut switched) = self.take_looks(at, &moment.seen, &matched);
        self.exchange(&mut switched, &mut matched);
        self.cut(switched, &mut matched, &mut looked);
        self.end(report.ended, at);
        self.rejoin(&looked, &mut matched);
        for live in self.live.values_mut() {
            let late = seconds_between(live.began, at) * 1000.0 >= APPEAR_WITHIN_MS;
            live.told |= (live.decider.looks() > 0 && !live.waits) || late;
        }
        matched.into_iter().map(|(id, i)| (self.number(&id), i)).collect()
    }

    fn fresh(&self, began: Timestamp) -> Live {
        let spec = &self.settings.spec;
        Live {
            began,
            planner: LookPlanner::new(self.settings.looks.clone(), self.settings.least),
            decider: TrackDecider::new(self.settings.decider.clone(), spec.identification_threshold),
            told: false,
            waits: false,
        }
    }

    fn number(&mut self, id: &TrackId) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(id.clone()).or_insert(next)
    }

    fn embedding(&self, seen: &Seen) -> Embedding {
        let distance: Distance = self.settings.spec.distance;
        Embedding { model: self.settings.model.clone(), distance, values: seen.embedding.as_slice().into() }
    }

    fn take_looks(
        &mut self,
        at: Timestamp,
        seen: &[Seen],
        matched: &[(TrackId, usize)],
    ) -> (Vec<TrackId>, Vec<TrackId>) {
        let (mut looked, mut switched, mut doubted) = (Vec::new(), Vec::new(), false);
        for (id, i) in matched {
            let Some(face) = seen.get(*i) else { continue };
            let embedding = self.embedding(face);
            let Some(live) = self.live.get_mut(id) else { continue };
            if live.planner.offer(at, &face.detection, face.quality()).is_err() || embedding.values.is_empty() {
                continue;
            }
            self.looks += 1;
            match live.decider.look(Look { at, embedding, quality: face.quality().value }) {
                Taken::Agrees => looked.push(id.clone()),
                Taken::Switched => switched.push(id.clone()),
                Taken::Doubted => {
                    live.planner.urge(DOUBTED_LOOKS);
                    doubted = true;
                }
                Taken::Refused => {}
            }
        }
        if doubted {
            self.live.values_mut().filter(|l| l.shows().is_none()).for_each(|l| l.planner.urge(DOUBTED_LOOKS));
        }
        (looked, switched)
    }

    fn exchange(&mut self, switched: &mut Vec<TrackId>, matched: &mut [(TrackId, usize)]) {
        let threshold = self.settings.spec.identification_threshold;
        let mut settled: Vec<TrackId> = Vec::new();
        for id in switched.iter() {
            let Some(shows) = self.live.get(id).filter(|_| !settled.contains(id)).and_then(Live::shows) else {
                continue;
            };
            let mut others = self.live.iter().filter(|(other, _)| *other != id);
            let partner = others.find(|(_, other)| {
                other.shows().is_some_and(|other| are_exchanged(&shows, &other, threshold, &self.settings.returns))
            });
            let Some(partner) = partner.map(|(partner, _)| partner.clone()) else { continue };
            if !self.tracker.exchange(id, &partner) {
                continue;
            }
            if let Some(mut a) = self.live.remove(id) {
                self.live.entry(partner.clone()).and_modify(|b| a.decider.exchange(&mut b.decider));
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

    fn cut(&mut self, switched: Vec<TrackId>, matched: &mut [(TrackId, usize)], looked: &mut Vec<TrackId>) {
        for id in switched {
            let Some((_, new)) = self.tracker.split(&id) else { continue };
            let Some(mut first) = self.live.remove(&id) else { continue };
            let decider = first.decider.split();
            let Some(began) = decider.evidence().began() else { continue };
            let second = Live { decider, began, ..self.fresh(began) };
            matched.iter_mut().filter(|(m, _)| *m == id).for_each(|(m, _)| *m = new.clone());
            self.live.insert(new.clone(), second);
            looked.push(new);
        }
    }

    fn rejoin(&mut self, looked: &[TrackId], matched: &mut [(TrackId, usize)]) {
        for id in looked {
            let Some(new) = self.live.get(id).filter(|live| !live.told) else { continue };
            let Some(template) = new.decider.template() else { continue };
            let threshold = self.settings.spec.identification_threshold;
            let old = match find_return(&self.departed(), &template, new.began, threshold, &self.settings.returns) {
                Origin::Continues(old) => old,
                origin => {
                    let waits = origin == Origin::Unsure && new.decider.looks() < SURE_LOOKS;
                    self.live.entry(id.clone()).and_modify(|new| new.waits = waits);
                    continue;
                }
            };
            if !self.tracker.continue_as(&old, id) {
                continue;
            }
            let held = self.held.iter().position(|h| h.ended.id == old);
            let past = match held {
                Some(place) => Some(self.held.swap_remove(place).live),
                None => self.live.remove(&old),
            };
            if let (Some(mut past), Some(new)) = (past, self.live.remove(id)) {
                for look in new.decider.evidence().all() {
                    past.decider.look(look.clone());
                }
                let (number, goes_on) = (self.number(id), self.number(&old));
                self.same.insert(number, goes_on);
                matched.iter_mut().filter(|(m, _)| m == id).for_each(|(m, _)| *m = old.clone());
                self.live.insert(old, past);
            }
        }
    }

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

    fn end(&mut self, ended: Vec<EndedTrack>, at: Timestamp) {
        for ended in ended {
            let Some(live) = self.live.remove(&ended.id) else { continue };
            if let Some(template) = live.decider.template() {
                self.held.push(Held { ended, live, template });
            }
        }
        let within = f64::from(self.settings.returns.within_ms) / 1000.0;
        self.held.retain(|h| seconds_between(h.ended.last_seen, at) <= within);
    }
}
