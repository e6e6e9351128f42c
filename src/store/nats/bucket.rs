//! A bucket of sealed values: each is bound to its bucket and key, and changed only by who knows its revision.

use std::sync::Arc;

use async_nats::jetstream::{
    Context, ErrorCode,
    context::PublishErrorKind,
    kv::{CreateErrorKind, Store, UpdateErrorKind},
    message::{PublishMessage, StreamMessage},
    stream::{DeleteMessageErrorKind, LastRawMessageErrorKind, Stream},
};
use bytes::Bytes;
use futures::TryStreamExt;
use serde::{Serialize, de::DeserializeOwned};

use super::fault::{Fault, within};
use crate::vault::Vault;

/// Header of the marks that removed keys leave.
pub(super) const OPERATION: &str = "KV-Operation";

/// A bucket.
#[derive(Clone)]
pub(super) struct Bucket {
    store: Store,
    js: Context,
    vault: Arc<Vault>,
}

impl Bucket {
    pub(super) fn new(store: Store, js: Context, vault: Arc<Vault>) -> Self {
        Self { store, js, vault }
    }

    /// The stream behind it.
    pub(super) fn stream(&self) -> &Stream {
        &self.store.stream
    }

    /// The subject of a key.
    pub(super) fn subject(&self, key: &str) -> String {
        format!("{}{key}", self.store.prefix)
    }

    /// The key of a subject; `None` when it is none of this bucket.
    pub(super) fn key<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&self.store.prefix)
    }

    fn place(&self, key: &str) -> String {
        format!("{}/{key}", self.store.name)
    }

    fn sealed(&self, key: &str, value: &impl Serialize) -> Result<Bytes, Fault> {
        Ok(self.vault.seal(&self.place(key), &serde_json::to_vec(value)?)?.into())
    }

    /// Reads a value of a key.
    ///
    /// # Errors
    /// [`Fault::Failed`] when it was sealed with another key or for another place, or is of a newer version.
    pub(super) fn opened<T: DeserializeOwned>(&self, key: &str, sealed: &[u8]) -> Result<T, Fault> {
        Ok(serde_json::from_slice(&self.vault.unseal(&self.place(key), sealed)?)?)
    }

    /// Adds a key; its revision.
    ///
    /// # Errors
    /// [`Fault::Conflict`] when it is there already.
    pub(super) async fn create(&self, key: &str, value: &impl Serialize) -> Result<u64, Fault> {
        let sealed = self.sealed(key, value)?;
        let done = tokio::time::timeout(super::fault::LIMIT, self.store.create(key, sealed)).await;
        match done {
            Ok(Ok(revision)) => Ok(revision),
            Ok(Err(error)) if error.kind() == CreateErrorKind::AlreadyExists => Err(Fault::Conflict),
            Ok(Err(error)) => Err(Fault::unavailable("a key is added", error)),
            Err(error) => Err(Fault::unavailable("a key is added", error)),
        }
    }

    /// Replaces the value of a key at a revision; the new one.
    ///
    /// # Errors
    /// [`Fault::Conflict`] when it has another revision.
    pub(super) async fn update(&self, key: &str, value: &impl Serialize, revision: u64) -> Result<u64, Fault> {
        let sealed = self.sealed(key, value)?;
        let done = tokio::time::timeout(super::fault::LIMIT, self.store.update(key, sealed, revision)).await;
        match done {
            Ok(Ok(revision)) => Ok(revision),
            Ok(Err(error)) if error.kind() == UpdateErrorKind::WrongLastRevision => Err(Fault::Conflict),
            Ok(Err(error)) => Err(Fault::unavailable("a key is changed", error)),
            Err(error) => Err(Fault::unavailable("a key is changed", error)),
        }
    }

    /// Sets a key whatever it says; its revision.
    pub(super) async fn put(&self, key: &str, value: &impl Serialize) -> Result<u64, Fault> {
        let sealed = self.sealed(key, value)?;
        within("a key is set", self.store.put(key, sealed)).await
    }

    /// Removes a key and what it said before; the revision of the mark that stays.
    pub(super) async fn purge(&self, key: &str) -> Result<u64, Fault> {
        let message = PublishMessage::build().header(OPERATION, "PURGE").header("Nats-Rollup", "sub");
        let sent = within("a key is removed", self.js.send_publish(self.subject(key), message)).await?;
        Ok(within("a key is removed", sent.into_future()).await?.sequence)
    }

    /// Leaves the mark of a removed key where there is nothing under it, so that everybody hears of its end.
    ///
    /// # Errors
    /// [`Fault::Conflict`] when there is something.
    pub(super) async fn mark(&self, key: &str) -> Result<u64, Fault> {
        let message = PublishMessage::build().header(OPERATION, "PURGE").expected_last_subject_sequence(0);
        let sent = within("a key is removed", self.js.send_publish(self.subject(key), message)).await?;
        match tokio::time::timeout(super::fault::LIMIT, sent.into_future()).await {
            Ok(Ok(ack)) => Ok(ack.sequence),
            Ok(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => Err(Fault::Conflict),
            Ok(Err(error)) => Err(Fault::unavailable("a key is removed", error)),
            Err(error) => Err(Fault::unavailable("a key is removed", error)),
        }
    }

    /// Overwrites what a key said at a revision; nothing happens when that is gone.
    pub(super) async fn overwrite(&self, revision: u64) -> Result<(), Fault> {
        deleted(self.stream(), revision).await
    }

    /// Removes keys without a mark: `filter` may end with `>`.
    pub(super) async fn sweep(&self, filter: &str) -> Result<(), Fault> {
        let purge = self.stream().purge().filter(self.subject(filter));
        within("keys are removed", purge.into_future()).await.map(drop)
    }

    /// What a key says, with its revision; `None` without it.
    pub(super) async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(u64, T)>, Fault> {
        let last = last_of(self.stream(), &self.subject(key)).await?;
        // A mark says that it was removed.
        let Some(message) = last.filter(|m| m.headers.get(OPERATION).is_none()) else { return Ok(None) };
        Ok(Some((message.sequence, self.opened(key, &message.payload)?)))
    }

    /// Every key.
    pub(super) async fn keys(&self) -> Result<Vec<String>, Fault> {
        let keys = within("keys are listed", self.store.keys()).await?;
        within("keys are listed", keys.try_collect()).await
    }
}

/// The last message of a subject as the stream's leader knows it, which another server may not yet; `None` without one.
pub(super) async fn last_of(stream: &Stream, subject: &str) -> Result<Option<StreamMessage>, Fault> {
    let asked = tokio::time::timeout(super::fault::LIMIT, stream.get_last_raw_message_by_subject(subject)).await;
    match asked {
        Ok(Ok(message)) => Ok(Some(message)),
        Ok(Err(error)) if is_none(&error.kind()) => Ok(None),
        Ok(Err(error)) => Err(Fault::unavailable("a message is read", error)),
        Err(error) => Err(Fault::unavailable("a message is read", error)),
    }
}

/// Whether a look-up found nothing.
pub(super) fn is_none(kind: &LastRawMessageErrorKind) -> bool {
    match kind {
        LastRawMessageErrorKind::NoMessageFound => true,
        LastRawMessageErrorKind::JetStream(error) => error.error_code() == ErrorCode::NO_MESSAGE_FOUND,
        _ => false,
    }
}

/// Removes a message of a stream and overwrites its bytes; nothing happens when it is gone.
pub(super) async fn deleted(stream: &Stream, sequence: u64) -> Result<(), Fault> {
    let done = tokio::time::timeout(super::fault::LIMIT, stream.delete_message(sequence)).await;
    match done {
        Ok(Ok(_)) => Ok(()),
        // The same answer for a message that is not there and for one that can't be removed.
        Ok(Err(error)) if matches!(error.kind(), DeleteMessageErrorKind::JetStream(_)) => {
            match tokio::time::timeout(super::fault::LIMIT, stream.get_raw_message(sequence)).await {
                Ok(Err(absent)) if is_none(&absent.kind()) => Ok(()),
                _ => Err(Fault::unavailable("a message is removed", error)),
            }
        }
        Ok(Err(error)) => Err(Fault::unavailable("a message is removed", error)),
        Err(error) => Err(Fault::unavailable("a message is removed", error)),
    }
}
