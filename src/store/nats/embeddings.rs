//! Embeddings: one model for all nodes. Moving to another is not possible in cluster mode.

use async_trait::async_trait;

use super::{ClusterStore, fault::Fault};
use crate::{
    face::Embedding,
    identity::{
        EmbeddingStore, EnrolledFace, FaceCrop, GalleryError,
        embeddings::{Coverage, FaceNote},
    },
    ids::{FaceId, ModelId, PersonId},
    store::sqlite::replica::Source,
};

fn no_move<T>() -> Result<T, GalleryError> {
    Err(GalleryError::Moving("a gallery can't be moved to another model with store = \"cluster\"".into()))
}

#[async_trait]
impl EmbeddingStore for ClusterStore {
    async fn model_in_use(&self) -> Result<Option<ModelId>, GalleryError> {
        self.replica.model_in_use().await
    }

    async fn settle_model(&self, model: &ModelId) -> Result<(), GalleryError> {
        if self.model_in_use().await?.is_some() {
            return Ok(());
        }
        self.cluster.connected()?;
        let bucket = self.cluster.bucket(Source::Settings)?;
        let revision = match bucket.create("model", model).await {
            Ok(revision) => revision,
            // Another node was faster: what it said counts.
            Err(Fault::Conflict) => match bucket.get::<ModelId>("model").await? {
                Some((revision, _)) => revision,
                None => return Ok(()),
            },
            Err(fault) => return Err(fault.into()),
        };
        Ok(self.applied(Source::Settings, revision).await?)
    }

    async fn use_model(&self, _model: &ModelId, _leaving: &ModelId) -> Result<(), GalleryError> {
        no_move()
    }

    async fn index_in_work(&self) -> Result<Option<ModelId>, GalleryError> {
        Ok(None)
    }

    async fn set_index_in_work(&self, model: Option<&ModelId>) -> Result<(), GalleryError> {
        if model.is_none() { Ok(()) } else { no_move() }
    }

    async fn coverage(&self) -> Result<Vec<Coverage>, GalleryError> {
        self.replica.coverage().await
    }

    async fn crops(&self) -> Result<u64, GalleryError> {
        self.replica.crops().await
    }

    async fn crop(&self, person: &PersonId, face: &FaceId) -> Result<Option<FaceCrop>, GalleryError> {
        self.replica.crop(person, face).await
    }

    async fn unembedded(
        &self,
        model: &ModelId,
        after: Option<&FaceId>,
        limit: usize,
    ) -> Result<Vec<(FaceId, FaceCrop)>, GalleryError> {
        self.replica.unembedded(model, after, limit).await
    }

    async fn unembedded_count(&self, model: &ModelId) -> Result<u64, GalleryError> {
        self.replica.unembedded_count(model).await
    }

    async fn without_picture(&self, model: &ModelId) -> Result<Vec<FaceNote>, GalleryError> {
        self.replica.without_picture(model).await
    }

    async fn missing(&self, model: &ModelId) -> Result<Vec<FaceNote>, GalleryError> {
        self.replica.missing(model).await
    }

    async fn embedded(
        &self,
        model: &ModelId,
        after: Option<&FaceId>,
        limit: usize,
    ) -> Result<Vec<EnrolledFace>, GalleryError> {
        self.replica.embedded(model, after, limit).await
    }

    async fn embeddings(&self, face: &FaceId) -> Result<Vec<Embedding>, GalleryError> {
        self.replica.embeddings(face).await
    }

    async fn insert_embedding(&self, _face: &FaceId, _embedding: &Embedding) -> Result<bool, GalleryError> {
        no_move()
    }

    async fn drop_embeddings(&self, _model: &ModelId, _instead: &ModelId) -> Result<u64, GalleryError> {
        no_move()
    }
}
