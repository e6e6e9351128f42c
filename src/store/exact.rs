//! Exact search: every probe against every face in a contiguous matrix. Recall 1; about 1.5 ms for 100 000 x 128 on one thread.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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

#[derive(Clone, Default)]
struct Matrix {
    /// Row-major, `rows * size` values.
    values: Vec<f32>,
    faces: Vec<FaceId>,
    people: Vec<PersonId>,
    row_of: HashMap<FaceId, usize>,
}

impl Matrix {
    fn put(&mut self, face: &EnrolledFace, size: usize) {
        if let Some(&row) = self.row_of.get(&face.id) {
            self.values[row * size..(row + 1) * size].copy_from_slice(&face.embedding.values);
            self.people[row] = face.person.clone();
            return;
        }
        self.row_of.insert(face.id.clone(), self.faces.len());
        self.values.extend_from_slice(&face.embedding.values);
        self.faces.push(face.id.clone());
        self.people.push(face.person.clone());
    }

    /// The last row takes the place of the removed one.
    fn remove(&mut self, face: &FaceId, size: usize) {
        let Some(row) = self.row_of.remove(face) else { return };
        let last = self.faces.len() - 1;
        self.values.copy_within(last * size..(last + 1) * size, row * size);
        self.values.truncate(last * size);
        self.faces.swap_remove(row);
        self.people.swap_remove(row);
        if row < last {
            self.row_of.insert(self.faces[row].clone(), row);
        }
    }

    fn search(&self, probe: &[f32], distance: Distance, query: &SearchQuery) -> Vec<PersonHit> {
        let mut best: BTreeMap<&PersonId, Nearest> = BTreeMap::new();
        for (row, values) in self.values.chunks_exact(probe.len().max(1)).enumerate() {
            let person = &self.people[row];
            if query.people.as_ref().is_some_and(|wanted| !wanted.contains(person)) {
                continue;
            }
            let similarity = match distance {
                Distance::Cosine => dot(probe, values),
                Distance::Euclidean => 1.0 - squared_distance(probe, values).sqrt(),
            };
            best.entry(person).or_insert(NONE).put(similarity, row);
        }
        let mut best: Vec<(&PersonId, Nearest)> = best.into_iter().collect();
        best.sort_by(|(_, a), (_, b)| b.0[0].0.total_cmp(&a.0[0].0));
        best.truncate(query.limit);
        let face = |(similarity, row): (f32, usize)| NearFace { face: self.faces[row].clone(), similarity };
        let hit = |(person, near): (&PersonId, Nearest)| {
            PersonHit::of(person.clone(), near.0.into_iter().filter(|(_, row)| *row != NOBODY).map(face).collect())
        };
        best.into_iter().filter_map(hit).collect()
    }
}

/// The nearest rows of a person, nearest first.
#[derive(Clone, Copy)]
struct Nearest([(f32, usize); MOST_FACES]);

const NOBODY: usize = usize::MAX;
const NONE: Nearest = Nearest([(f32::NEG_INFINITY, NOBODY); MOST_FACES]);

impl Nearest {
    fn put(&mut self, similarity: f32, row: usize) {
        // A free place is taken by anything, also by what is not a number.
        let Some(place) = self.0.iter().position(|(s, r)| *r == NOBODY || similarity > *s) else { return };
        self.0[place..].rotate_right(1);
        self.0[place] = (similarity, row);
    }
}

/// Eight lanes, so that the compiler vectorises the sum.
fn lanes(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| f(*x, *y)).sum();
    for (x, y) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += f(x[i], y[i]);
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |x, y| x * y)
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |x, y| (x - y) * (x - y))
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
            let theirs: Vec<FaceId> =
                m.faces.iter().zip(&m.people).filter(|(_, p)| *p == person).map(|(f, _)| f.clone()).collect();
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
    use proptest::prelude::*;

    use super::*;
    use crate::store::conformance;

    #[tokio::test]
    async fn conforms() {
        for distance in [Distance::Cosine, Distance::Euclidean] {
            conformance::index(&ExactIndex::new("m".parse().unwrap(), 4, distance), distance).await;
        }
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
