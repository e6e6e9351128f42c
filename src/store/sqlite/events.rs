//! The event log.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::watch;

use super::{CommandError, SqliteStore, from_bytes, people, to_bytes, unknowns};
use crate::{
    event::{
        Event, EventLog, EventLogError, Feedback, NewEvent,
        log::{Bounds, EventQuery},
    },
    ids::EventId,
    time::Timestamp,
};

/// Rows read or removed by one command.
pub(super) const CHUNK: usize = 512;

pub(super) fn failed(error: CommandError) -> EventLogError {
    error.of_the_disk().map_or_else(|| EventLogError::Storage(error.to_string()), EventLogError::Unavailable)
}

pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

const PLAIN: &str = "position, body, EXISTS (SELECT 1 FROM pictures WHERE event = events.id), feedback";
const TEMPLATE: &str = "unseal('template/' || id, template)";

type EventRow = (i64, String, bool, Option<String>, Option<Vec<u8>>);

fn event_row(r: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
}

fn event((position, body, has_image, feedback, template): EventRow) -> Result<Event, CommandError> {
    let feedback = match feedback.as_deref() {
        Some("right") => Some(Feedback::Right),
        Some("wrong") => Some(Feedback::Wrong),
        _ => None,
    };
    let mut body: NewEvent = serde_json::from_str(&body)?;
    body.template = template.as_deref().map(from_bytes);
    Ok(Event { position: position as u64, body, has_image, feedback })
}

/// Newest position ever given; 0 for a new log.
pub(super) fn latest(c: &Connection) -> rusqlite::Result<u64> {
    let seq: Option<i64> =
        c.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'events'", [], |r| r.get(0)).optional()?;
    Ok(seq.unwrap_or(0) as u64)
}

pub(super) fn get(c: &Connection, id: &str) -> Result<Option<Event>, CommandError> {
    let row =
        c.query_row(&format!("SELECT {PLAIN}, {TEMPLATE} FROM events WHERE id = ?1"), [id], event_row).optional()?;
    row.map(event).transpose()
}

/// Whether an event names a person who was erased after the event was decided and before it is written.
fn erased_meanwhile(c: &Connection, body: &NewEvent) -> rusqlite::Result<bool> {
    match body.matched.as_ref().and_then(|m| m.person.as_ref()) {
        Some(person) => Ok(!people::exists(c, &person.id)?),
        None => Ok(false),
    }
}

/// The newest events below a position within a time span: those that pass the filter, and the position reached when there are more.
fn page_below(
    c: &Connection,
    query: &EventQuery,
    below: i64,
    wanted: usize,
) -> Result<(Vec<Event>, Option<i64>), CommandError> {
    let sql = format!(
        "SELECT {PLAIN}, {TEMPLATE} FROM events WHERE position < ?1 AND created_us >= ?2 AND created_us < ?3
         ORDER BY position DESC LIMIT ?4"
    );
    let mut statement = c.prepare_cached(&sql)?;
    let (from, until) = (query.from.map_or(i64::MIN, micros), query.until.map_or(i64::MAX, micros));
    let rows = statement.query_map(params![below, from, until, CHUNK as i64], event_row)?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let reached = rows.last().filter(|_| rows.len() == CHUNK).map(|row| row.0);
    let mut found = Vec::new();
    for row in rows {
        let event = event(row)?;
        if query.filter.matches(&event) && found.len() < wanted {
            found.push(event);
        }
    }
    Ok((found, reached))
}

impl SqliteStore {
    /// Removes what a statement names by a time and a number of rows; in chunks, since new events need their turn in between.
    async fn remove_in_chunks(&self, sql: &'static str, before: Timestamp) -> Result<u64, EventLogError> {
        let mut removed = 0;
        loop {
            let recent = self.recent.clone();
            let chunk = self.write(move |c| {
                recent.forget();
                Ok(c.execute(sql, params![micros(before), CHUNK as i64])?)
            });
            let chunk = chunk.await.map_err(failed)?;
            removed += chunk as u64;
            if chunk < CHUNK {
                return Ok(removed);
            }
        }
    }
}

#[async_trait]
impl EventLog for SqliteStore {
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Event>, EventLogError> {
        let (latest, recent) = (self.latest.clone(), self.recent.clone());
        let written = self.write(move |c| {
            let transaction = c.transaction()?;
            let mut written = Vec::with_capacity(events.len());
            for mut body in events {
                let mut image = body.image.take();
                let unknown = body.unknown.take();
                if erased_meanwhile(&transaction, &body)? {
                    // The name is in the body and drawn in the picture.
                    body.forget_person();
                    image = None;
                }
                let person = body.matched.as_ref().and_then(|m| m.person.as_ref()).map(|p| p.id.to_string());
                // Sealed in a column of its own.
                let template = body.template.take();
                let text = serde_json::to_string(&body)?;
                body.template = template;
                let sql = "INSERT INTO events (id, created_us, camera, person, body, template)
                           VALUES (?1, ?2, ?3, ?4, ?5, seal('template/' || ?1, ?6))";
                let created = micros(body.created);
                transaction.prepare_cached(sql)?.execute(params![
                    body.id.as_str(),
                    created,
                    body.camera.as_str(),
                    person,
                    text,
                    body.template.as_deref().map(to_bytes)
                ])?;
                let position = transaction.last_insert_rowid() as u64;
                if let Some(jpeg) = &image {
                    let sql = "INSERT INTO pictures (event, jpeg) VALUES (?1, seal('picture/' || ?1, ?2))";
                    transaction.prepare_cached(sql)?.execute(params![body.id.as_str(), &jpeg[..]])?;
                }
                if let Some(change) = unknown {
                    unknowns::apply(&transaction, change)?;
                }
                written.push(Event { position, has_image: image.is_some(), feedback: None, body });
            }
            transaction.commit()?;
            recent.add(&written);
            // Inside the writer's turn, so that positions are told in order.
            if let Some(last) = written.last() {
                latest.send_replace(last.position);
            }
            Ok(written)
        });
        written.await.map_err(failed)
    }

    async fn read_after(&self, position: u64, limit: usize) -> Result<Vec<Event>, EventLogError> {
        if let Some(events) = self.recent.after(position, limit) {
            return Ok(events);
        }
        let found = self.read(move |c| {
            // Subscribers are sent no templates: none is unsealed.
            let sql = format!("SELECT {PLAIN}, NULL FROM events WHERE position > ?1 ORDER BY position LIMIT ?2");
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map(params![position as i64, limit.min(1 << 20) as i64], event_row)?;
            rows.map(|r| event(r?)).collect()
        });
        found.await.map_err(failed)
    }

    async fn position_before(&self, time: Timestamp) -> Result<u64, EventLogError> {
        let found = self.read(move |c| {
            // One view of both: an event written between two looks would be passed over.
            let view = c.transaction()?;
            let sql = "SELECT min(position) FROM events WHERE created_us >= ?1";
            let first: Option<i64> = view.query_row(sql, [micros(time)], |r| r.get(0))?;
            match first {
                Some(first) => Ok(first as u64 - 1),
                None => Ok(latest(&view)?),
            }
        });
        found.await.map_err(failed)
    }

    async fn bounds(&self) -> Result<Bounds, EventLogError> {
        let found = self.read(|c| {
            let latest = latest(c)?;
            let oldest: Option<i64> = c.query_row("SELECT min(position) FROM events", [], |r| r.get(0))?;
            let none = if latest == 0 { 0 } else { latest + 1 };
            Ok(Bounds { oldest: oldest.map_or(none, |p| p as u64), latest })
        });
        found.await.map_err(failed)
    }

    async fn get(&self, id: &EventId) -> Result<Event, EventLogError> {
        let key = id.clone();
        let found = self.read(move |c| get(c, key.as_str())).await.map_err(failed)?;
        found.ok_or_else(|| EventLogError::NotFound(id.clone()))
    }

    async fn image(&self, id: &EventId) -> Result<Bytes, EventLogError> {
        let key = id.clone();
        let found = self.read(move |c| {
            let sql = "SELECT unseal('picture/' || event, jpeg) FROM pictures WHERE event = ?1";
            let jpeg: Option<Vec<u8>> = c.query_row(sql, [key.as_str()], |r| r.get(0)).optional()?;
            Ok((jpeg, get(c, key.as_str())?.is_some()))
        });
        match found.await.map_err(failed)? {
            (Some(jpeg), _) => Ok(jpeg.into()),
            (None, true) => Err(EventLogError::NoImage(id.clone())),
            (None, false) => Err(EventLogError::NotFound(id.clone())),
        }
    }

    async fn list(&self, query: &EventQuery) -> Result<Vec<Event>, EventLogError> {
        let mut below = query.below.map_or(i64::MAX, |p| p.min(i64::MAX as u64) as i64);
        let mut found: Vec<Event> = Vec::new();
        // One chunk a command: a filter that hardly anything passes must not hold up the other readers.
        while found.len() < query.limit {
            let (query, wanted) = (query.clone(), query.limit - found.len());
            let read = self.read(move |c| page_below(c, &query, below, wanted));
            let (more, reached) = read.await.map_err(failed)?;
            found.extend(more);
            match reached {
                Some(position) => below = position,
                None => break,
            }
        }
        Ok(found)
    }

    async fn set_feedback(&self, id: &EventId, feedback: Feedback) -> Result<Event, EventLogError> {
        let key = id.clone();
        let word = match feedback {
            Feedback::Right => "right",
            Feedback::Wrong => "wrong",
        };
        let recent = self.recent.clone();
        let found = self.write(move |c| {
            recent.forget();
            c.execute("UPDATE events SET feedback = ?2 WHERE id = ?1", [key.as_str(), word])?;
            get(c, key.as_str())
        });
        found.await.map_err(failed)?.ok_or_else(|| EventLogError::NotFound(id.clone()))
    }

    async fn remove_before(&self, time: Timestamp) -> Result<u64, EventLogError> {
        let sql = "DELETE FROM events WHERE position IN
                   (SELECT position FROM events WHERE created_us < ?1 ORDER BY position LIMIT ?2)";
        self.remove_in_chunks(sql, time).await
    }

    async fn remove_pictures_before(&self, time: Timestamp) -> Result<u64, EventLogError> {
        let sql = "DELETE FROM pictures WHERE event IN
                   (SELECT event FROM pictures JOIN events ON events.id = event WHERE created_us < ?1 LIMIT ?2)";
        self.remove_in_chunks(sql, time).await
    }

    fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    fn log_id(&self) -> &str {
        &self.log_id
    }
}
