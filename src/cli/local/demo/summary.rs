//! What the demo saw, against what it knows was shown.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::Value;

use crate::cli::local::cast::Cast;
use crate::time::{self, Timestamp};

#[derive(Default)]
struct Camera {
    expected: BTreeSet<String>,
    appearances: u64,
    recognized: u64,
    unknown: u64,
    wrong: Vec<String>,
    seen: BTreeSet<String>,
}

/// Name of the `number`-th picture.
fn picture_name(camera: &str, number: usize, who: &str) -> String {
    format!("{camera}-{number:02}-{who}.jpg")
}

/// Whether a file has the name of a picture of this camera.
pub(super) fn is_picture(name: &str, camera: &str) -> bool {
    let parts = name.strip_prefix(camera).and_then(|n| n.strip_prefix('-')?.strip_suffix(".jpg")?.split_once('-'));
    parts
        .is_some_and(|(number, who)| number.len() >= 2 && number.bytes().all(|b| b.is_ascii_digit()) && !who.is_empty())
}

/// Counts events and compares them with the cast.
pub(super) struct Summary {
    cameras: BTreeMap<String, Camera>,
    latencies_ms: Vec<f64>,
    pictures: Vec<(String, String)>,
}

impl Summary {
    pub(super) fn new(cast: &Cast) -> Self {
        let cameras = cast
            .cameras
            .iter()
            .map(|c| (c.id.clone(), Camera { expected: c.people.clone(), ..Camera::default() }))
            .collect();
        Self { cameras, latencies_ms: Vec::new(), pictures: Vec::new() }
    }

    /// Takes one event in protobuf's JSON mapping; a line for people, if it is worth one.
    pub(super) fn take(&mut self, event: &Value) -> Option<String> {
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        let kind = text("kind").trim_start_matches("EVENT_KIND_").to_owned();
        let camera_id = text("camera").trim_start_matches("cameras/").to_owned();
        let matched = |key: &str| event.get("match").and_then(|m| m.get(key));
        let person = matched("person").and_then(Value::as_str).unwrap_or_default().trim_start_matches("people/");
        let name = matched("displayName").and_then(Value::as_str).unwrap_or_default();
        let similarity = matched("similarity").and_then(Value::as_f64).unwrap_or_default();
        let captured: Option<Timestamp> = text("captureTime").parse().ok();
        let camera = self.cameras.get_mut(&camera_id)?;
        if kind == "CAMERA_STATE" {
            return Some(format!("   {camera_id:<9} {} {}", text("cameraState"), text("reason")));
        }
        if let Some(captured) = captured.filter(|_| kind != "LEFT") {
            self.latencies_ms.push(time::seconds_between(captured, time::now()) * 1000.0);
        }
        let decided = matches!(kind.as_str(), "RECOGNIZED" | "CORRECTED") && !person.is_empty();
        match kind.as_str() {
            "APPEARED" => camera.appearances += 1,
            "UNKNOWN" => camera.unknown += 1,
            _ if decided => {
                camera.recognized += 1;
                camera.seen.insert(person.to_owned());
                if !camera.expected.contains(person) {
                    camera.wrong.push(name.to_owned());
                }
            }
            _ => {}
        }
        let id = text("name").trim_start_matches("events/");
        if event.get("hasImage").and_then(Value::as_bool).unwrap_or(false)
            && matches!(kind.as_str(), "RECOGNIZED" | "UNKNOWN")
        {
            let who = if person.is_empty() { "unknown" } else { person };
            let file = picture_name(&camera_id, self.pictures.len() + 1, who);
            self.pictures.push((id.to_owned(), file));
        }
        let who = if name.is_empty() { String::new() } else { format!("{name} ({similarity:.2})") };
        Some(format!("   {camera_id:<9} {kind:<11} {who}{}", if kind == "UNKNOWN" { text("reason") } else { "" }))
    }

    /// Event ids and file names of the pictures worth keeping.
    pub(super) fn pictures(&self) -> Vec<(String, String)> {
        self.pictures.iter().take(24).cloned().collect()
    }

    /// What was counted. `cameras` is what `visage camera list --json` said, one camera a line.
    pub(super) fn report(&self, cameras: &str) -> anyhow::Result<Report> {
        let mut rows = Vec::new();
        for line in cameras.lines().filter(|l| !l.trim().is_empty()) {
            let value: Value = serde_json::from_str(line)?;
            let id = value["name"].as_str().unwrap_or_default().trim_start_matches("cameras/").to_owned();
            let Some(camera) = self.cameras.get(&id) else { continue };
            // 64-bit numbers are strings in protobuf's JSON, and a zero is left out.
            let count = |key: &str| value["status"][key].as_str().and_then(|n| n.parse().ok()).unwrap_or(0);
            rows.push(Row {
                camera: id,
                codec: value["status"]["codec"].as_str().unwrap_or_default().to_owned(),
                frames_received: count("framesReceived"),
                frames_sampled: count("framesSampled"),
                faces: count("facesFound"),
                appearances: camera.appearances,
                recognized: camera.recognized,
                unknown: camera.unknown,
                wrong: camera.wrong.clone(),
            });
        }
        let latency_ms = LatencyMs { p50: self.percentile(0.5), p95: self.percentile(0.95) };
        Ok(Report { cameras: rows, latency_ms, faults: self.faults() })
    }

    fn percentile(&self, q: f64) -> Option<f64> {
        let mut sorted = self.latencies_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let index = ((sorted.len() as f64 - 1.0) * q).round().max(0.0) as usize;
        sorted.get(index).copied()
    }

    /// Who was expected and not named, or named and not expected.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (id, camera) in &self.cameras {
            for missing in camera.expected.difference(&camera.seen) {
                faults.push(format!("camera {id}: {missing} was shown and not recognised"));
            }
            for name in &camera.wrong {
                faults.push(format!("camera {id}: somebody was taken for {name}"));
            }
            if camera.appearances == 0 {
                faults.push(format!("camera {id}: nobody appeared"));
            }
        }
        faults
    }
}

/// What the demo counted, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    cameras: Vec<Row>,
    /// From capture to event at the subscriber.
    latency_ms: LatencyMs,
    faults: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    camera: String,
    codec: String,
    frames_received: u64,
    frames_sampled: u64,
    faces: u64,
    appearances: u64,
    recognized: u64,
    unknown: u64,
    /// Names that somebody else got.
    wrong: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LatencyMs {
    p50: Option<f64>,
    p95: Option<f64>,
}

impl Report {
    /// The same for people.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "camera",
            "codec",
            "frames in",
            "looked at",
            "faces",
            "appearances",
            "recognised",
            "unknown",
            "wrong",
        ]);
        for row in &self.cameras {
            let counts = [row.frames_received, row.frames_sampled, row.faces, row.appearances, row.recognized];
            let texts = [row.camera.clone(), row.codec.clone()].into_iter();
            table.add_row(
                texts
                    .chain(counts.map(|n| n.to_string()))
                    .chain([row.unknown.to_string(), row.wrong.len().to_string()]),
            );
        }
        let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.0} ms"));
        let LatencyMs { p50, p95 } = self.latency_ms;
        format!("{table}\ncapture → event at the subscriber: p50 {}, p95 {}", ms(p50), ms(p95))
    }

    /// Whether everybody expected was named, and nobody else.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        if !self.faults.is_empty() {
            bail!("the demo failed:\n  {}", self.faults.join("\n  "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::{super::cast::CastCamera, *};

    #[test]
    fn the_report_shows_what_the_server_counted() {
        let camera = CastCamera { id: "yard".into(), source: String::new(), people: Default::default() };
        let summary = Summary::new(&Cast { cameras: vec![camera], gallery: PathBuf::new() });
        let status = json!({"codec": "JPEG", "framesReceived": "900", "framesSampled": "210", "facesFound": "123"});
        let line = json!({"name": "cameras/yard", "status": status}).to_string();
        let report = summary.report(&line).unwrap();
        let table = report.table();
        assert!(table.contains("faces") && table.contains("123"), "{table}");
        assert!(table.contains("p50 -, p95 -"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["cameras"][0]["frames_received"], 900);
        assert_eq!((&json["latency_ms"]["p50"], json["faults"].as_array().unwrap().len()), (&Value::Null, 1));
    }

    #[test]
    fn a_stranger_with_any_name_fails_the_demo() {
        let camera = |id: &str, people: &[&str]| CastCamera {
            id: id.into(),
            source: String::new(),
            people: people.iter().map(ToString::to_string).collect(),
        };
        let cast = Cast { cameras: vec![camera("door", &["anna"]), camera("yard", &[])], gallery: PathBuf::new() };
        let mut summary = Summary::new(&cast);
        let mut see = |kind: &str, camera: &str, person: &str| {
            summary.take(&json!({
                "kind": format!("EVENT_KIND_{kind}"), "camera": format!("cameras/{camera}"),
                "match": {"person": person, "displayName": person},
            }));
        };
        for camera in ["door", "yard"] {
            see("APPEARED", camera, "");
        }
        see("RECOGNIZED", "door", "people/anna");
        see("UNKNOWN", "yard", "");
        assert!(summary.report("").unwrap().verdict().is_ok());
        summary.take(
            &json!({"kind": "EVENT_KIND_RECOGNIZED", "camera": "cameras/yard", "match": {"person": "people/anna"}}),
        );
        assert!(summary.report("").unwrap().verdict().is_err());
    }
}
