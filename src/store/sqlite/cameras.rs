//! The camera store.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};

use super::{CommandError, SqliteStore};
use crate::{
    camera::{CameraSpec, CameraStore, CameraStoreError},
    ids::CameraId,
};

fn failed(error: CommandError) -> CameraStoreError {
    error.of_the_disk().map_or_else(|| CameraStoreError::Storage(error.to_string()), CameraStoreError::Unavailable)
}

/// A camera as text without its credentials, and these apart, to be sealed.
pub(super) fn parts(spec: &CameraSpec) -> Result<(String, Option<String>), serde_json::Error> {
    let credentials = spec.credentials.as_ref().map(serde_json::to_string).transpose()?;
    let open = CameraSpec { credentials: None, ..spec.clone() };
    Ok((serde_json::to_string(&open)?, credentials))
}

#[async_trait]
impl CameraStore for SqliteStore {
    async fn list(&self) -> Result<Vec<CameraSpec>, CameraStoreError> {
        let texts = self.read(|c| {
            let sql = "SELECT spec, unseal('camera/' || id, credentials) FROM cameras ORDER BY id";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Option<Vec<u8>>>(1)?)))?;
            rows.map(|row| {
                let (text, credentials) = row?;
                let mut spec: CameraSpec = serde_json::from_str(&text)?;
                spec.credentials = credentials.map(|json| serde_json::from_slice(&json)).transpose()?;
                Ok(spec)
            })
            .collect()
        });
        texts.await.map_err(failed)
    }

    async fn insert(&self, spec: &CameraSpec) -> Result<(), CameraStoreError> {
        let (id, revision, parts) = (spec.id.clone(), spec.revision, parts(spec));
        let added = self.write(move |c| {
            let (text, credentials) = parts?;
            let sql = "INSERT OR IGNORE INTO cameras (id, revision, spec, credentials)
                       VALUES (?1, ?2, ?3, seal('camera/' || ?1, ?4))";
            Ok(c.execute(sql, params![id.as_str(), revision as i64, text, credentials])?)
        });
        match added.await.map_err(failed)? {
            0 => Err(CameraStoreError::AlreadyExists(spec.id.clone())),
            _ => Ok(()),
        }
    }

    async fn update(&self, spec: &CameraSpec) -> Result<(), CameraStoreError> {
        let (id, revision, parts) = (spec.id.clone(), spec.revision as i64, parts(spec));
        let outcome = self.write(move |c| {
            let (text, credentials) = parts?;
            let sql = "UPDATE cameras SET revision = ?2, spec = ?3, credentials = seal('camera/' || ?1, ?4)
                       WHERE id = ?1 AND revision = ?2 - 1";
            let changed = c.execute(sql, params![id.as_str(), revision, text, credentials])?;
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
