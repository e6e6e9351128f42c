//! One task a camera: attempt, watch for stalls, back off, report.
//!
//! Attempt and retry are two functions: `attempt` runs one stream to its end, [`supervise`] owns back-off and status.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use backon::BackoffBuilder;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Attention, CameraSpec, CameraState, CameraStatus, FrameSlot, Reason,
    sampler::{Sampler, Skip},
    source::{Cause, OpenRequest, Source, SourceEnd, SourceOpener},
    spec::Transport,
    stillness::{Judgement, Stillness},
    tally::Tally,
};
use crate::{
    frame::{Decoded, Frame, luma::LumaGrid},
    time,
};

/// Time limits of supervision: section `[cameras.supervisor]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupervisorSettings {
    /// The first frame must come within this, seconds.
    pub connect_timeout_s: u64,
    /// Without a frame for this long the camera is STALLED, seconds.
    pub stall_after_s: u64,
    /// After this much more silence the connection is torn down, seconds.
    pub stall_restart_s: u64,
    /// First pause between attempts, milliseconds; doubles, with jitter.
    pub retry_min_ms: u64,
    /// Longest pause between attempts, seconds.
    pub retry_max_s: u64,
    /// Pause after the camera refused us (cameras lock accounts), seconds.
    pub refused_retry_s: u64,
}

impl Default for SupervisorSettings {
    fn default() -> Self {
        Self {
            connect_timeout_s: 15,
            stall_after_s: 5,
            stall_restart_s: 10,
            retry_min_ms: 500,
            retry_max_s: 30,
            refused_retry_s: 300,
        }
    }
}

/// A stream that lasted this long was stable: back-off starts anew.
const STABLE: Duration = Duration::from_secs(20);
/// Stream time set back by more than this is a new clock, not an older picture.
const REWOUND: Duration = Duration::from_secs(6);

/// Where a stream's frames and status go, and who looks at it.
#[derive(Clone)]
pub struct Outlet {
    /// How it fares.
    pub status: watch::Sender<CameraStatus>,
    /// Its frames.
    pub slot: Arc<FrameSlot>,
    /// What is seen in them.
    pub attention: Arc<Attention>,
    /// Decode only what is asked for.
    pub on_demand: bool,
}

/// Runs the stream at `spec.url` until `stop`. A disabled camera only says so.
pub async fn supervise(
    spec: CameraSpec,
    opener: Arc<dyn SourceOpener>,
    outlet: Outlet,
    settings: SupervisorSettings,
    stop: CancellationToken,
) {
    let Outlet { status, slot, attention, on_demand } = outlet;
    if !spec.enabled {
        enter(&status, CameraState::Disabled, None);
        stop.cancelled().await;
        return;
    }
    let mut backoff = Backoff::new(&settings);
    let mut transport = if spec.transport == Transport::Udp { Transport::Udp } else { Transport::Tcp };
    // Transports refused in a row without a picture in between.
    let mut transports_refused = 0;
    let mut reason = None;
    loop {
        // The last reason stays in sight until a picture comes.
        enter(&status, CameraState::Connecting, reason.clone());
        let request = OpenRequest {
            camera: spec.id.clone(),
            url: spec.url.clone(),
            credentials: spec.credentials.clone(),
            transport,
            tls: spec.tls,
            sampling: spec.sampling,
            attention: attention.clone(),
            on_demand,
        };
        attention.begin();
        let began = tokio::time::Instant::now();
        let mut view =
            Attempt { spec: &spec, status: &status, slot: &slot, attention: &attention, settings: &settings };
        let (end, frames) = attempt(&mut view, &*opener, &request, &stop).await;
        let Some(end) = end else { return };
        status.send_modify(|s| s.reconnects += 1);
        if began.elapsed() >= STABLE && frames > 0 {
            backoff.reset(&settings);
        }
        let mut state = end.state();
        if spec.transport == Transport::Auto {
            if end.cause == Cause::Transport {
                // A camera that takes no TCP may take UDP, and the other way round: tried soon, but not for ever.
                transport = if transport == Transport::Tcp { Transport::Udp } else { Transport::Tcp };
                transports_refused += 1;
                if transports_refused % 2 == 1 {
                    state = CameraState::Retrying;
                }
            } else {
                transports_refused = 0;
                // An outage says nothing about transports; the next attempt begins with the better one.
                transport = if frames == 0 { Transport::Tcp } else { transport };
            }
        }
        let wait = match state {
            CameraState::Refused => Duration::from_secs(settings.refused_retry_s),
            _ => backoff.next(&settings),
        };
        reason = Some(end.reason());
        enter(&status, state, reason.clone());
        status.send_modify(|s| {
            s.next_retry = time::now().checked_add(wait).ok();
            (s.fps_in, s.fps_decoded, s.fps_sampled) = (0.0, 0.0, 0.0);
            s.key_frames_only = false;
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

struct Backoff(backon::ExponentialBackoff);

impl Backoff {
    fn new(settings: &SupervisorSettings) -> Self {
        let builder = backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(settings.retry_min_ms.max(10)))
            .with_max_delay(Duration::from_secs(settings.retry_max_s.max(1)))
            .with_jitter()
            .without_max_times();
        Self(builder.build())
    }

    fn reset(&mut self, settings: &SupervisorSettings) {
        *self = Self::new(settings);
    }

    fn next(&mut self, settings: &SupervisorSettings) -> Duration {
        let most = Duration::from_secs(settings.retry_max_s.max(1));
        // Jitter is added on top of the longest delay.
        self.0.next().unwrap_or(most).min(most.saturating_mul(2))
    }
}

fn enter(status: &watch::Sender<CameraStatus>, state: CameraState, reason: Option<Reason>) {
    status.send_if_modified(|s| {
        let changed = s.state != state || s.reason != reason;
        if s.state != state {
            s.since = time::now();
        }
        s.state = state;
        s.reason = reason;
        s.next_retry = None;
        changed
    });
}

struct Attempt<'a> {
    spec: &'a CameraSpec,
    status: &'a watch::Sender<CameraStatus>,
    slot: &'a FrameSlot,
    attention: &'a Attention,
    settings: &'a SupervisorSettings,
}

/// Runs one stream to its end: the end (`None` when stopped) and the number of frames it gave.
async fn attempt(
    view: &mut Attempt<'_>,
    opener: &dyn SourceOpener,
    request: &OpenRequest,
    stop: &CancellationToken,
) -> (Option<SourceEnd>, u64) {
    let opened = tokio::select! {
        () = stop.cancelled() => return (None, 0),
        opened = opener.open(request) => opened,
    };
    let mut source = match opened {
        Ok(source) => source,
        Err(end) => return (Some(end), 0),
    };
    let mut tally = Tally::default();
    let end = tokio::select! {
        () = stop.cancelled() => None,
        end = stream(view, &mut *source, &mut tally) => Some(end),
    };
    tally.tell(view.status, &*source);
    source.close().await;
    (end, tally.received)
}

async fn stream(view: &mut Attempt<'_>, source: &mut dyn Source, tally: &mut Tally) -> SourceEnd {
    let settings = view.settings;
    let mut scene = Watched::new(view.spec, view.attention);
    let connect = Duration::from_secs(settings.connect_timeout_s.max(1));
    let stall = Duration::from_secs(settings.stall_after_s.max(1));
    let restart = Duration::from_secs(settings.stall_restart_s);
    loop {
        let patience = if tally.received == 0 { connect } else { stall };
        let frame = match timeout(patience, source.next()).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(end)) => return end,
            Err(_) if tally.received == 0 => return source.facts().why_no_frame(),
            // Pictures come and are left encoded: nothing is wrong.
            Err(_) if is_idle(source, stall) => continue,
            Err(_) => {
                let silent = SourceEnd::new(Cause::Stalled, format!("none for {} s", patience.as_secs()));
                enter(view.status, CameraState::Stalled, Some(silent.reason()));
                view.status.send_modify(|s| (s.fps_in, s.fps_decoded, s.fps_sampled) = (0.0, 0.0, 0.0));
                match timeout(restart, source.next()).await {
                    Ok(Ok(frame)) => frame,
                    Ok(Err(end)) => return end,
                    Err(_) => return silent,
                }
            }
        };
        enter(view.status, CameraState::Streaming, None);
        let now = Instant::now();
        let size = (frame.picture.width(), frame.picture.height());
        if let Some(verdict) = scene.judge(&frame, now) {
            let replaced = match (verdict, frame.decoded) {
                (Err(_), _) => None,
                (Ok(()), Decoded::Late) => view.slot.keep(frame).await,
                (Ok(()), _) => view.slot.put(frame),
            };
            tally.count(now, size, verdict, replaced.is_some());
        }
        if tally.is_due(now) {
            tally.tell(view.status, source);
        }
    }
}

/// Whether pictures arrive although none is decoded.
fn is_idle(source: &dyn Source, within: Duration) -> bool {
    let facts = source.facts();
    facts.key_frames_only && facts.last_picture.is_some_and(|at| at.elapsed() < within)
}

/// Which frames of a stream are handed on: by rate, and only what shows something new while no face is tracked.
struct Watched<'a> {
    sampler: Sampler,
    stillness: Stillness,
    attention: &'a Attention,
    /// Stream time of the newest frame handed on.
    handed_on: Option<Duration>,
    /// Whether a face was tracked when the last frame was judged.
    active: bool,
}

impl<'a> Watched<'a> {
    fn new(spec: &CameraSpec, attention: &'a Attention) -> Self {
        let stillness = Stillness::within(&spec.regions);
        Self { sampler: Sampler::new(spec.sampling), stillness, attention, handed_on: None, active: false }
    }

    /// Whether to hand a frame on, and if not, why; `None` for one that comes again or came before.
    fn judge(&mut self, frame: &Frame, now: Instant) -> Option<Result<(), Skip>> {
        let before = frame.pts.zip(self.handed_on).is_some_and(|(pts, last)| pts <= last && last - pts < REWOUND);
        if before && frame.decoded != Decoded::AsItCame {
            return None;
        }
        let active = self.attention.is_active();
        if frame.decoded != Decoded::Late {
            // The source has thinned key frames by itself.
            if frame.decoded == Decoded::AsItCame
                && let Err(skip) = self.sampler.take(now, active)
            {
                return Some(Err(skip));
            }
            let judgement = self.stillness.judge(LumaGrid::of(&frame.picture), active, now);
            let came = !std::mem::replace(&mut self.active, active) && active;
            // Not every frame with a face in it: the camera would idle that much later after somebody left.
            if judgement == Judgement::Changed || came {
                self.attention.changed(now);
            }
            let wanted = active || judgement == Judgement::Changed;
            if wanted && frame.decoded == Decoded::Alone {
                // What came before it is wanted first; this one comes again behind it.
                self.attention.wake();
                return None;
            }
            if !wanted && judgement == Judgement::Still {
                self.see(frame);
                return Some(Err(Skip::Still));
            }
        }
        self.see(frame);
        self.handed_on = frame.pts.or(self.handed_on);
        Some(Ok(()))
    }

    fn see(&self, frame: &Frame) {
        if let Some(pts) = frame.pts {
            self.attention.seen(pts);
        }
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
