//! Unknown faces and their groups.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    CommandError, SqliteStore,
    people::{distance_name, embedding},
    to_bytes,
};
use crate::{
    identity::{
        UnknownChange, UnknownFace, UnknownStore, UnknownStoreError,
        unknown::{KeptUnknown, Placement},
    },
    ids::{FaceId, UnknownId},
};

fn failed(error: CommandError) -> UnknownStoreError {
    UnknownStoreError(error.to_string())
}

const FACE: &str =
    "id, camera, track, event, began, ended, model, distance, unseal('unknown-embedding/' || id, embedding), quality";

type FaceRow = ([String; 8], Vec<u8>, f64);

fn face_row(r: &Row<'_>) -> rusqlite::Result<FaceRow> {
    let text = |i: usize| r.get::<_, String>(i);
    Ok(([text(0)?, text(1)?, text(2)?, text(3)?, text(4)?, text(5)?, text(6)?, text(7)?], r.get(8)?, r.get(9)?))
}

/// A face without its picture.
fn face((text, bytes, quality): FaceRow) -> Result<UnknownFace, CommandError> {
    let value = |e: &dyn std::fmt::Display| CommandError::Value(e.to_string());
    let [id, camera, track, event, began, ended, model, distance] = text;
    Ok(UnknownFace {
        id: id.parse().map_err(|e| value(&e))?,
        camera: camera.parse().map_err(|e| value(&e))?,
        track: track.parse().map_err(|e| value(&e))?,
        event: event.parse().map_err(|e| value(&e))?,
        began: began.parse().map_err(|e| value(&e))?,
        ended: ended.parse().map_err(|e| value(&e))?,
        template: embedding(model, &distance, &bytes)?,
        quality: quality as f32,
        picture: Bytes::new(),
    })
}

/// Does what an event says about the unknown faces; within the event's transaction.
pub(super) fn apply(c: &Connection, change: UnknownChange) -> Result<(), CommandError> {
    match change {
        UnknownChange::Keep(face) => insert(c, &face),
        UnknownChange::Moved(face) => {
            c.execute("DELETE FROM unknown_faces WHERE id = ?1", [face.as_str()])?;
            remove_empty_groups(c)
        }
    }
}

fn insert(c: &Connection, face: &UnknownFace) -> Result<(), CommandError> {
    let sql = "INSERT INTO unknown_faces (id, camera, track, event, began, ended, model, distance, embedding, quality, jpeg)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, seal('unknown-embedding/' || ?1, ?9), ?10, seal('unknown/' || ?1, ?11))";
    let template = &face.template;
    c.prepare_cached(sql)?.execute(params![
        face.id.as_str(),
        face.camera.as_str(),
        face.track.as_str(),
        face.event.as_str(),
        face.began.to_string(),
        face.ended.to_string(),
        template.model.as_str(),
        distance_name(template.distance),
        to_bytes(&template.values),
        f64::from(face.quality),
        &face.picture[..]
    ])?;
    Ok(())
}

fn remove_empty_groups(c: &Connection) -> Result<(), CommandError> {
    let sql =
        "DELETE FROM unknown_groups WHERE NOT EXISTS (SELECT 1 FROM unknown_faces WHERE in_group = unknown_groups.id)";
    c.execute(sql, [])?;
    Ok(())
}

fn group_id(number: i64) -> Result<UnknownId, CommandError> {
    u32::try_from(number)
        .map(UnknownId::new)
        .map_err(|_| CommandError::Value(format!("group {number} is out of range")))
}

#[async_trait]
impl UnknownStore for SqliteStore {
    async fn unknowns(&self) -> Result<Vec<KeptUnknown>, UnknownStoreError> {
        let found = self.read(|c| {
            let mut statement = c.prepare(&format!("SELECT {FACE}, in_group, bound FROM unknown_faces ORDER BY id"))?;
            let rows = statement.query_map([], |r| Ok((face_row(r)?, r.get::<_, Option<i64>>(10)?, r.get(11)?)))?;
            rows.map(|row| {
                let (row, group, bound) = row?;
                Ok(KeptUnknown { face: face(row)?, group: group.map(group_id).transpose()?, bound })
            })
            .collect()
        });
        found.await.map_err(failed)
    }

    async fn ungrouped(&self, limit: usize) -> Result<Vec<UnknownFace>, UnknownStoreError> {
        let found = self.read(move |c| {
            let sql = format!("SELECT {FACE} FROM unknown_faces WHERE in_group IS NULL ORDER BY id LIMIT ?1");
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map([limit.min(1 << 20) as i64], face_row)?;
            rows.map(|row| face(row?)).collect()
        });
        found.await.map_err(failed)
    }

    async fn unknown_pictures(&self, faces: Vec<FaceId>) -> Result<Vec<Bytes>, UnknownStoreError> {
        let found = self.read(move |c| {
            let mut statement =
                c.prepare_cached("SELECT unseal('unknown/' || id, jpeg) FROM unknown_faces WHERE id = ?1")?;
            let mut picture = |id: &FaceId| {
                let jpeg: Option<Vec<u8>> = statement.query_row([id.as_str()], |r| r.get(0)).optional()?;
                Ok(jpeg.unwrap_or_default().into())
            };
            faces.iter().map(&mut picture).collect()
        });
        found.await.map_err(failed)
    }

    async fn dismissed(&self) -> Result<BTreeSet<UnknownId>, UnknownStoreError> {
        let found = self.read(|c| {
            let mut statement = c.prepare("SELECT id FROM unknown_groups WHERE dismissed = 1")?;
            let rows = statement.query_map([], |r| r.get::<_, i64>(0))?;
            rows.map(|row| group_id(row?)).collect()
        });
        found.await.map_err(failed)
    }

    async fn new_groups(&self, count: usize) -> Result<Vec<UnknownId>, UnknownStoreError> {
        let made = self.write(move |c| {
            let transaction = c.transaction()?;
            let mut groups = Vec::with_capacity(count);
            for _ in 0..count {
                transaction.prepare_cached("INSERT INTO unknown_groups DEFAULT VALUES")?.execute([])?;
                groups.push(group_id(transaction.last_insert_rowid())?);
            }
            transaction.commit()?;
            Ok(groups)
        });
        made.await.map_err(failed)
    }

    async fn place(&self, placements: Vec<Placement>) -> Result<(), UnknownStoreError> {
        let placed = self.write(move |c| {
            let transaction = c.transaction()?;
            {
                let sql = "UPDATE unknown_faces SET in_group = ?2, bound = ?3 WHERE id = ?1";
                let mut statement = transaction.prepare_cached(sql)?;
                for p in &placements {
                    statement.execute(params![p.face.as_str(), p.group.number(), p.bound])?;
                }
            }
            remove_empty_groups(&transaction)?;
            Ok(transaction.commit()?)
        });
        placed.await.map_err(failed)
    }

    async fn set_dismissed(&self, group: UnknownId, dismissed: bool) -> Result<(), UnknownStoreError> {
        let set = self.write(move |c| {
            c.execute("UPDATE unknown_groups SET dismissed = ?2 WHERE id = ?1", params![group.number(), dismissed])?;
            Ok(())
        });
        set.await.map_err(failed)
    }

    async fn remove_unknowns(&self, faces: Vec<FaceId>) -> Result<u64, UnknownStoreError> {
        let removed = self.write(move |c| {
            let transaction = c.transaction()?;
            let mut removed = 0;
            for face in &faces {
                let sql = "DELETE FROM unknown_faces WHERE id = ?1";
                removed += transaction.prepare_cached(sql)?.execute([face.as_str()])? as u64;
            }
            remove_empty_groups(&transaction)?;
            transaction.commit()?;
            Ok(removed)
        });
        removed.await.map_err(failed)
    }
}
