//! How cameras fare that run on other workers: from what those say, and from who is alive.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    camera::{CameraState, CameraStatus, FarStatus, Reason},
    cluster::{Lease, Owner, Registry, RegistryError, registry::Note},
    ids::{CameraId, WorkerId},
    pipeline::fleet::Fleet,
    store::nats::{
        ClusterStore,
        statuses::{NatsStatuses, Statuses},
    },
    telemetry, time,
};

/// Pause before a watch that ended is begun again, and between looks at the whole.
const AGAIN: Duration = Duration::from_secs(1);
/// Reason of a camera that nobody runs.
const NO_WORKER: &str = "no_worker";

/// Follows the cluster and tells the fleet.
pub(super) struct Elsewhere {
    pub(super) store: Arc<ClusterStore>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) statuses: Arc<NatsStatuses>,
    pub(super) fleet: Fleet,
    /// Whether the registered cameras are to be followed, too: workers do that themselves.
    pub(super) cameras: bool,
}

#[derive(Default)]
struct Known {
    workers: BTreeMap<WorkerId, Lease>,
    owners: BTreeMap<CameraId, Owner>,
    statuses: BTreeMap<WorkerId, Statuses>,
}

impl Elsewhere {
    /// Follows until `stop`; what fails is begun again.
    pub(super) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                ended = self.follow() => {
                    if let Err(error) = ended {
                        tracing::warn!(%error, "other workers can't be heard; it is tried again");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    async fn follow(&self) -> Result<(), RegistryError> {
        let mut notes = self.registry.watch().await?;
        let (mut words, hearing) = self.statuses.hear().await?;
        let ended = self.listen(&mut notes, &mut words).await;
        hearing.abort();
        ended
    }

    async fn listen(
        &self,
        notes: &mut mpsc::Receiver<Note>,
        words: &mut mpsc::Receiver<(WorkerId, Statuses)>,
    ) -> Result<(), RegistryError> {
        let mut known = Known::default();
        let mut changes = self.store.changes();
        changes.mark_changed();
        let mut tick = tokio::time::interval(AGAIN);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut complete = false;
        loop {
            tokio::select! {
                note = notes.recv() => match note {
                    None => return Ok(()),
                    Some(Note::Complete) => complete = true,
                    Some(note) => known.note(note),
                },
                word = words.recv() => match word {
                    None => return Ok(()),
                    Some((worker, statuses)) => drop(known.statuses.insert(worker, statuses)),
                },
                Ok(()) = changes.changed(), if self.cameras => {
                    self.fleet.follow().await.map_err(|e| RegistryError(e.to_string()))?;
                }
                // Many words at once are told of once.
                _ = tick.tick(), if complete => self.tell(&known),
            }
        }
    }

    fn tell(&self, known: &Known) {
        let mut unwatched = 0;
        for view in self.fleet.list() {
            let id = &view.spec.id;
            if !self.fleet.runs(id) && view.spec.enabled {
                let status = known.status(id, &view.status);
                unwatched += usize::from(status.status.reason.as_ref().is_some_and(|reason| reason.code == NO_WORKER));
                self.fleet.tell(id, status);
            }
        }
        telemetry::cameras_unwatched(unwatched);
        telemetry::workers(known.workers.values().filter(|lease| !lease.draining).count());
    }
}

impl Known {
    fn note(&mut self, note: Note) {
        match note {
            Note::Worker(name, Some(lease)) => drop(self.workers.insert(name, lease)),
            Note::Worker(name, None) => {
                self.workers.remove(&name);
                self.statuses.remove(&name);
            }
            Note::Owner(camera, Some((owner, _))) => drop(self.owners.insert(camera, owner)),
            Note::Owner(camera, None) => drop(self.owners.remove(&camera)),
            Note::Complete => {}
        }
    }

    /// How a camera fares; `before` is what was told last.
    fn status(&self, camera: &CameraId, before: &CameraStatus) -> FarStatus {
        let alive = |owner: &&Owner| self.workers.get(&owner.worker).is_some_and(|lease| lease.epoch == owner.epoch);
        let own = |state: CameraState, code: &'static str, message: String| {
            let reason = Some(Reason { code: code.into(), message });
            let since = if before.state == state && before.reason == reason { before.since } else { time::now() };
            FarStatus::from(CameraStatus { reason, ..CameraStatus::new(state, since) })
        };
        match self.owners.get(camera).filter(alive) {
            Some(owner) => {
                let said = self.statuses.get(&owner.worker).and_then(|statuses| statuses.get(camera));
                said.cloned().unwrap_or_else(|| {
                    own(CameraState::Connecting, "taken", format!("worker {} has just taken the camera", owner.worker))
                })
            }
            None => {
                let message = match self.workers.len() {
                    0 => "no worker is alive; start one with server.role = \"ingest\"".to_owned(),
                    n => format!(
                        "no worker runs the camera at the moment; {n} are alive, and one of them takes it within seconds"
                    ),
                };
                own(CameraState::Retrying, NO_WORKER, message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(worker: &str, epoch: u64) -> Owner {
        Owner { worker: worker.parse().unwrap(), epoch }
    }

    #[test]
    fn a_camera_fares_as_its_living_worker_says() {
        let door: CameraId = "door".parse().unwrap();
        let (a, lease) = ("a".parse::<WorkerId>().unwrap(), Lease { epoch: 1, capacity: 1.0, draining: false });
        let before = CameraStatus::new(CameraState::Connecting, time::now());
        let mut known = Known::default();
        let alone = known.status(&door, &before).status;
        assert_eq!(alone.reason.as_ref().unwrap().code, "no_worker");
        assert!(alone.reason.as_ref().unwrap().message.contains("ingest"));
        assert_eq!(known.status(&door, &alone).status.since, alone.since, "the same is not told anew");
        known.note(Note::Worker(a.clone(), Some(lease)));
        known.note(Note::Owner(door.clone(), Some((owner("a", 1), 3))));
        assert_eq!(known.status(&door, &before).status.reason.unwrap().code, "taken");
        let status = CameraStatus { fps_in: 25.0, ..CameraStatus::new(CameraState::Streaming, time::now()) };
        let streaming = FarStatus { active_tracks: 2, ..status.into() };
        known.statuses.insert(a.clone(), BTreeMap::from([(door.clone(), streaming.clone())]));
        assert_eq!(known.status(&door, &before), streaming);
        // Of another life of that worker, and of one that is gone.
        known.note(Note::Owner(door.clone(), Some((owner("a", 0), 4))));
        assert_eq!(known.status(&door, &before).status.state, CameraState::Retrying);
        known.note(Note::Owner(door.clone(), Some((owner("a", 1), 5))));
        known.note(Note::Worker(a, None));
        let gone = known.status(&door, &before).status.reason.unwrap();
        assert_eq!(gone.code, "no_worker");
    }
}
