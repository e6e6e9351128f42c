//! Everything that is stored about a person, as a stream: the report, then faces, then events.

use std::{collections::VecDeque, pin::Pin};

use bytes::Bytes;
use futures::{Stream, stream};
use tonic::Status;

use super::{Services, convert, status::IntoStatus};
use crate::{
    event::{EventFilter, EventLogError, log::EventQuery},
    identity::{EnrolledFace, person::StoredAbout},
    ids::PersonId,
    proto::v1::{EventReport, FaceReport, PersonReport, ReportPersonResponse, report_person_response::Piece},
    time,
};

/// Events read at once.
const PAGE: usize = 100;

pub(super) type ReportStream = Pin<Box<dyn Stream<Item = Result<ReportPersonResponse, Status>> + Send>>;

/// How long events and their pictures are kept, as a report tells it.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeptFor {
    /// Days after which events are removed; 0 is never.
    pub events: u32,
    /// Days after which their pictures are removed; 0 is with their events.
    pub pictures: u32,
}

/// A report under way; one piece with one picture is in memory at a time.
struct Report {
    services: Services,
    person: PersonId,
    pictures: bool,
    first: Option<PersonReport>,
    about: StoredAbout,
    faces: VecDeque<EnrolledFace>,
    events: VecDeque<crate::event::Event>,
    /// Where the next page of events begins; `None` after the last.
    below: Option<u64>,
}

/// Tells everything that is stored about a person.
///
/// # Errors
/// When there is no such person, or the store fails.
pub(super) async fn report(services: &Services, person: PersonId, pictures: bool) -> Result<ReportStream, Status> {
    let store = services.gallery.store();
    let wire = services.wire_person(&person).await?;
    let about = store.stored_about(&person).await.map_err(IntoStatus::into_status)?;
    let faces = store.faces(&person).await.map_err(IntoStatus::into_status)?;
    let first = PersonReport {
        person: Some(wire),
        report_time: Some(convert::time(time::now())),
        negative_exemplars: about.negatives,
        shapes_classifier: about.classifier && !faces.is_empty(),
        event_retention_days: services.kept_for.events,
        picture_retention_days: services.kept_for.pictures,
        gallery_backend: services.gallery.backend().into(),
    };
    let state = Report {
        services: services.clone(),
        person,
        pictures,
        first: Some(first),
        about,
        faces: faces.into(),
        events: VecDeque::new(),
        below: Some(u64::MAX),
    };
    Ok(Box::pin(stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await {
            Ok(piece) => Some((Ok(ReportPersonResponse { piece: Some(piece?) }), Some(state))),
            Err(status) => Some((Err(status), None)),
        }
    })))
}

impl Report {
    async fn next(&mut self) -> Result<Option<Piece>, Status> {
        if let Some(report) = self.first.take() {
            return Ok(Some(Piece::Report(report)));
        }
        if let Some(face) = self.faces.pop_front() {
            return self.face(&face).await.map(|face| Some(Piece::Face(face)));
        }
        if self.events.is_empty() {
            self.turn_page().await?;
        }
        match self.events.pop_front() {
            Some(event) => self.event(event).await.map(|event| Some(Piece::Event(event))),
            None => Ok(None),
        }
    }

    async fn face(&self, face: &EnrolledFace) -> Result<FaceReport, Status> {
        let mut jpeg = Bytes::new();
        if self.pictures {
            let crop = self.services.embeddings.crop(&face.person, &face.id).await.map_err(IntoStatus::into_status)?;
            jpeg = crop.map(|crop| crop.jpeg).unwrap_or_default();
        }
        let models = self.about.models.get(&face.id).into_iter().flatten().map(ToString::to_string).collect();
        Ok(FaceReport { face: Some(convert::person::face(face)), models, jpeg })
    }

    async fn turn_page(&mut self) -> Result<(), Status> {
        let Some(below) = self.below.take() else { return Ok(()) };
        let filter = EventFilter { people: vec![self.person.clone()], ..EventFilter::default() };
        let query = EventQuery { filter, below: Some(below), limit: PAGE, ..EventQuery::default() };
        let page = self.services.log.list(&query).await.map_err(IntoStatus::into_status)?;
        self.below = page.last().filter(|_| page.len() == PAGE).map(|event| event.position);
        self.events = page.into();
        Ok(())
    }

    async fn event(&self, event: crate::event::Event) -> Result<EventReport, Status> {
        let mut jpeg = Bytes::new();
        if self.pictures && event.has_image {
            jpeg = match self.services.log.image(&event.body.id).await {
                Ok(jpeg) => jpeg,
                // Retention was faster.
                Err(EventLogError::NoImage(_) | EventLogError::NotFound(_)) => Bytes::new(),
                Err(error) => return Err(error.into_status()),
            };
        }
        Ok(EventReport { event: Some(convert::event::to_wire(&event)), jpeg })
    }
}
