//! The gallery keeps a classifier: trained on request or because it decides, kept beside the people, trained again after changes.
//!
//! An erasure throws the classifier away whole, in memory at once and in the store with the person, since the erased faces shaped every
//! weight; until the next is trained, similarity decides. [`Gallery::tend`] is the task that follows changes.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Gallery, Inner, side::Side};
use crate::{
    identity::{
        Candidates, Classifier, EnrolledFace, GalleryError, PersonHit, Route, Thresholds, TrainError,
        classifier::{self, GalleryState},
        classifier_folds::{self, Validation},
    },
    time::{self, Timestamp},
};

/// The gallery is left alone for so long before it is learned again: an enrolment brings many faces …
const QUIET: Duration = Duration::from_secs(2);
/// … but never longer than this.
const AT_LAST: Duration = Duration::from_secs(30);
/// After a failure of store or index.
const AGAIN: Duration = Duration::from_secs(30);
/// An erasure stops a training; it is begun anew so often.
const ATTEMPTS: usize = 3;

/// The classifier, and what is known of it.
#[derive(Debug, Default)]
pub(super) struct Learned {
    classifier: Option<Arc<Classifier>>,
    /// Somebody wants one: it decides, or it was trained on request.
    wanted: bool,
    /// Faces changed since it was trained.
    pub(super) stale: bool,
    /// Why there is none.
    why: Option<String>,
}

/// A classifier from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifierInfo {
    /// When it was trained.
    pub trained: Timestamp,
    /// People it knows.
    pub people: usize,
    /// Faces it was trained on.
    pub faces: usize,
    /// Whether faces came or went since.
    pub stale: bool,
}

/// What decides.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteInfo {
    /// As configured.
    pub configured: Route,
    /// In use: similarity while there is no classifier.
    pub in_use: Route,
    /// Why the configured route is not in use.
    pub why: Option<String>,
    /// The classifier, when there is one, used or not.
    pub classifier: Option<ClassifierInfo>,
}

/// What a training gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The classifier.
    pub classifier: ClassifierInfo,
    /// How good it is on faces that it has not seen.
    pub validation: Validation,
}

impl Gallery {
    /// What decides, and why not what was configured.
    pub fn route(&self) -> RouteInfo {
        let (configured, side) = (self.inner.route, self.inner.in_use());
        let learned = side.learned.read().unwrap_or_else(PoisonError::into_inner);
        let classifier = learned.classifier.as_ref().map(|c| info(c, learned.stale));
        let in_use = if classifier.is_some() { configured } else { Route::Similarity };
        let why = (configured != in_use)
            .then(|| learned.why.clone().unwrap_or_else(|| "the classifier is not trained yet".into()));
        RouteInfo { configured, in_use, why, classifier }
    }

    /// Cross-validates a classifier on the gallery, then trains one on all of it. With `keep` it is kept, and trained again after changes.
    /// `done` hears of trainings done and to be done.
    ///
    /// # Errors
    /// When there is too little or too much to train on, the store fails, or `stop` was cancelled.
    pub async fn train(
        &self,
        folds: usize,
        thresholds: Thresholds,
        keep: bool,
        stop: &CancellationToken,
        done: impl Fn(usize, usize) + Send + Sync + 'static,
    ) -> Result<Trained, GalleryError> {
        let inner = &self.inner;
        let _one = tokio::select! {
            () = stop.cancelled() => return Err(TrainError::Stopped.into()),
            one = inner.training.lock() => one,
        };
        let done = Arc::new(done);
        for _ in 0..ATTEMPTS {
            let (stop_this, erasures) = inner.begin(stop);
            let side = inner.in_use();
            inner.few_enough(&side)?;
            let faces = inner.store.all_faces(&side.model).await?;
            let (gallery, tell, halt) = (self.clone(), done.clone(), stop_this.clone());
            let work = move || {
                classifier::enough(faces.iter().map(|f| &f.person))?;
                let labelled = classifier::best_of_each(&faces);
                let around = |hits: Vec<PersonHit>| -> Candidates { gallery.inner.around(&side, hits) };
                let all = folds + 1;
                let validation = classifier_folds::validate(&labelled, folds, &thresholds, &around, &halt, |n| {
                    tell(n, all);
                })?;
                let trained = Classifier::train(&faces, time::now(), &halt)?;
                tell(all, all);
                Ok::<_, TrainError>((trained, validation))
            };
            let (trained, validation) = match blocking(work).await? {
                Err(TrainError::Stopped) if !stop.is_cancelled() => continue,
                other => other?,
            };
            if keep && !inner.keep(trained.clone(), erasures).await? {
                continue;
            }
            let classifier = info(&trained, false);
            return Ok(Trained { classifier, validation });
        }
        Err(GalleryError::Unavailable("people were erased while it was trained; try again".into()))
    }

    /// Forgets the classifier. Where it decides, another is trained at the next change or start.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_classifier(&self) -> Result<(), GalleryError> {
        let inner = &self.inner;
        let _turn = inner.changes.lock().await;
        // A training under way must not bring it back.
        inner.unlearn();
        let side = inner.in_use();
        inner.store.set_classifier(&side.model, None).await?;
        let why = Some("the classifier was forgotten; `visage train` trains one".to_owned());
        let wanted = inner.route == Route::Classifier;
        side.learn(Learned { wanted, why, ..Learned::default() });
        Ok(())
    }

    /// Follows changes until `stop`: look-alikes at once, the classifier when the gallery has been left alone for a moment.
    pub async fn tend(&self, stop: CancellationToken) {
        loop {
            let failed = self.catch_up(&stop).await.inspect_err(|error| {
                tracing::warn!(%error, "the gallery could not be looked through; it is tried again");
            });
            let again = async {
                match failed {
                    Ok(()) => std::future::pending().await,
                    Err(_) => sleep(AGAIN).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.changed.notified() => {}
                () = again => {}
            }
            let latest = Instant::now() + AT_LAST;
            loop {
                // Who looks like whom should be known at once; a failure is met again in the round above.
                let _ = self.look_for_alikes(&stop).await;
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep_until(latest) => break,
                    () = self.inner.changed.notified() => {}
                    () = sleep(QUIET) => break,
                }
            }
        }
    }

    /// Does now what [`Gallery::tend`] would do after a change.
    ///
    /// # Errors
    /// When store or index fails. A gallery that can't be trained on is no error: [`Gallery::route`] says why.
    pub async fn catch_up(&self, stop: &CancellationToken) -> Result<(), GalleryError> {
        self.look_for_alikes(stop).await?;
        let inner = &self.inner;
        if !inner.wants_classifier() {
            return Ok(());
        }
        let _one = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            one = inner.training.lock() => one,
        };
        while !stop.is_cancelled() && inner.wants_classifier() {
            let (stop_this, erasures) = inner.begin(stop);
            let side = inner.in_use();
            if let Err(error) = inner.few_enough(&side) {
                return inner.cannot_train(&side, &error).await;
            }
            let faces = inner.store.all_faces(&side.model).await?;
            if side.is_of(&faces) {
                return Ok(());
            }
            match blocking(move || Classifier::train(&faces, time::now(), &stop_this)).await? {
                Ok(trained) => {
                    let (people, faces) = (trained.people().len(), trained.faces());
                    if inner.keep(trained, erasures).await? {
                        tracing::info!(people, faces, "the classifier was trained");
                        return Ok(());
                    }
                }
                Err(TrainError::Stopped) => {}
                Err(error) => return inner.cannot_train(&side, &error).await,
            }
        }
        Ok(())
    }
}

impl Inner {
    /// The classifier that decides about probes of a side, when it does.
    pub(super) fn classifier_in_use(&self, side: &Side) -> Option<Arc<Classifier>> {
        if self.route != Route::Classifier {
            return None;
        }
        side.learned.read().unwrap_or_else(PoisonError::into_inner).classifier.clone()
    }

    /// Reads the classifier kept for a model; one that can't be used is trained again.
    pub(super) async fn kept_classifier(&self, side: &Side, state: &GalleryState) -> Result<Learned, GalleryError> {
        let kept = self.store.classifier(&side.model).await?;
        let wanted = kept.is_some() || self.route == Route::Classifier;
        let mut loaded = Learned { wanted, ..Learned::default() };
        match kept.as_deref().map(Classifier::from_bytes) {
            Some(Ok(classifier)) if *classifier.model() == side.model && self.knows_all(&classifier) => {
                loaded.stale = classifier.state() != state;
                loaded.classifier = Some(Arc::new(classifier));
            }
            Some(Ok(_)) => loaded.why = Some("the kept classifier is of another gallery; it is trained again".into()),
            Some(Err(error)) => {
                tracing::error!(%error, "similarity decides meanwhile");
                loaded.why = Some(error.to_string());
            }
            None => {}
        }
        Ok(loaded)
    }

    /// Nobody is named by what was learned from a person who is being erased.
    pub(super) fn unlearn(&self) {
        self.erasures.fetch_add(1, Ordering::AcqRel);
        self.training_stop.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        for side in self.all_sides() {
            let mut learned = side.learned.write().unwrap_or_else(PoisonError::into_inner);
            if learned.classifier.take().is_some() {
                learned.why = Some("a person was erased; the classifier is trained again without them".into());
            }
        }
    }

    /// Refuses what is too much before it is read.
    fn few_enough(&self, side: &Side) -> Result<(), TrainError> {
        let faces = side.faces.load(Ordering::Relaxed) as usize;
        if faces <= classifier::MOST_READ {
            return Ok(());
        }
        let people = self.people.read().unwrap_or_else(PoisonError::into_inner).len();
        Err(TrainError::TooMuch { people, faces })
    }

    fn wants_classifier(&self) -> bool {
        self.in_use().learned.read().unwrap_or_else(PoisonError::into_inner).wanted
    }

    fn knows_all(&self, classifier: &Classifier) -> bool {
        let people = self.people.read().unwrap_or_else(PoisonError::into_inner);
        classifier.people().iter().all(|p| people.contains_key(p))
    }

    /// A token that `stop` or an erasure cancels, and the erasures so far.
    fn begin(&self, stop: &CancellationToken) -> (CancellationToken, u64) {
        let token = stop.child_token();
        *self.training_stop.lock().unwrap_or_else(PoisonError::into_inner) = token.clone();
        (token, self.erasures.load(Ordering::Acquire))
    }

    /// Keeps a classifier, unless somebody was erased or another model took over since its faces were read; whether it did.
    async fn keep(&self, classifier: Classifier, erasures: u64) -> Result<bool, GalleryError> {
        let bytes = classifier.to_bytes().map_err(|e| GalleryError::Storage(e.to_string()))?;
        // No erasure runs meanwhile, so none can be undone by what is written here; one that was interrupted is made good first.
        let _turn = self.turn().await?;
        let (side, erased) = (self.in_use(), self.erasures.load(Ordering::Acquire) != erasures);
        if erased || *classifier.model() != side.model || !self.knows_all(&classifier) {
            self.unsettled.store(false, Ordering::Release);
            return Ok(false);
        }
        self.store.set_classifier(&side.model, Some(&bytes)).await.map_err(|e| self.refused(e))?;
        self.unsettled.store(false, Ordering::Release);
        side.learn(Learned { classifier: Some(Arc::new(classifier)), wanted: true, ..Learned::default() });
        // A face that came while it was trained: the next round sees whether there was one.
        self.changed.notify_one();
        // Faces in view are decided again.
        self.revision.fetch_add(1, Ordering::AcqRel);
        Ok(true)
    }

    /// The gallery can't be trained on with this model: similarity decides, and an outdated classifier goes.
    async fn cannot_train(&self, side: &Side, error: &TrainError) -> Result<(), GalleryError> {
        let _turn = self.changes.lock().await;
        if self.in_use().model != side.model {
            return Ok(());
        }
        self.store.set_classifier(&side.model, None).await?;
        let mut learned = side.learned.write().unwrap_or_else(PoisonError::into_inner);
        let why = Some(error.to_string());
        if learned.why != why && self.route == Route::Classifier {
            tracing::warn!(%error, "identity.decision is classifier, but similarity decides");
        }
        learned.why = why;
        learned.classifier = None;
        Ok(())
    }
}

impl Side {
    /// Whether the classifier was trained on just these faces; then it is not stale.
    fn is_of(&self, faces: &[EnrolledFace]) -> bool {
        let state = GalleryState::of(faces.iter().map(|f| (&f.id, &f.person)));
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        let same = learned.classifier.as_ref().is_some_and(|c| *c.state() == state);
        learned.stale = !same;
        same
    }
}

fn info(classifier: &Classifier, stale: bool) -> ClassifierInfo {
    ClassifierInfo {
        trained: classifier.trained(),
        people: classifier.people().len(),
        faces: classifier.faces(),
        stale,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, GalleryError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| GalleryError::Storage(format!("training was interrupted: {e}")))
}
