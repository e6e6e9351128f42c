//! How good a classifier is on faces it has not seen: stratified k-fold cross-validation, and the guarded decision with and without it.
//!
//! Folds are by person: the faces of each person are spread over the folds, so that every fold has faces of everybody with several. A person
//! with one face stays in the training of every fold and is never tested.

use tokio_util::sync::CancellationToken;

use super::{
    Candidates, NearFace, PersonHit, Thresholds,
    classifier::{Classifier, GalleryState, TrainError},
    decision,
};
use crate::{
    face::Embedding,
    ids::{FaceId, PersonId},
    time::Timestamp,
};

/// Candidates of a decision: as many as a search fetches.
const CANDIDATES: usize = 10;
/// Faces that are tested at most; more say nothing new and cost the square.
const MOST_TESTED: usize = 3000;

/// An enrolled face with its person.
pub type Labelled<'a> = (&'a PersonId, &'a Embedding);

/// Classifiers, each of which has not seen one fold of the faces.
#[derive(Debug)]
pub struct HeldOut {
    fold_of: Vec<Option<usize>>,
    classifiers: Vec<Classifier>,
}

impl HeldOut {
    /// Trains `folds` classifiers (2 at least); `done` hears of each. Faces of one person stand in any order; what came first in its fold stays so.
    ///
    /// # Errors
    /// When faces can't be compared or `stop` was cancelled.
    pub fn train(
        labelled: &[Labelled<'_>],
        folds: usize,
        stop: &CancellationToken,
        mut done: impl FnMut(usize),
    ) -> Result<Self, TrainError> {
        let folds = folds.max(2);
        let fold_of = stratified(labelled.iter().map(|(p, _)| *p), folds);
        let mut classifiers = Vec::with_capacity(folds);
        for fold in 0..folds {
            let seen: Vec<Labelled<'_>> =
                labelled.iter().zip(&fold_of).filter(|(_, f)| **f != Some(fold)).map(|(face, _)| *face).collect();
            let state = GalleryState(String::new());
            classifiers.push(Classifier::fit(&seen, state, Timestamp::UNIX_EPOCH, stop)?);
            done(fold + 1);
        }
        Ok(Self { fold_of, classifiers })
    }

    /// The classifier that has not seen a face; `None` for the only face of a person.
    pub fn unseen_by(&self, face: usize) -> Option<&Classifier> {
        self.classifiers.get((*self.fold_of.get(face)?)?)
    }
}

/// The fold of each face; `None` for a person's only face. Each person begins with the fold where the one before ended, so that folds are of like size.
fn stratified<'a>(people: impl Iterator<Item = &'a PersonId> + Clone, folds: usize) -> Vec<Option<usize>> {
    let mut counts = std::collections::BTreeMap::<&PersonId, usize>::new();
    people.clone().for_each(|p| *counts.entry(p).or_default() += 1);
    let (mut next, mut begin) = (0, std::collections::BTreeMap::new());
    for (person, faces) in counts.iter().filter(|(_, n)| **n > 1) {
        begin.insert(*person, next);
        next = (next + faces) % folds;
    }
    let place = |person: &PersonId| {
        let place = begin.get_mut(person)?;
        let fold = *place % folds;
        *place += 1;
        Some(fold)
    };
    people.map(place).collect()
}

/// What became of faces by one route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Known faces with their own name.
    pub right: usize,
    /// Known faces without a name.
    pub unnamed: usize,
    /// Known faces with somebody else's name.
    pub wrong: usize,
    /// Faces whose person was taken out, with any name.
    pub strangers_named: usize,
}

impl Tally {
    fn count(&mut self, decision: &decision::Decision, person: &PersonId) {
        match decision.known() {
            Some(hit) if hit.person == *person => self.right += 1,
            Some(_) => self.wrong += 1,
            None => self.unnamed += 1,
        }
    }
}

/// Figures of a cross-validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// Folds.
    pub folds: usize,
    /// Faces that were tested: each by a classifier that had not seen it, in a gallery without it.
    pub tested: usize,
    /// People with one face, who can't be tested.
    pub untested_people: usize,
    /// Tested faces whose own person had the highest probability of all, with no threshold.
    pub classifier_first: usize,
    /// Tested faces whose own person was the nearest, with no threshold.
    pub nearest_first: usize,
    /// By the guarded decision with the classifier.
    pub classifier: Tally,
    /// By the guarded decision without it.
    pub similarity: Tally,
}

/// Cross-validates on labelled faces. `around` adds what else is known of candidates (offsets, look-alikes) to hits.
///
/// A stranger is a tested face whose person is left out of the candidates; the classifier saw other faces of it, but can't name it.
///
/// # Errors
/// As [`HeldOut::train`].
pub fn validate(
    labelled: &[Labelled<'_>],
    folds: usize,
    thresholds: &Thresholds,
    around: &dyn Fn(Vec<PersonHit>) -> Candidates,
    stop: &CancellationToken,
    done: impl FnMut(usize),
) -> Result<Validation, TrainError> {
    let held_out = HeldOut::train(labelled, folds, stop, done)?;
    let tested: Vec<usize> = (0..labelled.len()).filter(|i| held_out.unseen_by(*i).is_some()).collect();
    let singles = labelled.len() - tested.len();
    let step = tested.len().div_ceil(MOST_TESTED).max(1);
    let mut found = Validation {
        folds: held_out.classifiers.len(),
        tested: 0,
        untested_people: singles,
        classifier_first: 0,
        nearest_first: 0,
        classifier: Tally::default(),
        similarity: Tally::default(),
    };
    for index in tested.into_iter().step_by(step) {
        if stop.is_cancelled() {
            return Err(TrainError::Stopped);
        }
        let (person, probe) = labelled[index];
        let Some(classifier) = held_out.unseen_by(index) else { continue };
        found.tested += 1;
        let hits = search(labelled, index);
        found.nearest_first += usize::from(hits.first().is_some_and(|h| h.person == *person));
        let all = classifier.chances(probe, classifier.people()).unwrap_or_default();
        let likeliest = all.iter().max_by(|a, b| a.1.total_cmp(b.1));
        found.classifier_first += usize::from(likeliest.is_some_and(|(p, _)| p == person));
        for known in [true, false] {
            let mut among: Vec<PersonHit> = hits.iter().filter(|h| known || h.person != *person).cloned().collect();
            among.truncate(CANDIDATES);
            let plain = around(among);
            let mut with = plain.clone();
            with.chances = classifier.chances(probe, with.hits.iter().map(|h| &h.person));
            for (candidates, tally) in [(&plain, &mut found.similarity), (&with, &mut found.classifier)] {
                let decision = decision::decide(candidates, thresholds);
                match known {
                    true => tally.count(&decision, person),
                    false => tally.strangers_named += usize::from(decision.known().is_some()),
                }
            }
        }
    }
    Ok(found)
}

/// The nearest face of each person without the face itself, nearest person first.
fn search(labelled: &[Labelled<'_>], index: usize) -> Vec<PersonHit> {
    let probe = labelled[index].1;
    let mut best = std::collections::BTreeMap::<&PersonId, (f32, usize)>::new();
    for (i, (person, embedding)) in labelled.iter().enumerate().filter(|(i, _)| *i != index) {
        let Ok(similarity) = embedding.similarity(probe) else { continue };
        let place = best.entry(person).or_insert((similarity, i));
        if similarity > place.0 {
            *place = (similarity, i);
        }
    }
    let hit = |(person, (similarity, i)): (&PersonId, (f32, usize))| {
        // Faces are told by their place here; nobody asks for them.
        let face = i.to_string().parse::<FaceId>().ok()?;
        PersonHit::of(person.clone(), vec![NearFace { face, similarity }])
    };
    let mut hits: Vec<PersonHit> = best.into_iter().filter_map(hit).collect();
    hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    hits
}

#[cfg(test)]
mod tests {
    use super::{super::classifier::tests::crowd, *};
    use crate::{identity::EnrolledFace, inference::manifest::Calibration};

    fn labelled(faces: &[EnrolledFace]) -> Vec<Labelled<'_>> {
        faces.iter().map(|f| (&f.person, &f.embedding)).collect()
    }

    fn thresholds() -> Thresholds {
        Thresholds::of_model(0.8, 0.02, Calibration { midpoint: 0.5, slope: 20.0 })
    }

    fn validated(faces: &[EnrolledFace]) -> Validation {
        validate(&labelled(faces), 5, &thresholds(), &Candidates::of, &CancellationToken::new(), |_| {}).unwrap()
    }

    #[test]
    fn folds_are_of_like_size_and_hold_everybody_with_several_faces() {
        let faces = crowd(7, 3, 0.1);
        let mut people: Vec<&PersonId> = faces.iter().map(|f| &f.person).collect();
        let solo = "solo".parse().unwrap();
        people.push(&solo);
        let folds = stratified(people.iter().copied(), 5);
        assert_eq!(folds.last(), Some(&None));
        let sizes: Vec<usize> = (0..5).map(|f| folds.iter().filter(|x| **x == Some(f)).count()).collect();
        assert!(sizes.iter().all(|n| (4..=5).contains(n)), "{sizes:?}");
        for of_one in folds[..21].chunks(3) {
            assert!(
                of_one[0] != of_one[1] && of_one[1] != of_one[2],
                "two faces of one person are never one fold of five"
            );
        }
    }

    #[test]
    fn easy_people_are_all_right_and_strangers_stay_unnamed() {
        let mut faces = crowd(6, 4, 0.2);
        faces.extend(crowd(7, 1, 0.2).into_iter().skip(6));
        let found = validated(&faces);
        assert_eq!((found.folds, found.tested, found.untested_people), (5, 24, 1));
        assert_eq!((found.classifier_first, found.nearest_first), (24, 24));
        for tally in [found.classifier, found.similarity] {
            assert_eq!(tally, Tally { right: 24, ..Tally::default() });
        }
    }

    #[test]
    fn a_classifier_that_saw_a_face_is_never_asked_about_it() {
        // Faces without any likeness to their person: whoever has seen them knows them, nobody else can.
        let mut faces = crowd(20, 4, 0.0);
        let noise = crowd(80, 1, 0.0);
        for (face, other) in faces.iter_mut().zip(noise.iter().rev()) {
            face.embedding = other.embedding.clone();
        }
        let found = validated(&faces);
        assert!(found.classifier_first <= 12, "by chance 4 of 80 are right, and not {}", found.classifier_first);
    }

    #[test]
    fn it_can_be_stopped() {
        let stop = CancellationToken::new();
        let faces = crowd(4, 4, 0.2);
        let mut trained = 0;
        let result = validate(&labelled(&faces), 4, &thresholds(), &Candidates::of, &stop, |n| {
            trained = n;
            stop.cancel();
        });
        assert_eq!((result, trained), (Err(TrainError::Stopped), 1));
    }
}
