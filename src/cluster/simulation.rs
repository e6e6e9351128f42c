//! Thousands of cameras and hundreds of workers on a made clock and a made network, decided by the real coordinators.
//!
//! What is made: the registry (leases that end, compare-and-swap on owners), the log with its fence (a worker publishes for a camera only after
//! the last take-over of it was its own), the time of every message, how long a camera takes to connect. What is real: who claims what, and when
//! a worker stops on its own.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use super::{
    coordinator::Coordinator,
    registry::{Claimed, Lease, Note, Owner},
};
use crate::ids::{CameraId, WorkerId};

/// Notes that arrive within this are thought about together, as the server does.
const THINK: Duration = Duration::from_millis(50);
/// How often the log is written by each camera in the simulation.
const PUBLISH: Duration = Duration::from_secs(1);

/// A cluster.
#[derive(Debug, Clone, Copy)]
pub struct ClusterSize {
    /// Registered cameras.
    pub cameras: usize,
    /// Workers at the beginning.
    pub workers: usize,
    /// Seconds of a lease.
    pub lease: Duration,
    /// Shortest and longest time of a message.
    pub network: (Duration, Duration),
    /// Shortest and longest time until frames of a camera arrive.
    pub connect: (Duration, Duration),
    /// Start of the random numbers.
    pub seed: u64,
}

enum Happening {
    Renew(usize),
    Think(usize),
    Told(usize, Vec<Note>),
    Claim { worker: usize, camera: usize, owner: Owner, over: Option<u64> },
    Answered { worker: usize, camera: usize, outcome: Claimed },
    Renewed(usize),
    Expires { worker: usize, written: u64 },
    Streams { worker: usize, camera: usize, life: u64 },
    Publishes { worker: usize, camera: usize, life: u64 },
    Resumes(usize),
    Returns(usize),
}

struct Worker {
    name: WorkerId,
    mind: Coordinator,
    epoch: u64,
    alive: bool,
    paused: bool,
    draining: bool,
    /// It can't reach the registry.
    cut: bool,
    thinking: bool,
    /// Renewals written, so that an old deadline is not taken for a new one.
    written: u64,
    /// What came while it was paused.
    held: Vec<Happening>,
    /// Cameras that run, each a life of its own; whether their events are told.
    running: BTreeMap<usize, (u64, bool)>,
}

/// The cluster as it stands.
pub struct Simulation {
    size: ClusterSize,
    now: Duration,
    order: u64,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    random: fastrand::Rng,
    workers: Vec<Worker>,
    cameras: Vec<CameraId>,
    places: BTreeMap<CameraId, usize>,
    leases: BTreeMap<usize, Lease>,
    owners: Vec<Option<(Owner, u64)>>,
    revision: u64,
    lives: u64,
    /// Who may publish for a camera: who took it over last.
    fence: Vec<Option<(usize, u64)>>,
    /// The claim with which it was.
    fence_claim: Vec<u64>,
    /// When events of a camera were told last.
    told: Vec<Duration>,
    since: Duration,
    before: Vec<Option<Owner>>,
    gap: Duration,
    requests: u64,
    deliveries: u64,
    claims: u64,
    lost: u64,
    events: u64,
    fenced: u64,
}

impl Simulation {
    /// A cluster whose workers start now.
    pub fn new(size: ClusterSize) -> Self {
        let cameras: Vec<CameraId> = (0..size.cameras).filter_map(|i| format!("camera-{i}").parse().ok()).collect();
        let count = cameras.len();
        let mut simulation = Self {
            size,
            now: Duration::ZERO,
            order: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            random: fastrand::Rng::with_seed(size.seed),
            workers: Vec::new(),
            places: cameras.iter().cloned().enumerate().map(|(place, camera)| (camera, place)).collect(),
            cameras,
            leases: BTreeMap::new(),
            owners: vec![None; count],
            revision: 0,
            lives: 0,
            fence: vec![None; count],
            fence_claim: vec![0; count],
            told: vec![Duration::ZERO; count],
            since: Duration::ZERO,
            before: vec![None; count],
            gap: Duration::ZERO,
            requests: 0,
            deliveries: 0,
            claims: 0,
            lost: 0,
            events: 0,
            fenced: 0,
        };
        for _ in 0..size.workers {
            simulation.add();
        }
        simulation
    }

    /// A further worker starts; its place.
    pub fn add(&mut self) -> usize {
        let place = self.workers.len();
        let name: WorkerId = match format!("worker-{place}").parse() {
            Ok(name) => name,
            Err(_) => WorkerId::generate(),
        };
        let epoch = place as u64 + 1;
        let mut mind = Coordinator::new(name.clone(), epoch, self.size.lease);
        mind.cameras(self.cameras.iter().cloned());
        let (held, running) = Default::default();
        let (alive, paused, draining, cut, thinking, written) = (true, false, false, false, false, 0);
        self.workers.push(Worker { name, mind, epoch, alive, paused, draining, cut, thinking, written, held, running });
        let jitter = self.size.lease.mul_f64(self.random.f64() / 3.0);
        self.at(jitter, Happening::Renew(place));
        place
    }

    /// A worker dies without a word.
    pub fn kill(&mut self, place: usize) {
        if let Some(worker) = self.workers.get_mut(place) {
            worker.alive = false;
            worker.running.clear();
        }
    }

    /// A worker stands still for a time, as a process that was stopped, and goes on as if nothing were.
    pub fn pause(&mut self, place: usize, time: Duration) {
        if let Some(worker) = self.workers.get_mut(place) {
            worker.paused = true;
            self.at(time, Happening::Resumes(place));
        }
    }

    /// The registry is away for a time, and leases end meanwhile; workers find it again within two seconds of each other.
    pub fn outage(&mut self, time: Duration) {
        self.leases.clear();
        for place in 0..self.workers.len() {
            self.workers[place].cut = true;
            let late = Duration::from_secs(2).mul_f64(self.random.f64());
            self.at(time + late, Happening::Returns(place));
        }
    }

    /// A worker is told to end: it keeps its cameras until others have them.
    pub fn drain(&mut self, place: usize) {
        if let Some(worker) = self.workers.get_mut(place) {
            worker.draining = true;
            self.at(Duration::ZERO, Happening::Renew(place));
        }
    }

    /// Lets so much time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(Reverse((at, order))) = self.queue.peek().copied().filter(|next| next.0.0 <= until) {
            self.queue.pop();
            self.now = at;
            if let Some(happening) = self.happenings.remove(&order) {
                self.happen(happening);
            }
        }
        self.now = until;
    }

    /// How long a lease lasts.
    pub fn lease(&self) -> Duration {
        self.size.lease
    }

    fn at(&mut self, after: Duration, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((self.now + after, self.order)));
        self.happenings.insert(self.order, happening);
    }

    fn between(&mut self, (least, most): (Duration, Duration)) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.random.f64())
    }

    fn way(&mut self) -> Duration {
        self.between(self.size.network)
    }

    /// Tells every living worker.
    fn tell(&mut self, note: &Note) {
        for place in 0..self.workers.len() {
            if self.workers[place].alive {
                self.deliveries += 1;
                let way = self.way();
                self.at(way, Happening::Told(place, vec![note.clone()]));
            }
        }
    }

    fn think(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        if !std::mem::replace(&mut worker.thinking, true) {
            self.at(THINK, Happening::Think(place));
        }
    }

    /// A worker that lives and stands still keeps what happens to it for later.
    fn held(&mut self, place: usize, happening: Happening) -> Option<Happening> {
        let worker = &mut self.workers[place];
        match (worker.alive, worker.paused) {
            (false, _) => None,
            (true, _) if worker.cut && matches!(happening, Happening::Told(..) | Happening::Renewed(_)) => None,
            (true, true) => {
                worker.held.push(happening);
                None
            }
            (true, false) => Some(happening),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Expires { worker, written } => self.expires(worker, written),
            Happening::Claim { worker, camera, owner, over } => self.claim(worker, camera, owner, over),
            Happening::Resumes(place) => {
                let worker = &mut self.workers[place];
                worker.paused = false;
                for held in std::mem::take(&mut worker.held) {
                    self.at(Duration::ZERO, held);
                }
            }
            Happening::Returns(place) => {
                let worker = &mut self.workers[place];
                worker.cut = false;
                worker.mind.begin_anew();
                if worker.alive {
                    self.renew(place);
                }
            }
            at_worker => {
                let place = match &at_worker {
                    Happening::Renew(place)
                    | Happening::Renewed(place)
                    | Happening::Think(place)
                    | Happening::Told(place, _) => *place,
                    Happening::Answered { worker, .. }
                    | Happening::Streams { worker, .. }
                    | Happening::Publishes { worker, .. } => *worker,
                    _ => return,
                };
                if let Some(happening) = self.held(place, at_worker) {
                    self.at_worker(place, happening);
                }
            }
        }
    }

    fn renew(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        if worker.cut {
            return;
        }
        worker.written += 1;
        let (written, lease) =
            (worker.written, Lease { epoch: worker.epoch, capacity: 20.0, draining: worker.draining });
        self.requests += 1;
        let first = !self.leases.contains_key(&place);
        let changed = self.leases.insert(place, lease.clone()) != Some(lease.clone());
        let (back, life) = (self.way() + self.way(), self.size.lease);
        self.at(back, Happening::Renewed(place));
        self.at(life, Happening::Expires { worker: place, written });
        self.at(life / 3, Happening::Renew(place));
        let name = self.workers[place].name.clone();
        if changed {
            self.tell(&Note::Worker(name, Some(lease)));
        } else {
            // Nobody thinks about it, but everybody is told.
            self.deliveries += self.workers.iter().filter(|w| w.alive).count() as u64;
        }
        if first {
            let mut all: Vec<Note> = Vec::new();
            for (other, lease) in &self.leases {
                all.push(Note::Worker(self.workers[*other].name.clone(), Some(lease.clone())));
            }
            for (camera, owner) in self.cameras.iter().zip(&self.owners) {
                if let Some((owner, revision)) = owner {
                    all.push(Note::Owner(camera.clone(), Some((owner.clone(), *revision))));
                }
            }
            all.push(Note::Complete);
            self.deliveries += all.len() as u64;
            let way = self.way();
            self.at(way, Happening::Told(place, all));
        }
    }

    fn expires(&mut self, place: usize, written: u64) {
        let worker = &self.workers[place];
        if worker.written == written && self.leases.remove(&place).is_some() {
            let name = worker.name.clone();
            self.tell(&Note::Worker(name, None));
        }
    }

    fn claim(&mut self, place: usize, camera: usize, owner: Owner, over: Option<u64>) {
        self.claims += 1;
        let held = self.owners[camera].as_ref().map(|(_, revision)| *revision);
        let outcome = if held == over {
            self.revision += 1;
            self.owners[camera] = Some((owner.clone(), self.revision));
            let note = Note::Owner(self.cameras[camera].clone(), Some((owner, self.revision)));
            self.tell(&note);
            Claimed::Won(self.revision)
        } else {
            self.lost += 1;
            Claimed::Lost
        };
        let way = self.way();
        self.at(way, Happening::Answered { worker: place, camera, outcome });
    }
}

#[path = "simulation_measured.rs"]
mod measured;
#[path = "simulation_worker.rs"]
mod worker;
pub use measured::Measured;

#[cfg(test)]
#[path = "simulation_tests.rs"]
mod tests;
