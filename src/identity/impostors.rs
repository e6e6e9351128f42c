//! What a gallery knows about itself: how near its people come to people they are not, and how near to themselves.
//!
//! In: enrolled faces and faces of strangers, all of one model. Out: comparisons for [`super::Calibration`] and, for the price of a
//! threshold, the leave-one-out similarities of people with several faces. Pure.

use std::collections::BTreeMap;

use super::{EnrolledFace, calibration::Comparison};
use crate::face::Embedding;

/// Probes that are compared at most; more say nothing new and cost the square.
const MOST_PROBES: usize = 3000;

/// A face of a person with several, looked up without itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mate {
    /// Similarity to the nearest other face of the person.
    pub own: f32,
    /// Similarity to the nearest face of anybody else; `None` in a gallery of one person.
    pub other: Option<f32>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compared {
    /// Probes with people they are not.
    pub comparisons: Vec<Comparison>,
    /// Faces of people with several.
    pub mates: Vec<Mate>,
    /// People with faces.
    pub people: usize,
}

impl Compared {
    /// Share of the mates that would not get their own name at a threshold: below it, or nearer to somebody else. `None` without mates.
    pub fn fnir(&self, threshold: f32) -> Option<f32> {
        let missed =
            self.mates.iter().filter(|m| m.own < threshold || m.other.is_some_and(|other| other >= m.own)).count();
        (!self.mates.is_empty()).then(|| missed as f32 / self.mates.len() as f32)
    }
}

/// Compares every face with everybody else, and every stranger with everybody. Faces of other models than the first are left out.
pub fn compare(faces: &[EnrolledFace], strangers: &[Embedding]) -> Compared {
    let mut people: BTreeMap<&str, Vec<&Embedding>> = BTreeMap::new();
    for face in faces {
        people.entry(face.person.as_str()).or_default().push(&face.embedding);
    }
    let mut probes: Vec<(u32, Option<usize>, &Embedding)> = Vec::new();
    for (i, of_one) in people.values().enumerate() {
        probes.extend(of_one.iter().map(|e| (i as u32, Some(i), *e)));
    }
    // Pictures of strangers are taken for different people, since nobody says who they show.
    probes.extend(strangers.iter().enumerate().map(|(i, e)| ((people.len() + i) as u32, None, e)));
    // Evenly over all: neither the first people only nor the strangers only.
    let step = probes.len().div_ceil(MOST_PROBES).max(1);
    let mut found = Compared { people: people.len(), ..Compared::default() };
    for (probe, own, embedding) in probes.into_iter().step_by(step) {
        let mut best_other: Option<f32> = None;
        let mut best_own: Option<f32> = None;
        for (i, of_one) in people.values().enumerate() {
            // A face is not compared with itself.
            let others = of_one.iter().filter(|e| !std::ptr::eq(**e, embedding));
            let Some(nearest) = others.filter_map(|e| e.similarity(embedding).ok()).reduce(f32::max) else { continue };
            if own == Some(i) {
                best_own = Some(nearest);
            } else {
                best_other = Some(best_other.map_or(nearest, |b| b.max(nearest)));
                found.comparisons.push(Comparison { probe, similarity: nearest });
            }
        }
        found.mates.extend(best_own.map(|own| Mate { own, other: best_other }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{face::Distance, time::Timestamp};

    fn embedding(degrees: f32) -> Embedding {
        let (y, x) = degrees.to_radians().sin_cos();
        Embedding { model: "m".parse().unwrap(), distance: Distance::Cosine, values: [x, y].as_slice().into() }
    }

    fn face(id: &str, person: &str, degrees: f32) -> EnrolledFace {
        EnrolledFace {
            id: id.parse().unwrap(),
            person: person.parse().unwrap(),
            embedding: embedding(degrees),
            quality: 1.0,
            source: String::new(),
            created: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn everybody_is_compared_with_everybody_else_and_with_themselves() {
        let faces = [face("a1", "anna", 0.0), face("a2", "anna", 10.0), face("b1", "berta", 90.0)];
        let found = compare(&faces, &[embedding(45.0)]);
        assert_eq!(found.people, 2);
        // Each face of Anna with Berta, Berta with Anna, the stranger with both.
        assert_eq!(found.comparisons.iter().map(|c| c.probe).collect::<Vec<_>>(), [0, 0, 1, 2, 2]);
        assert_eq!(found.mates.len(), 2);
        assert!((found.mates[0].own - 10f32.to_radians().cos()).abs() < 1e-6);
        assert_eq!((found.fnir(0.9), found.fnir(0.99)), (Some(0.0), Some(1.0)));
        assert_eq!(compare(&[], &[]).fnir(0.5), None);
    }

    #[test]
    fn somebody_nearer_to_another_person_is_missed_at_any_threshold() {
        let faces = [face("a1", "anna", 0.0), face("a2", "anna", 40.0), face("b1", "berta", 65.0)];
        assert_eq!(compare(&faces, &[]).fnir(-1.0), Some(0.5));
    }
}
