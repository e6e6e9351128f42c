//! Leave-one-out identification: each face of a gallery is searched for in the rest of it.
//!
//! A *mated* search looks for a face whose person has others; a *non-mated* one looks for it with its whole person taken out, as a stranger would
//! come. FPIR is the share of non-mated searches whose best hit reaches the threshold, FNIR the share of mated searches whose own person
//! is not the best hit or stays below it (ISO/IEC 19795-1; NIST FRTE 1:N). A person is as near as its nearest face, as in the server.

use std::thread;

use serde::Serialize;

use super::{EvaluationError, Scores};
use crate::{
    face::Embedding,
    identity::PersonHit,
    ids::{FaceId, PersonId},
};

/// Hits kept of each search, people, best first: as many as the server asks its index for.
const CANDIDATES: usize = 10;

/// A face of the gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Index of its person.
    pub person: usize,
    /// What reports call it: `person/file`, or where it was enrolled from.
    pub name: String,
    /// Its embedding.
    pub embedding: Embedding,
}

/// People and faces to search in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faces {
    /// Names, by index.
    pub people: Vec<String>,
    /// Faces.
    pub entries: Vec<Entry>,
}

/// The nearest face of a person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Index of the person.
    pub person: usize,
    /// Index of the face.
    pub face: usize,
    /// How near.
    pub similarity: f32,
}

impl Faces {
    /// Adds a face; its person is made known when new.
    pub fn push(&mut self, person: &str, name: String, embedding: Embedding) {
        let index = self.people.iter().rposition(|p| p == person).unwrap_or_else(|| {
            self.people.push(person.to_owned());
            self.people.len() - 1
        });
        self.entries.push(Entry { person: index, name, embedding });
    }

    /// The nearest face of each person, nearest person first; `skip` is left out.
    ///
    /// # Errors
    /// When the probe is of another model.
    pub fn search(&self, probe: &Embedding, skip: Option<usize>) -> Result<Vec<Hit>, EvaluationError> {
        let mut best: Vec<Option<Hit>> = vec![None; self.people.len()];
        for (face, entry) in self.entries.iter().enumerate().filter(|(i, _)| Some(*i) != skip) {
            let similarity =
                probe.similarity(&entry.embedding).map_err(|e| EvaluationError::TooLittle(e.to_string()))?;
            let place = &mut best[entry.person];
            if place.is_none_or(|hit| similarity > hit.similarity) {
                *place = Some(Hit { person: entry.person, face, similarity });
            }
        }
        let mut hits: Vec<Hit> = best.into_iter().flatten().collect();
        hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        Ok(hits)
    }
}

/// Hits as the decision takes them, at most as many people as the server fetches. People and faces are named by their indices.
///
/// # Errors
/// Never in practice: indices are valid ids.
pub fn candidates(hits: &[Hit]) -> Result<Vec<PersonHit>, crate::ids::IdError> {
    let named = |hit: &Hit| -> Result<PersonHit, crate::ids::IdError> {
        let person: PersonId = hit.person.to_string().parse()?;
        let face: FaceId = hit.face.to_string().parse()?;
        Ok(PersonHit { person, face, similarity: hit.similarity, more: Vec::new() })
    };
    hits.iter().take(CANDIDATES).map(named).collect()
}

/// One face searched for in the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Nearest other face of its own person, if there is one.
    pub own: Option<Hit>,
    /// Nearest face of anybody else.
    pub other: Option<Hit>,
    /// Best people of the search, its own among them.
    pub hits: Vec<Hit>,
}

impl Search {
    /// Whether its own person came first.
    pub fn is_rank_1(&self) -> bool {
        let other = self.other.map_or(f32::NEG_INFINITY, |hit| hit.similarity);
        self.own.is_some_and(|own| own.similarity > other)
    }
}

/// Two faces of different people that look alike, or a face and the nearest of its own person.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Couple {
    /// Index of a face.
    pub a: usize,
    /// Index of the other.
    pub b: usize,
    /// Their similarity.
    pub similarity: f32,
}

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaveOneOut {
    /// One search a face.
    pub searches: Vec<Search>,
    /// Best similarities: genuine are mated searches (minus infinity when not rank 1), impostor non-mated ones.
    pub scores: Scores,
}

/// Searches for every face; all cores work.
///
/// # Errors
/// When embeddings of several models are mixed, or fewer than two people have faces.
pub fn leave_one_out(faces: &Faces) -> Result<LeaveOneOut, EvaluationError> {
    if faces.people.len() < 2 {
        return Err(EvaluationError::TooLittle(format!(
            "leave-one-out needs faces of two people or more, there is {}: add people",
            faces.people.len()
        )));
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let part = faces.entries.len().div_ceil(cores).max(1);
    let numbers: Vec<usize> = (0..faces.entries.len()).collect();
    let parts: Vec<Result<Vec<Search>, EvaluationError>> = thread::scope(|scope| {
        let work: Vec<_> = numbers
            .chunks(part)
            .map(|part| scope.spawn(move || part.iter().map(|i| search(faces, *i)).collect::<Result<Vec<_>, _>>()))
            .collect();
        let lost = || EvaluationError::TooLittle("a thread of the search failed; see the log".into());
        work.into_iter().map(|w| w.join().unwrap_or_else(|_| Err(lost()))).collect()
    });
    let searches: Vec<Search> = parts.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    let mated = searches.iter().filter_map(|s| {
        let own = s.own?;
        Some(if s.is_rank_1() { own.similarity } else { f32::NEG_INFINITY })
    });
    let non_mated = searches.iter().filter_map(|s| Some(s.other?.similarity));
    let scores = Scores::new(mated.collect(), non_mated.collect());
    Ok(LeaveOneOut { searches, scores })
}

fn search(faces: &Faces, index: usize) -> Result<Search, EvaluationError> {
    let entry = &faces.entries[index];
    let mut hits = faces.search(&entry.embedding, Some(index))?;
    let own = hits.iter().find(|h| h.person == entry.person).copied();
    let other = hits.iter().find(|h| h.person != entry.person).copied();
    hits.truncate(CANDIDATES);
    Ok(Search { own, other, hits })
}

impl LeaveOneOut {
    /// Mated searches: faces whose person has another.
    pub fn mated(&self) -> usize {
        self.scores.genuine().len()
    }

    /// Share of mated searches with the right person first, 0 to 1.
    pub fn rank_1(&self) -> f64 {
        self.searches.iter().filter(|s| s.is_rank_1()).count() as f64 / self.mated().max(1) as f64
    }

    /// FNIR (0 to 1) and the threshold at a wanted FPIR (0 to 1).
    pub fn fnir_at(&self, fpir: f64) -> (f64, f32) {
        let point = self.scores.at_far(fpir);
        (1.0 - point.tar, point.threshold)
    }

    /// "These two look alike": for each two people their most similar faces, most similar first, at most `count`.
    pub fn look_alikes(&self, faces: &Faces, count: usize) -> Vec<Couple> {
        let people = |c: &Couple| {
            let (a, b) = (faces.entries[c.a].person, faces.entries[c.b].person);
            (a.min(b), a.max(b))
        };
        let mut couples: Vec<Couple> = self
            .searches
            .iter()
            .enumerate()
            .filter_map(|(a, s)| s.other.map(|hit| Couple { a, b: hit.face, similarity: hit.similarity }))
            .collect();
        couples.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        let mut seen = std::collections::BTreeSet::new();
        couples.retain(|c| seen.insert(people(c)));
        couples.truncate(count);
        couples
    }

    /// "This photo does not look like its person": faces by the similarity to the nearest other of their person, least first.
    pub fn odd_ones(&self, count: usize) -> Vec<Couple> {
        let mut couples: Vec<Couple> = self
            .searches
            .iter()
            .enumerate()
            .filter_map(|(a, s)| s.own.map(|hit| Couple { a, b: hit.face, similarity: hit.similarity }))
            .collect();
        couples.sort_by(|a, b| a.similarity.total_cmp(&b.similarity));
        couples.truncate(count);
        couples
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::face::Distance;

    pub(crate) fn unit(degrees: f32) -> Embedding {
        let angle = degrees.to_radians();
        let values = [angle.cos(), angle.sin()];
        Embedding { model: "m".parse().unwrap(), distance: Distance::Cosine, values: values.into() }
    }

    pub(crate) fn faces(of: &[(&str, f32)]) -> Faces {
        let mut faces = Faces::default();
        for (i, (person, degrees)) in of.iter().enumerate() {
            faces.push(person, format!("{person}/{i}"), unit(*degrees));
        }
        faces
    }

    #[test]
    fn rank_1_and_rates_are_as_counted_by_hand() {
        // cem's second face lies beside anna's.
        let faces =
            faces(&[("anna", 0.0), ("anna", 10.0), ("berta", 90.0), ("berta", 95.0), ("cem", 180.0), ("cem", 16.0)]);
        let result = leave_one_out(&faces).unwrap();
        assert_eq!(result.mated(), 6);
        // anna at 10 has cem at 6 degrees and anna at 10; both of cem's are nearer to others.
        assert!((result.rank_1() - 0.5).abs() < 1e-9, "{}", result.rank_1());
        let couple = result.look_alikes(&faces, 3)[0];
        assert_eq!((couple.a.min(couple.b), couple.a.max(couple.b)), (1, 5));
        assert_eq!(result.odd_ones(2).iter().map(|c| c.a).collect::<Vec<_>>(), [4, 5]);
        let (fnir, threshold) = result.fnir_at(0.001);
        assert!(threshold > unit(16.0).similarity(&unit(10.0)).unwrap() - 1e-6);
        assert!((fnir - 4.0 / 6.0).abs() < 1e-9, "berta's pair is 5 degrees apart: {fnir}");
    }

    #[test]
    fn a_person_with_one_face_is_searched_for_as_a_stranger_only() {
        let faces = faces(&[("anna", 0.0), ("anna", 1.0), ("solo", 90.0)]);
        let result = leave_one_out(&faces).unwrap();
        assert_eq!((result.mated(), result.scores.impostor().len(), result.rank_1()), (2, 3, 1.0));
    }

    #[test]
    fn one_person_or_two_models_are_refused_with_words() {
        assert!(leave_one_out(&faces(&[("anna", 0.0)])).unwrap_err().to_string().contains("add people"));
        let mut mixed = faces(&[("anna", 0.0), ("berta", 1.0)]);
        mixed.entries[1].embedding.model = "other".parse().unwrap();
        assert!(leave_one_out(&mixed).unwrap_err().to_string().contains("re-embed"));
    }

    #[test]
    fn candidates_are_best_first() {
        let faces = faces(&[("anna", 0.0), ("berta", 20.0), ("anna", 50.0)]);
        let hits = candidates(&faces.search(&unit(15.0), None).unwrap()).unwrap();
        assert_eq!(hits.iter().map(|h| h.person.as_str()).collect::<Vec<_>>(), ["1", "0"]);
        assert_eq!(hits[1].face.as_str(), "0");
    }
}
