//! One camera's faces: detect, track, embed what is worth it, decide, write events. One task a camera.
//!
//! The task takes the newest frame, asks the engine, and keeps an `Appearance` for each track. A track that ends is held back
//! for a moment: a face that comes back continues its appearance instead of starting a second one.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use backon::Retryable;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    appearance::{Appearance, Context, Draft},
    picture::{self, IdentitySettings, PictureDesk},
};
use crate::{
    camera::{CameraSpec, FrameSlot, supervisor::CameraControl},
    event::{Event, EventKind, EventLog, EventLogError, NewEvent},
    face::{Detection, Embedding, FaceEngine, FaceError, Quality, engine::Slot},
    frame::{Frame, Point, region},
    identity::{DeciderSettings, Gallery, Look, Taken},
    ids::TrackId,
    telemetry,
    time::{self, Timestamp},
    track::{
        EndedTrack, LookSettings, TrackSettings, Tracker, appearance::Departed, appearance::ReturnSettings,
        appearance::find_return,
    },
};

/// Section `[events]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventSettings {
    /// Whether events keep a picture.
    pub pictures: bool,
    /// Events older than this many days are removed; 0 keeps them for ever.
    pub retention_days: u32,
    /// Pictures are scaled down to this longer side, pixels; 0 keeps the frame's size.
    pub picture_side_px: u32,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self { pictures: true, retention_days: 30, picture_side_px: 1280 }
    }
}

/// What camera loops are made of. Cheap to clone.
#[derive(Clone)]
pub struct LoopParts {
    /// Networks.
    pub engine: FaceEngine,
    /// Who is known.
    pub gallery: Gallery,
    /// For snapshots.
    pub desk: PictureDesk,
    /// Where events go.
    pub log: Arc<dyn EventLog>,
    /// How detections become tracks.
    pub track: TrackSettings,
    /// Which crops are embedded.
    pub looks: LookSettings,
    /// When a face that comes back continues its appearance.
    pub returns: ReturnSettings,
    /// When a track is decided.
    pub decider: DeciderSettings,
    /// Thresholds.
    pub identity: IdentitySettings,
    /// Pictures of events.
    pub events: EventSettings,
}

/// Detection times kept for the median.
const LATENCIES: usize = 64;
/// Without a frame for this long, time goes on for the tracks all the same.
const TICK: Duration = Duration::from_millis(500);
/// A track that gave no usable look for this long is told as APPEARED anyway.
const APPEAR_WITHIN_MS: f64 = 700.0;

/// What others may see of a loop.
#[derive(Default)]
pub struct LoopShared {
    last: Mutex<Option<Frame>>,
    latencies: Mutex<VecDeque<Duration>>,
    tracks: AtomicU32,
}

impl LoopShared {
    /// The newest frame that was looked at.
    pub fn last_frame(&self) -> Option<Frame> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Median time from hand-over of a frame to its detections.
    pub fn detection_latency(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> =
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Faces tracked at this moment.
    pub fn active_tracks(&self) -> u32 {
        self.tracks.load(Ordering::Relaxed)
    }

    fn looked(&self, frame: Frame, took: Duration) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame);
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        if latencies.len() == LATENCIES {
            latencies.pop_front();
        }
        latencies.push_back(took);
    }
}

/// Runs until `stop`; then every track ends and its events are written.
pub(super) async fn run(
    parts: LoopParts,
    spec: watch::Receiver<CameraSpec>,
    slot: Arc<FrameSlot>,
    control: Arc<CameraControl>,
    shared: Arc<LoopShared>,
    stop: CancellationToken,
) {
    let mut faces = CameraFaces::new(parts, spec.borrow().clone());
    loop {
        let frame = tokio::select! {
            () = stop.cancelled() => break,
            frame = slot.take() => Some(frame),
            () = tokio::time::sleep(TICK) => None,
        };
        faces.spec = spec.borrow().clone();
        let events = match frame {
            Some(frame) => faces.look_at(frame, &shared).await,
            None => faces.no_frame(),
        };
        let active = faces.tracker.active();
        control.set_active(active > 0);
        shared.tracks.store(active as u32, Ordering::Relaxed);
        telemetry::active_tracks(&faces.spec.id, active);
        faces.write(events).await;
    }
    let events = faces.finish();
    faces.write(events).await;
    shared.tracks.store(0, Ordering::Relaxed);
}

/// A track that ended and may come back.
struct Held {
    ended: EndedTrack,
    appearance: Appearance,
    template: Embedding,
}

struct CameraFaces {
    parts: LoopParts,
    spec: CameraSpec,
    tracker: Tracker,
    live: BTreeMap<TrackId, Appearance>,
    held: Vec<Held>,
    /// Capture time of the newest frame, and when it was looked at.
    newest: Option<(Timestamp, Instant, (u32, u32))>,
    gallery_revision: u64,
}

impl CameraFaces {
    fn new(parts: LoopParts, spec: CameraSpec) -> Self {
        let tracker = Tracker::new(parts.track.clone());
        let gallery_revision = parts.gallery.revision();
        Self { parts, spec, tracker, live: BTreeMap::new(), held: Vec::new(), newest: None, gallery_revision }
    }

    async fn look_at(&mut self, frame: Frame, shared: &LoopShared) -> Vec<Draft> {
        let asked = Instant::now();
        let found = self.parts.engine.detect(
            Slot::Camera(self.spec.id.clone()),
            &frame.picture,
            Some(self.parts.track.low_score),
        );
        let found = match found.await {
            Ok(found) => found,
            Err(FaceError::Stopped) => return Vec::new(),
            Err(error) => {
                tracing::warn!(camera = %self.spec.id, %error, "a frame could not be searched for faces");
                telemetry::frames_skipped(&self.spec.id, "detector_failed", 1);
                return Vec::new();
            }
        };
        let took = asked.elapsed();
        telemetry::frame_looked_at(&self.spec.id, took);
        shared.looked(frame.clone(), took);

        let size = (frame.picture.width(), frame.picture.height());
        let at = frame.captured.at;
        self.newest = Some((at, Instant::now(), size));
        let detections = self.wanted(found, size);
        let report = self.tracker.step(at, size, &detections);
        let ctx = self.context();
        let mut events = Vec::new();
        for id in &report.started {
            self.live.insert(id.clone(), Appearance::new(id.clone(), at, &ctx, &self.parts.looks));
        }
        let looked = self.take_looks(&frame, &detections, &report.matched).await;
        self.rejoin(&looked);
        events.extend(self.assess(at, &report.matched, !looked.is_empty()).await);
        for appearance in self.live.values_mut() {
            let waited_ms = time::seconds_between(appearance.began, at) * 1000.0;
            if appearance.looks() > 0 || waited_ms >= APPEAR_WITHIN_MS {
                events.extend(appearance.appeared(&ctx));
            }
        }
        // APPEARED comes before what is said about the appearance.
        events.sort_by_key(|e| e.event.kind != EventKind::Appeared);
        events.extend(self.end(report.ended, at));
        events
    }

    /// Time goes on although no frame came: the camera may be gone.
    fn no_frame(&mut self) -> Vec<Draft> {
        let Some((at, seen, size)) = self.newest else { return Vec::new() };
        let now = at.checked_add(seen.elapsed()).unwrap_or(at);
        let report = self.tracker.step(now, size, &[]);
        self.end(report.ended, now)
    }

    fn finish(&mut self) -> Vec<Draft> {
        let ended = self.tracker.finish();
        let at = self.newest.map_or_else(time::now, |(at, _, _)| at);
        let mut events = self.end(ended, at);
        events.extend(self.release(None));
        events
    }

    /// Detections that count: large enough and inside the regions.
    fn wanted(&self, found: Vec<Detection>, (width, height): (u32, u32)) -> Vec<Detection> {
        let all = found.len();
        let min = self.spec.min_face_px as f32;
        let large: Vec<Detection> = found.into_iter().filter(|d| d.bbox.width().min(d.bbox.height()) >= min).collect();
        let too_small = all - large.len();
        let normalised = |p: Point| Point::new(p.x / width.max(1) as f32, p.y / height.max(1) as f32);
        let inside: Vec<Detection> =
            large.iter().filter(|d| region::counts(&self.spec.regions, normalised(d.bbox.center()))).copied().collect();
        telemetry::faces(&self.spec.id, "too_small", too_small as u64);
        telemetry::faces(&self.spec.id, "outside_region", (large.len() - inside.len()) as u64);
        telemetry::faces(&self.spec.id, "tracked", inside.len() as u64);
        inside
    }

    /// Measures the matched faces and embeds those worth it; the tracks that got a look.
    async fn take_looks(
        &mut self,
        frame: &Frame,
        detections: &[Detection],
        matched: &[(TrackId, usize)],
    ) -> Vec<TrackId> {
        let (engine, picture) = (self.parts.engine.clone(), frame.picture.clone());
        let faces: Vec<(TrackId, Detection)> =
            matched.iter().filter_map(|(id, i)| Some((id.clone(), *detections.get(*i)?))).collect();
        let measured = {
            let faces = faces.clone();
            picture::blocking(move || faces.iter().map(|(_, d)| engine.measure(&picture, d)).collect::<Vec<Quality>>())
                .await
        };
        let Ok(measured) = measured else { return Vec::new() };
        let mut wanted = Vec::new();
        for ((id, detection), quality) in faces.into_iter().zip(measured) {
            let Some(appearance) = self.live.get_mut(&id) else { continue };
            if appearance.offer(frame, &detection, quality) {
                wanted.push((id, detection, quality));
            }
        }
        if wanted.is_empty() {
            return Vec::new();
        }
        let crops: Vec<Detection> = wanted.iter().map(|(_, d, _)| *d).collect();
        let embeddings = match self.parts.engine.embed(&frame.picture, &crops).await {
            Ok(embeddings) => embeddings,
            Err(error) => {
                tracing::warn!(camera = %self.spec.id, %error, "faces could not be embedded");
                for (id, _, _) in &wanted {
                    self.live.entry(id.clone()).and_modify(Appearance::refund);
                }
                return Vec::new();
            }
        };
        let mut looked = Vec::new();
        for ((id, _, quality), embedding) in wanted.into_iter().zip(embeddings) {
            let Some(appearance) = self.live.get_mut(&id) else { continue };
            let look = Look { at: frame.captured.at, embedding, quality: quality.value };
            if matches!(appearance.decider.look(look), Taken::Agrees | Taken::Switched) {
                looked.push(id);
            }
        }
        looked
    }

    /// Joins new tracks to appearances that ended a moment ago, when they are the same face.
    fn rejoin(&mut self, looked: &[TrackId]) {
        let threshold = self.context().thresholds.similarity;
        for id in looked {
            let Some(new) = self.live.get(id).filter(|a| !a.is_told()) else { continue };
            let departed: Vec<Departed> = self
                .held
                .iter()
                .map(|h| Departed {
                    track: h.ended.id.clone(),
                    last_seen: h.ended.last_seen,
                    template: h.template.clone(),
                })
                .collect();
            let Some(template) = new.decider.template() else { continue };
            let Some(old) = find_return(&departed, &template, new.began, threshold, &self.parts.returns) else {
                continue;
            };
            if self.tracker.reattach(&old, id)
                && let Some(place) = self.held.iter().position(|h| h.ended.id == old)
                && let Some(new) = self.live.remove(id)
            {
                let mut appearance = self.held.swap_remove(place).appearance;
                appearance.goes_on_as(new);
                self.live.insert(old, appearance);
            }
        }
    }

    /// Asks the gallery about the faces in view together (one person is one face) and says what can be said.
    async fn assess(&mut self, at: Timestamp, matched: &[(TrackId, usize)], new_looks: bool) -> Vec<Draft> {
        let ctx = self.context();
        let revision = self.parts.gallery.revision();
        let gallery_changed = std::mem::replace(&mut self.gallery_revision, revision) != revision;
        let mut statements = Vec::new();
        if new_looks || gallery_changed {
            let in_view: Vec<(TrackId, Embedding)> = self
                .live
                .iter()
                .filter(|(id, a)| matched.iter().any(|(m, _)| m == *id) || (gallery_changed && a.decider.is_open()))
                .filter_map(|(id, a)| Some((id.clone(), a.decider.template()?)))
                .collect();
            let probes: Vec<Embedding> = in_view.iter().map(|(_, e)| e.clone()).collect();
            match self.parts.gallery.identify_together(&probes, &self.spec.watchlists, &ctx.thresholds).await {
                Ok(answers) => {
                    for ((id, _), (decision, _)) in in_view.into_iter().zip(answers) {
                        let Some(appearance) = self.live.get_mut(&id) else { continue };
                        let looks = appearance.looks();
                        statements.extend(appearance.decider.assess(at, looks, decision).map(|s| (id, s)));
                    }
                }
                Err(error) => {
                    tracing::warn!(camera = %self.spec.id, %error, "the gallery could not be asked; it is asked again at the next look");
                }
            }
        }
        for (id, appearance) in &mut self.live {
            statements.extend(appearance.decider.tick(at).map(|s| (id.clone(), s)));
        }
        let mut events = Vec::new();
        for (id, statement) in statements {
            if let Some(appearance) = self.live.get_mut(&id) {
                events.extend(appearance.appeared(&ctx));
                events.push(appearance.stated(statement, &self.parts.gallery, &ctx));
            }
        }
        events
    }

    /// Ended tracks: those that may come back are held, the others and those held too long are told.
    fn end(&mut self, ended: Vec<EndedTrack>, at: Timestamp) -> Vec<Draft> {
        let ctx = self.context();
        let mut events = Vec::new();
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
    fn release(&mut self, at: Option<Timestamp>) -> Vec<Draft> {
        let ctx = self.context();
        let within = f64::from(self.parts.returns.within_ms) / 1000.0;
        let over = |h: &Held| at.is_none_or(|at| time::seconds_between(h.ended.last_seen, at) > within);
        let (gone, kept): (Vec<Held>, Vec<Held>) = std::mem::take(&mut self.held).into_iter().partition(over);
        self.held = kept;
        gone.into_iter().flat_map(|h| h.appearance.left(&h.ended, &self.parts.gallery, &ctx)).collect()
    }

    fn context(&self) -> Context {
        let embedder = self.parts.engine.embedder();
        Context {
            camera: self.spec.id.clone(),
            labels: self.spec.labels.clone(),
            thresholds: picture::thresholds(&self.parts.engine, &self.parts.identity, self.spec.threshold_override),
            model: embedder.id.clone(),
            min_face_px: embedder.embedder.as_ref().map_or(0.0, |e| e.min_face_px),
            decider: self.parts.decider.clone(),
        }
    }

    /// Draws the pictures and writes the events; blocks while the log is busy (the slot keeps only the newest frame meanwhile).
    async fn write(&self, events: Vec<Draft>) {
        if events.is_empty() {
            return;
        }
        let settings = self.parts.events.clone();
        let drawn = picture::blocking(move || {
            let draw = |mut draft: Draft| {
                if settings.pictures {
                    let shot = draft.shot.take();
                    draft.event.image =
                        shot.and_then(|s| super::appearance::draw(&draft.event, &s, settings.picture_side_px));
                }
                draft.event
            };
            events.into_iter().map(draw).collect::<Vec<_>>()
        });
        let Ok(events) = drawn.await else { return };
        match append_patiently(&*self.parts.log, events).await {
            Ok(written) => {
                for event in written {
                    let latency = event.body.captured.map(|c| time::seconds_between(c.at, time::now()).max(0.0));
                    let latency = latency.filter(|_| event.body.kind != EventKind::Left);
                    telemetry::event(
                        &event.body.camera,
                        event.body.kind.as_str(),
                        latency.map(Duration::from_secs_f64),
                    );
                    tracing::debug!(camera = %event.body.camera, kind = event.body.kind.as_str(), position = event.position, "event");
                }
            }
            Err(error) => tracing::error!(camera = %self.spec.id, %error, "events could not be written and are lost"),
        }
    }
}

/// Tries again for a while: a full disk or a busy database may recover, and the camera's slot keeps only the newest frame.
async fn append_patiently(log: &dyn EventLog, events: Vec<NewEvent>) -> Result<Vec<Event>, EventLogError> {
    let attempt = || log.append(events.clone());
    let policy = backon::ExponentialBuilder::default().with_min_delay(Duration::from_millis(200)).with_max_times(5);
    attempt
        .retry(policy)
        .notify(|error, wait| tracing::warn!(%error, ?wait, "events could not be written; trying again"))
        .await
}
