//! Placeholder: one still picture, no camera.

use bytes::Bytes;

use super::fleet::FaceAnswer;
use crate::{
    face::{Detection, Embedding, FaceError, Quality},
    frame::still::StillError,
    identity::{EnrolledFace, GalleryError},
    ids::PersonId,
};

/// Why a question about a picture could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The picture itself.
    #[error(transparent)]
    Still(#[from] StillError),
    /// No face where one is needed.
    #[error("no face was found in {0}; use a picture that shows the face larger and from the front")]
    NoFace(&'static str),
    /// Faces.
    #[error(transparent)]
    Face(#[from] FaceError),
    /// Gallery.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
}

/// Why an enrolment was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum RefusalReason {
    NotAnImage,
    TooLarge,
    NoFace,
    SeveralFaces,
    TooSmall,
    TooBlurred,
    TurnedAway,
    LooksLikeAnotherPerson,
    Duplicate,
    NoSuchPerson,
    TooManyFaces,
}

/// The answer to one enrolment.
#[derive(Debug, Clone)]
pub enum Enrollment {
    /// Enrolled.
    Enrolled {
        /// The face as kept.
        face: EnrolledFace,
        /// Faces found.
        found: Vec<(Detection, Quality)>,
    },
    /// Refused; nothing changed.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// Why in words, with figures.
        message: String,
        /// Who it looks like, when that is the reason.
        similar: Option<PersonId>,
        /// Faces found.
        found: Vec<(Detection, Quality)>,
    },
}

/// 1:1 answer.
#[derive(Debug, Clone)]
pub struct Verification {
    /// Similarity.
    pub similarity: f32,
    /// Threshold.
    pub threshold: f32,
    /// Whether it is reached.
    pub same: bool,
    /// Probability, 0 to 1.
    pub confidence: f32,
    /// The faces compared (largest of each picture).
    pub faces: [(Detection, Quality); 2],
}

/// Faces found in a picture of `width` x `height` pixels.
#[derive(Debug, Clone)]
pub struct Found<T> {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Highest score first.
    pub faces: Vec<T>,
}

/// Answers questions about still pictures. Cheap to clone.
#[derive(Clone)]
pub struct PictureDesk {}

impl PictureDesk {
    /// Finds faces.
    pub async fn detect(
        &self,
        _image: Bytes,
        _min_score: Option<f32>,
    ) -> Result<Found<(Detection, Quality)>, PictureError> {
        unimplemented!()
    }
    /// Finds faces and says who they are; no two faces of a picture get one person. The JPEG is there when `annotate`.
    pub async fn identify(
        &self,
        _image: Bytes,
        _watchlists: &[String],
        _threshold: Option<f32>,
        _annotate: bool,
    ) -> Result<(Found<FaceAnswer>, Option<Bytes>), PictureError> {
        unimplemented!()
    }
    /// 1:1 of the largest faces.
    pub async fn verify(&self, _a: Bytes, _b: Bytes, _threshold: Option<f32>) -> Result<Verification, PictureError> {
        unimplemented!()
    }
    /// Embeddings of all faces.
    pub async fn embed(&self, _image: Bytes) -> Result<Found<(Detection, Quality, Embedding)>, PictureError> {
        unimplemented!()
    }
    /// Enrols one picture, or refuses it and changes nothing.
    pub async fn enroll(
        &self,
        _person: &PersonId,
        _image: Bytes,
        _source: &str,
        _allow_several: bool,
        _force: bool,
    ) -> Result<Enrollment, PictureError> {
        unimplemented!()
    }
}
