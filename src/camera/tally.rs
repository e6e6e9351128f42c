//! Counts and rates of one attempt, told to whoever watches the status.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    CameraStatus,
    sampler::Skip,
    source::{Source, StreamFacts},
};

/// Status is told at most this often while streaming.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Rates are measured over this long.
const WINDOW: Duration = Duration::from_secs(5);

/// Counts of one attempt.
#[derive(Default)]
pub(super) struct Tally {
    /// Frames that came.
    pub(super) received: u64,
    untold: Untold,
    arrivals: VecDeque<(Instant, bool)>,
    /// Encoded pictures by when they were asked for.
    pictures: VecDeque<(Instant, u64)>,
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
    still: u64,
    replaced: u64,
}

impl Tally {
    /// Counts a frame, and whether an older one was replaced by it.
    pub(super) fn count(&mut self, now: Instant, size: (u32, u32), verdict: Result<(), Skip>, replaced: bool) {
        self.received += 1;
        self.size = Some(size);
        self.untold.received += 1;
        match verdict {
            Ok(()) => self.untold.sampled += 1,
            Err(Skip::Still) => self.untold.still += 1,
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

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY)
    }

    /// Tells what was counted since the last time.
    pub(super) fn tell(&mut self, status: &watch::Sender<CameraStatus>, source: &dyn Source) {
        let facts = source.facts();
        let before = std::mem::replace(&mut self.source, facts.clone());
        let untold = std::mem::take(&mut self.untold);
        let since = |count: fn(&StreamFacts) -> u64| count(&facts).saturating_sub(count(&before));
        let (in_decoder, overloaded) = (since(|f| f.replaced), since(|f| f.overloaded));
        let (unreadable, idle, passed) = (since(|f| f.unreadable), since(|f| f.idle), since(|f| f.passed));
        let (first, last) = (self.arrivals.front(), self.arrivals.back());
        self.told = last.map(|(at, _)| *at).or(self.told);
        let span = first.zip(last).map_or(0.0, |(a, b)| b.0.duration_since(a.0).as_secs_f32());
        let rate = |n: usize| if span > 0.0 { n.saturating_sub(1) as f32 / span } else { 0.0 };
        let (decoded, sampled) = (self.arrivals.len(), self.arrivals.iter().filter(|(_, taken)| *taken).count());
        let (decoded, sampled) = (rate(decoded), rate(sampled));
        let arrived = self.arrival_rate(&facts).unwrap_or(decoded);
        let size = self.size;
        status.send_modify(|s| {
            s.resolution = size.or(s.resolution);
            s.codec = facts.codec.map(Into::into).or_else(|| s.codec.take());
            s.key_frame_interval = facts.key_frame_interval;
            s.decode_latency = facts.decode_latency;
            (s.fps_in, s.fps_decoded, s.fps_sampled) = (arrived, decoded, sampled);
            s.key_frames_only = facts.key_frames_only;
            s.wakes += since(|f| f.wakes);
            s.frames_received += untold.received + in_decoder + overloaded + unreadable + idle + passed;
            s.frames_sampled = s.frames_sampled.saturating_add_signed(untold.sampled);
            for (why, count) in [
                (Skip::Rate, untold.by_rate + passed),
                (Skip::Still, untold.still),
                (Skip::Idle, idle),
                (Skip::Replaced, untold.replaced + in_decoder),
                (Skip::Overload, overloaded),
                (Skip::Unreadable, unreadable),
            ] {
                *s.frames_skipped.entry(why.as_str().into()).or_default() += count;
            }
        });
    }

    /// Encoded pictures a second; `None` where the source counts none.
    fn arrival_rate(&mut self, facts: &StreamFacts) -> Option<f32> {
        let at = facts.last_picture?;
        self.pictures.push_back((at, facts.pictures));
        while self.pictures.len() > 2
            && self.pictures.front().is_some_and(|(first, _)| at.duration_since(*first) > WINDOW)
        {
            self.pictures.pop_front();
        }
        let (first, count) = self.pictures.front()?;
        let span = at.duration_since(*first).as_secs_f32();
        (span > 0.0).then(|| facts.pictures.saturating_sub(*count) as f32 / span)
    }
}
