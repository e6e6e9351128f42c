//! Whether the server is alive and ready: what the checks found last, and when the runtime's heart beat.
//!
//! Only `probe.rs` writes here; `/healthz`, `/readyz` and gRPC's health read, so that asking often costs nothing.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{api::health::Serving, telemetry};

/// Without a beat for this long the runtime is stuck: it should come each second.
pub const STUCK_AFTER: Duration = Duration::from_secs(15);

/// The checks, in the order in which they are told.
pub const CHECKS: [Check; 4] = [Check::Models, Check::Store, Check::Gallery, Check::Cameras];

/// What readiness rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The networks are loaded.
    Models,
    /// The store writes, and its disk has room.
    Store,
    /// Faces can be searched.
    Gallery,
    /// Enough cameras stream, where that is asked for.
    Cameras,
}

impl Check {
    /// Its name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Store => "store",
            Self::Gallery => "gallery",
            Self::Cameras => "cameras",
        }
    }
}

/// How a check ended; words for whoever asks, without addresses or paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Passed.
    Ok,
    /// Nobody asks for it.
    Off,
    /// Failed: why.
    Failed(String),
}

impl Found {
    /// Whether it does not stand in the way.
    pub fn passes(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Off => f.write_str("off"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// What the checks found, in the order of [`CHECKS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report(pub [Found; 4]);

impl Report {
    fn starting() -> Self {
        Self(CHECKS.map(|_| Found::Failed("starting".into())))
    }

    /// Each check with what it found.
    pub fn checks(&self) -> impl Iterator<Item = (Check, &Found)> {
        CHECKS.into_iter().zip(&self.0)
    }

    fn passes(&self, check: Check) -> bool {
        self.checks().any(|(c, found)| c == check && found.passes())
    }

    /// What it means for the API's services.
    fn serving(&self) -> Serving {
        Serving {
            ready: self.0.iter().all(Found::passes),
            models: self.passes(Check::Models),
            store: self.passes(Check::Store),
            gallery: self.passes(Check::Gallery),
        }
    }
}

/// The server's health. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    report: watch::Sender<Report>,
    serving: watch::Sender<Serving>,
    beat: Mutex<Instant>,
    draining: CancellationToken,
}

impl Health {
    /// A server that starts; once `draining` is cancelled it is not ready any more, whatever the checks find.
    pub fn new(draining: CancellationToken) -> Self {
        let report = Report::starting();
        let serving = watch::Sender::new(report.serving());
        CHECKS.iter().for_each(|check| telemetry::readiness(check.as_str(), false));
        Self(Arc::new(Inner {
            report: watch::Sender::new(report),
            serving,
            beat: Mutex::new(Instant::now()),
            draining,
        }))
    }

    /// The runtime runs.
    pub fn beat(&self) {
        *self.0.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago that was, when it is too long.
    pub fn stuck(&self) -> Option<Duration> {
        let age = self.0.beat.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        (age > STUCK_AFTER).then_some(age)
    }

    /// Tells what the checks found now; changes are logged.
    pub fn tell(&self, found: [Found; 4]) {
        let now = Report(found);
        let before = self.0.report.send_replace(now.clone());
        for ((check, now), (_, before)) in now.checks().zip(before.checks()) {
            telemetry::readiness(check.as_str(), now.passes());
            match (before.passes(), now) {
                (true, Found::Failed(why)) => tracing::warn!(check = check.as_str(), why, "not ready"),
                (false, Found::Ok | Found::Off) => tracing::info!(check = check.as_str(), "ready"),
                _ => {}
            }
        }
        let serving = now.serving();
        self.0.serving.send_if_modified(|s| std::mem::replace(s, serving) != serving);
    }

    /// What the checks found last.
    pub fn report(&self) -> Report {
        self.0.report.borrow().clone()
    }

    /// What it means for the API's services, as it changes.
    pub fn serving(&self) -> watch::Receiver<Serving> {
        self.0.serving.subscribe()
    }

    /// Whether the server is ready, with a text for people: each fault, or with `verbose` each check.
    pub fn ready(&self, verbose: bool) -> (bool, String) {
        let report = self.report();
        let draining = self.0.draining.is_cancelled();
        let ready = !draining && report.0.iter().all(Found::passes);
        let mut text = String::from(if draining {
            "draining\n"
        } else if ready {
            "ready\n"
        } else {
            "not ready\n"
        });
        for (check, found) in report.checks().filter(|(_, found)| verbose || !(draining || found.passes())) {
            text += &format!("{}: {found}\n", check.as_str());
        }
        (ready, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_well() -> [Found; 4] {
        [Found::Ok, Found::Ok, Found::Ok, Found::Off]
    }

    #[test]
    fn ready_when_every_check_passes_and_not_while_draining() {
        let draining = CancellationToken::new();
        let health = Health::new(draining.clone());
        let (ready, text) = health.ready(false);
        assert!(!ready && text.contains("models: failed: starting"), "{text}");
        health.tell(all_well());
        assert_eq!(health.ready(false), (true, "ready\n".into()));
        assert_eq!(health.ready(true).1, "ready\nmodels: ok\nstore: ok\ngallery: ok\ncameras: off\n");
        let mut found = all_well();
        found[1] = Found::Failed("the disk is full".into());
        health.tell(found);
        assert_eq!(health.ready(false), (false, "not ready\nstore: failed: the disk is full\n".into()));
        let serving = *health.serving().borrow();
        assert_eq!(serving, Serving { ready: false, models: true, store: false, gallery: true });
        health.tell(all_well());
        draining.cancel();
        assert_eq!(health.ready(false), (false, "draining\n".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_whose_heart_does_not_beat_is_stuck() {
        let health = Health::new(CancellationToken::new());
        tokio::time::advance(STUCK_AFTER).await;
        assert_eq!(health.stuck(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.stuck(), Some(STUCK_AFTER + Duration::from_secs(1)));
        health.beat();
        assert_eq!(health.stuck(), None);
    }
}
