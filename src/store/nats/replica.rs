//! The task that follows buckets and stream and applies them to the node's own database, in order.
//!
//! A new replica first reads all that there is, one source after the other. Later everything is applied as it comes; then two things keep
//! subscribers from missing an event: what was amended waits until the events before it are applied, and where the stream has a gap, the
//! amended events that belong there are looked up first.

use std::{pin::Pin, sync::Arc, time::Duration};

use async_nats::jetstream::{Message, consumer::DeliverPolicy};
use futures::{Stream, StreamExt, stream::select_all};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Holds,
    bucket::is_none,
    connect::Cluster,
    fault::{Fault, LIMIT},
    feed::Feed,
    records::{self, AmendedRecord, person_key},
};
use crate::{
    identity::{GalleryChange, Person},
    store::sqlite::{
        SqliteStore,
        replica::{Applied, Change, Erased, Incoming, Outcome, Source},
    },
};

/// Changes applied in one transaction at most.
const TOGETHER: usize = 256;
/// After a failure.
const AGAIN: Duration = Duration::from_millis(300);
/// How often something that waits is looked at.
const TICK: Duration = Duration::from_millis(200);

type Live = Pin<Box<dyn Stream<Item = (Source, Result<Message, Fault>)> + Send>>;

/// How the replica does; told to whoever waits.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) applied: Applied,
    /// All that there was at the start is applied.
    pub(super) ready: bool,
    /// Why it does not go on.
    pub(super) trouble: Option<String>,
}

/// What the replica tells others.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) progress: watch::Sender<Progress>,
    /// Counts up with changes of cameras.
    pub(super) cameras: watch::Sender<u64>,
    pub(super) gallery: broadcast::Sender<GalleryChange>,
    /// Events were changed here that are to be replaced at their origin.
    pub(super) rewrites: Arc<tokio::sync::Notify>,
}

/// Follows a cluster.
pub(super) struct Follower {
    pub(super) cluster: Arc<Cluster>,
    pub(super) store: Arc<SqliteStore>,
    pub(super) erased: Erased,
    pub(super) applied: Applied,
    pub(super) holds: Holds,
    pub(super) told: Told,
}

impl Follower {
    /// Follows until `stop`; what fails is begun anew.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.follow() => ended,
            };
            if let Err(fault) = ended {
                let fault = fault.to_string();
                let known = self.told.progress.borrow().trouble.as_deref() == Some(&fault);
                if !known {
                    tracing::warn!(fault, "the replica does not go on; it is tried again");
                }
                self.told.progress.send_modify(|p| p.trouble = Some(fault));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    /// Reads what was missed, then applies what comes, until the connection was a new one.
    async fn follow(&mut self) -> Result<(), Fault> {
        self.cluster.connected()?;
        let mut connections = self.cluster.connections.clone();
        connections.mark_unchanged();
        let new = !self.told.progress.borrow().ready;
        let mut order = Source::ALL;
        if !new {
            // Subscribers read meanwhile: no event may be written ahead of others.
            order.swap(Source::Amended as usize, Source::Events as usize);
        }
        let mut feeds = Vec::new();
        let holds = self.holds;
        for source in order.into_iter().filter(|source| holds.source(*source)) {
            feeds.push((source, self.catch_up(source, new).await?));
        }
        let trouble = self.told.progress.borrow().trouble.is_some();
        if trouble {
            tracing::info!("the replica goes on");
        }
        self.told.progress.send_modify(|p| (p.ready, p.trouble) = (true, None));
        let (mut amended, mut others): (Live, Vec<Live>) = (Box::pin(futures::stream::pending()), Vec::new());
        for (source, feed) in feeds {
            match source {
                Source::Amended => amended = feed,
                _ => others.push(feed),
            }
        }
        let mut others = select_all(others).ready_chunks(TOGETHER);
        let mut held: Option<Incoming> = None;
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                changed = connections.changed() => {
                    changed.map_err(|e| Fault::unavailable("connection", e))?;
                    return Ok(());
                }
                chunk = others.next() => {
                    let chunk = chunk.ok_or_else(|| Fault::unavailable("replica", "the feed ended"))?;
                    let incoming = self.read(chunk).await?;
                    self.take(incoming, true).await?;
                }
                one = amended.next(), if held.is_none() => {
                    let one = one.ok_or_else(|| Fault::unavailable("replica", "the feed ended"))?;
                    held = self.read(vec![one]).await?.pop();
                    self.release(&mut held).await?;
                }
                _ = tick.tick(), if held.is_some() => self.release(&mut held).await?,
            }
        }
    }

    /// Reads a source from where the replica is to its end; the feed goes on from there.
    async fn catch_up(&mut self, source: Source, new: bool) -> Result<Live, Fault> {
        let stream = match source {
            Source::Events => &self.cluster.events,
            _ => self.cluster.bucket(source)?.stream(),
        };
        let from = DeliverPolicy::ByStartSequence { start_sequence: self.applied[source as usize] + 1 };
        let mut feed = Feed::open(stream, source.name(), from).await?;
        loop {
            let chunk = feed.there().await?;
            if chunk.is_empty() {
                return Ok(Box::pin(feed.live().await?.map(move |message| (source, message))));
            }
            let chunk = chunk.into_iter().map(|message| (source, Ok(message))).collect();
            let incoming = self.read(chunk).await?;
            self.take(incoming, !new).await?;
        }
    }

    /// Unseals messages, away from the threads that others wait for.
    async fn read(&self, chunk: Vec<(Source, Result<Message, Fault>)>) -> Result<Vec<Incoming>, Fault> {
        let (cluster, vault) = (self.cluster.clone(), self.store.vault().clone());
        let read = tokio::task::spawn_blocking(move || {
            let mut incoming = Vec::with_capacity(chunk.len());
            for (source, message) in chunk {
                incoming.push(records::incoming(&cluster, &vault, source, &message?)?);
            }
            Ok(incoming)
        });
        read.await.map_err(|e| Fault::Failed(e.to_string()))?
    }

    /// Applies changes. With `live` somebody may be reading.
    async fn take(&mut self, mut changes: Vec<Incoming>, live: bool) -> Result<(), Fault> {
        changes.retain(|incoming| incoming.revision > self.applied[incoming.source as usize]);
        if changes.is_empty() {
            return Ok(());
        }
        if live {
            changes = self.without_gaps(changes).await?;
        }
        let mut all = Vec::new();
        for person in self.store.lacking(&changes).await? {
            // Faces may come before their person: both are in buckets of their own.
            let (bucket, key) = (self.cluster.bucket(Source::People)?, person_key(&self.cluster.name, &person));
            if let Some((revision, person)) = bucket.get::<Person>(&key).await? {
                let change = Change::Person(Box::new(person));
                all.push(Incoming { source: Source::People, key, revision, in_turn: false, change });
            }
        }
        all.extend(changes);
        let mut applied = self.applied;
        for incoming in all.iter().filter(|incoming| incoming.in_turn) {
            applied[incoming.source as usize] = incoming.revision;
        }
        let Outcome { gallery, cameras, rewrites } = self.store.apply(all, &self.erased).await?;
        self.applied = applied;
        for change in gallery {
            // Nobody follows on a node without a gallery.
            let _ = self.told.gallery.send(change);
        }
        if cameras {
            self.told.cameras.send_modify(|count| *count += 1);
        }
        if rewrites {
            self.told.rewrites.notify_one();
        }
        self.told.progress.send_modify(|p| p.applied = applied);
        Ok(())
    }

    /// Puts amended events where the stream lacks the original ones.
    async fn without_gaps(&self, changes: Vec<Incoming>) -> Result<Vec<Incoming>, Fault> {
        let mut last = self.applied[Source::Events as usize];
        let mut whole = Vec::with_capacity(changes.len());
        for incoming in changes {
            if incoming.source == Source::Events {
                if incoming.revision > last + 1 && last > 0 {
                    whole.extend(self.amended_between(last, incoming.revision).await?);
                }
                last = incoming.revision;
            }
            whole.push(incoming);
        }
        Ok(whole)
    }

    async fn amended_between(&self, after: u64, before: u64) -> Result<Vec<Incoming>, Fault> {
        let bucket = self.cluster.bucket(Source::Amended)?;
        let keys = bucket.keys().await?;
        let mut positions: Vec<u64> = keys.iter().filter_map(|key| key.parse().ok()).collect();
        positions.retain(|position| *position > after && *position < before);
        positions.sort_unstable();
        let mut found = Vec::new();
        for position in positions {
            let key = position.to_string();
            if let Some((revision, record)) = bucket.get::<AmendedRecord>(&key).await? {
                let change = records::amended(&key, record)?;
                found.push(Incoming { source: Source::Amended, key, revision, in_turn: false, change });
            }
        }
        Ok(found)
    }

    /// Applies an amended event that waits, once all events before it are applied.
    async fn release(&mut self, held: &mut Option<Incoming>) -> Result<(), Fault> {
        let Some(incoming) = held.take() else { return Ok(()) };
        if let Change::Amended { position, .. } = &incoming.change
            && !self.is_past(*position).await?
        {
            *held = Some(incoming);
            return Ok(());
        }
        self.take(vec![incoming], false).await
    }

    /// Whether every event up to a position that the stream holds is applied.
    async fn is_past(&self, position: u64) -> Result<bool, Fault> {
        let applied = self.applied[Source::Events as usize];
        if applied >= position {
            return Ok(true);
        }
        let next = self.cluster.events.raw_message_builder().sequence(applied + 1);
        let next = next.next_by_subject(self.cluster.subject("*")).send();
        match tokio::time::timeout(LIMIT, next).await {
            Ok(Ok(message)) => Ok(message.sequence > position),
            Ok(Err(error)) if is_none(&error.kind()) => Ok(true),
            Ok(Err(error)) => Err(Fault::unavailable("the next event", error)),
            Err(error) => Err(Fault::unavailable("the next event", error)),
        }
    }
}
