//! API tokens: read by the server, made and revoked by a command beside it.

use std::{collections::BTreeMap, path::Path};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{CommandError, DATABASE, SqliteStore, connect, fault, locked, ready, schema};
use crate::{
    access::{Token, TokenHash, TokenStore, TokenStoreError},
    ids::TokenName,
    store::StoreError,
    time::Timestamp,
    vault::VaultSettings,
};

/// Live tokens at most: the server holds them all in memory.
pub(in crate::store) const MAX_LIVE: i64 = 1000;

const COLUMNS: &str = "hash, name, role, created, expires, used, revoked, scope";

fn token(row: &Row<'_>) -> Result<Token, CommandError> {
    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, CommandError> {
        text.parse().map_err(|e: T::Err| CommandError::Value(e.to_string()))
    }
    let time = |i: usize| -> Result<Option<Timestamp>, CommandError> {
        row.get::<_, Option<String>>(i)?.map(|text| parsed(&text)).transpose()
    };
    Ok(Token {
        hash: TokenHash(row.get(0)?),
        name: parsed(&row.get::<_, String>(1)?)?,
        role: parsed(&row.get::<_, String>(2)?)?,
        created: parsed(&row.get::<_, String>(3)?)?,
        expires: time(4)?,
        used: time(5)?,
        revoked: time(6)?,
        scope: match row.get::<_, Option<String>>(7)? {
            Some(text) => serde_json::from_str(&text).map_err(|e| CommandError::Value(e.to_string()))?,
            None => BTreeMap::new(),
        },
    })
}

fn tokens(connection: &Connection, and_revoked: bool) -> Result<Vec<Token>, CommandError> {
    let condition = if and_revoked { "" } else { " WHERE revoked IS NULL" };
    let sql = format!("SELECT {COLUMNS} FROM tokens{condition} ORDER BY name, created");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(token(row)?);
    }
    Ok(found)
}

fn failed(error: CommandError) -> TokenStoreError {
    TokenStoreError(error.to_string())
}

#[async_trait]
impl TokenStore for SqliteStore {
    async fn live_tokens(&self) -> Result<Vec<Token>, TokenStoreError> {
        self.read(|c| tokens(c, false)).await.map_err(failed)
    }

    async fn tokens_used(&self, uses: Vec<(TokenHash, Timestamp)>) -> Result<(), TokenStoreError> {
        let noted = self.write(move |c| {
            let transaction = c.transaction()?;
            for (hash, at) in uses {
                let sql = "UPDATE tokens SET used = ?2 WHERE hash = ?1";
                transaction.execute(sql, params![hash.0, at.to_string()])?;
            }
            Ok(transaction.commit()?)
        });
        noted.await.map_err(failed)
    }
}

/// Writes a token as it is; `how` is the statement's verb.
fn keep(c: &Connection, how: &str, token: &Token) -> Result<(), CommandError> {
    let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let scope = (!token.scope.is_empty()).then(|| serde_json::to_string(&token.scope)).transpose()?;
    c.execute(
        &format!("{how} INTO tokens ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"),
        params![
            token.hash.0,
            token.name.as_str(),
            token.role.as_str(),
            token.created.to_string(),
            text(token.expires),
            text(token.used),
            text(token.revoked),
            scope
        ],
    )?;
    Ok(())
}

/// Puts a token as it is into a replica; what its key stands for: its hash. Within the caller's transaction.
pub(super) fn replicate(c: &Connection, token: &Token) -> Result<String, CommandError> {
    if token.revoked.is_none() {
        // One live token a name, which the cluster keeps; an older one is on its way out.
        c.execute(
            "DELETE FROM tokens WHERE name = ?1 AND revoked IS NULL AND hash <> ?2",
            params![token.name.as_str(), token.hash.0],
        )?;
    }
    keep(c, "INSERT OR REPLACE", token)?;
    Ok(hex::encode(token.hash.0))
}

/// A live token's key is gone from the cluster: so is the token, unless it is known as revoked.
pub(super) fn replicate_gone(c: &Connection, hash: &str) -> Result<(), CommandError> {
    let hash = hex::decode(hash).map_err(|e| CommandError::Value(e.to_string()))?;
    c.execute("DELETE FROM tokens WHERE hash = ?1 AND revoked IS NULL", [hash])?;
    Ok(())
}

impl SqliteStore {
    /// All tokens, also those that were revoked.
    pub(in crate::store) async fn all_tokens(&self) -> Result<Vec<Token>, TokenStoreError> {
        self.read(|c| tokens(c, true)).await.map_err(failed)
    }
}

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenBookError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name is in use.
    #[error("a token named {0} is there already; choose another name, or `visage token revoke {0}` first")]
    Exists(TokenName),
    /// There is none.
    #[error("no token named {0} counts; `visage token list --all` shows all")]
    NotFound(TokenName),
    /// Too many.
    #[error(
        "there are {} tokens already; revoke those that nobody uses (`visage token list` tells when each was used last)",
        MAX_LIVE
    )]
    TooMany,
    /// The database.
    #[error("the tokens can't be kept: {0}")]
    Storage(String),
}

impl From<CommandError> for TokenBookError {
    fn from(error: CommandError) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<rusqlite::Error> for TokenBookError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

/// The tokens of a data folder, also while a server works there. Blocks.
pub struct TokenBook(Connection);

impl TokenBook {
    /// Opens a folder's tokens. A folder that is new or of an older version is made ready, for which no server may work there.
    ///
    /// # Errors
    /// When the folder can't be used, is of a newer version, or of an older one with a server at work.
    pub fn open(data_dir: &Path, storage: &VaultSettings) -> Result<Self, TokenBookError> {
        let path = data_dir.join(DATABASE);
        let fail = fault::opening(&path);
        if !path.is_file() || schema::version(&path)? < schema::STEPS.len() as i64 {
            let _lock = locked(data_dir)?;
            ready(data_dir, storage)?;
        }
        Ok(Self(connect(&path).map_err(&fail)?))
    }

    /// All tokens by name, with `and_revoked` also those that were revoked.
    ///
    /// # Errors
    /// When the database fails.
    pub fn list(&self, and_revoked: bool) -> Result<Vec<Token>, TokenBookError> {
        Ok(tokens(&self.0, and_revoked)?)
    }

    /// Keeps a token.
    ///
    /// # Errors
    /// When its name is in use, there are too many, or the database fails.
    pub fn add(&mut self, token: &Token) -> Result<(), TokenBookError> {
        let transaction = self.0.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let live = "SELECT count(*) FROM tokens WHERE revoked IS NULL";
        if transaction.query_row(live, [], |r| r.get::<_, i64>(0))? >= MAX_LIVE {
            return Err(TokenBookError::TooMany);
        }
        let same = format!("{live} AND name = ?1");
        if transaction.query_row(&same, [token.name.as_str()], |r| r.get::<_, i64>(0))? > 0 {
            return Err(TokenBookError::Exists(token.name.clone()));
        }
        keep(&transaction, "INSERT", token)?;
        Ok(transaction.commit()?)
    }

    /// Revokes a token; the one that was revoked.
    ///
    /// # Errors
    /// When no live token has that name, or the database fails.
    pub fn revoke(&mut self, name: &TokenName, now: Timestamp) -> Result<Token, TokenBookError> {
        let sql = format!("UPDATE tokens SET revoked = ?2 WHERE name = ?1 AND revoked IS NULL RETURNING {COLUMNS}");
        let revoked =
            self.0.query_row(&sql, params![name.as_str(), now.to_string()], |row| Ok(token(row))).optional()?;
        Ok(revoked.ok_or_else(|| TokenBookError::NotFound(name.clone()))??)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sealing, *};
    use crate::{
        access::{Role, TokenText},
        time::now,
    };

    fn made(name: &str) -> Token {
        let hash = TokenText::generate().unwrap().hash();
        let (name, created) = (name.parse().unwrap(), now());
        let scope = BTreeMap::from([("site".to_owned(), "north".to_owned())]);
        Token { hash, name, role: Role::Operator, scope, created, expires: Some(created), used: None, revoked: None }
    }

    #[tokio::test]
    async fn tokens_are_made_and_revoked_while_a_server_works() {
        let dir = tempfile::tempdir().unwrap();
        let first = made("first");
        TokenBook::open(dir.path(), &VaultSettings::default()).unwrap().add(&first).unwrap();
        let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
        assert_eq!(store.live_tokens().await.unwrap(), std::slice::from_ref(&first), "they come back as they were");
        let mut book = TokenBook::open(dir.path(), &VaultSettings::default()).unwrap();
        let second = made("second");
        book.add(&second).unwrap();
        assert!(matches!(book.add(&made("second")), Err(TokenBookError::Exists(_))));
        let at = now();
        store.tokens_used(vec![(first.hash, at), (made("gone").hash, at)]).await.unwrap();
        let used = Token { used: Some(at), ..first.clone() };
        assert_eq!(store.live_tokens().await.unwrap(), [used.clone(), second.clone()]);
        book.revoke(&second.name, at).unwrap();
        assert!(matches!(book.revoke(&second.name, at), Err(TokenBookError::NotFound(_))));
        assert_eq!(store.live_tokens().await.unwrap(), [used]);
        let again = made("second");
        book.add(&again).unwrap();
        let names: Vec<_> = book.list(true).unwrap().into_iter().map(|t| (t.name.to_string(), t.revoked)).collect();
        assert_eq!(names, [("first".into(), None), ("second".into(), Some(at)), ("second".into(), None)]);
    }

    #[test]
    fn live_tokens_are_limited_in_number() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = TokenBook::open(dir.path(), &VaultSettings::default()).unwrap();
        let sql = "INSERT INTO tokens (hash, name, role, created) VALUES (?1, ?2, 'viewer', ?3)";
        for i in 0..MAX_LIVE {
            let made = made(&format!("t{i}"));
            book.0.execute(sql, params![made.hash.0, made.name.as_str(), made.created.to_string()]).unwrap();
        }
        assert!(matches!(book.add(&made("more")), Err(TokenBookError::TooMany)));
        book.revoke(&"t7".parse().unwrap(), now()).unwrap();
        book.add(&made("more")).unwrap();
    }

    #[test]
    fn a_folder_of_an_older_version_is_brought_up_to_date_only_when_no_server_works_there() {
        let dir = tempfile::tempdir().unwrap();
        let lock = locked(dir.path()).unwrap();
        let old = connect(&dir.path().join(DATABASE)).unwrap();
        let vault = VaultSettings::default().open(dir.path(), true).unwrap();
        sealing::teach(&old, &std::sync::Arc::new(vault)).unwrap();
        let before = schema::STEPS.len() - 1;
        schema::STEPS[..before].iter().for_each(|step| old.execute_batch(step).unwrap());
        old.pragma_update(None, "user_version", before as i64).unwrap();
        assert!(matches!(
            TokenBook::open(dir.path(), &VaultSettings::default()),
            Err(TokenBookError::Store(StoreError::InUse(_)))
        ));
        drop((lock, old));
        TokenBook::open(dir.path(), &VaultSettings::default()).unwrap().add(&made("door")).unwrap();
    }
}
