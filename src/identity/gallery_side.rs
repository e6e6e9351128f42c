//! One model's part of the gallery: its index, its negative exemplars, its calibration.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Inner, learning::Learned};
use crate::{
    face::{Embedding, embedding::IncomparableError},
    identity::{Alike, AlikeRange, Calibration, GalleryError, GalleryStore, VectorIndex, classifier::GalleryState},
    ids::{ModelId, PersonId},
    telemetry,
};

/// Faces sent to the index in one call.
pub(super) const CHUNK: usize = 256;

/// The models that the gallery holds an index of.
pub(super) struct Sides {
    /// Searched and enrolled with.
    pub(super) in_use: Arc<Side>,
    /// Being filled; not searched yet.
    pub(super) joining: Option<Arc<Side>>,
    /// In use until a moment ago: answers questions that were begun with it.
    pub(super) leaving: Option<Arc<Side>>,
}

pub(super) struct Side {
    pub(super) model: ModelId,
    pub(super) index: Arc<dyn VectorIndex>,
    pub(super) negatives: RwLock<HashMap<PersonId, Vec<Embedding>>>,
    /// Faces that the model embedded.
    pub(super) faces: AtomicU64,
    /// What was learned about the model's thresholds here.
    pub(super) calibration: RwLock<Option<Calibration>>,
    /// Who is said to look alike; `None` looks for nobody.
    pub(super) range: Option<AlikeRange>,
    /// Who looks like whom.
    pub(super) alike: RwLock<Alike>,
    /// People whose faces changed since their look-alikes were looked for; at most everybody.
    pub(super) unlooked: Mutex<BTreeSet<PersonId>>,
    /// The classifier and what is known of it.
    pub(super) learned: RwLock<Learned>,
}

impl Side {
    pub(super) fn new(model: ModelId, index: Arc<dyn VectorIndex>, range: Option<AlikeRange>) -> Self {
        Self {
            model,
            index,
            negatives: RwLock::default(),
            faces: AtomicU64::new(0),
            calibration: RwLock::default(),
            range,
            alike: RwLock::default(),
            unlooked: Mutex::default(),
            learned: RwLock::default(),
        }
    }

    /// Replaces what is known of the classifier.
    pub(super) fn learn(&self, learned: Learned) {
        *self.learned.write().unwrap_or_else(PoisonError::into_inner) = learned;
    }

    /// Reads the calibration as the store holds it.
    pub(super) async fn read_calibration(&self, store: &dyn GalleryStore) -> Result<(), GalleryError> {
        let kept = store.calibration(&self.model).await?;
        *self.calibration.write().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(())
    }

    /// Makes negative exemplars and index hold exactly what the store holds, and says which faces these are.
    pub(super) async fn repair(&self, store: &dyn GalleryStore) -> Result<GalleryState, GalleryError> {
        let mut negatives: HashMap<PersonId, Vec<Embedding>> = HashMap::new();
        for (person, probe) in store.negatives(&self.model).await? {
            negatives.entry(person).or_default().push(probe);
        }
        *self.negatives.write().unwrap_or_else(PoisonError::into_inner) = negatives;
        let mut wrong = self.index.face_ids().await?;
        let mut missing = store.all_faces(&self.model).await?;
        self.faces.store(missing.len() as u64, Ordering::Relaxed);
        let state = GalleryState::of(missing.iter().map(|f| (&f.id, &f.person)));
        missing.retain(|face| !wrong.remove(&face.id));
        for face in &wrong {
            self.index.remove_face(face).await?;
        }
        for chunk in missing.chunks(CHUNK) {
            self.index.upsert(chunk).await?;
        }
        if !(wrong.is_empty() && missing.is_empty()) {
            let (added, removed, model) = (missing.len(), wrong.len(), &self.model);
            tracing::info!(added, removed, %model, "face index brought in line with the store");
        }
        Ok(state)
    }

    pub(super) fn count(&self, faces: u64) {
        self.faces.store(faces, Ordering::Relaxed);
        telemetry::gallery_faces(faces);
    }

    pub(super) fn check_model(&self, embedding: &Embedding) -> Result<(), GalleryError> {
        if embedding.model == self.model {
            return Ok(());
        }
        let (left, len) = (embedding.model.clone(), embedding.values.len());
        // Another model's length is not known here; the ids say what is wrong.
        Err(IncomparableError { left, left_len: len, right: self.model.clone(), right_len: len }.into())
    }
}

impl Inner {
    /// The side that can answer a probe: that of its model, in use now or when the question was begun.
    pub(super) fn side_of(&self, probe: &Embedding) -> Result<Arc<Side>, GalleryError> {
        let sides = self.sides();
        match &sides.leaving {
            Some(leaving) if leaving.model == probe.model => Ok(leaving.clone()),
            _ => sides.in_use.check_model(probe).map(|()| sides.in_use.clone()),
        }
    }
}
