//! Port: the embeddings of enrolled faces by several models, the pictures they are made from, and which model is in use.
//!
//! Implemented by the same store as [`super::GalleryStore`]; the pictures and embeddings of a face go with the face.

use async_trait::async_trait;

use super::{EnrolledFace, FaceCrop, GalleryError};
use crate::{
    face::Embedding,
    ids::{FaceId, ModelId, PersonId},
};

/// How far a model's embeddings cover the gallery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// The model.
    pub model: ModelId,
    /// People with at least one face that the model embedded.
    pub people: u64,
    /// Faces that the model embedded.
    pub faces: u64,
}

/// An enrolled face as its owner knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaceNote {
    /// Whose face.
    pub person: PersonId,
    /// Its id.
    pub face: FaceId,
    /// Where the picture came from.
    pub source: String,
}

/// Keeps several embeddings a face. Every method is durable when it returns.
#[async_trait]
pub trait EmbeddingStore: Send + Sync {
    /// The model in use; `None` while nobody said ([`Self::settle_model`], [`Self::use_model`]).
    async fn model_in_use(&self) -> Result<Option<ModelId>, GalleryError>;
    /// Keeps which model is in use, unless one is kept: from then on faces have embeddings of others beside it.
    async fn settle_model(&self, model: &ModelId) -> Result<(), GalleryError>;
    /// Keeps the choice of a model; the index of `leaving`, in use until now, is in work until it is empty.
    async fn use_model(&self, model: &ModelId, leaving: &ModelId) -> Result<(), GalleryError>;
    /// The model whose index is being filled or emptied; after a crash it may hold faces of people who were erased since.
    async fn index_in_work(&self) -> Result<Option<ModelId>, GalleryError>;
    /// Keeps, or forgets, the model whose index is being filled or emptied.
    async fn set_index_in_work(&self, model: Option<&ModelId>) -> Result<(), GalleryError>;
    /// Every model with embeddings, by id.
    async fn coverage(&self) -> Result<Vec<Coverage>, GalleryError>;
    /// Number of faces whose picture is kept.
    async fn crops(&self) -> Result<u64, GalleryError>;
    /// The picture of a face, where it is kept. Fails when the person has no such face.
    async fn crop(&self, person: &PersonId, face: &FaceId) -> Result<Option<FaceCrop>, GalleryError>;
    /// Faces with a picture that the model has not embedded, with ids after `after`, by id, at most `limit`.
    async fn unembedded(
        &self,
        model: &ModelId,
        after: Option<&FaceId>,
        limit: usize,
    ) -> Result<Vec<(FaceId, FaceCrop)>, GalleryError>;
    /// Number of faces with a picture that the model has not embedded.
    async fn unembedded_count(&self, model: &ModelId) -> Result<u64, GalleryError>;
    /// Faces that the model has not embedded and can't, since no picture was kept; by person.
    async fn without_picture(&self, model: &ModelId) -> Result<Vec<FaceNote>, GalleryError>;
    /// Faces that the model has not embedded, with or without a picture; by person.
    async fn missing(&self, model: &ModelId) -> Result<Vec<FaceNote>, GalleryError>;
    /// Faces that the model embedded, with ids after `after`, by id, at most `limit`.
    async fn embedded(
        &self,
        model: &ModelId,
        after: Option<&FaceId>,
        limit: usize,
    ) -> Result<Vec<EnrolledFace>, GalleryError>;
    /// Every embedding of a face, by model; none when there is no such face.
    async fn embeddings(&self, face: &FaceId) -> Result<Vec<Embedding>, GalleryError>;
    /// Adds or replaces a face's embedding by the embedding's model; whether there still is such a face.
    async fn insert_embedding(&self, face: &FaceId, embedding: &Embedding) -> Result<bool, GalleryError>;
    /// Removes the embeddings of a model from faces that `instead` embedded too; how many. What it alone knows stays.
    async fn drop_embeddings(&self, model: &ModelId, instead: &ModelId) -> Result<u64, GalleryError>;
}
