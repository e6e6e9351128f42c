//! People and faces that leave for another server, or come from one.

use std::sync::Arc;

use super::picture::{self, PictureError};
use crate::{
    face::{Embedding, EngineInUse, FaceError},
    identity::{EmbeddingStore, EnrolledFace, FaceCrop, Gallery, GalleryError, Person},
    ids::{FaceId, ModelId, PersonId},
    time::Timestamp,
};

/// A face with everything that is kept of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CarriedFace {
    /// Its id, the same on both servers.
    pub id: FaceId,
    /// Whose face it is.
    pub person: PersonId,
    /// Quality, 0 to 1.
    pub quality: f32,
    /// Where the picture came from.
    pub source: String,
    /// When it was enrolled first.
    pub created: Timestamp,
    /// Its picture.
    pub crop: Option<FaceCrop>,
    /// Its embeddings by any models.
    pub embeddings: Vec<Embedding>,
}

/// What became of a person or face that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// It is here now.
    Added,
    /// It was here already, and is as it was.
    ThereAlready,
    /// It can't be used, and why.
    Refused(String),
}

/// The door of the gallery to other servers. Cheap to clone.
#[derive(Clone)]
pub struct Exchange {
    /// Who is known.
    pub gallery: Gallery,
    /// Embeddings and pictures.
    pub embeddings: Arc<dyn EmbeddingStore>,
    /// The networks in use.
    pub engine: EngineInUse,
}

impl Exchange {
    /// A face with its picture and embeddings, where they are wanted.
    ///
    /// # Errors
    /// When the store fails, or the face is gone meanwhile.
    pub async fn carry(
        &self,
        face: &EnrolledFace,
        pictures: bool,
        embeddings: bool,
    ) -> Result<CarriedFace, GalleryError> {
        Ok(CarriedFace {
            id: face.id.clone(),
            person: face.person.clone(),
            quality: face.quality,
            source: face.source.clone(),
            created: face.created,
            crop: if pictures { self.embeddings.crop(&face.person, &face.id).await? } else { None },
            embeddings: if embeddings { self.embeddings.embeddings(&face.id).await? } else { Vec::new() },
        })
    }

    /// Takes a person in; one with this id who is here already stays as they are.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn take_person(&self, person: Person) -> Result<Arrival, GalleryError> {
        match self.gallery.create_person(person).await {
            Ok(_) => Ok(Arrival::Added),
            Err(GalleryError::AlreadyExists(_)) => Ok(Arrival::ThereAlready),
            Err(error) => Err(error),
        }
    }

    /// Takes a face of a person in: with its embedding by the model in use, or else one that is made from its picture. Those of other
    /// models are kept beside it.
    ///
    /// # Errors
    /// When store, index or networks fail.
    pub async fn take_face(&self, face: CarriedFace) -> Result<Arrival, PictureError> {
        if !self.embeddings.embeddings(&face.id).await?.is_empty() {
            return Ok(Arrival::ThereAlready);
        }
        if self.gallery.person(&face.person).is_none() {
            return Ok(Arrival::Refused(format!("person {} is not here; send people before their faces", face.person)));
        }
        if let Some(odd) = face.embeddings.iter().find(|e| !sound(e)) {
            return Ok(Arrival::Refused(format!("the embedding by {} is none", odd.model)));
        }
        let engine = self.engine.now();
        let model = engine.embedder().id.clone();
        let size = engine.embedder().embedder.as_ref().map_or(0, |e| e.size);
        let (mut own, others): (Vec<_>, Vec<_>) = face.embeddings.into_iter().partition(|e| e.model == model);
        let embedding = match (own.pop(), &face.crop) {
            (Some(own), _) if own.values.len() != size => {
                let text = format!("the embedding by {model} has {} values instead of {size}", own.values.len());
                return Ok(Arrival::Refused(text));
            }
            (Some(own), _) => own,
            (None, Some(crop)) => match self.embed(crop.clone()).await? {
                Ok(embedding) => embedding,
                Err(why) => return Ok(Arrival::Refused(why)),
            },
            (None, None) => return Ok(Arrival::Refused(unusable(&model))),
        };
        let enrolled = EnrolledFace {
            id: face.id.clone(),
            person: face.person,
            embedding,
            quality: face.quality.clamp(0.0, 1.0),
            source: face.source,
            created: face.created,
        };
        match self.gallery.add_face(enrolled, face.crop.as_ref()).await {
            Ok(()) => {}
            Err(error @ GalleryError::NoLegalBasis(_)) => return Ok(Arrival::Refused(error.to_string())),
            Err(error) => return Err(error.into()),
        }
        for other in &others {
            self.embeddings.insert_embedding(&face.id, other).await?;
        }
        Ok(Arrival::Added)
    }

    /// The embedding of a picture that came, or why there is none.
    async fn embed(&self, crop: FaceCrop) -> Result<Result<Embedding, String>, FaceError> {
        let engine = self.engine.now();
        let detection = crop.detection;
        let finite = detection.landmarks.iter().all(|p| p.x.is_finite() && p.y.is_finite());
        if !finite || !engine.can_align(&detection) {
            return Ok(Err("its landmarks can't be those of a face".into()));
        }
        let picture = match picture::blocking(move || crop.picture()).await {
            Ok(Ok(picture)) => picture,
            Ok(Err(error)) => return Ok(Err(format!("its picture can't be read: {error}"))),
            Err(error) => return Ok(Err(format!("its picture could not be read: {error}"))),
        };
        let embedded = engine.embed(&picture, &[detection]).await?;
        Ok(embedded.into_iter().next().ok_or_else(|| "no embedding could be made of its picture".into()))
    }
}

fn unusable(model: &ModelId) -> String {
    format!("it has neither an embedding by {model}, which is in use here, nor a picture to make one from")
}

/// Whether an embedding could be one: finite, not all zero, of a length that models have.
fn sound(embedding: &Embedding) -> bool {
    let values = &embedding.values;
    (2..=4096).contains(&values.len()) && values.iter().all(|v| v.is_finite()) && values.iter().any(|v| *v != 0.0)
}
