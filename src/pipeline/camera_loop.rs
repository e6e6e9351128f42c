//! One task a camera: takes the newest frame, has its faces looked at, writes the events.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    appearance::{self, Draft},
    camera_faces::CameraFaces,
    main_stream::MainStream,
    outbox::Outbox,
    picture::{self, IdentitySettings, PictureDesk},
};
use crate::{
    camera::{Attention, CameraSpec, FrameSlot},
    event::NewEvent,
    face::EngineInUse,
    frame::Frame,
    identity::{DeciderSettings, Gallery, UnknownChange},
    telemetry,
    track::{LookSettings, TrackSettings, appearance::ReturnSettings},
};

/// What becomes of other people in the picture of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Others {
    /// Every other face that was found is blurred.
    #[default]
    Blur,
    /// They are shown.
    Show,
}

/// Section `[events]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventSettings {
    /// Whether events keep a picture.
    pub pictures: bool,
    /// Events older than this many days are removed; 0 keeps them for ever.
    pub retention_days: u32,
    /// What becomes of other people in a picture.
    pub others: Others,
    /// Days after which pictures are removed, before their events; 0 keeps them as long as these.
    pub picture_retention_days: u32,
    /// Pictures are scaled down to this longer side, pixels; 0 keeps the frame's size.
    pub picture_side_px: u32,
    /// Events that wait in memory at most while the data folder can't be written.
    pub max_waiting: usize,
    /// Pictures of waiting events, MiB at most; beyond it the oldest go.
    pub max_waiting_mib: usize,
}

impl Default for EventSettings {
    fn default() -> Self {
        let (max_waiting, max_waiting_mib) = (10_000, 256);
        Self {
            pictures: true,
            retention_days: 30,
            others: Others::Blur,
            picture_retention_days: 0,
            picture_side_px: 1280,
            max_waiting,
            max_waiting_mib,
        }
    }
}

/// What camera loops are made of. Cheap to clone.
#[derive(Clone)]
pub struct LoopParts {
    /// Networks.
    pub engine: EngineInUse,
    /// Who is known.
    pub gallery: Gallery,
    /// For snapshots.
    pub desk: PictureDesk,
    /// Where events go.
    pub outbox: Outbox,
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
    /// Whether faces that stay unknown are kept.
    pub keep_unknowns: bool,
}

/// Detection times kept for the median.
const LATENCIES: usize = 64;
/// Without a frame for this long, time goes on for the tracks all the same.
const TICK: Duration = Duration::from_millis(500);

/// What others may see of a loop.
#[derive(Default)]
pub struct LoopShared {
    last: Mutex<Option<Frame>>,
    latencies: Mutex<VecDeque<Duration>>,
    tracks: AtomicU32,
    faces: AtomicU64,
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

    /// Faces found in frames that were large enough and inside the regions, since the camera was started.
    pub fn faces_found(&self) -> u64 {
        self.faces.load(Ordering::Relaxed)
    }

    /// Counts faces of one frame.
    pub(super) fn found(&self, faces: usize) {
        self.faces.fetch_add(faces as u64, Ordering::Relaxed);
    }

    /// A frame was searched for faces.
    pub(super) fn looked(&self, frame: Frame, took: Duration) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame);
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        if latencies.len() == LATENCIES {
            latencies.pop_front();
        }
        latencies.push_back(took);
    }
}

/// Where a loop's frames come from.
pub(super) struct Eyes {
    /// Those that are searched for faces.
    pub(super) slot: Arc<FrameSlot>,
    /// What the loop sees in them.
    pub(super) attention: Arc<Attention>,
    /// Where faces are cut from, when that is another stream.
    pub(super) main: Option<Arc<MainStream>>,
}

/// Runs until `stop`; then every track ends and its events are written.
pub(super) async fn run(
    parts: LoopParts,
    spec: watch::Receiver<CameraSpec>,
    eyes: Eyes,
    shared: Arc<LoopShared>,
    stop: CancellationToken,
) {
    let Eyes { slot, attention, main } = eyes;
    let (outbox, settings) = (parts.outbox.clone(), parts.events.clone());
    let id = spec.borrow().id.clone();
    let mut faces = CameraFaces::new(parts, spec.borrow().clone(), main.clone());
    loop {
        let frame = tokio::select! {
            () = stop.cancelled() => break,
            frame = slot.take() => Some(frame),
            () = tokio::time::sleep(TICK) => None,
        };
        faces.change(spec.borrow().clone());
        let events = match frame {
            Some(frame) => faces.look_at(frame, &shared).await,
            None => faces.no_frame().await,
        };
        let active = faces.active();
        attention.set_active(faces.is_attentive());
        main.iter().for_each(|main| main.set_active(active > 0));
        shared.tracks.store(active as u32, Ordering::Relaxed);
        telemetry::active_tracks(&id, active);
        write(&outbox, &settings, events).await;
    }
    write(&outbox, &settings, faces.finish().await).await;
    shared.tracks.store(0, Ordering::Relaxed);
    telemetry::active_tracks(&id, 0);
}

/// Draws the pictures and writes the events; blocks while the log is busy (the slot keeps only the newest frame meanwhile).
async fn write(outbox: &Outbox, settings: &EventSettings, drafts: Vec<Draft>) {
    // Most frames lead to none, and none is no decision to trace.
    if !drafts.is_empty() {
        write_some(outbox, settings, drafts).await;
    }
}

#[tracing::instrument(name = "decision", skip_all, fields(camera = tracing::field::Empty, events = drafts.len(), latency_ms = tracing::field::Empty))]
async fn write_some(outbox: &Outbox, settings: &EventSettings, drafts: Vec<Draft>) {
    let bare: Vec<NewEvent> = drafts.iter().map(|draft| draft.event.clone()).collect();
    let settings = settings.clone();
    let drawn = picture::blocking(move || {
        let draw = |mut draft: Draft| {
            if settings.pictures {
                let shot = draft.shot.take();
                draft.event.image =
                    shot.and_then(|s| appearance::draw(&draft.event, &s, settings.picture_side_px, settings.others));
            }
            if let (Some(UnknownChange::Keep(face)), Some(shot)) = (&mut draft.event.unknown, &draft.portrait) {
                face.picture = appearance::portrait(shot);
            }
            draft.event
        };
        drafts.into_iter().map(draw).collect::<Vec<_>>()
    });
    let events = drawn.instrument(tracing::info_span!("draw")).await.unwrap_or_else(|error| {
        tracing::error!(%error, "pictures of events could not be drawn; the events are written without");
        bare
    });
    let Some(camera) = events.first().map(|e| e.camera.as_str()) else { return };
    tracing::Span::current().record("camera", camera);
    outbox.write(events).await;
}
