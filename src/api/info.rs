//! ServerService.

use tonic::{Request, Response, Status};

use super::{
    ServerFacts, Services, convert,
    status::{IntoStatus, invalid_field},
    training::{self, TrainingStream},
};
use crate::{
    access::Caller,
    face::{Distance, Embedding},
    identity::{self, calibration::Threshold},
    ids::ModelId,
    inference::{manifest::Role, plan::Trial},
    proto::v1::{
        CalibrateRequest, CalibrateResponse, Calibration, GetServerInfoRequest, GetServerInfoResponse, InferencePlan,
        InferenceTrial, ModelInfo, StrangerFace, TrainClassifierRequest, server_service_server::ServerService,
    },
    time,
};

fn plan(facts: &ServerFacts) -> InferencePlan {
    let plan = &facts.plan;
    let trial = |t: &Trial| InferenceTrial {
        sessions: t.way.sessions as u32,
        threads: t.way.threads as u32,
        batch: t.way.batch as u32,
        run_ms: t.run_ms,
        pictures_per_second: t.pictures_per_s,
    };
    InferencePlan {
        workers: plan.workers as u32,
        intra_threads: plan.intra_threads as u32,
        max_batch: plan.max_batch as u32,
        batch_wait_ms: plan.batch_wait_ms as u32,
        decode_threads: facts.decode_threads,
        reason: plan.reason.clone(),
        trials: plan.trials.iter().map(trial).collect(),
        provider_fallback: facts.provider_fallback.clone(),
    }
}

#[tonic::async_trait]
impl ServerService for Services {
    async fn get_server_info(
        &self,
        _request: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        let (people, faces) = self.gallery.store().counts().await.map_err(IntoStatus::into_status)?;
        let bounds = self.log.bounds().await.map_err(IntoStatus::into_status)?;
        let scope = Caller::now().scope;
        let models = self.desk.models();
        let models = models.iter().map(|m| {
            let e = m.embedder.as_ref();
            ModelInfo {
                id: m.id.to_string(),
                role: match m.role {
                    Role::Detector => "detector",
                    Role::Embedder => "embedder",
                    Role::Liveness => "liveness",
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
            cameras: self.fleet.list().iter().filter(|c| scope.sees(&c.spec.labels)).count() as u32,
            latest_position: bounds.latest,
            oldest_position: bounds.oldest,
            start_time: Some(convert::time(self.info.started)),
            inference_workers: self.info.workers as u32,
            calibration: self.gallery.calibration().map(|(c, t)| calibration(&self.gallery.model(), &c, &t, people)),
            decision: Some(training::decision(&self.gallery)),
            inference_plan: Some(plan(&self.info)),
        }))
    }

    async fn calibrate(&self, request: Request<CalibrateRequest>) -> Result<Response<CalibrateResponse>, Status> {
        let r = request.into_inner();
        let caller = Caller::now();
        caller.trail.names("gallery".into());
        if r.fpir == 0.0 {
            caller.trail.begins().await.map_err(IntoStatus::into_status)?;
            self.gallery.forget_calibration().await.map_err(IntoStatus::into_status)?;
            return Ok(Response::new(CalibrateResponse::default()));
        }
        if !(r.fpir > 0.0 && r.fpir < 1.0) {
            return Err(invalid_field(
                "fpir",
                "give a rate above 0 and below 1, such as 0.001; 0 forgets the calibration",
            ));
        }
        if r.strangers.len() > MOST_STRANGERS {
            return Err(invalid_field("strangers", format!("at most {MOST_STRANGERS}")));
        }
        let strangers = self.strangers(r.strangers)?;
        if !r.validate_only {
            caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        }
        let found = self.gallery.calibrate(r.fpir, strangers, !r.validate_only, time::now()).await;
        let found = found.map_err(IntoStatus::into_status)?;
        let people = found.calibration.people as u64;
        Ok(Response::new(CalibrateResponse {
            calibration: Some(calibration(&self.gallery.model(), &found.calibration, &found.threshold, people)),
            fnir: found.fnir,
            fnir_best: found.fnir_best,
            mates: found.mates as u32,
        }))
    }

    type TrainClassifierStream = TrainingStream;

    async fn train_classifier(
        &self,
        request: Request<TrainClassifierRequest>,
    ) -> Result<Response<TrainingStream>, Status> {
        training::train(self, request.into_inner()).await.map(Response::new)
    }
}

/// Most strangers of one calibration.
const MOST_STRANGERS: usize = 100_000;

impl Services {
    fn strangers(&self, faces: Vec<StrangerFace>) -> Result<Vec<Embedding>, Status> {
        let embedder = self.desk.embedder();
        let (size, distance) = embedder.embedder.as_ref().map_or((0, Distance::Cosine), |e| (e.size, e.distance));
        let model = embedder.id;
        let as_embedding = |(i, face): (usize, StrangerFace)| {
            let usable = face.embedding.len() == size && face.embedding.iter().all(|v| v.is_finite());
            if !usable {
                let text = format!("needs {size} finite values, as EmbedFaces gives them for {model}");
                return Err(invalid_field(&format!("strangers[{i}].embedding"), text));
            }
            Ok(Embedding { model: model.clone(), distance, values: face.embedding.into() })
        };
        faces.into_iter().enumerate().map(as_embedding).collect()
    }
}

fn calibration(model: &ModelId, c: &identity::Calibration, threshold: &Threshold, people: u64) -> Calibration {
    Calibration {
        model: model.to_string(),
        fpir: c.fpir,
        threshold: threshold.cautious,
        threshold_best: threshold.best,
        threshold_low: threshold.bold,
        people: people as u32,
        probes: c.probes as u32,
        comparisons: c.comparisons as u32,
        create_time: Some(convert::time(c.created)),
    }
}
