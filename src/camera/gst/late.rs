//! Which frames are looked at of those that are decoded late, after a wake.

use std::time::{Duration, Instant};

/// Longest time that frames decoded late wait for somebody to look at them.
const PATIENCE: Duration = Duration::from_secs(4);
/// A frame that arrived longer ago than this is still decoded late: the camera catches up.
const BEHIND: Duration = Duration::from_millis(600);

/// Which of the frames decoded late are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late {
    /// Those after this stream time.
    from: Duration,
    /// Up to this one at least.
    until: Duration,
    /// Not before this one.
    next: Duration,
    /// Time between two.
    step: Duration,
    /// When waiting ends.
    pub(super) patience: Instant,
}

/// What a frame that comes out of the decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Was looked at before.
    Seen,
    /// Between two that are looked at.
    Between,
    /// To be looked at.
    Wanted,
    /// Came after the wake.
    Live,
}

impl Late {
    /// Of what was kept the frames after `from` and up to `until`, at `fps` pictures a second.
    pub(super) fn new(from: Duration, until: Duration, fps: f32, now: Instant) -> Self {
        let step = Duration::from_secs_f32(1.0 / fps.clamp(0.01, 60.0));
        Self { from, until, next: from, step, patience: now + PATIENCE }
    }

    /// Where a frame that arrived `age` ago stands; the next one that is wanted is a step later.
    pub(super) fn place(&mut self, at: Duration, age: Duration, now: Instant) -> Place {
        let caught_up = age < BEHIND || now >= self.patience;
        match at {
            at if at > self.until && caught_up => Place::Live,
            at if at <= self.from => Place::Seen,
            at if at < self.next => Place::Between,
            at => {
                self.next = at + self.step;
                Place::Wanted
            }
        }
    }
}
