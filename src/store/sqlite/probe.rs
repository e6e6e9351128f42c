//! Whether the store can still write: a word that nobody reads is written and committed, through the queue that events take.

use super::SqliteStore;
use crate::time;

const KEY: &str = "probed";

impl SqliteStore {
    /// Writes the time, durable when it returns; waits behind other writes. A few bytes, one key, so that nothing grows.
    ///
    /// # Errors
    /// Why it could not be written, in SQLite's words: a full disk, a disk that can only be read, a damaged file.
    pub async fn probe(&self) -> Result<(), String> {
        // A value that changes: SQLite does not write what is there already.
        let now = time::now().to_string();
        let written = self.write(move |c| {
            c.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", [KEY, &now])?;
            Ok(())
        });
        written.await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_probed_is_written_and_a_closed_store_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), &crate::vault::VaultSettings::default()).unwrap();
        let wal = || std::fs::metadata(dir.path().join("visage.db-wal")).unwrap().len();
        let before = wal();
        store.probe().await.unwrap();
        assert!(wal() > before, "nothing was written");
        store.close().await;
        assert!(store.probe().await.unwrap_err().contains("closed"));
    }
}
