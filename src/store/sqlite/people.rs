//! The gallery store: people, faces with their embeddings, negative exemplars, erasure.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    CommandError, SqliteStore, embeddings, from_bytes,
    ledger::{self, Erasure},
    schema, to_bytes,
};
use crate::{
    event::NewEvent,
    face::{Distance, Embedding},
    identity::{
        Calibration, EnrolledFace, FaceCrop, GalleryError, GalleryStore, Person,
        person::{ErasureReceipt, StoredAbout},
    },
    ids::{EventId, FaceId, ModelId, PersonId},
    time::Timestamp,
    vault::Vault,
};

pub(super) fn failed(error: CommandError) -> GalleryError {
    error.of_the_disk().map_or_else(|| GalleryError::Storage(error.to_string()), GalleryError::Disk)
}

pub(super) fn distance_name(distance: Distance) -> &'static str {
    match distance {
        Distance::Cosine => "cosine",
        Distance::Euclidean => "euclidean",
    }
}

pub(super) fn embedding(model: String, distance: &str, bytes: &[u8]) -> Result<Embedding, CommandError> {
    let model = model.parse::<ModelId>().map_err(|e| CommandError::Value(e.to_string()))?;
    let distance = match distance {
        "cosine" => Distance::Cosine,
        "euclidean" => Distance::Euclidean,
        other => return Err(CommandError::Value(format!("unknown distance {other:?}"))),
    };
    Ok(Embedding { model, distance, values: from_bytes(bytes).into() })
}

pub(super) const FACE: &str = "faces.id, person, embeddings.model, embeddings.distance,
     unseal('embedding/' || faces.id || '/' || embeddings.model, embeddings.embedding), quality, source, created";
/// A face with an embedding; the condition says of which model.
pub(super) const FACES: &str = "faces JOIN embeddings ON embeddings.face = faces.id";
/// Of a face's embeddings that of the model in use, or else any.
const PREFERRED: &str = "embeddings.model = (SELECT model FROM embeddings AS own WHERE own.face = faces.id
     ORDER BY own.model = (SELECT value FROM meta WHERE key = 'embedder') DESC, own.model LIMIT 1)";

pub(super) type FaceRow = (String, String, String, String, Vec<u8>, f64, String, String);

pub(super) fn face_row(r: &Row<'_>) -> rusqlite::Result<FaceRow> {
    Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?, r.get(6)?, r.get(7)?))
}

pub(super) fn face(
    (id, person, model, distance, bytes, quality, source, created): FaceRow,
) -> Result<EnrolledFace, CommandError> {
    let value = |e: &dyn std::fmt::Display| CommandError::Value(e.to_string());
    Ok(EnrolledFace {
        id: id.parse().map_err(|e| value(&e))?,
        person: person.parse().map_err(|e| value(&e))?,
        embedding: embedding(model, &distance, &bytes)?,
        quality: quality as f32,
        source,
        created: created.parse().map_err(|e| value(&e))?,
    })
}

/// The log of changes still holds removed bytes until it is written back; a reader may be in the way for a moment.
pub(super) fn overwrite(c: &Connection) -> Result<(), CommandError> {
    for _ in 0..3 {
        if c.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get::<_, i64>(0))? == 0 {
            return Ok(());
        }
    }
    tracing::error!("removed data may stay in visage.db-wal until the next checkpoint: a reader is in the way");
    Ok(())
}

pub(super) fn exists(c: &Connection, id: &PersonId) -> rusqlite::Result<bool> {
    c.query_row("SELECT 1 FROM people WHERE id = ?1", [id.as_str()], |_| Ok(())).optional().map(|r| r.is_some())
}

#[async_trait]
impl GalleryStore for SqliteStore {
    async fn insert_person(&self, person: &Person) -> Result<(), GalleryError> {
        let (id, revision, body) = (person.id.clone(), person.revision as i64, serde_json::to_string(person));
        let added = self.write(move |c| {
            let sql = "INSERT OR IGNORE INTO people (id, revision, body) VALUES (?1, ?2, ?3)";
            Ok(c.execute(sql, params![id.as_str(), revision, body?])?)
        });
        match added.await.map_err(failed)? {
            0 => Err(GalleryError::AlreadyExists(person.id.clone())),
            _ => Ok(()),
        }
    }

    async fn person(&self, id: &PersonId) -> Result<Person, GalleryError> {
        let key = id.clone();
        let found = self.read(move |c| {
            let sql = "SELECT body FROM people WHERE id = ?1";
            let body: Option<String> = c.query_row(sql, [key.as_str()], |r| r.get(0)).optional()?;
            Ok(body.map(|b| serde_json::from_str(&b)).transpose()?)
        });
        found.await.map_err(failed)?.ok_or_else(|| GalleryError::PersonNotFound(id.clone()))
    }

    async fn people(&self, after: Option<&PersonId>, limit: usize) -> Result<Vec<(Person, u32)>, GalleryError> {
        let after = after.map_or_else(String::new, ToString::to_string);
        let found = self.read(move |c| {
            let sql = "SELECT body, (SELECT count(*) FROM faces WHERE person = people.id) FROM people
                       WHERE id > ?1 ORDER BY id LIMIT ?2";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map(params![after, limit.min(1 << 30) as i64], |r| {
                Ok((r.get::<_, String>(0)?, r.get::<_, u32>(1)?))
            })?;
            rows.map(|row| row.map_err(CommandError::from).and_then(|(b, n)| Ok((serde_json::from_str(&b)?, n))))
                .collect()
        });
        found.await.map_err(failed)
    }

    async fn update_person(&self, person: &Person) -> Result<(), GalleryError> {
        let (id, revision, body) = (person.id.clone(), person.revision as i64, serde_json::to_string(person));
        let outcome = self.write(move |c| {
            let sql = "UPDATE people SET revision = ?2, body = ?3 WHERE id = ?1 AND revision = ?2 - 1";
            let changed = c.execute(sql, params![id.as_str(), revision, body?])?;
            Ok((changed, exists(c, &id)?))
        });
        match outcome.await.map_err(failed)? {
            (1, _) => Ok(()),
            (_, true) => Err(GalleryError::Conflict(person.id.clone())),
            (_, false) => Err(GalleryError::PersonNotFound(person.id.clone())),
        }
    }

    async fn erase_person(&self, id: &PersonId, now: Timestamp) -> Result<ErasureReceipt, GalleryError> {
        let (key, ledger, vault) = (id.clone(), self.ledger.clone(), self.vault.clone());
        let recent = self.recent.clone();
        let receipt = self.write(move |c| {
            if !exists(c, &key)? {
                return Ok(None);
            }
            let erasure = Erasure { receipt: uuid::Uuid::now_v7().to_string(), erased: now, person: key };
            // First, so that an erasure which a crash interrupts is finished at the next start.
            ledger.add(std::slice::from_ref(&erasure))?;
            recent.forget();
            let transaction = c.transaction()?;
            let receipt = erase(&transaction, &vault, &erasure, None)?;
            transaction.commit()?;
            overwrite(c)?;
            schema::remove_copies(c);
            Ok(Some(receipt))
        });
        receipt.await.map_err(failed)?.ok_or_else(|| GalleryError::PersonNotFound(id.clone()))
    }

    async fn insert_face(&self, face: &EnrolledFace, crop: Option<&FaceCrop>) -> Result<(), GalleryError> {
        let (f, crop) = (face.clone(), crop.cloned());
        let there = self.write(move |c| {
            let c = c.transaction()?;
            if !exists(&c, &f.person)? {
                return Ok(false);
            }
            let sql = "INSERT INTO faces (id, person, quality, source, created) VALUES (?1, ?2, ?3, ?4, ?5)";
            let (id, quality) = (f.id.as_str(), f64::from(f.quality));
            c.execute(sql, params![id, f.person.as_str(), quality, f.source, f.created.to_string()])?;
            embeddings::insert(&c, &f.id, &f.embedding)?;
            if let Some(crop) = crop {
                let sql = "INSERT INTO crops (face, jpeg, detection) VALUES (?1, seal('crop/' || ?1, ?2), ?3)";
                c.execute(sql, params![id, &crop.jpeg[..], serde_json::to_string(&crop.detection)?])?;
            }
            c.commit()?;
            Ok(true)
        });
        match there.await.map_err(failed)? {
            true => Ok(()),
            false => Err(GalleryError::PersonNotFound(face.person.clone())),
        }
    }

    async fn faces(&self, person: &PersonId) -> Result<Vec<EnrolledFace>, GalleryError> {
        let key = person.clone();
        let found = self.read(move |c| {
            if !exists(c, &key)? {
                return Ok(None);
            }
            let sql = format!("SELECT {FACE} FROM {FACES} WHERE person = ?1 AND {PREFERRED} ORDER BY faces.id");
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map([key.as_str()], face_row)?;
            rows.map(|r| face(r?)).collect::<Result<Vec<_>, _>>().map(Some)
        });
        found.await.map_err(failed)?.ok_or_else(|| GalleryError::PersonNotFound(person.clone()))
    }

    async fn remove_face(&self, person: &PersonId, face: &FaceId) -> Result<(), GalleryError> {
        let (p, f) = (person.clone(), face.clone());
        let removed = self.write(move |c| {
            let removed = c.execute("DELETE FROM faces WHERE id = ?1 AND person = ?2", [f.as_str(), p.as_str()])?;
            overwrite(c)?;
            Ok(removed)
        });
        match removed.await.map_err(failed)? {
            0 => Err(GalleryError::FaceNotFound(face.clone())),
            _ => Ok(()),
        }
    }

    async fn all_faces(&self, model: &ModelId) -> Result<Vec<EnrolledFace>, GalleryError> {
        let key = model.clone();
        let found = self.read(move |c| {
            let sql = format!("SELECT {FACE} FROM {FACES} WHERE embeddings.model = ?1 ORDER BY faces.id");
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map([key.as_str()], face_row)?;
            rows.map(|r| face(r?)).collect()
        });
        found.await.map_err(failed)
    }

    async fn stored_about(&self, person: &PersonId) -> Result<StoredAbout, GalleryError> {
        let key = person.clone();
        let found = self.read(move |c| {
            let sql = "SELECT (SELECT count(*) FROM negatives WHERE person = ?1), EXISTS (SELECT 1 FROM classifiers)";
            let (negatives, classifier) = c.query_row(sql, [key.as_str()], |r| Ok((r.get(0)?, r.get(1)?)))?;
            let sql = "SELECT face, model FROM embeddings JOIN faces ON faces.id = face WHERE person = ?1 ORDER BY face, model";
            let mut statement = c.prepare_cached(sql)?;
            let rows =
                statement.query_map([key.as_str()], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?)))?;
            let mut about = StoredAbout { negatives, classifier, ..StoredAbout::default() };
            for row in rows {
                let (face, model) = row?;
                let value = |e: &dyn std::fmt::Display| CommandError::Value(e.to_string());
                let face: FaceId = face.parse().map_err(|e| value(&e))?;
                about.models.entry(face).or_default().push(model.parse().map_err(|e| value(&e))?);
            }
            Ok(about)
        });
        found.await.map_err(failed)
    }

    async fn counts(&self) -> Result<(u64, u64), GalleryError> {
        let counted = self.read(|c| {
            let sql = "SELECT (SELECT count(*) FROM people), (SELECT count(*) FROM faces)";
            Ok(c.query_row(sql, [], |r| Ok((r.get::<_, i64>(0)? as u64, r.get::<_, i64>(1)? as u64)))?)
        });
        counted.await.map_err(failed)
    }

    async fn insert_negative(&self, person: &PersonId, probe: &Embedding) -> Result<(), GalleryError> {
        let (key, probe) = (person.clone(), probe.clone());
        let there = self.write(move |c| {
            if !exists(c, &key)? {
                return Ok(false);
            }
            let sql = "INSERT INTO negatives (person, model, distance, embedding)
                       VALUES (?1, ?2, ?3, seal('negative/' || ?1 || '/' || ?2, ?4))";
            let values = to_bytes(&probe.values);
            c.execute(sql, params![key.as_str(), probe.model.as_str(), distance_name(probe.distance), values])?;
            Ok(true)
        });
        match there.await.map_err(failed)? {
            true => Ok(()),
            false => Err(GalleryError::PersonNotFound(person.clone())),
        }
    }

    async fn remove_negative(&self, person: &PersonId, probe: &Embedding) -> Result<bool, GalleryError> {
        let (key, probe) = (person.clone(), probe.clone());
        let removed = self.write(move |c| {
            // One of them: the same face may have been judged twice.
            let sql = "DELETE FROM negatives WHERE rowid =
                       (SELECT max(rowid) FROM negatives
                        WHERE person = ?1 AND model = ?2 AND unseal('negative/' || ?1 || '/' || ?2, embedding) = ?3)";
            Ok(c.execute(sql, params![key.as_str(), probe.model.as_str(), to_bytes(&probe.values)])?)
        });
        Ok(removed.await.map_err(failed)? > 0)
    }

    async fn negatives(&self, model: &ModelId) -> Result<Vec<(PersonId, Embedding)>, GalleryError> {
        let key = model.clone();
        let found = self.read(move |c| {
            let sql = "SELECT person, model, distance, unseal('negative/' || person || '/' || model, embedding)
                       FROM negatives WHERE model = ?1 ORDER BY rowid";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([key.as_str()], |r| {
                Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?, r.get::<_, Vec<u8>>(3)?))
            })?;
            rows.map(|row| {
                let (person, model, distance, bytes) = row?;
                let person = person.parse().map_err(|e| CommandError::Value(format!("{e}")))?;
                Ok((person, embedding(model, &distance, &bytes)?))
            })
            .collect()
        });
        found.await.map_err(failed)
    }

    async fn calibration(&self, model: &ModelId) -> Result<Option<Calibration>, GalleryError> {
        let key = calibration_key(model);
        let found = self.read(move |c| {
            let sql = "SELECT value FROM meta WHERE key = ?1";
            let text: Option<String> = c.query_row(sql, [key], |r| r.get(0)).optional()?;
            Ok(text.map(|t| serde_json::from_str(&t)).transpose()?)
        });
        found.await.map_err(failed)
    }

    async fn set_calibration(&self, model: &ModelId, calibration: Option<&Calibration>) -> Result<(), GalleryError> {
        let (key, text) = (calibration_key(model), calibration.map(serde_json::to_string));
        let done = self.write(move |c| {
            match text {
                Some(text) => {
                    c.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", params![key, text?])?
                }
                None => c.execute("DELETE FROM meta WHERE key = ?1", [key])?,
            };
            Ok(())
        });
        done.await.map_err(failed)
    }

    async fn classifier(&self, model: &ModelId) -> Result<Option<Vec<u8>>, GalleryError> {
        let key = model.clone();
        self.read(move |c| classifier(c, key.as_str())).await.map_err(failed)
    }

    async fn set_classifier(&self, model: &ModelId, bytes: Option<&[u8]>) -> Result<(), GalleryError> {
        let (key, bytes) = (model.clone(), bytes.map(<[u8]>::to_vec));
        let done = self.write(move |c| {
            match bytes {
                Some(bytes) => {
                    let sql =
                        "INSERT OR REPLACE INTO classifiers (model, body) VALUES (?1, seal('classifier/' || ?1, ?2))";
                    c.execute(sql, params![key.as_str(), bytes])?
                }
                None => c.execute("DELETE FROM classifiers WHERE model = ?1", [key.as_str()])?,
            };
            Ok(())
        });
        done.await.map_err(failed)
    }
}

/// The classifier of a model as bytes.
fn classifier(c: &Connection, model: &str) -> Result<Option<Vec<u8>>, CommandError> {
    let sql = "SELECT unseal('classifier/' || model, body) FROM classifiers WHERE model = ?1";
    Ok(c.query_row(sql, [model], |r| r.get(0)).optional()?)
}

pub(super) fn calibration_key(model: &ModelId) -> String {
    format!("calibration:{model}")
}

/// Takes template and picture out of an event that was corrected to an erased person: it showed that person and named nobody. Returns
/// how many pictures there were.
pub(super) fn forget_corrected(c: &Connection, event: &EventId) -> Result<u64, CommandError> {
    let sql = "SELECT body FROM events WHERE id = ?1 AND person IS NULL";
    let found: Option<String> = c.query_row(sql, [event.as_str()], |r| r.get(0)).optional()?;
    let Some(text) = found else { return Ok(0) };
    let mut body: NewEvent = serde_json::from_str(&text)?;
    body.template = None;
    let sql = "UPDATE events SET body = ?2, template = NULL WHERE id = ?1";
    c.execute(sql, params![event.as_str(), serde_json::to_string(&body)?])?;
    Ok(c.execute("DELETE FROM pictures WHERE event = ?1", [event.as_str()])? as u64)
}

/// When a person was added; `None` without such a person.
fn created(c: &Connection, id: &str) -> Result<Option<Timestamp>, CommandError> {
    let sql = "SELECT json_extract(body, '$.created') FROM people WHERE id = ?1";
    let found: Option<String> = c.query_row(sql, [id], |r| r.get(0)).optional()?;
    found.map(|at| at.parse().map_err(|e| CommandError::Value(format!("{e}")))).transpose()
}

/// Removes a person from people, faces, negatives, past events and their pictures; keeps the receipt, in which who it was is sealed.
/// With `until` only what is not newer: the id may be somebody else's by now.
pub(super) fn erase(
    c: &Connection,
    vault: &Vault,
    erasure: &Erasure,
    until: Option<Timestamp>,
) -> Result<ErasureReceipt, CommandError> {
    let id = erasure.person.as_str();
    let last = until.map_or(i64::MAX, |at| at.as_microsecond());
    let meant = created(c, id)?.is_none_or(|at| at.as_microsecond() <= last);
    let faces: u32 = c.query_row("SELECT count(*) FROM faces WHERE person = ?1", [id], |r| r.get(0))?;
    let sql = "SELECT count(*) FROM crops JOIN faces ON faces.id = crops.face WHERE person = ?1";
    let crops: u32 = c.query_row(sql, [id], |r| r.get(0))?;
    let mut pictures_removed = 0;
    let mut events: Vec<(i64, String, String)> = Vec::new();
    {
        let sql = "SELECT position, id, body FROM events WHERE person = ?1 AND created_us <= ?2";
        let mut statement = c.prepare(sql)?;
        let rows = statement.query_map(params![id, last], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
        for row in rows {
            events.push(row?);
        }
    }
    for (position, event, body) in &events {
        let mut body: NewEvent = serde_json::from_str(body)?;
        body.forget_person();
        let text = serde_json::to_string(&body)?;
        c.execute(
            "UPDATE events SET body = ?2, person = NULL, template = NULL WHERE position = ?1",
            params![position, text],
        )?;
        // The name is drawn in the picture.
        pictures_removed += c.execute("DELETE FROM pictures WHERE event = ?1", [event])? as u64;
        if let Some(corrected) = &body.corrects {
            pictures_removed += forget_corrected(c, corrected)?;
        }
    }
    if meant {
        c.execute("DELETE FROM people WHERE id = ?1", [id])?;
    }
    // The erased faces shaped every weight, of whatever person.
    c.execute("DELETE FROM classifiers", [])?;
    let receipt = ErasureReceipt {
        id: erasure.receipt.clone(),
        person: erasure.person.clone(),
        erased: erasure.erased,
        faces_removed: if meant { faces } else { 0 },
        crops_removed: if meant { crops } else { 0 },
        events_anonymised: events.len() as u64,
        pictures_removed,
    };
    let mut kept = serde_json::to_value(&receipt)?;
    let sealed = ledger::sealed(vault, &receipt.id, &receipt.person);
    kept["person"] = sealed.map_err(|e| CommandError::Value(e.to_string()))?.into();
    let text = kept.to_string();
    c.execute("INSERT INTO erasures (id, receipt) VALUES (?1, ?2)", params![receipt.id, text])?;
    Ok(receipt)
}
