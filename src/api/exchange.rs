//! Export and import of the gallery on the wire.

use std::{collections::VecDeque, pin::Pin};

use bytes::Bytes;
use futures::{Stream, stream};
use tonic::{Status, Streaming};

use super::{
    Services, convert,
    status::{IntoStatus, unavailable},
};
use crate::{
    access::Caller,
    face::{Distance, Embedding},
    frame::{BBox, Point},
    identity::{EnrolledFace, FaceCrop, Person},
    ids::PersonId,
    pipeline::exchange::{Arrival, CarriedFace, Exchange},
    proto::v1::{
        self, ExportGalleryRequest, ExportGalleryResponse, GalleryFace, ImportGalleryRequest, ImportGalleryResponse,
        ImportOutcome, ModelEmbedding, export_gallery_response, import_gallery_request,
    },
    time,
};

/// People read at once.
const PAGE: usize = 200;

pub(super) type ExportStream = Pin<Box<dyn Stream<Item = Result<ExportGalleryResponse, Status>> + Send>>;
pub(super) type ImportStream = Pin<Box<dyn Stream<Item = Result<ImportGalleryResponse, Status>> + Send>>;

impl Services {
    fn exchange(&self) -> Exchange {
        Exchange {
            gallery: self.gallery.clone(),
            embeddings: self.embeddings.clone(),
            engine: self.desk.engine_in_use(),
        }
    }
}

/// An export under way: one page of people and one person's faces are in memory.
struct Export {
    exchange: Exchange,
    request: ExportGalleryRequest,
    after: Option<PersonId>,
    people: VecDeque<Person>,
    faces: VecDeque<EnrolledFace>,
    last_page: bool,
}

/// Everybody, a person before their faces. Who is erased meanwhile is left out.
pub(super) fn export(services: &Services, request: ExportGalleryRequest) -> ExportStream {
    let state = Export {
        exchange: services.exchange(),
        request,
        after: None,
        people: VecDeque::new(),
        faces: VecDeque::new(),
        last_page: false,
    };
    Box::pin(stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await {
            Ok(piece) => Some((Ok(ExportGalleryResponse { piece: Some(piece?) }), Some(state))),
            Err(status) => Some((Err(status), None)),
        }
    }))
}

impl Export {
    async fn next(&mut self) -> Result<Option<export_gallery_response::Piece>, Status> {
        use export_gallery_response::Piece;
        let store = self.exchange.gallery.store().clone();
        loop {
            while let Some(face) = self.faces.pop_front() {
                match self.exchange.carry(&face, self.request.pictures, self.request.embeddings).await {
                    Ok(carried) => return Ok(Some(Piece::Face(to_wire(&face, carried)))),
                    Err(crate::identity::GalleryError::FaceNotFound(_)) => {}
                    Err(error) => return Err(error.into_status()),
                }
            }
            if let Some(person) = self.people.pop_front() {
                match store.faces(&person.id).await {
                    Ok(faces) => self.faces = faces.into(),
                    Err(crate::identity::GalleryError::PersonNotFound(_)) => continue,
                    Err(error) => return Err(error.into_status()),
                }
                let wire = convert::person::to_wire(&person, self.faces.len() as u32, &[]);
                return Ok(Some(Piece::Person(wire)));
            }
            if self.last_page {
                return Ok(None);
            }
            let page = store.people(self.after.as_ref(), PAGE).await.map_err(IntoStatus::into_status)?;
            self.last_page = page.len() < PAGE;
            self.after = page.last().map(|(person, _)| person.id.clone());
            self.people = page.into_iter().map(|(person, _)| person).collect();
        }
    }
}

fn to_wire(face: &EnrolledFace, carried: CarriedFace) -> GalleryFace {
    let (jpeg, place) = match carried.crop {
        Some(crop) => (crop.jpeg, Some(convert::face::detected(&crop.detection, 0.0, 0.0, None))),
        None => (Bytes::new(), None),
    };
    let embeddings = carried.embeddings.into_iter().map(|e| ModelEmbedding {
        model: e.model.to_string(),
        distance: match e.distance {
            Distance::Cosine => "cosine".into(),
            Distance::Euclidean => "euclidean".into(),
        },
        values: e.values.to_vec(),
    });
    GalleryFace { face: Some(convert::person::face(face)), jpeg, r#where: place, embeddings: embeddings.collect() }
}

/// A face from the wire; a fault is what is wrong with it.
fn from_wire(wire: GalleryFace) -> Result<CarriedFace, String> {
    let face = wire.face.ok_or("it has no face")?;
    let (person, id) = face.name.rsplit_once("/faces/").ok_or("its name is not of the form people/ID/faces/ID")?;
    let person = person.strip_prefix("people/").ok_or("its name is not of the form people/ID/faces/ID")?;
    let created = match &face.create_time {
        Some(at) => convert::from_time(at).ok_or("its create_time is out of range")?,
        None => time::now(),
    };
    let crop = match (wire.jpeg.is_empty(), wire.r#where) {
        (true, _) => None,
        (false, Some(place)) => Some(FaceCrop { jpeg: wire.jpeg, detection: detection(&place)? }),
        (false, None) => return Err("it has a picture, and not where the face is in it".into()),
    };
    let embedding = |e: ModelEmbedding| {
        let distance = match e.distance.as_str() {
            "cosine" => Distance::Cosine,
            "euclidean" => Distance::Euclidean,
            _ => return Err("the distance of an embedding is cosine or euclidean".to_owned()),
        };
        Ok(Embedding { model: e.model.parse().map_err(|e| format!("{e}"))?, distance, values: e.values.into() })
    };
    Ok(CarriedFace {
        id: id.parse().map_err(|e| format!("{e}"))?,
        person: person.parse().map_err(|e| format!("{e}"))?,
        quality: if face.quality.is_finite() { face.quality } else { 0.0 },
        source: face.source.chars().take(SOURCE).collect(),
        created,
        crop,
        embeddings: wire.embeddings.into_iter().map(embedding).collect::<Result<_, _>>()?,
    })
}

/// Characters of a source that are kept.
const SOURCE: usize = 500;

fn detection(wire: &v1::DetectedFace) -> Result<crate::face::Detection, String> {
    let bbox = wire.bbox.as_ref().ok_or("its place has no box")?;
    let points: Vec<Point> = wire.landmarks.iter().map(|p| Point::new(p.x, p.y)).collect();
    let landmarks = points.try_into().map_err(|_| "its place has not five landmarks".to_owned())?;
    let bbox = BBox::new(bbox.x1, bbox.y1, bbox.x2, bbox.y2);
    Ok(crate::face::Detection { bbox, score: wire.score, landmarks })
}

/// An import under way: pieces are answered one by one, so memory holds one.
struct Import {
    exchange: Exchange,
    services: Services,
    /// The stream outlives the handler that made it.
    caller: Caller,
    pieces: Streaming<ImportGalleryRequest>,
}

/// Takes people and faces in and answers each, in order.
pub(super) fn import(services: &Services, caller: Caller, pieces: Streaming<ImportGalleryRequest>) -> ImportStream {
    let state = Import { exchange: services.exchange(), services: services.clone(), caller, pieces };
    Box::pin(stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        let message = tokio::select! {
            () = state.services.stop.cancelled() => Err(unavailable("the server is shutting down".into())),
            message = state.pieces.message() => message,
        };
        let answer = match message {
            Ok(None) => return None,
            Ok(Some(request)) => state.answer(request).await,
            Err(status) => Err(status),
        };
        let over = answer.is_err();
        Some((answer, (!over).then_some(state)))
    }))
}

impl Import {
    async fn answer(&self, request: ImportGalleryRequest) -> Result<ImportGalleryResponse, Status> {
        use import_gallery_request::Piece;
        let (name, arrival) = match request.piece {
            None => (String::new(), Arrival::Refused("it is neither a person nor a face".into())),
            Some(Piece::Person(wire)) => (wire.name.clone(), self.person(wire).await?),
            Some(Piece::Face(wire)) => {
                let name = wire.face.as_ref().map_or_else(String::new, |face| face.name.clone());
                let arrival = match from_wire(wire) {
                    Ok(face) => self.exchange.take_face(face).await.map_err(IntoStatus::into_status)?,
                    Err(fault) => Arrival::Refused(fault),
                };
                (name, arrival)
            }
        };
        if arrival == Arrival::Added {
            self.caller.trail.step(name.clone()).await;
        }
        let (outcome, message) = match arrival {
            Arrival::Added => (ImportOutcome::Added, String::new()),
            Arrival::ThereAlready => (ImportOutcome::ThereAlready, String::new()),
            Arrival::Refused(why) => (ImportOutcome::Refused, why),
        };
        Ok(ImportGalleryResponse { name: convert::excerpt(&name), outcome: outcome.into(), message })
    }

    async fn person(&self, wire: v1::Person) -> Result<Arrival, Status> {
        let Some(Ok(id)) = wire.name.strip_prefix("people/").map(str::parse::<PersonId>) else {
            return Ok(Arrival::Refused("its name is not of the form people/ID".into()));
        };
        let created = wire.create_time.as_ref().and_then(convert::from_time).unwrap_or_else(time::now);
        match convert::person::from_wire(id, wire, created) {
            Ok(person) => self.exchange.take_person(person).await.map_err(IntoStatus::into_status),
            Err(faults) => {
                let told: Vec<String> = faults.into_iter().map(|(field, text)| format!("{field}: {text}")).collect();
                Ok(Arrival::Refused(told.join("; ")))
            }
        }
    }
}
