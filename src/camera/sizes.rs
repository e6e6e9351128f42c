//! What the sizes of encoded pictures tell: whatever moves needs bits. A still scene's sizes are learnt, and an alarm is raised once those
//! that come are no longer drawn from them.
//!
//! Sizes are counted in steps of a quarter octave; each picture adds the logarithm of how much better "something else" explains it than what
//! was learnt, and the sum is not let below zero (Page, *Continuous inspection schemes*, Biometrika 1954). So one picture of a size that never
//! occurred is enough, and a stream whose bit rate is held constant, with large and small pictures in turns, is told by several that are a
//! little unusual. There the smallest of some pictures tells more than each: noise is sent now and then, movement with every picture.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Steps of size to an octave.
const STEPS: f32 = 4.0;
/// Steps in all: up to 4 MiB.
const ALL_STEPS: usize = 64;
/// Bytes that say nothing: sizes of nearly empty pictures are a matter of headers.
const HEADERS: f32 = 64.0;
/// A learnt picture counts for this many that came after it.
const MEMORY: f32 = 1500.0;
/// Pictures of a kind that must be known before they tell anything.
const KNOWN: f32 = 40.0;
/// Quiet groups that are learnt before a stream may idle.
const GROUPS: u32 = 3;
/// Weight of a size that never occurred.
const UNSEEN: f32 = 0.02;
/// "Something else" is as likely as the sizes this many steps around.
const WIDE: usize = 6;
/// Most that one picture of a size among those known may add or take.
const MOST: f32 = 3.0;
/// What a picture adds that is half an octave from all that are known.
const FAR: f32 = 8.5;
/// Sizes tell movement where the pictures of a still scene are at most this share of a key frame: somebody who comes adds a few hundredths
/// of one to each picture.
const SHARE: f32 = 0.05;
/// Pictures of so few bytes on average are small whatever a key frame has: no bit rate is held by them.
const FEW: f32 = 512.0;
/// Weight of the newest quiet group in what is known of that share.
const NEWEST: f32 = 0.1;
/// Sum at which an alarm is raised; grows with each alarm in vain.
const ALARM: f32 = 8.0;
/// Most that it grows to.
const ALARM_MOST: f32 = 48.0;
/// Pictures after a key frame that are a kind of their own: where a bit rate is held, they make up for its weight.
const SETTLED: u32 = 12;
/// Pictures whose smallest is judged.
const WINDOW: usize = 6;
/// They overlap, so each says less.
const WINDOW_WEIGHT: f32 = 0.5;
/// Most judgements of a group that are kept to be learnt.
const GROUP_MOST: usize = 2048;

/// Pictures that are compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Soon after a key frame.
    Early,
    /// Later ones.
    Late,
    /// The smallest of the last few late ones.
    Smallest,
}

/// The sizes of one sort, and the sum of how unusual the last ones were.
#[derive(Debug, Clone)]
struct Known {
    counts: [f32; ALL_STEPS],
    sum: f32,
    /// Stream time at which the sum left zero.
    since: Duration,
}

impl Default for Known {
    fn default() -> Self {
        Self { counts: [0.0; ALL_STEPS], sum: 0.0, since: Duration::ZERO }
    }
}

fn step_of(bytes: usize) -> usize {
    let octaves = ((bytes as f32 + HEADERS) / HEADERS).log2();
    ((octaves * STEPS) as usize).min(ALL_STEPS - 1)
}

impl Known {
    fn around(&self, step: usize, reach: usize) -> &[f32] {
        &self.counts[step.saturating_sub(reach)..(step + reach + 1).min(ALL_STEPS)]
    }

    /// By how much "something else" explains a size better, natural logarithm.
    fn surprise(&self, step: usize) -> f32 {
        let total: f32 = self.counts.iter().sum();
        if total < KNOWN {
            return 0.0;
        }
        if self.around(step, 2).iter().sum::<f32>() < 0.05 {
            return FAR;
        }
        let beside = self.around(step, 1).iter().sum::<f32>() - self.counts[step];
        let learnt = (0.6 * self.counts[step] + 0.2 * beside + UNSEEN) / (total + UNSEEN * ALL_STEPS as f32);
        let wide = self.around(step, WIDE);
        let else_ = (wide.iter().sum::<f32>() / wide.len() as f32 / total).max(1.0 / ALL_STEPS as f32);
        (else_ / learnt).ln().clamp(-MOST, MOST)
    }

    fn add(&mut self, at: Duration, step: usize, weight: f32) {
        if self.sum <= 0.0 {
            self.since = at;
        }
        self.sum = (self.sum + weight * self.surprise(step)).max(0.0);
    }

    fn learn(&mut self, step: usize) {
        self.counts.iter_mut().for_each(|count| *count *= 1.0 - 1.0 / MEMORY);
        self.counts[step] += 1.0;
    }
}

/// A key frame and what came until the next.
#[derive(Debug)]
struct Group {
    begun: Instant,
    /// Whether its key frame is looked at.
    looked_at: bool,
    disturbed: bool,
    key_bytes: usize,
    /// Bytes and number of the other pictures.
    others: (usize, usize),
    judged: Vec<(Sort, u8)>,
}

/// The sizes of one stream. Fed in the order of decoding.
#[derive(Debug)]
pub struct Sizes {
    known: [Known; 3],
    window: VecDeque<usize>,
    since_key: u32,
    /// The present group, and those after which no key frame was looked at yet.
    groups: VecDeque<Group>,
    learnt: u32,
    /// Mean size of the other pictures of a quiet group over that of its key frame; 0 where they are next to nothing.
    share: Option<f32>,
    alarm: f32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            known: Default::default(),
            window: VecDeque::new(),
            since_key: 0,
            groups: VecDeque::new(),
            learnt: 0,
            share: None,
            alarm: ALARM,
        }
    }
}

impl Sizes {
    /// Whether enough quiet groups are known to watch by sizes.
    pub fn is_known(&self) -> bool {
        self.learnt >= GROUPS
    }

    /// Whether the pictures of the still scene are so small that others are told from them. A bit rate that is held far above what the scene
    /// needs is spent on noise, and movement hides in it.
    pub fn tell(&self) -> bool {
        self.share.is_none_or(|share| share <= SHARE)
    }

    /// Whether they watch the pictures between key frames: there are such, and they tell.
    pub fn watch(&self) -> bool {
        self.share.is_some() && self.tell()
    }

    /// The key frame that came last is not looked at.
    pub fn passed_over(&mut self) {
        if let Some(group) = self.groups.back_mut() {
            group.looked_at = false;
        }
    }

    /// A key frame of so many bytes begins a group. `changed` is when a frame last looked different: groups since then are not learnt from.
    pub fn key(&mut self, bytes: usize, changed: Option<Instant>, now: Instant) {
        self.since_key = 0;
        self.window.clear();
        self.known[Sort::Early as usize].sum = 0.0;
        self.groups.push_back(Group {
            begun: now,
            looked_at: true,
            disturbed: false,
            key_bytes: bytes,
            others: (0, 0),
            judged: Vec::new(),
        });
        // A key frame has been looked at when the next one comes: it speaks for the groups before it.
        let before = self.groups.len() - 1;
        let spoken_for = self.groups.range(..before).rposition(|group| group.looked_at).unwrap_or(0);
        for group in self.groups.drain(..spoken_for) {
            if group.disturbed || changed.is_some_and(|at| at >= group.begun) {
                continue;
            }
            self.learnt = self.learnt.saturating_add(1);
            let (others, count) = group.others;
            if count > 0 {
                let mean = others as f32 / count as f32;
                let share = if mean <= FEW { 0.0 } else { mean / group.key_bytes.max(1) as f32 };
                let before = self.share.unwrap_or(share);
                self.share = Some(before + NEWEST * (share - before));
            }
            group.judged.into_iter().for_each(|(sort, step)| self.known[sort as usize].learn(usize::from(step)));
        }
    }

    /// Another picture; `quiet` when no face is tracked. The stream time since when sizes are unusual, once that is sure.
    pub fn delta(&mut self, at: Duration, bytes: usize, quiet: bool) -> Option<Duration> {
        self.since_key = self.since_key.saturating_add(1);
        if self.since_key <= SETTLED {
            self.judge(at, Sort::Early, bytes, 1.0);
        } else {
            self.judge(at, Sort::Late, bytes, 1.0);
            if self.window.len() == WINDOW {
                self.window.pop_front();
            }
            self.window.push_back(bytes);
            if let Some(smallest) = self.window.iter().min().filter(|_| self.window.len() == WINDOW) {
                self.judge(at, Sort::Smallest, *smallest, WINDOW_WEIGHT);
            }
        }
        if let Some(group) = self.groups.back_mut() {
            group.disturbed |= !quiet;
            group.others = (group.others.0.saturating_add(bytes), group.others.1 + 1);
        }
        self.known.iter().filter(|known| known.sum > self.alarm).map(|known| known.since).min()
    }

    fn judge(&mut self, at: Duration, sort: Sort, bytes: usize, weight: f32) {
        let step = step_of(bytes);
        self.known[sort as usize].add(at, step, weight);
        if let Some(group) = self.groups.back_mut().filter(|group| group.judged.len() < GROUP_MOST) {
            group.judged.push((sort, step as u8));
        }
    }

    /// Forgets how unusual the last pictures were: they are looked at.
    pub fn rest(&mut self) {
        self.known.iter_mut().for_each(|known| known.sum = 0.0);
    }

    /// What became of an alarm. One that was right does not make up for many in vain.
    pub fn judged(&mut self, in_vain: bool) {
        self.alarm = if in_vain { (self.alarm * 1.5).min(ALARM_MOST) } else { (self.alarm / 1.2).max(ALARM) };
    }

    /// The stream's clock was set back: what waits to be learnt means nothing.
    pub fn restart(&mut self) {
        self.groups.clear();
        self.window.clear();
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: usize = 50_000;

    /// 25 pictures a second, 50 a group; sizes by a rule.
    struct Stream {
        sizes: Sizes,
        start: Instant,
        next: u64,
        changed: Option<Instant>,
        random: fastrand::Rng,
    }

    impl Stream {
        fn new() -> Self {
            let random = fastrand::Rng::with_seed(7);
            Self { sizes: Sizes::default(), start: Instant::now(), next: 0, changed: None, random }
        }

        fn at(&self) -> Duration {
            Duration::from_millis(self.next * 40)
        }

        /// Runs for a number of pictures; how many passed until the first alarm, and since when it says.
        fn run(&mut self, count: u64, size: impl Fn(&mut fastrand::Rng) -> usize) -> Option<(u64, Duration)> {
            let mut alarm = None;
            for i in 0..count {
                let at = self.at();
                if self.next.is_multiple_of(50) {
                    self.sizes.key(KEY, self.changed, self.start + at);
                } else if let Some(since) = self.sizes.delta(at, size(&mut self.random), true) {
                    alarm.get_or_insert((i, since));
                    self.sizes.rest();
                }
                self.next += 1;
            }
            alarm
        }
    }

    /// Small pictures that hardly differ, as with constant quality.
    fn calm(random: &mut fastrand::Rng) -> usize {
        random.usize(200..360)
    }

    /// Large and small ones in turns, as with a constant bit rate that is spent on noise.
    fn noisy(random: &mut fastrand::Rng) -> usize {
        if random.u8(0..10) < 4 { random.usize(20_000..46_000) } else { random.usize(4_500..6_500) }
    }

    #[test]
    fn a_still_scene_raises_hardly_any_alarm_in_an_hour() {
        for (size, most) in [(calm as fn(&mut fastrand::Rng) -> usize, 0), (noisy, 3)] {
            let mut stream = Stream::new();
            stream.run(500, size);
            assert!(stream.sizes.is_known());
            let alarms = (0..900).filter(|_| stream.run(100, size).is_some()).count();
            assert!(alarms <= most, "{alarms}");
        }
    }

    #[test]
    fn a_size_that_never_occurred_is_told_at_once_whether_larger_or_smaller() {
        for unusual in [1240, 60_000] {
            let mut stream = Stream::new();
            stream.run(1020, calm);
            let at = stream.at();
            assert_eq!(stream.run(1, |_| unusual), Some((0, at)));
        }
        let mut stream = Stream::new();
        stream.run(1030, noisy);
        assert!(stream.run(1, |_| 700).is_some());
    }

    #[test]
    fn movement_in_a_constant_bit_rate_is_told_by_pictures_that_are_never_small() {
        let mut stream = Stream::new();
        stream.run(2020, noisy);
        let began = stream.at();
        let (after, since) = stream.run(60, |random| random.usize(8_500..38_000)).unwrap();
        assert!(after <= 25, "{after} pictures");
        assert!(since >= began && since <= began + Duration::from_millis(600), "{since:?} {began:?}");
    }

    #[test]
    fn sizes_tell_where_they_are_small_beside_a_key_frame() {
        // Alike they may be, and tell nothing all the same: the last one is noise of a constant bit rate.
        let alike = |random: &mut fastrand::Rng| random.usize(6_000..9_000);
        for (size, tell) in
            [(calm as fn(&mut fastrand::Rng) -> usize, true), (noisy, false), (|_| 900, true), (alike, false)]
        {
            let mut stream = Stream::new();
            assert!(stream.sizes.tell(), "nothing is known against it");
            stream.run(500, size);
            assert_eq!(stream.sizes.tell(), tell);
        }
    }

    #[test]
    fn next_to_nothing_is_small_beside_any_key_frame() {
        for (bytes, tell) in [(300, true), (900, false)] {
            let (mut sizes, now) = (Sizes::default(), Instant::now());
            for _ in 0..8 {
                sizes.key(1_500, None, now);
                for i in 0..49 {
                    sizes.delta(Duration::from_millis(40 * i), bytes, true);
                }
            }
            assert!(sizes.is_known());
            assert_eq!(sizes.tell(), tell);
        }
    }

    #[test]
    fn what_moved_is_not_learnt_and_what_did_not_is() {
        let mut stream = Stream::new();
        stream.run(1000, calm);
        stream.changed = Some(stream.start + Duration::from_secs(3600));
        stream.run(1000, |_| 5000);
        stream.changed = Some(stream.start + stream.at());
        stream.run(100, calm);
        assert!(stream.run(30, |_| 5000).is_some(), "a visit was learnt as the still scene");
        for _ in 0..3 {
            stream.run(400, |_| 5000);
        }
        assert_eq!(stream.run(400, |_| 5000), None, "the scene is another now");
    }

    #[test]
    fn groups_are_learnt_when_a_key_frame_after_them_was_looked_at() {
        let (mut sizes, start) = (Sizes::default(), Instant::now());
        // (looked at, learnt when it came)
        let keys = [(true, 0), (false, 0), (false, 0), (true, 0), (true, 3), (false, 4), (true, 4)];
        for (i, (looked_at, learnt)) in (0..).zip(keys) {
            sizes.key(KEY, None, start + Duration::from_secs(i));
            assert_eq!(sizes.learnt, learnt, "at key frame {i}");
            if !looked_at {
                sizes.passed_over();
            }
            sizes.delta(Duration::from_secs(i), 300, true);
        }
        let changed = Some(start + Duration::from_secs(6));
        sizes.key(KEY, changed, start + Duration::from_secs(7));
        assert_eq!(sizes.learnt, 4, "a look that saw a change speaks for nothing since the look before");
        sizes.passed_over();
        sizes.key(KEY, changed, start + Duration::from_secs(8));
        sizes.key(KEY, changed, start + Duration::from_secs(9));
        assert_eq!(sizes.learnt, 5, "what came after the change");
    }

    #[test]
    fn alarms_in_vain_make_it_wary() {
        let mut stream = Stream::new();
        stream.run(1020, calm);
        for _ in 0..3 {
            stream.sizes.judged(true);
        }
        let (after, _) = stream.run(10, |_| 2000).unwrap();
        assert!((2..=4).contains(&after), "{after}");
        (0..9).for_each(|_| stream.sizes.judged(false));
        stream.run(200, calm);
        assert!(stream.run(1, |_| 9000).is_some());
    }

    #[test]
    fn any_size_is_fine_and_little_is_kept() {
        let mut sizes = Sizes::default();
        let now = Instant::now();
        sizes.delta(Duration::ZERO, 0, true);
        sizes.key(0, None, now);
        for bytes in [0, 1, usize::MAX, 3] {
            for _ in 0..5000 {
                sizes.delta(Duration::ZERO, bytes, true);
            }
        }
        assert!(sizes.groups.iter().all(|group| group.judged.len() <= GROUP_MOST));
        for _ in 0..100 {
            sizes.key(KEY, None, now);
        }
        assert!(sizes.is_known() && sizes.groups.len() <= 2, "streams of key frames only are known soon");
        assert!(sizes.share.is_some_and(f32::is_finite));
    }
}
