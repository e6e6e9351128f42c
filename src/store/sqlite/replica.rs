//! The database as a replica of a cluster's state: changes are applied as they are told, in order, and how far it is is kept with them.
//!
//! For each key of a bucket a row of `replica` holds its revision, by which writers notice that somebody was faster, and the id that it
//! stands for, since keys of people are hashes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{OptionalExtension, params};

use super::{
    CommandError, SqliteStore,
    ledger::{self, Erasure},
    people::{exists, overwrite},
    replica_apply::Applying,
    to_bytes,
};
use crate::{
    access::Token,
    camera::CameraSpec,
    event::{Feedback, NewEvent},
    face::Embedding,
    identity::{Calibration, EnrolledFace, FaceCrop, GalleryChange, Person},
    ids::{ModelId, PersonId},
    store::StoreError,
    time::Timestamp,
};

/// Buckets and the stream that a replica follows, in the order in which a new one reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store) enum Source {
    People,
    Faces,
    Settings,
    Cameras,
    Tokens,
    Erasures,
    Amended,
    Events,
}

impl Source {
    pub(in crate::store) const ALL: [Self; 8] = [
        Self::People,
        Self::Faces,
        Self::Settings,
        Self::Cameras,
        Self::Tokens,
        Self::Erasures,
        Self::Amended,
        Self::Events,
    ];

    /// What its bucket or stream is called after the cluster's name.
    pub(in crate::store) fn name(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Faces => "faces",
            Self::Settings => "settings",
            Self::Cameras => "cameras",
            Self::Tokens => "tokens",
            Self::Erasures => "erasures",
            Self::Amended => "amended",
            Self::Events => "events",
        }
    }
}

/// What an erasure's key stands for until it is done.
pub(super) const OPEN: &str = "open";

/// Revisions applied, one a source.
pub(in crate::store) type Applied = [u64; Source::ALL.len()];

/// What a key says from now on.
#[derive(Debug, Clone)]
pub(in crate::store) enum Change {
    Camera(Box<CameraSpec>),
    Person(Box<Person>),
    Face(Box<EnrolledFace>, Option<FaceCrop>),
    /// "This face is not that person".
    Negative(PersonId, Embedding),
    Calibration(ModelId, Box<Calibration>),
    ModelInUse(ModelId),
    Token(Box<Token>),
    Erasure {
        person: PersonId,
        erased: Timestamp,
        /// Nothing is left of the person anywhere.
        done: bool,
    },
    /// An event at the position of its revision, and whether it has a picture.
    Event(Box<NewEvent>, bool),
    /// An event as it is since it was changed, at a position.
    Amended {
        position: u64,
        body: Box<NewEvent>,
        has_image: bool,
        feedback: Option<Feedback>,
    },
    /// The key was removed.
    Gone,
    /// Nothing that a replica holds, or nothing that can be read.
    Nothing,
}

/// One change, as it comes.
#[derive(Debug, Clone)]
pub(in crate::store) struct Incoming {
    pub(in crate::store) source: Source,
    pub(in crate::store) key: String,
    pub(in crate::store) revision: u64,
    /// Whether it came in its turn, so that everything up to its revision is applied then; else it was looked up.
    pub(in crate::store) in_turn: bool,
    pub(in crate::store) change: Change,
}

/// What came of a number of changes.
#[derive(Debug, Default)]
pub(in crate::store) struct Outcome {
    /// What the gallery should look at again.
    pub(in crate::store) gallery: Vec<GalleryChange>,
    pub(in crate::store) cameras: bool,
    /// Events were changed here that are not yet changed at their origin.
    pub(in crate::store) rewrites: bool,
}

/// Who was erased, and when: whatever still names them and is not newer is not taken in.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Erased(Arc<Mutex<HashMap<PersonId, Timestamp>>>);

impl Erased {
    pub(super) fn add(&self, person: &PersonId, at: Timestamp) {
        let mut erased = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = erased.entry(person.clone()).or_insert(at);
        *last = at.max(*last);
    }

    /// When the person was erased last.
    pub(in crate::store) fn at(&self, person: &PersonId) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(person).copied()
    }
}

/// Fingerprint of an embedding, as part of a key.
pub(in crate::store) fn fingerprint(probe: &Embedding) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::new().chain_update(probe.model.as_str()).chain_update(to_bytes(&probe.values)).finalize();
    hex::encode(&hash[..16])
}

/// Whether nothing is kept.
fn is_empty(c: &rusqlite::Connection) -> rusqlite::Result<bool> {
    let sql =
        "SELECT NOT (EXISTS (SELECT 1 FROM cameras) OR EXISTS (SELECT 1 FROM people) OR EXISTS (SELECT 1 FROM events)
               OR EXISTS (SELECT 1 FROM tokens))";
    c.query_row(sql, [], |r| r.get(0))
}

impl SqliteStore {
    /// Whether the database is a replica of a cluster: without the cluster its pictures are missing, and what is written to it is lost.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn is_replica(&self) -> Result<bool, StoreError> {
        let asked = self.read(|c| {
            let sql = "SELECT EXISTS (SELECT 1 FROM replica WHERE source = 'log')";
            Ok(c.query_row(sql, [], |r| r.get(0))?)
        });
        asked.await.map_err(|error| StoreError::Cluster(error.to_string()))
    }

    /// How far the replica of a log is; a replica of another log is emptied first. Data of a server without a cluster are refused.
    pub(in crate::store) async fn replica_of(&self, log_id: &str) -> Result<(Applied, Erased), CommandError> {
        let (log_id, vault, recent) = (log_id.to_owned(), self.vault.clone(), self.recent.clone());
        let latest = self.latest.clone();
        let ledger = self.ledger.clone();
        self.write(move |c| {
            let sql = "SELECT id FROM replica WHERE source = 'log' AND key = ''";
            let kept: Option<String> = c.query_row(sql, [], |r| r.get(0)).optional()?;
            if kept.is_none() && !is_empty(c)? {
                return Err(CommandError::Value(
                    "the data folder holds data of a server without a cluster, which are not taken over; name another folder with --data-dir".into(),
                ));
            }
            if kept.as_deref() != Some(&log_id) {
                recent.forget();
                let transaction = c.transaction()?;
                transaction.execute_batch(
                    "DELETE FROM cameras; DELETE FROM people; DELETE FROM erasures; DELETE FROM events; DELETE FROM tokens;
                     DELETE FROM classifiers; DELETE FROM replica; DELETE FROM sqlite_sequence WHERE name = 'events';
                     DELETE FROM meta WHERE key IN ('embedder', 'index_in_work') OR key LIKE 'calibration:%';",
                )?;
                transaction.execute("INSERT INTO replica VALUES ('log', '', 0, ?1)", [&log_id])?;
                transaction.commit()?;
                ledger.remove()?;
                overwrite(c)?;
                latest.send_replace(0);
            }
            let mut applied = Applied::default();
            for source in Source::ALL {
                let sql = "SELECT revision FROM replica WHERE source = ?1 AND key = ''";
                let revision: Option<i64> = c.query_row(sql, [source.name()], |r| r.get(0)).optional()?;
                applied[source as usize] = revision.unwrap_or(0) as u64;
            }
            let erased = Erased::default();
            for Erasure { person, erased: at, .. } in ledger::receipts(c, &vault)? {
                erased.add(&person, at);
            }
            Ok((applied, erased))
        })
        .await
    }

    /// Applies changes in one transaction, and wakes subscribers.
    pub(in crate::store) async fn apply(
        &self,
        changes: Vec<Incoming>,
        erased: &Erased,
    ) -> Result<Outcome, CommandError> {
        let (vault, erased, recent, latest) =
            (self.vault.clone(), erased.clone(), self.recent.clone(), self.latest.clone());
        self.write(move |c| {
            let before = super::events::latest(c)?;
            let transaction = c.transaction()?;
            let mut applying = Applying::new(&transaction, &vault, &erased);
            for incoming in changes {
                applying.take(incoming)?;
            }
            let Applying { outcome, written, changed, removed, .. } = applying;
            transaction.commit()?;
            let follows = written.first().is_none_or(|first| first.position == before + 1);
            if changed || !follows {
                recent.forget();
            }
            if !changed {
                recent.add(&written);
            }
            if removed {
                overwrite(c)?;
            }
            let newest = super::events::latest(c)?;
            latest.send_if_modified(|last| std::mem::replace(last, newest) != newest);
            Ok(outcome)
        })
        .await
    }

    /// People that changes speak of and who are neither here nor told of before them.
    pub(in crate::store) async fn lacking(&self, changes: &[Incoming]) -> Result<BTreeSet<PersonId>, CommandError> {
        let (mut told, mut wanted) = (BTreeSet::new(), BTreeSet::new());
        for incoming in changes {
            match &incoming.change {
                Change::Person(person) => {
                    told.insert(person.id.clone());
                }
                Change::Face(face, _) if !told.contains(&face.person) => {
                    wanted.insert(face.person.clone());
                }
                Change::Negative(person, _) if !told.contains(person) => {
                    wanted.insert(person.clone());
                }
                _ => {}
            }
        }
        if wanted.is_empty() {
            return Ok(wanted);
        }
        self.read(move |c| {
            let mut lacking = BTreeSet::new();
            for person in wanted {
                if !exists(c, &person)? {
                    lacking.insert(person);
                }
            }
            Ok(lacking)
        })
        .await
    }

    /// Revision of a key; `None` without it.
    pub(in crate::store) async fn revision_of(&self, source: Source, key: &str) -> Result<Option<u64>, CommandError> {
        let key = key.to_owned();
        self.read(move |c| {
            let sql = "SELECT revision FROM replica WHERE source = ?1 AND key = ?2";
            let found: Option<i64> = c.query_row(sql, params![source.name(), key], |r| r.get(0)).optional()?;
            Ok(found.map(|revision| revision as u64))
        })
        .await
    }

    /// Keys of a source that begin with a text, with their revisions.
    pub(in crate::store) async fn keys_of(
        &self,
        source: Source,
        prefix: &str,
    ) -> Result<Vec<(String, u64)>, CommandError> {
        let prefix = prefix.to_owned();
        self.read(move |c| {
            let sql =
                "SELECT key, revision FROM replica WHERE source = ?1 AND key <> '' AND substr(key, 1, length(?2)) = ?2";
            let mut statement = c.prepare_cached(sql)?;
            let rows =
                statement.query_map([source.name(), &prefix], |r| Ok((r.get(0)?, r.get::<_, i64>(1)? as u64)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Number of a camera's or a person's revision, as the API counts it; `None` without it.
    pub(in crate::store) async fn counted(&self, source: Source, id: &str) -> Result<Option<u64>, CommandError> {
        let (table, id) = (if source == Source::Cameras { "cameras" } else { "people" }, id.to_owned());
        self.read(move |c| {
            let sql = format!("SELECT revision FROM {table} WHERE id = ?1");
            let found: Option<i64> = c.query_row(&sql, [id], |r| r.get(0)).optional()?;
            Ok(found.map(|revision| revision as u64))
        })
        .await
    }
}
