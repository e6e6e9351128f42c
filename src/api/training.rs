//! TrainClassifier of ServerService: a long call that tells how far it is, and stops when the caller goes away.

use std::pin::Pin;

use futures::{Stream, stream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use super::{
    Services, convert,
    status::{IntoStatus, invalid_field},
};
use crate::{
    access::Caller,
    identity::{
        ClassifierInfo, Gallery, GalleryError, Trained,
        classifier_folds::{Tally, Validation},
    },
    ids::ModelId,
    proto::v1::{
        Classifier, DecisionInfo, RouteTally, TrainClassifierRequest, TrainClassifierResponse, TrainingProgress,
        TrainingResult, train_classifier_response::Message,
    },
};

/// Folds when the client does not say.
const FOLDS: usize = 5;

/// What a call answers.
pub(super) type TrainingStream = Pin<Box<dyn Stream<Item = Result<TrainClassifierResponse, Status>> + Send>>;

/// A training under way. Dropping it stops the training.
struct Training {
    work: Pin<Box<dyn Future<Output = Result<Trained, GalleryError>> + Send>>,
    /// Trainings done and in all; only the newest counts.
    progress: watch::Receiver<(usize, usize)>,
    model: ModelId,
    _stop: DropGuard,
}

impl Training {
    async fn next(mut self) -> (Result<TrainClassifierResponse, Status>, Option<Self>) {
        tokio::select! {
            biased;
            result = &mut self.work => {
                let answer = result.map(|trained| message(Message::Result(result_of(&self.model, &trained))));
                (answer.map_err(IntoStatus::into_status), None)
            }
            Ok(()) = self.progress.changed() => {
                let (done, total) = *self.progress.borrow_and_update();
                let progress = TrainingProgress { done: done as u32, total: total as u32 };
                (Ok(message(Message::Progress(progress))), Some(self))
            }
        }
    }
}

/// Begins a training.
pub(super) async fn train(services: &Services, r: TrainClassifierRequest) -> Result<TrainingStream, Status> {
    if r.forget {
        if r.validate_only {
            return Err(invalid_field("validate_only", "can't be set together with forget"));
        }
        let caller = Caller::now();
        caller.trail.names("gallery".into());
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        services.gallery.forget_classifier().await.map_err(IntoStatus::into_status)?;
        return Ok(Box::pin(stream::empty()));
    }
    let folds = match r.folds {
        0 => FOLDS,
        folds @ 2..=20 => folds as usize,
        _ => return Err(invalid_field("folds", "give 2 to 20")),
    };
    let caller = Caller::now();
    caller.trail.names("gallery".into());
    if !r.validate_only {
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
    }
    let stop: CancellationToken = services.stop.child_token();
    let (tell, progress) = watch::channel((0, 0));
    let (gallery, thresholds, token) = (services.gallery.clone(), services.desk.thresholds(None), stop.clone());
    let work = async move {
        let done = move |done, total| {
            tell.send_replace((done, total));
        };
        gallery.train(folds, thresholds, !r.validate_only, &token, done).await
    };
    let model = services.gallery.model().clone();
    let training = Training { work: Box::pin(work), progress, model, _stop: stop.drop_guard() };
    Ok(Box::pin(stream::unfold(Some(training), |training| async { Some(training?.next().await) })))
}

/// What decides.
pub(super) fn decision(gallery: &Gallery) -> DecisionInfo {
    let route = gallery.route();
    DecisionInfo {
        configured: convert::face::route(route.configured).into(),
        in_use: convert::face::route(route.in_use).into(),
        reason: route.why.unwrap_or_default(),
        classifier: route.classifier.as_ref().map(|c| classifier(&gallery.model(), c)),
    }
}

fn message(message: Message) -> TrainClassifierResponse {
    TrainClassifierResponse { message: Some(message) }
}

fn classifier(model: &ModelId, c: &ClassifierInfo) -> Classifier {
    Classifier {
        model: model.to_string(),
        create_time: Some(convert::time(c.trained)),
        people: c.people as u32,
        faces: c.faces as u32,
        stale: c.stale,
    }
}

fn result_of(model: &ModelId, trained: &Trained) -> TrainingResult {
    let Validation { folds, tested, untested_people, classifier_first, nearest_first, classifier: c, similarity } =
        &trained.validation;
    TrainingResult {
        classifier: Some(classifier(model, &trained.classifier)),
        folds: *folds as u32,
        tested: *tested as u32,
        untested_people: *untested_people as u32,
        classifier_first: *classifier_first as u32,
        nearest_first: *nearest_first as u32,
        by_classifier: Some(tally(c)),
        by_similarity: Some(tally(similarity)),
    }
}

fn tally(t: &Tally) -> RouteTally {
    RouteTally {
        right: t.right as u32,
        unnamed: t.unnamed as u32,
        wrong: t.wrong as u32,
        strangers_named: t.strangers_named as u32,
    }
}
