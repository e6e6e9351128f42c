//! Port: the nearest enrolled faces to a probe, grouped by person.

use async_trait::async_trait;

use super::{
    basis::{MOST_FACES, NearFace},
    person::{EnrolledFace, GalleryError},
};
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

/// A person with its nearest faces.
#[derive(Debug, Clone, PartialEq)]
pub struct PersonHit {
    /// The person.
    pub person: PersonId,
    /// The person's face nearest to the probe.
    pub face: FaceId,
    /// Similarity of that face as [`Embedding::similarity`] defines it: cosine, or one minus Euclidean distance.
    pub similarity: f32,
    /// The next nearest faces of the person, nearest first, at most [`MOST_FACES`] with the nearest.
    pub more: Vec<NearFace>,
}

impl PersonHit {
    /// A person by its faces; `None` without faces. The nearest [`MOST_FACES`] are kept.
    pub fn of(person: PersonId, mut faces: Vec<NearFace>) -> Option<Self> {
        faces.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        faces.truncate(MOST_FACES);
        let mut faces = faces.into_iter();
        let NearFace { face, similarity } = faces.next()?;
        Some(Self { person, face, similarity, more: faces.collect() })
    }

    /// The nearest faces, nearest first.
    pub fn near_faces(&self) -> Vec<NearFace> {
        let first = NearFace { face: self.face.clone(), similarity: self.similarity };
        std::iter::once(first).chain(self.more.iter().cloned()).take(MOST_FACES).collect()
    }
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
    /// Distinct people with their nearest faces, nearest person first.
    async fn search(&self, probe: &Embedding, query: &SearchQuery) -> Result<Vec<PersonHit>, GalleryError>;
    /// Removes every face, and what was made to hold them; it can be filled again.
    async fn clear(&self) -> Result<(), GalleryError>;
    /// Ids of all faces, to compare with the store at start.
    async fn face_ids(&self) -> Result<std::collections::BTreeSet<FaceId>, GalleryError>;
    /// Whether a search could be answered now; asked every few seconds. An index in memory always can.
    async fn reachable(&self) -> Result<(), GalleryError> {
        Ok(())
    }
    /// Name of the back end: `exact` or `qdrant`.
    fn backend(&self) -> &'static str;
}
