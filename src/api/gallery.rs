//! GalleryService: the gallery as a whole.

use std::pin::Pin;

use futures::{Stream, stream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Services, convert,
    exchange::{ExportStream, ImportStream, export, import},
    status::{IntoStatus, invalid_field},
};
use crate::{
    access::Caller,
    ids::ModelId,
    pipeline::reembed::{Move, MoveRequest},
    proto::v1::{gallery_service_server::GalleryService, *},
};

type Progress = Result<ReembedGalleryResponse, Status>;
type ProgressStream = Pin<Box<dyn Stream<Item = Progress> + Send>>;

/// Findings of a check: by default, and at most.
const FINDINGS: (usize, usize) = (1000, 10_000);

/// A move as its caller hears of it.
enum Told {
    Begins(Move),
    Goes(Move),
    Over,
}

impl Told {
    async fn next(self, services: Services) -> Option<(Progress, (Self, Services))> {
        match self {
            Self::Over => None,
            Self::Begins(moving) => {
                let plan = Some(services.wire_plan(&moving.plan));
                let first = ReembedGalleryResponse { stage: ReembedStage::Loading.into(), plan, ..Default::default() };
                Some((Ok(first), (Self::Goes(moving), services)))
            }
            Self::Goes(mut moving) => {
                // The last steps may go by unseen: the end tells all that matters.
                let ended = tokio::select! {
                    biased;
                    changed = moving.step.changed() => match changed {
                        Ok(()) => {
                            let step = *moving.step.borrow_and_update();
                            return Some((Ok(convert::gallery::step(step)), (Self::Goes(moving), services)));
                        }
                        // The task is over, or about to be.
                        Err(_) => (&mut moving.end).await,
                    },
                    ended = &mut moving.end => ended,
                };
                let answer = match ended {
                    Ok(Ok(report)) => Ok(ReembedGalleryResponse {
                        stage: ReembedStage::Done.into(),
                        done: report.embedded,
                        total: report.faces,
                        plan: Some(services.wire_plan(&report)),
                    }),
                    Ok(Err(error)) => Err(error.into_status()),
                    Err(error) => {
                        Err(crate::pipeline::reembed::MoveError::Interrupted(error.to_string()).into_status())
                    }
                };
                Some((answer, (Self::Over, services)))
            }
        }
    }
}

impl Services {
    fn wire_plan(&self, plan: &crate::pipeline::reembed::MovePlan) -> ReembedPlan {
        let mut wire = convert::gallery::plan(plan);
        let cameras = self.fleet.list().into_iter().filter(|c| c.spec.threshold_override.is_some());
        wire.remarks.extend(cameras.map(|c| {
            let threshold = c.spec.threshold_override.unwrap_or_default();
            format!("camera {} has its own threshold {threshold:.3}, set for {}", c.spec.id, plan.from)
        }));
        wire
    }
}

#[tonic::async_trait]
impl GalleryService for Services {
    async fn get_gallery(&self, _request: Request<GetGalleryRequest>) -> Result<Response<Gallery>, Status> {
        let (people, faces) = self.gallery.store().counts().await.map_err(IntoStatus::into_status)?;
        let coverage = self.embeddings.coverage().await.map_err(IntoStatus::into_status)?;
        let pictures = self.embeddings.crops().await.map_err(IntoStatus::into_status)?;
        let model = self.gallery.model();
        let mut models: Vec<ModelCoverage> =
            coverage.iter().map(|c| convert::gallery::coverage(c, faces, &model)).collect();
        if !coverage.iter().any(|c| c.model == model) {
            let (in_use, complete) = (true, faces == 0);
            models.push(ModelCoverage { model: model.to_string(), people: 0, faces: 0, complete, in_use });
        }
        Ok(Response::new(Gallery {
            model: model.to_string(),
            configured_model: self.info.configured_embedder.clone(),
            people,
            faces,
            pictures,
            keeps_pictures: self.desk.keeps_crops(),
            models,
            moving: self.mover.is_moving(),
        }))
    }

    type ReembedGalleryStream = ProgressStream;

    async fn reembed_gallery(
        &self,
        request: Request<ReembedGalleryRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let r = request.into_inner();
        let model: ModelId = r.model.parse().map_err(|e| invalid_field("model", format!("{e}")))?;
        let caller = Caller::now();
        caller.trail.names("gallery".into());
        if r.validate_only {
            let plan = self.mover.plan(&model).await.map_err(IntoStatus::into_status)?;
            let (stage, plan) = (ReembedStage::Planned.into(), Some(self.wire_plan(&plan)));
            let only = ReembedGalleryResponse { stage, plan, ..Default::default() };
            return Ok(Response::new(Box::pin(stream::iter([Ok(only)]))));
        }
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        let request = MoveRequest { model, allow_missing: r.allow_missing, drop_old: r.drop_old };
        let moving = self.mover.start(request).await.map_err(IntoStatus::into_status)?;
        let begun = (Told::Begins(moving), self.clone());
        let answers = stream::unfold(begun, |(told, services)| told.next(services));
        Ok(Response::new(Box::pin(answers)))
    }

    type ExportGalleryStream = ExportStream;

    async fn export_gallery(&self, request: Request<ExportGalleryRequest>) -> Result<Response<ExportStream>, Status> {
        Caller::now().trail.names("gallery".into());
        Ok(Response::new(export(self, request.into_inner())))
    }

    type ImportGalleryStream = ImportStream;

    async fn import_gallery(
        &self,
        request: Request<Streaming<ImportGalleryRequest>>,
    ) -> Result<Response<ImportStream>, Status> {
        let caller = Caller::now();
        caller.trail.names("gallery".into());
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(import(self, caller, request.into_inner())))
    }

    async fn check_gallery(
        &self,
        request: Request<CheckGalleryRequest>,
    ) -> Result<Response<CheckGalleryResponse>, Status> {
        Caller::now().trail.names("gallery".into());
        let limit = match request.into_inner().limit {
            0 => FINDINGS.0,
            n => usize::try_from(n).map_err(|_| invalid_field("limit", "must not be negative"))?.min(FINDINGS.1),
        };
        let (model, faces, checked) = self.desk.check_gallery(limit).await.map_err(IntoStatus::into_status)?;
        let findings = checked.findings.iter().map(convert::gallery::finding).collect();
        Ok(Response::new(CheckGalleryResponse {
            findings,
            total: checked.total as u64,
            compared: checked.compared as u64,
            faces: faces as u64,
            model: model.to_string(),
        }))
    }
}
