//! Which encoded pictures are decoded: a pure rule over key frames, sizes and what is known of the scene.
//!
//! While nothing happens only key frames are decoded, each by itself, and no more of them than the promised detection delay needs; the pictures
//! between them are kept encoded. When something happens (a
//! key frame looks different, a face is found, or sizes of pictures are unlike those of the still scene, see [`super::sizes`]) what was kept is decoded after
//! all, so what happened between two key frames is seen. A stream whose key frames are further apart than the promised detection delay is
//! decoded in full, as is one whose sizes tell nothing, unless key frames alone are asked for.
//!
//! A stream that is decoded on demand only (the main stream of a camera that is watched on its substream) is kept encoded all the time: its
//! newest group waits for somebody to ask.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    attention::Scene,
    sizes::Sizes,
    spec::{Decoding, SamplingPolicy},
};

/// A scene is idle once nothing has happened for this long.
const COOLDOWN: Duration = Duration::from_secs(3);
/// How far before the moment that somebody asks pictures of a stream on demand are wanted.
const RECENT: Duration = Duration::from_secs(1);
/// How far before sizes became unusual pictures are looked at.
const LOOK_BACK: Duration = Duration::from_millis(300);
/// Key-frame intervals that are remembered.
const INTERVALS: usize = 4;
/// Fewest known intervals before a stream may idle.
const KNOWN: usize = 2;
/// Cameras don't keep their intervals to the millisecond.
const TOLERANCE: f32 = 1.1;
/// Most bytes of encoded pictures kept for one camera; a heavier stream wakes up instead.
pub const MOST_KEPT: usize = 16 << 20;

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

/// Decides picture by picture, in the order of decoding.
#[derive(Debug)]
pub struct Gate {
    policy: SamplingPolicy,
    on_demand: bool,
    alone: bool,
    last_key: Option<Duration>,
    last_alone: Option<Duration>,
    intervals: VecDeque<Duration>,
    sizes: Sizes,
    /// When it last woke (or began), and whether sizes alone said so.
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
            sizes: Sizes::default(),
            woke: None,
            wakes: 0,
        }
    }

    /// Whether only key frames are decoded at present, or nothing on demand.
    pub fn is_idle(&self) -> bool {
        self.alone
    }

    /// Whether it would idle, if only the sizes of pictures told what happens between key frames.
    pub fn is_in_doubt(&self) -> bool {
        self.policy.decoding == Decoding::Auto && self.sizes.is_known() && !self.sizes.tell()
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
        if self.is_set_back(&coded) {
            // Times of what is kept and of what was seen mean nothing any more.
            self.sizes.restart();
            (self.alone, self.woke) = (false, Some((now, false)));
            return Verdict::All;
        }
        if self.on_demand {
            return self.demanded(&coded, scene, kept, now);
        }
        let unusual = if coded.key {
            self.sizes.key(coded.bytes, scene.changed, now);
            None
        } else {
            self.sizes.delta(coded.at, coded.bytes, !scene.active)
        };
        if !self.alone {
            self.sizes.rest();
        }
        if self.alone { self.idle(&coded, scene, kept, unusual, now) } else { self.awake(&coded, scene, now) }
    }

    fn idle(&mut self, coded: &Coded, scene: &Scene, kept: usize, unusual: Option<Duration>, now: Instant) -> Verdict {
        let seen = scene.seen.unwrap_or_default();
        let asked = scene.wake || scene.active;
        let late = self.last_alone.is_some_and(|key| coded.at.saturating_sub(key) > self.longest());
        let heavy = kept.saturating_add(coded.bytes) > MOST_KEPT;
        let doubtful = coded.key && !self.may_trust();
        if asked || unusual.is_some() || late || heavy || doubtful {
            let judged = self.last_alone.is_none_or(|key| key <= seen);
            let from = match unusual {
                Some(since) if judged && !asked => seen.max(since.saturating_sub(LOOK_BACK)),
                _ => seen,
            };
            let interval = self.last_key.map(|key| coded.at.saturating_sub(key));
            if let Some(interval) = interval.filter(|interval| *interval > self.longest()) {
                self.interval(interval);
            }
            self.alone = false;
            self.woke = Some((now, unusual.is_some() && !asked));
            self.sizes.rest();
            self.wakes += 1;
            return Verdict::Wake { from };
        }
        if coded.key && self.is_due(coded.at) {
            self.last_alone = Some(coded.at);
            return Verdict::Alone;
        }
        if coded.key {
            self.sizes.passed_over();
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
        if let Some((at, true)) = self.woke {
            self.sizes.judged(scene.changed.is_none_or(|changed| changed < at));
        }
        self.alone = true;
        self.last_alone = Some(coded.at);
        Verdict::Alone
    }

    /// Whether key frames alone are enough: asked for, or sizes tell what happens between them.
    fn may_trust(&self) -> bool {
        match self.policy.decoding {
            Decoding::All => false,
            Decoding::KeyFrames => true,
            Decoding::Auto => self.sizes.tell(),
        }
    }

    fn may_idle(&self) -> bool {
        self.may_trust()
            && self.sizes.is_known()
            && self.intervals.len() >= KNOWN
            && self.intervals.iter().all(|interval| *interval <= self.longest())
    }

    fn longest(&self) -> Duration {
        self.policy.max_detection_delay.mul_f32(TOLERANCE)
    }

    /// Whether a key frame must be looked at: the next one would be too late for the promise. Where sizes don't watch what is between key
    /// frames (there is nothing between them, or they tell nothing), the idle rate counts, too.
    fn is_due(&self, at: Duration) -> bool {
        let Some(passed) = self.last_alone.and_then(|last| at.checked_sub(last)) else { return true };
        if self.policy.decoding == Decoding::Auto && self.sizes.watch() {
            let next = self.intervals.iter().max().copied().unwrap_or(self.policy.max_detection_delay);
            return passed.saturating_add(next) > self.longest();
        }
        let interval = Duration::from_secs_f32(1.0 / self.policy.idle_fps.clamp(0.01, 60.0));
        passed >= interval.min(self.policy.max_detection_delay).mul_f32(0.9)
    }

    /// Takes the times of key frames into account; whether the stream's clock was set back.
    fn is_set_back(&mut self, coded: &Coded) -> bool {
        if !coded.key {
            return false;
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
