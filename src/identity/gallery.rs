//! The gallery: the store (the truth) and the index (who is nearest) joined.
//!
//! In: people, enrolled faces, probes. Out: [`super::Decision`]s with the person's name. Names, watchlists and negative exemplars are
//! kept in memory; look-ups take short locks that are never held while waiting.
//!
//! Order of writes: a face is added to the store first and taken back if the index refuses it; it is removed from the index first,
//! so that nobody is recognised by a face that was reported as erased. Changes go one after the other. Should one be
//! interrupted (a caller that goes away, a store that fails twice), memory and index are compared with the store before the next.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio_util::sync::CancellationToken;

use crate::{
    face::{Embedding, embedding::IncomparableError},
    identity::{
        Alike, AlikeRange, Calibration, EnrolledFace, GalleryError, GalleryStore, Person, Route, VectorIndex,
        classifier::GalleryState, person::ErasureReceipt,
    },
    ids::{FaceId, ModelId, PersonId},
    telemetry,
    time::Timestamp,
};

use learning::Learned;

/// Faces sent to the index in one call when it is repaired.
const REPAIR_CHUNK: usize = 256;
/// People read from the store in one call.
const PEOPLE_PAGE: usize = 500;

/// The gallery: who is known, and who is nearest. Cheap to clone.
#[derive(Clone)]
pub struct Gallery {
    inner: Arc<Inner>,
}

/// How a gallery decides.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GallerySettings {
    /// What chooses among the people who are near enough.
    pub route: Route,
    /// Who is said to look alike; `None` looks for nobody.
    pub alike: Option<AlikeRange>,
}

struct Inner {
    settings: GallerySettings,
    store: Arc<dyn GalleryStore>,
    index: Arc<dyn VectorIndex>,
    model: ModelId,
    people: RwLock<HashMap<PersonId, Arc<Person>>>,
    negatives: RwLock<HashMap<PersonId, Vec<Embedding>>>,
    revision: AtomicU64,
    /// Enrolled faces of the model.
    faces: AtomicU64,
    /// What was learned about the model's thresholds here.
    calibration: RwLock<Option<Calibration>>,
    /// Who looks like whom.
    alike: RwLock<Alike>,
    /// People whose faces changed since their look-alikes were looked for; at most everybody.
    unlooked: std::sync::Mutex<BTreeSet<PersonId>>,
    /// The classifier and what is known of it.
    learned: RwLock<Learned>,
    /// Counts up with every erasure: what was learned from a person who is gone must not be kept.
    erasures: AtomicU64,
    /// Stops the training under way.
    training_stop: std::sync::Mutex<CancellationToken>,
    /// One training at a time.
    training: Mutex<()>,
    /// Faces changed: look-alikes and classifier are to follow.
    changed: Notify,
    /// Store and index may differ: a change did not come to its end.
    unsettled: AtomicBool,
    /// One change at a time. Held while waiting, on purpose; nothing that only reads takes it.
    changes: Mutex<()>,
}

impl Gallery {
    /// Opens the gallery for a model: compares the index with the store and repairs the index (adds, removes) where they differ.
    ///
    /// # Errors
    /// When the store or the index fails, or the index holds faces although the store knows nobody: it is somebody else's.
    pub async fn open(
        store: Arc<dyn GalleryStore>,
        index: Arc<dyn VectorIndex>,
        model: ModelId,
        settings: GallerySettings,
    ) -> Result<Self, GalleryError> {
        let inner = Inner {
            settings,
            store,
            index,
            model,
            people: RwLock::default(),
            negatives: RwLock::default(),
            revision: AtomicU64::new(1),
            faces: AtomicU64::new(0),
            calibration: RwLock::default(),
            alike: RwLock::default(),
            unlooked: std::sync::Mutex::default(),
            learned: RwLock::default(),
            erasures: AtomicU64::new(0),
            training_stop: std::sync::Mutex::default(),
            training: Mutex::new(()),
            changed: Notify::new(),
            unsettled: AtomicBool::new(false),
            changes: Mutex::new(()),
        };
        let indexed = inner.index.face_ids().await?.len();
        if indexed > 0 && inner.store.people(None, 1).await?.is_empty() {
            return Err(GalleryError::ForeignIndex { backend: inner.index.backend(), faces: indexed });
        }
        let state = inner.repair().await?;
        inner.load_classifier(&state).await?;
        *inner.calibration.write().unwrap_or_else(PoisonError::into_inner) =
            inner.store.calibration(&inner.model).await?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The store, for reading and for changes that do not touch embeddings.
    pub fn store(&self) -> &Arc<dyn GalleryStore> {
        &self.inner.store
    }

    /// Name of the index's back end.
    pub fn backend(&self) -> &'static str {
        self.inner.index.backend()
    }

    /// The model whose embeddings are searched.
    pub fn model(&self) -> &ModelId {
        &self.inner.model
    }

    /// Adds a person.
    ///
    /// # Errors
    /// When the id is taken or the store fails.
    pub async fn create_person(&self, person: Person) -> Result<Person, GalleryError> {
        let _turn = self.inner.turn().await?;
        self.inner.store.insert_person(&person).await.map_err(|e| self.inner.refused(e))?;
        self.inner.remember(&person);
        Ok(person)
    }

    /// Changes a person (revision checked): `person.revision` must be one above the stored one.
    ///
    /// # Errors
    /// When there is no such person, somebody else changed it meanwhile, or the store fails.
    pub async fn update_person(&self, person: Person) -> Result<Person, GalleryError> {
        let _turn = self.inner.turn().await?;
        self.inner.store.update_person(&person).await.map_err(|e| self.inner.refused(e))?;
        self.inner.remember(&person);
        Ok(person)
    }

    /// Adds a face to store and index: both, or neither.
    ///
    /// # Errors
    /// When the embedding is of another model, there is no such person, or store or index fails.
    pub async fn add_face(&self, face: EnrolledFace) -> Result<(), GalleryError> {
        let inner = &self.inner;
        inner.check_model(&face.embedding)?;
        let _turn = inner.turn().await?;
        inner.store.insert_face(&face).await.map_err(|e| inner.refused(e))?;
        if let Err(error) = inner.index.upsert(std::slice::from_ref(&face)).await {
            let undone = inner.store.remove_face(&face.person, &face.id).await;
            // A timeout may hide that the index has it: only both removals make it clean.
            let forgotten = inner.index.remove_face(&face.id).await;
            if undone.is_ok() && forgotten.is_ok() {
                inner.unsettled.store(false, Ordering::Release);
            }
            return Err(error);
        }
        inner.count(inner.faces.load(Ordering::Relaxed) + 1);
        inner.faces_changed([face.person]);
        inner.settled();
        Ok(())
    }

    /// Removes a face from both.
    ///
    /// # Errors
    /// When there is no such face, or store or index fails; then it is kept.
    pub async fn remove_face(&self, person: &PersonId, face: &FaceId) -> Result<(), GalleryError> {
        let inner = &self.inner;
        let _turn = inner.turn().await?;
        let faces = inner.store.faces(person).await.map_err(|e| inner.refused(e))?;
        if !faces.iter().any(|f| f.id == *face) {
            return Err(inner.refused(GalleryError::FaceNotFound(face.clone())));
        }
        inner.index.remove_face(face).await?;
        if let Err(error) = inner.store.remove_face(person, face).await {
            inner.put_back().await;
            return Err(error);
        }
        inner.count(inner.faces.load(Ordering::Relaxed).saturating_sub(1));
        inner.faces_changed([person.clone()]);
        inner.settled();
        Ok(())
    }

    /// Erases a person from both. From the moment this is called nobody is recognised as that person, unless it fails.
    ///
    /// # Errors
    /// When there is no such person, or store or index fails; it can be repeated.
    pub async fn erase_person(&self, person: &PersonId, now: Timestamp) -> Result<ErasureReceipt, GalleryError> {
        let inner = &self.inner;
        let _turn = inner.turn().await?;
        inner.store.person(person).await.map_err(|e| inner.refused(e))?;
        inner.unlearn();
        inner.index.remove_person(person).await?;
        let receipt = match inner.store.erase_person(person, now).await {
            Ok(receipt) => receipt,
            Err(error) => {
                inner.put_back().await;
                return Err(error);
            }
        };
        inner.people.write().unwrap_or_else(PoisonError::into_inner).remove(person);
        inner.negatives.write().unwrap_or_else(PoisonError::into_inner).remove(person);
        inner.alike.write().unwrap_or_else(PoisonError::into_inner).remove(person);
        inner.faces_changed([]);
        inner.count(inner.faces.load(Ordering::Relaxed).saturating_sub(u64::from(receipt.faces_removed)));
        inner.settled();
        Ok(receipt)
    }

    /// Keeps "this face is not that person"; from then on such probes are not named so.
    ///
    /// # Errors
    /// When the embedding is of another model, there is no such person, or the store fails.
    pub async fn add_negative(&self, person: &PersonId, probe: &Embedding) -> Result<(), GalleryError> {
        let inner = &self.inner;
        inner.check_model(probe)?;
        let _turn = inner.turn().await?;
        if self.person(person).is_none() {
            return Err(inner.refused(GalleryError::PersonNotFound(person.clone())));
        }
        inner.store.insert_negative(person, probe).await.map_err(|e| inner.refused(e))?;
        let mut negatives = inner.negatives.write().unwrap_or_else(PoisonError::into_inner);
        negatives.entry(person.clone()).or_default().push(probe.clone());
        drop(negatives);
        inner.settled();
        Ok(())
    }

    /// Takes "this face is not that person" back. Nothing happens when it was never said, or when the person is gone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_negative(&self, person: &PersonId, probe: &Embedding) -> Result<(), GalleryError> {
        let inner = &self.inner;
        let _turn = inner.turn().await?;
        inner.store.remove_negative(person, probe).await.map_err(|e| inner.refused(e))?;
        let mut negatives = inner.negatives.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_person) = negatives.get_mut(person)
            && let Some(place) = of_person.iter().rposition(|n| n == probe)
        {
            of_person.remove(place);
        }
        drop(negatives);
        inner.settled();
        Ok(())
    }

    /// Display name and watchlists of a person, from memory; `None` when there is no such person.
    pub fn person(&self, id: &PersonId) -> Option<Person> {
        let people = self.inner.people.read().unwrap_or_else(PoisonError::into_inner);
        people.get(id).map(|person| person.as_ref().clone())
    }

    /// Counts up with every change of people or faces: tracks decided unknown look again.
    pub fn revision(&self) -> u64 {
        self.inner.revision.load(Ordering::Acquire)
    }
}

impl Inner {
    /// Waits for the turn to change something, and brings store and index together if the last change was interrupted.
    async fn turn(&self) -> Result<MutexGuard<'_, ()>, GalleryError> {
        let turn = self.changes.lock().await;
        if self.unsettled.load(Ordering::Acquire) {
            self.repair().await?;
            self.settled();
        }
        // Stays set if this change is given up half-way: the caller of an API may go away at any await.
        self.unsettled.store(true, Ordering::Release);
        Ok(turn)
    }

    /// The store refused a removal that the index has done already: tries to undo it now, else before the next change.
    async fn put_back(&self) {
        if self.repair().await.is_ok() {
            self.unsettled.store(false, Ordering::Release);
        }
    }

    /// Passes an error on; those that say that nothing was done leave nothing to repair.
    fn refused(&self, error: GalleryError) -> GalleryError {
        if !matches!(error, GalleryError::Storage(_) | GalleryError::Unavailable(_)) {
            self.unsettled.store(false, Ordering::Release);
        }
        error
    }

    fn count(&self, faces: u64) {
        self.faces.store(faces, Ordering::Relaxed);
        telemetry::gallery_faces(faces);
    }

    /// Faces of these people came or went, or somebody was erased: look-alikes and classifier are to follow.
    fn faces_changed(&self, people: impl IntoIterator<Item = PersonId>) {
        if self.settings.alike.is_some() {
            self.unlooked.lock().unwrap_or_else(PoisonError::into_inner).extend(people);
        }
        self.learned.write().unwrap_or_else(PoisonError::into_inner).stale = true;
        self.changed.notify_one();
    }

    fn settled(&self) {
        self.unsettled.store(false, Ordering::Release);
        self.revision.fetch_add(1, Ordering::AcqRel);
    }

    fn remember(&self, person: &Person) {
        let mut people = self.people.write().unwrap_or_else(PoisonError::into_inner);
        people.insert(person.id.clone(), Arc::new(person.clone()));
        drop(people);
        self.settled();
    }

    /// Makes memory and index hold exactly what the store holds.
    async fn repair(&self) -> Result<GalleryState, GalleryError> {
        let mut people = HashMap::new();
        let mut after: Option<PersonId> = None;
        loop {
            let page = self.store.people(after.as_ref(), PEOPLE_PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.id.clone());
            people.extend(page.into_iter().map(|(person, _)| (person.id.clone(), Arc::new(person))));
        }
        let mut negatives: HashMap<PersonId, Vec<Embedding>> = HashMap::new();
        for (person, probe) in self.store.negatives(&self.model).await? {
            negatives.entry(person).or_default().push(probe);
        }
        *self.people.write().unwrap_or_else(PoisonError::into_inner) = people;
        *self.negatives.write().unwrap_or_else(PoisonError::into_inner) = negatives;
        let mut wrong = self.index.face_ids().await?;
        let mut missing = self.store.all_faces(&self.model).await?;
        self.count(missing.len() as u64);
        let state = GalleryState::of(missing.iter().map(|f| (&f.id, &f.person)));
        self.faces_changed(self.all_to_look_at());
        missing.retain(|face| !wrong.remove(&face.id));
        for face in &wrong {
            self.index.remove_face(face).await?;
        }
        for chunk in missing.chunks(REPAIR_CHUNK) {
            self.index.upsert(chunk).await?;
        }
        if !(wrong.is_empty() && missing.is_empty()) {
            tracing::info!(added = missing.len(), removed = wrong.len(), "face index brought in line with the store");
        }
        Ok(state)
    }

    fn check_model(&self, embedding: &Embedding) -> Result<(), GalleryError> {
        if embedding.model == self.model {
            return Ok(());
        }
        let (left, len) = (embedding.model.clone(), embedding.values.len());
        // Another model's length is not known here; the ids say what is wrong.
        Err(IncomparableError { left, left_len: len, right: self.model.clone(), right_len: len }.into())
    }
}

#[path = "gallery_deciding.rs"]
mod deciding;
#[path = "gallery_learning.rs"]
mod learning;
#[path = "gallery_alike.rs"]
mod looking_alike;
pub use learning::{ClassifierInfo, RouteInfo, Trained};
#[path = "gallery_calibration.rs"]
mod calibrating;
pub use calibrating::Calibrated;

#[cfg(test)]
#[path = "gallery_learning_tests.rs"]
mod learning_tests;
#[cfg(test)]
#[path = "gallery_tests.rs"]
mod tests;
