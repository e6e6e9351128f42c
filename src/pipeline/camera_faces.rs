//! The faces before one camera: detect, track, embed what is worth it, decide; frames in, drafts of events out.
//!
//! Each track has an [`Appearance`]. A track that ends is held back for a moment: a face that comes back continues its appearance
//! instead of starting a second one. A track that goes over to another face is cut in two ([`turns`]).

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    appearance::{Appearance, Context, Draft},
    camera_loop::{LoopParts, LoopShared},
    main_stream::{self, MainStream},
    picture,
};
use crate::{
    camera::CameraSpec,
    event::EventKind,
    face::{Detection, Embedding, FaceEngine, FaceError, Quality, search::Search},
    frame::{
        Frame, Point,
        luma::{LumaGrid, View},
        region,
    },
    identity::{Look, Spread, Taken, ThresholdSource},
    ids::TrackId,
    telemetry,
    time::{self, CaptureOrigin, CaptureTime, Timestamp},
    track::{Tracker, appearance::APPEAR_WITHIN_MS},
};

mod searching;
mod turns;
use turns::Held;

/// Faces of one frame that are tracked at most; the largest are kept, the others counted.
const MAX_FACES: usize = 64;
/// Appearances whose whole best frame is kept; with more, the face's surroundings must do.
const WHOLE_FRAMES: usize = 8;
/// A complaint that could come with every frame is logged this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// The newest frame that was searched.
#[derive(Clone, Copy)]
struct Newest {
    captured: CaptureTime,
    arrived: Timestamp,
    looked_at: Instant,
    size: (u32, u32),
}

/// A camera's own threshold.
pub(super) fn own_threshold(spec: &CameraSpec) -> Option<(f32, ThresholdSource)> {
    spec.threshold_override.map(|t| (t, ThresholdSource::Camera))
}

/// Faces of one camera.
pub(super) struct CameraFaces {
    parts: LoopParts,
    /// The engine in use when the newest frame came: all looks of the live tracks are its model's.
    engine: FaceEngine,
    spec: CameraSpec,
    /// Where faces are cut from, when that is another stream than the one that is searched.
    main: Option<Arc<MainStream>>,
    tracker: Tracker,
    live: BTreeMap<TrackId, Appearance>,
    held: Vec<Held>,
    newest: Option<Newest>,
    view: View,
    search: Search,
    /// State of the gallery when the faces in view were last compared with it.
    gallery_revision: u64,
    complained: Option<Instant>,
}

impl CameraFaces {
    pub(super) fn new(parts: LoopParts, spec: CameraSpec, main: Option<Arc<MainStream>>) -> Self {
        let tracker = Tracker::new(parts.track.clone());
        let gallery_revision = parts.gallery.revision();
        let (live, held) = (BTreeMap::new(), Vec::new());
        let engine = parts.engine.now();
        let (newest, view, search, complained) = (None, View::default(), Search::default(), None);
        Self { parts, engine, spec, main, tracker, live, held, newest, view, search, gallery_revision, complained }
    }

    /// The camera as it is registered now.
    pub(super) fn change(&mut self, spec: CameraSpec) {
        self.spec = spec;
    }

    /// Faces tracked at this moment.
    pub(super) fn active(&self) -> usize {
        self.tracker.active()
    }

    /// Whether the next frames are wanted whatever changes in them: somebody is tracked, or a face was found that must be found again soon
    /// to count.
    pub(super) fn is_attentive(&self) -> bool {
        self.tracker.is_following()
    }

    /// Looks for faces in a frame; what is to be told.
    pub(super) async fn look_at(&mut self, frame: Frame, shared: &LoopShared) -> Vec<Draft> {
        let mut events = self.follow_model();
        let asked = Instant::now();
        let grid = LumaGrid::of(&frame.picture);
        let found = match self.search(&frame, &grid).await {
            Ok(found) => found,
            Err(FaceError::Stopped) => return events,
            Err(error) => {
                telemetry::frames_skipped(&self.spec.id, "detector_failed", 1);
                self.complain(&error, "a frame could not be searched for faces");
                return events;
            }
        };
        let took = asked.elapsed();
        telemetry::frame_looked_at(&self.spec.id, took);
        shared.looked(frame.clone(), took);

        let size = (frame.picture.width(), frame.picture.height());
        let at = frame.arrived;
        self.newest = Some(Newest { captured: frame.captured, arrived: at, looked_at: Instant::now(), size });
        let everybody: Arc<[Detection]> = found.as_slice().into();
        let detections = self.wanted(found, size);
        shared.found(detections.len());
        if self.view.moves_to(grid) {
            // A face at the place of another is nobody who moved there. Who is in the new view, too, is known by the looks and goes on.
            let ended = self.tracker.finish();
            events.extend(self.end(ended, at).await);
        }
        let report = self.tracker.step(at, size, &detections);
        let mut matched = report.matched;
        let ctx = self.context();
        for id in &report.started {
            self.live.insert(id.clone(), Appearance::new(id.clone(), at, &ctx, &self.parts.looks));
        }
        let (mut looked, mut switched) = self.take_looks(&frame, &detections, &matched, everybody).await;
        self.exchange(&mut switched, &mut matched);
        events.extend(self.cut(switched, &mut matched, &mut looked));
        // Held before the others are asked about: a track whose time ran out in the very frame that shows its face again goes on, too.
        let gone = self.end(report.ended, at).await;
        self.rejoin(&looked, &mut matched);
        let waited = self.wait_no_longer(at);
        let mut told = self.assess(at, &matched, waited || !looked.is_empty()).await;
        for appearance in self.live.values_mut().filter(|a| !a.waits) {
            if appearance.looks() > 0 || appearance.waited_ms(at) >= APPEAR_WITHIN_MS {
                told.extend(appearance.appeared(&ctx));
            }
        }
        // APPEARED comes before what is said about the appearance.
        told.sort_by_key(|e| e.event.kind != EventKind::Appeared);
        events.extend(told);
        events.extend(gone);
        events
    }

    /// Tracks whose time is over no longer wait to be an appearance that goes on; whether there are any.
    fn wait_no_longer(&mut self, at: Timestamp) -> bool {
        let mut over = self.live.values_mut().filter(|a| a.waits && a.waited_ms(at) >= APPEAR_WITHIN_MS).peekable();
        let any = over.peek().is_some();
        over.for_each(|a| a.waits = false);
        any
    }

    /// The gallery may have moved to another model. Embeddings of two models are never mixed: faces in view keep their appearance and what
    /// was said about them, and are looked at anew; those held for a possible return can't be known again, so their LEFT is told.
    fn follow_model(&mut self) -> Vec<Draft> {
        let engine = self.parts.engine.now();
        if engine.embedder().id == self.engine.embedder().id {
            return Vec::new();
        }
        let events = self.release(None);
        self.engine = engine;
        let ctx = self.context();
        for appearance in self.live.values_mut() {
            appearance.look_anew(&ctx, &self.parts.looks);
        }
        events
    }

    /// Time goes on although no frame came: the camera may be gone.
    pub(super) async fn no_frame(&mut self) -> Vec<Draft> {
        let mut events = self.follow_model();
        events.extend(self.time_passes().await);
        events
    }

    async fn time_passes(&mut self) -> Vec<Draft> {
        let Some(newest) = self.newest else { return Vec::new() };
        let silence = newest.looked_at.elapsed();
        let now = newest.arrived.checked_add(silence).unwrap_or(newest.arrived);
        // A short pause says nothing about the faces: the next frame will.
        if silence <= Duration::from_millis(u64::from(self.parts.track.max_gap_ms)) {
            return self.release(Some(now));
        }
        let report = self.tracker.step(now, newest.size, &[]);
        self.end(report.ended, now).await
    }

    /// Every track ends.
    pub(super) async fn finish(&mut self) -> Vec<Draft> {
        let ended = self.tracker.finish();
        let at = self.newest.map_or_else(time::now, |newest| newest.arrived);
        let mut events = self.end(ended, at).await;
        events.extend(self.release(None));
        events
    }

    /// Detections that count: large enough, inside the regions, not too many.
    fn wanted(&self, found: Vec<Detection>, (width, height): (u32, u32)) -> Vec<Detection> {
        let all = found.len();
        // Sizes are meant in the stream that faces are cut from.
        let main = self.main.as_ref().and_then(|main| main.size());
        let least = self.least_face_px() * main.map_or(1.0, |main| (width as f32 / main.0.max(1) as f32).min(1.0));
        let mut wanted: Vec<Detection> =
            found.into_iter().filter(|d| d.bbox.width().min(d.bbox.height()) >= least).collect();
        let large = wanted.len();
        let normalised = |p: Point| Point::new(p.x / width.max(1) as f32, p.y / height.max(1) as f32);
        wanted.retain(|d| region::counts(&self.spec.regions, normalised(d.bbox.center())));
        let inside = wanted.len();
        if inside > MAX_FACES {
            wanted.sort_by(|a, b| b.bbox.area().total_cmp(&a.bbox.area()));
            wanted.truncate(MAX_FACES);
        }
        telemetry::faces(&self.spec.id, "too_small", (all - large) as u64);
        telemetry::faces(&self.spec.id, "outside_region", (large - inside) as u64);
        telemetry::faces(&self.spec.id, "too_many", (inside - wanted.len()) as u64);
        telemetry::faces(&self.spec.id, "tracked", wanted.len() as u64);
        wanted
    }

    /// Shorter edge of the smallest box that is tracked, frame pixels. Unless the camera says otherwise half of what the embedder
    /// needs, so that somebody who walks up has a track before the face is large enough.
    fn least_face_px(&self) -> f32 {
        match self.spec.min_face_px {
            0 => self.context().least.face_px / 2.0,
            px => px as f32,
        }
    }

    /// Measures the matched faces and embeds those worth it: the tracks that got a look, and those that went over to another face.
    async fn take_looks(
        &mut self,
        frame: &Frame,
        detections: &[Detection],
        matched: &[(TrackId, usize)],
        mut everybody: Arc<[Detection]>,
    ) -> (Vec<TrackId>, Vec<TrackId>) {
        let mut faces: Vec<(TrackId, Detection)> =
            matched.iter().filter_map(|(id, i)| Some((id.clone(), *detections.get(*i)?))).collect();
        // Measuring costs as much as a tenth of the detector: not for faces that no look is due for.
        faces.retain(|(id, _)| self.live.get(id).is_some_and(|a| a.is_curious(frame.arrived)));
        if faces.is_empty() {
            return Default::default();
        }
        let large = match &self.main {
            Some(main) if !faces.is_empty() => main.beside(frame).await,
            _ => None,
        };
        let frame = match &large {
            Some(large) => {
                let size = |frame: &Frame| (frame.picture.width(), frame.picture.height());
                for (_, face) in &mut faces {
                    *face = main_stream::enlarged(face, size(frame), size(large));
                }
                everybody =
                    everybody.iter().map(|face| main_stream::enlarged(face, size(frame), size(large))).collect();
                large
            }
            None => frame,
        };
        if self.main.is_some() && !faces.is_empty() {
            telemetry::cut_from(&self.spec.id, if large.is_some() { "main" } else { "substream" }, faces.len() as u64);
        }
        let (engine, picture) = (self.engine.clone(), frame.picture.clone());
        let measured = {
            let faces = faces.clone();
            picture::blocking(move || faces.iter().map(|(_, d)| engine.measure(&picture, d)).collect::<Vec<Quality>>())
                .await
        };
        let Ok(measured) = measured else { return Default::default() };
        let whole = self.live.len() + self.held.len() <= WHOLE_FRAMES;
        let mut wanted = Vec::new();
        for ((id, detection), quality) in faces.into_iter().zip(measured) {
            let Some(appearance) = self.live.get_mut(&id) else { continue };
            if appearance.offer(frame, &detection, quality, whole, &everybody) {
                wanted.push((id, detection, quality));
            }
        }
        if wanted.is_empty() {
            return Default::default();
        }
        let crops: Vec<Detection> = wanted.iter().map(|(_, d, _)| *d).collect();
        let embeddings = match self.engine.embed(&frame.picture, &crops).await {
            Ok(embeddings) => embeddings,
            Err(error) => {
                for (id, _, _) in &wanted {
                    self.live.entry(id.clone()).and_modify(Appearance::refund);
                }
                self.complain(&error, "faces could not be embedded");
                return Default::default();
            }
        };
        telemetry::embedded(&self.spec.id, crops.len() as u64);
        let liveness = self.liveness(frame, &crops).await;
        let (mut looked, mut switched, mut doubted) = (Vec::new(), Vec::new(), false);
        for (((id, _, quality), embedding), liveness) in wanted.into_iter().zip(embeddings).zip(liveness) {
            let Some(appearance) = self.live.get_mut(&id) else { continue };
            match appearance.look(Look { at: frame.arrived, embedding, quality: quality.value }, liveness) {
                Taken::Agrees => looked.push(id),
                Taken::Switched => switched.push(id),
                Taken::Doubted => doubted = true,
                Taken::Refused => {}
            }
        }
        if doubted {
            // Two who met may have been mixed up: look at the others, too.
            self.live.values_mut().filter(|a| a.shows().is_none()).for_each(Appearance::urge);
        }
        (looked, switched)
    }

    /// Liveness of faces, where it is scored: a signal that must not stand in the way of recognition when it fails.
    async fn liveness(&mut self, frame: &Frame, faces: &[Detection]) -> Vec<Option<f32>> {
        match self.engine.liveness(&frame.picture, faces).await {
            Ok(scores) => scores,
            Err(error) => {
                self.complain(&error, "liveness could not be scored");
                vec![None; faces.len()]
            }
        }
    }

    /// Asks the gallery about the faces in view together (one person is one face) and says what can be said.
    async fn assess(&mut self, at: Timestamp, matched: &[(TrackId, usize)], new_looks: bool) -> Vec<Draft> {
        let ctx = self.context();
        let revision = self.parts.gallery.revision();
        let gallery_changed = self.gallery_revision != revision;
        let mut statements = Vec::new();
        if new_looks || gallery_changed {
            let in_view: Vec<(TrackId, (Embedding, Spread))> = self
                .live
                .iter()
                .filter(|(_, a)| !a.waits)
                .filter(|(id, a)| matched.iter().any(|(m, _)| m == *id) || (gallery_changed && a.decider.is_open()))
                .filter_map(|(id, a)| Some((id.clone(), (a.decider.template()?, a.decider.evidence().spread()))))
                .collect();
            let probes: Vec<(Embedding, Spread)> = in_view.iter().map(|(_, probe)| probe.clone()).collect();
            match self.parts.gallery.identify_tracks(&probes, &self.spec.watchlists, &ctx.thresholds).await {
                Ok(answers) => {
                    self.gallery_revision = revision;
                    for ((id, _), (decision, _)) in in_view.into_iter().zip(answers) {
                        let Some(appearance) = self.live.get_mut(&id) else { continue };
                        let looks = appearance.looks();
                        appearance.compared_by = Some(ctx.model.clone());
                        statements.extend(appearance.decider.assess(at, looks, decision).map(|s| (id, s)));
                    }
                }
                Err(error) => {
                    self.complain(&error, "the gallery could not be asked; it is asked again at the next look")
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

    fn context(&self) -> Context {
        let embedder = self.engine.embedder();
        let by_our_clock = || CaptureTime { at: time::now(), origin: CaptureOrigin::Arrival };
        Context {
            camera: self.spec.id.clone(),
            labels: self.spec.labels.clone(),
            captured: self.newest.map_or_else(by_our_clock, |newest| newest.captured),
            thresholds: picture::thresholds(
                &self.engine,
                &self.parts.gallery,
                &self.parts.identity,
                own_threshold(&self.spec),
            ),
            model: embedder.id.clone(),
            least: picture::least(&self.engine, &self.parts.identity),
            decider: self.parts.decider.clone(),
            keep_unknowns: self.parts.keep_unknowns,
        }
    }

    fn complain(&mut self, error: &dyn std::fmt::Display, what: &str) {
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            tracing::warn!(camera = %self.spec.id, %error, "{what}");
        }
    }
}
