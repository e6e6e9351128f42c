//! The schema, forward only. Before an upgrade the database is copied beside itself.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::fault;
use crate::store::StoreError;

/// One step a version; never change a step that was released.
pub(super) const STEPS: [&str; 8] = [
    "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE cameras (id TEXT PRIMARY KEY, revision INTEGER NOT NULL, spec TEXT NOT NULL) STRICT;
CREATE TABLE people (id TEXT PRIMARY KEY, revision INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE faces (
  id TEXT PRIMARY KEY,
  person TEXT NOT NULL REFERENCES people(id) ON DELETE CASCADE,
  model TEXT NOT NULL,
  distance TEXT NOT NULL,
  embedding BLOB NOT NULL,
  quality REAL NOT NULL,
  source TEXT NOT NULL,
  created TEXT NOT NULL
) STRICT;
CREATE INDEX faces_of_person ON faces(person);
CREATE INDEX faces_of_model ON faces(model);
CREATE TABLE negatives (
  person TEXT NOT NULL REFERENCES people(id) ON DELETE CASCADE,
  model TEXT NOT NULL,
  distance TEXT NOT NULL,
  embedding BLOB NOT NULL
) STRICT;
CREATE INDEX negatives_of_person ON negatives(person);
CREATE TABLE erasures (id TEXT PRIMARY KEY, receipt TEXT NOT NULL) STRICT;
CREATE TABLE events (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  created_us INTEGER NOT NULL,
  camera TEXT NOT NULL,
  person TEXT,
  body TEXT NOT NULL,
  feedback TEXT
) STRICT;
CREATE INDEX events_by_time ON events(created_us);
CREATE INDEX events_of_person ON events(person) WHERE person IS NOT NULL;
CREATE TABLE pictures (event TEXT PRIMARY KEY REFERENCES events(id) ON DELETE CASCADE, jpeg BLOB NOT NULL) STRICT;
",
    "
CREATE TABLE unknown_groups (id INTEGER PRIMARY KEY AUTOINCREMENT, dismissed INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE unknown_faces (
  id TEXT PRIMARY KEY,
  camera TEXT NOT NULL,
  track TEXT NOT NULL,
  event TEXT NOT NULL,
  began TEXT NOT NULL,
  ended TEXT NOT NULL,
  model TEXT NOT NULL,
  distance TEXT NOT NULL,
  embedding BLOB NOT NULL,
  quality REAL NOT NULL,
  jpeg BLOB NOT NULL,
  in_group INTEGER REFERENCES unknown_groups(id),
  bound INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX unknown_faces_of_group ON unknown_faces(in_group);
",
    CLASSIFIERS,
    // A face has an embedding a model, and the picture they are made from.
    "
CREATE TABLE embeddings (
  face TEXT NOT NULL REFERENCES faces(id) ON DELETE CASCADE,
  model TEXT NOT NULL,
  distance TEXT NOT NULL,
  embedding BLOB NOT NULL,
  PRIMARY KEY (face, model)
) STRICT;
INSERT INTO embeddings (face, model, distance, embedding) SELECT id, model, distance, embedding FROM faces;
CREATE INDEX embeddings_of_model ON embeddings(model, face);
DROP INDEX faces_of_model;
ALTER TABLE faces DROP COLUMN model;
ALTER TABLE faces DROP COLUMN distance;
ALTER TABLE faces DROP COLUMN embedding;
CREATE TABLE crops (
  face TEXT PRIMARY KEY REFERENCES faces(id) ON DELETE CASCADE,
  jpeg BLOB NOT NULL,
  detection TEXT NOT NULL
) STRICT;
",
    TOKENS,
    SEALED,
    // Labels of the cameras that a token may see, as JSON; NULL: all.
    "ALTER TABLE tokens ADD COLUMN scope TEXT;",
    REPLICA,
];

/// How far a replica of a cluster is: for each source the revision applied (key empty), and for each key its revision and what it stands for.
const REPLICA: &str = "
CREATE TABLE replica (
  source TEXT NOT NULL,
  key TEXT NOT NULL,
  revision INTEGER NOT NULL,
  id TEXT,
  PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;
";

/// One trained classifier a model.
const CLASSIFIERS: &str = "CREATE TABLE classifiers (model TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;";

/// API tokens by the SHA-256 of their text. Revoked ones stay for the list, and their name is free again.
const TOKENS: &str = "
CREATE TABLE tokens (
  hash BLOB PRIMARY KEY,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  created TEXT NOT NULL,
  expires TEXT,
  used TEXT,
  revoked TEXT
) STRICT;
CREATE UNIQUE INDEX live_tokens ON tokens(name) WHERE revoked IS NULL;
";

/// What was in the clear is sealed: passwords of cameras, pictures, embeddings, and whom a receipt is about.
const SEALED: &str = "
ALTER TABLE cameras ADD COLUMN credentials BLOB;
UPDATE cameras SET credentials = seal('camera/' || id, json_extract(spec, '$.credentials')), spec = json_set(spec, '$.credentials', NULL)
  WHERE json_type(spec, '$.credentials') = 'object';
ALTER TABLE events ADD COLUMN template BLOB;
UPDATE events SET template = seal('template/' || id, floats(json_extract(body, '$.template'))), body = json_set(body, '$.template', NULL)
  WHERE json_type(body, '$.template') = 'array';
UPDATE pictures SET jpeg = seal('picture/' || event, jpeg);
UPDATE crops SET jpeg = seal('crop/' || face, jpeg);
UPDATE embeddings SET embedding = seal('embedding/' || face || '/' || model, embedding);
UPDATE negatives SET embedding = seal('negative/' || person || '/' || model, embedding);
UPDATE unknown_faces SET jpeg = seal('unknown/' || id, jpeg), embedding = seal('unknown-embedding/' || id, embedding);
UPDATE classifiers SET body = seal('classifier/' || model, body);
UPDATE erasures SET receipt = json_set(receipt, '$.person', hex(seal('erasure/' || id, json_extract(receipt, '$.person'))));
";
/// The first version in which nothing of that is in the clear.
const FIRST_SEALED: i64 = 6;

/// The version of a database.
///
/// # Errors
/// When it is newer than this program.
pub(super) fn known(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let fail = fault::opening(path);
    let found: i64 = connection.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(&fail)?;
    let known = STEPS.len() as i64;
    if found > known { Err(StoreError::Newer { path: path.to_owned(), found, known }) } else { Ok(found) }
}

/// Brings the schema up to date; the connection knows `seal` and its like.
pub(super) fn upgrade(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let fail = fault::opening(path);
    let found = self::known(connection, path)?;
    let known = STEPS.len() as i64;
    if found > 0 && found < known {
        let copy = path.with_extension(format!("before-{known}.db"));
        copied(connection, &copy).map_err(|message| StoreError::Database { path: copy.clone(), message })?;
        tracing::info!(copy = %copy.display(), from = found, to = known, "the database was copied before its upgrade");
    }
    for (i, step) in STEPS.iter().enumerate().skip(found.max(0) as usize) {
        let transaction = connection.transaction().map_err(&fail)?;
        transaction.execute_batch(step).map_err(&fail)?;
        transaction.pragma_update(None, "user_version", i as i64 + 1).map_err(&fail)?;
        transaction.commit().map_err(&fail)?;
    }
    if (1..FIRST_SEALED).contains(&found) {
        // What was in the clear is still in the log of changes.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(&fail)?;
        tracing::warn!(
            "pictures, embeddings and camera passwords of this data folder are sealed now; the copy that was made before the upgrade holds them in the clear: delete it once all is well"
        );
    }
    let healthy: String = connection.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).map_err(&fail)?;
    if healthy != "ok" {
        return Err(StoreError::Database { path: path.to_owned(), message: healthy });
    }
    Ok(())
}

/// Copies the database to a file, whole or not at all; what is there is replaced, also what a crash left half-done.
fn copied(connection: &Connection, copy: &Path) -> Result<(), String> {
    let words = |e: &dyn std::fmt::Display| {
        format!("the copy before the upgrade can't be made: {e}; make room there and start again")
    };
    let partial = copy.with_extension("db.partial");
    match std::fs::remove_file(&partial) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(words(&e)),
        _ => {}
    }
    connection.execute("VACUUM INTO ?1", [partial.to_string_lossy()]).map_err(|e| words(&e))?;
    std::fs::File::open(&partial).and_then(|file| file.sync_all()).map_err(|e| words(&e))?;
    std::fs::rename(&partial, copy).map_err(|e| words(&e))
}

/// Removes the copies made before upgrades: they hold everybody, also whoever is erased now.
pub(super) fn remove_copies(connection: &Connection) {
    let Some(path) = connection.path().map(Path::new) else { return };
    let (Some(dir), Some(stem)) = (path.parent(), path.file_stem()) else { return };
    let prefix = format!("{}.before-", stem.to_string_lossy());
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)) {
        match std::fs::remove_file(entry.path()) {
            Ok(()) => {
                tracing::info!(copy = %entry.path().display(), "a copy from before an upgrade was removed with an erased person")
            }
            Err(error) => {
                tracing::error!(copy = %entry.path().display(), %error, "a copy that may hold an erased person can't be removed; remove it")
            }
        }
    }
}

/// Whether a database is of a version that this program knows; changes nothing.
pub(super) fn look(path: &Path) -> Result<(), StoreError> {
    version(path).map(drop)
}

/// The version of a database, which this program knows; changes nothing.
pub(super) fn version(path: &Path) -> Result<i64, StoreError> {
    let fail = fault::opening(path);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(&fail)?;
    known(&connection, path)
}

/// Takes the log's id away, so that the next start makes another: resume tokens of before are refused.
pub(super) fn forget_log_id(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM meta WHERE key = 'log_id'", []).map(drop)
}

/// The id of this log: random, made with the database. Resume tokens of another log are refused.
pub(super) fn log_id(connection: &Connection) -> rusqlite::Result<String> {
    let kept = connection.query_row("SELECT value FROM meta WHERE key = 'log_id'", [], |r| r.get(0)).optional()?;
    if let Some(id) = kept {
        return Ok(id);
    }
    let id = uuid::Uuid::now_v7().simple().to_string();
    connection.execute("INSERT INTO meta (key, value) VALUES ('log_id', ?1)", [&id])?;
    Ok(id)
}
