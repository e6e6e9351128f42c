//! EventService: the log, streamed and read.

use std::{pin::Pin, time::Duration};

use futures::{Stream, stream};
use tonic::{Request, Response, Status};

use super::{
    Services, convert, page,
    status::{IntoStatus, invalid, invalid_field, nobody_calls, unavailable},
};
use crate::{
    access::{Caller, Scope},
    event::{
        self, EventFilter, EventKind as Kind, EventLogError, NewEvent,
        log::EventQuery,
        subscription::{Item, ResumeToken, Start, Subscription},
    },
    face::{Distance, Embedding},
    identity::{GalleryError, Why, WhyCode},
    ids::{EventId, PersonId},
    pipeline::past::PastQuery,
    proto::v1::{event_service_server::EventService, stream_events_response::Message, *},
    telemetry, time,
};

/// Heartbeat when the client asks for none.
const HEARTBEAT: Duration = Duration::from_secs(15);

struct Feed {
    services: Services,
    subscription: Subscription,
    heartbeat: Duration,
    /// A first heartbeat tells that the subscription stands.
    greeted: bool,
    /// Counts the stream while it lives.
    _counted: telemetry::Subscriber,
}

impl Feed {
    fn response(&self, message: Message) -> StreamEventsResponse {
        let token =
            ResumeToken { log_id: self.services.log.log_id().to_owned(), position: self.subscription.position() };
        StreamEventsResponse { message: Some(message), resume_token: token.to_string() }
    }

    fn heartbeat(&self) -> StreamEventsResponse {
        let latest_position = *self.services.log.latest().borrow();
        self.response(Message::Heartbeat(Heartbeat { time: Some(convert::time(time::now())), latest_position }))
    }

    /// The next message; an error is the last one.
    async fn next(mut self) -> (Result<StreamEventsResponse, Status>, Option<Self>) {
        if !std::mem::replace(&mut self.greeted, true) {
            return (Ok(self.heartbeat()), Some(self));
        }
        let outcome = tokio::select! {
            // What is in the log is delivered before the server ends.
            biased;
            item = self.subscription.next() => Some(item),
            () = self.services.stop.cancelled() => {
                // Cameras wrote their last events before this: they go out first.
                if self.subscription.position() >= *self.services.log.latest().borrow() {
                    return (Err(unavailable("the server is shutting down; resume with the last token".into())), None);
                }
                Some(self.subscription.next().await)
            }
            () = tokio::time::sleep(self.heartbeat) => None,
        };
        match outcome {
            None => (Ok(self.heartbeat()), Some(self)),
            Some(Ok(Item::Event(event))) => {
                (Ok(self.response(Message::Event(convert::event::to_wire(&event)))), Some(self))
            }
            Some(Ok(Item::Gap { first, last })) => {
                let gap = Gap { first_position: first, last_position: last };
                (Ok(self.response(Message::Gap(gap))), Some(self))
            }
            Some(Err(error)) => (Err(error.into_status()), None),
        }
    }
}

/// A filter that lets nothing through that the caller may not see.
fn scoped(filter: EventFilter, caller: &Caller) -> Result<EventFilter, Status> {
    match &caller.scope {
        Scope::Everything => Ok(filter),
        Scope::Labels(labels) => Ok(EventFilter { bound_labels: (**labels).clone(), ..filter }),
        Scope::Nothing => Err(nobody_calls()),
    }
}

type EventStream = Pin<Box<dyn Stream<Item = Result<StreamEventsResponse, Status>> + Send>>;

impl Services {
    /// An event that the caller may see; named in the records of the call.
    async fn seen_event(&self, id: &EventId, caller: &Caller) -> Result<event::Event, Status> {
        caller.trail.names(format!("events/{id}"));
        let event = self.log.get(id).await.map_err(IntoStatus::into_status)?;
        if !caller.scope.sees(&event.body.camera_labels) {
            return Err(EventLogError::NotFound(id.clone()).into_status());
        }
        Ok(event)
    }

    async fn start_of(&self, start: Option<stream_events_request::Start>) -> Result<Start, Status> {
        match start {
            None => Ok(Start::Now),
            Some(stream_events_request::Start::StartTime(at)) => {
                convert::from_time(&at).map(Start::Since).ok_or_else(|| invalid_field("start_time", "is out of range"))
            }
            Some(stream_events_request::Start::ResumeToken(token)) => {
                let token: ResumeToken = token.parse().map_err(IntoStatus::into_status)?;
                let bounds = self.log.bounds().await.map_err(IntoStatus::into_status)?;
                token.check(self.log.log_id(), bounds.latest).map_err(IntoStatus::into_status)?;
                Ok(Start::After(token.position))
            }
        }
    }

    /// The template that an event rests on.
    fn template(&self, event: &event::Event) -> Option<Embedding> {
        let embedder = self.desk.embedder();
        let spec = embedder.embedder.as_ref().map(|e| (&embedder.id, e.distance));
        let (values, model) = (event.body.template.as_ref()?, event.body.model.as_ref()?);
        let distance = spec.filter(|(id, _)| *id == model).map_or(Distance::Cosine, |(_, distance)| distance);
        Some(Embedding { model: model.clone(), distance, values: values.as_slice().into() })
    }

    /// A wrong match that was right after all: "not that person" is forgotten, and a CORRECTED event names the person again.
    async fn give_back(&self, right: &event::Event, person: PersonId) -> Result<(), Status> {
        if let Some(probe) = self.template(right) {
            self.gallery.remove_negative(&person, &probe).await.map_err(IntoStatus::into_status)?;
        }
        let restored = NewEvent {
            id: EventId::generate(),
            kind: Kind::Corrected,
            created: time::now(),
            corrects: Some(right.body.id.clone()),
            reason: "a person took back that the match was wrong".into(),
            image: None,
            template: None,
            ..right.body.clone()
        };
        self.log.append(vec![restored]).await.map_err(IntoStatus::into_status).map(drop)
    }

    /// A wrong match: the person is taken back by a CORRECTED event, and the face is kept as "not that person".
    async fn take_back(&self, wrong: &event::Event, person: PersonId) -> Result<(), Status> {
        if let Some(probe) = self.template(wrong) {
            match self.gallery.add_negative(&person, &probe).await {
                // Erased meanwhile: nothing is left to be taken for.
                Ok(()) | Err(GalleryError::PersonNotFound(_)) => {}
                // The gallery has moved to another model since: the event is corrected, and nothing can be compared with its face.
                Err(GalleryError::Incomparable(error)) => tracing::info!(%error, "a wrong match leaves no exemplar"),
                Err(error) => return Err(error.into_status()),
            }
        }
        let mut corrected = NewEvent {
            id: EventId::generate(),
            kind: Kind::Corrected,
            created: time::now(),
            corrects: Some(wrong.body.id.clone()),
            reason: "a person said that the match was wrong".into(),
            image: None,
            template: None,
            ..wrong.body.clone()
        };
        if let Some(matched) = &mut corrected.matched {
            matched.withdraw(Why::plain(WhyCode::TakenBack, corrected.reason.clone()));
        }
        self.log.append(vec![corrected]).await.map_err(IntoStatus::into_status).map(drop)
    }
}

#[tonic::async_trait]
impl EventService for Services {
    type StreamEventsStream = EventStream;

    async fn stream_events(&self, request: Request<StreamEventsRequest>) -> Result<Response<EventStream>, Status> {
        let r = request.into_inner();
        let filter = scoped(convert::event::filter(r.filter).map_err(invalid)?, &Caller::now())?;
        let heartbeat = match r.heartbeat_interval.as_ref().map(convert::from_duration) {
            None => HEARTBEAT,
            Some(Some(d)) if (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&d) => d,
            Some(_) => return Err(invalid_field("heartbeat_interval", "give 0.1 s to 3600 s")),
        };
        let start = self.start_of(r.start).await?;
        let subscription = Subscription::new(self.log.clone(), filter, start).await.map_err(IntoStatus::into_status)?;
        let feed = Feed {
            services: self.clone(),
            subscription,
            heartbeat,
            greeted: false,
            _counted: telemetry::Subscriber::new(),
        };
        let messages = stream::unfold(Some(feed), |feed| async { Some(feed?.next().await) });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn list_events(&self, request: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        let r = request.into_inner();
        let limit = page::size(r.page_size)?;
        let at = |field: &str, t: Option<prost_types::Timestamp>| {
            t.map(|t| convert::from_time(&t).ok_or_else(|| invalid_field(field, "is out of range"))).transpose()
        };
        let query = EventQuery {
            filter: scoped(convert::event::filter(r.filter).map_err(invalid)?, &Caller::now())?,
            from: at("start_time", r.start_time)?,
            until: at("end_time", r.end_time)?,
            below: page::after::<u64>(&r.page_token)?,
            limit: limit + 1,
        };
        let mut events = self.log.list(&query).await.map_err(IntoStatus::into_status)?;
        let more = events.len() > limit;
        events.truncate(limit);
        let next = events.last().filter(|_| more).map(|e| page::token(&e.position.to_string())).unwrap_or_default();
        let events = events.iter().map(convert::event::to_wire).collect();
        Ok(Response::new(ListEventsResponse { events, next_page_token: next }))
    }

    async fn get_event(&self, request: Request<GetEventRequest>) -> Result<Response<Event>, Status> {
        let id = page::id("name", "events", &request.into_inner().name)?;
        let event = self.seen_event(&id, &Caller::now()).await?;
        Ok(Response::new(convert::event::to_wire(&event)))
    }

    async fn get_event_image(
        &self,
        request: Request<GetEventImageRequest>,
    ) -> Result<Response<GetEventImageResponse>, Status> {
        let id = page::id("name", "events", &request.into_inner().name)?;
        self.seen_event(&id, &Caller::now()).await?;
        let jpeg = self.log.image(&id).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(GetEventImageResponse { jpeg }))
    }

    async fn give_feedback(&self, request: Request<GiveFeedbackRequest>) -> Result<Response<Event>, Status> {
        let r = request.into_inner();
        let id: EventId = page::id("name", "events", &r.name)?;
        let feedback = match Feedback::try_from(r.feedback) {
            Ok(Feedback::Right) => event::Feedback::Right,
            Ok(Feedback::Wrong) => event::Feedback::Wrong,
            Ok(Feedback::Unspecified) | Err(_) => return Err(invalid_field("feedback", "give RIGHT or WRONG")),
        };
        let caller = Caller::now();
        let before = self.seen_event(&id, &caller).await?;
        let person = before.body.matched.as_ref().and_then(|m| m.person.as_ref()).map(|p| p.id.clone());
        let is_decision = matches!(before.body.kind, Kind::Recognized | Kind::Unknown | Kind::Corrected);
        if !is_decision {
            return Err(invalid_field("name", "only RECOGNIZED, UNKNOWN and CORRECTED events can be judged"));
        }
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        // Saying it twice changes nothing.
        let news = before.feedback != Some(feedback);
        match (feedback, person) {
            (event::Feedback::Wrong, Some(person)) if news => self.take_back(&before, person).await?,
            (event::Feedback::Right, Some(person)) if before.feedback == Some(event::Feedback::Wrong) => {
                self.give_back(&before, person).await?;
            }
            _ => {}
        }
        let event = self.log.set_feedback(&id, feedback).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(convert::event::to_wire(&event)))
    }
    async fn search_events(
        &self,
        request: Request<SearchEventsRequest>,
    ) -> Result<Response<SearchEventsResponse>, Status> {
        let r = request.into_inner();
        let at = |field: &str, t: Option<prost_types::Timestamp>| {
            t.map(|t| convert::from_time(&t).ok_or_else(|| invalid_field(field, "is out of range"))).transpose()
        };
        if r.threshold.is_some_and(|t| !(-1.0..=1.0).contains(&t)) {
            return Err(invalid_field("threshold", "give a similarity from -1 to 1"));
        }
        let caller = Caller::now();
        let mut filter = scoped(convert::event::filter(r.filter).map_err(invalid)?, &caller)?;
        let wanted = filter.kinds.len();
        filter.kinds.retain(|k| matches!(k, Kind::Recognized | Kind::Unknown | Kind::Corrected));
        if wanted > 0 && filter.kinds.is_empty() {
            return Err(invalid_field("filter.kinds", "only RECOGNIZED, UNKNOWN and CORRECTED events can be found"));
        }
        let events = EventQuery {
            filter,
            from: at("start_time", r.start_time)?,
            until: at("end_time", r.end_time)?,
            below: None,
            limit: page::size(r.page_size)?,
        };
        let query = PastQuery { events, threshold: r.threshold };
        let past = self.unknowns.search_past(r.image, query).await.map_err(IntoStatus::into_status)?;
        let hit = |hit: &crate::pipeline::past::PastHit| EventHit {
            event: Some(convert::event::to_wire(&hit.event)),
            similarity: hit.similarity,
            // Groups of unknown faces are of all cameras.
            unknown: match hit.unknown.filter(|_| caller.scope.is_everything()) {
                Some(group) => format!("unknowns/{group}"),
                None => String::new(),
            },
        };
        past.hits.iter().for_each(|hit| caller.trail.names(format!("events/{}", hit.event.body.id)));
        Ok(Response::new(SearchEventsResponse {
            hits: past.hits.iter().map(hit).collect(),
            face: Some(convert::face::measured(&past.face)),
            threshold: past.threshold,
            compared: past.compared as u64,
            truncated: past.cut,
        }))
    }
}
