//! One task a camera: takes the newest frame, has its faces looked at, writes the events.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use backon::Retryable;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    appearance::{self, Draft},
    camera_faces::CameraFaces,
    figures,
    main_stream::MainStream,
    picture::{self, IdentitySettings, PictureDesk},
};
use crate::{
    camera::{Attention, CameraSpec, FrameSlot},
    event::{Event, EventKind, EventLog, EventLogError, NewEvent},
    face::EngineInUse,
    frame::Frame,
    identity::{DeciderSettings, Gallery, UnknownChange},
    telemetry, time,
    track::{LookSettings, TrackSettings, appearance::ReturnSettings},
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
    pub engine: EngineInUse,
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
    let (log, settings) = (parts.log.clone(), parts.events.clone());
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
        attention.set_active(active > 0);
        main.iter().for_each(|main| main.set_active(active > 0));
        shared.tracks.store(active as u32, Ordering::Relaxed);
        telemetry::active_tracks(&id, active);
        write(&*log, &settings, events).await;
    }
    write(&*log, &settings, faces.finish().await).await;
    shared.tracks.store(0, Ordering::Relaxed);
    telemetry::active_tracks(&id, 0);
}

/// Draws the pictures and writes the events; blocks while the log is busy (the slot keeps only the newest frame meanwhile).
async fn write(log: &dyn EventLog, settings: &EventSettings, drafts: Vec<Draft>) {
    // Most frames lead to none, and none is no decision to trace.
    if !drafts.is_empty() {
        write_some(log, settings, drafts).await;
    }
}

#[tracing::instrument(name = "decision", skip_all, fields(camera = tracing::field::Empty, events = drafts.len(), latency_ms = tracing::field::Empty))]
async fn write_some(log: &dyn EventLog, settings: &EventSettings, drafts: Vec<Draft>) {
    let bare: Vec<NewEvent> = drafts.iter().map(|draft| draft.event.clone()).collect();
    let settings = settings.clone();
    let drawn = picture::blocking(move || {
        let draw = |mut draft: Draft| {
            if settings.pictures {
                let shot = draft.shot.take();
                draft.event.image = shot.and_then(|s| appearance::draw(&draft.event, &s, settings.picture_side_px));
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
    let Some(camera) = events.first().map(|e| e.camera.clone()) else { return };
    tracing::Span::current().record("camera", camera.as_str());
    let unknowns = events.iter().filter(|e| e.unknown.is_some()).count() as u64;
    match append_patiently(log, events).await {
        Ok(written) => {
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
        Err(error) => {
            telemetry::unknown_faces("lost", unknowns);
            tracing::error!(%camera, %error, "events could not be written and are lost");
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
