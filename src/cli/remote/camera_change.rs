//! The settings of a camera on the command line: one argument set for `add` and `update`, which becomes the camera
//! and the mask of changed fields.

use std::time::Duration;

use crate::{
    cli::{error::Failure, parse},
    proto::v1::{Camera, Credentials, Decoding, Point, Region, SamplingPolicy, TlsPolicy, Transport},
};

/// How packets travel, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TransportWord {
    /// TCP first, UDP if the camera refuses it.
    Auto,
    /// Interleaved in the RTSP connection.
    Tcp,
    /// RTP over UDP.
    Udp,
}

/// How a certificate is checked, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TlsWord {
    /// It must be trusted by the server's machine and name the camera's host.
    Verify,
    /// Any will do, such as a camera's self-signed one.
    Insecure,
}

/// Which pictures are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DecodingWord {
    /// Key frames only while nothing happens, where they come often enough and sizes tell what happens between them.
    Auto,
    /// The same whatever the sizes tell: who comes and goes between two key frames may be missed.
    KeyFrames,
    /// Every picture, always.
    All,
}

/// Settings of a camera; absent ones keep the server's default or present value.
#[derive(Debug, Default, clap::Args)]
pub struct Settings {
    /// What people call it.
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// User name for the camera; goes with a password.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Password for the camera, may be empty; better given in the environment, as VISAGE_CAMERA_PASSWORD, than typed.
    #[arg(long, requires = "username", value_name = "SECRET")]
    pub password: Option<Secret>,
    /// A smaller stream of the same camera, where faces are looked for; they are cut from the main one. "" takes it away.
    #[arg(long, value_name = "URL")]
    pub substream: Option<String>,
    /// How packets travel.
    #[arg(long, value_enum)]
    pub transport: Option<TransportWord>,
    /// How the certificate of an rtsps camera is checked.
    #[arg(long, value_enum)]
    pub tls: Option<TlsWord>,
    /// Free label; may be repeated.
    #[arg(long = "label", value_parser = parse::label, value_name = "KEY=VALUE")]
    pub labels: Vec<(String, String)>,
    /// Frames a second looked at while nobody is there.
    #[arg(long, value_name = "N")]
    pub idle_fps: Option<f32>,
    /// Frames a second looked at while a face is tracked.
    #[arg(long, value_name = "N")]
    pub active_fps: Option<f32>,
    /// Longest time until a face that shows up is looked at, such as 500ms; streams whose key frames are further apart are always decoded in full, and key frames it
    /// does not need are left encoded while nothing happens.
    #[arg(long, value_parser = parse::duration, value_name = "TIME")]
    pub max_detection_delay: Option<Duration>,
    /// Which pictures are decoded: key frames only while nothing happens, or all of them always.
    #[arg(long, value_enum)]
    pub decoding: Option<DecodingWord>,
    /// Smallest face looked at: shorter edge of its box in pixels of the full frame.
    #[arg(long, value_name = "PIXELS")]
    pub min_face_px: Option<u32>,
    /// Area that counts: points of 0..1 from the left and top edge, as "0,0 0.5,0 0.5,1"; may be repeated.
    #[arg(long, value_parser = Polygon::parse, value_name = "POINTS")]
    pub include: Vec<Polygon>,
    /// Area that does not count; may be repeated.
    #[arg(long, value_parser = Polygon::parse, value_name = "POINTS")]
    pub exclude: Vec<Polygon>,
    /// Name only people on this watchlist; may be repeated.
    #[arg(long = "watchlist", value_name = "LIST")]
    pub watchlists: Vec<String>,
    /// Similarity that a person must reach here, instead of the model's threshold.
    #[arg(long, value_name = "SIMILARITY", allow_negative_numbers = true)]
    pub threshold: Option<f32>,
}

/// What `camera update --clear` takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Clearable {
    /// All labels.
    Labels,
    /// All regions: everywhere counts.
    Regions,
    /// All watchlists: everyone enrolled is named.
    Watchlists,
    /// The camera's own threshold: the model's counts.
    Threshold,
    /// User name and password.
    Credentials,
}

impl Clearable {
    /// Path of the field.
    pub fn path(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Regions => "regions",
            Self::Watchlists => "watchlists",
            Self::Threshold => "threshold_override",
            Self::Credentials => "credentials",
        }
    }
}

/// Adds the paths of what is to be cleared: a path without a value empties its field.
///
/// # Errors
/// When a field is set and cleared at once.
pub fn clear(paths: &mut Vec<String>, fields: impl IntoIterator<Item = &'static str>) -> Result<(), Failure> {
    let set = paths.len();
    for path in fields {
        if paths[..set].iter().any(|set| set == path) {
            return Err(Failure::usage(format!("{path} can't be set and cleared at once"))
                .hint("new values replace all old ones; --clear is not needed with them"));
        }
        if !paths.iter().any(|known| known == path) {
            paths.push(path.to_owned());
        }
    }
    Ok(())
}

/// A password: parsed like text, never shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The password of the environment. It stays unused without a user name, so it may be set for a whole session.
    pub fn from_environment() -> Option<Self> {
        std::env::var("VISAGE_CAMERA_PASSWORD").ok().map(Self)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// A polygon as one argument.
#[derive(Debug, Clone)]
pub struct Polygon(Vec<Point>);

impl Polygon {
    fn parse(text: &str) -> Result<Self, String> {
        parse::polygon(text).map(Self)
    }
}

impl Settings {
    /// Puts the given settings into `camera` and returns the paths of the fields that they set. `fallback` is the password for a user
    /// name that comes without one.
    ///
    /// # Errors
    /// When there is a user name and no password: an empty one must be meant.
    pub fn apply(self, camera: &mut Camera, fallback: Option<Secret>) -> Result<Vec<String>, Failure> {
        let mut mask = Vec::new();
        let mut set = |path: &str| mask.push(path.to_owned());
        if let Some(name) = self.display_name {
            camera.display_name = name;
            set("display_name");
        }
        if let Some(url) = self.substream {
            camera.substream_url = url;
            set("substream_url");
        }
        if let Some(username) = self.username {
            let Some(Secret(password)) = self.password.or(fallback) else {
                return Err(Failure::usage("--username needs a password: the stored one can't be read back")
                    .hint("set VISAGE_CAMERA_PASSWORD or give --password; `--password \"\"` is an empty one"));
            };
            camera.credentials = Some(Credentials { username, password });
            set("credentials");
        }
        if let Some(word) = self.transport {
            let transport = match word {
                TransportWord::Auto => Transport::Auto,
                TransportWord::Tcp => Transport::Tcp,
                TransportWord::Udp => Transport::Udp,
            };
            camera.transport = transport.into();
            set("transport");
        }
        if let Some(word) = self.tls {
            let policy = match word {
                TlsWord::Verify => TlsPolicy::Verify,
                TlsWord::Insecure => TlsPolicy::Insecure,
            };
            camera.tls = policy.into();
            set("tls");
        }
        if !self.labels.is_empty() {
            camera.labels = parse::labels(&self.labels);
            set("labels");
        }
        let mut sampling = SamplingPolicy::default();
        if let Some(fps) = self.idle_fps {
            sampling.idle_fps = fps;
            set("sampling.idle_fps");
        }
        if let Some(fps) = self.active_fps {
            sampling.active_fps = fps;
            set("sampling.active_fps");
        }
        if let Some(delay) = self.max_detection_delay {
            sampling.max_detection_delay = Some(parse::span(delay));
            set("sampling.max_detection_delay");
        }
        if let Some(word) = self.decoding {
            let decoding = match word {
                DecodingWord::Auto => Decoding::Auto,
                DecodingWord::KeyFrames => Decoding::KeyFrames,
                DecodingWord::All => Decoding::All,
            };
            sampling.decoding = decoding.into();
            set("sampling.decoding");
        }
        camera.sampling = (sampling != SamplingPolicy::default()).then_some(sampling);
        if let Some(pixels) = self.min_face_px {
            camera.min_face_px = pixels;
            set("min_face_px");
        }
        if !self.include.is_empty() || !self.exclude.is_empty() {
            let region = |exclude| move |Polygon(points)| Region { points, exclude };
            let (include, exclude) = (self.include.into_iter(), self.exclude.into_iter());
            camera.regions = include.map(region(false)).chain(exclude.map(region(true))).collect();
            set("regions");
        }
        if !self.watchlists.is_empty() {
            camera.watchlists = self.watchlists;
            set("watchlists");
        }
        if let Some(threshold) = self.threshold {
            camera.threshold_override = Some(threshold);
            set("threshold_override");
        }
        Ok(mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_fields_and_their_paths() {
        let settings = Settings {
            idle_fps: Some(2.0),
            labels: vec![("site".into(), "berlin".into())],
            threshold: Some(0.5),
            exclude: vec![Polygon::parse("0,0 1,0 1,1").unwrap()],
            ..Settings::default()
        };
        let mut camera = Camera::default();
        assert_eq!(
            settings.apply(&mut camera, None).unwrap(),
            ["labels", "sampling.idle_fps", "regions", "threshold_override"]
        );
        assert_eq!(camera.sampling.unwrap().idle_fps, 2.0);
        assert!(camera.regions[0].exclude && camera.labels["site"] == "berlin");
    }

    #[test]
    fn nothing_given_changes_nothing() {
        let mut camera = Camera::default();
        let unused = Some(Secret("of the environment".into()));
        assert!(Settings::default().apply(&mut camera, unused).unwrap().is_empty());
        assert_eq!(camera, Camera::default());
    }

    #[test]
    fn a_user_name_needs_a_password_that_is_meant() {
        let apply = |password: Option<&str>, fallback: Option<&str>| {
            let secret = |text: &str| Secret(text.to_owned());
            let settings =
                Settings { username: Some("ann".into()), password: password.map(secret), ..Settings::default() };
            let mut camera = Camera::default();
            settings.apply(&mut camera, fallback.map(secret)).map(|_| camera.credentials.unwrap().password)
        };
        assert!(apply(None, None).unwrap_err().hint.unwrap().contains("VISAGE_CAMERA_PASSWORD"));
        assert_eq!(apply(None, Some("env")).unwrap(), "env");
        assert_eq!(apply(Some("typed"), Some("env")).unwrap(), "typed");
        assert_eq!(apply(Some(""), Some("env")).unwrap(), "");
    }

    #[test]
    fn what_is_set_is_not_cleared() {
        let mut paths = vec!["labels".to_owned()];
        assert!(clear(&mut paths, [Clearable::Labels.path()]).is_err());
        clear(&mut paths, [Clearable::Regions, Clearable::Threshold, Clearable::Regions].map(Clearable::path)).unwrap();
        assert_eq!(paths, ["labels", "regions", "threshold_override"]);
    }
}
