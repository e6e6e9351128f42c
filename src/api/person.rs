//! PersonService: the gallery.

use std::{pin::Pin, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use futures::{Stream, stream};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    Services, convert, page,
    report::{ReportStream, report},
    status::{IntoStatus, exhausted, invalid, invalid_field, message_too_large, no_picture, unavailable},
};
use crate::{
    access::Caller,
    face::FaceError,
    identity::GalleryError,
    ids::{FaceId, PersonId},
    pipeline::{
        conflict::ConflictKind,
        picture::{Enrollment, PictureError},
    },
    proto::v1::{person_service_server::PersonService, *},
    time,
};

/// First pause before a picture that found the networks busy is tried again; pauses double.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Tries after the first: about three seconds in all.
const TRIES: usize = 5;

impl Services {
    pub(super) async fn wire_person(&self, id: &PersonId) -> Result<Person, Status> {
        let person = self.gallery.store().person(id).await.map_err(IntoStatus::into_status)?;
        let faces = self.gallery.store().faces(id).await.map_err(IntoStatus::into_status)?;
        Ok(convert::person::to_wire(&person, faces.len() as u32, &self.gallery.alikes(id)))
    }

    async fn enroll_one(&self, person: &PersonId, r: EnrollFacesRequest) -> Result<EnrollFacesResponse, Status> {
        let pauses = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_times(TRIES).with_jitter();
        let enroll = || self.desk.enroll(person, r.image.clone(), &r.source, r.allow_several_faces, r.force);
        // A busy moment must not end the stream of somebody who enrols a folder; a server that stops may.
        let busy = |e: &PictureError| matches!(e, PictureError::Face(FaceError::Busy)) && !self.stop.is_cancelled();
        let enrolled = enroll.retry(pauses).when(busy).await;
        Ok(match enrolled.map_err(IntoStatus::into_status)? {
            Enrollment::Enrolled { face, conflicts, found } => EnrollFacesResponse {
                source: r.source,
                face: Some(convert::person::face(&face)),
                conflicts: conflicts.iter().map(convert::person::conflict).collect(),
                detections: found.iter().map(convert::face::measured).collect(),
                ..Default::default()
            },
            Enrollment::Refused { reason, message, conflicts, found } => EnrollFacesResponse {
                source: r.source,
                refusal: convert::person::refusal(reason).into(),
                message,
                similar_person: conflicts
                    .first()
                    .filter(|c| c.kind == ConflictKind::LooksLikeAnotherPerson)
                    .map(|c| format!("people/{}", c.person))
                    .unwrap_or_default(),
                conflicts: conflicts.iter().map(convert::person::conflict).collect(),
                detections: found.iter().map(convert::face::measured).collect(),
                ..Default::default()
            },
        })
    }
}

/// One enrolment stream: requests are answered one by one, so memory holds one picture.
struct EnrollState {
    services: Services,
    /// The stream outlives the handler that made it.
    caller: Caller,
    requests: Streaming<EnrollFacesRequest>,
    person: Option<PersonId>,
    /// Whose enrolment is in the records.
    begun: Option<PersonId>,
    count: usize,
    over: bool,
}

impl EnrollState {
    async fn next(mut self) -> Option<(Result<EnrollFacesResponse, Status>, Self)> {
        if self.over {
            return None;
        }
        let request = tokio::select! {
            () = self.services.stop.cancelled() => Err(unavailable("the server is shutting down".into())),
            message = self.requests.message() => message,
        };
        let answer = match request {
            Ok(None) => return None,
            Ok(Some(request)) => self.answer(request).await,
            Err(status) if status.code() == Code::OutOfRange => Err(message_too_large(&status)),
            Err(status) => Err(status),
        };
        self.over = answer.is_err();
        Some((answer, self))
    }

    async fn answer(&mut self, request: EnrollFacesRequest) -> Result<EnrollFacesResponse, Status> {
        self.count += 1;
        let limit = self.services.limits.pictures_per_enrolment;
        if self.count > limit {
            const KEY: &str = "limits.pictures_per_enrolment";
            let text = format!("more than {limit} pictures in one enrolment; begin another, or raise {KEY}");
            return Err(exhausted(KEY, text));
        }
        if !request.person.is_empty() {
            self.person = Some(page::id("person", "people", &request.person)?);
        }
        let Some(person) = self.person.clone() else {
            return Err(invalid_field("person", "the first message must name the person, people/ID"));
        };
        if self.begun.as_ref() != Some(&person) {
            self.caller.trail.names(format!("people/{person}"));
            self.caller.trail.begins().await.map_err(IntoStatus::into_status)?;
            self.begun = Some(person.clone());
        }
        let answer = self.services.enroll_one(&person, request).await?;
        if let Some(face) = &answer.face {
            self.caller.trail.step(face.name.clone()).await;
        }
        Ok(answer)
    }
}

/// Person and face of a resource name.
fn face_of(name: &str) -> Result<(PersonId, FaceId), Status> {
    let (person, face) = name.rsplit_once("/faces/").ok_or_else(|| {
        let text = format!("{:?} is not of the form people/ID/faces/ID", convert::excerpt(name));
        invalid_field("name", text)
    })?;
    let person = page::id("name", "people", person)?;
    Ok((person, face.parse().map_err(|e| invalid_field("name", format!("{e}")))?))
}

type EnrollStream = Pin<Box<dyn Stream<Item = Result<EnrollFacesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl PersonService for Services {
    async fn create_person(&self, request: Request<CreatePersonRequest>) -> Result<Response<Person>, Status> {
        let r = request.into_inner();
        let id = match r.person_id.as_str() {
            "" => PersonId::generate(),
            id => id.parse().map_err(|e| invalid_field("person_id", format!("{e}")))?,
        };
        let caller = Caller::now();
        caller.trail.names(format!("people/{id}"));
        let person = convert::person::from_wire(id, r.person.unwrap_or_default(), time::now()).map_err(invalid)?;
        if r.validate_only {
            match self.gallery.store().person(&person.id).await {
                Err(GalleryError::PersonNotFound(_)) => {}
                Err(error) => return Err(error.into_status()),
                Ok(taken) => return Err(GalleryError::AlreadyExists(taken.id).into_status()),
            }
            return Ok(Response::new(convert::person::to_wire(&person, 0, &[])));
        }
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        let person = self.gallery.create_person(person).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(convert::person::to_wire(&person, 0, &[])))
    }

    async fn get_person(&self, request: Request<GetPersonRequest>) -> Result<Response<Person>, Status> {
        let id = page::id("name", "people", &request.into_inner().name)?;
        Ok(Response::new(self.wire_person(&id).await?))
    }

    async fn list_people(&self, request: Request<ListPeopleRequest>) -> Result<Response<ListPeopleResponse>, Status> {
        let r = request.into_inner();
        let (size, after) = (page::size(r.page_size)?, page::after::<PersonId>(&r.page_token)?);
        let mut people =
            self.gallery.store().people(after.as_ref(), size + 1).await.map_err(IntoStatus::into_status)?;
        let more = people.len() > size;
        people.truncate(size);
        let next = people.last().filter(|_| more).map(|(p, _)| page::token(p.id.as_str())).unwrap_or_default();
        let people = people.iter().map(|(p, n)| convert::person::to_wire(p, *n, &self.gallery.alikes(&p.id))).collect();
        Ok(Response::new(ListPeopleResponse { people, next_page_token: next }))
    }

    async fn update_person(&self, request: Request<UpdatePersonRequest>) -> Result<Response<Person>, Status> {
        let r = request.into_inner();
        let wire = r.person.ok_or_else(|| invalid_field("person", "is missing"))?;
        let id: PersonId = page::id("person.name", "people", &wire.name)?;
        let caller = Caller::now();
        caller.trail.names(format!("people/{id}"));
        let mut person = self.gallery.store().person(&id).await.map_err(IntoStatus::into_status)?;
        if !wire.etag.is_empty() && wire.etag != person.revision.to_string() {
            return Err(GalleryError::Conflict(id).into_status());
        }
        let paths = r.update_mask.map(|m| m.paths).unwrap_or_default();
        convert::person::apply(&mut person, wire, &paths).map_err(invalid)?;
        person.revision += 1;
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        self.gallery.update_person(person).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(self.wire_person(&id).await?))
    }

    async fn delete_person(
        &self,
        request: Request<DeletePersonRequest>,
    ) -> Result<Response<DeletePersonResponse>, Status> {
        let id = page::id("name", "people", &request.into_inner().name)?;
        let caller = Caller::now();
        caller.trail.names(format!("people/{id}"));
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        let receipt = self.gallery.erase_person(&id, time::now()).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(DeletePersonResponse { receipt: Some(convert::person::receipt(&receipt)) }))
    }

    type EnrollFacesStream = EnrollStream;

    async fn enroll_faces(
        &self,
        request: Request<Streaming<EnrollFacesRequest>>,
    ) -> Result<Response<EnrollStream>, Status> {
        let requests = request.into_inner();
        let (services, caller) = (self.clone(), Caller::now());
        let state = EnrollState { services, caller, requests, person: None, begun: None, count: 0, over: false };
        let answers = stream::unfold(state, EnrollState::next);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn list_faces(&self, request: Request<ListFacesRequest>) -> Result<Response<ListFacesResponse>, Status> {
        let r = request.into_inner();
        let person = page::id("parent", "people", &r.parent)?;
        Caller::now().trail.names(format!("people/{person}"));
        let (size, after) = (page::size(r.page_size)?, page::after::<FaceId>(&r.page_token)?);
        let faces = self.gallery.store().faces(&person).await.map_err(IntoStatus::into_status)?;
        let rest: Vec<_> = faces.iter().filter(|f| after.as_ref().is_none_or(|a| f.id > *a)).collect();
        let next = (rest.len() > size).then(|| rest.get(size - 1).map(|f| page::token(f.id.as_str()))).flatten();
        let faces = rest.iter().take(size).map(|f| convert::person::face(f)).collect();
        Ok(Response::new(ListFacesResponse { faces, next_page_token: next.unwrap_or_default() }))
    }

    async fn get_face_image(
        &self,
        request: Request<GetFaceImageRequest>,
    ) -> Result<Response<GetFaceImageResponse>, Status> {
        let (person, face) = face_of(&request.into_inner().name)?;
        Caller::now().trail.names(format!("people/{person}/faces/{face}"));
        let crop = self.embeddings.crop(&person, &face).await.map_err(IntoStatus::into_status)?;
        let crop = crop.ok_or_else(|| no_picture(&person, &face))?;
        let face = Some(convert::face::detected(&crop.detection, 0.0, 0.0, None));
        Ok(Response::new(GetFaceImageResponse { jpeg: crop.jpeg, face }))
    }

    type ReportPersonStream = ReportStream;

    async fn report_person(&self, request: Request<ReportPersonRequest>) -> Result<Response<ReportStream>, Status> {
        let r = request.into_inner();
        let person = page::id("name", "people", &r.name)?;
        Caller::now().trail.names(format!("people/{person}"));
        Ok(Response::new(report(self, person, r.pictures).await?))
    }

    async fn delete_face(&self, request: Request<DeleteFaceRequest>) -> Result<Response<()>, Status> {
        let (person, face) = face_of(&request.into_inner().name)?;
        let caller = Caller::now();
        caller.trail.names(format!("people/{person}/faces/{face}"));
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        self.gallery.remove_face(&person, &face).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(()))
    }
}
