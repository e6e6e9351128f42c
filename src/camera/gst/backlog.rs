//! What a decoder that can't keep up leaves out: a pure rule over lag.
//!
//! Packets wait in the jitter buffer, which takes whatever the network brings. A decoder slower than the stream would fall behind
//! for ever; here it skips to a key frame once it is too late.

use std::time::{Duration, Instant};

/// A picture that waited longer than this is too late (the jitter buffer's own delay included).
const TOO_LATE: Duration = Duration::from_millis(1500);
/// Decoding goes on at a key frame that waited no longer than this.
const CAUGHT_UP: Duration = Duration::from_millis(700);
/// A stream that does not catch up for this long has odd time stamps rather than a slow decoder: it is decoded as it comes.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Decides picture by picture.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    skipping_since: Option<Instant>,
    given_up: bool,
}

impl Backlog {
    /// Whether to decode a picture that arrived `lag` ago.
    pub(super) fn admits(&mut self, lag: Duration, is_key: bool, now: Instant) -> bool {
        if self.given_up {
            return true;
        }
        match self.skipping_since {
            None if lag <= TOO_LATE => true,
            None => {
                self.skipping_since = Some(now);
                false
            }
            Some(_) if is_key && lag <= CAUGHT_UP => {
                self.skipping_since = None;
                true
            }
            Some(since) if is_key && now.duration_since(since) > GIVE_UP => {
                self.given_up = true;
                true
            }
            Some(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_pictures_are_skipped_to_a_key_frame() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        let ms = Duration::from_millis;
        assert!(backlog.admits(ms(300), false, now));
        assert!(!backlog.admits(ms(1600), false, now));
        assert!(!backlog.admits(ms(300), false, now), "a delta unit without its key frame is no picture");
        assert!(!backlog.admits(ms(900), true, now), "not caught up yet");
        assert!(backlog.admits(ms(300), true, now));
        assert!(backlog.admits(ms(1400), false, now));
    }

    #[test]
    fn odd_time_stamps_do_not_silence_a_camera() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        let late = Duration::from_secs(60);
        assert!(!backlog.admits(late, true, now));
        assert!(!backlog.admits(late, true, now + Duration::from_secs(3)));
        assert!(backlog.admits(late, true, now + Duration::from_secs(6)));
        assert!(backlog.admits(late, false, now + Duration::from_secs(6)));
    }
}
