//! What the cameras showed, beside what the server said: appearances, missed ones, latencies.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::figures::percentile;
use crate::{
    simulator::SceneTruth,
    time::{self, Timestamp},
};

/// A face may be seen before its card counts as an appearance (half of it in the picture), and an event may name a frame a little after it.
const BEFORE: Duration = Duration::from_millis(1500);
const AFTER: Duration = Duration::from_millis(500);

/// An event as it came.
struct Told {
    camera: String,
    kind: String,
    captured: Timestamp,
    person: String,
}

/// Collects events.
#[derive(Default)]
pub struct Ledger {
    told: Vec<Told>,
    latencies_ms: Vec<f64>,
    face_px: Vec<f64>,
}

/// Appearances of one camera.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Appearances shown.
    pub shown: usize,
    /// Of which no event told.
    pub missed: usize,
    /// APPEARED events that fit no appearance, or one that was told before.
    pub surplus: usize,
    /// Names that nobody had who was in the picture.
    pub wrong: usize,
}

impl Ledger {
    /// Takes an event in protobuf's JSON mapping, received now.
    pub fn take(&mut self, event: &Value) {
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        let kind = text("kind").trim_start_matches("EVENT_KIND_").to_owned();
        let Ok(captured) = text("captureTime").parse::<Timestamp>() else { return };
        let person = event.pointer("/match/person").and_then(Value::as_str).unwrap_or_default();
        if matches!(kind.as_str(), "APPEARED" | "RECOGNIZED" | "UNKNOWN") {
            self.latencies_ms.push(time::seconds_between(captured, time::now()) * 1000.0);
        }
        let size = event.pointer("/face/sizePx").and_then(Value::as_f64);
        if let Some(size) = size.filter(|_| matches!(kind.as_str(), "RECOGNIZED" | "UNKNOWN")) {
            self.face_px.push(size);
        }
        self.told.push(Told {
            camera: text("camera").trim_start_matches("cameras/").to_owned(),
            kind,
            captured,
            person: person.trim_start_matches("people/").to_owned(),
        });
    }

    /// Median, 95th and 99th percentile of capture → receipt by the subscriber, milliseconds; zeros without events.
    pub fn latency_ms(&self) -> [f64; 3] {
        [0.5, 0.95, 0.99].map(|q| percentile(&self.latencies_ms, q))
    }

    /// Median width of the faces that were named or stayed unknown, pixels after alignment.
    pub fn face_px(&self) -> f64 {
        percentile(&self.face_px, 0.5)
    }

    /// RECOGNIZED events.
    pub fn named(&self) -> usize {
        self.told.iter().filter(|t| t.kind == "RECOGNIZED").count()
    }

    /// Compares a camera's events with what it showed between two moments of its timeline; `origin` is the timeline's beginning. Appearances
    /// that are not wholly between them don't count.
    pub fn count(&self, camera: &str, truth: &SceneTruth, origin: Timestamp, window: (Duration, Duration)) -> Count {
        let (shown, cut) = shown(truth, window);
        let at =
            |told: &Told| Duration::try_from_secs_f64(time::seconds_between(origin, told.captured)).unwrap_or_default();
        let fits = |from: Duration, until: Duration, at: Duration| at + BEFORE >= from && at <= until + AFTER;
        let mut appeared: Vec<(Duration, bool)> = self
            .told
            .iter()
            .filter(|t| t.camera == camera && t.kind == "APPEARED")
            .map(|t| (at(t), false))
            .filter(|(at, _)| *at >= window.0 && *at <= window.1)
            .collect();
        // The one that ends first takes the first event that fits: no other choice leaves more for the others.
        let mut told_of = |(from, until): &(Duration, Duration)| {
            let event = appeared.iter_mut().find(|(at, taken)| !taken && fits(*from, *until, *at));
            event.map(|(_, taken)| *taken = true).is_some()
        };
        let missed = shown.iter().filter(|appearance| !told_of(appearance)).count();
        // What is left may tell of appearances that the window cuts.
        for appearance in &cut {
            told_of(appearance);
        }
        let surplus = appeared.iter().filter(|(_, taken)| !taken);
        let wrong = self.told.iter().filter(|t| t.camera == camera && t.kind == "RECOGNIZED").filter(|t| {
            let at = at(t);
            let seen = |then: Duration| truth.visible_at(then).iter().any(|v| v.label == t.person);
            at >= window.0 && at <= window.1 && !seen(at) && !seen(at.saturating_sub(AFTER)) && !seen(at + AFTER)
        });
        Count { shown: shown.len(), missed, surplus: surplus.count(), wrong: wrong.count() }
    }
}

/// When appearances began and ended, by their end.
type Spans = Vec<(Duration, Duration)>;

/// Appearances wholly within a window, and those that it cuts.
fn shown(truth: &SceneTruth, (begin, end): (Duration, Duration)) -> (Spans, Spans) {
    let mut all = Spans::new();
    let loops = truth.duration.max(Duration::from_millis(1));
    let mut offset = Duration::ZERO;
    while offset <= end {
        all.extend(truth.appearances().into_iter().map(|a| (a.from + offset, a.until + offset)));
        offset += loops;
    }
    all.retain(|(from, until)| *until + AFTER >= begin && *from <= end + BEFORE);
    all.sort_by_key(|(_, until)| *until);
    all.into_iter().partition(|(from, until)| *from >= begin + BEFORE && *until + AFTER <= end)
}

/// Sums of counts by camera.
pub fn total(counts: &BTreeMap<String, Count>) -> Count {
    counts.values().fold(Count::default(), |sum, one| Count {
        shown: sum.shown + one.shown,
        missed: sum.missed + one.missed,
        surplus: sum.surplus + one.surplus,
        wrong: sum.wrong + one.wrong,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::simulator::{Actor, CardShape, Scene, Waypoint};

    fn truth() -> SceneTruth {
        let stands = |from: u64, until: u64, label: &str| Actor {
            label: label.into(),
            picture: Arc::new(image::RgbImage::new(10, 10)),
            shape: CardShape::Whole,
            region: None,
            path: [from, until]
                .map(|at| Waypoint { at: Duration::from_secs(at), x: 0.5, y: 0.5, height: 0.2 })
                .to_vec(),
        };
        let scene = Scene::new((320, 240), 10, Duration::from_secs(20));
        scene.actor(stands(4, 8, "ann")).actor(stands(12, 15, "bob")).truth()
    }

    #[test]
    fn appearances_are_matched_one_to_one_over_loops() {
        let origin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut ledger = Ledger::default();
        let mut say = |kind: &str, second: i64, person: &str| {
            let at = origin.checked_add(std::time::Duration::from_secs(second as u64)).unwrap();
            ledger.take(&json!({
                "camera": "cameras/c", "kind": format!("EVENT_KIND_{kind}"), "captureTime": at.to_string(),
                "match": { "person": format!("people/{person}") },
            }));
        };
        say("APPEARED", 5, "");
        say("APPEARED", 6, "");
        say("RECOGNIZED", 6, "ann");
        say("APPEARED", 24, "");
        say("RECOGNIZED", 25, "bob");
        say("APPEARED", 32, "");
        let window = (Duration::from_secs(1), Duration::from_secs(39));
        let count = ledger.count("c", &truth(), origin, window);
        assert_eq!(count, Count { shown: 4, missed: 1, surplus: 1, wrong: 1 });
        assert_eq!(ledger.count("other", &truth(), origin, window).missed, 4);
        // An appearance that the window cuts does not count, and what tells of it is no surplus.
        let late = (Duration::from_secs(3), Duration::from_secs(39));
        assert_eq!(ledger.count("c", &truth(), origin, late), Count { shown: 3, missed: 1, surplus: 1, wrong: 1 });
    }
}
