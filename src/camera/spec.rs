//! A camera as registered. Invalid ones can't be built: [`CameraSpec::validate`] names every fault with its field.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

pub use crate::secret::Secret;
use crate::{frame::region::Region, ids::CameraId, time::Timestamp};

/// User name and password of a camera.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// How packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP first, UDP if the camera refuses it.
    #[default]
    Auto,
    /// Interleaved in the RTSP connection.
    Tcp,
    /// RTP over UDP.
    Udp,
}

/// How the certificate of an `rtsps` camera is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsPolicy {
    /// It must be signed by an issuer that this machine trusts, and name the camera's host.
    #[default]
    Verify,
    /// Any certificate will do: the stream is encrypted, and whoever answers is believed to be the camera.
    Insecure,
}

/// Which pictures of a stream are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoding {
    /// Key frames only while nothing happens, where they come often enough for the promised delay and sizes of pictures tell what happens
    /// between them; everything otherwise.
    #[default]
    Auto,
    /// The same whatever the sizes tell: who comes and goes between two key frames may be missed.
    #[serde(rename = "key_frames")]
    KeyFrames,
    /// Everything, always.
    All,
}

/// How often frames are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SamplingPolicy {
    /// Frames a second while nobody is there; above 0, at most 60.
    pub idle_fps: f32,
    /// Frames a second while a face is tracked; at least `idle_fps`, at most 60.
    pub active_fps: f32,
    /// Longest time between a face showing up and a frame being looked at.
    pub max_detection_delay: Duration,
    /// Which pictures are decoded.
    #[serde(default)]
    pub decoding: Decoding,
}

impl Default for SamplingPolicy {
    fn default() -> Self {
        // Most cameras send a key frame every one or two seconds: with less they would never be decoded sparingly.
        let max_detection_delay = Duration::from_secs(2);
        Self { idle_fps: 5.0, active_fps: 8.0, max_detection_delay, decoding: Decoding::Auto }
    }
}

/// A camera as registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CameraSpec {
    /// Its id.
    pub id: CameraId,
    /// What people call it.
    pub display_name: String,
    /// Stream URL without user and password, so always safe to print.
    pub url: Url,
    /// A smaller stream of the same camera, of the same host and with the same credentials: faces are looked for in it, and cut from `url`.
    #[serde(default)]
    pub substream: Option<Url>,
    /// User and password, apart from the URL.
    pub credentials: Option<Credentials>,
    /// How packets travel.
    pub transport: Transport,
    /// How the certificate of an `rtsps` camera is checked.
    #[serde(default)]
    pub tls: TlsPolicy,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it should run.
    pub enabled: bool,
    /// How often frames are looked at.
    pub sampling: SamplingPolicy,
    /// Faces whose box has a shorter edge below this (frame pixels) are not looked at; 0 takes half of what the model needs.
    pub min_face_px: u32,
    /// Areas that count; empty means everywhere.
    pub regions: Vec<Region>,
    /// Only people on these watchlists are named; empty means everyone.
    pub watchlists: Vec<String>,
    /// Overrides the identification threshold (similarity).
    pub threshold_override: Option<f32>,
    /// Counts up by one with each change; the etag of the API.
    pub revision: u64,
    /// When it was registered.
    pub created: Timestamp,
}

/// One fault of a camera as given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SpecError {
    /// The field in the API, such as `url` or `sampling.idle_fps`.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// Splits a URL as typed into a safe URL and credentials.
///
/// # Errors
/// When the text is no URL, the scheme is not `rtsp` or `rtsps`, or there is no host. The message never repeats a password.
pub fn parse_url(text: &str) -> Result<(Url, Option<Credentials>), SpecError> {
    let fail = |message: String| SpecError { field: "url", message };
    let mut url =
        Url::parse(text.trim()).map_err(|e| fail(format!("is not a URL ({e}); write rtsp://host[:port]/path")))?;
    if !matches!(url.scheme(), "rtsp" | "rtsps") {
        let scheme: String = url.scheme().chars().take(20).collect();
        return Err(fail(format!("scheme {scheme:?} is not supported; use rtsp or rtsps")));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(fail("has no host; write rtsp://host[:port]/path".into()));
    }
    let decode = |s: &str| percent_decode(s);
    let credentials = (!url.username().is_empty() || url.password().is_some()).then(|| Credentials {
        username: decode(url.username()),
        password: Secret::new(decode(url.password().unwrap_or_default())),
    });
    if credentials.is_some() {
        // Both only fail for URLs without a host, which were refused above.
        let _ = url.set_username("");
        let _ = url.set_password(None);
    }
    Ok((url, credentials))
}

fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let hex =
            (bytes[i] == b'%').then(|| text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok())).flatten();
        match hex {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl CameraSpec {
    /// Every fault of the values that types can't exclude.
    ///
    /// # Errors
    /// All faults at once, each with its API field.
    pub fn validate(&self) -> Result<(), Vec<SpecError>> {
        let mut faults = Vec::new();
        let mut fault = |field, message: String| faults.push(SpecError { field, message });
        let host = |url: &Url| url.host_str().unwrap_or_default().to_ascii_lowercase();
        if self.substream.as_ref().is_some_and(|sub| host(sub) != host(&self.url)) {
            // A password is shown only to the camera that it was given for.
            fault("substream_url", "is of another host than url; both streams must be of one camera".into());
        }
        let s = &self.sampling;
        if !(s.idle_fps > 0.0 && s.idle_fps <= 60.0) {
            fault("sampling.idle_fps", format!("{} is out of range; give a number above 0 and at most 60", s.idle_fps));
        }
        if !(s.active_fps > 0.0 && s.active_fps <= 60.0) {
            fault(
                "sampling.active_fps",
                format!("{} is out of range; give a number above 0 and at most 60", s.active_fps),
            );
        }
        if s.max_detection_delay > Duration::from_secs(60) || s.max_detection_delay.is_zero() {
            fault("sampling.max_detection_delay", "is out of range; give at most 60s".into());
        }
        if self.display_name.len() > 200 {
            fault("display_name", "is longer than 200 bytes; shorten it".into());
        }
        if self.labels.len() > 64 || self.labels.iter().any(|(k, v)| k.is_empty() || k.len() > 63 || v.len() > 255) {
            fault("labels", "at most 64 labels, keys of 1 to 63 bytes, values of at most 255".into());
        }
        if self.min_face_px > 4096 {
            fault("min_face_px", format!("{} is out of range; give at most 4096", self.min_face_px));
        }
        if self.threshold_override.is_some_and(|t| !(t > -1.0 && t < 1.0)) {
            fault("threshold_override", "is out of range; give a similarity between -1 and 1".into());
        }
        if self.regions.iter().any(|r| !r.is_valid()) {
            fault("regions", "each polygon needs 3 to 64 points with coordinates from 0 to 1".into());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_leaves_the_url() {
        let (url, credentials) = parse_url("rtsp://joe:p%40ss@10.0.0.7/live?x=1").unwrap();
        assert_eq!(url.as_str(), "rtsp://10.0.0.7/live?x=1");
        let credentials = credentials.unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.expose()), ("joe", "p@ss"));
        assert!(!format!("{credentials:?}").contains("p@ss"));
    }

    #[test]
    fn refuses_what_is_no_camera_url() {
        for bad in ["", "camera1", "ftp://h/x", "file:///etc/passwd", "http://h/x", "rtsp://"] {
            assert!(parse_url(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
