//! One worker's decisions: what to do about each camera, from what it knows now.
//!
//! A worker that can't reach the registry goes on with its cameras: nobody knows whether others took them, and the log refuses what it may not
//! tell any more.
//! A camera of nobody, or of a worker without a lease, is claimed at once. A camera of a living worker that is assigned to this one is warmed up
//! first, and claimed when its frames arrive, so that the other one watches until then; a camera that this worker can't reach stays where it works.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use super::{
    assignment::{Candidate, Candidates, Point},
    registry::{Claimed, Lease, Owner},
};
use crate::ids::{CameraId, WorkerId};

/// A camera of a worker that ends is claimed after this, whether or not frames arrive.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);
/// A claim whose outcome is not known is tried again after this.
const CLAIM_AGAIN: Duration = Duration::from_secs(2);

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the camera and keep its events back.
    Warm(CameraId),
    /// Write this worker as its owner over the entry at this revision; the answer goes to [`Coordinator::claimed`].
    Claim {
        /// Which.
        camera: CameraId,
        /// Over which revision; `None` where there is no entry.
        over: Option<u64>,
    },
    /// It is this worker's: start it, if it does not run, take its log over with this revision, and tell its events.
    Run {
        /// Which.
        camera: CameraId,
        /// The revision of the claim: whoever takes the log over with a smaller one is too late.
        revision: u64,
    },
    /// Stop the camera without a word: somebody else's it is, or nobody knows whose.
    Drop(CameraId),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    /// It runs, and its events are kept back.
    Warming { since: Duration, streaming: bool },
    /// A claim is on its way; whether the camera runs already.
    Claiming { since: Duration, warm: bool },
    /// It is ours.
    Owned,
}

/// A worker's view and its parts in cameras. Times are since some beginning, and never go back.
pub struct Coordinator {
    me: WorkerId,
    epoch: u64,
    lease: Duration,
    /// When its lease was written last.
    renewed: Option<Duration>,
    workers: BTreeMap<WorkerId, Lease>,
    owners: BTreeMap<CameraId, (Owner, u64)>,
    cameras: BTreeMap<CameraId, Point>,
    parts: BTreeMap<CameraId, Part>,
    /// Which worker each camera is assigned to, by what was known last.
    assigned: BTreeMap<CameraId, WorkerId>,
    /// Cameras that are assigned to this worker.
    mine: BTreeSet<CameraId>,
    /// Workers that take no cameras any more since then: theirs alone are assigned anew.
    gone: BTreeSet<WorkerId>,
    /// Something else changed: all are.
    stale: bool,
    /// When the watch had told everything that there was.
    complete: Option<Duration>,
}

impl Coordinator {
    /// A worker of this name and life, whose lease lasts so long.
    pub fn new(me: WorkerId, epoch: u64, lease: Duration) -> Self {
        Self {
            me,
            epoch,
            lease,
            renewed: None,
            workers: BTreeMap::new(),
            owners: BTreeMap::new(),
            cameras: BTreeMap::new(),
            parts: BTreeMap::new(),
            assigned: BTreeMap::new(),
            mine: BTreeSet::new(),
            gone: BTreeSet::new(),
            stale: true,
            complete: None,
        }
    }

    /// The registry has told everything that there was. For the time of a lease nothing is claimed: those who were cut off as well, or start at the
    /// same time, are still on their way.
    pub fn complete(&mut self, now: Duration) {
        self.complete = Some(now);
    }

    /// The registry can't be watched any more: what is known ages until it tells everything anew.
    pub fn begin_anew(&mut self) {
        (self.workers, self.owners) = Default::default();
        (self.complete, self.stale) = (None, true);
    }

    /// The lease was written.
    pub fn renewed(&mut self, now: Duration) {
        if self.is_late(now) && self.complete.is_some() {
            // Nobody else could write theirs, perhaps, and they only seem to be gone.
            self.complete = Some(now);
        }
        self.renewed = Some(now);
    }

    /// Whether the lease is written later than it should be, by more than a renewal that was lost.
    fn is_late(&self, now: Duration) -> bool {
        self.renewed.is_some_and(|at| now >= at + self.lease * 2 / 3)
    }

    /// A worker spoke, or is gone.
    pub fn worker(&mut self, name: WorkerId, lease: Option<Lease>) {
        let before = match lease.clone() {
            Some(lease) => self.workers.insert(name.clone(), lease),
            None => self.workers.remove(&name),
        };
        // Most words only say that somebody is still there.
        if before == lease {
            return;
        }
        match lease.filter(|lease| !lease.draining) {
            None if name != self.me => drop(self.gone.insert(name)),
            _ => self.stale = true,
        }
    }

    /// A camera has another owner, or none.
    pub fn owner(&mut self, camera: CameraId, owner: Option<(Owner, u64)>) {
        match owner {
            Some((_, revision)) if self.owners.get(&camera).is_some_and(|(_, known)| *known > revision) => {}
            Some(owner) => {
                self.owners.insert(camera, owner);
            }
            None => {
                self.owners.remove(&camera);
            }
        }
    }

    /// The cameras that are to be run by somebody: registered and switched on.
    pub fn cameras(&mut self, cameras: impl IntoIterator<Item = CameraId>) {
        let new: BTreeSet<CameraId> = cameras.into_iter().collect();
        let before = self.cameras.len();
        self.cameras.retain(|camera, _| new.contains(camera));
        self.stale |= self.cameras.len() != before;
        for camera in new {
            if let Entry::Vacant(place) = self.cameras.entry(camera) {
                let point = Point::of(place.key().as_str());
                place.insert(point);
                self.stale = true;
            }
        }
    }

    /// Whether frames of a camera that is being warmed up arrive.
    pub fn streaming(&mut self, camera: &CameraId, now_streaming: bool) {
        if let Some(Part::Warming { streaming, .. }) = self.parts.get_mut(camera) {
            *streaming = now_streaming;
        }
    }

    /// How a claim ended; `None`: nobody knows, and it is tried again.
    pub fn claimed(&mut self, camera: &CameraId, outcome: Option<Claimed>, now: Duration) -> Option<Action> {
        let Some(Part::Claiming { warm, .. }) = self.parts.get(camera).copied() else { return None };
        match outcome {
            Some(Claimed::Won(revision)) => {
                let owner = Owner { worker: self.me.clone(), epoch: self.epoch };
                self.owner(camera.clone(), Some((owner, revision)));
                self.parts.insert(camera.clone(), Part::Owned);
                return Some(Action::Run { camera: camera.clone(), revision });
            }
            // The watch tells whose it is now.
            Some(Claimed::Lost) if warm => {
                self.parts.insert(camera.clone(), Part::Warming { since: now, streaming: false });
            }
            Some(Claimed::Lost) => {
                self.parts.remove(camera);
            }
            None => {}
        }
        None
    }

    /// The log refused an event of a camera that is this worker's, as far as it knows: it claims it anew, which tells.
    pub fn fenced(&mut self, camera: &CameraId, now: Duration) -> Option<Action> {
        let part = self.parts.get_mut(camera).filter(|part| **part == Part::Owned)?;
        *part = Part::Claiming { since: now, warm: true };
        let over = self.owners.get(camera).map(|(_, revision)| *revision);
        Some(Action::Claim { camera: camera.clone(), over })
    }

    /// Cameras that run here and whose events are kept back.
    pub fn warming(&self) -> impl Iterator<Item = &CameraId> {
        self.parts.iter().filter(|(_, part)| matches!(part, Part::Warming { .. })).map(|(camera, _)| camera)
    }

    /// Workers that are alive and take cameras, besides this one.
    pub fn others(&self) -> usize {
        self.workers.iter().filter(|(name, lease)| **name != self.me && !lease.draining).count()
    }

    /// Whether everything is known that the registry knows.
    pub fn is_complete(&self) -> bool {
        self.complete.is_some()
    }

    /// Cameras that are this worker's now.
    pub fn owned(&self) -> impl Iterator<Item = &CameraId> {
        self.parts.iter().filter(|(_, part)| **part == Part::Owned).map(|(camera, _)| camera)
    }

    /// What to do now.
    pub fn plan(&mut self, now: Duration) -> Vec<Action> {
        let Some(complete) = self.complete.filter(|_| self.renewed.is_some()) else { return Vec::new() };
        let settled = now >= complete + self.lease && !self.is_late(now);
        // Before that nothing is claimed, and those who start together would be assigned to again and again.
        if !settled && self.parts.is_empty() {
            return Vec::new();
        }
        self.assign();
        let mut actions = Vec::new();
        let concerned: BTreeSet<CameraId> = self.parts.keys().chain(&self.mine).cloned().collect();
        for camera in concerned {
            if let Some(action) = self.decide(&camera, now, settled) {
                actions.push(action);
            }
        }
        actions
    }

    fn assign(&mut self) {
        if !self.stale && self.gone.is_empty() {
            return;
        }
        let taking: Vec<(&WorkerId, Candidate)> = self
            .workers
            .iter()
            .filter(|(_, lease)| !lease.draining)
            .map(|(name, lease)| (name, Candidate { point: Point::of(name.as_str()), weight: lease.capacity }))
            .collect();
        let candidates: Vec<Candidate> = taking.iter().map(|(_, candidate)| *candidate).collect();
        let candidates = Candidates::new(&candidates);
        // Another life of this name may hold its lease; cameras are that one's then.
        let lives = self.workers.get(&self.me).is_some_and(|lease| lease.epoch == self.epoch);
        let me = taking.iter().position(|(name, _)| lives && **name == self.me);
        let gone = std::mem::take(&mut self.gone);
        if std::mem::take(&mut self.stale) {
            self.assigned.clear();
            self.mine.clear();
        }
        for (camera, point) in &self.cameras {
            if self.assigned.get(camera).is_some_and(|worker| !gone.contains(worker)) {
                continue;
            }
            let place = candidates.of(*point);
            match place.and_then(|place| taking.get(place)) {
                Some((worker, _)) => drop(self.assigned.insert(camera.clone(), (*worker).clone())),
                None => drop(self.assigned.remove(camera)),
            }
            if place.is_some() && place == me {
                self.mine.insert(camera.clone());
            } else {
                self.mine.remove(camera);
            }
        }
    }

    fn decide(&mut self, camera: &CameraId, now: Duration, settled: bool) -> Option<Action> {
        let part = self.parts.get(camera).copied();
        let entry = self.owners.get(camera);
        let over = entry.map(|(_, revision)| *revision);
        let ours = entry.is_some_and(|(owner, _)| owner.worker == self.me && owner.epoch == self.epoch);
        // Of the other life that is its owner, if that lives.
        let theirs = entry
            .filter(|_| !ours)
            .and_then(|(owner, _)| self.workers.get(&owner.worker).filter(|lease| lease.epoch == owner.epoch));
        let claim =
            |warm: bool| (Part::Claiming { since: now, warm }, Some(Action::Claim { camera: camera.clone(), over }));
        let mine = self.mine.contains(camera);
        let (next, action) = match part {
            _ if !self.cameras.contains_key(camera) => (None, part.map(|_| Action::Drop(camera.clone()))),
            Some(Part::Owned) if ours => return None,
            // Somebody took it, or it was given up for this worker while it could not be heard.
            Some(Part::Owned) => (None, Some(Action::Drop(camera.clone()))),
            Some(Part::Claiming { since, .. }) if now < since + CLAIM_AGAIN => return None,
            Some(Part::Claiming { warm, .. }) if mine => {
                let (part, action) = claim(warm);
                (Some(part), action)
            }
            None if !mine => return None,
            _ if !mine => (None, Some(Action::Drop(camera.clone()))),
            _ if !settled => return None,
            None if theirs.is_some() => {
                (Some(Part::Warming { since: now, streaming: false }), Some(Action::Warm(camera.clone())))
            }
            None => {
                let (part, action) = claim(false);
                (Some(part), action)
            }
            Some(Part::Warming { since, streaming }) => {
                let ending = theirs.is_some_and(|lease| lease.draining) && now >= since + DRAIN_PATIENCE;
                if theirs.is_some() && !streaming && !ending {
                    return None;
                }
                let (part, action) = claim(true);
                (Some(part), action)
            }
            Some(Part::Claiming { .. }) => return None,
        };
        match next {
            Some(part) => self.parts.insert(camera.clone(), part),
            None => self.parts.remove(camera),
        };
        action
    }
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
