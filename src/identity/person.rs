//! People, their enrolled faces, and the port that keeps them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Calibration, FaceCrop};
use crate::{
    face::Embedding,
    ids::{FaceId, ModelId, PersonId},
    time::Timestamp,
};

/// The ground on which a person's data may be processed (GDPR, article 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegalGround {
    /// The person agreed; for faces mostly the only one that counts (article 9).
    Consent,
    /// A contract with the person.
    Contract,
    /// A law demands it.
    LegalObligation,
    /// Somebody's life depends on it.
    VitalInterest,
    /// A task in the public interest.
    PublicTask,
    /// Legitimate interests that weigh more than the person's.
    LegitimateInterest,
}

/// On what terms a person is known to the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Why it may be; `None` was not said.
    pub ground: Option<LegalGround>,
    /// Where that is documented, such as the number of a signed form; may be empty.
    pub reference: String,
    /// When it was given.
    pub given: Option<Timestamp>,
    /// When the person is erased; `None` is never.
    pub expires: Option<Timestamp>,
}

/// Somebody the server should know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// Its id.
    pub id: PersonId,
    /// What people call them.
    pub display_name: String,
    /// Id in another system; empty when there is none.
    pub external_id: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// Watchlists the person is on.
    pub watchlists: Vec<String>,
    /// What is added to the threshold for this person, a similarity: above 0 is stricter. 0: as everybody.
    #[serde(default)]
    pub threshold_offset: f32,
    /// On what terms.
    #[serde(default)]
    pub terms: Terms,
    /// When the person was added.
    pub created: Timestamp,
    /// Counts up by one with each change; the etag of the API.
    pub revision: u64,
}

/// One enrolled face with its embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct EnrolledFace {
    /// Its id.
    pub id: FaceId,
    /// Whose face it is.
    pub person: PersonId,
    /// The embedding, tagged with its model.
    pub embedding: Embedding,
    /// Quality, 0 to 1.
    pub quality: f32,
    /// Where the picture came from, such as its file name.
    pub source: String,
    /// When it was enrolled.
    pub created: Timestamp,
}

/// What an erasure removed; kept as its receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureReceipt {
    /// Id of the receipt.
    pub id: String,
    /// Who was erased.
    pub person: PersonId,
    /// When.
    pub erased: Timestamp,
    /// Enrolled faces and embeddings removed.
    pub faces_removed: u32,
    /// Pictures of enrolled faces removed.
    #[serde(default)]
    pub crops_removed: u32,
    /// Past events whose identity was removed.
    pub events_anonymised: u64,
    /// Event pictures removed.
    pub pictures_removed: u64,
}

/// What is stored about a person besides faces and events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredAbout {
    /// Embeddings of others' faces that were judged not to be this person.
    pub negatives: u32,
    /// Models that an embedding of each face is stored of.
    pub models: BTreeMap<FaceId, Vec<ModelId>>,
    /// Whether a classifier is stored, which every enrolled face shaped.
    pub classifier: bool,
}

/// Why the gallery could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    /// No such person.
    #[error("person {0} does not exist; `visage person list` shows those that do")]
    PersonNotFound(PersonId),
    /// No such face.
    #[error("face {0} does not exist")]
    FaceNotFound(FaceId),
    /// The id is taken.
    #[error("person {0} exists already; choose another id or update it")]
    AlreadyExists(PersonId),
    /// Somebody else changed it meanwhile.
    #[error("person {0} was changed by somebody else meanwhile; read it again and repeat the change")]
    Conflict(PersonId),
    /// An embedding of another model.
    #[error(transparent)]
    Incomparable(#[from] crate::face::embedding::IncomparableError),
    /// The person has no legal basis, and the settings demand one.
    #[error(
        "person {0} has no legal basis, which enrollment.require_legal_basis asks for; give one with `visage person update {0} --legal-ground consent`"
    )]
    NoLegalBasis(PersonId),
    /// The gallery can't move to another model now.
    #[error("{0}")]
    Moving(String),
    /// This node keeps no events, and a person must be erased from them as well.
    #[error("this node (server.role = \"ingest\") erases nobody; ask a gateway (role \"api\" or \"all\")")]
    Elsewhere,
    /// The store failed for good.
    #[error("the gallery store failed: {0}")]
    Storage(String),
    /// No classifier can be trained.
    #[error(transparent)]
    Training(#[from] super::TrainError),
    /// The gallery and the strangers given are too few to learn from.
    #[error(transparent)]
    TooLittle(#[from] super::calibration::TooLittle),
    /// The index was filled by another installation.
    #[error(
        "the {backend} index holds {faces} faces and this data folder knows nobody, so it belongs to another installation and is left \
         alone; set another gallery.qdrant.collection_prefix, or delete the collection if nobody needs it"
    )]
    ForeignIndex {
        /// The index's back end.
        backend: &'static str,
        /// Faces in it.
        faces: usize,
    },
    /// The disk takes or gives nothing at the moment; try again later.
    #[error("{0}")]
    Disk(String),
    /// The vector server does not answer; try again later.
    #[error("the vector store does not answer: {0}")]
    Unavailable(String),
}

/// Keeps people and their faces, embeddings included. The truth: a [`super::VectorIndex`] can be rebuilt from it.
/// Every method is durable when it returns.
#[async_trait]
pub trait GalleryStore: Send + Sync {
    /// Adds a person. Fails when the id is taken.
    async fn insert_person(&self, person: &Person) -> Result<(), GalleryError>;
    /// One person.
    async fn person(&self, id: &PersonId) -> Result<Person, GalleryError>;
    /// People with ids after `after`, by id, at most `limit`, with their numbers of faces.
    async fn people(&self, after: Option<&PersonId>, limit: usize) -> Result<Vec<(Person, u32)>, GalleryError>;
    /// Replaces a person whose stored revision is `person.revision - 1`.
    async fn update_person(&self, person: &Person) -> Result<(), GalleryError>;
    /// Removes a person, all faces, the identity in past events and their pictures, in one transaction; keeps the receipt.
    async fn erase_person(&self, id: &PersonId, now: Timestamp) -> Result<ErasureReceipt, GalleryError>;
    /// Adds a face, with its picture where that is kept. Fails when the person does not exist.
    async fn insert_face(&self, face: &EnrolledFace, crop: Option<&FaceCrop>) -> Result<(), GalleryError>;
    /// Faces of a person, by id, with the embedding of the model in use; faces that have none, with another's.
    async fn faces(&self, person: &PersonId) -> Result<Vec<EnrolledFace>, GalleryError>;
    /// Removes a face of a person.
    async fn remove_face(&self, person: &PersonId, face: &FaceId) -> Result<(), GalleryError>;
    /// Every face of a model, to build an index.
    async fn all_faces(&self, model: &ModelId) -> Result<Vec<EnrolledFace>, GalleryError>;
    /// What is stored about a person besides faces and events.
    async fn stored_about(&self, person: &PersonId) -> Result<StoredAbout, GalleryError>;
    /// Number of people and of faces.
    async fn counts(&self) -> Result<(u64, u64), GalleryError>;
    /// Keeps "this face is not that person" (a wrong match, as a user said).
    async fn insert_negative(&self, person: &PersonId, probe: &Embedding) -> Result<(), GalleryError>;
    /// Takes one such exemplar back; whether there was one.
    async fn remove_negative(&self, person: &PersonId, probe: &Embedding) -> Result<bool, GalleryError>;
    /// Every negative exemplar of a model.
    async fn negatives(&self, model: &ModelId) -> Result<Vec<(PersonId, Embedding)>, GalleryError>;
    /// The calibration kept for a model.
    async fn calibration(&self, model: &ModelId) -> Result<Option<Calibration>, GalleryError>;
    /// Keeps a calibration for a model, or forgets it.
    async fn set_calibration(&self, model: &ModelId, calibration: Option<&Calibration>) -> Result<(), GalleryError>;
    /// The bytes of the classifier kept for a model.
    async fn classifier(&self, model: &ModelId) -> Result<Option<Vec<u8>>, GalleryError>;
    /// Keeps a classifier for a model, or forgets it. [`GalleryStore::erase_person`] forgets those of all models: the erased faces shaped
    /// every weight.
    async fn set_classifier(&self, model: &ModelId, bytes: Option<&[u8]>) -> Result<(), GalleryError>;
}
