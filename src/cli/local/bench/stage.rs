//! The cameras of a bench: simulated 1080p streams with noise, at a camera's bit rate, and what they show when.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use image::RgbImage;

use crate::{
    cli::local::cast,
    simulator::{
        Actor, Background, Bitrate, CardShape, Codec, Scene, SimCamera, SimSource, Simulator, SimulatorSettings,
        Waypoint, folder,
    },
};

/// What the cameras see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Nobody, but for two short visits a minute (4 s and 1.5 s).
    Idle,
    /// Up to three people at a time, always somebody.
    Busy,
    /// Every other camera busy, the rest idle.
    Mixed,
}

impl Kind {
    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Mixed => "mixed",
        }
    }

    /// Share of busy cameras, 0 to 1.
    pub fn busy(self) -> f32 {
        match self {
            Self::Idle => 0.0,
            Self::Busy => 1.0,
            Self::Mixed => 0.5,
        }
    }
}

/// Whether camera `index` is busy where a share of them is: spread evenly.
pub fn is_busy(index: usize, share: f32) -> bool {
    let before = |count: usize| (count as f32 * share + 1e-3).floor();
    before(index + 1) > before(index)
}

/// How the streams are encoded.
#[derive(Debug, Clone, Copy)]
pub struct Encoding {
    /// Width and height, pixels.
    pub size: (u32, u32),
    /// Pictures a second.
    pub fps: u32,
    /// Codec.
    pub codec: Codec,
    /// Bit rate.
    pub bitrate: Bitrate,
    /// Size of a substream beside it.
    pub substream: Option<(u32, u32)>,
}

/// Noise of the sensor, grey levels.
const NOISE: u8 = 6;
/// Length of the idle scene's loop.
const IDLE: Duration = Duration::from_secs(60);
/// From one visit of a lane of the busy scene to the next: longer than a face may be away and still be the same appearance.
const LANE: f32 = 14.0;
/// How long a visit of the busy scene lasts, seconds.
const VISIT: f32 = 8.0;
/// Visits of a lane in one loop.
const VISITS: u32 = 4;

/// The names of the two scenes; cameras share their pictures, so that encoding stays short whatever the number of cameras.
const IDLE_STREAM: &str = "idle";
/// As [`IDLE_STREAM`].
const BUSY_STREAM: &str = "busy";
/// Timelines of a scene where visits are spread: a prime, so that every half, third or fifth camera meets all of them.
const TIMELINES: usize = 7;
/// From one of these timelines to the next, seconds: together they fill the loop of either scene.
const APART: usize = 8;

/// When cameras that show the same scene see their visitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visits {
    /// All at the same moment, as when a bell rings.
    AtOnce,
    /// Each of seven groups at times of its own.
    Spread,
}

/// The name of the stream that camera `index` shows, where a share of them is busy.
pub fn stream(index: usize, busy: f32, visits: Visits) -> String {
    let scene = if is_busy(index, busy) { BUSY_STREAM } else { IDLE_STREAM };
    match (visits, index % TIMELINES) {
        (Visits::AtOnce, _) | (_, 0) => scene.to_owned(),
        (Visits::Spread, timeline) => later(scene, timeline),
    }
}

fn later(scene: &str, timeline: usize) -> String {
    format!("{scene}-{timeline}")
}

/// Starts the simulator with the streams that a share of busy cameras needs. Blocks for as long as encoding takes.
///
/// # Errors
/// Pictures that are missing, an encoder that is missing.
pub fn start(busy: f32, encoding: Encoding, cast: &cast::Cast) -> anyhow::Result<Simulator> {
    let people = people(cast)?;
    let mut cameras = Vec::new();
    if busy < 1.0 {
        cameras.push(camera(IDLE_STREAM, idle(encoding, &people), encoding));
    }
    if busy > 0.0 {
        cameras.push(camera(BUSY_STREAM, crowded(encoding, &people), encoding));
    }
    Simulator::start(SimulatorSettings { cameras, ..SimulatorSettings::default() }).context("no simulated cameras")
}

fn camera(name: &str, scene: Scene, encoding: Encoding) -> SimCamera {
    let camera = SimCamera::new(name, SimSource::Scene(scene)).codec(encoding.codec);
    let bitrate = (encoding.codec != Codec::Mjpeg).then_some(encoding.bitrate);
    let further = (1..TIMELINES).map(|t| (later(name, t), Duration::from_secs((t * APART) as u64))).collect();
    SimCamera { bitrate, substream: encoding.substream, further, ..camera }
}

/// Portraits of four people, by the id they are enrolled under; the last one is a stranger.
fn people(cast: &cast::Cast) -> anyhow::Result<Vec<(String, Arc<RgbImage>)>> {
    let shown: [(&str, &str, &str); 4] = [
        ("barack-obama", "entrance", "obama2.jpg"),
        ("guest", "entrance", "sample3.jpg"),
        ("joe-biden", "", "biden.jpg"),
        ("stranger", "yard", "astronaut.png"),
    ];
    shown
        .iter()
        .map(|(label, camera, file)| {
            let dir = match cast.cameras.iter().find(|c| c.id == *camera) {
                Some(camera) => Path::new(camera.source.split(',').next().unwrap_or_default()).to_owned(),
                None => cast.gallery.join("Joe Biden"),
            };
            Ok(((*label).to_owned(), Arc::new(folder::open_picture(&dir.join(file))?)))
        })
        .collect()
}

fn room(encoding: Encoding, duration: Duration) -> Scene {
    Scene::new(encoding.size, encoding.fps, duration)
        .background(Background::Gradient { top: [150, 156, 160], bottom: [92, 97, 100] })
        .noise(NOISE)
        .clock()
}

/// Somebody who walks in from the left, lingers, and leaves to the right.
fn passes(label: &str, picture: &Arc<RgbImage>, at: f32, lasts: f32) -> Actor {
    let point = |part: f32, x: f32| Waypoint { at: Duration::from_secs_f32(at + part * lasts), x, y: 0.5, height: 0.5 };
    Actor {
        label: label.to_owned(),
        picture: picture.clone(),
        shape: CardShape::Whole,
        region: None,
        path: vec![point(0.0, -0.15), point(0.3, 0.42), point(0.7, 0.58), point(1.0, 1.15)],
    }
}

fn idle(encoding: Encoding, people: &[(String, Arc<RgbImage>)]) -> Scene {
    let mut scene = room(encoding, IDLE);
    // The short one begins and ends between two key frames (every 2 s) of most encodings.
    for ((label, picture), (at, lasts)) in people.iter().zip([(20.0, 4.0), (42.2, 1.5)]) {
        scene = scene.actor(passes(label, picture, at, lasts));
    }
    scene
}

fn crowded(encoding: Encoding, people: &[(String, Arc<RgbImage>)]) -> Scene {
    let mut scene = room(encoding, Duration::from_secs_f32(LANE * VISITS as f32));
    // A person has one lane: nobody is at two places at once.
    let lanes: [&[usize]; 3] = [&[0], &[1], &[2, 3]];
    for (lane, who) in lanes.into_iter().enumerate() {
        for visit in 0..VISITS {
            let Some((label, picture)) = people.get(who[visit as usize % who.len()]) else { continue };
            let begin = LANE * (visit as f32 + lane as f32 / 3.0);
            let x = 0.2 + 0.3 * lane as f32;
            let point =
                |part: f32, y: f32| Waypoint { at: Duration::from_secs_f32(begin + part * VISIT), x, y, height: 0.45 };
            // Who would reach into the next loop is left out, since a loop begins anew.
            if begin + VISIT < LANE * VISITS as f32 {
                let path = vec![point(0.0, -0.3), point(0.2, 0.45), point(0.8, 0.55), point(1.0, 1.3)];
                let (label, picture) = (label.clone(), picture.clone());
                scene = scene.actor(Actor { label, picture, shape: CardShape::Whole, region: None, path });
            }
        }
    }
    scene
}

/// Whether somebody is, or within `before` was, in a scene at `at` of its timeline.
pub fn somebody(simulator: &Simulator, stream: &str, at: Duration, before: Duration) -> bool {
    let Some(truth) = simulator.truth(stream) else { return false };
    let step = Duration::from_millis(250);
    let mut then = at.saturating_sub(before);
    while then <= at {
        if !truth.visible_at(then).is_empty() {
            return true;
        }
        then += step;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn spread_visits_come_to_each_kind_of_camera_at_seven_times_and_at_once_to_all() {
        for share in [0.2, 0.5] {
            let streams = |visits| (0..70).map(|index| stream(index, share, visits)).collect::<BTreeSet<_>>();
            assert_eq!(streams(Visits::AtOnce), BTreeSet::from([BUSY_STREAM.to_owned(), IDLE_STREAM.to_owned()]));
            let spread = streams(Visits::Spread);
            for scene in [IDLE_STREAM, BUSY_STREAM] {
                assert_eq!(spread.iter().filter(|name| name.starts_with(scene)).count(), TIMELINES, "{spread:?}");
            }
        }
        let encoding =
            Encoding { size: (320, 240), fps: 5, codec: Codec::H264, bitrate: Bitrate::Constant(200), substream: None };
        let served = camera(IDLE_STREAM, idle(encoding, &[]), encoding).further;
        for (name, ahead) in &served {
            assert!((0..70).any(|index| stream(index, 0.0, Visits::Spread) == *name), "nobody shows {name}");
            assert!(*ahead < IDLE, "{name} begins in the next loop");
        }
        assert_eq!(served.len(), TIMELINES - 1);
    }
}
