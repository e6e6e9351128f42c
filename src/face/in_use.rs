//! The engine that the server uses now. A gallery that moves to another model replaces it while everything runs.

use std::sync::{Arc, PoisonError, RwLock};

use super::FaceEngine;

/// A place that holds the engine in use. Cheap to clone; all clones see the same engine.
///
/// Whoever answers a question takes the engine once ([`EngineInUse::now`]) and stays with it to the end: embeddings, thresholds and
/// the index that is asked then belong to one model.
#[derive(Clone)]
pub struct EngineInUse(Arc<RwLock<FaceEngine>>);

impl EngineInUse {
    /// With its first engine.
    pub fn new(engine: FaceEngine) -> Self {
        Self(Arc::new(RwLock::new(engine)))
    }

    /// The engine in use at this moment.
    pub fn now(&self) -> FaceEngine {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another engine in use; the one before, which others may still hold.
    pub fn replace(&self, engine: FaceEngine) -> FaceEngine {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), engine)
    }
}
