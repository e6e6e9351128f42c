//! A group of unknown faces as it is told, and why something about one could not be done.

use super::picture::PictureError;
use crate::{
    event::EventLogError,
    identity::{GalleryError, UnknownFace, UnknownStoreError},
    ids::{ModelId, PersonId, UnknownId},
    time::Timestamp,
};

/// Why something about unknown faces could not be done.
#[derive(Debug, thiserror::Error)]
pub enum UnknownsError {
    /// No such group.
    #[error(
        "unknown {0} does not exist: it may have been merged, enrolled or removed by retention; `visage unknown list` shows those that do"
    )]
    NotFound(UnknownId),
    /// A group with itself.
    #[error("{0} can't be merged with itself; name two groups")]
    Same(UnknownId),
    /// Every face is of another model.
    #[error(
        "the faces of {group} were embedded by another model than {model}, which is in use; they can't be enrolled, and go by retention"
    )]
    OtherModel {
        /// The group.
        group: UnknownId,
        /// The model in use.
        model: ModelId,
    },
    /// The faces look like somebody of the gallery.
    #[error(
        "{group} looks like {person} (similarity {similarity:.2}, threshold {threshold:.2}); enrol it as {person}, or force it if it is right"
    )]
    LooksLike {
        /// The group.
        group: UnknownId,
        /// Who it looks like.
        person: PersonId,
        /// How much.
        similarity: f32,
        /// The identification threshold.
        threshold: f32,
    },
    /// The person has no place left.
    #[error("{person} has {faces} faces, as many as enrollment.max_faces_per_person allows; delete one first")]
    TooManyFaces {
        /// The person.
        person: PersonId,
        /// Faces enrolled.
        faces: usize,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] UnknownStoreError),
    /// The gallery.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The event log.
    #[error(transparent)]
    Log(#[from] EventLogError),
    /// A picture, or work that could not be finished.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// A fault in the server.
    #[error("the change was interrupted: {0}; look what became of it and repeat it")]
    Interrupted(String),
}

/// A group of unknown faces.
#[derive(Debug, Clone, PartialEq)]
pub struct UnknownGroup {
    /// Its id.
    pub id: UnknownId,
    /// Whether it was dismissed.
    pub dismissed: bool,
    /// Its faces, newest first, without pictures.
    pub faces: Vec<UnknownFace>,
}

impl UnknownGroup {
    /// When its first appearance began.
    pub fn first_seen(&self) -> Timestamp {
        self.faces.iter().map(|f| f.began).min().unwrap_or_default()
    }

    /// When its last appearance ended.
    pub fn last_seen(&self) -> Timestamp {
        self.faces.iter().map(|f| f.ended).max().unwrap_or_default()
    }
}
