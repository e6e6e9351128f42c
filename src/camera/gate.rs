//! Which encoded pictures are decoded: a pure rule over key frames, sizes and what is known of the scene.
//!
//! While nothing happens only key frames are decoded, each by itself; the pictures between them are kept encoded. When something happens (a
//! key frame looks different, a face is found, or the size of a picture is unlike those of the still scene) what was kept is decoded after
//! all, so nothing between two key frames is lost. A stream whose key frames are further apart than the promised detection delay is
//! decoded in full.
//!
//! A stream that is decoded on demand only (the main stream of a camera that is watched on its substream) is kept encoded all the time: its
//! newest group waits for somebody to ask.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    attention::Scene,
    spec::{Decoding, SamplingPolicy},
};

/// A scene is idle once nothing has happened for this long.
const COOLDOWN: Duration = Duration::from_secs(3);
/// How far before the moment that somebody asks pictures of a stream on demand are wanted.
const RECENT: Duration = Duration::from_secs(1);
/// How far before a surge of size pictures are looked at.
const LOOK_BACK: Duration = Duration::from_millis(300);
/// Key-frame intervals that are remembered.
const INTERVALS: usize = 4;
/// Fewest known intervals before a stream may idle.
const KNOWN: usize = 2;
/// Cameras don't keep their intervals to the millisecond.
const TOLERANCE: f32 = 1.1;
/// Most bytes of encoded pictures kept for one camera; a heavier stream wakes up instead.
pub const MOST_KEPT: usize = 16 << 20;
/// A picture this many times larger than the largest of the still scene is a surge; grows with each false alarm.
const SURGE: f32 = 1.5;
/// Most that it grows to.
const SURGE_MOST: f32 = 8.0;
/// A constant bit rate makes the pictures after a movement smaller instead. That is told from a factor as much again.
const DROP: f32 = 1.5;
/// Pictures after a key frame that are small because it was large: they are not told from what follows a movement.
const SETTLED: u32 = 12;
/// Bytes that must be between on top: sizes of nearly empty pictures say nothing.
const SURGE_BYTES: f32 = 300.0;

/// An encoded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coded {
    /// Stream time.
    pub at: Duration,
    /// Whether it can be decoded by itself.
    pub key: bool,
    /// Its size.
    pub bytes: usize,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Decode it.
    All,
    /// Decode this key frame by itself, and keep it.
    Alone,
    /// Keep it encoded.
    Keep,
    /// Keep it encoded, and let go of everything before it.
    KeepAnew,
    /// Decode everything that is kept, then this; what is later than `from` is to be looked at.
    Wake {
        /// Stream time.
        from: Duration,
    },
}

/// Sizes of the pictures of a group, bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Sizes {
    /// The largest; 0 without any.
    most: usize,
    /// The smallest of those that came when the key frame's weight was made up for.
    least: Option<usize>,
}

/// Decides picture by picture, in the order of decoding.
#[derive(Debug)]
pub struct Gate {
    policy: SamplingPolicy,
    on_demand: bool,
    alone: bool,
    last_key: Option<Duration>,
    last_alone: Option<Duration>,
    intervals: VecDeque<Duration>,
    /// Sizes of delta units in the last complete group and in the present one.
    sizes: (Sizes, Sizes),
    /// Pictures since the last key frame.
    since_key: u32,
    surge: f32,
    /// When it last woke (or began), and whether by a surge.
    woke: Option<(Instant, bool)>,
    wakes: u64,
}

impl Gate {
    /// A gate that decodes everything at first; `on_demand`: the first key frame, and then what is asked for.
    pub fn new(policy: SamplingPolicy, on_demand: bool) -> Self {
        Self {
            policy,
            on_demand,
            alone: false,
            last_key: None,
            last_alone: None,
            intervals: VecDeque::new(),
            sizes: Default::default(),
            since_key: 0,
            surge: SURGE,
            woke: None,
            wakes: 0,
        }
    }

    /// Whether only key frames are decoded at present, or nothing on demand.
    pub fn is_idle(&self) -> bool {
        self.alone
    }

    /// How often it woke.
    pub fn wakes(&self) -> u64 {
        self.wakes
    }

    /// Decodes everything from now on; whether that is a change.
    pub fn give_up(&mut self) -> bool {
        let change = self.policy.decoding != Decoding::All && !self.on_demand;
        if change {
            self.policy.decoding = Decoding::All;
        }
        change
    }

    /// Decides about a picture; `kept` are the bytes kept so far.
    pub fn step(&mut self, coded: Coded, scene: &Scene, kept: usize, now: Instant) -> Verdict {
        self.woke.get_or_insert((now, false));
        let surge = self.alone && !coded.key && self.is_surge(coded.bytes);
        if self.note(&coded) {
            // Times of what is kept and of what was seen mean nothing any more.
            (self.alone, self.woke) = (false, Some((now, false)));
            return Verdict::All;
        }
        if self.on_demand {
            return self.demanded(&coded, scene, kept, now);
        }
        if self.alone { self.idle(&coded, scene, kept, surge, now) } else { self.awake(&coded, scene, now) }
    }

    fn idle(&mut self, coded: &Coded, scene: &Scene, kept: usize, surge: bool, now: Instant) -> Verdict {
        let seen = scene.seen.unwrap_or_default();
        let asked = scene.wake || scene.active;
        let late = self.last_key.is_some_and(|key| coded.at.saturating_sub(key) > self.longest());
        let heavy = kept.saturating_add(coded.bytes) > MOST_KEPT;
        if asked || surge || late || heavy || self.policy.decoding == Decoding::All {
            let judged = self.last_alone.is_none_or(|key| key <= seen);
            let from = if surge && judged && !asked { seen.max(coded.at.saturating_sub(LOOK_BACK)) } else { seen };
            if late {
                self.interval(coded.at.saturating_sub(self.last_key.unwrap_or_default()));
            }
            self.alone = false;
            self.woke = Some((now, surge && !asked));
            self.wakes += 1;
            return Verdict::Wake { from };
        }
        if coded.key && self.is_due(coded.at) {
            self.last_alone = Some(coded.at);
            return Verdict::Alone;
        }
        Verdict::Keep
    }

    fn demanded(&mut self, coded: &Coded, scene: &Scene, kept: usize, now: Instant) -> Verdict {
        let asked = scene.active || scene.wake;
        if self.alone {
            let heavy = kept.saturating_add(coded.bytes) > MOST_KEPT;
            if !asked && !heavy {
                return if coded.key { Verdict::KeepAnew } else { Verdict::Keep };
            }
            self.alone = false;
            self.woke = Some((now, false));
            self.wakes += 1;
            return Verdict::Wake { from: scene.seen.unwrap_or_default().max(coded.at.saturating_sub(RECENT)) };
        }
        let first = self.last_alone.is_none();
        let rested = first || self.woke.is_none_or(|(at, _)| now.saturating_duration_since(at) >= COOLDOWN);
        if !coded.key || asked || !rested {
            return Verdict::All;
        }
        self.alone = true;
        self.last_alone = Some(coded.at);
        if first { Verdict::Alone } else { Verdict::KeepAnew }
    }

    fn awake(&mut self, coded: &Coded, scene: &Scene, now: Instant) -> Verdict {
        let since = |at: Instant| now.saturating_duration_since(at);
        let busy = scene.active
            || scene.wake
            || scene.changed.is_some_and(|at| since(at) < COOLDOWN)
            || self.woke.is_some_and(|(at, _)| since(at) < COOLDOWN);
        if !coded.key || busy || !self.may_idle() {
            return Verdict::All;
        }
        if let Some((at, by_surge)) = self.woke {
            let in_vain = by_surge && scene.changed.is_none_or(|changed| changed < at);
            // One true alarm does not make up for many in vain.
            self.surge = if in_vain { (self.surge * 1.5).min(SURGE_MOST) } else { (self.surge / 1.2).max(SURGE) };
        }
        self.alone = true;
        self.last_alone = Some(coded.at);
        Verdict::Alone
    }

    fn may_idle(&self) -> bool {
        self.policy.decoding == Decoding::Auto
            && self.intervals.len() >= KNOWN
            && self.intervals.iter().all(|interval| *interval <= self.longest())
    }

    fn longest(&self) -> Duration {
        self.policy.max_detection_delay.mul_f32(TOLERANCE)
    }

    /// Streams of key frames only are thinned to the idle rate.
    fn is_due(&self, at: Duration) -> bool {
        let interval = Duration::from_secs_f32(1.0 / self.policy.idle_fps.clamp(0.01, 60.0));
        let interval = interval.min(self.policy.max_detection_delay).mul_f32(0.9);
        self.last_alone.is_none_or(|last| at.saturating_sub(last) >= interval || at < last)
    }

    fn is_surge(&self, bytes: usize) -> bool {
        let (last, here) = self.sizes;
        if last.most == 0 {
            // Nothing was measured yet.
            return false;
        }
        let most = last.most.max(here.most) as f32;
        let least = last.least.into_iter().chain(here.least).min().filter(|_| self.since_key >= SETTLED);
        let bytes = bytes as f32;
        bytes > most * self.surge + SURGE_BYTES
            || least.is_some_and(|least| bytes * self.surge * DROP + SURGE_BYTES < least as f32)
    }

    /// Takes a picture into account; whether the stream's clock was set back.
    fn note(&mut self, coded: &Coded) -> bool {
        if !coded.key {
            let sizes = &mut self.sizes.1;
            sizes.most = sizes.most.max(coded.bytes);
            if self.since_key >= SETTLED {
                sizes.least = Some(sizes.least.map_or(coded.bytes, |least| least.min(coded.bytes)));
            }
            self.since_key = self.since_key.saturating_add(1);
            return false;
        }
        self.since_key = 0;
        if self.sizes.1.most > 0 {
            self.sizes = (self.sizes.1, Sizes::default());
        }
        match self.last_key.replace(coded.at) {
            Some(last) if coded.at > last => self.interval(coded.at - last),
            Some(last) if coded.at < last => {
                self.intervals.clear();
                return true;
            }
            _ => {}
        }
        false
    }

    fn interval(&mut self, interval: Duration) {
        if self.intervals.len() == INTERVALS {
            self.intervals.pop_front();
        }
        self.intervals.push_back(interval);
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
