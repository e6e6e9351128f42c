//! Embeddings of enrolled faces by several models, the pictures they are made from, and which model is in use.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    CommandError, SqliteStore,
    people::{FACE, FACES, distance_name, embedding, face, face_row},
    to_bytes,
};
use crate::{
    face::Embedding,
    identity::{
        EmbeddingStore, EnrolledFace, FaceCrop, GalleryError,
        embeddings::{Coverage, FaceNote},
    },
    ids::{FaceId, ModelId, PersonId},
};

/// The model in use; read by `people.rs`, too.
const IN_USE: &str = "embedder";
const IN_WORK: &str = "index_in_work";
/// A face that lacks the model `?1`.
const LACKING: &str = "NOT EXISTS (SELECT 1 FROM embeddings WHERE face = faces.id AND model = ?1)";

fn failed(error: CommandError) -> GalleryError {
    error.of_the_disk().map_or_else(|| GalleryError::Storage(error.to_string()), GalleryError::Disk)
}

fn value(error: impl std::fmt::Display) -> CommandError {
    CommandError::Value(error.to_string())
}

/// Adds or replaces an embedding; within the caller's transaction.
pub(super) fn insert(c: &Connection, face: &FaceId, e: &Embedding) -> Result<(), CommandError> {
    let sql = "INSERT OR REPLACE INTO embeddings (face, model, distance, embedding)
               VALUES (?1, ?2, ?3, seal('embedding/' || ?1 || '/' || ?2, ?4))";
    let row = params![face.as_str(), e.model.as_str(), distance_name(e.distance), to_bytes(&e.values)];
    c.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

fn model_at(c: &Connection, key: &str) -> Result<Option<ModelId>, CommandError> {
    let text: Option<String> = c.query_row("SELECT value FROM meta WHERE key = ?1", [key], |r| r.get(0)).optional()?;
    text.map(|t| t.parse().map_err(value)).transpose()
}

/// The model that the gallery was moved to, and how many faces each model embedded; for a database that may be in use elsewhere.
pub(super) fn overview(c: &Connection) -> Result<(Option<ModelId>, Vec<Coverage>), CommandError> {
    let mut statement = c.prepare(
        "SELECT model, count(DISTINCT person), count(*) FROM embeddings JOIN faces ON faces.id = face
         GROUP BY model ORDER BY model",
    )?;
    let rows = statement.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, i64>(1)?, r.get::<_, i64>(2)?)))?;
    let coverage = rows.map(|row| {
        let (model, people, faces) = row?;
        Ok(Coverage { model: model.parse().map_err(value)?, people: people as u64, faces: faces as u64 })
    });
    Ok((model_at(c, IN_USE)?, coverage.collect::<Result<_, CommandError>>()?))
}

fn crop_of((jpeg, detection): (Vec<u8>, String)) -> Result<FaceCrop, CommandError> {
    Ok(FaceCrop { jpeg: jpeg.into(), detection: serde_json::from_str(&detection)? })
}

impl SqliteStore {
    async fn notes(&self, model: &ModelId, also: &'static str) -> Result<Vec<FaceNote>, GalleryError> {
        let key = model.clone();
        let found = self.read(move |c| {
            let sql = format!("SELECT person, id, source FROM faces WHERE {LACKING} {also} ORDER BY person, id");
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map([key.as_str()], |r| {
                Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?))
            })?;
            rows.map(|row| {
                let (person, face, source) = row?;
                Ok(FaceNote { person: person.parse().map_err(value)?, face: face.parse().map_err(value)?, source })
            })
            .collect()
        });
        found.await.map_err(failed)
    }
}

#[async_trait]
impl EmbeddingStore for SqliteStore {
    async fn model_in_use(&self) -> Result<Option<ModelId>, GalleryError> {
        self.read(|c| model_at(c, IN_USE)).await.map_err(failed)
    }

    async fn settle_model(&self, model: &ModelId) -> Result<(), GalleryError> {
        let model = model.clone();
        let set = self.write(move |c| {
            c.execute("INSERT OR IGNORE INTO meta (key, value) VALUES (?1, ?2)", [IN_USE, model.as_str()])?;
            Ok(())
        });
        set.await.map_err(failed)
    }

    async fn use_model(&self, model: &ModelId, leaving: &ModelId) -> Result<(), GalleryError> {
        let (model, leaving) = (model.clone(), leaving.clone());
        let set = self.write(move |c| {
            let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2), (?3, ?4)";
            c.execute(sql, params![IN_USE, model.as_str(), IN_WORK, leaving.as_str()])?;
            Ok(())
        });
        set.await.map_err(failed)
    }

    async fn index_in_work(&self) -> Result<Option<ModelId>, GalleryError> {
        self.read(|c| model_at(c, IN_WORK)).await.map_err(failed)
    }

    async fn set_index_in_work(&self, model: Option<&ModelId>) -> Result<(), GalleryError> {
        let model = model.cloned();
        let set = self.write(move |c| {
            match model {
                Some(m) => {
                    c.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", [IN_WORK, m.as_str()])?
                }
                None => c.execute("DELETE FROM meta WHERE key = ?1", [IN_WORK])?,
            };
            Ok(())
        });
        set.await.map_err(failed)
    }

    async fn coverage(&self) -> Result<Vec<Coverage>, GalleryError> {
        self.read(|c| Ok(overview(c)?.1)).await.map_err(failed)
    }

    async fn crops(&self) -> Result<u64, GalleryError> {
        let counted = self.read(|c| Ok(c.query_row("SELECT count(*) FROM crops", [], |r| r.get::<_, i64>(0))? as u64));
        counted.await.map_err(failed)
    }

    async fn crop(&self, person: &PersonId, face: &FaceId) -> Result<Option<FaceCrop>, GalleryError> {
        let (p, f) = (person.clone(), face.clone());
        let found = self.read(move |c| {
            let sql =
                "SELECT unseal('crop/' || face, jpeg), detection FROM faces LEFT JOIN crops ON crops.face = faces.id
                       WHERE faces.id = ?1 AND person = ?2";
            let row: Option<(Option<Vec<u8>>, Option<String>)> =
                c.query_row(sql, [f.as_str(), p.as_str()], |r| Ok((r.get(0)?, r.get(1)?))).optional()?;
            Ok(match row {
                None => None,
                Some((jpeg, detection)) => Some(jpeg.zip(detection).map(crop_of).transpose()?),
            })
        });
        found.await.map_err(failed)?.ok_or_else(|| GalleryError::FaceNotFound(face.clone()))
    }

    async fn unembedded(
        &self,
        model: &ModelId,
        after: Option<&FaceId>,
        limit: usize,
    ) -> Result<Vec<(FaceId, FaceCrop)>, GalleryError> {
        let (model, after) = (model.clone(), after.map_or_else(String::new, ToString::to_string));
        let found = self.read(move |c| {
            let sql = format!(
                "SELECT faces.id, unseal('crop/' || face, jpeg), detection FROM faces JOIN crops ON crops.face = faces.id
                 WHERE faces.id > ?2 AND {LACKING} ORDER BY faces.id LIMIT ?3"
            );
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map(params![model.as_str(), after, limit.min(1 << 20) as i64], |r| {
                Ok((r.get::<_, String>(0)?, (r.get(1)?, r.get(2)?)))
            })?;
            rows.map(|row| {
                let (id, crop) = row?;
                Ok((id.parse().map_err(value)?, crop_of(crop)?))
            })
            .collect()
        });
        found.await.map_err(failed)
    }

    async fn unembedded_count(&self, model: &ModelId) -> Result<u64, GalleryError> {
        let model = model.clone();
        let counted = self.read(move |c| {
            let sql = format!("SELECT count(*) FROM faces JOIN crops ON crops.face = faces.id WHERE {LACKING}");
            Ok(c.query_row(&sql, [model.as_str()], |r| r.get::<_, i64>(0))? as u64)
        });
        counted.await.map_err(failed)
    }

    async fn without_picture(&self, model: &ModelId) -> Result<Vec<FaceNote>, GalleryError> {
        self.notes(model, "AND NOT EXISTS (SELECT 1 FROM crops WHERE face = faces.id)").await
    }

    async fn missing(&self, model: &ModelId) -> Result<Vec<FaceNote>, GalleryError> {
        self.notes(model, "").await
    }

    async fn embedded(
        &self,
        model: &ModelId,
        after: Option<&FaceId>,
        limit: usize,
    ) -> Result<Vec<EnrolledFace>, GalleryError> {
        let (model, after) = (model.clone(), after.map_or_else(String::new, ToString::to_string));
        let found = self.read(move |c| {
            let sql = format!(
                "SELECT {FACE} FROM {FACES} WHERE embeddings.model = ?1 AND faces.id > ?2 ORDER BY faces.id LIMIT ?3"
            );
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map(params![model.as_str(), after, limit.min(1 << 20) as i64], face_row)?;
            rows.map(|r| face(r?)).collect()
        });
        found.await.map_err(failed)
    }

    async fn embeddings(&self, face: &FaceId) -> Result<Vec<Embedding>, GalleryError> {
        let face = face.clone();
        let found = self.read(move |c| {
            let sql = "SELECT model, distance, unseal('embedding/' || face || '/' || model, embedding)
                       FROM embeddings WHERE face = ?1 ORDER BY model";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([face.as_str()], |r| {
                Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, Vec<u8>>(2)?))
            })?;
            rows.map(|row| {
                let (model, distance, bytes) = row?;
                embedding(model, &distance, &bytes)
            })
            .collect()
        });
        found.await.map_err(failed)
    }

    async fn insert_embedding(&self, face: &FaceId, embedding: &Embedding) -> Result<bool, GalleryError> {
        let (face, embedding) = (face.clone(), embedding.clone());
        let there = self.write(move |c| {
            let sql = "SELECT 1 FROM faces WHERE id = ?1";
            let there = c.query_row(sql, [face.as_str()], |_| Ok(())).optional()?.is_some();
            if there {
                insert(c, &face, &embedding)?;
            }
            Ok(there)
        });
        there.await.map_err(failed)
    }

    async fn drop_embeddings(&self, model: &ModelId, instead: &ModelId) -> Result<u64, GalleryError> {
        let (model, instead) = (model.clone(), instead.clone());
        let dropped = self.write(move |c| {
            let sql = "DELETE FROM embeddings WHERE model = ?1 AND ?1 <> ?2
                       AND face IN (SELECT face FROM embeddings WHERE model = ?2)";
            Ok(c.execute(sql, [model.as_str(), instead.as_str()])? as u64)
        });
        dropped.await.map_err(failed)
    }
}
