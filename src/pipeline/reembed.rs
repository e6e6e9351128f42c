//! Moving a gallery to another model while recognition goes on with the present one.
//!
//! The other embedder is loaded beside the present one, embeds the pictures kept of enrolled faces, its index is filled and compared with
//! the store, then engine, index, thresholds and calibration switch together. Embeddings are kept as they come, so a move that was
//! cancelled, or that a crash ended, goes on where it was. Embedding has low priority: one thread, which rests as long as it worked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::picture::{self, IdentitySettings};
pub use super::reembed_plan::{MoveError, MovePlan, MoveRequest, Step};
use crate::{
    face::{Embedding, EngineInUse, FaceEngine},
    identity::{AlikeRange, EmbeddingStore, FaceCrop, Gallery, GalleryError, VectorIndex, embeddings::FaceNote},
    ids::{FaceId, ModelId, PersonId},
    inference::manifest::ModelEntry,
};

/// Pictures read at once.
const CHUNK: usize = 32;
/// People read at once.
const PEOPLE_PAGE: usize = 500;
/// The longest rest after a face.
const REST: Duration = Duration::from_secs(1);
/// How long questions that were begun with the old model are waited for.
const LAST_QUESTIONS: Duration = Duration::from_secs(60);
/// Pause between looks at who still asks the old model.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Loads what a move needs; implemented where models and back ends are chosen.
#[async_trait]
pub trait ModelLoader: Send + Sync {
    /// An engine with the detector in use and this embedder. In the `background` it runs on one thread.
    ///
    /// # Errors
    /// Why not, with the next step.
    async fn engine(&self, model: &ModelId, background: bool) -> Result<FaceEngine, String>;
    /// Whether there is such an embedder; loads nothing.
    ///
    /// # Errors
    /// Why not, with the next step.
    fn known(&self, model: &ModelId) -> Result<(), String>;
    /// The index of a model, as the last user left it.
    ///
    /// # Errors
    /// When its back end fails.
    async fn index(&self, model: &ModelEntry) -> Result<Arc<dyn VectorIndex>, GalleryError>;
}

/// A move under way. It is cancelled when this is dropped, until the switch.
pub struct Move {
    /// What it means.
    pub plan: MovePlan,
    /// How far it is.
    pub step: watch::Receiver<Step>,
    /// Its end, with what became of it.
    pub end: JoinHandle<Result<MovePlan, MoveError>>,
    _cancel: DropGuard,
}

/// Moves the gallery. Cheap to clone.
#[derive(Clone)]
pub struct Mover(Arc<Inner>);

struct Inner {
    gallery: Gallery,
    engine: EngineInUse,
    store: Arc<dyn EmbeddingStore>,
    loader: Arc<dyn ModelLoader>,
    identity: IdentitySettings,
    running: AtomicBool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Gives the place back when a move is over, however it ends.
struct Place(Arc<Inner>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

impl Mover {
    /// For a gallery and its engine; moves end with `stop`.
    pub fn new(
        gallery: Gallery,
        engine: EngineInUse,
        store: Arc<dyn EmbeddingStore>,
        loader: Arc<dyn ModelLoader>,
        identity: IdentitySettings,
        stop: CancellationToken,
    ) -> Self {
        let (running, tasks) = (AtomicBool::new(false), TaskTracker::new());
        Self(Arc::new(Inner { gallery, engine, store, loader, identity, running, stop, tasks }))
    }

    /// Whether a move is under way.
    pub fn is_moving(&self) -> bool {
        self.0.running.load(Ordering::Acquire)
    }

    /// What a move to a model would mean; changes nothing and loads nothing.
    ///
    /// # Errors
    /// When there is no such embedder, it is in use, or the store fails.
    pub async fn plan(&self, model: &ModelId) -> Result<MovePlan, MoveError> {
        let inner = &self.0;
        let from = inner.gallery.model();
        if from == *model {
            return Err(MoveError::InUse(from));
        }
        inner.loader.known(model).map_err(MoveError::Unknown)?;
        let missing = inner.store.without_picture(model).await?;
        inner.planned(from, model, missing).await
    }

    /// Starts a move.
    ///
    /// # Errors
    /// When one is under way, the model is in use, people would be lost, or the store fails.
    pub async fn start(&self, request: MoveRequest) -> Result<Move, MoveError> {
        if self.0.running.swap(true, Ordering::AcqRel) {
            return Err(MoveError::Running);
        }
        let place = Place(self.0.clone());
        let plan = self.plan(&request.model).await?;
        if !request.allow_missing {
            plan.refuse_losses()?;
        }
        let cancel = self.0.stop.child_token();
        let (told, step) = watch::channel(Step::Loading);
        let (inner, from, guard) = (self.0.clone(), plan.from.clone(), cancel.clone().drop_guard());
        let end = self.0.tasks.spawn(async move {
            let _place = place;
            inner.moved(from, request, cancel, told).await.inspect_err(|error| tracing::warn!(%error, "no move"))
        });
        Ok(Move { plan, step, end, _cancel: guard })
    }

    /// Waits for moves under way, which `stop` has cancelled.
    pub async fn shutdown(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Inner {
    async fn planned(&self, from: ModelId, to: &ModelId, missing: Vec<FaceNote>) -> Result<MovePlan, MoveError> {
        let (_, faces) = self.gallery.store().counts().await?;
        let coverage = self.store.coverage().await?;
        let embedded = coverage.iter().find(|c| c.model == *to).map_or(0, |c| c.faces);
        let (people, lost) = self.people(&missing).await?;
        Ok(MovePlan {
            people,
            faces,
            embedded,
            to_embed: faces.saturating_sub(embedded).saturating_sub(missing.len() as u64),
            lost,
            missing,
            negatives_left: self.gallery.store().negatives(&from).await?.len() as u64,
            calibrated: self.gallery.store().calibration(to).await?.is_some(),
            settings: if self.identity.model.as_ref() == Some(to) { Vec::new() } else { self.identity.set() },
            dropped: 0,
            from,
            to: to.clone(),
        })
    }

    /// Number of people with faces, and those of them whose every face is missing.
    async fn people(&self, missing: &[FaceNote]) -> Result<(u64, Vec<PersonId>), MoveError> {
        let mut lacking: BTreeMap<&PersonId, u32> = BTreeMap::new();
        missing.iter().for_each(|note| *lacking.entry(&note.person).or_default() += 1);
        let (mut after, mut people, mut lost) = (None, 0, Vec::new());
        loop {
            let page = self.gallery.store().people(after.as_ref(), PEOPLE_PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok((people, lost)) };
            after = Some(last.id.clone());
            for (person, faces) in page.into_iter().filter(|(_, faces)| *faces > 0) {
                people += 1;
                if lacking.get(&person.id).is_some_and(|lacks| *lacks >= faces) {
                    lost.push(person.id);
                }
            }
        }
    }

    async fn moved(
        &self,
        from: ModelId,
        request: MoveRequest,
        cancel: CancellationToken,
        told: watch::Sender<Step>,
    ) -> Result<MovePlan, MoveError> {
        let model = &request.model;
        tracing::info!(%from, to = %model, "the gallery moves to another model");
        // From now on faces have embeddings of both, and the present one's must be told apart.
        self.store.settle_model(&from).await?;
        let background = self.loader.engine(model, true).await.map_err(MoveError::Model)?;
        let done = self.moved_with(&background, &request, &cancel, &told).await;
        background.shutdown().await;
        let old = match done {
            Ok(old) => old,
            Err(error) => {
                // Whatever was put into the index is removed; the embeddings stay.
                if let Err(error) = self.no_index_in_work().await {
                    tracing::warn!(%error, "the index that was being filled could not be emptied; the next move or start does it");
                }
                return Err(error);
            }
        };
        told.send_replace(Step::Switched);
        tracing::info!(%from, to = %model, "the gallery uses another model");
        self.retire(old).await;
        let mut report = self.planned(from.clone(), model, self.store.missing(model).await?).await?;
        if request.drop_old {
            report.dropped = self.store.drop_embeddings(&from, model).await?;
        }
        Ok(report)
    }

    /// Up to the switch; the engine that was in use before.
    async fn moved_with(
        &self,
        background: &FaceEngine,
        request: &MoveRequest,
        cancel: &CancellationToken,
        told: &watch::Sender<Step>,
    ) -> Result<FaceEngine, MoveError> {
        let model = &request.model;
        let total = self.store.unembedded_count(model).await?;
        let (mut done, mut unusable) = (0, BTreeSet::new());
        // Until a pass finds nothing: people are enrolled meanwhile.
        loop {
            let embedded = self
                .embed_pass(background, model, cancel, (true, &mut unusable), |n| {
                    told.send_replace(Step::Embedding { done: done + n, total: total.max(done + n) });
                })
                .await?;
            done += embedded;
            if embedded == 0 {
                break;
            }
        }
        let index = self.loader.index(background.embedder()).await?;
        let alike = background.embedder().embedder.as_ref().map(AlikeRange::of);
        self.no_index_in_work().await?;
        self.store.set_index_in_work(Some(model)).await?;
        self.gallery.join(model.clone(), index, alike).await?;
        let coverage = self.store.coverage().await?;
        let total = coverage.iter().find(|c| c.model == *model).map_or(0, |c| c.faces);
        let tell = |done: u64| {
            told.send_replace(Step::Indexing { done, total: total.max(done) });
            !cancel.is_cancelled()
        };
        self.gallery.fill(&*self.store, tell).await?;
        self.unless_cancelled(model, cancel).await?;
        let engine = self.loader.engine(model, false).await.map_err(MoveError::Model)?;
        let from = self.gallery.model();
        let last = async {
            self.embed_pass(background, model, cancel, (false, &mut unusable), |_| {}).await?;
            let missing = self.store.missing(model).await?;
            if !request.allow_missing {
                self.planned(from.clone(), model, missing).await?.refuse_losses()?;
            }
            self.unless_cancelled(model, cancel).await
        };
        let mut old = None;
        let switch = || old = Some(self.engine.replace(engine.clone()));
        let switched = self.gallery.take_over(last, self.store.use_model(model, &from), switch).await;
        match (switched, old) {
            (Ok(()), Some(old)) => Ok(old),
            (switched, _) => {
                engine.shutdown().await;
                Err(switched.err().unwrap_or_else(|| MoveError::Interrupted("the engine was not replaced".into())))
            }
        }
    }

    /// Empties what an earlier move may have left.
    async fn no_index_in_work(&self) -> Result<(), MoveError> {
        self.gallery.turn_away().await?;
        self.gallery.retire().await?;
        Ok(self.store.set_index_in_work(None).await?)
    }

    /// Embeds every picture that the model has not embedded; how many it could. Those in `unusable` are not tried again.
    async fn embed_pass(
        &self,
        engine: &FaceEngine,
        model: &ModelId,
        cancel: &CancellationToken,
        (rests, unusable): (bool, &mut BTreeSet<FaceId>),
        mut told: impl FnMut(u64),
    ) -> Result<u64, MoveError> {
        let (mut after, mut done): (Option<FaceId>, u64) = (None, 0);
        loop {
            let page = self.store.unembedded(model, after.as_ref(), CHUNK).await?;
            let Some((last, _)) = page.last() else { return Ok(done) };
            after = Some(last.clone());
            for (face, crop) in page {
                self.unless_cancelled(model, cancel).await?;
                if unusable.contains(&face) {
                    continue;
                }
                let began = Instant::now();
                match embed(engine, crop).await? {
                    Some(embedding) => done += u64::from(self.store.insert_embedding(&face, &embedding).await?),
                    None => {
                        tracing::warn!(%face, "the picture kept of a face can't be embedded");
                        unusable.insert(face);
                    }
                }
                told(done);
                if rests {
                    tokio::select! {
                        () = tokio::time::sleep(began.elapsed().min(REST)) => {}
                        () = cancel.cancelled() => {}
                    }
                }
            }
        }
    }

    async fn unless_cancelled(&self, model: &ModelId, cancel: &CancellationToken) -> Result<(), MoveError> {
        if !cancel.is_cancelled() {
            return Ok(());
        }
        let coverage = self.store.coverage().await?;
        Err(MoveError::Cancelled { done: coverage.iter().find(|c| c.model == *model).map_or(0, |c| c.faces) })
    }

    /// Waits for what was begun with the old engine, then lets it and its index go.
    async fn retire(&self, old: FaceEngine) {
        let until = Instant::now() + LAST_QUESTIONS;
        while !old.is_alone() && Instant::now() < until && !self.stop.is_cancelled() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        old.shutdown().await;
        if let Err(error) = self.no_index_in_work().await {
            tracing::warn!(%error, "the index of the model before could not be emptied; the next move or start does it");
        }
    }
}

/// The embedding of a kept picture; `None` when the picture or the face in it can't be used. Failures of the engine are errors.
async fn embed(engine: &FaceEngine, crop: FaceCrop) -> Result<Option<Embedding>, MoveError> {
    let detection = crop.detection;
    let decoded = picture::blocking(move || crop.picture()).await;
    let Ok(picture) = decoded.map_err(|error| MoveError::Interrupted(error.to_string()))? else { return Ok(None) };
    if !engine.can_align(&detection) {
        return Ok(None);
    }
    Ok(engine.embed(&picture, &[detection]).await?.into_iter().next())
}
