//! Placeholder: the open-set decision.

use crate::{identity::PersonHit, inference::manifest::Calibration};

/// Limits of a decision; similarities of the model in use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Least similarity.
    pub similarity: f32,
    /// Least lead over the second best person.
    pub margin: f32,
    /// Similarity → probability.
    pub calibration: Calibration,
}

/// What was decided about a probe.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// This person.
    Known(PersonHit),
    /// Nobody, or not surely: why, in words with figures.
    Unknown(String),
}

/// A decision with the figures it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The answer.
    pub verdict: Verdict,
    /// Similarity to the best person; 0 with an empty gallery.
    pub similarity: f32,
    /// Lead over the second best; the similarity itself minus -1 when there is no second.
    pub margin: f32,
    /// Threshold that applied.
    pub threshold: f32,
    /// Probability, 0 to 1, that the best person is right.
    pub confidence: f32,
}
