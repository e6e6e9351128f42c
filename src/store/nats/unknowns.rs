//! Unknown faces are not kept in cluster mode: nothing is there to be read, and nothing can be written.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;

use super::ClusterStore;
use crate::{
    identity::{
        UnknownFace, UnknownStore, UnknownStoreError,
        unknown::{KeptUnknown, Placement},
    },
    ids::{FaceId, UnknownId},
};

/// What every write is answered with.
pub(super) const NOT_HERE: &str = "unknown faces are not kept with store = \"cluster\"";

fn not_here<T>() -> Result<T, UnknownStoreError> {
    Err(UnknownStoreError(NOT_HERE.into()))
}

#[async_trait]
impl UnknownStore for ClusterStore {
    async fn unknowns(&self) -> Result<Vec<KeptUnknown>, UnknownStoreError> {
        Ok(Vec::new())
    }

    async fn ungrouped(&self, _limit: usize) -> Result<Vec<UnknownFace>, UnknownStoreError> {
        Ok(Vec::new())
    }

    async fn unknown_pictures(&self, faces: Vec<FaceId>) -> Result<Vec<Bytes>, UnknownStoreError> {
        Ok(vec![Bytes::new(); faces.len()])
    }

    async fn dismissed(&self) -> Result<BTreeSet<UnknownId>, UnknownStoreError> {
        Ok(BTreeSet::new())
    }

    async fn new_groups(&self, count: usize) -> Result<Vec<UnknownId>, UnknownStoreError> {
        if count == 0 { Ok(Vec::new()) } else { not_here() }
    }

    async fn place(&self, placements: Vec<Placement>) -> Result<(), UnknownStoreError> {
        if placements.is_empty() { Ok(()) } else { not_here() }
    }

    async fn set_dismissed(&self, _group: UnknownId, _dismissed: bool) -> Result<(), UnknownStoreError> {
        not_here()
    }

    async fn remove_unknowns(&self, faces: Vec<FaceId>) -> Result<u64, UnknownStoreError> {
        if faces.is_empty() { Ok(0) } else { not_here() }
    }
}
