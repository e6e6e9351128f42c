//! Exact search: every probe against every face in a contiguous matrix. Recall 1; [`scan`] is the pass over them.

pub mod scan;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;

use crate::{
    face::{Distance, Embedding, embedding::IncomparableError},
    identity::{EnrolledFace, GalleryError, NearFace, PersonHit, SearchQuery, VectorIndex, basis::MOST_FACES},
    ids::{FaceId, ModelId, PersonId},
};

/// Below this many values a search runs on the caller's thread: moving it costs more than scanning.
const INLINE_VALUES: usize = 1 << 20;

/// So many people are picked out one by one; more are sorted.
const FEW: usize = 64;

/// A row's person, as a number: a search must not compare names for every face.
type Owner = u32;

#[derive(Clone, Default)]
struct Matrix {
    /// Row-major, `rows * size` values.
    values: Vec<f32>,
    faces: Vec<FaceId>,
    /// The person of each row.
    owners: Vec<Owner>,
    row_of: HashMap<FaceId, usize>,
    people: People,
}

/// Numbers of people; those of people without faces are given again.
#[derive(Clone, Default)]
struct People {
    number_of: HashMap<PersonId, Owner>,
    /// By number: who it is, and how many rows are theirs.
    known: Vec<(PersonId, usize)>,
    free: Vec<Owner>,
}

impl People {
    /// The number of a person who gets one more row.
    fn gains(&mut self, person: &PersonId) -> Owner {
        let (known, free) = (&mut self.known, &mut self.free);
        let number = *self.number_of.entry(person.clone()).or_insert_with(|| match free.pop() {
            Some(number) => {
                known[number as usize] = (person.clone(), 0);
                number
            }
            None => {
                known.push((person.clone(), 0));
                // A gallery of four thousand million people fits in no memory.
                (known.len() - 1) as Owner
            }
        });
        self.known[number as usize].1 += 1;
        number
    }

    /// A row less for a person.
    fn loses(&mut self, number: Owner) {
        let (person, rows) = &mut self.known[number as usize];
        *rows -= 1;
        if *rows == 0 {
            self.number_of.remove(person);
            self.free.push(number);
        }
    }
}

impl Matrix {
    fn put(&mut self, face: &EnrolledFace, size: usize) {
        let owner = self.people.gains(&face.person);
        if let Some(&row) = self.row_of.get(&face.id) {
            self.values[row * size..(row + 1) * size].copy_from_slice(&face.embedding.values);
            self.people.loses(std::mem::replace(&mut self.owners[row], owner));
            return;
        }
        self.row_of.insert(face.id.clone(), self.faces.len());
        self.values.extend_from_slice(&face.embedding.values);
        self.faces.push(face.id.clone());
        self.owners.push(owner);
    }

    /// The last row takes the place of the removed one.
    fn remove(&mut self, face: &FaceId, size: usize) {
        let Some(row) = self.row_of.remove(face) else { return };
        let last = self.faces.len() - 1;
        self.values.copy_within(last * size..(last + 1) * size, row * size);
        self.values.truncate(last * size);
        self.faces.swap_remove(row);
        let owner = self.owners.swap_remove(row);
        self.people.loses(owner);
        if row < last {
            self.row_of.insert(self.faces[row].clone(), row);
        }
    }

    fn faces_of(&self, person: &PersonId) -> Vec<FaceId> {
        let Some(number) = self.people.number_of.get(person) else { return Vec::new() };
        self.faces
            .iter()
            .zip(&self.owners)
            .filter(|(_, owner)| *owner == number)
            .map(|(face, _)| face.clone())
            .collect()
    }

    /// One pass over the values for each person's best row; then the other near rows, of those people only who are answered.
    fn search(&self, probe: &[f32], distance: Distance, query: &SearchQuery) -> Vec<PersonHit> {
        let numbers = self.people.known.len();
        // Nobody is asked about whom the query leaves out, or who has no faces.
        let wanted: Vec<bool> = match &query.people {
            None => self.people.known.iter().map(|(_, rows)| *rows > 0).collect(),
            Some(people) => {
                let mut wanted = vec![false; numbers];
                people.iter().filter_map(|p| self.people.number_of.get(p)).for_each(|n| wanted[*n as usize] = true);
                wanted
            }
        };
        // Compared by nearness; only who is answered gets a similarity.
        let mut nearness = vec![f32::NEG_INFINITY; self.owners.len()];
        match &query.people {
            None => scan::nearness(distance, probe, &self.values, |_| true, &mut nearness),
            Some(_) => {
                let wanted = |row: usize| wanted[self.owners[row] as usize];
                scan::nearness(distance, probe, &self.values, wanted, &mut nearness);
            }
        }
        let mut best = vec![f32::NEG_INFINITY; numbers];
        for (owner, nearness) in self.owners.iter().zip(&nearness) {
            let best = &mut best[*owner as usize];
            *best = best.max(*nearness);
        }
        // By name among equals, as it was before anybody had a number.
        let nearer = |a: &Owner, b: &Owner| {
            let (x, y) = (*a as usize, *b as usize);
            best[y].total_cmp(&best[x]).then_with(|| self.people.known[x].0.cmp(&self.people.known[y].0))
        };
        let mut order: Vec<Owner> = Vec::new();
        let all = (0..numbers as Owner).filter(|n| wanted[*n as usize]);
        if query.limit <= FEW {
            // Most are no nearer than the last of so few, and cost one comparison.
            for number in all {
                if order.len() == query.limit && order.last().is_none_or(|last| nearer(last, &number).is_lt()) {
                    continue;
                }
                order.truncate(query.limit - 1);
                let at = order.partition_point(|known| nearer(known, &number).is_lt());
                order.insert(at, number);
            }
        } else {
            order.extend(all);
            if query.limit < order.len() {
                order.select_nth_unstable_by(query.limit, nearer);
                order.truncate(query.limit);
            }
            order.sort_unstable_by(nearer);
        }
        let mut place = vec![u32::MAX; numbers];
        order.iter().zip(0..).for_each(|(number, i)| place[*number as usize] = i);
        let mut nearest = vec![NONE; order.len()];
        for (row, (owner, nearness)) in self.owners.iter().zip(&nearness).enumerate() {
            if let Some(nearest) = nearest.get_mut(place[*owner as usize] as usize) {
                nearest.put(*nearness, row);
            }
        }
        let face = |(nearness, row): (f32, usize)| NearFace {
            face: self.faces[row].clone(),
            similarity: scan::similarity(distance, nearness),
        };
        let hit = |(number, near): (&Owner, &Nearest)| {
            let person = self.people.known[*number as usize].0.clone();
            PersonHit::of(person, near.0.into_iter().filter(|(_, row)| *row != NOBODY).map(face).collect())
        };
        order.iter().zip(&nearest).filter_map(hit).collect()
    }
}

/// The nearest rows of a person, nearest first.
#[derive(Clone, Copy)]
struct Nearest([(f32, usize); MOST_FACES]);

const NOBODY: usize = usize::MAX;
const NONE: Nearest = Nearest([(f32::NEG_INFINITY, NOBODY); MOST_FACES]);

impl Nearest {
    fn put(&mut self, nearness: f32, row: usize) {
        // A free place is taken by anything, also by what is not a number.
        let Some(place) = self.0.iter().position(|(n, r)| *r == NOBODY || nearness > *n) else { return };
        self.0[place..].rotate_right(1);
        self.0[place] = (nearness, row);
    }
}

/// Exact search over the faces of one model.
pub struct ExactIndex {
    model: ModelId,
    size: usize,
    distance: Distance,
    /// Writers replace the matrix, so a search never holds anybody up.
    matrix: RwLock<Arc<Matrix>>,
}

impl ExactIndex {
    /// An empty index for embeddings of a model with `size` values.
    pub fn new(model: ModelId, size: usize, distance: Distance) -> Self {
        Self { model, size, distance, matrix: RwLock::default() }
    }

    fn check(&self, e: &Embedding) -> Result<(), GalleryError> {
        if e.model == self.model && e.values.len() == self.size {
            return Ok(());
        }
        let right_len = e.values.len();
        let (left, right) = (self.model.clone(), e.model.clone());
        Err(IncomparableError { left, left_len: self.size, right, right_len }.into())
    }

    fn snapshot(&self) -> Arc<Matrix> {
        self.matrix.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// In place while nobody searches, otherwise on a copy.
    fn change(&self, change: impl FnOnce(&mut Matrix)) {
        let mut guard = self.matrix.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut guard));
    }
}

#[async_trait]
impl VectorIndex for ExactIndex {
    async fn upsert(&self, faces: &[EnrolledFace]) -> Result<(), GalleryError> {
        for face in faces {
            self.check(&face.embedding)?;
        }
        self.change(|m| faces.iter().for_each(|f| m.put(f, self.size)));
        Ok(())
    }

    async fn remove_face(&self, face: &FaceId) -> Result<(), GalleryError> {
        self.change(|m| m.remove(face, self.size));
        Ok(())
    }

    async fn remove_person(&self, person: &PersonId) -> Result<(), GalleryError> {
        self.change(|m| {
            let theirs = m.faces_of(person);
            theirs.iter().for_each(|f| m.remove(f, self.size));
        });
        Ok(())
    }

    async fn search(&self, probe: &Embedding, query: &SearchQuery) -> Result<Vec<PersonHit>, GalleryError> {
        self.check(probe)?;
        let matrix = self.snapshot();
        if matrix.values.len() <= INLINE_VALUES {
            return Ok(matrix.search(&probe.values, self.distance, query));
        }
        let (values, distance, query) = (probe.values.clone(), self.distance, query.clone());
        tokio::task::spawn_blocking(move || matrix.search(&values, distance, &query))
            .await
            .map_err(|e| GalleryError::Storage(e.to_string()))
    }

    async fn clear(&self) -> Result<(), GalleryError> {
        self.change(|m| *m = Matrix::default());
        Ok(())
    }

    async fn face_ids(&self) -> Result<BTreeSet<FaceId>, GalleryError> {
        Ok(self.snapshot().faces.iter().cloned().collect())
    }

    fn backend(&self) -> &'static str {
        "exact"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::store::conformance;

    #[tokio::test]
    async fn conforms() {
        for distance in [Distance::Cosine, Distance::Euclidean] {
            conformance::index(&ExactIndex::new("m".parse().unwrap(), 4, distance), distance).await;
        }
    }

    #[test]
    fn numbers_of_people_are_given_again_and_faces_may_change_hands() {
        let face = |id: &str, person: &str, x: f32| conformance::face(id, person, &[x, 1.0], Distance::Euclidean);
        let mut matrix = Matrix::default();
        for (id, person) in [("f1", "anna"), ("f2", "berta"), ("f3", "anna")] {
            matrix.put(&face(id, person, 0.0), 2);
        }
        matrix.put(&face("f2", "anna", 0.5), 2);
        assert_eq!((matrix.people.number_of.len(), matrix.people.free.len()), (1, 1));
        assert_eq!(matrix.faces_of(&"anna".parse().unwrap()).len(), 3);
        assert!(matrix.faces_of(&"berta".parse().unwrap()).is_empty());
        matrix.put(&face("f4", "carla", 5.0), 2);
        assert_eq!((matrix.people.known.len(), matrix.people.free.len()), (2, 0));
        let hits = matrix.search(&[5.0, 1.0], Distance::Euclidean, &SearchQuery { limit: 5, people: None });
        assert_eq!(
            hits.iter().map(|h| (h.person.as_str(), h.more.len())).collect::<Vec<_>>(),
            [("carla", 0), ("anna", 2)]
        );
        for id in ["f1", "f2", "f3", "f4"] {
            matrix.remove(&id.parse().unwrap(), 2);
        }
        assert!(matrix.people.number_of.is_empty() && matrix.values.is_empty() && matrix.owners.is_empty());
        assert!(matrix.search(&[5.0, 1.0], Distance::Euclidean, &SearchQuery { limit: 5, people: None }).is_empty());
    }

    proptest! {
        #[test]
        fn finds_what_a_naive_search_finds(rows in proptest::collection::vec((0u8..6, proptest::collection::vec(-1f32..1.0, 12)), 1..40),
                                           probe in proptest::collection::vec(-1f32..1.0, 12), gone in 0usize..40) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let index = ExactIndex::new("m".parse().unwrap(), 12, Distance::Euclidean);
            let mut faces: Vec<EnrolledFace> = rows
                .iter()
                .enumerate()
                .map(|(i, (p, v))| conformance::face(&format!("f{i}"), &format!("p{p}"), v, Distance::Euclidean))
                .collect();
            runtime.block_on(index.upsert(&faces)).unwrap();
            if gone < faces.len() {
                let face = faces.remove(gone);
                runtime.block_on(index.remove_face(&face.id)).unwrap();
            }
            let probe = conformance::embedding(&probe, Distance::Euclidean);
            let hits = runtime.block_on(index.search(&probe, &SearchQuery { limit: 3, people: None })).unwrap();
            let mut naive: BTreeMap<PersonId, f32> = BTreeMap::new();
            for face in &faces {
                let s = face.embedding.similarity(&probe).unwrap();
                let best = naive.entry(face.person.clone()).or_insert(s);
                *best = best.max(s);
            }
            let mut naive: Vec<f32> = naive.into_values().collect();
            naive.sort_by(|a, b| b.total_cmp(a));
            naive.truncate(3);
            prop_assert_eq!(hits.len(), naive.len());
            for (hit, want) in hits.iter().zip(naive) {
                prop_assert!((hit.similarity - want).abs() < 1e-5);
            }
        }
    }
}
