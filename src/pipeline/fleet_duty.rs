//! Cameras that may run elsewhere: taken, left, and told of, by those who share them out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::watch;

use super::{Fleet, FleetError, Running};
use crate::{
    camera::{CameraSpec, CameraState, CameraStatus, FarStatus, Reason},
    ids::CameraId,
    pipeline::camera_loop::LoopShared,
    telemetry, time,
};

impl Fleet {
    /// Takes over what others registered, changed and removed; the cameras as they are registered now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn follow(&self) -> Result<Vec<CameraSpec>, FleetError> {
        let fleet = self.clone();
        self.change(async move { fleet.followed().await }).await
    }

    async fn followed(&self) -> Result<Vec<CameraSpec>, FleetError> {
        let _turn = self.0.change.lock().await;
        let specs = self.0.parts.store.list().await?;
        let registered: BTreeMap<&CameraId, &CameraSpec> = specs.iter().map(|spec| (&spec.id, spec)).collect();
        let known: Vec<CameraSpec> = self.cameras().values().map(|running| running.spec.borrow().clone()).collect();
        let seen: BTreeSet<CameraId> = known.iter().map(|spec| spec.id.clone()).collect();
        for old in known {
            match registered.get(&old.id) {
                None => self.forget(&old.id).await,
                Some(new) if **new != old => self.replace(&old, (*new).clone()).await,
                Some(_) => {}
            }
        }
        for spec in specs.iter().filter(|spec| !seen.contains(&spec.id)) {
            self.add(spec.clone());
        }
        self.changed();
        Ok(specs)
    }

    /// Runs a camera here. Nothing happens when it does already, or is not registered.
    pub async fn take(&self, id: &CameraId) {
        let (fleet, id) = (self.clone(), id.clone());
        let taken = async move {
            let _turn = fleet.0.change.lock().await;
            let spec = fleet.get(&id).map(|view| view.spec).filter(|_| !fleet.runs(&id));
            if let Some(spec) = spec {
                fleet.launch(spec);
                fleet.changed();
            }
            Ok(())
        };
        self.told_of(self.change(taken).await);
    }

    /// Stops a camera here; it stays registered. Nothing happens when it does not run here.
    pub async fn leave(&self, id: &CameraId) {
        let (fleet, id) = (self.clone(), id.clone());
        let left = async move {
            let _turn = fleet.0.change.lock().await;
            if fleet.runs(&id) {
                fleet.halt(&id).await;
                if let Some(view) = fleet.get(&id) {
                    fleet.place(view.spec);
                }
                telemetry::forget_camera(&id);
                fleet.changed();
            }
            Ok(())
        };
        self.told_of(self.change(left).await);
    }

    /// How a camera fares that runs elsewhere. Nothing happens when it runs here, or is not registered.
    pub fn tell(&self, id: &CameraId, status: FarStatus) {
        let key = |far: &FarStatus| (far.status.state, far.status.reason.clone());
        let other = |before: &FarStatus| key(before) != key(&status);
        let changed = {
            let cameras = self.cameras();
            let Some(told) = cameras.get(id).and_then(|running| running.told.as_ref()) else { return };
            let changed = other(&told.borrow());
            told.send_replace(status);
            changed
        };
        if changed {
            self.changed();
        }
    }

    /// Whether a camera runs here.
    pub fn runs(&self, id: &CameraId) -> bool {
        self.cameras().get(id).is_some_and(|running| running.told.is_none())
    }

    pub(super) fn add(&self, spec: CameraSpec) {
        match self.0.parts.far {
            None => self.launch(spec),
            Some(_) => self.place(spec),
        }
    }

    /// A camera that runs elsewhere.
    fn place(&self, spec: CameraSpec) {
        let state = if spec.enabled { CameraState::Connecting } else { CameraState::Disabled };
        let reason = spec.enabled.then(|| Reason {
            code: "elsewhere".into(),
            message: "another node of the cluster runs the camera, or none does yet; ask a gateway how it fares".into(),
        });
        let now = CameraStatus { reason, ..CameraStatus::new(state, time::now()) };
        let told = watch::Sender::new(FarStatus::from(now.clone()));
        // Nobody reads these of a camera that is told of.
        let ((_, status), (_, main)) = (watch::channel(now.clone()), watch::channel(now));
        let (id, spec) = (spec.id.clone(), watch::Sender::new(spec));
        let (shared, stop) = (Arc::new(LoopShared::default()), self.0.stop.child_token());
        self.cameras().insert(id, Running { spec, status, main, shared, stop, task: None, told: Some(told) });
    }

    fn told_of(&self, outcome: Result<(), FleetError>) {
        if let Err(error) = outcome {
            tracing::error!(%error, "a camera was not taken or left");
        }
    }
}
