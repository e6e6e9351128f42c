//! What lies in the buckets and the stream, before it is sealed; and what a replica makes of it.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    bucket::{Bucket, OPERATION},
    connect::Cluster,
    fault::Fault,
};
use crate::{
    access::{Token, TokenHash},
    camera::CameraSpec,
    event::{Feedback, NewEvent},
    face::{Detection, Distance, Embedding},
    identity::{Calibration, EnrolledFace, FaceCrop, Person},
    ids::{FaceId, ModelId, PersonId, TokenName},
    store::sqlite::replica::{Change, Incoming, Source},
    time::Timestamp,
    vault::Vault,
};

/// Header that tells which run of which node published an event.
pub(super) const NODE: &str = "Visage-Node";
/// Header with the claim with which the node says the camera's events.
pub(super) const CLAIM: &str = "Visage-Claim";
/// Header with the event's id, by which the servers know it again.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";

/// An embedding.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct VectorRecord {
    model: ModelId,
    distance: Distance,
    /// Little-endian floats in base64.
    values: String,
}

impl From<&Embedding> for VectorRecord {
    fn from(embedding: &Embedding) -> Self {
        let bytes: Vec<u8> = embedding.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let (model, distance) = (embedding.model.clone(), embedding.distance);
        Self { model, distance, values: BASE64_STANDARD.encode(bytes) }
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, Fault> {
    BASE64_STANDARD.decode(text).map_err(|e| Fault::Failed(format!("a value is no base64: {e}")))
}

impl VectorRecord {
    fn embedding(&self) -> Result<Embedding, Fault> {
        let bytes = bytes(&self.values)?;
        let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(Embedding { model: self.model.clone(), distance: self.distance, values: values.into() })
    }
}

/// An enrolled face with its picture.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FaceRecord {
    id: FaceId,
    person: PersonId,
    embedding: VectorRecord,
    quality: f32,
    source: String,
    created: Timestamp,
    /// JPEG in base64, and where the face is in it.
    crop: Option<(String, Detection)>,
}

impl FaceRecord {
    pub(super) fn new(face: &EnrolledFace, crop: Option<&FaceCrop>) -> Self {
        Self {
            id: face.id.clone(),
            person: face.person.clone(),
            embedding: (&face.embedding).into(),
            quality: face.quality,
            source: face.source.clone(),
            created: face.created,
            crop: crop.map(|crop| (BASE64_STANDARD.encode(&crop.jpeg), crop.detection)),
        }
    }

    fn change(self) -> Result<Change, Fault> {
        let crop = match self.crop {
            Some((jpeg, detection)) => Some(FaceCrop { jpeg: bytes(&jpeg)?.into(), detection }),
            None => None,
        };
        let embedding = self.embedding.embedding()?;
        let Self { id, person, quality, source, created, .. } = self;
        Ok(Change::Face(Box::new(EnrolledFace { id, person, embedding, quality, source, created }), crop))
    }
}

/// "This face is not that person".
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NegativeRecord {
    pub(super) person: PersonId,
    pub(super) probe: VectorRecord,
}

/// A token; its text is nowhere.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TokenRecord {
    hash: String,
    name: TokenName,
    role: String,
    scope: BTreeMap<String, String>,
    created: Timestamp,
    expires: Option<Timestamp>,
    used: Option<Timestamp>,
    revoked: Option<Timestamp>,
}

impl From<&Token> for TokenRecord {
    fn from(token: &Token) -> Self {
        Self {
            hash: hex::encode(token.hash.0),
            name: token.name.clone(),
            role: token.role.as_str().to_owned(),
            scope: token.scope.clone(),
            created: token.created,
            expires: token.expires,
            used: token.used,
            revoked: token.revoked,
        }
    }
}

impl TokenRecord {
    pub(super) fn token(self) -> Result<Token, Fault> {
        let bad = |what: &str| Fault::Failed(format!("a token's {what} can't be read"));
        let hash = hex::decode(&self.hash).ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Token {
            hash: TokenHash(hash.ok_or_else(|| bad("hash"))?),
            name: self.name,
            role: self.role.parse().map_err(|_| bad("role"))?,
            scope: self.scope,
            created: self.created,
            expires: self.expires,
            used: self.used,
            revoked: self.revoked,
        })
    }
}

/// An erasure: the intent first, `done` when nothing is left anywhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ErasureRecord {
    pub(super) person: PersonId,
    pub(super) erased: Timestamp,
    pub(super) done: bool,
}

/// An event of the stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct EventRecord {
    pub(super) body: NewEvent,
    pub(super) has_image: bool,
}

/// An event as it is since it was changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AmendedRecord {
    pub(super) body: NewEvent,
    pub(super) has_image: bool,
    pub(super) feedback: Option<Feedback>,
}

/// The key of a person: a hash, since ids may be names.
pub(super) fn person_key(cluster: &str, person: &PersonId) -> String {
    hashed(cluster, "person", person.as_str())
}

/// A text as a part of a key that does not show it.
pub(super) fn hashed(cluster: &str, kind: &str, text: &str) -> String {
    hex::encode(&Sha256::digest(format!("{cluster}/{kind}/{text}"))[..16])
}

/// The key of a face: those of a person begin with the person's key.
pub(super) fn face_key(cluster: &str, person: &PersonId, face: &FaceId) -> String {
    format!("{}.{face}", person_key(cluster, person))
}

/// The place that a sealed event is bound to.
pub(super) fn event_place(subject: &str, id: &str) -> String {
    format!("{subject}/{id}")
}

/// Reads an event of the stream.
pub(super) fn event(vault: &Vault, subject: &str, id: &str, payload: &[u8]) -> Result<EventRecord, Fault> {
    Ok(serde_json::from_slice(&vault.unseal(&event_place(subject, id), payload)?)?)
}

/// What a message of a source says. One that can't be read is passed over and told: it must not hold up all others.
pub(super) fn incoming(
    cluster: &Cluster,
    vault: &Vault,
    source: Source,
    message: &async_nats::jetstream::Message,
) -> Result<Incoming, Fault> {
    let info = message.info().map_err(|e| Fault::Failed(e.to_string()))?;
    let header = |name: &str| message.headers.as_ref().and_then(|h| h.get(name)).map(|v| v.as_str().to_owned());
    let (revision, subject) = (info.stream_sequence, message.subject.as_str());
    if source == Source::Events {
        let id = header(MESSAGE_ID).unwrap_or_default();
        let change = match event(vault, subject, &id, &message.payload) {
            Ok(record) => Change::Event(Box::new(record.body), record.has_image),
            Err(fault) => unread(source, revision, &fault),
        };
        return Ok(Incoming { source, key: id, revision, in_turn: true, change });
    }
    let bucket = cluster.bucket(source)?;
    let key = bucket.key(subject).unwrap_or_default().to_owned();
    let change = match header(OPERATION) {
        Some(_) => Change::Gone,
        None => change(bucket, source, &key, &message.payload).unwrap_or_else(|fault| unread(source, revision, &fault)),
    };
    Ok(Incoming { source, key, revision, in_turn: true, change })
}

fn unread(source: Source, revision: u64, fault: &Fault) -> Change {
    tracing::error!(source = source.name(), revision, %fault, "something in the cluster can't be read and is passed over");
    Change::Nothing
}

/// What a value of a bucket says.
pub(super) fn change(bucket: &Bucket, source: Source, key: &str, sealed: &[u8]) -> Result<Change, Fault> {
    Ok(match source {
        Source::Cameras => Change::Camera(Box::new(bucket.opened::<CameraSpec>(key, sealed)?)),
        Source::People => Change::Person(Box::new(bucket.opened::<Person>(key, sealed)?)),
        Source::Faces => bucket.opened::<FaceRecord>(key, sealed)?.change()?,
        Source::Tokens => Change::Token(Box::new(bucket.opened::<TokenRecord>(key, sealed)?.token()?)),
        Source::Erasures => {
            let ErasureRecord { person, erased, done } = bucket.opened(key, sealed)?;
            Change::Erasure { person, erased, done }
        }
        Source::Amended => amended(key, bucket.opened(key, sealed)?)?,
        Source::Settings => setting(bucket, key, sealed)?,
        Source::Events => Change::Nothing,
    })
}

/// An event as it is since it was changed, as a change of a replica.
pub(super) fn amended(key: &str, record: AmendedRecord) -> Result<Change, Fault> {
    let position = key.parse().map_err(|_| Fault::Failed(format!("{key:?} is no position")))?;
    let AmendedRecord { body, has_image, feedback } = record;
    Ok(Change::Amended { position, body: Box::new(body), has_image, feedback })
}

fn setting(bucket: &Bucket, key: &str, sealed: &[u8]) -> Result<Change, Fault> {
    Ok(match key.split_once('.') {
        Some(("negative", _)) => {
            let NegativeRecord { person, probe } = bucket.opened(key, sealed)?;
            Change::Negative(person, probe.embedding()?)
        }
        Some(("calibration", model)) => {
            let model = model.parse::<ModelId>().map_err(|e| Fault::Failed(e.to_string()))?;
            Change::Calibration(model, Box::new(bucket.opened::<Calibration>(key, sealed)?))
        }
        None if key == "model" => Change::ModelInUse(bucket.opened(key, sealed)?),
        _ => Change::Nothing,
    })
}
