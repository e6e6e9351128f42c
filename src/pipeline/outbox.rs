//! Between the cameras and the log: while the disk takes nothing, events wait here, in order, and are written once it does again.
//!
//! What waits is bounded. When that is reached, pictures go first, the oldest before newer ones; then further events are not kept. Both are
//! counted, and an event tells how many of which camera were lost.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::figures;
use crate::{
    event::{Event, EventKind, EventLog, EventLogError, NewEvent},
    ids::{CameraId, EventId},
    telemetry,
    time::{self, Timestamp},
};

/// Pause before the log is tried again; doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(200);
/// So long after the disk takes writes again, waiting events are on it.
const LONGEST: Duration = Duration::from_secs(3);
/// Events written in one go when the log works again.
const BATCH: usize = 64;

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Events.
    pub events: usize,
    /// Bytes of their pictures.
    pub picture_bytes: usize,
}

/// A stretch of events that were not kept.
#[derive(Debug, Clone, Copy)]
struct Lost {
    events: u64,
    since: Timestamp,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<NewEvent>,
    /// Those that are not to be told any more; they keep their places until it is their turn.
    disowned: BTreeSet<EventId>,
    picture_bytes: usize,
    lost: BTreeMap<CameraId, (Lost, BTreeMap<String, String>)>,
}

fn bytes(event: &NewEvent) -> usize {
    event.image.as_ref().map_or(0, bytes::Bytes::len)
}

impl Waiting {
    /// Keeps an event, or counts it where there is no room; whether it is kept.
    fn add(&mut self, event: NewEvent, limits: OutboxLimits) -> bool {
        if self.events.len() >= limits.events {
            let first = Lost { events: 0, since: event.created };
            let lost = self.lost.entry(event.camera).or_insert((first, event.camera_labels));
            lost.0.events += 1;
            return false;
        }
        self.picture_bytes += bytes(&event);
        self.events.push_back(event);
        let mut oldest = self.events.iter_mut();
        let mut stripped = 0;
        while self.picture_bytes > limits.picture_bytes {
            let Some(event) = oldest.next() else { break };
            if event.image.is_some() {
                self.picture_bytes -= bytes(event);
                event.image = None;
                stripped += 1;
            }
        }
        telemetry::event_pictures_lost(stripped);
        true
    }

    /// The oldest events, which stay until [`Waiting::written`]: newer ones must not overtake them. Whether each is still to be told.
    fn oldest(&self) -> Vec<(NewEvent, bool)> {
        let told = |event: &NewEvent| (event.clone(), !self.disowned.contains(&event.id));
        self.events.iter().take(BATCH).map(told).collect()
    }

    fn written(&mut self, count: usize) {
        for event in self.events.drain(..count.min(self.events.len())) {
            self.disowned.remove(&event.id);
            self.picture_bytes = self.picture_bytes.saturating_sub(bytes(&event));
        }
    }

    /// Events that tell of those that were not kept.
    fn confessions(&mut self) -> Vec<NewEvent> {
        let told = |(camera, (lost, labels)): (CameraId, (Lost, BTreeMap<String, String>))| {
            let reason = format!(
                "{} events of this camera since {} are lost: the data folder could not be written, and no more could wait",
                lost.events, lost.since
            );
            NewEvent {
                reason,
                ..NewEvent::new(EventId::generate(), EventKind::CameraState, camera, labels, time::now())
            }
        };
        std::mem::take(&mut self.lost).into_iter().map(told).collect()
    }
}

/// Events of a camera that are kept back at most; the oldest go.
const HELD: usize = 256;

struct Inner {
    log: Arc<dyn EventLog>,
    /// Cameras whose events nobody may hear yet.
    held: Mutex<BTreeMap<CameraId, VecDeque<NewEvent>>>,
    limits: OutboxLimits,
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Held while what waits is written: two at it would write it twice.
    turn: tokio::sync::Mutex<()>,
    trouble: watch::Sender<Option<String>>,
}

/// Where cameras put their events. Cheap to clone.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

impl Outbox {
    /// An outbox before a log. [`Outbox::run`] must run for what waits to be written.
    pub fn new(log: Arc<dyn EventLog>, limits: OutboxLimits) -> Self {
        let (held, waiting, turn) = (Mutex::default(), Mutex::default(), tokio::sync::Mutex::default());
        let (wake, trouble) = (Notify::new(), watch::Sender::new(None));
        Self(Arc::new(Inner { log, held, limits, waiting, wake, turn, trouble }))
    }

    /// Keeps a camera's events back: somebody else still tells what happens before it.
    pub fn hold(&self, camera: &CameraId) {
        self.held().entry(camera.clone()).or_default();
    }

    /// Writes what was kept back of a camera, and whatever comes.
    pub async fn release(&self, camera: &CameraId) {
        // Held until none is left: what comes meanwhile must not overtake them.
        loop {
            let events = {
                let mut held = self.held();
                match held.get_mut(camera) {
                    None => return,
                    Some(kept) if kept.is_empty() => {
                        held.remove(camera);
                        return;
                    }
                    Some(kept) => std::mem::take(kept),
                }
            };
            self.write_free(events.into()).await;
        }
    }

    /// Lets go of what waits of a camera that somebody else has now: they tell what happened.
    pub fn disown(&self, camera: &CameraId) {
        let mut waiting = self.lock();
        let waits: Vec<EventId> = waiting.events.iter().filter(|e| e.camera == *camera).map(|e| e.id.clone()).collect();
        let before = waiting.disowned.len();
        waiting.disowned.extend(waits);
        telemetry::events_not_ours((waiting.disowned.len() - before) as u64);
        waiting.lost.remove(camera);
    }

    /// Forgets what was kept back of a camera.
    pub fn discard(&self, camera: &CameraId) {
        let events = self.held().remove(camera).unwrap_or_default();
        telemetry::events_not_ours(events.len() as u64);
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<CameraId, VecDeque<NewEvent>>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps back what must be; the rest.
    fn not_held(&self, events: Vec<NewEvent>) -> Vec<NewEvent> {
        let mut held = self.held();
        if held.is_empty() {
            return events;
        }
        let (mut free, mut dropped) = (Vec::with_capacity(events.len()), 0);
        for event in events {
            let Some(kept) = held.get_mut(&event.camera) else {
                free.push(event);
                continue;
            };
            kept.push_back(event);
            if kept.len() > HELD {
                kept.pop_front();
                dropped += 1;
            }
        }
        telemetry::events_not_ours(dropped);
        free
    }

    /// Why events can't be written at the moment; `None` while they can.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.0.trouble.subscribe()
    }

    /// Events that wait.
    pub fn waiting(&self) -> usize {
        self.lock().events.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes events durably, or lets them wait while the log can't; those of one camera stay in order.
    pub async fn write(&self, events: Vec<NewEvent>) {
        self.write_free(self.not_held(events)).await;
    }

    async fn write_free(&self, events: Vec<NewEvent>) {
        if events.is_empty() {
            return;
        }
        if self.waiting() == 0 {
            match self.0.log.append(events.clone()).await {
                Ok(written) => return count(written, unknowns(&events)),
                Err(EventLogError::Unavailable(why)) => {
                    tracing::error!(why, "events can't be written; they wait until they can");
                    self.0.trouble.send_replace(Some(why));
                }
                Err(error) => return spoilt(&events, &error),
            }
        }
        let mut waiting = self.lock();
        let (mut kept, mut lost) = (0_u64, 0_u64);
        for event in events {
            match waiting.add(event, self.0.limits) {
                true => kept += 1,
                false => lost += 1,
            }
        }
        telemetry::events_waiting(waiting.events.len());
        drop(waiting);
        if lost > 0 {
            telemetry::events_lost(lost);
            tracing::error!(lost, kept, "events are lost: the log can't be written, and no more can wait");
        }
        self.0.wake.notify_one();
    }

    /// Writes what waits whenever something does, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wake.notified() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.drain() => {}
            }
        }
    }

    /// Writes what waits, however long it takes; dropped before its end, the rest waits on.
    pub async fn drain(&self) {
        let _turn = self.0.turn.lock().await;
        let mut pause = FIRST;
        loop {
            let batch = {
                let mut waiting = self.lock();
                if waiting.events.is_empty() {
                    let confessions = waiting.confessions();
                    confessions.into_iter().for_each(|event| {
                        waiting.add(event, self.0.limits);
                    });
                }
                waiting.oldest()
            };
            if batch.is_empty() {
                if self.0.trouble.send_replace(None).is_some() {
                    tracing::info!("events are written again, and none waits any more");
                }
                return;
            }
            let told: Vec<NewEvent> = batch.iter().filter(|(_, told)| *told).map(|(event, _)| event.clone()).collect();
            if told.is_empty() {
                self.done(batch.len());
                continue;
            }
            match self.0.log.append(told.clone()).await {
                Ok(written) => {
                    self.done(batch.len());
                    count(written, unknowns(&told));
                    pause = FIRST;
                }
                Err(EventLogError::Unavailable(why)) => {
                    self.0.trouble.send_replace(Some(why));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST);
                }
                // One of them can't be written whatever the disk does: each by itself.
                Err(_) => self.one_by_one(batch).await,
            }
        }
    }

    /// Writes events singly; those that can't be written for another reason than the disk's are lost.
    async fn one_by_one(&self, batch: Vec<(NewEvent, bool)>) {
        for (event, told) in batch {
            if !told {
                self.done(1);
                continue;
            }
            match self.0.log.append(vec![event.clone()]).await {
                Ok(written) => count(written, unknowns(std::slice::from_ref(&event))),
                Err(EventLogError::Unavailable(_)) => return,
                Err(error) => spoilt(std::slice::from_ref(&event), &error),
            }
            self.done(1);
        }
    }

    fn done(&self, events: usize) {
        let mut waiting = self.lock();
        waiting.written(events);
        telemetry::events_waiting(waiting.events.len());
    }
}

fn unknowns(events: &[NewEvent]) -> u64 {
    events.iter().filter(|e| e.unknown.is_some()).count() as u64
}

fn spoilt(events: &[NewEvent], error: &EventLogError) {
    if let EventLogError::Fenced(camera) = error {
        // Another worker tells what happens there.
        telemetry::events_not_ours(events.len() as u64);
        tracing::info!(%camera, events = events.len(), "events of a camera that another worker has are not told");
        return;
    }
    telemetry::events_lost(events.len() as u64);
    telemetry::unknown_faces("lost", unknowns(events));
    tracing::error!(%error, events = events.len(), "events could not be written and are lost");
}

fn count(written: Vec<Event>, unknowns: u64) {
    telemetry::unknown_faces("kept", unknowns);
    for Event { body, position, .. } in written {
        let latency = body.captured.map(|c| time::seconds_between(c.at, time::now()).max(0.0));
        let latency = latency.filter(|_| body.kind != EventKind::Left);
        if let Some(latency) = latency {
            // From the capture of the frame to here: the way of a frame to an event.
            tracing::Span::current().record("latency_ms", latency * 1000.0);
        }
        figures::count(&body);
        telemetry::event(&body.camera, body.kind.as_str(), latency.map(Duration::from_secs_f64));
        tracing::debug!(camera = %body.camera, kind = body.kind.as_str(), position, "event");
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
