//! How well faces are followed: made scenes of real faces with the truth beside them, and the field's figures for several trackers.
//!
//! In: pictures of people. A [`scene`] says who is where at which time, the [`studio`] renders it from faces cut out of the pictures, the
//! engine that serves looks at the frames ([`watch`]), and trackers follow what it found: the server's ([`follow`]) and two plain ones
//! ([`rivals`]), all on the same detections. Out: [`metrics`]. Absent on purpose: video files, identities of a gallery.

pub mod follow;
pub mod metrics;
pub mod rivals;
pub mod scene;
pub mod studio;
pub mod watch;

use serde::{Deserialize, Serialize};

use crate::{
    face::{Detection, Quality},
    frame::BBox,
    inference::Tiling,
};

/// A face that the engine found in a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Where.
    pub detection: Detection,
    /// How well it can be recognised: value, size (px), sharpness, frontality.
    pub quality: [f32; 4],
    /// Its embedding's values; empty when it is too small to be embedded.
    pub embedding: Vec<f32>,
}

impl Seen {
    /// The quality as the engine measured it.
    pub fn quality(&self) -> Quality {
        let [value, size_px, sharpness, frontality] = self.quality;
        Quality { value, size_px, sharpness, frontality, ..Quality::default() }
    }
}

/// A face that is truly there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Number of the appearance: of a person from its coming to its leaving.
    pub appearance: usize,
    /// Where: the centre of the detection box of the face's own photograph, moved along; its area too, at a ratio of 0.81.
    pub bbox: BBox,
    /// Whether it counts; faces covered or outside by half or more neither have to be found nor count as mistakes.
    pub counts: bool,
}

/// A moment of a scene.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Capture time, milliseconds from the scene's begin.
    pub at_ms: i64,
    /// Faces that are there.
    pub truth: Vec<Truth>,
    /// Faces that were found.
    pub seen: Vec<Seen>,
}

/// What footage was made from and with, besides scene, number and embedder: other footage answers another question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// SHA-256 over names and contents of the pictures of the people.
    pub people: String,
    /// The same of the backgrounds; empty when they are made.
    pub background: String,
    /// Detector.
    pub detector: String,
    /// Longer side of its input, pixels.
    pub detector_size: u32,
    /// Where pictures are looked at in tiles.
    pub tiling: Tiling,
    /// Least score of a face in the pictures, 0 to 1.
    pub min_score: f32,
    /// Least score of a face in the scenes, 0 to 1.
    pub low_score: f32,
    /// Whether the mirror image was embedded, too.
    pub mirror: bool,
}

impl Setup {
    /// What is different here, in the words of the command line; nothing when both are alike.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let all = [
            ("DIR", self.people != other.people),
            ("--background", self.background != other.background),
            ("models.detector", self.detector != other.detector),
            ("--size", self.detector_size != other.detector_size),
            ("inference.tiling", self.tiling != other.tiling && self.detector_size == other.detector_size),
            ("--min-score", self.min_score.to_bits() != other.min_score.to_bits()),
            ("track.low_score", self.low_score.to_bits() != other.low_score.to_bits()),
            ("--mirror", self.mirror != other.mirror),
        ];
        all.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

/// A scene as it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Footage {
    /// Name of the scene.
    pub scene: String,
    /// What its dice began with.
    pub seed: u64,
    /// Embedder.
    pub model: String,
    /// What else it rests on.
    pub setup: Setup,
    /// Width and height of its frames, pixels.
    pub size: (u32, u32),
    /// Frames, in order.
    pub moments: Vec<Moment>,
}

/// What a tracker said: for each moment, number of the track and index of the detection.
pub type Trail = Vec<Vec<(usize, usize)>>;

/// Judges what a tracker said about a scene.
pub fn judge(footage: &Footage, trail: &Trail) -> metrics::Figures {
    let frames = footage.moments.iter().zip(trail).map(|(moment, told)| metrics::FrameOf {
        truth: moment.truth.clone(),
        tracks: told.iter().filter_map(|(track, i)| Some((*track, moment.seen.get(*i)?.detection.bbox))).collect(),
    });
    metrics::judge(&frames.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A setup for tests.
    pub(super) fn setup() -> Setup {
        Setup {
            people: "p".into(),
            background: String::new(),
            detector: "d".into(),
            detector_size: 640,
            tiling: Tiling::Stills,
            min_score: 0.8,
            low_score: 0.3,
            mirror: false,
        }
    }

    #[test]
    fn footage_of_another_setup_is_told_apart_also_after_a_file() {
        let one = setup();
        let again: Setup = serde_json::from_str(&serde_json::to_string(&one).unwrap()).unwrap();
        assert_eq!(one.differences(&again), Vec::<&str>::new());
        let other = Setup {
            people: "q".into(),
            background: "b".into(),
            detector_size: 320,
            tiling: Tiling::Off,
            min_score: 0.5,
            mirror: true,
            ..one.clone()
        };
        assert_eq!(one.differences(&other), ["DIR", "--background", "--size", "--min-score", "--mirror"]);
        assert_eq!(one.differences(&Setup { tiling: Tiling::Off, ..one.clone() }), ["inference.tiling"]);
    }
}
