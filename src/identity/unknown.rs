//! Faces that nobody knew, kept for a while when the operator wants it, and the port that keeps them.
//!
//! A face is the fused template of one appearance that ended unknown, with a small picture. Faces are put in groups, one a person
//! as far as can be told ([`super::cluster`]). Absent on purpose: events; how an appearance becomes a face.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    face::Embedding,
    ids::{CameraId, EventId, FaceId, TrackId, UnknownId},
    time::Timestamp,
};

/// Section `[unknowns]`: whether faces that nobody knew are kept. Off by default: a face is kept only where the operator says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnknownSettings {
    /// Whether new appearances that end unknown are kept. What was kept before stays until its retention is over.
    pub keep: bool,
    /// Faces older than this many days are removed; 0 keeps them for ever.
    pub retention_days: u32,
    /// Most faces; beyond it the oldest go, and are counted.
    pub max: usize,
    /// Similarity above the model's identification threshold from which two faces count as one person's.
    pub link_extra: f32,
}

impl Default for UnknownSettings {
    fn default() -> Self {
        Self { keep: false, retention_days: 14, max: 20_000, link_extra: 0.0 }
    }
}

/// One appearance that ended unknown.
#[derive(Debug, Clone, PartialEq)]
pub struct UnknownFace {
    /// Its id, ordered by time.
    pub id: FaceId,
    /// Where it appeared.
    pub camera: CameraId,
    /// The appearance.
    pub track: TrackId,
    /// The last decision event of the appearance, which a later enrolment corrects.
    pub event: EventId,
    /// When the appearance began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Fused template of its looks, tagged with the model.
    pub template: Embedding,
    /// Quality of its best crop, 0 to 1.
    pub quality: f32,
    /// The best crop as JPEG, edges at most 160 px; empty when it could not be drawn, or is not loaded.
    pub picture: Bytes,
}

/// A kept face with its place among the groups.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptUnknown {
    /// The face; its picture is not loaded, see [`UnknownStore::unknown_pictures`].
    pub face: UnknownFace,
    /// Its group; `None` until it is given one.
    pub group: Option<UnknownId>,
    /// Whether a user's word put it in its group (merged, dismissed): regrouping leaves it there.
    pub bound: bool,
}

/// The group a face is put into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The face.
    pub face: FaceId,
    /// Its new group.
    pub group: UnknownId,
    /// Whether it stays there whatever regrouping says.
    pub bound: bool,
}

/// What becomes of an unknown face together with an event, in the same transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum UnknownChange {
    /// The appearance ended unknown: its face is kept.
    Keep(Box<UnknownFace>),
    /// The face was enrolled: it is no unknown any more.
    Moved(FaceId),
}

/// The store of unknown faces failed.
#[derive(Debug, thiserror::Error)]
#[error("the store of unknown faces failed: {0}")]
pub struct UnknownStoreError(pub String);

/// Keeps unknown faces and their groups. Every method is durable when it returns. Faces come in with events ([`UnknownChange::Keep`]).
#[async_trait]
pub trait UnknownStore: Send + Sync {
    /// Every face, oldest first, without pictures.
    async fn unknowns(&self) -> Result<Vec<KeptUnknown>, UnknownStoreError>;
    /// Faces without a group, oldest first, at most `limit`, without pictures.
    async fn ungrouped(&self, limit: usize) -> Result<Vec<UnknownFace>, UnknownStoreError>;
    /// Pictures of faces, in order; empty for a face that is not there or has none.
    async fn unknown_pictures(&self, faces: Vec<FaceId>) -> Result<Vec<Bytes>, UnknownStoreError>;
    /// Groups that were dismissed.
    async fn dismissed(&self) -> Result<BTreeSet<UnknownId>, UnknownStoreError>;
    /// New groups, still empty: ids that were never given before. They go with the next [`UnknownStore::place`] if they stay empty.
    async fn new_groups(&self, count: usize) -> Result<Vec<UnknownId>, UnknownStoreError>;
    /// Puts faces into groups, in one transaction; groups that are empty then are removed.
    async fn place(&self, placements: Vec<Placement>) -> Result<(), UnknownStoreError>;
    /// Dismisses a group, or takes that back. Nothing happens when it is not there.
    async fn set_dismissed(&self, group: UnknownId, dismissed: bool) -> Result<(), UnknownStoreError>;
    /// Removes faces with their pictures, and groups that are empty then; how many faces there were.
    async fn remove_unknowns(&self, faces: Vec<FaceId>) -> Result<u64, UnknownStoreError>;
}
