//! Port: the durable, ordered log of events.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::{Event, EventFilter, Feedback, NewEvent};
use crate::{
    ids::{CameraId, EventId},
    time::Timestamp,
};

/// Why the log could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EventLogError {
    /// No such event.
    #[error("event {0} does not exist (retention may have removed it)")]
    NotFound(EventId),
    /// The event has no picture.
    #[error("event {0} has no picture")]
    NoImage(EventId),
    /// This process does not say the camera's events, or does not any more.
    #[error("events of camera {0} are written by another node now; this one lost it")]
    Fenced(CameraId),
    /// This node writes events and keeps none.
    #[error("this node (server.role = \"ingest\") keeps no events; ask a gateway (role \"api\" or \"all\")")]
    Elsewhere,
    /// The disk takes or gives nothing at the moment; try again later.
    #[error("{0}")]
    Unavailable(String),
    /// The log failed.
    #[error("the event log failed: {0}")]
    Storage(String),
}

/// Positions that the log holds. Both 0 when it has never held an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Oldest position that is still there; `latest + 1` when all were removed.
    pub oldest: u64,
    /// Newest position ever given.
    pub latest: u64,
}

/// A page of past events, newest first.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Which events.
    pub filter: EventFilter,
    /// Not before (creation time).
    pub from: Option<Timestamp>,
    /// Before (creation time).
    pub until: Option<Timestamp>,
    /// Only positions below this one; `None` starts at the newest.
    pub below: Option<u64>,
    /// At most this many.
    pub limit: usize,
}

/// The log. Appends are durable when they return; positions have no holes.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Writes events in order, with their pictures and what becomes of unknown faces, in one transaction, and wakes subscribers.
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Event>, EventLogError>;
    /// Events with positions above `position`, in order, at most `limit`; without templates, which subscribers are not sent.
    async fn read_after(&self, position: u64, limit: usize) -> Result<Vec<Event>, EventLogError>;
    /// Newest position before the first event created at or after `time`.
    async fn position_before(&self, time: Timestamp) -> Result<u64, EventLogError>;
    /// Positions that the log holds.
    async fn bounds(&self) -> Result<Bounds, EventLogError>;
    /// One event.
    async fn get(&self, id: &EventId) -> Result<Event, EventLogError>;
    /// The picture of an event.
    async fn image(&self, id: &EventId) -> Result<Bytes, EventLogError>;
    /// Past events, newest first.
    async fn list(&self, query: &EventQuery) -> Result<Vec<Event>, EventLogError>;
    /// Keeps a judgement; returns the event with it.
    async fn set_feedback(&self, id: &EventId, feedback: Feedback) -> Result<Event, EventLogError>;
    /// Removes events created before `time`; returns how many.
    async fn remove_before(&self, time: Timestamp) -> Result<u64, EventLogError>;
    /// Removes the pictures of events created before `time`; returns how many.
    async fn remove_pictures_before(&self, time: Timestamp) -> Result<u64, EventLogError>;
    /// Wakes subscribers: the newest position.
    fn latest(&self) -> watch::Receiver<u64>;
    /// Random id of this log; a resume token of another log is refused.
    fn log_id(&self) -> &str;
}
