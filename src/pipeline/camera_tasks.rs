//! The tasks of one camera: supervisor, camera loop, status journal. They live and end together.
//!
//! A task that panics is a status, a metric and a restart, never a camera that looks alive and says nothing.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    camera_loop::{self, LoopParts, LoopShared},
    status_journal,
};
use crate::{
    camera::{
        CameraSpec, CameraState, CameraStatus, FrameSlot, Reason,
        source::SourceOpener,
        supervisor::{CameraControl, SupervisorSettings, supervise},
    },
    telemetry, time,
};

/// Pause before the tasks are started again after one of them failed.
const RESTART_AFTER: Duration = Duration::from_secs(5);

/// What the tasks are made of.
pub(super) struct CameraParts {
    pub(super) opener: Arc<dyn SourceOpener>,
    pub(super) supervisor: SupervisorSettings,
    pub(super) loops: LoopParts,
    pub(super) changes: watch::Sender<u64>,
}

/// Runs until `stop`, or until the camera's spec is dropped.
pub(super) async fn run(
    parts: CameraParts,
    spec: watch::Receiver<CameraSpec>,
    status: watch::Sender<CameraStatus>,
    shared: Arc<LoopShared>,
    stop: CancellationToken,
) {
    while !once(&parts, &spec, &status, &shared, &stop).await {
        let id = spec.borrow().id.clone();
        telemetry::camera_restarted(&id);
        status.send_modify(|s| {
            let now = time::now();
            (s.state, s.since, s.next_retry) = (CameraState::Retrying, now, now.checked_add(RESTART_AFTER).ok());
            s.reason = Some(Reason {
                code: "internal",
                message: "a fault in the server stopped this camera; its log tells more".into(),
            });
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RESTART_AFTER) => {}
        }
    }
}

/// Starts the tasks and waits for all of them; whether they ended as they should.
async fn once(
    parts: &CameraParts,
    spec: &watch::Receiver<CameraSpec>,
    status: &watch::Sender<CameraStatus>,
    shared: &Arc<LoopShared>,
    stop: &CancellationToken,
) -> bool {
    let together = stop.child_token();
    let slot = Arc::new(FrameSlot::default());
    let control = Arc::new(CameraControl::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(supervise(
        spec.borrow().clone(),
        parts.opener.clone(),
        status.clone(),
        slot.clone(),
        control.clone(),
        parts.supervisor.clone(),
        together.clone(),
    ));
    tasks.spawn(camera_loop::run(parts.loops.clone(), spec.clone(), slot, control, shared.clone(), together.clone()));
    tasks.spawn(status_journal::run(
        spec.clone(),
        status.subscribe(),
        parts.loops.log.clone(),
        parts.changes.clone(),
        together.clone(),
    ));
    let mut well = true;
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            well = false;
            tracing::error!(camera = %spec.borrow().id, %error, "a task of the camera failed; its tasks are restarted");
        }
        // One of them alone is of no use.
        together.cancel();
    }
    well
}
