//! What a move to another model means, how far it is, and why it did not happen.

use crate::{
    face::FaceError,
    identity::{GalleryError, embeddings::FaceNote},
    ids::{ModelId, PersonId},
};

/// Why a gallery did not move.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// One at a time.
    #[error("the gallery moves to another model already; wait for the end, `visage gallery status` shows it")]
    Running,
    /// Nothing to do.
    #[error("the gallery uses {0} already; `visage gallery status` shows what each model covers")]
    InUse(ModelId),
    /// People would not be recognised any more.
    #[error(
        "{count} people would be lost, since no picture of their faces is kept that {model} could embed: {names}; enrol them again with \
         pictures kept (gallery.keep_crops), or allow them to be missing"
    )]
    WouldLose {
        /// How many.
        count: usize,
        /// The new model.
        model: ModelId,
        /// The first of them.
        names: String,
    },
    /// There is no such embedder.
    #[error("{0}")]
    Unknown(String),
    /// The model can't be loaded.
    #[error("{0}")]
    Model(String),
    /// Cancelled by the caller or a shutdown.
    #[error(
        "the move was cancelled and nothing has changed; {done} embeddings are kept, and another move goes on from there"
    )]
    Cancelled {
        /// Faces that the new model has embedded.
        done: u64,
    },
    /// The network.
    #[error(transparent)]
    Face(#[from] FaceError),
    /// Store or index.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// A fault in the server.
    #[error("the move failed half-way: {0}; look at `visage gallery status` and repeat it")]
    Interrupted(String),
}

/// What a caller wants.
#[derive(Debug, Clone)]
pub struct MoveRequest {
    /// The new model.
    pub model: ModelId,
    /// Move although people are lost.
    pub allow_missing: bool,
    /// Remove the old model's embeddings when it is done.
    pub drop_old: bool,
}

/// What a move means.
#[derive(Debug, Clone, PartialEq)]
pub struct MovePlan {
    /// Model in use before.
    pub from: ModelId,
    /// The new model.
    pub to: ModelId,
    /// People with faces.
    pub people: u64,
    /// Enrolled faces.
    pub faces: u64,
    /// Faces that the new model has embedded.
    pub embedded: u64,
    /// Faces that it has yet to embed.
    pub to_embed: u64,
    /// Faces that it can't embed.
    pub missing: Vec<FaceNote>,
    /// People without a face for the new model.
    pub lost: Vec<PersonId>,
    /// "Not that person" exemplars that stay with the old model.
    pub negatives_left: u64,
    /// Whether a calibration of the new model is kept.
    pub calibrated: bool,
    /// Settings of the configuration that are meant for the old model and don't count for the new one.
    pub settings: Vec<&'static str>,
    /// Embeddings of the old model that were removed.
    pub dropped: u64,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The model is being loaded.
    Loading,
    /// Pictures are being embedded.
    Embedding {
        /// Faces done.
        done: u64,
        /// Faces in all.
        total: u64,
    },
    /// The index is being filled.
    Indexing {
        /// Faces done.
        done: u64,
        /// Faces in all.
        total: u64,
    },
    /// The new model is in use.
    Switched,
}

impl MovePlan {
    /// Refuses a move by which people are lost.
    pub(super) fn refuse_losses(&self) -> Result<(), MoveError> {
        if self.lost.is_empty() {
            return Ok(());
        }
        let first: Vec<&str> = self.lost.iter().take(10).map(PersonId::as_str).collect();
        let more = if self.lost.len() > first.len() { ", …" } else { "" };
        let names = format!("{}{more}", first.join(", "));
        Err(MoveError::WouldLose { count: self.lost.len(), model: self.to.clone(), names })
    }
}
