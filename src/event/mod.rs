//! What we say about it: events as plain values, the durable log, subscriptions as cursors.
//!
//! In: [`NewEvent`] from the pipeline. Out: [`Event`] with a position, to subscribers. Written durably before it is published.
//! Absent on purpose: wire types, frames.

pub mod filter;
pub mod log;
pub mod subscription;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use filter::EventFilter;
pub use log::{EventLog, EventLogError};

use crate::{
    face::Detection,
    identity::{Basis, Decision, Person, UnknownChange, Why, WhyCode},
    ids::{CameraId, EventId, ModelId, PersonId, TrackId},
    time::{CaptureTime, Timestamp},
};

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A track began.
    Appeared,
    /// The face is somebody of the gallery.
    Recognized,
    /// The face is nobody of the gallery, or not surely.
    Unknown,
    /// An earlier decision about this appearance was wrong; this is the better one.
    Corrected,
    /// The track ended.
    Left,
    /// A camera changed its state.
    CameraState,
}

/// A person named by a match, with the display name at that time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedPerson {
    /// The person.
    pub id: PersonId,
    /// Display name when the event was written.
    pub display_name: String,
    /// Watchlists of the person when the event was written.
    pub watchlists: Vec<String>,
}

impl From<Person> for NamedPerson {
    fn from(person: Person) -> Self {
        Self { id: person.id, display_name: person.display_name, watchlists: person.watchlists }
    }
}

/// The answer to "who is it" as an event carries it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventMatch {
    /// Who; `None` means unknown.
    pub person: Option<NamedPerson>,
    /// Similarity to the best person of the gallery; 0 with an empty gallery.
    pub similarity: f32,
    /// Lead over the second best.
    pub margin: f32,
    /// Threshold the similarity had to reach.
    pub threshold: f32,
    /// Calibrated probability, 0 to 1, that the best person is right.
    pub confidence: f32,
    /// Why nobody was named; empty when a person was.
    pub reason: String,
    /// The same as data; `None` when a person was, and in events of earlier versions.
    #[serde(default)]
    pub code: Option<WhyCode>,
    /// What was found, as the code says.
    #[serde(default)]
    pub value: f32,
    /// What was needed, as the code says.
    #[serde(default)]
    pub needed: f32,
    /// What it rests on.
    #[serde(default)]
    pub basis: Basis,
}

impl EventMatch {
    /// A decision with the person that it names.
    pub fn of(decision: &Decision, person: Option<NamedPerson>) -> Self {
        let mut basis = decision.basis.clone();
        if person.is_none() {
            basis.forget();
        }
        let why = decision.why();
        Self {
            person,
            similarity: decision.similarity,
            margin: decision.margin,
            threshold: decision.threshold,
            confidence: decision.confidence,
            reason: why.map(|why| why.text.clone()).unwrap_or_default(),
            code: why.map(|why| why.code),
            value: why.map_or(0.0, |why| why.value),
            needed: why.map_or(0.0, |why| why.needed),
            basis,
        }
    }

    /// Takes the person out, and the faces that are the person's; figures stay.
    pub fn withdraw(&mut self, why: Why) {
        self.person = None;
        self.basis.forget();
        self.reason = why.text;
        (self.code, self.value, self.needed) = (Some(why.code), why.value, why.needed);
    }
}

/// A person's judgement of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feedback {
    /// The event is right.
    Right,
    /// The event is wrong.
    Wrong,
}

/// An event to be written; [`EventLog::append`] gives it a position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewEvent {
    /// Its id, ordered by time.
    pub id: EventId,
    /// What it says.
    pub kind: EventKind,
    /// The camera.
    pub camera: CameraId,
    /// Labels of the camera at that time.
    pub camera_labels: BTreeMap<String, String>,
    /// When the frame was captured that made the server say it; `None` for camera states.
    pub captured: Option<CaptureTime>,
    /// When the picture, which shows the appearance best, was captured.
    #[serde(default)]
    pub pictured: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// The appearance.
    pub track: Option<TrackId>,
    /// The face in the frame of the picture.
    pub face: Option<Detection>,
    /// Quality of that face, 0 to 1.
    pub quality: f32,
    /// Edge of the aligned crop in frame pixels.
    pub face_size_px: f32,
    /// How much the face looks like a living one, 0 to 1: the mean over the looks of the appearance; `None` where nothing scores it.
    #[serde(default)]
    pub liveness: Option<f32>,
    /// Size of the frame in pixels.
    pub frame_size: Option<(u32, u32)>,
    /// Who it is.
    pub matched: Option<EventMatch>,
    /// How long the appearance lasted, milliseconds; for LEFT.
    pub dwell_ms: Option<u64>,
    /// Embedded crops the decision rests on.
    pub looks: u32,
    /// New state of the camera; for CAMERA_STATE.
    pub camera_state: Option<String>,
    /// Why; for CAMERA_STATE.
    pub reason: String,
    /// The event that it replaces; for CORRECTED.
    pub corrects: Option<EventId>,
    /// Model that decided.
    pub model: Option<ModelId>,
    /// Template of the track (mean embedding), kept for feedback and never sent.
    pub template: Option<Vec<f32>>,
    /// Picture as JPEG, stored beside the event.
    #[serde(skip)]
    pub image: Option<Bytes>,
    /// What becomes of the appearance among the unknown faces, in the transaction that writes the event.
    #[serde(skip)]
    pub unknown: Option<UnknownChange>,
}

impl NewEvent {
    /// An event of a kind about a camera, with nothing else said yet.
    pub fn new(
        id: EventId,
        kind: EventKind,
        camera: CameraId,
        labels: BTreeMap<String, String>,
        created: Timestamp,
    ) -> Self {
        Self {
            id,
            kind,
            camera,
            camera_labels: labels,
            captured: None,
            pictured: None,
            created,
            track: None,
            face: None,
            quality: 0.0,
            face_size_px: 0.0,
            liveness: None,
            frame_size: None,
            matched: None,
            dwell_ms: None,
            looks: 0,
            camera_state: None,
            reason: String::new(),
            corrects: None,
            model: None,
            template: None,
            image: None,
            unknown: None,
        }
    }

    /// Takes the person out: name, template and watchlists go, figures stay. The picture is stored apart and must go too.
    pub fn forget_person(&mut self) {
        self.template = None;
        if let Some(matched) = &mut self.matched {
            matched.withdraw(Why::plain(WhyCode::Erased, "the person was erased"));
        }
    }
}

impl EventKind {
    /// The name in the API, such as `RECOGNIZED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Appeared => "APPEARED",
            Self::Recognized => "RECOGNIZED",
            Self::Unknown => "UNKNOWN",
            Self::Corrected => "CORRECTED",
            Self::Left => "LEFT",
            Self::CameraState => "CAMERA_STATE",
        }
    }
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Position in the log; the first is 1, counts up by one.
    pub position: u64,
    /// What was written. Its `image` is not loaded; see [`EventLog::image`].
    pub body: NewEvent,
    /// Whether there is a picture.
    pub has_image: bool,
    /// What people said of it.
    pub feedback: Option<Feedback>,
}
