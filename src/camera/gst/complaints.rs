//! What GLib and its libraries complain about goes into the log, a little of it: one fault of theirs can complain a million times a second.

use std::{
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gstreamer::glib::{self, LogLevel};

/// Lines a minute.
const A_MINUTE: u64 = 20;
const MINUTE: Duration = Duration::from_secs(60);

/// How many lines were asked for in the present minute.
struct Meter {
    began: Instant,
    minute: AtomicU64,
    lines: AtomicU64,
}

/// What happens to a line.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Told,
    /// The last one for this minute.
    Last,
    Dropped,
}

impl Meter {
    fn take(&self, age: Duration) -> Fate {
        let now = age.as_secs() / MINUTE.as_secs();
        if self.minute.swap(now, Ordering::Relaxed) != now {
            self.lines.store(0, Ordering::Relaxed);
        }
        match self.lines.fetch_add(1, Ordering::Relaxed) + 1 {
            n if n < A_MINUTE => Fate::Told,
            A_MINUTE => Fate::Last,
            _ => Fate::Dropped,
        }
    }
}

/// Sends GLib's complaints to the log from now on; once is enough.
pub(super) fn to_the_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let meter = Meter { began: Instant::now(), minute: AtomicU64::new(0), lines: AtomicU64::new(0) };
        glib::log_set_default_handler(move |domain, level, message| {
            if !matches!(level, LogLevel::Error | LogLevel::Critical | LogLevel::Warning) {
                return;
            }
            let domain = domain.unwrap_or("GLib");
            match meter.take(meter.began.elapsed()) {
                Fate::Told => tracing::warn!(domain, "{message}"),
                Fate::Last => tracing::warn!(domain, "{message} (no more of these for a minute)"),
                Fate::Dropped => {}
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_in_a_few_lines() {
        let meter = Meter { began: Instant::now(), minute: AtomicU64::new(0), lines: AtomicU64::new(0) };
        let told = (0..100_000).filter(|_| meter.take(Duration::from_secs(1)) != Fate::Dropped).count();
        assert_eq!(told as u64, A_MINUTE);
        assert_eq!(meter.take(Duration::from_secs(61)), Fate::Told);
    }
}
