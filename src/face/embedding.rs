//! Embeddings (templates): vectors tagged with the model that made them, and their similarity.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::ModelId;

/// How two embeddings of a model are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// Cosine of unit vectors; similarity is the cosine, -1 to 1.
    Cosine,
    /// Euclidean distance of the raw vectors; similarity is one minus the distance, at most 1.
    Euclidean,
}

/// A vector in its model's own space.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The model that made it.
    pub model: ModelId,
    /// How it is compared.
    pub distance: Distance,
    /// The values; finite, length fixed by the model; unit length for cosine models.
    pub values: Arc<[f32]>,
}

/// Two embeddings that can't be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "embeddings of {left} ({left_len} values) and {right} ({right_len} values) can't be compared: re-embed one of them"
)]
pub struct IncomparableError {
    /// Model of the first.
    pub left: ModelId,
    /// Length of the first.
    pub left_len: usize,
    /// Model of the second.
    pub right: ModelId,
    /// Length of the second.
    pub right_len: usize,
}

impl Distance {
    /// Similarity of two vectors of equal length: higher is closer.
    pub fn similarity(self, a: &[f32], b: &[f32]) -> f32 {
        match self {
            Self::Cosine => a.iter().zip(b).map(|(x, y)| x * y).sum(),
            Self::Euclidean => 1.0 - a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt(),
        }
    }
}

impl Embedding {
    /// Similarity to another embedding: higher is closer.
    ///
    /// # Errors
    /// When the models or lengths differ.
    pub fn similarity(&self, other: &Self) -> Result<f32, IncomparableError> {
        if self.model != other.model || self.values.len() != other.values.len() {
            return Err(IncomparableError {
                left: self.model.clone(),
                left_len: self.values.len(),
                right: other.model.clone(),
                right_len: other.values.len(),
            });
        }
        Ok(self.distance.similarity(&self.values, &other.values))
    }

    /// The weighted mean of embeddings of one model, unit length for cosine models. `None` when there are none, when
    /// they differ in model, or when all weights are zero.
    pub fn weighted_mean(items: &[(&Embedding, f32)]) -> Option<Embedding> {
        let first = items.first()?.0;
        let mut sum = vec![0f32; first.values.len()];
        let mut total = 0.0;
        for (e, w) in items {
            if e.model != first.model || e.values.len() != sum.len() {
                return None;
            }
            total += w;
            sum.iter_mut().zip(e.values.iter()).for_each(|(s, v)| *s += w * v);
        }
        let norm = match first.distance {
            Distance::Euclidean => total,
            Distance::Cosine => sum.iter().map(|v| v * v).sum::<f32>().sqrt(),
        };
        if norm.is_nan() || norm <= 0.0 {
            return None;
        }
        sum.iter_mut().for_each(|v| *v /= norm);
        Some(Embedding { model: first.model.clone(), distance: first.distance, values: sum.into() })
    }
}
