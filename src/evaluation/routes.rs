//! The ways to choose among enrolled people, beside each other on the same faces: nearest face, classifier, nearest mean.
//!
//! Each face of a person with several is judged in a gallery without it. The classifier that judges it is one of several, trained without its
//! fold of the faces ([`crate::identity::classifier_folds`]), so it has seen fewer of the others than the search has. Strangers meet the whole
//! gallery and a classifier trained on all of it. Thresholds mean the same for all but the mean, to which everybody is nearer: compare that by
//! the column without strangers.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    EvaluationError,
    gallery::{self, Faces, Hit},
};
use crate::{
    face::Embedding,
    identity::{
        AlikeRange, Candidates, Classifier, EnrolledFace, PersonHit, Thresholds, TrainError,
        alike::Pairs,
        classifier_folds::{HeldOut, Labelled},
        decision,
    },
    ids::PersonId,
    inference::manifest::EmbedderSpec,
    time::Timestamp,
};

/// What one way gives. Shares are 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The way.
    pub route: &'static str,
    /// Known faces that were judged.
    pub known: usize,
    /// Share whose own person came first, with no threshold.
    pub first: f64,
    /// Share with their own name at the model's threshold.
    pub right: f64,
    /// Share without a name.
    pub unnamed: f64,
    /// Share with somebody else's name.
    pub wrong: f64,
    /// Share of strangers with a name; `None` without strangers.
    pub strangers_named: Option<f64>,
    /// The lowest threshold at which no stranger is named (chosen on these strangers, so it flatters); `None` without strangers.
    pub quiet_threshold: Option<f32>,
    /// Share of known faces with their own name there.
    pub right_when_quiet: Option<f64>,
}

/// A face as one way sees it.
struct Judged {
    candidates: Candidates,
    /// `None` for a stranger.
    person: Option<PersonId>,
    /// The person who comes first with no threshold.
    first: Option<PersonId>,
}

/// Judges the faces of a gallery and strangers by each way. Folds: 5, or as many as the person with most faces has, if fewer.
///
/// # Errors
/// When embeddings of several models are mixed. A gallery that no classifier can be trained on has no row of it; why is the second answer.
pub fn compare(
    faces: &Faces,
    strangers: &[Embedding],
    spec: &EmbedderSpec,
) -> Result<(Vec<Row>, Option<TrainError>), EvaluationError> {
    let names: Vec<PersonId> = (0..faces.people.len()).filter_map(|i| i.to_string().parse().ok()).collect();
    let mut mates = vec![0; names.len()];
    faces.entries.iter().for_each(|e| mates[e.person] += 1);
    let mated: Vec<usize> = (0..faces.entries.len()).filter(|i| mates[faces.entries[*i].person] > 1).collect();
    let thresholds = Thresholds::of_model(spec.identification_threshold, spec.margin, spec.calibration);
    let range = AlikeRange { from: spec.verification_threshold, full: spec.identification_threshold };
    let probe = |i: usize| (&faces.entries[i].embedding, Some(i));
    let probes: Vec<(&Embedding, Option<usize>)> =
        mated.iter().map(|i| probe(*i)).chain(strangers.iter().map(|e| (e, None))).collect();
    let person = |skip: Option<usize>| skip.and_then(|i| names.get(faces.entries[i].person).cloned());

    let mut plain = Vec::with_capacity(probes.len());
    for (embedding, skip) in &probes {
        let hits = gallery::candidates(&faces.search(embedding, *skip)?).map_err(|e| few(&e))?;
        let first = hits.first().map(|h| h.person.clone());
        plain.push(Judged { candidates: Candidates::of(hits), person: person(*skip), first });
    }
    let served = |judged: &Judged, skip: Option<usize>| Judged {
        candidates: Candidates {
            wider: wider(faces, &judged.candidates.hits, skip, &range),
            ..judged.candidates.clone()
        },
        person: judged.person.clone(),
        first: judged.first.clone(),
    };
    let similarity: Vec<Judged> = plain.iter().zip(&probes).map(|(j, (_, skip))| served(j, *skip)).collect();
    let mut rows =
        vec![row("similarity, one margin", &plain, &thresholds), row("similarity", &similarity, &thresholds)];
    let refused = match classified(faces, &names, &similarity, &probes) {
        Ok(judged) => {
            rows.push(row("classifier", &judged, &thresholds));
            None
        }
        Err(error) => Some(error),
    };
    let mut means = Vec::with_capacity(probes.len());
    for (embedding, skip) in &probes {
        let hits = gallery::candidates(&nearest_mean(faces, embedding, *skip)?).map_err(|e| few(&e))?;
        let first = hits.first().map(|h| h.person.clone());
        means.push(Judged { candidates: Candidates::of(hits), person: person(*skip), first });
    }
    rows.push(row("nearest mean", &means, &thresholds));
    Ok((rows, refused))
}

fn few(error: &dyn std::fmt::Display) -> EvaluationError {
    EvaluationError::TooLittle(error.to_string())
}

/// As [`compare`] has them by similarity, with the probabilities of a classifier that has not seen the face.
fn classified(
    faces: &Faces,
    names: &[PersonId],
    similarity: &[Judged],
    probes: &[(&Embedding, Option<usize>)],
) -> Result<Vec<Judged>, TrainError> {
    let enrolled: Vec<EnrolledFace> = faces
        .entries
        .iter()
        .enumerate()
        .filter_map(|(i, e)| {
            Some(EnrolledFace {
                id: i.to_string().parse().ok()?,
                person: names.get(e.person)?.clone(),
                embedding: e.embedding.clone(),
                quality: 1.0,
                source: String::new(),
                created: Timestamp::UNIX_EPOCH,
            })
        })
        .collect();
    let stop = CancellationToken::new();
    let all = Classifier::train(&enrolled, Timestamp::UNIX_EPOCH, &stop)?;
    let labelled: Vec<Labelled<'_>> = enrolled.iter().map(|f| (&f.person, &f.embedding)).collect();
    let mut sizes: BTreeMap<&PersonId, usize> = BTreeMap::new();
    labelled.iter().for_each(|(p, _)| *sizes.entry(p).or_default() += 1);
    let folds = sizes.values().copied().max().unwrap_or(2).clamp(2, FOLDS);
    let held_out = HeldOut::train(&labelled, folds, &stop, |_| {})?;
    let judge = |(judged, (embedding, skip)): (&Judged, &(&Embedding, Option<usize>))| {
        let classifier = skip.and_then(|i| held_out.unseen_by(i)).unwrap_or(&all);
        let chances = classifier.chances(embedding, judged.candidates.hits.iter().map(|h| &h.person));
        let everybody = classifier.chances(embedding, classifier.people()).unwrap_or_default();
        let first = everybody.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(p, _)| p);
        Judged { candidates: Candidates { chances, ..judged.candidates.clone() }, person: judged.person.clone(), first }
    };
    Ok(similarity.iter().zip(probes).map(judge).collect())
}

/// Folds at most.
const FOLDS: usize = 5;

/// How much wider the margin is between the people of some hits who look alike, without the probe's own face.
fn wider(faces: &Faces, hits: &[PersonHit], skip: Option<usize>, range: &AlikeRange) -> Pairs {
    let of = |person: &PersonId| -> Vec<&Embedding> {
        let own = |(i, e): &(usize, &gallery::Entry)| Some(*i) != skip && e.person.to_string() == person.as_str();
        faces.entries.iter().enumerate().filter(own).map(|(_, e)| &e.embedding).collect()
    };
    let embeddings: Vec<Vec<&Embedding>> = hits.iter().map(|h| of(&h.person)).collect();
    let mut pairs = Pairs::default();
    for (i, a) in hits.iter().enumerate() {
        for (j, b) in hits.iter().enumerate().skip(i + 1) {
            let all = embeddings[i].iter().flat_map(|x| embeddings[j].iter().filter_map(|y| x.similarity(y).ok()));
            let nearest = all.fold(f32::NEG_INFINITY, f32::max);
            if nearest >= range.from {
                pairs.set(&a.person, &b.person, range.wider(nearest));
            }
        }
    }
    pairs
}

/// The similarity to the mean of each person's faces, nearest first; `skip` is left out.
fn nearest_mean(faces: &Faces, probe: &Embedding, skip: Option<usize>) -> Result<Vec<Hit>, EvaluationError> {
    let mut own: Vec<Vec<(&Embedding, f32)>> = vec![Vec::new(); faces.people.len()];
    for (_, entry) in faces.entries.iter().enumerate().filter(|(i, _)| Some(*i) != skip) {
        own[entry.person].push((&entry.embedding, 1.0));
    }
    let mut hits = Vec::new();
    for (person, own) in own.iter().enumerate() {
        let Some(mean) = Embedding::weighted_mean(own) else { continue };
        let similarity = mean.similarity(probe).map_err(|e| few(&e))?;
        hits.push(Hit { person, face: 0, similarity });
    }
    hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    Ok(hits)
}

fn row(route: &'static str, judged: &[Judged], thresholds: &Thresholds) -> Row {
    let (known, strangers): (Vec<&Judged>, Vec<&Judged>) = judged.iter().partition(|j| j.person.is_some());
    let named = |j: &Judged, t: &Thresholds| decision::decide(&j.candidates, t).known().map(|h| h.person.clone());
    let share = |n: usize, of: usize| n as f64 / of.max(1) as f64;
    let right = |t: &Thresholds| known.iter().filter(|j| named(j, t).is_some_and(|p| Some(p) == j.person)).count();
    let silent = known.iter().filter(|j| named(j, thresholds).is_none()).count();
    let count = right(thresholds);
    let quiet = (!strangers.is_empty()).then(|| {
        let mut tops: Vec<f32> =
            strangers.iter().filter_map(|j| j.candidates.hits.first()).map(|h| h.similarity).collect();
        tops.sort_by(|a, b| b.total_cmp(a));
        let mut lowest = f32::INFINITY;
        for top in tops {
            let threshold = top + 1e-5;
            let at = Thresholds { similarity: threshold, ..*thresholds };
            if strangers.iter().any(|j| named(j, &at).is_some()) {
                break;
            }
            lowest = threshold;
        }
        lowest
    });
    let at = |similarity: f32| right(&Thresholds { similarity, ..*thresholds });
    Row {
        route,
        known: known.len(),
        first: share(known.iter().filter(|j| j.first == j.person).count(), known.len()),
        right: share(count, known.len()),
        unnamed: share(silent, known.len()),
        wrong: share(known.len() - silent - count, known.len()),
        strangers_named: (!strangers.is_empty())
            .then(|| share(strangers.iter().filter(|j| named(j, thresholds).is_some()).count(), strangers.len())),
        quiet_threshold: quiet,
        right_when_quiet: quiet.map(|t| share(at(t), known.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{
        gallery::tests::{faces, unit},
        open_set::tests::spec,
    };

    fn circle() -> Faces {
        // Three people, 90 degrees apart, four faces each.
        let at = |(person, middle): (&'static str, f32)| [-6.0, -2.0, 2.0, 6.0].map(|d| (person, middle + d));
        faces(&[("anna", 0.0), ("berta", 90.0), ("cem", 180.0)].map(at).concat())
    }

    #[test]
    fn easy_people_are_right_by_every_way_and_strangers_silent() {
        let (rows, refused) = compare(&circle(), &[unit(270.0), unit(302.0)], &spec()).unwrap();
        assert_eq!(refused, None);
        let routes: Vec<&str> = rows.iter().map(|r| r.route).collect();
        assert_eq!(routes, ["similarity, one margin", "similarity", "classifier", "nearest mean"]);
        for row in &rows {
            assert_eq!((row.known, row.first, row.right, row.wrong), (12, 1.0, 1.0, 0.0), "{row:?}");
            assert_eq!((row.strangers_named, row.right_when_quiet), (Some(0.5), Some(1.0)), "{row:?}");
            // The stranger at 302 degrees is 52 degrees from Anna's nearest face, 58 from her mean.
            let nearest = if row.route == "nearest mean" { 58f32 } else { 52f32 }.to_radians().cos();
            assert!((row.quiet_threshold.unwrap() - nearest).abs() < 1e-3, "{row:?}");
        }
    }

    #[test]
    fn without_strangers_and_with_too_little_the_rest_is_told() {
        let few = faces(&[("anna", 0.0), ("anna", 5.0), ("berta", 90.0)]);
        let (rows, refused) = compare(&few, &[], &spec()).unwrap();
        assert!(matches!(refused, Some(TrainError::TooLittle { people: 2, several: 1, faces: 3 })));
        assert_eq!(rows.len(), 3);
        assert_eq!((rows[0].known, rows[0].strangers_named, rows[0].quiet_threshold), (2, None, None));
    }
}
