//! One task a camera: attempt, watch for stalls, back off, report.
//!
//! Attempt and retry are two functions: `attempt` runs one stream to its end, [`supervise`] owns back-off and status.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use backon::BackoffBuilder;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    CameraSpec, CameraState, CameraStatus, FrameSlot, Reason,
    sampler::{Sampler, Skip},
    source::{Cause, OpenRequest, Source, SourceEnd, SourceOpener},
    spec::Transport,
};
use crate::time;

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
/// Status is told at most this often while streaming.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Rates are measured over this long.
const WINDOW: Duration = Duration::from_secs(5);

/// What the camera's loop tells the supervisor.
#[derive(Debug, Default)]
pub struct CameraControl {
    active: AtomicBool,
}

impl CameraControl {
    /// Says whether a face is tracked.
    pub fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Relaxed);
    }

    /// Whether a face is tracked.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }
}

/// Runs a camera until `stop`. A disabled camera only says so.
pub async fn supervise(
    spec: CameraSpec,
    opener: Arc<dyn SourceOpener>,
    status: watch::Sender<CameraStatus>,
    slot: Arc<FrameSlot>,
    control: Arc<CameraControl>,
    settings: SupervisorSettings,
    stop: CancellationToken,
) {
    if !spec.enabled {
        enter(&status, CameraState::Disabled, None);
        stop.cancelled().await;
        return;
    }
    let mut backoff = Backoff::new(&settings);
    let mut transport = if spec.transport == Transport::Udp { Transport::Udp } else { Transport::Tcp };
    loop {
        enter(&status, CameraState::Connecting, None);
        let request = OpenRequest {
            camera: spec.id.clone(),
            url: spec.url.clone(),
            credentials: spec.credentials.clone(),
            transport,
        };
        let began = tokio::time::Instant::now();
        let mut view = Attempt { spec: &spec, status: &status, slot: &slot, control: &control, settings: &settings };
        let (end, frames) = tokio::select! {
            () = stop.cancelled() => return,
            outcome = attempt(&mut view, &*opener, &request, &stop) => outcome,
        };
        let Some(end) = end else { return };
        status.send_modify(|s| s.reconnects += 1);
        if began.elapsed() >= STABLE && frames > 0 {
            backoff.reset(&settings);
        }
        // A camera that takes no TCP may take UDP, and the other way round.
        if spec.transport == Transport::Auto && frames == 0 && matches!(end.cause, Cause::Other | Cause::ConnectTimeout)
        {
            transport = if transport == Transport::Tcp { Transport::Udp } else { Transport::Tcp };
        }
        let wait = match end.state() {
            CameraState::Refused => Duration::from_secs(settings.refused_retry_s),
            _ => backoff.next(&settings),
        };
        enter(&status, end.state(), Some(end.reason()));
        status.send_modify(|s| {
            s.next_retry = time::now().checked_add(wait).ok();
            (s.fps_in, s.fps_sampled) = (0.0, 0.0);
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
        self.0.next().unwrap_or(most).min(most * 2)
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
    control: &'a CameraControl,
    settings: &'a SupervisorSettings,
}

/// Runs one stream to its end: the end (`None` when stopped) and the number of frames it gave.
async fn attempt(
    view: &mut Attempt<'_>,
    opener: &dyn SourceOpener,
    request: &OpenRequest,
    stop: &CancellationToken,
) -> (Option<SourceEnd>, u64) {
    let mut source = match opener.open(request).await {
        Ok(source) => source,
        Err(end) => return (Some(end), 0),
    };
    let mut tally = Tally::default();
    let end = tokio::select! {
        () = stop.cancelled() => None,
        end = stream(view, &mut *source, &mut tally) => Some(end),
    };
    source.close().await;
    (end, tally.received)
}

async fn stream(view: &mut Attempt<'_>, source: &mut dyn Source, tally: &mut Tally) -> SourceEnd {
    let settings = view.settings;
    let mut sampler = Sampler::new(view.spec.sampling);
    let connect = Duration::from_secs(settings.connect_timeout_s.max(1));
    let stall = Duration::from_secs(settings.stall_after_s.max(1));
    let restart = Duration::from_secs(settings.stall_restart_s);
    loop {
        let patience = if tally.received == 0 { connect } else { stall };
        let frame = match timeout(patience, source.next()).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(end)) => return end,
            Err(_) if tally.received == 0 => return SourceEnd::new(Cause::ConnectTimeout, ""),
            Err(_) => {
                let silent = SourceEnd::new(Cause::Stalled, format!("none for {} s", patience.as_secs()));
                enter(view.status, CameraState::Stalled, Some(silent.reason()));
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
        let verdict = sampler.take(now, view.control.is_active());
        let replaced = if verdict.is_ok() { view.slot.put(frame) } else { None };
        tally.count(now, verdict, replaced.is_some());
        tally.tell(view.status, now, size, source);
    }
}

/// Counts of one attempt that are not told yet.
#[derive(Default)]
struct Tally {
    received: u64,
    untold: Untold,
    arrivals: VecDeque<(Instant, bool)>,
    told: Option<Instant>,
    replaced_told: u64,
}

#[derive(Default)]
struct Untold {
    received: u64,
    sampled: u64,
    by_rate: u64,
    replaced: u64,
}

impl Tally {
    fn count(&mut self, now: Instant, verdict: Result<(), Skip>, replaced: bool) {
        self.received += 1;
        self.untold.received += 1;
        match verdict {
            Ok(()) => self.untold.sampled += 1,
            Err(_) => self.untold.by_rate += 1,
        }
        self.untold.replaced += u64::from(replaced);
        self.arrivals.push_back((now, verdict.is_ok()));
        while self.arrivals.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.arrivals.pop_front();
        }
    }

    fn tell(&mut self, status: &watch::Sender<CameraStatus>, now: Instant, size: (u32, u32), source: &dyn Source) {
        if self.told.is_some_and(|told| now.duration_since(told) < TELL_EVERY) {
            return;
        }
        self.told = Some(now);
        let facts = source.facts();
        let untold = std::mem::take(&mut self.untold);
        let in_decoder = facts.replaced.saturating_sub(self.replaced_told);
        self.replaced_told = facts.replaced;
        let span = self.arrivals.front().map_or(0.0, |(first, _)| now.duration_since(*first).as_secs_f32());
        let rate = |n: usize| if span > 0.0 { n.saturating_sub(1) as f32 / span } else { 0.0 };
        let (arrived, sampled) = (self.arrivals.len(), self.arrivals.iter().filter(|(_, taken)| *taken).count());
        status.send_modify(|s| {
            s.resolution = Some(size);
            s.codec = facts.codec;
            s.key_frame_interval = facts.key_frame_interval;
            s.decode_latency = facts.decode_latency;
            s.fps_in = rate(arrived);
            s.fps_sampled = rate(sampled);
            s.frames_received += untold.received + in_decoder;
            s.frames_sampled += untold.sampled;
            *s.frames_skipped.entry(Skip::Rate.as_str()).or_default() += untold.by_rate;
            *s.frames_skipped.entry(Skip::Replaced.as_str()).or_default() += untold.replaced + in_decoder;
        });
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
