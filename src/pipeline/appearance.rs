//! One appearance: a track with its looks, its best shot, and what was said about it so far.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::label;
use crate::{
    event::{EventKind, EventMatch, NamedPerson, NewEvent},
    face::{Detection, Quality},
    frame::{Frame, Picture, annotate, crop},
    identity::{DeciderSettings, Decision, Gallery, Statement, Thresholds, TrackDecider},
    ids::{CameraId, EventId, ModelId, TrackId},
    time::{self, CaptureTime, Timestamp},
    track::{EndedTrack, LookPlanner, LookSettings},
};

/// What all appearances of a camera share at a moment.
pub(super) struct Context {
    pub(super) camera: CameraId,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) thresholds: Thresholds,
    pub(super) model: ModelId,
    pub(super) min_face_px: f32,
    pub(super) decider: DeciderSettings,
}

/// The crop to show, with its frame.
#[derive(Clone)]
pub(super) struct BestShot {
    picture: Picture,
    captured: CaptureTime,
    detection: Detection,
    quality: Quality,
}

/// An event whose picture is still to be drawn.
pub(super) struct Draft {
    pub(super) event: NewEvent,
    pub(super) shot: Option<BestShot>,
}

pub(super) struct Appearance {
    /// Capture time of the frame in which the track was sure.
    pub(super) began: Timestamp,
    pub(super) decider: TrackDecider,
    track: TrackId,
    planner: LookPlanner,
    best: Option<BestShot>,
    told: bool,
    /// The last decision event, which a correction replaces.
    stated: Option<EventId>,
}

impl Appearance {
    pub(super) fn new(track: TrackId, began: Timestamp, ctx: &Context, looks: &LookSettings) -> Self {
        Self {
            began,
            decider: TrackDecider::new(ctx.decider.clone(), ctx.thresholds.similarity),
            track,
            planner: LookPlanner::new(looks.clone(), ctx.min_face_px),
            best: None,
            told: false,
            stated: None,
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

    /// Offers a crop; whether it is worth embedding. Keeps the frame of the best crop.
    pub(super) fn offer(&mut self, frame: &Frame, detection: &Detection, quality: Quality) -> bool {
        let wanted = self.planner.offer(frame.captured.at, detection, quality).is_ok();
        if self.planner.best().is_some_and(|best| best.detection == *detection && best.at == frame.captured.at) {
            self.best = Some(BestShot {
                picture: frame.picture.clone(),
                captured: frame.captured,
                detection: *detection,
                quality,
            });
        }
        wanted
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
        let rank = |shot: &Option<BestShot>| shot.as_ref().map_or(-1.0, |s| s.quality.value);
        if rank(&new.best) > rank(&self.best) {
            self.best = new.best;
        }
    }

    /// APPEARED, once.
    pub(super) fn appeared(&mut self, ctx: &Context) -> Option<Draft> {
        if std::mem::replace(&mut self.told, true) {
            return None;
        }
        Some(self.draft(EventKind::Appeared, ctx))
    }

    /// RECOGNIZED, UNKNOWN or CORRECTED.
    pub(super) fn stated(&mut self, statement: Statement, gallery: &Gallery, ctx: &Context) -> Draft {
        let kind = match (statement.correction, statement.decision.known()) {
            (true, _) => EventKind::Corrected,
            (false, Some(_)) => EventKind::Recognized,
            (false, None) => EventKind::Unknown,
        };
        let mut draft = self.draft(kind, ctx);
        draft.event.reason = statement.decision.reason().unwrap_or_default().to_owned();
        draft.event.matched = Some(matched(&statement.decision, gallery));
        draft.event.looks = statement.looks;
        draft.event.model = Some(ctx.model.clone());
        draft.event.template = self.decider.template().map(|t| t.values.to_vec());
        draft.event.corrects = if statement.correction { self.stated.take() } else { None };
        self.stated = Some(draft.event.id.clone());
        draft
    }

    /// What is still owed, then LEFT.
    pub(super) fn left(mut self, ended: &EndedTrack, gallery: &Gallery, ctx: &Context) -> Vec<Draft> {
        let mut drafts: Vec<Draft> = self.appeared(ctx).into_iter().collect();
        let unusable = self.planner.why_unusable().map(|skip| skip.to_string());
        if let Some(statement) = self.decider.end(unusable.as_deref()) {
            drafts.push(self.stated(statement, gallery, ctx));
        }
        let mut left = self.draft(EventKind::Left, ctx);
        left.shot = None;
        left.event.matched = self.decider.said().map(|s| matched(&s.decision, gallery));
        left.event.looks = self.looks();
        left.event.model = Some(ctx.model.clone());
        let dwell_s = time::seconds_between(ended.first_seen, ended.last_seen).max(0.0);
        left.event.dwell_ms = Some((dwell_s * 1000.0) as u64);
        if let Some(captured) = &mut left.event.captured {
            captured.at = ended.last_seen;
        }
        drafts.push(left);
        drafts
    }

    fn draft(&self, kind: EventKind, ctx: &Context) -> Draft {
        let mut event = NewEvent::new(EventId::generate(), kind, ctx.camera.clone(), ctx.labels.clone(), time::now());
        event.track = Some(self.track.clone());
        if let Some(best) = &self.best {
            event.captured = Some(best.captured);
            event.face = Some(best.detection);
            event.quality = best.quality.value;
            event.face_size_px = best.quality.size_px;
            event.frame_size = Some((best.picture.width(), best.picture.height()));
        }
        Draft { event, shot: self.best.clone() }
    }
}

fn matched(decision: &Decision, gallery: &Gallery) -> EventMatch {
    let person = decision.known().and_then(|hit| gallery.person(&hit.person)).map(|person| NamedPerson {
        id: person.id,
        display_name: person.display_name,
        watchlists: person.watchlists,
    });
    EventMatch {
        person,
        similarity: decision.similarity,
        margin: decision.margin,
        threshold: decision.threshold,
        confidence: decision.confidence,
        reason: decision.reason().unwrap_or_default().to_owned(),
    }
}

/// The event's picture: the best shot with box and name, the longer side at most `side_px` (0 keeps the frame's size).
pub(super) fn draw(event: &NewEvent, shot: &BestShot, side_px: u32) -> Option<Bytes> {
    let mut image = crop::to_rgb(&shot.picture);
    let matched = event.matched.as_ref();
    let name = matched.and_then(|m| m.person.as_ref()).map(|p| p.display_name.as_str());
    let mut mark = label::mark(&shot.detection, name, matched.map_or(0.0, |m| m.confidence));
    if event.kind == EventKind::Appeared {
        mark.label = String::new();
    }
    let longer = image.width().max(image.height());
    if side_px > 0 && longer > side_px {
        let scale = side_px as f32 / longer as f32;
        let size = |edge: u32| ((edge as f32 * scale).round() as u32).max(1);
        image = crop::resized(&image, size(image.width()), size(image.height()));
        mark = label::scaled(mark, scale);
    }
    annotate::draw(&mut image, &[mark]);
    crop::jpeg(&image, label::JPEG_QUALITY)
        .inspect_err(|error| tracing::warn!(%error, "the picture of an event could not be encoded"))
        .ok()
}
