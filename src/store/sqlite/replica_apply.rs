//! One transaction of a replica: each change is put where the embedded mode would have put it.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    CommandError, embeddings, from_bytes,
    ledger::Erasure,
    people::{calibration_key, distance_name, exists},
    replica::{Change, Erased, Incoming, OPEN, Outcome, Source, fingerprint},
    to_bytes, tokens,
};
use crate::{
    event::Event,
    face::Embedding,
    identity::{EnrolledFace, FaceCrop, GalleryChange},
    ids::{FaceId, ModelId, PersonId},
    vault::Vault,
};

/// A transaction that applies changes.
pub(super) struct Applying<'a> {
    pub(super) c: &'a Connection,
    pub(super) vault: &'a Vault,
    pub(super) erased: &'a Erased,
    pub(super) outcome: Outcome,
    /// Events written at the end of the log, in order.
    pub(super) written: Vec<Event>,
    /// Something written before was changed.
    pub(super) changed: bool,
    /// Something was removed that must not stay in the log of changes.
    pub(super) removed: bool,
}

impl<'a> Applying<'a> {
    pub(super) fn new(c: &'a Connection, vault: &'a Vault, erased: &'a Erased) -> Self {
        let outcome = Outcome::default();
        Self { c, vault, erased, outcome, written: Vec::new(), changed: false, removed: false }
    }

    pub(super) fn take(&mut self, incoming: Incoming) -> Result<(), CommandError> {
        let Incoming { source, key, revision, in_turn, change } = incoming;
        let id = self.one(source, &key, revision, change)?;
        let row = "INSERT OR REPLACE INTO replica (source, key, revision, id) VALUES (?1, ?2, ?3, ?4)";
        let mut statement = self.c.prepare_cached(row)?;
        if let Some(id) = id {
            statement.execute(params![source.name(), key, revision as i64, id])?;
        }
        if in_turn {
            statement.execute(params![source.name(), "", revision as i64, None::<String>])?;
        }
        Ok(())
    }

    /// Applies one; what its key stands for, where that is kept.
    fn one(
        &mut self,
        source: Source,
        key: &str,
        revision: u64,
        change: Change,
    ) -> Result<Option<String>, CommandError> {
        Ok(match change {
            Change::Camera(spec) => {
                let (text, credentials) = super::cameras::parts(&spec)?;
                let sql = "INSERT OR REPLACE INTO cameras (id, revision, spec, credentials) VALUES (?1, ?2, ?3, seal('camera/' || ?1, ?4))";
                self.c.execute(sql, params![spec.id.as_str(), spec.revision as i64, text, credentials])?;
                self.outcome.cameras = true;
                Some(spec.id.to_string())
            }
            Change::Person(person) => {
                if self.erased.at(&person.id).is_none_or(|at| person.created > at) {
                    let sql = "INSERT INTO people (id, revision, body) VALUES (?1, ?2, ?3)
                               ON CONFLICT (id) DO UPDATE SET revision = ?2, body = ?3";
                    let body = serde_json::to_string(&*person)?;
                    self.c.execute(sql, params![person.id.as_str(), person.revision as i64, body])?;
                    self.outcome.gallery.push(GalleryChange::Person(person.id.clone()));
                }
                Some(person.id.to_string())
            }
            Change::Face(face, crop) => self.face(&face, crop.as_ref())?,
            Change::Negative(person, probe) => self.negative(key, &person, &probe)?,
            Change::Calibration(model, calibration) => {
                let text = serde_json::to_string(&*calibration)?;
                let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)";
                self.c.execute(sql, params![calibration_key(&model), text])?;
                self.outcome.gallery.push(GalleryChange::Calibration);
                Some(model.to_string())
            }
            Change::ModelInUse(model) => {
                self.c.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('embedder', ?1)", [model.as_str()])?;
                Some(model.to_string())
            }
            Change::Token(token) => Some(tokens::replicate(self.c, &token)?),
            Change::Erasure { person, erased, done } => {
                let erasure = Erasure { receipt: key.to_owned(), erased, person };
                self.erase(&erasure)?;
                Some(if done { "done" } else { OPEN }.to_owned())
            }
            Change::Event(body, has_image) => {
                self.event(revision, *body, has_image, None, false)?;
                None
            }
            Change::Amended { position, body, has_image, feedback } => {
                self.event(position, *body, has_image, feedback, true)?;
                Some(String::new())
            }
            Change::Gone => {
                self.gone(source, key)?;
                None
            }
            Change::Nothing => None,
        })
    }

    fn face(&mut self, face: &EnrolledFace, crop: Option<&FaceCrop>) -> Result<Option<String>, CommandError> {
        let outdated = self.erased.at(&face.person).is_some_and(|at| face.created <= at);
        if !outdated && exists(self.c, &face.person)? {
            let (id, quality) = (face.id.as_str(), f64::from(face.quality));
            let sql = "INSERT OR REPLACE INTO faces (id, person, quality, source, created) VALUES (?1, ?2, ?3, ?4, ?5)";
            self.c.execute(sql, params![id, face.person.as_str(), quality, face.source, face.created.to_string()])?;
            embeddings::insert(self.c, &face.id, &face.embedding)?;
            if let Some(crop) = crop {
                let sql = "INSERT INTO crops (face, jpeg, detection) VALUES (?1, seal('crop/' || ?1, ?2), ?3)";
                self.c.execute(sql, params![id, &crop.jpeg[..], serde_json::to_string(&crop.detection)?])?;
            }
            let (person, face) = (face.person.clone(), face.id.clone());
            self.outcome.gallery.push(GalleryChange::FaceAdded { person, face });
        }
        Ok(Some(face.id.to_string()))
    }

    fn negative(&mut self, key: &str, person: &PersonId, probe: &Embedding) -> Result<Option<String>, CommandError> {
        let sql = "SELECT 1 FROM replica WHERE source = ?1 AND key = ?2";
        let known = self.c.query_row(sql, [Source::Settings.name(), key], |_| Ok(())).optional()?.is_some();
        if !known && exists(self.c, person)? {
            let sql = "INSERT INTO negatives (person, model, distance, embedding)
                       VALUES (?1, ?2, ?3, seal('negative/' || ?1 || '/' || ?2, ?4))";
            let (model, values) = (probe.model.as_str(), to_bytes(&probe.values));
            self.c.execute(sql, params![person.as_str(), model, distance_name(probe.distance), values])?;
            self.outcome.gallery.push(GalleryChange::Negatives(person.clone()));
        }
        Ok(Some(person.to_string()))
    }

    fn gone(&mut self, source: Source, key: &str) -> Result<(), CommandError> {
        let sql = "DELETE FROM replica WHERE source = ?1 AND key = ?2 RETURNING id";
        let known: Option<Option<String>> = self.c.query_row(sql, [source.name(), key], |r| r.get(0)).optional()?;
        let Some(id) = known.flatten() else { return Ok(()) };
        let bad = |e: crate::ids::IdError| CommandError::Value(e.to_string());
        match source {
            Source::Cameras => {
                self.c.execute("DELETE FROM cameras WHERE id = ?1", [&id])?;
                self.outcome.cameras = true;
            }
            Source::People => {
                self.c.execute("DELETE FROM people WHERE id = ?1", [&id])?;
                let under = "DELETE FROM replica WHERE source = ?1 AND substr(key, 1, length(?2)) = ?2";
                self.c.execute(under, params![Source::Faces.name(), format!("{key}.")])?;
                self.c.execute(under, params![Source::Settings.name(), format!("negative.{key}.")])?;
                self.removed = true;
                self.outcome.gallery.push(GalleryChange::Person(id.parse().map_err(bad)?));
            }
            Source::Faces => {
                let sql = "DELETE FROM faces WHERE id = ?1 RETURNING person";
                let person: Option<String> = self.c.query_row(sql, [&id], |r| r.get(0)).optional()?;
                self.removed = true;
                if let Some(person) = person {
                    let (person, face): (PersonId, FaceId) = (person.parse().map_err(bad)?, id.parse().map_err(bad)?);
                    self.outcome.gallery.push(GalleryChange::FaceRemoved { person, face });
                }
            }
            Source::Settings if key.starts_with("negative.") => self.negative_gone(key, &id)?,
            Source::Settings if key.starts_with("calibration.") => {
                let model: ModelId = id.parse().map_err(bad)?;
                self.c.execute("DELETE FROM meta WHERE key = ?1", [calibration_key(&model)])?;
                self.outcome.gallery.push(GalleryChange::Calibration);
            }
            Source::Tokens => tokens::replicate_gone(self.c, &id)?,
            _ => {}
        }
        Ok(())
    }

    /// Removes the exemplar whose fingerprint the key holds; the newest of several that are the same.
    fn negative_gone(&mut self, key: &str, person: &str) -> Result<(), CommandError> {
        let sql = "SELECT rowid, model, unseal('negative/' || person || '/' || model, embedding)
                   FROM negatives WHERE person = ?1 ORDER BY rowid DESC";
        let mut statement = self.c.prepare_cached(sql)?;
        let mut rows = statement.query([person])?;
        while let Some(row) = rows.next()? {
            let model: String = row.get(1)?;
            let bytes: Vec<u8> = row.get(2)?;
            let probe = Embedding {
                model: model.parse().map_err(|e| CommandError::Value(format!("{e}")))?,
                distance: crate::face::Distance::Cosine,
                values: from_bytes(&bytes).into(),
            };
            if key.split('.').nth(2) == Some(&fingerprint(&probe)) {
                self.c.execute("DELETE FROM negatives WHERE rowid = ?1", [row.get::<_, i64>(0)?])?;
                let person = person.parse().map_err(|e| CommandError::Value(format!("{e}")))?;
                self.outcome.gallery.push(GalleryChange::Negatives(person));
                self.removed = true;
                break;
            }
        }
        Ok(())
    }

    /// Remembers who was erased.
    pub(super) fn remember(&self, erasure: &Erasure) {
        self.erased.add(&erasure.person, erasure.erased);
    }
}
