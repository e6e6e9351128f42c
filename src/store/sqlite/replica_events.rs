//! The replica's events: written at the positions that they were given, changed when they were amended, erasures among them.

use rusqlite::{OptionalExtension, params};

use super::{
    CommandError, SqliteStore,
    events::{self, micros},
    ledger::Erasure,
    people,
    replica::OPEN,
    replica_apply::Applying,
    to_bytes,
};
use crate::{
    event::{Event, Feedback, NewEvent},
    identity::person::ErasureReceipt,
    ids::{EventId, PersonId},
};

/// Rows of `replica` that name positions whose messages at the origin are to be replaced by what is here.
const REWRITE: &str = "rewrite";

impl Applying<'_> {
    /// Writes an event at its position: one that is there stays, unless this is a newer word about it.
    pub(super) fn event(
        &mut self,
        position: u64,
        mut body: NewEvent,
        mut has_image: bool,
        feedback: Option<Feedback>,
        amended: bool,
    ) -> Result<(), CommandError> {
        let at = position as i64;
        let withdrawn = self.names_erased(&body)?;
        if withdrawn {
            body.forget_person();
            has_image = false;
        }
        let template = body.template.take();
        let text = serde_json::to_string(&body)?;
        let person = body.matched.as_ref().and_then(|m| m.person.as_ref()).map(|p| p.id.to_string());
        let word = feedback.map(|feedback| match feedback {
            Feedback::Right => "right",
            Feedback::Wrong => "wrong",
        });
        let how = if amended { "REPLACE" } else { "IGNORE" };
        let sql = format!(
            "INSERT OR {how} INTO events (position, id, created_us, camera, person, body, template, feedback)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, seal('template/' || ?2, ?7), ?8)"
        );
        let sealed = template.as_deref().map(to_bytes);
        let row = params![at, body.id.as_str(), micros(body.created), body.camera.as_str(), person, text, sealed, word];
        let new = self.c.prepare_cached(&sql)?.execute(row)? > 0;
        if amended {
            self.c.execute("DELETE FROM pictures WHERE event = ?1", [body.id.as_str()])?;
        }
        if new && has_image {
            // Its bytes are in the cluster; the row says that there is one.
            self.c
                .prepare_cached("INSERT OR REPLACE INTO pictures (event, jpeg) VALUES (?1, x'')")?
                .execute([body.id.as_str()])?;
        }
        if withdrawn && new {
            self.rewrite(at, body.id.as_str())?;
            if let Some(corrected) = &body.corrects {
                self.forget_corrected(corrected)?;
            }
        }
        let follows = self.written.last().is_none_or(|last| last.position + 1 == position);
        self.changed |= amended || !new || !follows;
        body.template = template;
        self.written.push(Event { position, body, has_image, feedback });
        Ok(())
    }

    /// Whether an event names somebody who was erased after it was said, or who is nobody any more.
    fn names_erased(&self, body: &NewEvent) -> Result<bool, CommandError> {
        let Some(person) = body.matched.as_ref().and_then(|m| m.person.as_ref()) else { return Ok(false) };
        let Some(at) = self.erased.at(&person.id) else { return Ok(false) };
        Ok(body.created <= at || !people::exists(self.c, &person.id)?)
    }

    fn rewrite(&mut self, position: i64, event: &str) -> Result<(), CommandError> {
        let sql = "INSERT OR REPLACE INTO replica (source, key, revision, id) VALUES (?1, ?2, ?3, ?4)";
        self.c.execute(sql, params![REWRITE, position.to_string(), position, event])?;
        self.outcome.rewrites = true;
        Ok(())
    }

    fn forget_corrected(&mut self, event: &EventId) -> Result<(), CommandError> {
        people::forget_corrected(self.c, event)?;
        let sql = "SELECT position FROM events WHERE id = ?1 AND person IS NULL";
        let position: Option<i64> = self.c.query_row(sql, [event.as_str()], |r| r.get(0)).optional()?;
        position.map_or(Ok(()), |position| self.rewrite(position, event.as_str()))
    }

    /// Erases a person here as it is done without a cluster, once; notes which events are to be replaced at their origin.
    pub(super) fn erase(&mut self, erasure: &Erasure) -> Result<(), CommandError> {
        self.remember(erasure);
        let sql = "SELECT 1 FROM erasures WHERE id = ?1";
        if self.c.query_row(sql, [&erasure.receipt], |_| Ok(())).optional()?.is_some() {
            return Ok(());
        }
        let mut corrected = Vec::new();
        {
            let sql = "SELECT position, id, body FROM events WHERE person = ?1 AND created_us <= ?2";
            let mut statement = self.c.prepare(sql)?;
            let rows = statement.query_map(params![erasure.person.as_str(), micros(erasure.erased)], |r| {
                Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?))
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            for (position, event, body) in rows {
                self.rewrite(position, &event)?;
                corrected.extend(serde_json::from_str::<NewEvent>(&body)?.corrects);
            }
        }
        people::erase(self.c, self.vault, erasure, Some(erasure.erased))?;
        for event in corrected {
            self.forget_corrected(&event)?;
        }
        (self.changed, self.removed) = (true, true);
        self.outcome.gallery.push(crate::identity::GalleryChange::Person(erasure.person.clone()));
        Ok(())
    }
}

/// A position whose message at the origin is to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Rewrite {
    pub(in crate::store) position: u64,
    pub(in crate::store) event: EventId,
}

impl SqliteStore {
    /// Positions whose messages at the origin are to be replaced by what is here, at most `limit`.
    pub(in crate::store) async fn rewrites(&self, limit: usize) -> Result<Vec<Rewrite>, CommandError> {
        self.read(move |c| {
            let sql = "SELECT revision, id FROM replica WHERE source = ?1 ORDER BY revision LIMIT ?2";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement
                .query_map(params![REWRITE, limit as i64], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?)))?;
            rows.map(|row| {
                let (position, event) = row?;
                let event = event.parse().map_err(|e| CommandError::Value(format!("{e}")))?;
                Ok(Rewrite { position: position as u64, event })
            })
            .collect()
        })
        .await
    }

    /// A position was replaced at the origin.
    pub(in crate::store) async fn rewritten(&self, position: u64) -> Result<(), CommandError> {
        self.write(move |c| {
            let sql = "DELETE FROM replica WHERE source = ?1 AND key = ?2";
            c.execute(sql, params![REWRITE, position.to_string()])?;
            Ok(())
        })
        .await
    }

    /// The event at a position; `None` without one.
    pub(in crate::store) async fn event_at(&self, position: u64) -> Result<Option<Event>, CommandError> {
        self.read(move |c| {
            let sql = "SELECT id FROM events WHERE position = ?1";
            let id: Option<String> = c.query_row(sql, [position as i64], |r| r.get(0)).optional()?;
            id.map_or(Ok(None), |id| events::get(c, &id))
        })
        .await
    }

    /// Removes events up to a position, with all that is known of them; how many.
    pub(in crate::store) async fn remove_up_to(&self, position: u64) -> Result<u64, CommandError> {
        let mut removed = 0;
        loop {
            let recent = self.recent.clone();
            let chunk = self.write(move |c| {
                recent.forget();
                let sql = "DELETE FROM events WHERE position IN
                           (SELECT position FROM events WHERE position <= ?1 ORDER BY position LIMIT ?2)";
                Ok(c.execute(sql, params![position as i64, events::CHUNK as i64])?)
            });
            let chunk = chunk.await?;
            removed += chunk as u64;
            if chunk < events::CHUNK {
                return Ok(removed);
            }
        }
    }

    /// Positions up to one that were amended.
    pub(in crate::store) async fn amended_up_to(&self, position: u64) -> Result<Vec<u64>, CommandError> {
        self.read(move |c| {
            let sql = "SELECT CAST(key AS INTEGER) FROM replica WHERE source = 'amended' AND key <> ''
                       AND CAST(key AS INTEGER) <= ?1 ORDER BY 1";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([position as i64], |r| Ok(r.get::<_, i64>(0)? as u64))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Forgets that a position was amended.
    pub(in crate::store) async fn forget_amended(&self, position: u64) -> Result<(), CommandError> {
        self.write(move |c| {
            c.execute("DELETE FROM replica WHERE source = 'amended' AND key = ?1", [position.to_string()])?;
            Ok(())
        })
        .await
    }

    /// Receipts of erasures that are not done everywhere.
    pub(in crate::store) async fn open_erasures(&self) -> Result<Vec<String>, CommandError> {
        self.read(|c| {
            let sql = "SELECT key FROM replica WHERE source = 'erasures' AND id = ?1 ORDER BY revision";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([OPEN], |r| r.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The receipt of an erasure that was applied here.
    pub(in crate::store) async fn receipt(
        &self,
        receipt: &str,
        person: &PersonId,
    ) -> Result<Option<ErasureReceipt>, CommandError> {
        let (receipt, person) = (receipt.to_owned(), person.to_string());
        self.read(move |c| {
            let sql = "SELECT receipt FROM erasures WHERE id = ?1";
            let text: Option<String> = c.query_row(sql, [&receipt], |r| r.get(0)).optional()?;
            let Some(text) = text else { return Ok(None) };
            let mut value: serde_json::Value = serde_json::from_str(&text)?;
            value["person"] = person.into();
            Ok(Some(serde_json::from_value(value)?))
        })
        .await
    }
}
