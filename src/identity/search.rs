//! Port: the nearest enrolled faces to a probe, grouped by person.

use async_trait::async_trait;

use super::person::{EnrolledFace, GalleryError};
use crate::{
    face::Embedding,
    ids::{FaceId, PersonId},
};

/// What a search may return.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchQuery {
    /// At most this many people, nearest first.
    pub limit: usize,
    /// Only these people; `None` means everyone.
    pub people: Option<std::collections::BTreeSet<PersonId>>,
}

/// A person with its nearest face.
#[derive(Debug, Clone, PartialEq)]
pub struct PersonHit {
    /// The person.
    pub person: PersonId,
    /// The person's face nearest to the probe.
    pub face: FaceId,
    /// Similarity of that face as [`Embedding::similarity`] defines it: cosine, or one minus Euclidean distance.
    pub similarity: f32,
}

/// Finds nearest faces. After a method returned, the next search sees its effect.
#[async_trait]
pub trait VectorIndex: Send + Sync {
    /// Adds or replaces faces, all of one model.
    async fn upsert(&self, faces: &[EnrolledFace]) -> Result<(), GalleryError>;
    /// Removes a face; nothing happens when it is not there.
    async fn remove_face(&self, face: &FaceId) -> Result<(), GalleryError>;
    /// Removes all faces of a person; nothing happens when there are none.
    async fn remove_person(&self, person: &PersonId) -> Result<(), GalleryError>;
    /// Distinct people with their nearest face, nearest first.
    async fn search(&self, probe: &Embedding, query: &SearchQuery) -> Result<Vec<PersonHit>, GalleryError>;
    /// Ids of all faces, to compare with the store at start.
    async fn face_ids(&self) -> Result<std::collections::BTreeSet<FaceId>, GalleryError>;
    /// Name of the back end: `exact` or `qdrant`.
    fn backend(&self) -> &'static str;
}
