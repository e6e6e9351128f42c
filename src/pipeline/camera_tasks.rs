//! The tasks of one camera: supervisor, camera loop, status journal. They live and end together.
//!
//! A task that panics is a status, a metric and a restart, never a camera that looks alive and says nothing.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    camera_loop::{self, LoopParts, LoopShared},
    main_stream::MainStream,
    status_journal,
};
use crate::{
    camera::{
        Attention, CameraSpec, CameraState, CameraStatus, FrameSlot, Reason,
        source::SourceOpener,
        supervisor::{Outlet, SupervisorSettings, supervise},
    },
    telemetry, time,
};

/// Pause before the tasks are started again after one of them failed.
const RESTART_AFTER: Duration = Duration::from_secs(5);

/// More than any camera sends.
const MAIN_FPS: f32 = 60.0;

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
    main_status: watch::Sender<CameraStatus>,
    shared: Arc<LoopShared>,
    stop: CancellationToken,
) {
    while !once(&parts, &spec, &status, &main_status, &shared, &stop).await {
        let id = spec.borrow().id.clone();
        telemetry::camera_restarted(&id);
        status.send_modify(|s| {
            let now = time::now();
            (s.state, s.since, s.next_retry) = (CameraState::Retrying, now, now.checked_add(RESTART_AFTER).ok());
            s.reason = Some(Reason {
                code: "internal".into(),
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
    main_status: &watch::Sender<CameraStatus>,
    shared: &Arc<LoopShared>,
    stop: &CancellationToken,
) -> bool {
    let together = stop.child_token();
    let slot = Arc::new(FrameSlot::default());
    let attention = Arc::new(Attention::default());
    let mut tasks = JoinSet::new();
    let mut watched = spec.borrow().clone();
    let main = watched.substream.clone().map(|substream| {
        let main = CameraSpec { url: std::mem::replace(&mut watched.url, substream), ..watched.clone() };
        follow_main(parts, main, main_status, &together, &mut tasks)
    });
    let outlet = Outlet { status: status.clone(), slot: slot.clone(), attention: attention.clone(), on_demand: false };
    tasks.spawn(supervise(watched, parts.opener.clone(), outlet, parts.supervisor.clone(), together.clone()));
    let eyes = camera_loop::Eyes { slot, attention, main };
    tasks.spawn(camera_loop::run(parts.loops.clone(), spec.clone(), eyes, shared.clone(), together.clone()));
    tasks.spawn(status_journal::run(
        spec.clone(),
        status.subscribe(),
        parts.loops.outbox.clone(),
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

/// Starts the tasks of a main stream beside its substream.
fn follow_main(
    parts: &CameraParts,
    mut spec: CameraSpec,
    status: &watch::Sender<CameraStatus>,
    together: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Arc<MainStream> {
    let (slot, attention) = (Arc::new(FrameSlot::default()), Arc::new(Attention::default()));
    // The face may be in any frame of the substream: every one of the main stream is wanted.
    (spec.sampling.idle_fps, spec.sampling.active_fps) = (MAIN_FPS, MAIN_FPS);
    let main = Arc::new(MainStream::new(attention.clone()));
    let outlet = Outlet { status: status.clone(), slot: slot.clone(), attention, on_demand: true };
    tasks.spawn(supervise(spec, parts.opener.clone(), outlet, parts.supervisor.clone(), together.clone()));
    let (follows, stop) = (main.clone(), together.clone());
    tasks.spawn(async move { follows.follow(&slot, &stop).await });
    main
}
