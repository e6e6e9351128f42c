//! The open-set decision: this person, or unknown with a reason.
//!
//! In: [`Candidates`] of a probe, everything that is known of the people it may show, and the [`Thresholds`]. Out: a [`Decision`].
//! Pure. [`decide`] judges one probe, [`assign`] the faces of one picture, in which a person can be one face only.
//!
//! Reasons never name a person: they are kept with events, and an erased person must not live on in them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Basis, PersonHit, Route, Spread, ThresholdSource, Why, WhyCode,
    alike::Pairs,
    assignment::{Allowed, match_up},
};
use crate::{ids::PersonId, inference::manifest::Calibration};

/// Limits of a decision; similarities of the model in use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Least similarity; a person may have an offset to it.
    pub similarity: f32,
    /// Who set it.
    pub source: ThresholdSource,
    /// Least lead over everybody else; wider between people who lie close.
    pub margin: f32,
    /// Lead in probability, 0 to 1, with which the classifier is sure: then the margin is waived.
    pub lead: f32,
    /// Similarity → probability.
    pub calibration: Calibration,
}

impl Thresholds {
    /// Lead in probability with which a classifier is sure, where nothing else is said.
    pub const LEAD: f32 = 0.5;

    /// The thresholds of a model, with [`Thresholds::LEAD`].
    pub fn of_model(similarity: f32, margin: f32, calibration: Calibration) -> Self {
        Self { similarity, source: ThresholdSource::Model, margin, lead: Self::LEAD, calibration }
    }
}

/// What was decided about a probe.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// This person.
    Known(PersonHit),
    /// Nobody, or not surely: why.
    Unknown(Why),
}

/// A decision with the figures it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The answer.
    pub verdict: Verdict,
    /// Similarity to the best person; 0 with an empty gallery.
    pub similarity: f32,
    /// Lead over the second best, which is below 0 when a classifier chose a person who is not the nearest; the similarity itself
    /// minus -1 when there is no second.
    pub margin: f32,
    /// Threshold that applied.
    pub threshold: f32,
    /// Probability, 0 to 1, that the best person is right.
    pub confidence: f32,
    /// What else it rests on.
    pub basis: Basis,
}

impl Decision {
    /// Unknown without any comparison: nothing could be compared, for this reason. Similarity, margin and confidence are 0.
    pub fn uncompared(why: Why, threshold: f32) -> Self {
        let verdict = Verdict::Unknown(why);
        Self { verdict, similarity: 0.0, margin: 0.0, threshold, confidence: 0.0, basis: Basis::default() }
    }

    /// The person, when known.
    pub fn known(&self) -> Option<&PersonHit> {
        match &self.verdict {
            Verdict::Known(hit) => Some(hit),
            Verdict::Unknown(_) => None,
        }
    }

    /// Why nobody was named; `None` when somebody was.
    pub fn why(&self) -> Option<&Why> {
        match &self.verdict {
            Verdict::Known(_) => None,
            Verdict::Unknown(why) => Some(why),
        }
    }

    /// The same in words.
    pub fn reason(&self) -> Option<&str> {
        self.why().map(|why| why.text.as_str())
    }

    /// Nobody is named after all; the figures stay.
    pub fn withdraw(&mut self, why: Why) {
        self.verdict = Verdict::Unknown(why);
        self.basis.forget();
    }
}

/// Similarity of the nearest negative exemplar of each person that has any.
pub type Negatives = BTreeMap<PersonId, f32>;

/// Who a probe may be, and all that is known about it. Only people among `hits` need be in the other fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Candidates {
    /// Distinct people, nearest first; hits that are not finite are ignored.
    pub hits: Vec<PersonHit>,
    /// "This was not that person".
    pub negatives: Negatives,
    /// What is added to the threshold for a person; none means 0.
    pub offsets: BTreeMap<PersonId, f32>,
    /// People who lie close to each other: their margin is this many times as wide.
    pub wider: Pairs,
    /// The classifier's probabilities of the hits, 0 to 1, of which it was trained on; `None` when similarity decides.
    pub chances: Option<BTreeMap<PersonId, f32>>,
    /// How much the looks differ that the probe fuses: it has to reach a threshold raised by that.
    pub spread: Spread,
}

impl Candidates {
    /// People by similarity alone.
    pub fn of(hits: Vec<PersonHit>) -> Self {
        Self { hits, ..Self::default() }
    }

    /// The threshold for a person as single pictures have it.
    fn plain_threshold(&self, person: &PersonId, thresholds: &Thresholds) -> f32 {
        thresholds.similarity + self.offsets.get(person).copied().unwrap_or(0.0)
    }

    fn threshold(&self, person: &PersonId, thresholds: &Thresholds) -> f32 {
        self.spread.raised(self.plain_threshold(person, thresholds))
    }

    /// Those who may be named: everybody who reaches the threshold where the classifier chooses, else nobody behind a nearer person who
    /// does not, for then that one is judged.
    fn nameable<'a>(&'a self, thresholds: &'a Thresholds) -> impl Iterator<Item = &'a PersonHit> {
        let chosen = self.trusted_chances(thresholds).is_some();
        let eligible = self.hits.iter().filter(|hit| self.eligible(hit));
        eligible
            .take_while(move |hit| chosen || self.reaches(hit, thresholds))
            .filter(|hit| self.reaches(hit, thresholds))
    }

    /// Whether a hit is a number and no negative exemplar of the person is as near.
    fn eligible(&self, hit: &PersonHit) -> bool {
        hit.similarity.is_finite() && self.negatives.get(&hit.person).is_none_or(|n| *n < hit.similarity)
    }

    /// Whether a hit may be named, as far as it alone is concerned.
    fn reaches(&self, hit: &PersonHit, thresholds: &Thresholds) -> bool {
        self.eligible(hit) && hit.similarity >= self.threshold(&hit.person, thresholds)
    }

    fn margin(&self, a: &PersonId, b: &PersonId, thresholds: &Thresholds) -> f32 {
        thresholds.margin * self.wider.get(a, b).unwrap_or(1.0)
    }

    /// The probabilities, when the classifier knows everybody who may be named.
    fn trusted_chances(&self, thresholds: &Thresholds) -> Option<&BTreeMap<PersonId, f32>> {
        let chances = self.chances.as_ref()?;
        let known = |hit: &PersonHit| chances.get(&hit.person).is_some_and(|c| c.is_finite());
        self.hits.iter().filter(|hit| self.reaches(hit, thresholds)).all(known).then_some(chances)
    }
}

/// Judges one probe.
///
/// A person is ruled out when one of its negative exemplars is at least as near as its nearest enrolled face; the others are then judged
/// without it. The nearest that remains is named when it reaches its threshold (with its own offset) and leads everybody else by the
/// margin, which is wider between people who lie close. Raising the similarity of the best hit never makes a known face unknown.
///
/// With [`Candidates::chances`] the person with the highest probability among those who reach their threshold is named when it leads
/// every other candidate by [`Thresholds::lead`]: only then the margin is waived, and only then somebody who is not the nearest is named.
/// A classifier that is not sure, or does not know somebody who reaches the threshold, leaves the decision to similarity.
pub fn decide(candidates: &Candidates, thresholds: &Thresholds) -> Decision {
    judge(candidates, thresholds, &BTreeSet::new())
}

/// Judges the faces of one picture together: a person is given to one face at most, so that the sum of what they exceed
/// the threshold by is greatest; where the classifier knows all who may be named, the sum of its probabilities. Each face is then judged as
/// by [`decide`] without the people that are other faces. One decision a face, in order.
pub fn assign(faces: &[Candidates], thresholds: &Thresholds) -> Vec<Decision> {
    let by_chance = faces.iter().all(|face| face.trusted_chances(thresholds).is_some());
    let mut people: Vec<&PersonId> = Vec::new();
    let mut allowed: Vec<Allowed> = Vec::new();
    for (face, candidates) in faces.iter().enumerate() {
        for hit in candidates.nameable(thresholds) {
            let person = people.iter().position(|p| **p == hit.person).unwrap_or_else(|| {
                people.push(&hit.person);
                people.len() - 1
            });
            let excess = f64::from(hit.similarity - candidates.threshold(&hit.person, thresholds)).min(1000.0);
            let chance = candidates.chances.as_ref().and_then(|c| c.get(&hit.person)).copied().unwrap_or(0.0);
            allowed.push(Allowed { face, person, worth: if by_chance { chance.into() } else { excess } });
        }
    }
    let given = match_up(faces.len(), people.len(), &allowed);
    let judged = |(face, candidates): (usize, &Candidates)| {
        let others: BTreeSet<&PersonId> =
            given.iter().filter(|(f, _)| *f != face).filter_map(|(_, p)| people.get(*p).copied()).collect();
        judge(candidates, thresholds, &others)
    };
    let mut decisions: Vec<Decision> = faces.iter().enumerate().map(judged).collect();
    keep_apart(faces, thresholds, &mut decisions);
    decisions
}

/// Nobody is two faces: what was given by the greatest sum and what is nearest can differ where people have offsets. The face that
/// exceeds the threshold by more keeps the name, the other is judged without that person.
fn keep_apart(faces: &[Candidates], thresholds: &Thresholds, decisions: &mut [Decision]) {
    let mut taken: BTreeMap<PersonId, usize> = BTreeMap::new();
    let mut without: Vec<BTreeSet<PersonId>> = vec![BTreeSet::new(); faces.len()];
    let mut open: Vec<usize> = (0..faces.len()).collect();
    // Each round a face loses a person, so it ends.
    while let Some(face) = open.pop() {
        let Some(person) = decisions[face].known().map(|hit| hit.person.clone()) else { continue };
        let excess = |face: usize| decisions[face].similarity - decisions[face].threshold;
        let loser = match taken.get(&person) {
            Some(other) if *other != face && excess(*other) >= excess(face) => face,
            Some(other) if *other != face => {
                let other = *other;
                taken.insert(person.clone(), face);
                other
            }
            _ => {
                taken.insert(person, face);
                continue;
            }
        };
        without[loser].insert(person);
        // Whoever is another face already stays out of reach.
        let elsewhere = without[loser].iter().chain(taken.keys()).collect();
        decisions[loser] = judge(&faces[loser], thresholds, &elsewhere);
        open.push(loser);
    }
}

/// Who is judged: a person, what threatens it, and what spoke for it.
struct Choice<'a> {
    best: &'a PersonHit,
    /// Whom it does not lead by the margin: the one who comes nearest to it, and the margin.
    rival: Option<(&'a PersonHit, f32)>,
    route: Route,
    lead: Option<f32>,
}

/// The nearest person, and whom it does not lead by enough.
fn nearest<'a>(candidates: &Candidates, rest: &[&'a PersonHit], thresholds: &Thresholds) -> Option<Choice<'a>> {
    let (best, others) = rest.split_first()?;
    let short = |hit: &&'a PersonHit| {
        let margin = candidates.margin(&best.person, &hit.person, thresholds);
        (best.similarity - hit.similarity < margin).then_some((*hit, margin))
    };
    // Of several the one that lacks most: with a wider margin that need not be the second.
    let lacks = |(hit, margin): &(&PersonHit, f32)| margin - (best.similarity - hit.similarity);
    let rival = others.iter().filter_map(short).max_by(|a, b| lacks(a).total_cmp(&lacks(b)));
    Some(Choice { best, rival, route: Route::Similarity, lead: None })
}

/// The classifier's choice and its lead in probability over every other candidate; `None` when it has none.
fn likeliest<'a>(
    candidates: &Candidates,
    rest: &[&'a PersonHit],
    thresholds: &Thresholds,
) -> Option<(&'a PersonHit, f32)> {
    let chances = candidates.trusted_chances(thresholds)?;
    let of = |hit: &PersonHit| chances.get(&hit.person).copied().filter(|c| c.is_finite());
    // Of the people still allowed: what others had is shared among them.
    let total: f32 = rest.iter().filter_map(|hit| of(hit)).sum();
    let reaching = rest.iter().filter(|hit| candidates.reaches(hit, thresholds));
    let best = reaching.max_by(|a, b| of(a).unwrap_or(0.0).total_cmp(&of(b).unwrap_or(0.0)))?;
    let others = rest.iter().filter(|hit| hit.person != best.person).filter_map(|hit| of(hit));
    let second = others.fold(0.0, f32::max);
    (total > 0.0).then(|| (*best, (of(best).unwrap_or(0.0) - second) / total))
}

fn judge(candidates: &Candidates, thresholds: &Thresholds, elsewhere: &BTreeSet<&PersonId>) -> Decision {
    let finite: Vec<&PersonHit> = candidates.hits.iter().filter(|h| h.similarity.is_finite()).collect();
    let Some(closest) = finite.first().copied() else {
        let why = Why::plain(WhyCode::EmptyGallery, "there is nobody to compare with");
        let mut decision = Decision::uncompared(why, candidates.spread.raised(thresholds.similarity));
        decision.basis.source = thresholds.source;
        return decision;
    };
    let rest: Vec<&PersonHit> =
        finite.iter().copied().filter(|h| candidates.eligible(h) && !elsewhere.contains(&h.person)).collect();
    let mut choice = nearest(candidates, &rest, thresholds);
    if let (Some(choice), Some((best, lead))) = (&mut choice, likeliest(candidates, &rest, thresholds)) {
        choice.lead = Some(lead);
        if lead >= thresholds.lead {
            *choice = Choice { best, rival: None, route: Route::Classifier, lead: Some(lead) };
        }
    }
    // With everybody ruled out, the figures are those of the nearest person, so that the reason can be checked.
    let shown = choice.as_ref().map_or(closest, |c| c.best);
    let among = if choice.is_some() { &rest } else { &finite };
    let second = among.iter().find(|h| h.person != shown.person).map(|h| h.similarity);
    let threshold = candidates.threshold(&shown.person, thresholds);
    let why = why_not(candidates, thresholds, elsewhere, closest, choice.as_ref());
    let plain = candidates.plain_threshold(&shown.person, thresholds);
    let moved = plain != thresholds.similarity;
    let (route, lead) = choice.as_ref().map_or_else(Default::default, |c| (c.route, c.lead));
    // Both must be right: that it is somebody like this, and that it is this one. Calibrated on single pictures, so what the fusion gave
    // is taken back.
    let given = threshold - plain;
    let calibrated = |others: &[&PersonHit]| {
        let beside = others.iter().filter(|h| h.person != shown.person).map(|h| h.similarity - given);
        thresholds.calibration.confidence_among(shown.similarity - given, beside)
    };
    let confidence = match (route, lead) {
        (Route::Classifier, Some(lead)) => calibrated(&[]).min((1.0 + lead) / 2.0),
        _ => calibrated(among),
    };
    Decision {
        similarity: shown.similarity,
        margin: shown.similarity - second.unwrap_or(-1.0),
        threshold,
        confidence,
        basis: Basis {
            faces: if why.is_none() { shown.near_faces() } else { Vec::new() },
            runner_up: second,
            source: if moved { ThresholdSource::Person } else { thresholds.source },
            route,
            lead,
        },
        verdict: why.map_or_else(|| Verdict::Known(shown.clone()), Verdict::Unknown),
    }
}

/// Why the choice is not named; `None` when it is.
fn why_not(
    candidates: &Candidates,
    thresholds: &Thresholds,
    elsewhere: &BTreeSet<&PersonId>,
    closest: &PersonHit,
    choice: Option<&Choice<'_>>,
) -> Option<Why> {
    let reaches = |hit: &PersonHit| hit.similarity >= candidates.threshold(&hit.person, thresholds);
    match choice {
        Some(Choice { best, rival: None, .. }) if reaches(best) => None,
        Some(Choice { best, rival: Some((other, needed)), lead, .. }) if reaches(best) => {
            let margin = best.similarity - other.similarity;
            let mut text = format!(
                "second candidate too close: {:.2} and {:.2}, lead {margin:.2}, needs {needed:.2}",
                best.similarity, other.similarity
            );
            if let Some(lead) = lead {
                text += &format!("; the classifier leads by {lead:.2}, needs {:.2}", thresholds.lead);
            }
            Some(Why::new(WhyCode::RunnerUpTooClose, text, margin, *needed))
        }
        _ if reaches(closest) && elsewhere.contains(&closest.person) => Some(Why::new(
            WhyCode::OtherFaceOfPicture,
            format!("the best candidate ({:.2}) is another face of this picture", closest.similarity),
            closest.similarity,
            candidates.threshold(&closest.person, thresholds),
        )),
        _ if reaches(closest) && !candidates.eligible(closest) => {
            let marked = candidates.negatives.get(&closest.person).copied().unwrap_or_default();
            let text = format!(
                "the best candidate ({:.2}) was ruled out before: a face marked as not that person is nearer ({marked:.2})",
                closest.similarity
            );
            Some(Why::new(WhyCode::NegativeExemplar, text, closest.similarity, marked))
        }
        _ => {
            let shown = choice.map_or(closest, |c| c.best);
            let threshold = candidates.threshold(&shown.person, thresholds);
            let text = format!(
                "below threshold by {}: best candidate {:.2}, needs {threshold:.2}",
                shortfall(threshold - shown.similarity),
                shown.similarity
            );
            Some(Why::new(WhyCode::BelowThreshold, text, shown.similarity, threshold))
        }
    }
}

/// Two decimals, but never a shortfall of 0.00.
fn shortfall(by: f32) -> String {
    if by < 0.005 { "less than 0.01".into() } else { format!("{by:.2}") }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
pub(crate) mod tests;
