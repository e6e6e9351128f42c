//! The settings of a camera on the command line: one argument set for `add` and `update`, which becomes the camera
//! and the mask of changed fields.

use std::time::Duration;

use crate::{
    cli::parse,
    proto::v1::{Camera, Credentials, Point, Region, SamplingPolicy, Transport},
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

/// Settings of a camera; absent ones keep the server's default or present value.
#[derive(Debug, Default, clap::Args)]
pub struct Settings {
    /// What people call it.
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// User name for the camera.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Password for the camera; better given in the environment than typed.
    #[arg(long, env = "VISAGE_CAMERA_PASSWORD", hide_env_values = true, requires = "username", value_name = "SECRET")]
    pub password: Option<Secret>,
    /// How packets travel.
    #[arg(long, value_enum)]
    pub transport: Option<TransportWord>,
    /// Free label; may be repeated.
    #[arg(long = "label", value_parser = parse::label, value_name = "KEY=VALUE")]
    pub labels: Vec<(String, String)>,
    /// Frames a second looked at while nobody is there.
    #[arg(long, value_name = "N")]
    pub idle_fps: Option<f32>,
    /// Frames a second looked at while a face is tracked.
    #[arg(long, value_name = "N")]
    pub active_fps: Option<f32>,
    /// Longest time until a face that shows up is looked at, such as 500ms.
    #[arg(long, value_parser = parse::duration, value_name = "TIME")]
    pub max_detection_delay: Option<Duration>,
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

/// A password: parsed like text, never shown.
#[derive(Clone)]
pub struct Secret(String);

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
    /// Puts the given settings into `camera` and returns the paths of the fields that they set.
    pub fn apply(self, camera: &mut Camera) -> Vec<String> {
        let mut mask = Vec::new();
        let mut set = |path: &str| mask.push(path.to_owned());
        if let Some(name) = self.display_name {
            camera.display_name = name;
            set("display_name");
        }
        if let Some(username) = self.username {
            let password = self.password.map(|secret| secret.0).unwrap_or_default();
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
        mask
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
        assert_eq!(settings.apply(&mut camera), ["labels", "sampling.idle_fps", "regions", "threshold_override"]);
        assert_eq!(camera.sampling.unwrap().idle_fps, 2.0);
        assert!(camera.regions[0].exclude && camera.labels["site"] == "berlin");
    }

    #[test]
    fn nothing_given_changes_nothing() {
        let mut camera = Camera::default();
        assert!(Settings::default().apply(&mut camera).is_empty());
        assert_eq!(camera, Camera::default());
    }
}
