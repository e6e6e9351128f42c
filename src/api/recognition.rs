//! RecognitionService: questions about single pictures.

use tonic::{Request, Response, Status};

use super::{
    Services, convert,
    status::{IntoStatus, invalid_field},
};
use crate::{
    access::Caller,
    pipeline::picture::Found,
    proto::v1::{recognition_service_server::RecognitionService, *},
};

fn size<T>(found: &Found<T>) -> Option<ImageSize> {
    Some(ImageSize { width: found.width, height: found.height })
}

fn threshold(value: Option<f32>) -> Result<Option<f32>, Status> {
    match value {
        Some(t) if !(-1.0..=1.0).contains(&t) => Err(invalid_field("threshold", "give a similarity from -1 to 1")),
        other => Ok(other),
    }
}

#[tonic::async_trait]
impl RecognitionService for Services {
    async fn detect_faces(
        &self,
        request: Request<DetectFacesRequest>,
    ) -> Result<Response<DetectFacesResponse>, Status> {
        let request = request.into_inner();
        let min_score = match request.min_score {
            0.0 => None,
            s if (0.0..1.0).contains(&s) => Some(s),
            _ => return Err(invalid_field("min_score", "give a number from 0 to 1")),
        };
        let found = self.desk.detect(request.image, min_score).await.map_err(IntoStatus::into_status)?;
        let faces = found.faces.iter().map(convert::face::measured).collect();
        Ok(Response::new(DetectFacesResponse { size: size(&found), faces }))
    }

    async fn identify_faces(
        &self,
        request: Request<IdentifyFacesRequest>,
    ) -> Result<Response<IdentifyFacesResponse>, Status> {
        let r = request.into_inner();
        let threshold = threshold(r.threshold)?;
        let (found, jpeg) =
            self.desk.identify(r.image, &r.watchlists, threshold, r.annotate).await.map_err(IntoStatus::into_status)?;
        let caller = Caller::now();
        let named = found.faces.iter().filter_map(|face| face.person.as_ref());
        named.for_each(|person| caller.trail.names(format!("people/{}", person.id)));
        Ok(Response::new(IdentifyFacesResponse {
            size: size(&found),
            faces: found.faces.iter().map(convert::face::identified).collect(),
            annotated_jpeg: jpeg.unwrap_or_default(),
        }))
    }

    async fn verify_faces(
        &self,
        request: Request<VerifyFacesRequest>,
    ) -> Result<Response<VerifyFacesResponse>, Status> {
        let r = request.into_inner();
        let threshold = threshold(r.threshold)?;
        let v = self.desk.verify(r.image_a, r.image_b, threshold).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(VerifyFacesResponse {
            similarity: v.similarity,
            threshold: v.threshold,
            same: v.same,
            confidence: v.confidence,
            face_a: Some(convert::face::measured(&v.faces[0])),
            face_b: Some(convert::face::measured(&v.faces[1])),
        }))
    }

    async fn embed_faces(&self, request: Request<EmbedFacesRequest>) -> Result<Response<EmbedFacesResponse>, Status> {
        let found = self.desk.embed(request.into_inner().image).await.map_err(IntoStatus::into_status)?;
        let faces = found
            .faces
            .iter()
            .map(|(d, q, e)| FaceEmbedding {
                face: Some(convert::face::measured(&(*d, *q))),
                embedding: e.values.to_vec(),
            })
            .collect();
        Ok(Response::new(EmbedFacesResponse { model: self.gallery.model().to_string(), faces }))
    }
}
