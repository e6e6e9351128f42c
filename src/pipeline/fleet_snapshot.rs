//! A picture of a camera: drawn here, or asked of the node that runs it.

use std::sync::Arc;

use super::{Fleet, FleetError, Snapshot, view};
use crate::{
    camera::{CameraState, CameraStoreError, FarFrame, FarFrames},
    ids::CameraId,
    pipeline::{camera_faces, picture},
};

impl Fleet {
    /// The newest frame as JPEG.
    ///
    /// # Errors
    /// When the camera is not there, has no frame to show, or the frame can't be analysed.
    pub async fn snapshot(&self, id: &CameraId, annotate: bool) -> Result<Snapshot, FleetError> {
        if let Some(far) = self.far_frames(id)? {
            return self.far_snapshot(id, &*far, annotate).await;
        }
        let (frame, view) = {
            let cameras = self.cameras();
            let running = cameras.get(id).ok_or_else(|| CameraStoreError::NotFound(id.clone()))?;
            (running.shared.last_frame(), view(running))
        };
        let frame = frame.filter(|_| view.status.state == CameraState::Streaming).ok_or_else(|| {
            let why = view.status.reason.map(|r| format!(": {}", r.message)).unwrap_or_default();
            FleetError::NoFrame { camera: id.clone(), why: format!("it is {}{why}", view.status.state.as_str()) }
        })?;
        let desk = &self.0.parts.loops.desk;
        let faces = if annotate {
            let threshold = camera_faces::own_threshold(&view.spec);
            desk.answer(&frame.picture, &view.spec.watchlists, threshold).await?
        } else {
            Vec::new()
        };
        let (drawn_picture, drawn_faces) = (frame.picture.clone(), faces.clone());
        let jpeg = picture::blocking(move || picture::drawn(&drawn_picture, &drawn_faces))
            .await?
            .map_err(picture::PictureError::from)?;
        Ok(Snapshot { jpeg, captured: frame.captured.at, faces })
    }

    /// Who is asked for frames of a camera that runs elsewhere.
    fn far_frames(&self, id: &CameraId) -> Result<Option<Arc<dyn FarFrames>>, FleetError> {
        let cameras = self.cameras();
        let running = cameras.get(id).ok_or_else(|| CameraStoreError::NotFound(id.clone()))?;
        Ok(running.told.as_ref().and_then(|_| self.0.parts.far.clone()))
    }

    async fn far_snapshot(&self, id: &CameraId, far: &dyn FarFrames, annotate: bool) -> Result<Snapshot, FleetError> {
        let no_frame = |why: String| FleetError::NoFrame { camera: id.clone(), why };
        let FarFrame { captured, jpeg } = far.newest(id).await.map_err(no_frame)?;
        if !annotate {
            return Ok(Snapshot { jpeg, captured, faces: Vec::new() });
        }
        // Looked at here: the gallery is the same everywhere.
        let spec = self.get(id).ok_or_else(|| CameraStoreError::NotFound(id.clone()))?.spec;
        let threshold = camera_faces::own_threshold(&spec);
        let desk = &self.0.parts.loops.desk;
        let (found, drawn) = desk.identify_by(jpeg.clone(), &spec.watchlists, threshold, true).await?;
        Ok(Snapshot { jpeg: drawn.unwrap_or(jpeg), captured, faces: found.faces })
    }
}
