//! The open-set decision: this person, or unknown with a reason.
//!
//! In: the nearest people to a probe, the similarity of the nearest "this was not that person" exemplar for each, and the
//! thresholds of the model. Out: a [`Decision`]. Pure. [`decide`] judges one probe, [`assign`] the faces of one picture, in which
//! a person can be one face only.
//!
//! Reasons never name a person: they are kept with events, and an erased person must not live on in them.

use std::collections::{BTreeMap, BTreeSet};

use pathfinding::prelude::{Matrix, kuhn_munkres};

use crate::{identity::PersonHit, ids::PersonId, inference::manifest::Calibration};

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

impl Decision {
    /// Unknown without any comparison: nothing could be compared, for this reason. Similarity, margin and confidence are 0.
    pub fn uncompared(reason: impl Into<String>, threshold: f32) -> Self {
        let verdict = Verdict::Unknown(reason.into());
        Self { verdict, similarity: 0.0, margin: 0.0, threshold, confidence: 0.0 }
    }

    /// The person, when known.
    pub fn known(&self) -> Option<&PersonHit> {
        match &self.verdict {
            Verdict::Known(hit) => Some(hit),
            Verdict::Unknown(_) => None,
        }
    }

    /// Why nobody was named; `None` when somebody was.
    pub fn reason(&self) -> Option<&str> {
        match &self.verdict {
            Verdict::Known(_) => None,
            Verdict::Unknown(reason) => Some(reason),
        }
    }
}

/// Similarity of the nearest negative exemplar of each person that has any.
pub type Negatives = BTreeMap<PersonId, f32>;

/// Judges one probe. `hits` are distinct people, best first; hits that are not finite are ignored.
///
/// A person is ruled out when one of its negative exemplars is at least as near as its nearest enrolled face; the others
/// are then judged without it. The best that remains is named when it reaches the threshold and leads the second by the
/// margin. Raising the similarity of the best hit never makes a known face unknown.
pub fn decide(hits: &[PersonHit], negatives: &Negatives, thresholds: &Thresholds) -> Decision {
    judge(hits, negatives, thresholds, &BTreeSet::new())
}

/// Judges the faces of one picture together: a person is given to one face at most, so that the sum of what they exceed
/// the threshold by is greatest. Each face is then judged as by [`decide`] without the people that are other faces. `hits[i]` and
/// `negatives[i]` belong to face `i`; missing negatives mean none. One decision a face, in order.
pub fn assign(hits: &[Vec<PersonHit>], negatives: &[Negatives], thresholds: &Thresholds) -> Vec<Decision> {
    let none = Negatives::new();
    let negatives_of = |face: usize| negatives.get(face).unwrap_or(&none);
    let mut people: Vec<&PersonId> = Vec::new();
    let mut allowed: Vec<(usize, usize, i64)> = Vec::new();
    for (face, hits) in hits.iter().enumerate() {
        for hit in hits.iter().filter(|h| eligible(h, negatives_of(face)) && h.similarity >= thresholds.similarity) {
            let person = people.iter().position(|p| **p == hit.person).unwrap_or_else(|| {
                people.push(&hit.person);
                people.len() - 1
            });
            let excess = f64::from(hit.similarity - thresholds.similarity).min(1000.0);
            allowed.push((face, person, 1 + (excess * 1_000_000.0) as i64));
        }
    }
    let given = match_up(hits.len(), people.len(), &allowed);
    let judged = |(face, hits): (usize, &Vec<PersonHit>)| {
        let others: BTreeSet<&PersonId> =
            given.iter().filter(|(f, _)| *f != face).filter_map(|(_, p)| people.get(*p).copied()).collect();
        judge(hits, negatives_of(face), thresholds, &others)
    };
    hits.iter().enumerate().map(judged).collect()
}

/// Pairs (face, person) of the greatest sum of weights. Faces may stay free: each has a spare column of weight 0.
fn match_up(faces: usize, people: usize, allowed: &[(usize, usize, i64)]) -> Vec<(usize, usize)> {
    const FORBIDDEN: i64 = -(1 << 40);
    if faces == 0 || people == 0 {
        return Vec::new();
    }
    let mut weights = Matrix::new(faces, people + faces, FORBIDDEN);
    for face in 0..faces {
        for spare in 0..faces {
            weights[(face, people + spare)] = 0;
        }
    }
    for (face, person, weight) in allowed {
        weights[(*face, *person)] = *weight;
    }
    let (_, columns) = kuhn_munkres(&weights);
    columns.into_iter().enumerate().filter(|(_, column)| *column < people).collect()
}

/// Whether a hit is a number and no negative exemplar of the person is as near.
fn eligible(hit: &PersonHit, negatives: &Negatives) -> bool {
    hit.similarity.is_finite() && negatives.get(&hit.person).is_none_or(|n| *n < hit.similarity)
}

fn judge(
    hits: &[PersonHit],
    negatives: &Negatives,
    thresholds: &Thresholds,
    elsewhere: &BTreeSet<&PersonId>,
) -> Decision {
    let threshold = thresholds.similarity;
    let Some(nearest) = hits.iter().find(|h| h.similarity.is_finite()) else {
        return Decision::uncompared("there is nobody to compare with", threshold);
    };
    let mut rest = hits.iter().filter(|h| eligible(h, negatives) && !elsewhere.contains(&h.person));
    // With everybody ruled out, the figures are those of the nearest person, so that the reason can be checked.
    let best = rest.next();
    let shown = best.unwrap_or(nearest);
    let second = match best {
        Some(_) => rest.next(),
        None => hits.iter().find(|h| h.similarity.is_finite() && h.person != nearest.person),
    };
    let margin = shown.similarity - second.map_or(-1.0, |s| s.similarity);
    let verdict = match best {
        Some(best) if best.similarity >= threshold && (second.is_none() || margin >= thresholds.margin) => {
            Verdict::Known(best.clone())
        }
        Some(best) if best.similarity >= threshold => Verdict::Unknown(format!(
            "second candidate too close: {:.2} and {:.2}, lead {margin:.2}, needs {:.2}",
            best.similarity,
            best.similarity - margin,
            thresholds.margin
        )),
        _ if nearest.similarity >= threshold && elsewhere.contains(&nearest.person) => {
            Verdict::Unknown(format!("the best candidate ({:.2}) is another face of this picture", nearest.similarity))
        }
        _ if nearest.similarity >= threshold && !eligible(nearest, negatives) => Verdict::Unknown(format!(
            "the best candidate ({:.2}) was ruled out before: a face marked as not that person is nearer ({:.2})",
            nearest.similarity,
            negatives.get(&nearest.person).copied().unwrap_or_default()
        )),
        _ => Verdict::Unknown(format!(
            "below threshold by {}: best candidate {:.2}, needs {threshold:.2}",
            shortfall(threshold - shown.similarity),
            shown.similarity
        )),
    };
    let confidence = thresholds.calibration.confidence(shown.similarity);
    Decision { verdict, similarity: shown.similarity, margin, threshold, confidence }
}

/// Two decimals, but never a shortfall of 0.00.
fn shortfall(by: f32) -> String {
    if by < 0.005 { "less than 0.01".into() } else { format!("{by:.2}") }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn thresholds() -> Thresholds {
        let calibration = Calibration { midpoint: 0.4, slope: 20.0 };
        Thresholds { similarity: 0.42, margin: 0.03, calibration }
    }

    pub(crate) fn hit(person: &str, similarity: f32) -> PersonHit {
        PersonHit { person: person.parse().unwrap(), face: format!("{person}-1").parse().unwrap(), similarity }
    }

    fn decided(hits: &[PersonHit]) -> Decision {
        decide(hits, &Negatives::new(), &thresholds())
    }

    fn not(person: &str, similarity: f32) -> Negatives {
        [(person.parse().unwrap(), similarity)].into()
    }

    #[test]
    fn names_a_person_that_is_near_and_leads() {
        let d = decided(&[hit("anna", 0.55), hit("berta", 0.3)]);
        assert_eq!(d.known(), Some(&hit("anna", 0.55)));
        assert!((d.margin - 0.25).abs() < 1e-6 && d.threshold == 0.42 && d.confidence > 0.9, "{d:?}");
    }

    #[test]
    fn unknown_says_why_with_figures_and_without_names() {
        let d = decided(&[hit("anna", 0.39)]);
        assert_eq!(d.reason(), Some("below threshold by 0.03: best candidate 0.39, needs 0.42"));
        let d = decided(&[hit("anna", 0.4199)]);
        assert_eq!(d.reason(), Some("below threshold by less than 0.01: best candidate 0.42, needs 0.42"));
        let d = decided(&[hit("anna", 0.46), hit("berta", 0.45)]);
        assert_eq!(d.reason(), Some("second candidate too close: 0.46 and 0.45, lead 0.01, needs 0.03"));
    }

    #[test]
    fn an_empty_gallery_knows_nobody() {
        let d = decided(&[]);
        assert_eq!((d.similarity, d.margin, d.confidence), (0.0, 0.0, 0.0));
        assert_eq!(d.reason(), Some("there is nobody to compare with"));
        assert_eq!(decided(&[hit("anna", f32::NAN)]), d);
    }

    #[test]
    fn without_a_second_the_margin_counts_from_minus_one() {
        assert!((decided(&[hit("anna", 0.5)]).margin - 1.5).abs() < 1e-6);
    }

    #[test]
    fn a_nearer_negative_exemplar_rules_a_person_out() {
        let hits = [hit("anna", 0.5), hit("berta", 0.45)];
        let d = decide(&hits[..1], &not("anna", 0.7), &thresholds());
        assert_eq!(
            d.reason(),
            Some("the best candidate (0.50) was ruled out before: a face marked as not that person is nearer (0.70)")
        );
        assert_eq!(decide(&hits[..1], &not("anna", 0.4), &thresholds()).known(), Some(&hits[0]), "further away");
        let d = decide(&hits, &not("anna", 0.7), &thresholds());
        assert_eq!(d.known(), Some(&hits[1]), "the others are judged without her");
    }

    #[test]
    fn a_person_is_one_face_of_a_picture_only() {
        let faces = [vec![hit("anna", 0.5)], vec![hit("anna", 0.7), hit("berta", 0.2)]];
        let d = assign(&faces, &[], &thresholds());
        assert_eq!(d[1].known().map(|h| h.person.as_str()), Some("anna"));
        assert_eq!(d[0].reason(), Some("the best candidate (0.50) is another face of this picture"));
    }

    #[test]
    fn look_alikes_in_one_picture_resolve_each_other() {
        // Alone, both would fail the margin.
        let faces = [vec![hit("anna", 0.60), hit("berta", 0.59)], vec![hit("berta", 0.62), hit("anna", 0.61)]];
        assert!(faces.iter().all(|f| decided(f).known().is_none()));
        let named: Vec<_> =
            assign(&faces, &[], &thresholds()).iter().map(|d| d.known().map(|h| h.person.to_string())).collect();
        assert_eq!(named, [Some("anna".into()), Some("berta".into())]);
    }

    #[test]
    fn nobody_in_the_picture_and_nobody_known() {
        assert!(assign(&[], &[], &thresholds()).is_empty());
        assert_eq!(assign(&[vec![]], &[], &thresholds()), [decided(&[])]);
    }

    fn any_hits() -> impl Strategy<Value = Vec<PersonHit>> {
        proptest::collection::vec(-1f32..1.0, 0..5).prop_map(|mut values| {
            values.sort_by(|a, b| b.total_cmp(a));
            values.into_iter().enumerate().map(|(i, v)| hit(&format!("p{i}"), v)).collect()
        })
    }

    proptest! {
        #[test]
        fn a_better_best_hit_is_never_worse(mut hits in any_hits(), more in 0f32..1.0, negative in -1f32..1.0) {
            let before = decide(&hits, &not("p0", negative), &thresholds());
            if let Some(first) = hits.first_mut() {
                first.similarity += more;
            }
            let after = decide(&hits, &not("p0", negative), &thresholds());
            if let Some(known) = before.known() {
                // Somebody else may have been named because the best was ruled out; then the best may now be back.
                prop_assert!(after.known().is_some() || known.person.as_str() != "p0");
            }
            let (alone, raised) = (decided(&hits), {
                let mut h = hits.clone();
                h.first_mut().into_iter().for_each(|f| f.similarity += more);
                decided(&h)
            });
            prop_assert!(alone.known().is_none() || raised.known() == hits.first().map(|h| hit("p0", h.similarity + more)).as_ref());
            prop_assert!(raised.confidence >= alone.confidence);
        }

        #[test]
        fn no_person_is_two_faces(faces in proptest::collection::vec(proptest::collection::vec(-1f32..1.0, 4), 0..5)) {
            let faces: Vec<Vec<PersonHit>> = faces.into_iter().map(|row| {
                let mut hits: Vec<_> = row.into_iter().enumerate().map(|(i, v)| hit(&format!("p{i}"), v)).collect();
                hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
                hits
            }).collect();
            let decisions = assign(&faces, &[], &thresholds());
            prop_assert_eq!(decisions.len(), faces.len());
            let mut named: Vec<_> = decisions.iter().filter_map(|d| d.known().map(|h| h.person.clone())).collect();
            let all = named.len();
            named.sort_unstable();
            named.dedup();
            prop_assert_eq!(named.len(), all);
            // Alone in the picture, the answer is the plain one.
            if let [only] = faces.as_slice() {
                prop_assert_eq!(&decisions[0], &decided(only));
            }
        }
    }
}
