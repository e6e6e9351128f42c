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
    source::{Cause, OpenRequest, Source, SourceEnd, SourceOpener, StreamFacts},
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
        };
        let began = tokio::time::Instant::now();
        let mut view = Attempt { spec: &spec, status: &status, slot: &slot, control: &control, settings: &settings };
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
                view.status.send_modify(|s| (s.fps_in, s.fps_sampled) = (0.0, 0.0));
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
        tally.count(now, size, verdict, replaced.is_some());
        if tally.is_due(now) {
            tally.tell(view.status, source);
        }
    }
}

/// Counts of one attempt.
#[derive(Default)]
struct Tally {
    received: u64,
    untold: Untold,
    arrivals: VecDeque<(Instant, bool)>,
    size: Option<(u32, u32)>,
    told: Option<Instant>,
    /// What the source had counted when it was last asked.
    source: StreamFacts,
}

#[derive(Default)]
struct Untold {
    received: u64,
    /// Below zero when a frame told as sampled was replaced after all.
    sampled: i64,
    by_rate: u64,
    replaced: u64,
}

impl Tally {
    fn count(&mut self, now: Instant, size: (u32, u32), verdict: Result<(), Skip>, replaced: bool) {
        self.received += 1;
        self.size = Some(size);
        self.untold.received += 1;
        match verdict {
            Ok(()) => self.untold.sampled += 1,
            Err(_) => self.untold.by_rate += 1,
        }
        if replaced {
            // The one that was replaced was never looked at.
            self.untold.replaced += 1;
            self.untold.sampled -= 1;
        }
        self.arrivals.push_back((now, verdict.is_ok()));
        while self.arrivals.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.arrivals.pop_front();
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY)
    }

    /// Tells what was counted since the last time.
    fn tell(&mut self, status: &watch::Sender<CameraStatus>, source: &dyn Source) {
        let facts = source.facts();
        let before = std::mem::replace(&mut self.source, facts.clone());
        let untold = std::mem::take(&mut self.untold);
        let in_decoder = facts.replaced.saturating_sub(before.replaced);
        let overloaded = facts.overloaded.saturating_sub(before.overloaded);
        let unreadable = facts.unreadable.saturating_sub(before.unreadable);
        let (first, last) = (self.arrivals.front(), self.arrivals.back());
        self.told = last.map(|(at, _)| *at).or(self.told);
        let span = first.zip(last).map_or(0.0, |(a, b)| b.0.duration_since(a.0).as_secs_f32());
        let rate = |n: usize| if span > 0.0 { n.saturating_sub(1) as f32 / span } else { 0.0 };
        let (arrived, sampled) = (self.arrivals.len(), self.arrivals.iter().filter(|(_, taken)| *taken).count());
        let size = self.size;
        status.send_modify(|s| {
            s.resolution = size.or(s.resolution);
            s.codec = facts.codec.or(s.codec);
            s.key_frame_interval = facts.key_frame_interval;
            s.decode_latency = facts.decode_latency;
            s.fps_in = rate(arrived);
            s.fps_sampled = rate(sampled);
            s.frames_received += untold.received + in_decoder + overloaded + unreadable;
            s.frames_sampled = s.frames_sampled.saturating_add_signed(untold.sampled);
            for (why, count) in [
                (Skip::Rate, untold.by_rate),
                (Skip::Replaced, untold.replaced + in_decoder),
                (Skip::Overload, overloaded),
                (Skip::Unreadable, unreadable),
            ] {
                *s.frames_skipped.entry(why.as_str()).or_default() += count;
            }
        });
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
