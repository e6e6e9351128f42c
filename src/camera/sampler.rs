//! Which decoded frames are looked at: a pure rule over time and activity.
//!
//! Frames are taken evenly at the idle rate while nobody is there and at the active rate while a face is tracked; the idle
//! rate is raised so that a face is looked at within the promised detection delay. Whoever is not taken has a counted reason.

use std::time::{Duration, Instant};

use super::spec::SamplingPolicy;

/// How early a frame may be taken.
const EARLY: Duration = Duration::from_millis(20);

/// Why a frame is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skip {
    /// The rate asks for no frame yet.
    Rate,
    /// A newer frame took its place before anybody looked at it.
    Replaced,
    /// The decoder could not keep up.
    Overload,
    /// Its memory could not be read.
    Unreadable,
    /// Nothing has changed since the last frame that was looked at.
    Still,
    /// It was left encoded, since nothing happened.
    Idle,
}

impl Skip {
    /// The word in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Replaced => "replaced",
            Self::Overload => "overload",
            Self::Unreadable => "unreadable",
            Self::Still => "still",
            Self::Idle => "idle",
        }
    }
}

/// Decides frame by frame.
#[derive(Debug, Clone)]
pub struct Sampler {
    policy: SamplingPolicy,
    /// When the next frame is due.
    due: Option<Instant>,
}

impl Sampler {
    /// A sampler that takes the first frame.
    pub fn new(policy: SamplingPolicy) -> Self {
        Self { policy, due: None }
    }

    /// Whether to look at a frame decoded at `now` while a face is tracked (`active`) or not.
    ///
    /// # Errors
    /// Why not.
    pub fn take(&mut self, now: Instant, active: bool) -> Result<(), Skip> {
        let interval = self.interval(active);
        // A switch to a faster rate must not wait for the slow one's next turn.
        let due = self.due.map(|due| due.min(now.checked_add(interval).unwrap_or(due)));
        // A frame may come a little early: the camera's rate is never an exact multiple of ours.
        if due.is_some_and(|due| now + (interval / 10).min(EARLY) < due) {
            self.due = due;
            return Err(Skip::Rate);
        }
        // Turns stay on their grid while frames keep up, and start anew after a pause.
        self.due = Some(match due {
            Some(due) if due + interval > now => due + interval,
            _ => now + interval,
        });
        Ok(())
    }

    fn interval(&self, active: bool) -> Duration {
        let fps = if active { self.policy.active_fps.max(self.policy.idle_fps) } else { self.policy.idle_fps };
        let by_rate = Duration::from_secs_f32(1.0 / fps.clamp(0.01, 60.0));
        by_rate.min(self.policy.max_detection_delay)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(idle: f32, active: f32) -> SamplingPolicy {
        SamplingPolicy {
            idle_fps: idle,
            active_fps: active,
            max_detection_delay: Duration::from_secs(10),
            ..SamplingPolicy::default()
        }
    }

    fn taken(sampler: &mut Sampler, start: Instant, frames: std::ops::Range<u64>, fps: f64, active: bool) -> usize {
        frames.filter(|i| sampler.take(start + Duration::from_secs_f64(*i as f64 / fps), active).is_ok()).count()
    }

    #[test]
    fn rates_are_kept_and_activity_speeds_up_at_once() {
        let (start, mut s) = (Instant::now(), Sampler::new(policy(1.0, 5.0)));
        assert_eq!(taken(&mut s, start, 0..250, 25.0, false), 10);
        assert_eq!(taken(&mut s, start, 250..500, 25.0, true), 50);
        let mut s = Sampler::new(policy(0.1, 5.0));
        s.take(start, false).unwrap();
        assert_eq!(s.take(start + Duration::from_millis(40), false), Err(Skip::Rate));
        assert!(taken(&mut s, start, 8..20, 25.0, true) >= 2, "the slow turn was waited for");
    }

    #[test]
    fn the_promised_delay_bounds_the_interval() {
        let mut s =
            Sampler::new(SamplingPolicy { max_detection_delay: Duration::from_millis(500), ..policy(0.1, 5.0) });
        assert_eq!(taken(&mut s, Instant::now(), 0..250, 25.0, false), 20);
    }

    proptest! {
        #[test]
        fn never_faster_than_asked(gaps in proptest::collection::vec(1u64..400, 10..200), fps in 0.5f32..20.0) {
            let mut s = Sampler::new(policy(fps, fps));
            let mut now = Instant::now();
            let start = now;
            let mut count = 0;
            for gap in gaps {
                now += Duration::from_millis(gap);
                count += usize::from(s.take(now, false).is_ok());
            }
            let most = now.duration_since(start).as_secs_f32() * fps * 1.12 + 2.0;
            prop_assert!((count as f32) <= most, "{} of at most {}", count, most);
        }
    }
}
