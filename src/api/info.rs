//! ServerService.

use tonic::{Request, Response, Status};

use super::{Services, convert, status::IntoStatus};
use crate::{
    face::Distance,
    inference::manifest::Role,
    proto::v1::{GetServerInfoRequest, GetServerInfoResponse, ModelInfo, server_service_server::ServerService},
};

#[tonic::async_trait]
impl ServerService for Services {
    async fn get_server_info(
        &self,
        _request: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        let (people, faces) = self.gallery.store().counts().await.map_err(IntoStatus::into_status)?;
        let bounds = self.log.bounds().await.map_err(IntoStatus::into_status)?;
        let models = self.info.models.iter().map(|m| {
            let e = m.embedder.as_ref();
            ModelInfo {
                id: m.id.to_string(),
                role: match m.role {
                    Role::Detector => "detector",
                    Role::Embedder => "embedder",
                }
                .into(),
                licence: m.licence.clone(),
                embedding_size: e.map_or(0, |e| e.size as u32),
                distance: e
                    .map(|e| match e.distance {
                        Distance::Cosine => "cosine",
                        Distance::Euclidean => "euclidean",
                    })
                    .unwrap_or_default()
                    .into(),
                identification_threshold: e.map_or(0.0, |e| e.identification_threshold),
                verification_threshold: e.map_or(0.0, |e| e.verification_threshold),
            }
        });
        Ok(Response::new(GetServerInfoResponse {
            version: self.info.version.clone(),
            gstreamer_version: self.info.gstreamer_version.clone(),
            onnxruntime_version: self.info.onnxruntime_version.clone(),
            provider: self.info.provider.into(),
            models: models.collect(),
            gallery_backend: self.gallery.backend().into(),
            people,
            faces,
            cameras: self.fleet.list().len() as u32,
            latest_position: bounds.latest,
            oldest_position: bounds.oldest,
            start_time: Some(convert::time(self.info.started)),
            inference_workers: self.info.workers as u32,
        }))
    }
}
