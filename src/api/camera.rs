//! CameraService: cameras registered, changed and watched.

use std::{collections::BTreeMap, pin::Pin};

use futures::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{
    Services, convert, page,
    status::{IntoStatus, camera_out_of_scope, invalid, invalid_field, unavailable},
};
use crate::{
    access::{Caller, Scope},
    camera::{CameraState as State, CameraStoreError, Reason},
    ids::CameraId,
    pipeline::fleet::CameraView,
    proto::v1::{camera_service_server::CameraService, *},
    time,
};

/// What makes a camera worth telling again: revision, state and reason.
type Told = (u64, State, Option<Reason>);

fn told(view: &CameraView) -> Told {
    (view.spec.revision, view.status.state, view.status.reason.clone())
}

/// A watcher: what it was told last, and a wake-up; changes in between are coalesced, nothing is queued.
struct Watcher {
    services: Services,
    changes: watch::Receiver<u64>,
    wanted: Vec<CameraId>,
    /// What the caller may see.
    scope: Scope,
    told: BTreeMap<CameraId, Told>,
    ready: Vec<WatchCamerasResponse>,
}

impl Watcher {
    fn look(&mut self) {
        let mut gone: BTreeMap<CameraId, Told> = std::mem::take(&mut self.told);
        for view in self.services.fleet.list() {
            let id = view.spec.id.clone();
            let wanted = self.wanted.is_empty() || self.wanted.contains(&id);
            if !wanted || !self.scope.sees(&view.spec.labels) {
                continue;
            }
            let now = told(&view);
            if gone.remove(&id).as_ref() != Some(&now) {
                let camera = Some(convert::camera::to_wire(&view));
                self.ready.push(WatchCamerasResponse { camera, removed: false });
            }
            self.told.insert(id, now);
        }
        for id in gone.into_keys() {
            let camera = Some(Camera { name: format!("cameras/{id}"), ..Default::default() });
            self.ready.push(WatchCamerasResponse { camera, removed: true });
        }
        self.ready.reverse();
    }

    async fn next(mut self) -> Option<(Result<WatchCamerasResponse, Status>, Self)> {
        loop {
            if let Some(message) = self.ready.pop() {
                return Some((Ok(message), self));
            }
            let stopped = tokio::select! {
                () = self.services.stop.cancelled() => true,
                changed = self.changes.changed() => changed.is_err(),
            };
            if stopped {
                return Some((Err(unavailable("the server is shutting down".into())), self));
            }
            self.look();
        }
    }
}

impl Services {
    /// A camera that the caller may see; named in the records of the call.
    fn seen_camera(&self, id: &CameraId, caller: &Caller) -> Result<CameraView, Status> {
        caller.trail.names(format!("cameras/{id}"));
        let view = self.fleet.get(id).filter(|view| caller.scope.sees(&view.spec.labels));
        view.ok_or_else(|| CameraStoreError::NotFound(id.clone()).into_status())
    }
}

type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchCamerasResponse, Status>> + Send>>;

#[tonic::async_trait]
impl CameraService for Services {
    async fn create_camera(&self, request: Request<CreateCameraRequest>) -> Result<Response<Camera>, Status> {
        let r = request.into_inner();
        let id = match r.camera_id.as_str() {
            "" => CameraId::generate(),
            id => id.parse().map_err(|e| invalid_field("camera_id", format!("{e}")))?,
        };
        let caller = Caller::now();
        caller.trail.names(format!("cameras/{id}"));
        let spec = convert::camera::from_wire(id, r.camera.unwrap_or_default(), time::now()).map_err(invalid)?;
        if !caller.scope.sees(&spec.labels) {
            return Err(camera_out_of_scope(&caller.scope));
        }
        if !r.validate_only {
            caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        }
        let view = self.fleet.create(spec, r.validate_only).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(convert::camera::to_wire(&view)))
    }

    async fn get_camera(&self, request: Request<GetCameraRequest>) -> Result<Response<Camera>, Status> {
        let id: CameraId = page::id("name", "cameras", &request.into_inner().name)?;
        let view = self.seen_camera(&id, &Caller::now())?;
        Ok(Response::new(convert::camera::to_wire(&view)))
    }

    async fn list_cameras(
        &self,
        request: Request<ListCamerasRequest>,
    ) -> Result<Response<ListCamerasResponse>, Status> {
        let r = request.into_inner();
        let (size, after) = (page::size(r.page_size)?, page::after::<CameraId>(&r.page_token)?);
        let (mut all, scope) = (self.fleet.list(), Caller::now().scope);
        all.retain(|view| scope.sees(&view.spec.labels));
        let rest: Vec<&CameraView> = all.iter().filter(|v| after.as_ref().is_none_or(|a| v.spec.id > *a)).collect();
        let next = (rest.len() > size).then(|| rest.get(size - 1).map(|v| page::token(v.spec.id.as_str()))).flatten();
        let cameras = rest.iter().take(size).map(|v| convert::camera::to_wire(v)).collect();
        Ok(Response::new(ListCamerasResponse { cameras, next_page_token: next.unwrap_or_default() }))
    }

    async fn update_camera(&self, request: Request<UpdateCameraRequest>) -> Result<Response<Camera>, Status> {
        let r = request.into_inner();
        let wire = r.camera.ok_or_else(|| invalid_field("camera", "is missing"))?;
        let id: CameraId = page::id("camera.name", "cameras", &wire.name)?;
        let caller = Caller::now();
        let view = self.seen_camera(&id, &caller)?;
        let mut spec = view.spec;
        if !wire.etag.is_empty() && wire.etag != spec.revision.to_string() {
            return Err(CameraStoreError::Conflict(id).into_status());
        }
        let paths = r.update_mask.map(|m| m.paths).unwrap_or_default();
        convert::camera::update(&mut spec, &wire, &paths).map_err(invalid)?;
        if !caller.scope.sees(&spec.labels) {
            return Err(camera_out_of_scope(&caller.scope));
        }
        spec.revision += 1;
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        let view = self.fleet.update(spec).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(convert::camera::to_wire(&view)))
    }

    async fn delete_camera(&self, request: Request<DeleteCameraRequest>) -> Result<Response<()>, Status> {
        let id = page::id("name", "cameras", &request.into_inner().name)?;
        let caller = Caller::now();
        self.seen_camera(&id, &caller)?;
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        self.fleet.delete(&id).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(()))
    }

    type WatchCamerasStream = WatchStream;

    async fn watch_cameras(&self, request: Request<WatchCamerasRequest>) -> Result<Response<WatchStream>, Status> {
        let names = request.into_inner().names;
        let wanted = names.iter().map(|n| page::id("names", "cameras", n)).collect::<Result<Vec<_>, _>>()?;
        let mut watcher = Watcher {
            services: self.clone(),
            changes: self.fleet.changes(),
            wanted,
            scope: Caller::now().scope,
            told: BTreeMap::new(),
            ready: Vec::new(),
        };
        watcher.look();
        Ok(Response::new(Box::pin(stream::unfold(Some(watcher), |watcher| async {
            let (answer, watcher) = watcher?.next().await?;
            let next = if answer.is_ok() { Some(watcher) } else { None };
            Some((answer, next))
        }))))
    }

    async fn capture_snapshot(
        &self,
        request: Request<CaptureSnapshotRequest>,
    ) -> Result<Response<CaptureSnapshotResponse>, Status> {
        let r = request.into_inner();
        let id = page::id("name", "cameras", &r.name)?;
        let caller = Caller::now();
        self.seen_camera(&id, &caller)?;
        let snapshot = self.fleet.snapshot(&id, r.annotate).await.map_err(IntoStatus::into_status)?;
        let named = snapshot.faces.iter().filter_map(|face| face.person.as_ref());
        named.for_each(|person| caller.trail.names(format!("people/{}", person.id)));
        Ok(Response::new(CaptureSnapshotResponse {
            jpeg: snapshot.jpeg,
            capture_time: Some(convert::time(snapshot.captured)),
            faces: snapshot.faces.iter().map(convert::face::identified).collect(),
        }))
    }
}
