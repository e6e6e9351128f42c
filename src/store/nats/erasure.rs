//! Erasure across a cluster: the intent first, which every replica carries out in its own database as it hears of it; then what lies in NATS.
//!
//! Whoever carries an intent out can be replaced: what is left to do is known to every replica that holds events, and doing it twice does no harm.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::{
    ClusterStore,
    bucket::{Bucket, OPERATION, deleted, last_of},
    fault::Fault,
    records::{AmendedRecord, ErasureRecord},
};
use crate::{
    identity::{GalleryError, Person, person::ErasureReceipt},
    ids::PersonId,
    store::sqlite::{replica::Source, replica_events::Rewrite},
    time::Timestamp,
};

/// How long a node leaves to another what that one has most likely in hand.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often what is left to do is looked for.
const ROUND: Duration = Duration::from_secs(60);
/// Events replaced at a time.
const AT_ONCE: usize = 8;

impl ClusterStore {
    /// Erases a person everywhere. When it fails after the intent was written, some node finishes it later.
    pub(super) async fn erase(&self, id: &PersonId, now: Timestamp) -> Result<ErasureReceipt, GalleryError> {
        if !self.holds.source(Source::Events) {
            return Err(GalleryError::Elsewhere);
        }
        self.cluster.connected()?;
        if self.replica.counted(Source::People, id.as_str()).await.map_err(Fault::from)?.is_none() {
            return Err(GalleryError::PersonNotFound(id.clone()));
        }
        let receipt = uuid::Uuid::now_v7().to_string();
        let record = ErasureRecord { person: id.clone(), erased: now, done: false };
        let revision = self.cluster.bucket(Source::Erasures)?.create(&receipt, &record).await?;
        self.applied(Source::Erasures, revision).await?;
        let kept = self.replica.receipt(&receipt, id).await.map_err(Fault::from)?;
        self.carry_out(&receipt).await?;
        kept.ok_or_else(|| GalleryError::Storage("the replica kept no receipt of the erasure".into()))
    }

    /// Does what is left of erasures, whoever began them.
    pub(super) async fn resume(&self) -> Result<(), Fault> {
        // Which events name somebody is known where they are kept.
        if !self.holds.source(Source::Events) {
            return Ok(());
        }
        for receipt in self.replica.open_erasures().await? {
            self.carry_out(&receipt).await?;
        }
        self.replace_all().await
    }

    async fn carry_out(&self, receipt: &str) -> Result<(), Fault> {
        let erasures = self.cluster.bucket(Source::Erasures)?;
        let Some((revision, record)) = erasures.get::<ErasureRecord>(receipt).await? else { return Ok(()) };
        if record.done {
            return Ok(());
        }
        let key = self.person_key(&record.person);
        let (faces, settings) = (self.cluster.bucket(Source::Faces)?, self.cluster.bucket(Source::Settings)?);
        let (faces_under, negatives_under) = (format!("{key}."), format!("negative.{key}."));
        // Read before the person goes, since these go from the replica with it.
        let known_faces = self.replica.keys_of(Source::Faces, &faces_under).await?;
        let known_negatives = self.replica.keys_of(Source::Settings, &negatives_under).await?;
        if self.remove_person(&key, record.erased).await? {
            for (_, revision) in known_faces {
                faces.overwrite(revision).await?;
            }
            for (_, revision) in known_negatives {
                settings.overwrite(revision).await?;
            }
            faces.sweep(&format!("{faces_under}>")).await?;
            settings.sweep(&format!("{negatives_under}>")).await?;
        }
        self.replace_all().await?;
        match erasures.update(receipt, &ErasureRecord { done: true, ..record }, revision).await {
            // Somebody else finished it, too.
            Ok(_) | Err(Fault::Conflict) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Removes a person's key; whether nobody newer has the id, so that what is under it goes, too.
    async fn remove_person(&self, key: &str, erased: Timestamp) -> Result<bool, Fault> {
        let people = self.cluster.bucket(Source::People)?;
        let last = last_of(people.stream(), &people.subject(key)).await?;
        if let Some(message) = last {
            if message.headers.get(OPERATION).is_some() {
                return Ok(true);
            }
            if people.opened::<Person>(key, &message.payload)?.created > erased {
                return Ok(false);
            }
            people.overwrite(message.sequence).await?;
        }
        match people.mark(key).await {
            Ok(_) => Ok(true),
            Err(Fault::Conflict) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Replaces events in NATS that name somebody who was erased by what the replica made of them.
    async fn replace_all(&self) -> Result<(), Fault> {
        loop {
            let some = self.replica.rewrites(64 * AT_ONCE).await?;
            if some.is_empty() {
                return Ok(());
            }
            let work = futures::stream::iter(some).map(|rewrite| self.replace(rewrite)).buffer_unordered(AT_ONCE);
            work.try_collect::<()>().await?;
        }
    }

    async fn replace(&self, rewrite: Rewrite) -> Result<(), Fault> {
        let Rewrite { position, event } = rewrite;
        if let Some(here) = self.replica.event_at(position).await? {
            let amended = self.cluster.bucket(Source::Amended)?;
            let record = AmendedRecord { body: here.body, has_image: here.has_image, feedback: here.feedback };
            put_clean(amended, &position.to_string(), record).await?;
            // Only now, so that the event is nowhere missing.
            deleted(&self.cluster.events, position).await?;
        }
        self.cluster.remove_picture(&event).await?;
        Ok(self.replica.rewritten(position).await?)
    }
}

/// Puts what is left of an event; a judgement that was given meanwhile stays.
async fn put_clean(amended: &Bucket, key: &str, mut record: AmendedRecord) -> Result<(), Fault> {
    for _ in 0..5 {
        if let Some((revision, there)) = amended.get::<AmendedRecord>(key).await? {
            if there.body == record.body && !there.has_image {
                return Ok(());
            }
            record.feedback = there.feedback.or(record.feedback);
            // Overwritten rather than replaced: it may hold the name.
            amended.overwrite(revision).await?;
        }
        match amended.create(key, &record).await {
            Err(Fault::Conflict) => {}
            done => return done.map(drop),
        }
    }
    Err(Fault::Unavailable("an event is changed by many at once; it is tried again".into()))
}

/// Finishes what others left, until `stop`.
pub(super) async fn tend(store: Weak<ClusterStore>, stop: CancellationToken) {
    let Some(rewrites) = store.upgrade().map(|store| store.told.rewrites.clone()) else { return };
    loop {
        let woken = async {
            tokio::select! {
                () = rewrites.notified() => tokio::time::sleep(PATIENCE).await,
                () = tokio::time::sleep(ROUND) => {}
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = woken => {}
        }
        let Some(store): Option<Arc<ClusterStore>> = store.upgrade() else { return };
        tokio::select! {
            () = stop.cancelled() => return,
            done = store.resume() => {
                if let Err(fault) = done {
                    tracing::warn!(%fault, "an erasure is not finished in NATS yet; it is tried again");
                }
            }
        }
    }
}
