//! Values of the command line: durations, times, `key=value`, polygons, addresses, resource names.

use std::{collections::HashMap, time::Duration};

use crate::{
    proto::v1::{EventKind, Point},
    time::Timestamp,
};

/// A duration such as `20s`, `1.5m`, `250ms`, `2h`, `1d`; a bare number means seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(format!("unknown unit {unit:?}; use ms, s, m, h or d, as in 20s or 10m")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is no duration; write it as 20s or 10m"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| format!("{text:?} is too long"))
}

/// A point in time: RFC 3339 (`2026-05-01T08:00:00Z`), or a duration before now (`10m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At this time.
    At(Timestamp),
    /// This long ago.
    Ago(Duration),
}

impl Moment {
    /// The time itself.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => now.checked_sub(span).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }

    /// The time itself, in protobuf's form.
    pub fn resolve(self, now: Timestamp) -> prost_types::Timestamp {
        stamp(self.at(now))
    }
}

/// A [`Moment`] from text.
pub fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Moment::At(at));
    }
    duration(text)
        .map(Moment::Ago)
        .map_err(|_| format!("{text:?} is neither a time (2026-05-01T08:00:00Z) nor a duration ago (10m)"))
}

/// A time in protobuf's form.
pub fn stamp(at: Timestamp) -> prost_types::Timestamp {
    let nanos = at.as_nanosecond();
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default();
    prost_types::Timestamp { seconds, nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default() }
}

/// A time from protobuf's form, as `2026-05-01 08:00:00Z`; empty when absent or out of range.
pub fn time_words(at: Option<&prost_types::Timestamp>) -> String {
    let at = at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok());
    at.map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default()
}

/// A duration in protobuf's form.
pub fn span(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// Seconds of a duration in protobuf's form.
pub fn seconds(span: &prost_types::Duration) -> f64 {
    span.seconds as f64 + f64::from(span.nanos) / 1e9
}

/// `key=value`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no label; write it as key=value")),
    }
}

/// Labels as a map; the last of equal keys wins.
pub fn labels(pairs: &[(String, String)]) -> HashMap<String, String> {
    pairs.iter().cloned().collect()
}

/// Labels as `a=1,b=2`, sorted.
pub fn label_words(labels: &HashMap<String, String>) -> String {
    let mut words: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    words.sort();
    words.join(",")
}

/// A polygon: at least three points `x,y` with 0..1 from the left and top edge, separated by blanks or semicolons.
pub fn polygon(text: &str) -> Result<Vec<Point>, String> {
    let point = |word: &str| {
        let (x, y) = word.split_once(',')?;
        let (x, y): (f32, f32) = (x.trim().parse().ok()?, y.trim().parse().ok()?);
        ((0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y)).then_some(Point { x, y })
    };
    let words = text.split([' ', ';']).filter(|word| !word.is_empty());
    let points: Option<Vec<_>> = words.map(point).collect();
    points.filter(|points| points.len() >= 3).ok_or_else(|| {
        format!("{text:?} is no polygon; write at least three points of 0..1, as in \"0,0 0.5,0 0.5,1\"")
    })
}

/// A number from 0 to 1.
pub fn fraction(text: &str) -> Result<f32, String> {
    let number: f32 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    (0.0..=1.0).contains(&number).then_some(number).ok_or_else(|| format!("{number} is not between 0 and 1"))
}

/// An event kind by its name, such as `recognized`.
pub fn kind(text: &str) -> Result<EventKind, String> {
    let name = text.to_ascii_uppercase().replace('-', "_");
    let name = if name.starts_with("EVENT_KIND_") { name } else { format!("EVENT_KIND_{name}") };
    match EventKind::from_str_name(&name) {
        Some(EventKind::Unspecified) | None => {
            Err(format!("unknown kind {text:?}; use appeared, recognized, unknown, corrected, left or camera-state"))
        }
        Some(kind) => Ok(kind),
    }
}

/// The word of an event kind.
pub fn kind_word(kind: i32) -> &'static str {
    match EventKind::try_from(kind).unwrap_or_default() {
        EventKind::Unspecified => "?",
        EventKind::Appeared => "appeared",
        EventKind::Recognized => "recognized",
        EventKind::Unknown => "unknown",
        EventKind::Corrected => "corrected",
        EventKind::Left => "left",
        EventKind::CameraState => "camera",
    }
}

/// `id` as a resource name of a collection: `front` becomes `cameras/front`; a full name stays.
pub fn resource(collection: &str, id: &str) -> String {
    let full = id.strip_prefix(collection).is_some_and(|rest| rest.starts_with('/'));
    if full { id.to_owned() } else { format!("{collection}/{id}") }
}

/// The id of a resource name: what follows the last `/`.
pub fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The server's address as URL: `host:port` gets `http://` in front.
pub fn address(text: &str) -> String {
    if text.contains("://") { text.to_owned() } else { format!("http://{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_with_units() {
        for (text, millis) in [("20s", 20_000), ("5m", 300_000), ("1.5h", 5_400_000), ("250ms", 250), ("3", 3_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "20x", "-5s", "1..5s", "99999999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn moments_are_times_or_spans_ago() {
        let now: Timestamp = "2026-05-01T08:00:00Z".parse().unwrap();
        assert_eq!(moment("10m").unwrap().resolve(now).seconds, now.as_second() - 600);
        assert_eq!(
            moment("2026-05-01T07:00:00.5Z").unwrap().resolve(now),
            prost_types::Timestamp { seconds: now.as_second() - 3600, nanos: 500_000_000 }
        );
        assert!(moment("yesterday").is_err());
        assert_eq!(time_words(Some(&stamp(now))), "2026-05-01 08:00:00Z");
    }

    #[test]
    fn names_addresses_and_kinds() {
        assert_eq!(resource("cameras", "front"), "cameras/front");
        assert_eq!(resource("cameras", "cameras/front"), "cameras/front");
        assert_eq!(id("people/anna/faces/f1"), "f1");
        assert_eq!(address("localhost:1"), "http://localhost:1");
        assert_eq!(address("https://a:1"), "https://a:1");
        assert_eq!(kind("camera-state"), Ok(EventKind::CameraState));
        assert_eq!(kind("RECOGNIZED"), Ok(EventKind::Recognized));
        assert!(kind("unspecified").is_err());
    }

    #[test]
    fn labels_and_polygons() {
        assert_eq!(label("site=a=b"), Ok(("site".into(), "a=b".into())));
        assert!(label("=b").is_err() && label("x").is_err());
        assert_eq!(polygon("0,0 1,0;1,1").map(|p| p.len()), Ok(3));
        assert!(polygon("0,0 1,0").is_err() && polygon("0,0 1,0 2,2").is_err());
    }
}
