//! The walls of ARCHITECTURE.md as tests: which room may use which, and where foreign crates may be named.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
};

const GROUND: [&str; 6] = ["ids", "secret", "time", "telemetry", "whole_file", "proto"];

/// Room → rooms it may use besides the ground. `proto` is ground only for those in `WIRE`.
const MAY_USE: [(&str, &[&str]); 17] = [
    ("frame", &[]),
    ("camera", &["frame"]),
    ("inference", &["face", "frame"]), // the manifest names `face::Distance`, a plain value
    ("models", &["inference", "face"]),
    ("face", &["frame", "inference"]),
    ("track", &["face", "frame"]),
    ("identity", &["face", "frame", "inference", "track"]),
    ("event", &["face", "identity", "frame"]),
    ("pipeline", &["camera", "frame", "inference", "face", "track", "identity", "event", "config"]),
    ("access", &[]),
    ("vault", &[]),
    ("cluster", &[]),
    ("store", &["access", "camera", "cluster", "identity", "event", "face", "frame", "inference", "vault"]),
    ("api", &["access", "camera", "identity", "event", "pipeline", "face", "frame", "inference"]),
    ("evaluation", &["frame", "inference", "face", "track", "identity"]),
    ("simulator", &[]),
    ("cli/remote", &["cli"]),
];

const WIRE: [&str; 2] = ["api", "cli"];

/// Foreign crate → rooms where it may be named.
const ADDRESSES: [(&str, &[&str]); 23] = [
    ("argmin", &["identity"]),
    ("async_nats", &["store/nats"]),
    ("chacha20poly1305", &["vault"]),
    ("governor", &["access"]),
    ("jsonwebtoken", &["access"]),
    ("ring", &["access", "server"]), // server: the name of rustls's provider
    ("gstreamer", &["camera", "simulator"]),
    ("gstreamer_rtsp_server", &["simulator", "camera"]), // camera: its tests play a real server
    ("hyper_util", &["server"]),
    ("prometheus_client", &["telemetry"]),
    ("ipnet", &["camera"]),
    ("pulp", &["frame", "store/exact"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("ort", &["inference", "models", "cli/local"]), // models: its tests run what was converted
    ("rusqlite", &["store"]),
    ("rustix", &["server", "telemetry"]),
    ("qdrant_client", &["store"]),
    ("tokio_rustls", &["server"]),
    ("x509_cert", &["server"]),
    ("tonic", &["api", "cli", "proto.rs", "store"]), // store: the Qdrant client's own status type
];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Statements of all sources: lines joined until an import or a block of them is complete, comments left out.
fn each_statement(mut check: impl FnMut(&str, usize, &str)) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 50, "the sources were not found");
    for file in files {
        let name = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        let mut open: Option<(usize, String)> = None;
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let line = line.trim_start();
            if line.starts_with("//") {
                continue;
            }
            let (began, text) = match open.take() {
                Some((began, text)) => (began, format!("{text} {line}")),
                None => (number + 1, line.to_owned()),
            };
            let import = text.starts_with("use ") || text.starts_with("pub use ");
            if import && !text.contains(';') {
                open = Some((began, text));
            } else {
                check(&name, began, &text);
            }
        }
    }
}

/// Rooms named as `crate::room` or in a block `use crate::{room::…, other::{…}}`.
fn rooms_used(statement: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = Vec::new();
    for rest in statement.split("crate::").skip(1) {
        let Some(block) = rest.strip_prefix('{') else {
            rooms.push(name(rest));
            continue;
        };
        // Entries at the first level of the block.
        let (mut depth, mut entry) = (0, String::new());
        for c in block.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => rooms.push(name(std::mem::take(&mut entry).trim())),
                _ => {}
            }
            if depth == 0 && c != ',' {
                entry.push(c);
            }
        }
        rooms.push(name(entry.trim()));
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

#[test]
fn imports_are_read_as_they_are_written() {
    assert_eq!(rooms_used("use crate::face::Detection;"), ["face"]);
    let block = "use crate::{ camera::{CameraSpec, source::{Cause, Source}}, frame::Frame, telemetry, time::{self, Timestamp}, };";
    assert_eq!(rooms_used(block), ["camera", "frame", "telemetry", "time"]);
    assert_eq!(rooms_used("crate::ids::CameraId, crate::store::sqlite::X"), ["ids", "store"]);
    assert!(rooms_used("let create = 1;").is_empty());
}

#[test]
fn rooms_use_only_what_the_house_allows() {
    let mut faults = Vec::new();
    let mut seen = 0;
    each_statement(|file, number, line| {
        let Some((_, allowed)) = MAY_USE.iter().find(|(room, _)| file.starts_with(&format!("{room}/"))) else { return };
        for used in rooms_used(line) {
            seen += 1;
            let own = file.starts_with(&format!("{used}/"));
            let ground =
                GROUND.contains(&used.as_str()) && (used != "proto" || WIRE.iter().any(|w| file.starts_with(w)));
            if !own && !ground && !allowed.contains(&used.as_str()) {
                faults.push(format!("src/{file}:{number}: uses crate::{used}"));
            }
        }
    });
    assert!(seen > 150, "no use of rooms was found: the test looks at nothing");
    assert!(faults.is_empty(), "walls are broken:\n{}", faults.join("\n"));
}

#[test]
fn foreign_crates_stay_at_their_addresses() {
    let mut faults = Vec::new();
    each_statement(|file, number, line| {
        for (name, rooms) in ADDRESSES {
            let named = line.contains(&format!("{name}::"))
                && !line.contains(&format!("::{name}::"))
                && line
                    .split(&format!("{name}::"))
                    .next()
                    .is_none_or(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
            let at_home = rooms.iter().any(|room| file.starts_with(room));
            if named && !at_home {
                faults.push(format!("src/{file}:{number}: names {name}"));
            }
        }
    });
    assert!(faults.is_empty(), "foreign crates left their address:\n{}", faults.join("\n"));
}

#[test]
fn queues_are_bounded() {
    let mut faults = Vec::new();
    each_statement(|file, number, line| {
        if line.contains("unbounded_channel") || line.contains("mpsc::channel()") || line.contains("todo!(") {
            faults.push(format!("src/{file}:{number}: {line}"));
        }
    });
    assert!(faults.is_empty(), "unbounded queues or unfinished code:\n{}", faults.join("\n"));
}
