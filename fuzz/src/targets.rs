//! What is done with bytes from outside: one function a parser, called by libFuzzer (`fuzz/fuzz_targets`) and by a bounded test (`tests/fuzz.rs`).
//!
//! A target may refuse its bytes in any way but a panic. What it accepts must keep the promises that are asserted here.

use std::{fs, path::PathBuf, str::FromStr};

use sha2::{Digest, Sha256};
use visage::{
    access::{Role, audit::Record, request::RequestId, token::bearer},
    api::page,
    camera::spec::parse_url,
    config,
    evaluation::pairs,
    event::subscription::ResumeToken,
    face::retinaface::RetinaFace,
    frame::still::{StillLimits, decode},
    identity::Classifier,
    ids::{CameraId, EventId, PersonId, TokenName, UnknownId},
    inference::Output,
    models::manifest,
};

/// A target: its name, which is also the folder of its seeds, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 11] = [
    ("detector", detector),
    ("pairs", pairs_file),
    ("model_manifest", model_manifest),
    ("stream_url", stream_url),
    ("resume_token", resume_token),
    ("page_token", page_token),
    ("still", still),
    ("audit_line", audit_line),
    ("classifier", classifier),
    ("configuration", configuration),
    ("ids", ids),
];

/// A file for parsers that read one; of this process and thread alone.
fn file(name: &str, data: &[u8]) -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    let dir = std::env::temp_dir().join(format!("visage-fuzz-{}-{thread}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    fs::write(&path, data).unwrap();
    path
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// What a detector's network gave: sizes from the first bytes, values from the rest, of any kind.
pub fn detector(data: &[u8]) {
    let [w, h, batch, threshold, rest @ ..] = data else { return };
    let (width, height, batch) = (16 + u32::from(*w) % 96, 16 + u32::from(*h) % 96, 1 + usize::from(*batch) % 3);
    let network = RetinaFace {
        strides: vec![8, 16, 32],
        sizes: vec![vec![16.0, 32.0], vec![64.0, 128.0], vec![256.0, 512.0]],
        variances: [0.1, 0.2],
        nms_iou: 0.4,
    };
    let n = network.priors(width, height);
    let mut bytes = rest.iter().copied().cycle();
    let mut values = |count: usize| -> Vec<f32> {
        if rest.is_empty() {
            return vec![0.0; count];
        }
        let mut byte = || bytes.next().unwrap_or_default();
        (0..count).map(|_| f32::from_le_bytes([byte(), byte(), byte(), byte()])).collect()
    };
    let (loc, conf, marks) = (values(batch * n * 4), values(batch * n * 2), values(batch * n * 10));
    let shape = |columns: usize| [batch as i64, n as i64, columns as i64];
    let (a, b, c) = (shape(4), shape(2), shape(10));
    let outputs = [
        Output { name: "loc", shape: &a, data: &loc },
        Output { name: "conf", shape: &b, data: &conf },
        Output { name: "marks", shape: &c, data: &marks },
    ];
    let found = network.decode(&outputs, (width, height), batch, f32::from(*threshold) / 256.0).unwrap();
    assert_eq!(found.len(), batch);
    for face in found.iter().flatten() {
        assert!(face.score.is_finite() && face.score <= 1.0, "{face:?}");
        let bbox = [face.bbox.x1, face.bbox.y1, face.bbox.x2, face.bbox.y2];
        assert!(bbox.iter().all(|v| v.is_finite()), "{face:?}");
        assert!(face.landmarks.iter().all(|p| p.x.is_finite() && p.y.is_finite()), "{face:?}");
    }
    // Outputs of other shapes are refused.
    assert!(network.decode(&outputs[..2], (width, height), batch, 0.5).is_err());
    assert!(network.decode(&outputs, (width + 64, height), batch, 0.5).is_err());
}

/// A list of pairs of `visage eval`.
pub fn pairs_file(data: &[u8]) {
    let list = file("pairs.txt", data);
    let dir = list.parent().unwrap().to_owned();
    for name in ["Ann/Ann_0001.jpg", "Ann/Ann_0002.png", "Bo/Bo_0001.jpg"] {
        let path = dir.join(name);
        if !path.is_file() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
    }
    if let Ok(list) = pairs::read(&list, &dir) {
        assert!(list.samples.iter().all(|s| s.path.starts_with(&dir)), "a file outside of the folder");
        assert!(list.pairs.iter().all(|p| p.a < list.samples.len() && p.b < list.samples.len()));
    }
}

/// A manifest of models.
pub fn model_manifest(data: &[u8]) {
    if let Ok(manifest) = manifest::load(Some(&file("manifest.toml", data))) {
        for entry in manifest.entries() {
            assert!(manifest.entry(&entry.id).is_ok());
            if let Some(network) = RetinaFace::of(entry) {
                // What is accepted can be counted without an overflow.
                network.priors(640, 480);
            }
        }
    }
}

/// The URL of a camera, as somebody typed it.
pub fn stream_url(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok((url, credentials)) = parse_url(text) {
        assert!(matches!(url.scheme(), "rtsp" | "rtsps"));
        assert!(url.host_str().is_some_and(|host| !host.is_empty()), "{url}");
        assert!(url.username().is_empty() && url.password().is_none(), "credentials stay in {url}");
        if let Some(credentials) = credentials {
            let secret = credentials.password.expose();
            let shown = format!("{credentials:?}");
            assert!(secret.len() < 4 || credentials.username.contains(secret) || !shown.contains(secret), "{shown}");
        }
        assert!(parse_url(url.as_str()).is_ok_and(|(again, _)| again == url), "{url} is another one the second time");
    }
}

/// A resume token.
pub fn resume_token(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(token) = text.parse::<ResumeToken>() {
        assert_eq!(token.to_string().parse().as_ref(), Ok(&token));
        let _ = token.check("log", 7);
    }
}

/// Page tokens, and names of resources.
pub fn page_token(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(Some(position)) = page::after::<u64>(text) {
        assert_eq!(page::after::<u64>(&page::token(&position.to_string())).unwrap(), Some(position));
    }
    let _ = page::after::<CameraId>(text);
    for collection in ["cameras", "people", ""] {
        match page::id::<CameraId>("name", collection, text) {
            Ok(id) => assert_eq!(text, format!("{collection}/{id}")),
            Err(status) => assert!(status.message().len() < 1000, "a client's text comes back in full"),
        }
    }
}

/// A picture.
pub fn still(data: &[u8]) {
    let limits = StillLimits { bytes: 1 << 20, pixels: 1 << 16 };
    if let Ok(picture) = decode(data, &limits) {
        let pixels = u64::from(picture.width()) * u64::from(picture.height());
        assert!(pixels > 0 && pixels <= limits.pixels, "{} x {}", picture.width(), picture.height());
    }
}

/// A line of the audit log; once as it is, once with a hash that is right.
pub fn audit_line(data: &[u8]) {
    let _ = Record::parse(data);
    let sealed = [data, b",\"hash\":\"", hex::encode(Sha256::digest(data)).as_bytes(), b"\"}"].concat();
    if let Ok(record) = Record::parse(&sealed) {
        let (line, _) = Record::line(record.number, &record.entry, &record.previous).unwrap();
        assert_eq!(Record::parse(line.trim_end_matches('\n').as_bytes()).unwrap().entry, record.entry);
    }
}

/// The bytes of a kept classifier; once as they are, once with a hash that is right.
pub fn classifier(data: &[u8]) {
    let _ = Classifier::from_bytes(data);
    let sealed = [hex::encode(Sha256::digest(data)).as_bytes(), b"\n", data].concat();
    if let Ok(classifier) = Classifier::from_bytes(&sealed) {
        assert_eq!(Classifier::from_bytes(&classifier.to_bytes().unwrap()), Ok(classifier));
    }
}

/// A configuration file.
pub fn configuration(data: &[u8]) {
    if let Ok(loaded) = config::load(Some(&file("visage.toml", data)), &[]) {
        let _ = loaded.explain();
    }
}

/// Small texts of requests and commands.
pub fn ids(data: &[u8]) {
    let Some(text) = text(data) else { return };
    fn same<T: FromStr + ToString>(text: &str) {
        if let Ok(id) = text.parse::<T>() {
            assert_eq!(id.to_string(), text);
        }
    }
    same::<CameraId>(text);
    same::<PersonId>(text);
    same::<EventId>(text);
    same::<TokenName>(text);
    same::<UnknownId>(text);
    same::<Role>(text);
    let id = RequestId::of(Some(text));
    assert!((1..=64).contains(&id.as_str().len()) && id.as_str().is_ascii());
    if let Some(token) = bearer(text) {
        assert!(!token.is_empty());
    }
    assert!(visage::ids::slugify(text).len() <= 63);
}
