//! Open set: who of the gallery is named, and how many strangers are given a name, at several thresholds.
//!
//! The decision is the server's own ([`crate::identity::decision::decide`]): threshold and lead over the second. The detect-and-identify rate (DIR,
//! Phillips, Grother, Micheals, Handbook of Face Recognition, 2005) is the share of known faces that get their own name.

use serde::Serialize;

use super::{EvaluationError, gallery::Hit};
use crate::{
    face::Distance,
    identity::{Candidates, PersonHit, Thresholds, Verdict, decision},
    inference::manifest::EmbedderSpec,
};

/// A face to decide about.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Nearest people, best first.
    pub hits: Vec<PersonHit>,
    /// Index of the person it is; `None` for a stranger.
    pub person: Option<usize>,
}

impl Probe {
    /// A probe from a search.
    ///
    /// # Errors
    /// Never in practice, see [`super::gallery::candidates`].
    pub fn new(hits: &[Hit], person: Option<usize>) -> Result<Self, crate::ids::IdError> {
        Ok(Self { hits: super::gallery::candidates(hits)?, person })
    }
}

/// What one threshold gives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// Least similarity of a name.
    pub threshold: f32,
    /// Whether it is the model's default for 1:N.
    pub default: bool,
    /// Share of known faces with their own name, 0 to 1 (DIR).
    pub identified: f64,
    /// Share of known faces with somebody else's name, 0 to 1.
    pub misnamed: f64,
    /// Share of strangers with any name, 0 to 1.
    pub strangers_accepted: f64,
}

/// Thresholds worth showing: the model's default and four steps to each side (0.05 of cosine, 0.02 of Euclidean similarity).
pub fn thresholds(spec: &EmbedderSpec) -> Vec<f32> {
    let step = match spec.distance {
        Distance::Cosine => 0.05,
        Distance::Euclidean => 0.02,
    };
    (-4i8..=4).map(|i| spec.identification_threshold + f32::from(i) * step).collect()
}

/// Decides about all probes at each threshold. Shares of nothing are 0.
///
/// # Errors
/// When there are neither known faces nor strangers.
pub fn sweep(probes: &[Probe], spec: &EmbedderSpec, thresholds: &[f32]) -> Result<Vec<Row>, EvaluationError> {
    if probes.is_empty() {
        return Err(EvaluationError::TooLittle("there are no faces to decide about; add pictures".into()));
    }
    let known = probes.iter().filter(|p| p.person.is_some()).count();
    let strangers = probes.len() - known;
    let row = |threshold: f32| {
        let limits = Thresholds::of_model(threshold, spec.margin, spec.calibration);
        let (mut right, mut wrong, mut accepted) = (0, 0, 0);
        for probe in probes {
            let Verdict::Known(hit) = decision::decide(&Candidates::of(probe.hits.clone()), &limits).verdict else {
                continue;
            };
            match probe.person {
                Some(person) if hit.person.as_str() == person.to_string() => right += 1,
                Some(_) => wrong += 1,
                None => accepted += 1,
            }
        }
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        Row {
            threshold,
            default: (threshold - spec.identification_threshold).abs() < 1e-6,
            identified: share(right, known),
            misnamed: share(wrong, known),
            strangers_accepted: share(accepted, strangers),
        }
    };
    Ok(thresholds.iter().map(|t| row(*t)).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::inference::manifest::{Calibration, CropRecipe};

    pub(crate) fn spec() -> EmbedderSpec {
        EmbedderSpec {
            size: 2,
            distance: Distance::Cosine,
            crop: CropRecipe::Box { margin: 0.0 },
            mirror: false,
            verification_threshold: 0.4,
            identification_threshold: 0.5,
            margin: 0.03,
            min_face_px: 40.0,
            calibration: Calibration { midpoint: 0.4, slope: 30.0 },
        }
    }

    fn probe(person: Option<usize>, hits: &[(usize, f32)]) -> Probe {
        let hits: Vec<Hit> = hits.iter().map(|(p, s)| Hit { person: *p, face: *p, similarity: *s }).collect();
        Probe::new(&hits, person).unwrap()
    }

    #[test]
    fn names_right_wrong_and_undeserved_are_counted() {
        let probes = [
            probe(Some(0), &[(0, 0.62), (1, 0.1)]),
            probe(Some(0), &[(1, 0.58), (0, 0.2)]),
            probe(Some(1), &[(1, 0.58), (0, 0.57)]), // the lead is too small
            probe(Some(1), &[(1, 0.46), (0, 0.1)]),
            probe(None, &[(0, 0.51), (1, 0.0)]),
            probe(None, &[(0, 0.2)]),
        ];
        let rows = sweep(&probes, &spec(), &[0.45, 0.5, 0.55, 0.6]).unwrap();
        let figures: Vec<_> =
            rows.iter().map(|r| (r.identified, r.misnamed, r.strangers_accepted, r.default)).collect();
        assert_eq!(
            figures,
            [(0.5, 0.25, 0.5, false), (0.25, 0.25, 0.5, true), (0.25, 0.25, 0.0, false), (0.25, 0.0, 0.0, false)]
        );
    }

    #[test]
    fn the_default_is_in_the_middle_of_what_is_shown() {
        let t = thresholds(&spec());
        assert_eq!((t.len(), t[4]), (9, 0.5));
        assert!(sweep(&[], &spec(), &t).is_err());
    }
}
