//! Pictures of events: sealed objects that are read when asked for.
//!
//! A picture is put before its event, so its time is never before that of what it shows: removing what was put before a time removes no
//! picture of a newer event, and takes those without an event along.

use async_nats::jetstream::{
    consumer::{DeliverPolicy, pull},
    object_store::{GetErrorKind, InfoErrorKind},
};
use base64::{Engine, prelude::BASE64_URL_SAFE};
use bytes::Bytes;
use futures::StreamExt;
use tokio::io::AsyncReadExt;

use super::{
    connect::Cluster,
    fault::{Fault, LIMIT, within},
};
use crate::{ids::EventId, time::Timestamp, vault::Vault};

fn place(id: &EventId) -> String {
    format!("picture/{id}")
}

impl Cluster {
    /// Keeps the picture of an event; one that is there is replaced.
    pub(super) async fn put_picture(&self, vault: &Vault, id: &EventId, jpeg: &[u8]) -> Result<(), Fault> {
        let sealed = vault.seal(&place(id), jpeg)?;
        let mut bytes = &sealed[..];
        within("a picture is kept", self.pictures.put(id.as_str(), &mut bytes)).await.map(drop)
    }

    /// The picture of an event; `None` without one.
    pub(super) async fn picture(&self, vault: &Vault, id: &EventId) -> Result<Option<Bytes>, Fault> {
        let found = tokio::time::timeout(LIMIT, self.pictures.get(id.as_str())).await;
        let mut object = match found.map_err(|e| Fault::unavailable("a picture is read", e))? {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fault::unavailable("a picture is read", error)),
        };
        let mut sealed = Vec::new();
        within("a picture is read", object.read_to_end(&mut sealed)).await?;
        Ok(Some(vault.unseal(&place(id), &sealed)?.into()))
    }

    /// Removes the picture of an event, and its name; nothing happens without one.
    pub(super) async fn remove_picture(&self, id: &EventId) -> Result<(), Fault> {
        let info = tokio::time::timeout(LIMIT, self.pictures.info(id.as_str())).await;
        let info = match info.map_err(|e| Fault::unavailable("a picture is removed", e))? {
            Ok(info) => info,
            Err(error) if error.kind() == InfoErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Fault::unavailable("a picture is removed", error)),
        };
        let bucket = format!("{}-pictures", self.name);
        for filter in [
            format!("$O.{bucket}.C.{}", info.nuid),
            // A mark of each removed picture would stay for ever.
            format!("$O.{bucket}.M.{}", BASE64_URL_SAFE.encode(id.as_str())),
        ] {
            let purge = self.picture_stream.purge().filter(filter);
            within("a picture is removed", purge.into_future()).await?;
        }
        Ok(())
    }

    /// Removes every picture that was put before a time.
    pub(super) async fn remove_pictures_put_before(&self, time: Timestamp) -> Result<(), Fault> {
        let what = "old pictures are removed";
        let start_time = async_nats::datetime::parse_rfc3339(&time.to_string());
        let start_time = start_time.map_err(|e| Fault::Failed(e.to_string()))?;
        let last = within(what, self.picture_stream.get_info()).await?.state.last_sequence;
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartTime { start_time },
            headers_only: true,
            ..Default::default()
        };
        let consumer = within(what, self.picture_stream.create_consumer(config)).await?;
        let first_kept = match consumer.cached_info().num_pending {
            // All are older.
            0 => last + 1,
            _ => {
                let mut messages = within(what, consumer.messages()).await?;
                let first = tokio::time::timeout(LIMIT, messages.next()).await;
                let first = first.map_err(|e| Fault::unavailable(what, e))?;
                let first = first.ok_or_else(|| Fault::unavailable(what, "nothing came"))?;
                let first = first.map_err(|e| Fault::unavailable(what, e))?;
                first.info().map_err(|e| Fault::Failed(e.to_string()))?.stream_sequence
            }
        };
        if first_kept <= 1 {
            return Ok(());
        }
        // A picture in pieces may lie on both sides; its rest goes with the next round.
        within(what, self.picture_stream.purge().sequence(first_kept).into_future()).await.map(drop)
    }
}
