//! What a worker does about one camera: claims it, starts and stops it one step at a time, takes its log over.

use super::{AGAIN, Done, Work};
use crate::{
    camera::CameraState,
    cluster::{Action, Owner},
    event::{EventKind, EventLogError, NewEvent},
    ids::{CameraId, EventId},
    time,
};

impl Work {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Warm(camera) => {
                tracing::info!(%camera, "the camera is warmed up, to be taken over");
                self.parts.outbox.hold(&camera);
                self.places.entry(camera.clone()).or_default().run = true;
                self.settle(camera);
            }
            Action::Claim { camera, over } => {
                let registry = self.parts.registry.clone();
                let owner = Owner { worker: self.parts.me.clone(), epoch: self.epoch };
                self.doing.spawn(async move {
                    let outcome = registry.claim(&camera, &owner, over).await;
                    Done::Claimed(camera, outcome)
                });
            }
            Action::Run { camera, revision } => {
                tracing::info!(%camera, revision, "the camera is this worker's");
                self.parts.outbox.hold(&camera);
                // One event for one claim, however often it is tried.
                self.claims.insert(camera.clone(), (revision, EventId::generate()));
                self.places.entry(camera.clone()).or_default().run = true;
                self.settle(camera.clone());
                self.take_over(camera);
            }
            Action::Drop(camera) => {
                tracing::info!(%camera, "the camera is another worker's, or nobody's");
                // First, so that nothing is told of its end here: it goes on elsewhere.
                self.parts.store.give_up(&camera);
                self.parts.outbox.hold(&camera);
                self.parts.outbox.disown(&camera);
                self.claims.remove(&camera);
                if self.parts.fleet.get(&camera).is_none() {
                    self.forget(camera.clone());
                }
                self.places.entry(camera.clone()).or_default().run = false;
                self.settle(camera);
            }
        }
    }

    /// Starts or stops a camera, one step at a time.
    pub(super) fn settle(&mut self, camera: CameraId) {
        let Some(place) = self.places.get_mut(&camera) else { return };
        if place.moving {
            return;
        }
        if place.run == place.runs {
            if !place.run {
                self.parts.outbox.discard(&camera);
                self.places.remove(&camera);
            }
            return;
        }
        (place.moving, place.runs) = (true, place.run);
        let (fleet, run) = (self.parts.fleet.clone(), place.run);
        self.doing.spawn(async move {
            if run {
                fleet.take(&camera).await;
            } else {
                fleet.leave(&camera).await;
            }
            Done::Moved(camera)
        });
    }

    /// A camera that is not registered any more has no owner.
    fn forget(&mut self, camera: CameraId) {
        let registry = self.parts.registry.clone();
        self.doing.spawn(async move {
            if let Err(error) = registry.forget(&camera).await {
                tracing::debug!(%camera, %error, "whose the camera was is not forgotten");
            }
            Done::Forgotten
        });
    }

    fn take_over(&mut self, camera: CameraId) {
        let Some((claim, event)) = self.claims.get(&camera).cloned() else { return };
        if !self.taking.insert(camera.clone()) {
            return;
        }
        // Where the camera was warmed up, its frames arrive already.
        let view = self.parts.fleet.get(&camera).map(|view| (view.spec.labels, view.status.state));
        let (labels, state) = view.unwrap_or((Default::default(), CameraState::Connecting));
        let first = NewEvent {
            camera_state: Some(state.as_str().to_owned()),
            reason: format!(
                "worker {} runs this camera from here on; appearances of before do not go on",
                self.parts.me
            ),
            ..NewEvent::new(event, EventKind::CameraState, camera.clone(), labels, time::now())
        };
        let (store, outbox) = (self.parts.store.clone(), self.parts.outbox.clone());
        self.doing.spawn(async move {
            let outcome = store.take_over(&camera, claim, first).await.map(drop);
            match &outcome {
                Ok(()) => outbox.release(&camera).await,
                Err(EventLogError::Fenced(_)) => {}
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
            Done::TakenOver(camera, outcome)
        });
    }

    pub(super) fn taken_over(&mut self, camera: CameraId, outcome: Result<(), EventLogError>) {
        self.taking.remove(&camera);
        // It was dropped meanwhile.
        if !self.claims.contains_key(&camera) {
            self.parts.store.give_up(&camera);
            return;
        }
        match outcome {
            Ok(()) => {
                self.claims.remove(&camera);
            }
            Err(EventLogError::Fenced(_)) => {
                self.claims.remove(&camera);
                let now = self.now();
                if let Some(action) = self.mind.fenced(&camera, now) {
                    self.act(action);
                }
            }
            Err(error) => {
                tracing::warn!(%camera, %error, "the camera's log is not taken over yet; it is tried again");
                self.take_over(camera);
            }
        }
    }
}
