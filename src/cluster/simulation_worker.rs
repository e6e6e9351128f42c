//! What happens at a simulated worker: what it is told, what its coordinator decides, what it tells.

use std::time::Duration;

use super::{Happening, PUBLISH, Simulation};
use crate::{
    cluster::{
        coordinator::Action,
        registry::{Note, Owner},
    },
    ids::CameraId,
};

impl Simulation {
    pub(super) fn at_worker(&mut self, place: usize, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Renew(_) => self.renew(place),
            Happening::Told(_, notes) => {
                for note in notes {
                    let mind = &mut self.workers[place].mind;
                    match note {
                        Note::Worker(name, lease) => mind.worker(name, lease),
                        Note::Owner(camera, owner) => mind.owner(camera, owner),
                        Note::Complete => mind.complete(now),
                    }
                }
                self.think(place);
            }
            Happening::Renewed(_) => {
                self.workers[place].mind.renewed(now);
                self.think(place);
            }
            Happening::Answered { camera, outcome, .. } => {
                let id = self.cameras[camera].clone();
                let action = self.workers[place].mind.claimed(&id, Some(outcome), now);
                if let Some(action) = action {
                    self.act(place, action);
                }
                self.think(place);
            }
            Happening::Think(_) => {
                self.workers[place].thinking = false;
                for action in self.workers[place].mind.plan(now) {
                    self.act(place, action);
                }
            }
            Happening::Streams { camera, life, .. }
                if self.workers[place].running.get(&camera).is_some_and(|(now, _)| *now == life) =>
            {
                let id = self.cameras[camera].clone();
                self.workers[place].mind.streaming(&id, true);
                self.think(place);
                self.at(Duration::ZERO, Happening::Publishes { worker: place, camera, life });
            }
            Happening::Publishes { camera, life, .. } => self.publish(place, camera, life),
            _ => {}
        }
    }

    fn start(&mut self, place: usize, camera: usize) {
        self.lives += 1;
        let life = self.lives;
        self.workers[place].running.insert(camera, (life, false));
        let connect = self.between(self.size.connect);
        self.at(connect, Happening::Streams { worker: place, camera, life });
    }

    fn act(&mut self, place: usize, action: Action) {
        let camera = |camera: &CameraId| self.places.get(camera).copied();
        match action {
            Action::Warm(id) => {
                if let Some(camera) = camera(&id) {
                    self.start(place, camera);
                }
            }
            Action::Claim { camera: id, over } => {
                let Some(camera) = camera(&id) else { return };
                let worker = &self.workers[place];
                let owner = Owner { worker: worker.name.clone(), epoch: worker.epoch };
                self.requests += 1;
                let way = self.way();
                self.at(way, Happening::Claim { worker: place, camera, owner, over });
            }
            Action::Run { camera: id, revision } => {
                let Some(camera) = camera(&id) else { return };
                if !self.workers[place].running.contains_key(&camera) {
                    self.start(place, camera);
                }
                // Taking over is one event, which raises the fence.
                if let Some((life, tells)) = self.workers[place].running.get_mut(&camera) {
                    *tells = true;
                    self.requests += 1;
                    // With an older claim it is refused.
                    if revision >= self.fence_claim[camera] {
                        (self.fence[camera], self.fence_claim[camera]) = (Some((place, *life)), revision);
                    }
                }
            }
            Action::Drop(id) => {
                if let Some(camera) = camera(&id) {
                    self.workers[place].running.remove(&camera);
                }
            }
        }
    }

    fn publish(&mut self, place: usize, camera: usize, life: u64) {
        match self.workers[place].running.get(&camera).copied() {
            Some((now, tells)) if now == life => {
                if tells && self.fence[camera] == Some((place, life)) {
                    self.events += 1;
                    self.gap = self.gap.max(self.now - self.told[camera].max(self.since));
                    self.told[camera] = self.now;
                } else if tells {
                    self.fenced += 1;
                    self.workers[place].running.insert(camera, (life, false));
                    let (id, now) = (self.cameras[camera].clone(), self.now);
                    if let Some(action) = self.workers[place].mind.fenced(&id, now) {
                        self.act(place, action);
                    }
                } else {
                    let id = self.cameras[camera].clone();
                    self.workers[place].mind.streaming(&id, true);
                }
            }
            _ => return,
        }
        self.at(PUBLISH, Happening::Publishes { worker: place, camera, life });
    }
}
