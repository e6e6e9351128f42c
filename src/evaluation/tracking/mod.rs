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

/// A scene as it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Footage {
    /// Name of the scene.
    pub scene: String,
    /// What its dice began with.
    pub seed: u64,
    /// Embedder.
    pub model: String,
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
