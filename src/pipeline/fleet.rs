//! Every registered camera, and the changes to them.
//!
//! The fleet owns the tasks: a camera that is changed or removed is cancelled and awaited before its successor starts. A change runs in
//! a task of its own, so that a caller who goes away half-way can't leave store and tasks apart.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    camera_loop::{LoopParts, LoopShared},
    camera_tasks::{self, CameraParts},
    picture,
};
use crate::{
    camera::{
        CameraSpec, CameraState, CameraStatus, CameraStore, CameraStoreError, FarFrames, FarStatus, Networks,
        SpecError, source::SourceOpener, supervisor::SupervisorSettings,
    },
    face::{Detection, Quality},
    identity::{Decision, Person},
    ids::CameraId,
    telemetry,
    time::{self, Timestamp},
};

/// A camera as registered and how it fares.
#[derive(Debug, Clone)]
pub struct CameraView {
    /// As registered.
    pub spec: CameraSpec,
    /// How it fares; with a substream, how that does.
    pub status: CameraStatus,
    /// How the main stream fares beside a substream.
    pub main: Option<CameraStatus>,
    /// Median time from hand-over to detections.
    pub detection_latency: Option<Duration>,
    /// Faces tracked at this moment.
    pub active_tracks: u32,
    /// Faces found in frames since the camera was started.
    pub faces_found: u64,
}

/// Why the fleet refused.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Faulty values.
    #[error("the camera is not valid: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<SpecError>),
    /// Store.
    #[error(transparent)]
    Store(#[from] CameraStoreError),
    /// Limit reached.
    #[error("this server takes at most {0} cameras; raise cameras.max or remove one")]
    TooMany(usize),
    /// No frame to show.
    #[error("camera {camera} has no frame to show: {why}")]
    NoFrame {
        /// Which.
        camera: CameraId,
        /// Its state and reason.
        why: String,
    },
    /// The picture could not be analysed or drawn.
    #[error(transparent)]
    Picture(#[from] picture::PictureError),
    /// The change did not come to its end.
    #[error("the change failed half-way: {0}; look at the camera and repeat it")]
    Interrupted(String),
}

/// A face with the answer to "who is it".
#[derive(Debug, Clone)]
pub struct FaceAnswer {
    /// Where.
    pub detection: Detection,
    /// How good.
    pub quality: Quality,
    /// Who, with figures.
    pub decision: Decision,
    /// The person, when known.
    pub person: Option<Person>,
}

/// A picture of a camera.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// JPEG bytes.
    pub jpeg: bytes::Bytes,
    /// When the frame was captured.
    pub captured: Timestamp,
    /// Faces, when annotated.
    pub faces: Vec<FaceAnswer>,
}

/// What the fleet is made of.
pub struct FleetParts {
    /// Where registered cameras are kept.
    pub store: Arc<dyn CameraStore>,
    /// Opens streams.
    pub opener: Arc<dyn SourceOpener>,
    /// Where cameras may be.
    pub networks: Networks,
    /// Time limits of supervision.
    pub supervisor: SupervisorSettings,
    /// What camera loops are made of.
    pub loops: LoopParts,
    /// Most cameras.
    pub max: usize,
    /// Frames of cameras that run elsewhere: then only those run here that are taken ([`Fleet::take`]), and how the rest fares is told by others
    /// ([`Fleet::tell`]). Without, all run here.
    pub far: Option<Arc<dyn FarFrames>>,
}

/// Every registered camera with its tasks. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    parts: FleetParts,
    cameras: Mutex<BTreeMap<CameraId, Running>>,
    /// One change at a time: store, then tasks.
    change: AsyncMutex<()>,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
    /// Changes under way and the tasks of cameras.
    tasks: TaskTracker,
}

struct Running {
    spec: watch::Sender<CameraSpec>,
    status: watch::Receiver<CameraStatus>,
    main: watch::Receiver<CameraStatus>,
    shared: Arc<LoopShared>,
    stop: CancellationToken,
    /// `None` while it is being awaited, and of a camera that runs elsewhere.
    task: Option<JoinHandle<()>>,
    /// Where it is told how a camera fares that runs elsewhere.
    told: Option<watch::Sender<FarStatus>>,
}

impl Fleet {
    /// Reads the registered cameras and starts them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn start(parts: FleetParts, stop: CancellationToken) -> Result<Self, FleetError> {
        let specs = parts.store.list().await?;
        let fleet = Self(Arc::new(Inner {
            parts,
            cameras: Mutex::default(),
            change: AsyncMutex::default(),
            changes: watch::Sender::new(0),
            stop,
            tasks: TaskTracker::new(),
        }));
        for spec in specs {
            fleet.add(spec);
        }
        Ok(fleet)
    }

    /// Registers and starts a camera. `validate_only` checks and changes nothing.
    ///
    /// # Errors
    /// When values are faulty, the id is taken, the limit is reached or the store fails.
    pub async fn create(&self, spec: CameraSpec, validate_only: bool) -> Result<CameraView, FleetError> {
        let fleet = self.clone();
        self.change(async move { fleet.created(spec, validate_only).await }).await
    }

    async fn created(&self, spec: CameraSpec, validate_only: bool) -> Result<CameraView, FleetError> {
        self.check(&spec, true)?;
        let _turn = self.0.change.lock().await;
        {
            let cameras = self.cameras();
            if cameras.contains_key(&spec.id) {
                return Err(CameraStoreError::AlreadyExists(spec.id).into());
            }
            if cameras.len() >= self.0.parts.max {
                return Err(FleetError::TooMany(self.0.parts.max));
            }
        }
        if validate_only {
            let status = CameraStatus::new(CameraState::Connecting, time::now());
            return Ok(CameraView {
                spec,
                status,
                main: None,
                detection_latency: None,
                active_tracks: 0,
                faces_found: 0,
            });
        }
        self.0.parts.store.insert(&spec).await?;
        let id = spec.id.clone();
        self.add(spec);
        self.changed();
        self.get(&id).ok_or_else(|| CameraStoreError::NotFound(id).into())
    }

    /// Checks values; with `moved` also whether the camera may be where it is.
    fn check(&self, spec: &CameraSpec, moved: bool) -> Result<(), FleetError> {
        let mut faults = spec.validate().err().unwrap_or_default();
        if moved {
            faults.extend(self.0.parts.networks.faults(spec));
        }
        if faults.is_empty() { Ok(()) } else { Err(FleetError::Invalid(faults)) }
    }

    /// One camera.
    pub fn get(&self, id: &CameraId) -> Option<CameraView> {
        self.cameras().get(id).map(view)
    }

    /// All cameras, by id.
    pub fn list(&self) -> Vec<CameraView> {
        self.cameras().values().map(view).collect()
    }

    /// Replaces a camera; `spec.revision` must be one above the present one. Restarts the stream only if it must.
    ///
    /// # Errors
    /// When values are faulty, the camera is not there, somebody else was faster, or the store fails.
    pub async fn update(&self, spec: CameraSpec) -> Result<CameraView, FleetError> {
        let fleet = self.clone();
        self.change(async move { fleet.updated(spec).await }).await
    }

    async fn updated(&self, spec: CameraSpec) -> Result<CameraView, FleetError> {
        let _turn = self.0.change.lock().await;
        let id = spec.id.clone();
        let old = self.get(&id).ok_or_else(|| CameraStoreError::NotFound(id.clone()))?.spec;
        self.check(&spec, old.url != spec.url || old.substream != spec.substream)?;
        self.0.parts.store.update(&spec).await?;
        self.replace(&old, spec).await;
        self.changed();
        self.get(&id).ok_or_else(|| CameraStoreError::NotFound(id).into())
    }

    /// Goes on with a camera as it is registered now; restarts the stream only if it must.
    async fn replace(&self, old: &CameraSpec, spec: CameraSpec) {
        let restart = old.url != spec.url
            || old.substream != spec.substream
            || old.credentials != spec.credentials
            || old.transport != spec.transport
            || old.tls != spec.tls
            || old.enabled != spec.enabled
            || old.sampling != spec.sampling;
        if restart && self.runs(&spec.id) {
            self.halt(&spec.id).await;
            self.launch(spec);
        } else if let Some(running) = self.cameras().get(&spec.id) {
            if let Some(told) = running.told.as_ref().filter(|_| spec.enabled != old.enabled) {
                let state = if spec.enabled { CameraState::Connecting } else { CameraState::Disabled };
                told.send_replace(CameraStatus::new(state, time::now()).into());
            }
            running.spec.send_replace(spec);
        }
    }

    /// Stops and forgets a camera.
    ///
    /// # Errors
    /// When it is not there or the store fails.
    pub async fn delete(&self, id: &CameraId) -> Result<(), FleetError> {
        let (fleet, id) = (self.clone(), id.clone());
        self.change(async move { fleet.deleted(&id).await }).await
    }

    async fn deleted(&self, id: &CameraId) -> Result<(), FleetError> {
        let _turn = self.0.change.lock().await;
        self.0.parts.store.remove(id).await?;
        self.forget(id).await;
        Ok(())
    }

    async fn forget(&self, id: &CameraId) {
        self.halt(id).await;
        self.cameras().remove(id);
        telemetry::forget_camera(id);
        self.changed();
    }

    /// Runs a change to its end, whether or not the caller waits for it.
    async fn change<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, FleetError>> + Send + 'static,
    ) -> Result<T, FleetError> {
        self.0.tasks.spawn(change).await.unwrap_or_else(|error| Err(FleetError::Interrupted(error.to_string())))
    }

    /// Changes whenever a camera is added, removed, changed, or changes its state.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Stops every camera and waits for its tasks; tracks end with their LEFT events written.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn launch(&self, spec: CameraSpec) {
        let inner = &self.0;
        let stop = inner.stop.child_token();
        let state = if spec.enabled { CameraState::Connecting } else { CameraState::Disabled };
        let (status_tx, status) = watch::channel(CameraStatus::new(state, time::now()));
        let (main_tx, main) = watch::channel(CameraStatus::new(state, time::now()));
        let shared = Arc::new(LoopShared::default());
        let id = spec.id.clone();
        let spec = watch::Sender::new(spec);
        let task = inner.tasks.spawn(camera_tasks::run(
            CameraParts {
                opener: inner.parts.opener.clone(),
                supervisor: inner.parts.supervisor.clone(),
                loops: inner.parts.loops.clone(),
                changes: inner.changes.clone(),
            },
            spec.subscribe(),
            status_tx,
            main_tx,
            shared.clone(),
            stop.clone(),
        ));
        self.cameras().insert(id, Running { spec, status, main, shared, stop, task: Some(task), told: None });
    }

    /// Ends a camera's tasks; the camera stays in sight with its last status until it is launched anew or removed.
    async fn halt(&self, id: &CameraId) {
        let task = match self.cameras().get_mut(id) {
            Some(running) => {
                running.stop.cancel();
                running.task.take()
            }
            None => None,
        };
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(camera = %id, %error, "the tasks of the camera ended badly");
        }
    }

    fn changed(&self) {
        self.0.changes.send_modify(|n| *n += 1);
    }

    fn cameras(&self) -> MutexGuard<'_, BTreeMap<CameraId, Running>> {
        self.0.cameras.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[path = "fleet_duty.rs"]
mod duty;
#[path = "fleet_snapshot.rs"]
mod snapshot;

fn view(running: &Running) -> CameraView {
    let spec = running.spec.borrow().clone();
    if let Some(told) = &running.told {
        let FarStatus { status, main, detection_latency, active_tracks, faces_found } = told.borrow().clone();
        return CameraView { spec, status, main, detection_latency, active_tracks, faces_found };
    }
    CameraView {
        status: running.status.borrow().clone(),
        main: spec.substream.is_some().then(|| running.main.borrow().clone()),
        spec,
        detection_latency: running.shared.detection_latency(),
        active_tracks: running.shared.active_tracks(),
        faces_found: running.shared.faces_found(),
    }
}
