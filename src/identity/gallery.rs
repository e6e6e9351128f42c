//! Placeholder: store and index joined.

use std::sync::Arc;

use crate::{
    face::Embedding,
    identity::{
        Decision, EnrolledFace, GalleryError, GalleryStore, Person, Thresholds, VectorIndex, person::ErasureReceipt,
    },
    ids::{FaceId, ModelId, PersonId},
    time::Timestamp,
};

/// The gallery: who is known, and who is nearest. Cheap to clone.
#[derive(Clone)]
pub struct Gallery {}

impl Gallery {
    /// Opens the gallery for a model: compares the index with the store and repairs the index (adds, removes) where they differ.
    pub async fn open(
        _store: Arc<dyn GalleryStore>,
        _index: Arc<dyn VectorIndex>,
        _model: ModelId,
    ) -> Result<Self, GalleryError> {
        unimplemented!()
    }
    /// The store, for reading and for changes that do not touch embeddings.
    pub fn store(&self) -> &Arc<dyn GalleryStore> {
        unimplemented!()
    }
    /// Name of the index's back end.
    pub fn backend(&self) -> &'static str {
        unimplemented!()
    }
    /// Adds a person.
    pub async fn create_person(&self, _person: Person) -> Result<Person, GalleryError> {
        unimplemented!()
    }
    /// Changes a person (revision checked).
    pub async fn update_person(&self, _person: Person) -> Result<Person, GalleryError> {
        unimplemented!()
    }
    /// Adds a face to store and index.
    pub async fn add_face(&self, _face: EnrolledFace) -> Result<(), GalleryError> {
        unimplemented!()
    }
    /// Removes a face from both.
    pub async fn remove_face(&self, _person: &PersonId, _face: &FaceId) -> Result<(), GalleryError> {
        unimplemented!()
    }
    /// Erases a person from both.
    pub async fn erase_person(&self, _person: &PersonId, _now: Timestamp) -> Result<ErasureReceipt, GalleryError> {
        unimplemented!()
    }
    /// Keeps "this face is not that person"; from then on such probes are not named so.
    pub async fn add_negative(&self, _person: &PersonId, _probe: &Embedding) -> Result<(), GalleryError> {
        unimplemented!()
    }
    /// Who is it: nearest people on `watchlists` (empty means everyone), then the open-set decision with negatives applied.
    pub async fn identify(
        &self,
        _probe: &Embedding,
        _watchlists: &[String],
        _thresholds: &Thresholds,
    ) -> Result<(Decision, Option<Person>), GalleryError> {
        unimplemented!()
    }
    /// Display name and watchlists of a person, from memory; `None` when there is no such person.
    pub fn person(&self, _id: &PersonId) -> Option<Person> {
        unimplemented!()
    }
    /// Counts up with every change of people or faces: tracks decided unknown look again.
    pub fn revision(&self) -> u64 {
        unimplemented!()
    }
}
