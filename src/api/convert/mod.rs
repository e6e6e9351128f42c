//! Wire ↔ domain. Everything from the wire is checked here.

pub mod camera;
pub mod event;
pub mod face;
pub mod gallery;
pub mod person;
pub mod unknown;

use std::time::Duration;

use crate::time::Timestamp;

/// Most characters of a client's text that an error repeats.
const EXCERPT: usize = 80;

/// A client's text as an error may repeat it: cut, since a message is no place for megabytes.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A time on the wire.
pub fn time(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// A time from the wire; `None` when it is out of range.
pub fn from_time(at: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(at.seconds, at.nanos).ok()
}

/// A duration on the wire.
pub fn duration(d: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), nanos: d.subsec_nanos() as i32 }
}

/// A duration from the wire; `None` when it is negative or out of range.
pub fn from_duration(d: &prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(d.nanos).ok().filter(|n| *n < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(d.seconds).ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(excerpt("short"), "short");
        assert_eq!(excerpt(&"é".repeat(500)), format!("{}…", "é".repeat(80)));
    }

    #[test]
    fn odd_times_and_durations_are_refused() {
        let bad = |seconds, nanos| from_duration(&prost_types::Duration { seconds, nanos });
        assert_eq!(bad(-1, 0), None);
        assert_eq!(bad(1, -5), None);
        assert_eq!(bad(1, i32::MAX), None);
        assert_eq!(bad(1, 500_000_000), Some(Duration::from_millis(1500)));
        assert_eq!(from_time(&prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }), None);
        let now = crate::time::now();
        assert_eq!(from_time(&time(now)), Some(now));
    }
}
