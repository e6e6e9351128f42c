//! The event log: a stream whose sequence is the position. A camera's events are published by one node only, which the servers see to.
//!
//! Each event is published with the sequence of the camera's last one as a condition. Whoever takes a camera over publishes one first; from
//! then on the condition of any other node fails, however late it wakes up.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use async_nats::jetstream::{context::PublishErrorKind, message::PublishMessage};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::{
    ClusterStore,
    bucket::last_of,
    fault::{Fault, LIMIT, within},
    records::{AmendedRecord, CLAIM, EventRecord, MESSAGE_ID, NODE, event_place},
    unknowns::NOT_HERE,
};
use crate::{
    event::{
        Event, EventLog, EventLogError, Feedback, NewEvent,
        log::{Bounds, EventQuery},
    },
    identity::{GalleryError, GalleryStore},
    ids::{CameraId, EventId},
    store::sqlite::replica::Source,
    time::Timestamp,
};

/// Attempts while others write at the same place.
const ATTEMPTS: usize = 5;

/// Events remembered of appends that failed half-way, at most; one append has fewer.
const MOST_STORED: usize = 10_000;

/// A camera's turn: the sequence of its last event, and the claim with which this node says them.
type Lane = std::sync::Arc<AsyncMutex<Said>>;

#[derive(Debug, Clone, Copy)]
struct Said {
    last: u64,
    claim: u64,
}

/// Cameras whose events this node says.
#[derive(Default)]
pub(super) struct Owned {
    lanes: Mutex<HashMap<CameraId, Lane>>,
    /// Events of an append that failed half-way and that are in the stream already: its repetition passes over them.
    stored: Mutex<HashMap<EventId, (u64, bool)>>,
}

impl Owned {
    fn lane(&self, camera: &CameraId) -> Option<Lane> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).get(camera).cloned()
    }

    fn give_up(&self, camera: &CameraId) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).remove(camera);
    }
}

/// What became of one attempt to publish.
enum Attempt {
    Stored(u64),
    /// The camera's last event is another than was thought.
    WrongLast,
}

impl ClusterStore {
    /// Takes a camera over: `first` is published as its next event, whoever says them so far. From then on this node says them. `claim` grows with
    /// every claim of the camera by anybody: a node that was held up with an older one is too late.
    ///
    /// # Errors
    /// [`EventLogError::Fenced`] when it was taken over with a newer claim. When the servers don't answer; `first` may be in the log all the same,
    /// and taking over again does not double it.
    pub async fn take_over(&self, camera: &CameraId, claim: u64, first: NewEvent) -> Result<Event, EventLogError> {
        let first = NewEvent { camera: camera.clone(), ..first };
        for _ in 0..ATTEMPTS {
            self.cluster.connected()?;
            let subject = self.cluster.subject(camera.as_str());
            let last = last_of(&self.cluster.events, &subject).await?;
            let newest = last.as_ref().and_then(|message| message.headers.get(CLAIM)?.as_str().parse::<u64>().ok());
            if newest.is_some_and(|newest| newest > claim) {
                self.owned.give_up(camera);
                return Err(EventLogError::Fenced(camera.clone()));
            }
            let said = Said { last: last.map_or(0, |message| message.sequence), claim };
            let record = EventRecord { body: first.clone(), has_image: false };
            if let Attempt::Stored(sequence) = self.attempt(&record, said).await? {
                let lane = Lane::new(AsyncMutex::new(Said { last: sequence, claim }));
                self.owned.lanes.lock().unwrap_or_else(PoisonError::into_inner).insert(camera.clone(), lane);
                if let Err(fault) = self.applied(Source::Events, sequence).await {
                    tracing::warn!(%fault, "a camera is taken over, and the replica does not have it yet");
                }
                return Ok(Event { position: sequence, body: first, has_image: false, feedback: None });
            }
        }
        Err(EventLogError::Unavailable(format!("camera {camera} is taken over by several nodes at once; try again")))
    }

    /// Says no more events of a camera.
    pub fn give_up(&self, camera: &CameraId) {
        self.owned.give_up(camera);
    }

    /// Whether this node says a camera's events, as far as it knows.
    pub fn owns(&self, camera: &CameraId) -> bool {
        self.owned.lane(camera).is_some()
    }

    /// Who publishes, as the header of events tells.
    fn publisher(&self) -> String {
        format!("{}/{}", self.cluster.node, self.cluster.instance)
    }

    async fn attempt(&self, record: &EventRecord, said: Said) -> Result<Attempt, EventLogError> {
        let (body, subject) = (&record.body, self.cluster.subject(record.body.camera.as_str()));
        let place = event_place(&subject, body.id.as_str());
        let text = serde_json::to_vec(record).map_err(Fault::from)?;
        let sealed = self.replica.vault().seal(&place, &text).map_err(Fault::from)?;
        let message = PublishMessage::build()
            .payload(sealed.into())
            .message_id(body.id.as_str())
            .header(NODE, self.publisher().as_str())
            .header(CLAIM, said.claim.to_string().as_str())
            .expected_last_subject_sequence(said.last);
        let published = async { self.cluster.js.send_publish(subject, message).await?.await };
        match tokio::time::timeout(LIMIT, published).await {
            Ok(Ok(ack)) => Ok(Attempt::Stored(ack.sequence)),
            Ok(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(Attempt::WrongLast),
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(EventLogError::Storage(error.to_string()))
            }
            Ok(Err(error)) => Err(Fault::unavailable("an event is published", error).into()),
            Err(error) => Err(Fault::unavailable("an event is published", error).into()),
        }
    }

    /// Publishes an event in its camera's turn; its sequence.
    async fn publish(&self, record: &EventRecord, said: &mut Said) -> Result<u64, EventLogError> {
        let body = &record.body;
        for _ in 0..ATTEMPTS {
            if let Attempt::Stored(sequence) = self.attempt(record, *said).await? {
                said.last = sequence.max(said.last);
                return Ok(sequence);
            }
            let subject = self.cluster.subject(body.camera.as_str());
            let Some(message) = last_of(&self.cluster.events, &subject).await? else {
                // Retention or an erasure removed all that there was; another node's first event would be there.
                said.last = 0;
                continue;
            };
            let header = |name: &str| message.headers.get(name).map(|value| value.as_str().to_owned());
            if header(NODE) != Some(self.publisher()) {
                self.owned.give_up(&body.camera);
                return Err(EventLogError::Fenced(body.camera.clone()));
            }
            said.last = message.sequence;
            if header(MESSAGE_ID).as_deref() == Some(body.id.as_str()) {
                // It was stored, and only the answer was lost.
                return Ok(message.sequence);
            }
        }
        Err(EventLogError::Unavailable(format!(
            "events of camera {} can't be put in order; it is tried again",
            body.camera
        )))
    }

    /// Stores one event, its picture first; its position and whether it has a picture.
    async fn store(&self, body: &mut NewEvent) -> Result<(u64, bool), EventLogError> {
        let stored = self.owned.stored.lock().unwrap_or_else(PoisonError::into_inner).get(&body.id).copied();
        let mut image = body.image.take();
        if self.names_nobody(body).await? {
            body.forget_person();
            image = None;
        }
        if let Some(stored) = stored {
            return Ok(stored);
        }
        let lane = self.owned.lane(&body.camera).ok_or_else(|| EventLogError::Fenced(body.camera.clone()))?;
        let mut said = lane.lock().await;
        if let Some(jpeg) = &image {
            self.cluster.put_picture(self.replica.vault(), &body.id, jpeg).await?;
        }
        let record = EventRecord { body: body.clone(), has_image: image.is_some() };
        let sequence = self.publish(&record, &mut said).await?;
        Ok((sequence, image.is_some()))
    }

    /// # Errors
    /// [`EventLogError::Elsewhere`] on a node that keeps no events.
    fn holds_events(&self) -> Result<(), EventLogError> {
        if self.holds.source(Source::Events) { Ok(()) } else { Err(EventLogError::Elsewhere) }
    }

    /// Whether an event names a person who was erased after the event was decided.
    async fn names_nobody(&self, body: &NewEvent) -> Result<bool, EventLogError> {
        let Some(person) = body.matched.as_ref().and_then(|m| m.person.as_ref()) else { return Ok(false) };
        match self.replica.person(&person.id).await {
            Ok(_) => Ok(false),
            Err(GalleryError::PersonNotFound(_)) => Ok(true),
            Err(error) => Err(EventLogError::Unavailable(error.to_string())),
        }
    }
}

#[async_trait]
impl EventLog for ClusterStore {
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Event>, EventLogError> {
        if let Some(event) = events.iter().find(|event| self.owned.lane(&event.camera).is_none()) {
            return Err(EventLogError::Fenced(event.camera.clone()));
        }
        if events.iter().any(|event| event.unknown.is_some()) {
            return Err(EventLogError::Storage(NOT_HERE.into()));
        }
        self.cluster.connected()?;
        let mut written = Vec::with_capacity(events.len());
        for mut body in events {
            let (position, has_image) = match self.store(&mut body).await {
                Ok(stored) => stored,
                Err(error) => {
                    let mut stored = self.owned.stored.lock().unwrap_or_else(PoisonError::into_inner);
                    if stored.len() > MOST_STORED {
                        // Whoever asked gave them up long ago.
                        stored.clear();
                    }
                    stored.extend(written.into_iter().map(|e: Event| (e.body.id, (e.position, e.has_image))));
                    return Err(error);
                }
            };
            written.push(Event { position, body, has_image, feedback: None });
        }
        {
            let mut stored = self.owned.stored.lock().unwrap_or_else(PoisonError::into_inner);
            for event in &written {
                stored.remove(&event.body.id);
            }
        }
        if let Some(newest) = written.iter().map(|event| event.position).max()
            && let Err(fault) = self.applied(Source::Events, newest).await
        {
            // They are in the log; that this node's subscribers hear of them later is no reason to say them again.
            tracing::warn!(%fault, "events are written, and the replica does not have them yet");
        }
        Ok(written)
    }

    async fn read_after(&self, position: u64, limit: usize) -> Result<Vec<Event>, EventLogError> {
        self.holds_events()?;
        self.replica.read_after(position, limit).await
    }

    async fn position_before(&self, time: Timestamp) -> Result<u64, EventLogError> {
        self.holds_events()?;
        self.replica.position_before(time).await
    }

    async fn bounds(&self) -> Result<Bounds, EventLogError> {
        self.replica.bounds().await
    }

    async fn get(&self, id: &EventId) -> Result<Event, EventLogError> {
        self.holds_events()?;
        EventLog::get(&*self.replica, id).await
    }

    async fn image(&self, id: &EventId) -> Result<Bytes, EventLogError> {
        self.holds_events()?;
        if !EventLog::get(&*self.replica, id).await?.has_image {
            return Err(EventLogError::NoImage(id.clone()));
        }
        self.cluster.connected()?;
        let found = self.cluster.picture(self.replica.vault(), id).await?;
        found.ok_or_else(|| EventLogError::NoImage(id.clone()))
    }

    async fn list(&self, query: &EventQuery) -> Result<Vec<Event>, EventLogError> {
        self.holds_events()?;
        EventLog::list(&*self.replica, query).await
    }

    async fn set_feedback(&self, id: &EventId, feedback: Feedback) -> Result<Event, EventLogError> {
        self.holds_events()?;
        self.cluster.connected()?;
        let amended = self.cluster.bucket(Source::Amended)?;
        for _ in 0..ATTEMPTS {
            let event = EventLog::get(&*self.replica, id).await?;
            let key = event.position.to_string();
            let written = match amended.get::<AmendedRecord>(&key).await? {
                Some((revision, record)) => {
                    amended.update(&key, &AmendedRecord { feedback: Some(feedback), ..record }, revision).await
                }
                None => {
                    let (body, has_image) = (event.body, event.has_image);
                    amended.create(&key, &AmendedRecord { body, has_image, feedback: Some(feedback) }).await
                }
            };
            match written {
                Ok(revision) => {
                    self.applied(Source::Amended, revision).await?;
                    return EventLog::get(&*self.replica, id).await;
                }
                // Somebody else judged it, or whom it names was erased.
                Err(Fault::Conflict) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(EventLogError::Unavailable(format!("event {id} is changed by many at once; try again")))
    }

    async fn remove_before(&self, time: Timestamp) -> Result<u64, EventLogError> {
        // Gateways do it.
        if self.holds_events().is_err() {
            return Ok(0);
        }
        self.cluster.connected()?;
        let last = self.replica.position_before(time).await?;
        if last == 0 {
            return Ok(0);
        }
        let purge = self.cluster.events.purge().sequence(last + 1);
        within("old events are removed", purge.into_future()).await?;
        let amended = self.cluster.bucket(Source::Amended)?;
        for position in self.replica.amended_up_to(last).await.map_err(Fault::from)? {
            amended.sweep(&position.to_string()).await?;
            self.replica.forget_amended(position).await.map_err(Fault::from)?;
        }
        self.cluster.remove_pictures_put_before(time).await?;
        Ok(self.replica.remove_up_to(last).await.map_err(Fault::from)?)
    }

    async fn remove_pictures_before(&self, time: Timestamp) -> Result<u64, EventLogError> {
        self.cluster.connected()?;
        self.cluster.remove_pictures_put_before(time).await?;
        self.replica.remove_pictures_before(time).await
    }

    fn latest(&self) -> watch::Receiver<u64> {
        self.replica.latest()
    }

    fn log_id(&self) -> &str {
        &self.log_id
    }
}
