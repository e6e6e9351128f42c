//! One appearance: a track with its looks, its best shot, and what was said about it so far.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{camera_loop::Others, label};
use crate::{
    event::{EventKind, EventMatch, NamedPerson, NewEvent},
    face::{Detection, Quality, quality::Flaw},
    frame::{BBox, Frame, Picture, Point, annotate, blur, crop},
    identity::{
        DeciderSettings, Decision, Gallery, Look, Statement, Taken, Thresholds, TrackDecider, UnknownChange,
        UnknownFace, Why, WhyCode,
    },
    ids::{CameraId, EventId, FaceId, ModelId, TrackId},
    time::{self, CaptureOrigin, CaptureTime, Timestamp},
    track::{
        EndedTrack, Least, LookPlanner, LookSettings,
        appearance::{DOUBTED_LOOKS, Shows},
        best_shot::Skip,
    },
};

/// Size of a face's surroundings that are kept when whole frames would be too many, in box sizes.
const SURROUNDINGS: f32 = 3.0;
/// Boxes that overlap a face's own by this much (intersection over union) are its own.
const OWN: f32 = 0.5;
/// Size of the portrait of an unknown face, in box sizes …
pub(super) const PORTRAIT: f32 = 1.5;
/// … and in pixels at most.
const PORTRAIT_PX: u32 = 160;

/// What all appearances of a camera share at a moment.
pub(super) struct Context {
    pub(super) camera: CameraId,
    pub(super) labels: BTreeMap<String, String>,
    /// When the newest frame was captured: what is said now rests on it.
    pub(super) captured: CaptureTime,
    pub(super) thresholds: Thresholds,
    pub(super) model: ModelId,
    pub(super) least: Least,
    pub(super) decider: DeciderSettings,
    /// Whether faces that stay unknown are kept.
    pub(super) keep_unknowns: bool,
}

/// The crop to show, with its frame or a part of it.
#[derive(Clone)]
pub(super) struct BestShot {
    picture: Picture,
    /// Left and top edge of `picture` in the frame.
    corner: Point,
    frame_size: (u32, u32),
    captured: Timestamp,
    /// In the frame's pixels.
    detection: Detection,
    quality: Quality,
    /// Every face found in the frame, this one among them.
    everybody: Arc<[Detection]>,
}

impl BestShot {
    fn new(frame: &Frame, detection: &Detection, quality: Quality, whole: bool, everybody: &Arc<[Detection]>) -> Self {
        let (picture, corner) = if whole {
            (frame.picture.clone(), Point::default())
        } else {
            let (part, corner) = crop::cut_out(&frame.picture, &detection.bbox.grown(SURROUNDINGS));
            (Picture::from_rgb(part), corner)
        };
        let frame_size = (frame.picture.width(), frame.picture.height());
        let (captured, everybody) = (frame.captured.at, everybody.clone());
        Self { picture, corner, frame_size, captured, detection: *detection, quality, everybody }
    }

    /// Boxes of the others, in the picture's pixels. One that is nearly this face's own is that face, found twice.
    fn others(&self) -> impl Iterator<Item = BBox> + '_ {
        let own = self.detection.bbox;
        let others = self.everybody.iter().filter(move |other| other.bbox.iou(&own) < OWN);
        others.map(|other| other.moved(-self.corner.x, -self.corner.y).bbox)
    }
}

/// An event whose picture is still to be drawn.
pub(super) struct Draft {
    pub(super) event: NewEvent,
    pub(super) shot: Option<BestShot>,
    /// What to draw the portrait of a kept unknown face from.
    pub(super) portrait: Option<BestShot>,
}

/// A mean of numbers as they come.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f32,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: Option<f32>) {
        self.join(value.map_or_else(Self::default, |sum| Self { sum, count: 1 }));
    }

    fn join(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    fn value(&self) -> Option<f32> {
        (self.count > 0).then(|| self.sum / self.count as f32)
    }
}

pub(super) struct Appearance {
    /// Capture time of the frame in which the track was sure.
    pub(super) began: Timestamp,
    pub(super) decider: TrackDecider,
    track: TrackId,
    planner: LookPlanner,
    best: Option<BestShot>,
    /// The best shot since looks are doubted: it may be of another face.
    suspect: Option<BestShot>,
    told: bool,
    /// Another look is awaited before anything is told: it may be an appearance that goes on.
    pub(super) waits: bool,
    /// Liveness of the looks in the template, and of those in doubt.
    liveness: Mean,
    doubted_liveness: Mean,
    /// The last decision event, which a correction replaces.
    stated: Option<EventId>,
    /// The model whose gallery answered last: figures of another are not comparable.
    pub(super) compared_by: Option<ModelId>,
}

impl Appearance {
    pub(super) fn new(track: TrackId, began: Timestamp, ctx: &Context, looks: &LookSettings) -> Self {
        Self {
            began,
            decider: TrackDecider::new(ctx.decider.clone(), ctx.thresholds.similarity),
            track,
            planner: LookPlanner::new(looks.clone(), ctx.least),
            best: None,
            suspect: None,
            told: false,
            waits: false,
            liveness: Mean::default(),
            doubted_liveness: Mean::default(),
            stated: None,
            compared_by: None,
        }
    }

    /// Looks in the template.
    pub(super) fn looks(&self) -> u32 {
        self.decider.looks()
    }

    /// Whether APPEARED was told.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// Whether a crop of this moment is worth measuring: a look may be taken, or there is no picture yet.
    pub(super) fn is_curious(&self, at: Timestamp) -> bool {
        self.best.is_none() || self.planner.may_look(at).is_ok()
    }

    /// Offers a crop; whether it is worth embedding. Keeps the frame of the best crop, or with `whole` false a part of it.
    pub(super) fn offer(
        &mut self,
        frame: &Frame,
        detection: &Detection,
        quality: Quality,
        whole: bool,
        everybody: &Arc<[Detection]>,
    ) -> bool {
        let wanted = self.planner.offer(frame.arrived, detection, quality).is_ok();
        let shot = if self.decider.evidence().is_doubted() { &mut self.suspect } else { &mut self.best };
        if shot.as_ref().is_none_or(|best| best.quality.rank() < quality.rank()) {
            *shot = Some(BestShot::new(frame, detection, quality, whole, everybody));
        }
        wanted
    }

    /// Takes an embedded crop in, with its liveness where that is scored.
    pub(super) fn look(&mut self, look: Look, liveness: Option<f32>) -> Taken {
        let taken = self.decider.look(look);
        match taken {
            Taken::Agrees => {
                self.suspect = None;
                self.doubted_liveness = Mean::default();
                self.liveness.add(liveness);
            }
            // Whether it is another face now should be known soon.
            Taken::Doubted => {
                self.planner.urge(DOUBTED_LOOKS);
                self.doubted_liveness.add(liveness);
            }
            Taken::Switched => self.doubted_liveness.add(liveness),
            Taken::Refused => {}
        }
        taken
    }

    /// The track went over to another face: the new face's appearance under the id `track`; this one is over.
    pub(super) fn split(&mut self, track: TrackId, ctx: &Context, looks: &LookSettings) -> Option<Self> {
        let decider = self.decider.split();
        Some(Self {
            began: decider.evidence().began()?,
            decider,
            track,
            planner: LookPlanner::new(looks.clone(), ctx.least),
            best: self.suspect.take(),
            suspect: None,
            told: false,
            waits: false,
            liveness: std::mem::take(&mut self.doubted_liveness),
            doubted_liveness: Mean::default(),
            stated: None,
            compared_by: None,
        })
    }

    /// Another model is in use: its looks are taken from now on, those of the old one are gone. What was said stays.
    pub(super) fn look_anew(&mut self, ctx: &Context, looks: &LookSettings) {
        self.decider.start_anew(ctx.thresholds.similarity);
        self.planner = LookPlanner::new(looks.clone(), ctx.least);
        self.suspect = None;
    }

    /// Time since it began, milliseconds.
    pub(super) fn waited_ms(&self, at: Timestamp) -> f64 {
        time::seconds_between(self.began, at) * 1000.0
    }

    /// What it showed and shows, when its looks are in doubt.
    pub(super) fn shows(&self) -> Option<Shows> {
        let evidence = self.decider.evidence();
        Some(Shows { template: evidence.template()?, doubted: evidence.doubted()? })
    }

    /// Both tracks took each other's face: looks and best shots since then change places.
    pub(super) fn exchange(&mut self, other: &mut Self) {
        self.decider.exchange(&mut other.decider);
        let mine = std::mem::take(&mut self.doubted_liveness);
        self.liveness.join(std::mem::take(&mut other.doubted_liveness));
        other.liveness.join(mine);
        let (mine, theirs) = (self.suspect.take(), other.suspect.take());
        self.better(theirs);
        other.better(mine);
    }

    fn better(&mut self, shot: Option<BestShot>) {
        let rank = |shot: &Option<BestShot>| shot.as_ref().map_or((-1.0, 0.0), |s| s.quality.rank());
        if rank(&shot) > rank(&self.best) {
            self.best = shot;
        }
    }

    /// Lets the next look be taken soon: somebody nearby seems to have become somebody else.
    pub(super) fn urge(&mut self) {
        self.planner.urge(DOUBTED_LOOKS);
    }

    /// Gives the last look back: it could not be embedded.
    pub(super) fn refund(&mut self) {
        self.planner.refund();
    }

    /// This appearance, thought to be over, goes on as `new`, of which nothing was told yet.
    pub(super) fn goes_on_as(&mut self, new: Appearance) {
        for look in new.decider.evidence().all() {
            self.decider.look(look.clone());
        }
        self.liveness.join(new.liveness);
        self.better(new.best);
    }

    /// APPEARED, once.
    pub(super) fn appeared(&mut self, ctx: &Context) -> Option<Draft> {
        if std::mem::replace(&mut self.told, true) {
            return None;
        }
        Some(self.draft(EventKind::Appeared, ctx))
    }

    /// RECOGNIZED, UNKNOWN or CORRECTED.
    pub(super) fn stated(&mut self, mut statement: Statement, gallery: &Gallery, ctx: &Context) -> Draft {
        if statement.decision.known().is_some_and(|hit| gallery.person(&hit.person).is_none()) {
            statement.decision.withdraw(Why::erased());
        }
        let kind = match (statement.correction, statement.decision.known()) {
            (true, _) => EventKind::Corrected,
            (false, Some(_)) => EventKind::Recognized,
            (false, None) => EventKind::Unknown,
        };
        let mut draft = self.draft(kind, ctx);
        draft.event.reason = statement.decision.reason().unwrap_or_default().to_owned();
        draft.event.matched = Some(matched(&statement.decision, gallery));
        draft.event.looks = statement.looks;
        let model = self.compared_by.clone().unwrap_or_else(|| ctx.model.clone());
        // Looks may be of a newer model than the figures.
        draft.event.template = self.decider.template().filter(|t| t.model == model).map(|t| t.values.to_vec());
        draft.event.model = Some(model);
        draft.event.corrects = if statement.correction { self.stated.take() } else { None };
        self.stated = Some(draft.event.id.clone());
        draft
    }

    /// What is still owed, then LEFT.
    pub(super) fn left(mut self, ended: &EndedTrack, gallery: &Gallery, ctx: &Context) -> Vec<Draft> {
        let mut drafts: Vec<Draft> = self.appeared(ctx).into_iter().collect();
        let unusable = self.planner.why_unusable().map(|skip| why_unusable(&skip));
        if let Some(statement) = self.decider.end(unusable) {
            drafts.push(self.stated(statement, gallery, ctx));
        }
        let mut left = self.draft(EventKind::Left, ctx);
        left.shot = None;
        if let Some(face) = self.unknown(ended, ctx) {
            left.portrait = self.best.clone();
            left.event.unknown = Some(UnknownChange::Keep(Box::new(face)));
        }
        left.event.matched = self.decider.said().map(|s| matched(&s.decision, gallery));
        left.event.looks = self.looks();
        left.event.model = Some(self.compared_by.clone().unwrap_or_else(|| ctx.model.clone()));
        let dwell_s = time::seconds_between(ended.first_seen, ended.last_seen).max(0.0);
        left.event.dwell_ms = Some((dwell_s * 1000.0) as u64);
        left.event.captured = Some(CaptureTime { at: ended.last_seen, origin: CaptureOrigin::Arrival });
        drafts.push(left);
        drafts
    }

    /// The face to keep, when nobody knew it to the end; without its picture.
    fn unknown(&self, ended: &EndedTrack, ctx: &Context) -> Option<UnknownFace> {
        if !ctx.keep_unknowns || self.decider.said()?.decision.known().is_some() {
            return None;
        }
        Some(UnknownFace {
            id: FaceId::generate(),
            camera: ctx.camera.clone(),
            track: self.track.clone(),
            event: self.stated.clone()?,
            began: ended.first_seen,
            ended: ended.last_seen,
            template: self.decider.template()?,
            quality: self.best.as_ref()?.quality.value,
            picture: Bytes::new(),
        })
    }

    fn draft(&self, kind: EventKind, ctx: &Context) -> Draft {
        let mut event = NewEvent::new(EventId::generate(), kind, ctx.camera.clone(), ctx.labels.clone(), time::now());
        event.track = Some(self.track.clone());
        event.captured = Some(ctx.captured);
        if let Some(best) = &self.best {
            event.pictured = Some(best.captured);
            event.face = Some(best.detection);
            event.quality = best.quality.value;
            event.face_size_px = best.quality.size_px;
            event.frame_size = Some(best.frame_size);
            event.liveness = self.liveness.value();
        }
        Draft { event, shot: self.best.clone(), portrait: None }
    }
}

fn matched(decision: &Decision, gallery: &Gallery) -> EventMatch {
    let person = decision.known().and_then(|hit| gallery.person(&hit.person)).map(NamedPerson::from);
    EventMatch::of(decision, person)
}

/// Why no crop of a face could be used, as data.
pub(super) fn why_unusable(skip: &Skip) -> Why {
    let text = skip.to_string();
    match skip {
        Skip::TooSmall { px, needs } => Why::new(WhyCode::TooSmall, text, *px, *needs),
        Skip::TurnedAway { frontality, needs } => Why::new(WhyCode::TurnedAway, text, *frontality, *needs),
        Skip::Poor { quality, needs } => {
            let code = match quality.flaw() {
                Flaw::Blurred(_) => WhyCode::TooBlurred,
                Flaw::TurnedAway(_) => WhyCode::TurnedAway,
                Flaw::EyesHidden => WhyCode::EyesHidden,
                Flaw::MouthHidden => WhyCode::MouthHidden,
                Flaw::Glaring(_) => WhyCode::OverExposed,
            };
            Why::new(code, text, quality.value, *needs)
        }
        Skip::TooSoon | Skip::NothingNew | Skip::Spent => Why::plain(WhyCode::NoLook, text),
    }
}

/// The event's picture: the best shot with box and name, the longer side at most `side_px` (0 keeps the frame's size); the others in it as
/// they are, or blurred.
pub(super) fn draw(event: &NewEvent, shot: &BestShot, side_px: u32, others: Others) -> Option<Bytes> {
    let (mut image, scale) = crop::to_rgb_within(&shot.picture, side_px);
    if others == Others::Blur {
        let scaled = |b: BBox| BBox::new(b.x1 * scale, b.y1 * scale, b.x2 * scale, b.y2 * scale);
        shot.others().for_each(|face| blur::blur(&mut image, &scaled(face)));
    }
    let matched = event.matched.as_ref();
    let name = matched.and_then(|m| m.person.as_ref()).map(|p| p.display_name.as_str());
    let face = shot.detection.moved(-shot.corner.x, -shot.corner.y);
    let mut mark = label::mark(&face, name, matched.map_or(0.0, |m| m.confidence));
    if event.kind == EventKind::Appeared {
        mark.label = String::new();
    }
    if scale < 1.0 {
        mark = label::scaled(mark, scale);
    }
    annotate::draw(&mut image, &[mark]);
    crop::jpeg(&image, label::JPEG_QUALITY)
        .inspect_err(|error| tracing::warn!(%error, "the picture of an event could not be encoded"))
        .ok()
}

/// The face alone as a small JPEG; empty when it can't be encoded.
pub(super) fn portrait(shot: &BestShot) -> Bytes {
    let face = shot.detection.moved(-shot.corner.x, -shot.corner.y);
    let (mut image, _) = crop::cut_out(&shot.picture, &face.bbox.grown(PORTRAIT));
    let longer = image.width().max(image.height());
    if longer > PORTRAIT_PX {
        let size = |edge: u32| (edge * PORTRAIT_PX / longer).max(1);
        image = crop::resized(&image, size(image.width()), size(image.height()));
    }
    crop::jpeg(&image, label::JPEG_QUALITY)
        .inspect_err(|error| tracing::warn!(%error, "the picture of an unknown face could not be encoded"))
        .unwrap_or_default()
}
