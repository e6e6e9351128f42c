//! tmp
use crate::{face::*, identity::*, ids::*};
use std::collections::BTreeSet;
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QdrantSettings {
    pub url: String,
    pub api_key: crate::camera::spec::Secret,
}
pub struct QdrantIndex;
impl QdrantIndex {
    pub async fn connect(_: &QdrantSettings, _: &ModelId, _: usize, _: Distance) -> Result<Self, GalleryError> {
        Err(GalleryError::Unavailable("x".into()))
    }
}
#[async_trait::async_trait]
impl VectorIndex for QdrantIndex {
    async fn upsert(&self, _: &[EnrolledFace]) -> Result<(), GalleryError> {
        Ok(())
    }
    async fn remove_face(&self, _: &FaceId) -> Result<(), GalleryError> {
        Ok(())
    }
    async fn remove_person(&self, _: &PersonId) -> Result<(), GalleryError> {
        Ok(())
    }
    async fn search(&self, _: &Embedding, _: &SearchQuery) -> Result<Vec<PersonHit>, GalleryError> {
        Ok(vec![])
    }
    async fn face_ids(&self) -> Result<BTreeSet<FaceId>, GalleryError> {
        Ok(Default::default())
    }
    fn backend(&self) -> &'static str {
        "qdrant"
    }
}
