//! `seal` and `unseal` as functions of SQL: what is sealed is sealed in the very statement that writes it.

use std::sync::Arc;

use rusqlite::{
    Connection, OptionalExtension,
    functions::{Context, FunctionFlags},
    types::ValueRef,
};

use super::{fault, to_bytes};
use crate::{store::StoreError, vault::Vault};

/// What the piece says by which a vault is known to be that of a database.
const PROOF: &[u8] = b"visage";
/// Its place.
const PROOF_PLACE: &str = "proof";

fn fail(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(Box::new(error))
}

fn bytes<'a>(context: &'a Context<'_>, at: usize) -> rusqlite::Result<Option<&'a [u8]>> {
    match context.get_raw(at) {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Ok(Some(bytes)),
        other => {
            Err(rusqlite::Error::InvalidParameterName(format!("argument {at} is of the type {}", other.data_type())))
        }
    }
}

/// Gives a connection `seal(place, bytes or text)` → sealed bytes, `unseal(place, sealed)` → bytes, and `floats(json)` → the numbers of a
/// JSON array as little-endian 32-bit floats. NULL gives NULL.
pub(super) fn teach(connection: &Connection, vault: &Arc<Vault>) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
    let sealing = vault.clone();
    connection.create_scalar_function("seal", 2, flags, move |c| {
        // Where there is no piece there may be no place either (an outer join).
        let Some(plain) = bytes(c, 1)? else { return Ok(None) };
        sealing.seal(c.get_raw(0).as_str()?, plain).map(Some).map_err(fail)
    })?;
    let opening = vault.clone();
    connection.create_scalar_function("unseal", 2, flags, move |c| {
        let Some(sealed) = bytes(c, 1)? else { return Ok(None) };
        opening.unseal(c.get_raw(0).as_str()?, sealed).map(Some).map_err(fail)
    })?;
    connection.create_scalar_function("floats", 1, flags, |c| {
        let numbers = |text: &[u8]| serde_json::from_slice::<Vec<f32>>(text).map(|values| to_bytes(&values));
        bytes(c, 0)?.map(|text| numbers(text).map_err(fail)).transpose()
    })
}

/// Whether something in the database was sealed already, so that a key must be there.
pub(super) fn is_sealed(connection: &Connection) -> rusqlite::Result<bool> {
    let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'meta'";
    if connection.query_row(tables, [], |r| r.get::<_, i64>(0))? == 0 {
        return Ok(false);
    }
    let sql = "SELECT count(*) FROM meta WHERE key = 'proof'";
    connection.query_row(sql, [], |r| r.get::<_, i64>(0)).map(|n| n > 0)
}

/// Sees whether a vault is that of the database, by a piece that the first one left there.
///
/// # Errors
/// [`StoreError::Key`] when it is another's.
pub(super) fn prove(connection: &Connection, vault: &Vault) -> Result<(), StoreError> {
    let sql = "SELECT value FROM meta WHERE key = 'proof'";
    let storage = fault::opening(connection.path().unwrap_or_default().as_ref());
    let kept: Option<String> = connection.query_row(sql, [], |r| r.get(0)).optional().map_err(&storage)?;
    match kept {
        Some(text) => {
            let sealed = hex::decode(text).unwrap_or_default();
            vault.unseal(PROOF_PLACE, &sealed).map(drop).map_err(StoreError::Key)
        }
        None => {
            let sealed = hex::encode(vault.seal(PROOF_PLACE, PROOF).map_err(StoreError::Key)?);
            let sql = "INSERT INTO meta (key, value) VALUES ('proof', ?1)";
            connection.execute(sql, [sealed]).map(drop).map_err(&storage)
        }
    }
}
