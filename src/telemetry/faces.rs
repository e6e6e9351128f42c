//! What is recorded about faces: figures of decisions, by camera, never by person.

use prometheus_client::metrics::counter::Counter;

use super::metrics::all;
use crate::ids::CameraId;

/// What was said about an appearance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Somebody was named.
    Named(Match),
    /// Nobody was, for this reason; the similarity to the best person, where there was one to compare with.
    Unknown {
        /// A word of the code, such as `below_threshold`.
        reason: &'static str,
        /// Similarity, -1 to 1.
        best: Option<f32>,
    },
    /// An earlier statement was replaced, by a name where there is one.
    Corrected(Option<Match>),
    /// It ended before anything could be said.
    Undecided,
}

/// The figures of a name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Similarity to the person, -1 to 1.
    pub similarity: f32,
    /// What it had to reach.
    pub threshold: f32,
    /// Calibrated probability that it is right, 0 to 1.
    pub confidence: f32,
    /// Similarity to the second person; `None` where there is none.
    pub second: Option<f32>,
}

/// The face that a decision shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Edge, pixels.
    pub size_px: f32,
    /// Quality, 0 to 1.
    pub quality: f32,
    /// Embedded crops behind the decision.
    pub looks: u32,
}

/// Something was said about an appearance, or nothing until its end.
pub fn decided(camera: &CameraId, outcome: Outcome) {
    let (word, reason) = match outcome {
        Outcome::Named(_) => ("named", ""),
        Outcome::Unknown { reason, .. } => ("unknown", reason),
        Outcome::Corrected(_) => ("corrected", ""),
        Outcome::Undecided => ("undecided", ""),
    };
    all().decisions.with(camera.as_str(), [word, reason], Counter::inc);
    let (named, non_match) = match outcome {
        Outcome::Named(m) | Outcome::Corrected(Some(m)) => (Some(m), m.second),
        Outcome::Unknown { best, .. } => (None, best),
        Outcome::Corrected(None) | Outcome::Undecided => (None, None),
    };
    if let Some(named) = named {
        all().match_similarity.of(camera.as_str(), |h| h.observe(named.similarity.into()));
        if let Some(second) = named.second {
            all().match_margin.observe((named.similarity - second).into());
        }
        all().recent.add(named.similarity - named.threshold, named.confidence);
    }
    if let Some(similarity) = non_match {
        all().non_match_similarity.of(camera.as_str(), |h| h.observe(similarity.into()));
    }
}

/// The best face of an appearance when something was said about it.
pub fn seen(camera: &CameraId, seen: Seen) {
    all().face_size.of(camera.as_str(), |h| h.observe(seen.size_px.into()));
    all().face_quality.observe(seen.quality.into());
    all().looks.observe(seen.looks.into());
}
