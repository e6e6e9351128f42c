//! Who of the enrolled people a face is, learned from all their faces: multinomial logistic regression with an L2 penalty
//! (Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2009, 4.4), fitted by L-BFGS (Nocedal and Wright 2006, 7.2).
//!
//! In: the enrolled faces of one model. Out: a [`Classifier`], which gives probabilities among people it was trained on. It knows nobody
//! else, so a stranger always looks like somebody: it may only choose among people who are near enough ([`super::decision`]).

use std::collections::{BTreeMap, BTreeSet};

use argmin::{
    core::{CostFunction, Error, Executor, Gradient},
    solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS},
};
use ndarray::{Array1, Array2, ArrayView2, Axis, Zip, s};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::EnrolledFace;
use crate::{
    face::Embedding,
    ids::{FaceId, ModelId, PersonId},
    time::Timestamp,
};

/// People that a classifier needs.
pub const LEAST_PEOPLE: usize = 2;
/// Faces that a classifier needs.
pub const LEAST_FACES: usize = 10;
/// People of a classifier at most: an iteration costs people times faces times values.
pub const MOST_PEOPLE: usize = 1000;
/// Faces that a classifier is trained on at most.
pub const MOST_FACES: usize = 10_000;
/// Faces of one person that are taken at most; more of the same say little.
const FACES_EACH: usize = 50;
/// Enrolled faces that are read to train on at most.
pub(super) const MOST_READ: usize = FACES_EACH * MOST_PEOPLE;
/// Weight of the L2 penalty: half of the squared weights of standardised values, beside the summed loss.
const PENALTY: f64 = 1.0;
/// Iterations at most; it settles in 20 to 60.
const ITERATIONS: u64 = 200;
/// Vectors that L-BFGS remembers.
const MEMORY: usize = 7;

/// Why no classifier could be trained.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// Nothing to tell apart.
    #[error(
        "too little to train on: {people} people with {faces} faces, {several} with several; needs {LEAST_PEOPLE} people with \
         several faces and {LEAST_FACES} faces: enrol more pictures"
    )]
    TooLittle {
        /// People with faces.
        people: usize,
        /// Of them with two faces or more.
        several: usize,
        /// Faces.
        faces: usize,
    },
    /// More than can be trained while the server serves.
    #[error(
        "too much to train on: {people} people with {faces} faces, at most {MOST_PEOPLE} and {MOST_FACES}; set identity.decision to \
         similarity"
    )]
    TooMuch {
        /// People with faces.
        people: usize,
        /// Faces.
        faces: usize,
    },
    /// Embeddings of several models or lengths, or values that are no numbers.
    #[error("the enrolled faces can't be compared with each other; enrol them again with one model")]
    Unusable,
    /// The optimiser gave up.
    #[error("training failed: {0}")]
    Optimiser(String),
    /// It was told to stop.
    #[error("training was stopped")]
    Stopped,
}

/// What a classifier was trained on: changes with every face that comes or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GalleryState(pub String);

impl GalleryState {
    /// SHA-256 over the pairs of face and person, whatever their order.
    pub fn of<'a>(faces: impl IntoIterator<Item = (&'a FaceId, &'a PersonId)>) -> Self {
        let sorted: BTreeSet<(&FaceId, &PersonId)> = faces.into_iter().collect();
        let mut hash = Sha256::new();
        for (face, person) in sorted {
            hash.update(face.as_str());
            hash.update([0]);
            hash.update(person.as_str());
            hash.update([0]);
        }
        Self(hex::encode(hash.finalize()))
    }
}

/// A trained classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    pub(super) model: ModelId,
    pub(super) people: Vec<PersonId>,
    pub(super) faces: usize,
    pub(super) state: GalleryState,
    pub(super) trained: Timestamp,
    /// A row a person: a weight for each value of an embedding, then the bias.
    pub(super) weights: Array2<f32>,
}

impl Classifier {
    /// Trains on faces of one model; each person counts the same, whatever the number of its faces. Blocks: seconds for hundreds of people, minutes for a thousand.
    ///
    /// # Errors
    /// When there is too little or too much, faces can't be compared, or `stop` was cancelled.
    pub fn train(faces: &[EnrolledFace], now: Timestamp, stop: &CancellationToken) -> Result<Self, TrainError> {
        let state = GalleryState::of(faces.iter().map(|f| (&f.id, &f.person)));
        enough(faces.iter().map(|f| &f.person))?;
        let labelled: Vec<(&PersonId, &Embedding)> = best_of_each(faces);
        Self::fit(&labelled, state, now, stop)
    }

    /// Fits labelled embeddings, however few.
    pub(super) fn fit(
        labelled: &[(&PersonId, &Embedding)],
        state: GalleryState,
        now: Timestamp,
        stop: &CancellationToken,
    ) -> Result<Self, TrainError> {
        let Some((_, first)) = labelled.first() else { return Err(TrainError::Unusable) };
        let size = first.values.len();
        let fits =
            |e: &Embedding| e.model == first.model && e.values.len() == size && e.values.iter().all(|v| v.is_finite());
        if size == 0 || !labelled.iter().all(|(_, e)| fits(e)) {
            return Err(TrainError::Unusable);
        }
        let people: Vec<PersonId> =
            labelled.iter().map(|(p, _)| (*p).clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let row_of: BTreeMap<&PersonId, usize> = people.iter().enumerate().map(|(i, p)| (p, i)).collect();
        let labels: Vec<usize> = labelled.iter().filter_map(|(p, _)| row_of.get(p).copied()).collect();
        let mut values = Array2::<f64>::ones((labelled.len(), size + 1));
        for (mut row, (_, embedding)) in values.rows_mut().into_iter().zip(labelled) {
            row.iter_mut().zip(embedding.values.iter()).for_each(|(v, e)| *v = f64::from(*e));
        }
        // One scale for all values: the directions keep the lengths that the embedder gave them.
        let mean = values.slice(s![.., ..size]).mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(size));
        let mut centred = values.slice_mut(s![.., ..size]);
        centred -= &mean;
        let spread = (centred.iter().map(|v| v * v).sum::<f64>() / centred.len() as f64).sqrt().max(1e-9);
        centred /= spread;
        let fitted = minimise(Loss::new(values, labels, people.len(), stop.clone()))?;
        let mut weights = Array2::from_shape_vec((people.len(), size + 1), fitted).map_err(|_| TrainError::Unusable)?;
        // Back to raw values, so that a probe needs no preparation.
        for mut row in weights.rows_mut() {
            row.slice_mut(s![..size]).mapv_inplace(|w| w / spread);
            let shift = row.slice(s![..size]).dot(&mean);
            row[size] -= shift;
        }
        if !weights.iter().all(|w| w.is_finite()) {
            return Err(TrainError::Optimiser("it found no finite weights".into()));
        }
        let weights = weights.mapv(|w| w as f32);
        Ok(Self { model: first.model.clone(), people, faces: labelled.len(), state, trained: now, weights })
    }

    /// Probabilities, 0 to 1 with sum 1, among those of `people` that it was trained on. `None` for an embedding of another model.
    pub fn chances<'a>(
        &self,
        probe: &Embedding,
        people: impl IntoIterator<Item = &'a PersonId>,
    ) -> Option<BTreeMap<PersonId, f32>> {
        let size = self.weights.ncols().checked_sub(1)?;
        if probe.model != self.model || probe.values.len() != size {
            return None;
        }
        let logit = |person: &PersonId| {
            let row = self.weights.row(self.people.binary_search(person).ok()?);
            Some(row.iter().zip(probe.values.iter()).map(|(w, v)| w * v).sum::<f32>() + row[size])
        };
        let logits: Vec<(&PersonId, f32)> =
            people.into_iter().filter_map(|p| Some((p, logit(p)?))).filter(|(_, l)| l.is_finite()).collect();
        let most = logits.iter().map(|(_, l)| *l).fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = logits.iter().map(|(_, l)| (l - most).exp()).sum();
        Some(logits.into_iter().map(|(p, l)| (p.clone(), (l - most).exp() / total)).collect())
    }

    /// The model whose embeddings it takes.
    pub fn model(&self) -> &ModelId {
        &self.model
    }

    /// People it was trained on, by id.
    pub fn people(&self) -> &[PersonId] {
        &self.people
    }

    /// Faces it was trained on.
    pub fn faces(&self) -> usize {
        self.faces
    }

    /// The gallery it was trained on.
    pub fn state(&self) -> &GalleryState {
        &self.state
    }

    /// When it was trained.
    pub fn trained(&self) -> Timestamp {
        self.trained
    }
}

/// Whether there is something to tell apart, and not too much.
pub(super) fn enough<'a>(faces: impl IntoIterator<Item = &'a PersonId>) -> Result<(), TrainError> {
    let mut counts: BTreeMap<&PersonId, usize> = BTreeMap::new();
    faces.into_iter().for_each(|p| *counts.entry(p).or_default() += 1);
    let (people, several) = (counts.len(), counts.values().filter(|n| **n > 1).count());
    let all: usize = counts.values().sum();
    let taken: usize = counts.values().map(|n| (*n).min(FACES_EACH)).sum();
    if several < LEAST_PEOPLE || all < LEAST_FACES {
        return Err(TrainError::TooLittle { people, several, faces: all });
    }
    if people > MOST_PEOPLE || taken > MOST_FACES {
        return Err(TrainError::TooMuch { people, faces: taken });
    }
    Ok(())
}

/// The best faces of each person.
pub(super) fn best_of_each(faces: &[EnrolledFace]) -> Vec<(&PersonId, &Embedding)> {
    let mut sorted: Vec<&EnrolledFace> = faces.iter().collect();
    sorted.sort_by(|a, b| a.person.cmp(&b.person).then(b.quality.total_cmp(&a.quality)).then(a.id.cmp(&b.id)));
    let of_one = sorted.chunk_by(|a, b| a.person == b.person);
    of_one.flat_map(|faces| faces.iter().take(FACES_EACH)).map(|f| (&f.person, &f.embedding)).collect()
}

/// Cross entropy of the softmax, each person weighing the same, plus the penalty; parameters are the rows of the weights.
struct Loss {
    /// A row a face; the last column is one.
    values: Array2<f64>,
    labels: Vec<usize>,
    /// Weight of each face.
    counts: Vec<f64>,
    people: usize,
    stop: CancellationToken,
}

impl Loss {
    fn new(values: Array2<f64>, labels: Vec<usize>, people: usize, stop: CancellationToken) -> Self {
        let mut faces = vec![0f64; people];
        labels.iter().for_each(|l| faces[*l] += 1.0);
        let each = labels.len() as f64 / people.max(1) as f64;
        let counts = labels.iter().map(|l| each / faces[*l]).collect();
        Self { values, labels, counts, people, stop }
    }

    fn weights<'a>(&self, parameters: &'a [f64]) -> Result<ArrayView2<'a, f64>, Error> {
        if self.stop.is_cancelled() {
            return Err(TrainError::Stopped.into());
        }
        Ok(ArrayView2::from_shape((self.people, self.values.ncols()), parameters)?)
    }

    /// Log probabilities: a row a face, a column a person.
    fn log_chances(&self, weights: &ArrayView2<'_, f64>) -> Array2<f64> {
        let mut logits = self.values.dot(&weights.t());
        for mut row in logits.rows_mut() {
            let most = row.fold(f64::NEG_INFINITY, |a, b| a.max(*b));
            let total = row.fold(0.0, |sum, l| sum + (l - most).exp()).ln() + most;
            row -= total;
        }
        logits
    }
}

impl CostFunction for Loss {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, parameters: &Self::Param) -> Result<f64, Error> {
        let weights = self.weights(parameters)?;
        let logs = self.log_chances(&weights);
        let loss: f64 = self.labels.iter().zip(&self.counts).enumerate().map(|(i, (l, n))| -n * logs[[i, *l]]).sum();
        let size = weights.ncols() - 1;
        let penalty = weights.slice(s![.., ..size]).iter().map(|w| w * w).sum::<f64>();
        Ok(loss + 0.5 * PENALTY * penalty)
    }
}

impl Gradient for Loss {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, parameters: &Self::Param) -> Result<Vec<f64>, Error> {
        let weights = self.weights(parameters)?;
        let mut errors = self.log_chances(&weights);
        errors.mapv_inplace(f64::exp);
        for (i, (label, count)) in self.labels.iter().zip(&self.counts).enumerate() {
            errors[[i, *label]] -= 1.0;
            errors.row_mut(i).mapv_inplace(|e| e * count);
        }
        let mut gradient = errors.t().dot(&self.values);
        let size = weights.ncols() - 1;
        Zip::from(gradient.slice_mut(s![.., ..size]))
            .and(weights.slice(s![.., ..size]))
            .for_each(|g, w| *g += PENALTY * w);
        Ok(gradient.iter().copied().collect())
    }
}

fn minimise(loss: Loss) -> Result<Vec<f64>, TrainError> {
    let start = vec![0f64; loss.people * loss.values.ncols()];
    let failed = |error: Error| match error.downcast::<TrainError>() {
        Ok(ours) => ours,
        Err(other) => TrainError::Optimiser(other.to_string()),
    };
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY)
        .with_tolerance_grad(1e-4)
        .and_then(|s| s.with_tolerance_cost(1e-7))
        .map_err(failed)?;
    let run = Executor::new(loss, solver).configure(|state| state.param(start).max_iters(ITERATIONS)).run();
    let mut result = run.map_err(failed)?;
    result.state.take_best_param().ok_or_else(|| TrainError::Optimiser("it found no weights".into()))
}

#[cfg(test)]
#[path = "classifier_tests.rs"]
pub(super) mod tests;
