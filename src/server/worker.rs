//! Runs this worker's share of the cluster's cameras: what the coordinator decides becomes claims, cameras that run, and a log taken over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    camera::{CameraSpec, CameraState, FarStatus},
    cluster::{
        Coordinator, Lease, Registry, RegistryError,
        registry::{Claimed, Note},
    },
    event::EventLogError,
    ids::{CameraId, EventId, WorkerId},
    pipeline::{
        fleet::{CameraView, Fleet, FleetError},
        outbox::Outbox,
    },
    store::nats::{
        ClusterStore,
        statuses::{NatsStatuses, Statuses},
    },
    telemetry, time,
};

/// How often cameras are thought about without a reason.
const TICK: Duration = Duration::from_millis(250);
/// Pause before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often statuses are told that have not changed in what people read first.
const TELL: Duration = Duration::from_secs(5);
/// Notes that are taken together at most.
const TOGETHER: usize = 4096;

/// What a worker is made of.
pub(super) struct Worker {
    pub(super) me: WorkerId,
    pub(super) store: Arc<ClusterStore>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) statuses: Arc<NatsStatuses>,
    pub(super) fleet: Fleet,
    pub(super) outbox: Outbox,
    /// How long a lease lasts.
    pub(super) lease: Duration,
    /// Cameras that it takes.
    pub(super) capacity: f64,
}

/// Something that was begun has ended.
enum Done {
    Renewed(Result<(), RegistryError>),
    Watching(Result<mpsc::Receiver<Note>, RegistryError>),
    Followed(Result<Vec<CameraSpec>, FleetError>),
    Claimed(CameraId, Result<Claimed, RegistryError>),
    TakenOver(CameraId, Result<(), EventLogError>),
    /// A camera was started or stopped.
    Moved(CameraId),
    Told,
    Forgotten,
}

/// A camera's task here: what it is to become, and whether that is being done.
#[derive(Default)]
struct Place {
    run: bool,
    moving: bool,
    runs: bool,
}

struct Work {
    parts: Worker,
    mind: Coordinator,
    epoch: u64,
    began: Instant,
    notes: Option<mpsc::Receiver<Note>>,
    doing: JoinSet<Done>,
    places: BTreeMap<CameraId, Place>,
    /// Claims whose log is to be taken over.
    claims: BTreeMap<CameraId, (u64, EventId)>,
    taking: BTreeSet<CameraId>,
    asking_watch: bool,
    renewing: bool,
    following: bool,
    /// The registered cameras could not be read.
    follow_again: bool,
    telling: bool,
    renewed: Option<Instant>,
    told: (Option<Instant>, BTreeMap<CameraId, CameraState>),
    draining: bool,
    /// The last lease that was sent says so.
    said_draining: bool,
    trouble: bool,
}

impl Worker {
    /// Works until `stop`. From `leaving` on it takes no camera and hands over those that it has; `left` is true once it has none, or nobody is
    /// there to take them.
    pub(super) async fn run(self, leaving: CancellationToken, left: watch::Sender<bool>, stop: CancellationToken) {
        // Told apart from every earlier process of this name.
        let epoch = u64::try_from(time::now().as_microsecond()).unwrap_or(1);
        let mut changes = self.store.changes();
        let mut work = Work {
            mind: Coordinator::new(self.me.clone(), epoch, self.lease),
            parts: self,
            epoch,
            began: Instant::now(),
            notes: None,
            doing: JoinSet::new(),
            places: BTreeMap::new(),
            claims: BTreeMap::new(),
            taking: BTreeSet::new(),
            asking_watch: false,
            renewing: false,
            following: false,
            follow_again: false,
            telling: false,
            renewed: None,
            told: Default::default(),
            draining: false,
            said_draining: false,
            trouble: false,
        };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        changes.mark_changed();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = leaving.cancelled(), if !work.draining => {
                    work.draining = true;
                    work.renew();
                }
                note = next(&mut work.notes) => work.hear(note),
                Ok(()) = changes.changed(), if !work.following => work.follow(),
                Some(done) = work.doing.join_next(), if !work.doing.is_empty() => match done {
                    Ok(done) => work.done(done),
                    Err(error) => tracing::error!(%error, "a step of the worker failed"),
                },
                _ = tick.tick() => work.tick(),
            }
            work.think();
            if work.draining
                && work.mind.is_complete()
                && (work.mind.owned().next().is_none() || work.mind.others() == 0)
            {
                left.send_replace(true);
            }
        }
        work.doing.shutdown().await;
        // A registry that is away must not hold the end up.
        match tokio::time::timeout(AGAIN, work.parts.registry.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease could not be taken back; it ends on its own"),
            Err(_) => tracing::warn!("the lease could not be taken back in time; it ends on its own"),
        }
    }
}

async fn next(notes: &mut Option<mpsc::Receiver<Note>>) -> Option<Note> {
    match notes {
        Some(notes) => notes.recv().await,
        None => std::future::pending().await,
    }
}

impl Work {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn hear(&mut self, note: Option<Note>) {
        let Some(first) = note else {
            self.notes = None;
            self.mind.begin_anew();
            return;
        };
        self.note(first);
        for _ in 0..TOGETHER {
            let Some(Ok(note)) = self.notes.as_mut().map(mpsc::Receiver::try_recv) else { return };
            self.note(note);
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Worker(name, lease) => self.mind.worker(name, lease),
            Note::Owner(camera, owner) => self.mind.owner(camera, owner),
            Note::Complete => self.mind.complete(self.began.elapsed()),
        }
    }

    fn tick(&mut self) {
        if self.renewed.is_none_or(|at| at.elapsed() >= self.parts.lease / 3) {
            self.renew();
        }
        if self.notes.is_none() && !self.asking_watch {
            self.asking_watch = true;
            let registry = self.parts.registry.clone();
            self.doing.spawn(async move {
                let watching = registry.watch().await;
                if watching.is_err() {
                    tokio::time::sleep(AGAIN).await;
                }
                Done::Watching(watching)
            });
        }
        if self.follow_again && !self.following {
            self.follow_again = false;
            self.follow();
        }
        let warming: Vec<CameraId> = self.mind.warming().cloned().collect();
        for camera in warming {
            let streams = self.parts.fleet.get(&camera).is_some_and(|view| view.status.state == CameraState::Streaming);
            self.mind.streaming(&camera, streams);
        }
        let owned: Vec<CameraId> = self.mind.owned().cloned().collect();
        for camera in &owned {
            let busy = self.taking.contains(camera) || self.claims.contains_key(camera);
            if !busy && !self.parts.store.owns(camera) {
                // The log refused an event: perhaps it is not ours any more.
                self.parts.outbox.hold(camera);
                self.parts.outbox.disown(camera);
                let now = self.now();
                if let Some(action) = self.mind.fenced(camera, now) {
                    self.act(action);
                }
            }
        }
        telemetry::workers(self.mind.others() + 1);
        telemetry::cameras_of_worker(owned.len());
        self.tell();
    }

    fn renew(&mut self) {
        if std::mem::replace(&mut self.renewing, true) {
            return;
        }
        (self.renewed, self.said_draining) = (Some(Instant::now()), self.draining);
        let lease = Lease { epoch: self.epoch, capacity: self.parts.capacity, draining: self.draining };
        let registry = self.parts.registry.clone();
        self.doing.spawn(async move { Done::Renewed(registry.renew(&lease).await) });
    }

    fn follow(&mut self) {
        self.following = true;
        let fleet = self.parts.fleet.clone();
        self.doing.spawn(async move { Done::Followed(fleet.follow().await) });
    }

    /// Says how the cameras fare: at once when a state changes, else now and then.
    fn tell(&mut self) {
        let views = self.parts.fleet.list().into_iter().filter(|view| self.parts.fleet.runs(&view.spec.id));
        let far = |view: CameraView| {
            let CameraView { spec, status, main, detection_latency, active_tracks, faces_found } = view;
            (spec.id, FarStatus { status, main, detection_latency, active_tracks, faces_found })
        };
        let statuses: Statuses = views.map(far).collect();
        let state = |(id, far): (&CameraId, &FarStatus)| (id.clone(), far.status.state);
        let states: BTreeMap<CameraId, CameraState> = statuses.iter().map(state).collect();
        let due = self.told.0.is_none_or(|at| at.elapsed() >= TELL);
        // Without a lease another process may have the name.
        if self.telling || self.trouble || !(due || states != self.told.1) {
            return;
        }
        self.telling = true;
        self.told = (Some(Instant::now()), states);
        let (board, me) = (self.parts.statuses.clone(), self.parts.me.clone());
        self.doing.spawn(async move {
            if let Err(error) = board.tell(&me, &statuses).await {
                tracing::debug!(%error, "statuses could not be told");
            }
            Done::Told
        });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Renewed(outcome) => {
                self.renewing = false;
                match outcome {
                    Ok(()) => {
                        let now = self.now();
                        self.mind.renewed(now);
                        if std::mem::take(&mut self.trouble) {
                            tracing::info!("the worker's lease is written again");
                        }
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut self.trouble, true) {
                            tracing::error!(%error, "the worker's lease can't be written; its cameras go on until others take them");
                        }
                    }
                }
                // The one that was under way did not say yet that this worker ends.
                if self.draining && !self.said_draining {
                    self.renew();
                }
            }
            Done::Watching(outcome) => {
                self.asking_watch = false;
                if let Ok(notes) = outcome {
                    self.mind.begin_anew();
                    self.notes = Some(notes);
                }
            }
            Done::Followed(outcome) => {
                self.following = false;
                match outcome {
                    Ok(specs) => self.mind.cameras(specs.into_iter().filter(|s| s.enabled).map(|s| s.id)),
                    Err(error) => {
                        self.follow_again = true;
                        tracing::error!(%error, "registered cameras can't be read; it is tried again");
                    }
                }
            }
            Done::Claimed(camera, outcome) => {
                let now = self.now();
                if let Some(action) = self.mind.claimed(&camera, outcome.ok(), now) {
                    self.act(action);
                }
            }
            Done::TakenOver(camera, outcome) => self.taken_over(camera, outcome),
            Done::Moved(camera) => {
                if let Some(place) = self.places.get_mut(&camera) {
                    place.moving = false;
                }
                self.settle(camera);
            }
            Done::Told => self.telling = false,
            Done::Forgotten => {}
        }
    }

    fn think(&mut self) {
        let now = self.now();
        for action in self.mind.plan(now) {
            self.act(action);
        }
    }
}

#[path = "worker_cameras.rs"]
mod cameras;
