//! Cameras.

use async_trait::async_trait;

use super::{ClusterStore, fault::Fault};
use crate::{
    camera::{CameraSpec, CameraStore, CameraStoreError},
    ids::CameraId,
    store::sqlite::replica::Source,
};

impl ClusterStore {
    /// Revision of a key, which its next writer must know.
    pub(super) async fn revision(&self, source: Source, key: &str) -> Result<Option<u64>, Fault> {
        Ok(self.replica.revision_of(source, key).await?)
    }
}

#[async_trait]
impl CameraStore for ClusterStore {
    async fn list(&self) -> Result<Vec<CameraSpec>, CameraStoreError> {
        CameraStore::list(&*self.replica).await
    }

    async fn insert(&self, spec: &CameraSpec) -> Result<(), CameraStoreError> {
        self.cluster.connected()?;
        let bucket = self.cluster.bucket(Source::Cameras)?;
        match bucket.create(spec.id.as_str(), spec).await {
            Ok(revision) => Ok(self.applied(Source::Cameras, revision).await?),
            Err(Fault::Conflict) => Err(CameraStoreError::AlreadyExists(spec.id.clone())),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn update(&self, spec: &CameraSpec) -> Result<(), CameraStoreError> {
        self.cluster.connected()?;
        let id = spec.id.as_str();
        let counted = self.replica.counted(Source::Cameras, id).await.map_err(Fault::from)?;
        let known = self.revision(Source::Cameras, id).await?;
        let Some((counted, known)) = counted.zip(known) else {
            return Err(CameraStoreError::NotFound(spec.id.clone()));
        };
        if counted + 1 != spec.revision {
            return Err(CameraStoreError::Conflict(spec.id.clone()));
        }
        match self.cluster.bucket(Source::Cameras)?.update(id, spec, known).await {
            Ok(revision) => Ok(self.applied(Source::Cameras, revision).await?),
            Err(Fault::Conflict) => Err(CameraStoreError::Conflict(spec.id.clone())),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn remove(&self, id: &CameraId) -> Result<(), CameraStoreError> {
        self.cluster.connected()?;
        let Some(known) = self.revision(Source::Cameras, id.as_str()).await? else {
            return Err(CameraStoreError::NotFound(id.clone()));
        };
        let bucket = self.cluster.bucket(Source::Cameras)?;
        // The password in it is overwritten.
        bucket.overwrite(known).await?;
        let revision = bucket.purge(id.as_str()).await?;
        Ok(self.applied(Source::Cameras, revision).await?)
    }
}
