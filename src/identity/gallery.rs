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
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio_util::sync::CancellationToken;

use crate::{
    face::Embedding,
    identity::{
        AlikeRange, EnrolledFace, FaceCrop, GalleryError, GalleryStore, Person, Route, VectorIndex,
        classifier::GalleryState, person::ErasureReceipt,
    },
    ids::{FaceId, ModelId, PersonId},
    telemetry,
    time::Timestamp,
};

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
    /// Who is said to look alike with the model; `None` looks for nobody.
    pub alike: Option<AlikeRange>,
    /// Whether faces are added to people with a legal basis only.
    pub require_legal_basis: bool,
}

struct Inner {
    route: Route,
    require_legal_basis: bool,
    store: Arc<dyn GalleryStore>,
    /// The model that is searched, and those on their way in and out.
    sides: RwLock<Sides>,
    people: RwLock<HashMap<PersonId, Arc<Person>>>,
    revision: AtomicU64,
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
        let side = Arc::new(Side::new(model, index, settings.alike));
        let indexed = side.index.face_ids().await?.len();
        if indexed > 0 && store.people(None, 1).await?.is_empty() {
            return Err(GalleryError::ForeignIndex { backend: side.index.backend(), faces: indexed });
        }
        side.read_calibration(&*store).await?;
        let inner = Inner {
            route: settings.route,
            require_legal_basis: settings.require_legal_basis,
            store,
            sides: RwLock::new(Sides { in_use: side, joining: None, leaving: None }),
            people: RwLock::default(),
            revision: AtomicU64::new(1),
            erasures: AtomicU64::new(0),
            training_stop: std::sync::Mutex::default(),
            training: Mutex::new(()),
            changed: Notify::new(),
            unsettled: AtomicBool::new(false),
            changes: Mutex::new(()),
        };
        let state = inner.repair().await?;
        let side = inner.in_use();
        side.learn(inner.kept_classifier(&side, &state).await?);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Erases everybody whose time is over; the receipts.
    ///
    /// # Errors
    /// When the store or the index fails; the rest is tried again at the next call.
    pub async fn erase_expired(&self, now: Timestamp) -> Result<Vec<ErasureReceipt>, GalleryError> {
        let over: Vec<PersonId> = {
            let people = self.inner.people.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let over = people.values().filter(|p| p.terms.expires.is_some_and(|end| end <= now));
            over.map(|person| person.id.clone()).collect()
        };
        let mut receipts = Vec::new();
        for person in over {
            receipts.push(self.erase_person(&person, now).await?);
        }
        Ok(receipts)
    }

    /// The store, for reading and for changes that do not touch embeddings.
    pub fn store(&self) -> &Arc<dyn GalleryStore> {
        &self.inner.store
    }

    /// Whether the index would answer a search now.
    ///
    /// # Errors
    /// When it does not answer, or not as it should.
    pub async fn reachable(&self) -> Result<(), GalleryError> {
        self.inner.in_use().index.reachable().await
    }

    /// Name of the index's back end.
    pub fn backend(&self) -> &'static str {
        self.inner.in_use().index.backend()
    }

    /// The model whose embeddings are searched. A move to another model changes it.
    pub fn model(&self) -> ModelId {
        self.inner.in_use().model.clone()
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

    /// Adds a face to store and index: both, or neither. With `crop` its picture is kept, so that another model can embed it.
    ///
    /// # Errors
    /// When the embedding is of another model, there is no such person or no legal basis where one is asked for, or store or index fails.
    pub async fn add_face(&self, face: EnrolledFace, crop: Option<&FaceCrop>) -> Result<(), GalleryError> {
        let inner = &self.inner;
        let _turn = inner.turn().await?;
        if inner.require_legal_basis && self.person(&face.person).is_some_and(|p| p.terms.ground.is_none()) {
            return Err(inner.refused(GalleryError::NoLegalBasis(face.person)));
        }
        let side = inner.in_use();
        side.check_model(&face.embedding).map_err(|e| inner.refused(e))?;
        inner.store.insert_face(&face, crop).await.map_err(|e| inner.refused(e))?;
        if let Err(error) = side.index.upsert(std::slice::from_ref(&face)).await {
            let undone = inner.store.remove_face(&face.person, &face.id).await;
            // A timeout may hide that the index has it: only both removals make it clean.
            let forgotten = side.index.remove_face(&face.id).await;
            if undone.is_ok() && forgotten.is_ok() {
                inner.unsettled.store(false, Ordering::Release);
            }
            return Err(error);
        }
        side.count(side.faces.load(Ordering::Relaxed) + 1);
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
        for side in inner.all_sides() {
            side.index.remove_face(face).await?;
        }
        if let Err(error) = inner.store.remove_face(person, face).await {
            inner.put_back().await;
            return Err(error);
        }
        let side = inner.in_use();
        let counted = faces.iter().any(|f| f.id == *face && f.embedding.model == side.model);
        side.count(side.faces.load(Ordering::Relaxed).saturating_sub(u64::from(counted)));
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
        let faces = inner.store.faces(person).await.map_err(|e| inner.refused(e))?;
        inner.unlearn();
        for side in inner.all_sides() {
            side.index.remove_person(person).await?;
        }
        let receipt = match inner.store.erase_person(person, now).await {
            Ok(receipt) => receipt,
            Err(error) => {
                inner.put_back().await;
                return Err(error);
            }
        };
        inner.people.write().unwrap_or_else(PoisonError::into_inner).remove(person);
        // Once more: a training that began since has read the faces that are gone now.
        inner.unlearn();
        for side in inner.all_sides() {
            side.negatives.write().unwrap_or_else(PoisonError::into_inner).remove(person);
            side.alike.write().unwrap_or_else(PoisonError::into_inner).remove(person);
        }
        inner.faces_changed([]);
        let side = inner.in_use();
        let counted = faces.iter().filter(|face| face.embedding.model == side.model).count() as u64;
        side.count(side.faces.load(Ordering::Relaxed).saturating_sub(counted));
        inner.settled();
        Ok(receipt)
    }

    /// Keeps "this face is not that person"; from then on such probes are not named so.
    ///
    /// # Errors
    /// When the embedding is of another model, there is no such person, or the store fails.
    pub async fn add_negative(&self, person: &PersonId, probe: &Embedding) -> Result<(), GalleryError> {
        let inner = &self.inner;
        let _turn = inner.turn().await?;
        let side = inner.in_use();
        side.check_model(probe).map_err(|e| inner.refused(e))?;
        if self.person(person).is_none() {
            return Err(inner.refused(GalleryError::PersonNotFound(person.clone())));
        }
        inner.store.insert_negative(person, probe).await.map_err(|e| inner.refused(e))?;
        let mut negatives = side.negatives.write().unwrap_or_else(PoisonError::into_inner);
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
        let side = inner.in_use();
        let mut negatives = side.negatives.write().unwrap_or_else(PoisonError::into_inner);
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

    /// People of whom none of `faces` is.
    pub fn faceless(&self, faces: &[EnrolledFace]) -> Vec<PersonId> {
        let with: BTreeSet<&PersonId> = faces.iter().map(|f| &f.person).collect();
        let people = self.inner.people.read().unwrap_or_else(PoisonError::into_inner);
        let mut without: Vec<PersonId> = people.keys().filter(|p| !with.contains(p)).cloned().collect();
        without.sort();
        without
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
        if !matches!(error, GalleryError::Storage(_) | GalleryError::Unavailable(_) | GalleryError::Disk(_)) {
            self.unsettled.store(false, Ordering::Release);
        }
        error
    }

    fn sides(&self) -> RwLockReadGuard<'_, Sides> {
        self.sides.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_use(&self) -> Arc<Side> {
        self.sides().in_use.clone()
    }

    /// Every model whose index holds faces.
    fn all_sides(&self) -> Vec<Arc<Side>> {
        let sides = self.sides();
        [Some(&sides.in_use), sides.joining.as_ref(), sides.leaving.as_ref()].into_iter().flatten().cloned().collect()
    }

    /// Faces of these people came or went, or somebody was erased: look-alikes and classifier are to follow.
    fn faces_changed(&self, people: impl IntoIterator<Item = PersonId>) {
        let side = self.in_use();
        if side.range.is_some() {
            side.unlooked.lock().unwrap_or_else(PoisonError::into_inner).extend(people);
        }
        side.learned.write().unwrap_or_else(PoisonError::into_inner).stale = true;
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

    /// Makes memory and the index of the model in use hold exactly what the store holds.
    async fn repair(&self) -> Result<GalleryState, GalleryError> {
        let mut people = HashMap::new();
        let mut after: Option<PersonId> = None;
        loop {
            let page = self.store.people(after.as_ref(), PEOPLE_PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.id.clone());
            people.extend(page.into_iter().map(|(person, _)| (person.id.clone(), Arc::new(person))));
        }
        *self.people.write().unwrap_or_else(PoisonError::into_inner) = people;
        let side = self.in_use();
        let state = side.repair(&*self.store).await?;
        self.faces_changed(self.all_to_look_at(&side));
        telemetry::gallery_faces(side.faces.load(Ordering::Relaxed));
        Ok(state)
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
#[path = "gallery_side.rs"]
mod side;
use side::{Side, Sides};
#[path = "gallery_follow.rs"]
mod following;
#[path = "gallery_move.rs"]
mod moving;
pub use following::GalleryChange;

#[cfg(test)]
#[path = "gallery_fakes.rs"]
mod fakes;
#[cfg(test)]
#[path = "gallery_follow_tests.rs"]
mod follow_tests;
#[cfg(test)]
#[path = "gallery_learning_tests.rs"]
mod learning_tests;
#[cfg(test)]
#[path = "gallery_tests.rs"]
mod tests;
