//! What every back end of a port must do, whatever is behind it.

mod cameras;
mod events;
mod index;
mod people;
mod tokens;

pub(super) use cameras::cameras;
pub(super) use events::{events, retention};
pub(super) use index::{embedding, face, index};
pub(super) use people::people;
pub(super) use tokens::{made, tokens};

use super::sqlite::SqliteStore;
use crate::vault::VaultSettings;

#[tokio::test]
async fn sqlite_keeps_what_the_ports_promise() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    cameras(&store).await;
    people(&store).await;
    events(&store).await;
    retention(&store).await;
    tokens(&store, async |token| {
        let mut book = super::sqlite::tokens::TokenBook::open(dir.path(), &VaultSettings::default()).unwrap();
        book.add(&token).unwrap();
    })
    .await;
    store.close().await;
}
