//! The camera store.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};

use super::{CommandError, SqliteStore};
use crate::{
    camera::{CameraSpec, CameraStore, CameraStoreError},
    ids::CameraId,
};

fn failed(error: CommandError) -> CameraStoreError {
    CameraStoreError::Storage(error.to_string())
}

#[async_trait]
impl CameraStore for SqliteStore {
    async fn list(&self) -> Result<Vec<CameraSpec>, CameraStoreError> {
        let texts = self.read(|c| {
            let mut statement = c.prepare_cached("SELECT spec FROM cameras ORDER BY id")?;
            let rows = statement.query_map([], |r| r.get::<_, String>(0))?;
            rows.map(|text| Ok(serde_json::from_str(&text?)?)).collect()
        });
        texts.await.map_err(failed)
    }

    async fn insert(&self, spec: &CameraSpec) -> Result<(), CameraStoreError> {
        let (id, revision, text) = (spec.id.clone(), spec.revision, serde_json::to_string(spec));
        let added = self.write(move |c| {
            let sql = "INSERT OR IGNORE INTO cameras (id, revision, spec) VALUES (?1, ?2, ?3)";
            Ok(c.execute(sql, params![id.as_str(), revision as i64, text?])?)
        });
        match added.await.map_err(failed)? {
            0 => Err(CameraStoreError::AlreadyExists(spec.id.clone())),
            _ => Ok(()),
        }
    }

    async fn update(&self, spec: &CameraSpec) -> Result<(), CameraStoreError> {
        let (id, revision, text) = (spec.id.clone(), spec.revision as i64, serde_json::to_string(spec));
        let outcome = self.write(move |c| {
            let sql = "UPDATE cameras SET revision = ?2, spec = ?3 WHERE id = ?1 AND revision = ?2 - 1";
            let changed = c.execute(sql, params![id.as_str(), revision, text?])?;
            let there: Option<i64> =
                c.query_row("SELECT revision FROM cameras WHERE id = ?1", [id.as_str()], |r| r.get(0)).optional()?;
            Ok((changed, there))
        });
        match outcome.await.map_err(failed)? {
            (1, _) => Ok(()),
            (_, Some(_)) => Err(CameraStoreError::Conflict(spec.id.clone())),
            (_, None) => Err(CameraStoreError::NotFound(spec.id.clone())),
        }
    }

    async fn remove(&self, id: &CameraId) -> Result<(), CameraStoreError> {
        let key = id.clone();
        let removed = self.write(move |c| Ok(c.execute("DELETE FROM cameras WHERE id = ?1", [key.as_str()])?));
        match removed.await.map_err(failed)? {
            0 => Err(CameraStoreError::NotFound(id.clone())),
            _ => Ok(()),
        }
    }
}
