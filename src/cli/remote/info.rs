//! `visage info`: what server is this?

use super::client::connect;
use crate::{
    cli::{
        Globals,
        error::{OK, Outcome},
        json,
        output::{Io, cell, plain},
        parse,
    },
    proto::v1::{Calibration, Classifier, DecisionInfo, DecisionRoute, GetServerInfoRequest, InferencePlan},
};

/// Runs `info`.
pub async fn run(globals: &Globals, io: &mut Io<'_>) -> Outcome {
    let server = connect(globals).await?;
    let info = server.server().get_server_info(GetServerInfoRequest {}).await?.into_inner();
    if io.json {
        io.object(&json::to_value("GetServerInfoResponse", &info)?)?;
        return Ok(OK);
    }
    io.pairs(&[
        ("server", format!("{} (visage {})", parse::address(&globals.server), plain(&info.version))),
        ("running since", parse::time_words(info.start_time.as_ref())),
        ("gstreamer", plain(&info.gstreamer_version)),
        ("onnx runtime", format!("{} on {}", plain(&info.onnxruntime_version), plain(&info.provider))),
        ("inference workers", info.inference_workers.to_string()),
        ("inference plan", plan_words(info.inference_plan.as_ref())),
        ("not on a GPU", plain(info.inference_plan.as_ref().map_or("", |plan| &plan.provider_fallback))),
        ("gallery", format!("{} people, {} faces ({})", info.people, info.faces, plain(&info.gallery_backend))),
        ("threshold", threshold_words(info.calibration.as_ref())),
        ("decides", decision_words(info.decision.as_ref())),
        ("classifier", classifier_words(info.decision.as_ref().and_then(|d| d.classifier.as_ref()))),
        ("cameras", info.cameras.to_string()),
        ("events", format!("{} to {}", info.oldest_position, info.latest_position)),
    ])?;
    let mut table = io.table(&["model", "role", "identify at", "verify at", "licence"]);
    for model in &info.models {
        let threshold = |value: f32| if model.embedding_size > 0 { format!("{value:.2}") } else { String::new() };
        table.add_row(vec![
            cell(plain(&model.id), None),
            cell(plain(&model.role), None),
            cell(threshold(model.identification_threshold), None),
            cell(threshold(model.verification_threshold), None),
            cell(plain(&model.licence), None),
        ]);
    }
    io.line("")?;
    io.show(&table)?;
    Ok(OK)
}

fn plan_words(plan: Option<&InferencePlan>) -> String {
    let Some(plan) = plan else { return String::new() };
    format!(
        "{} x {} thread(s), batches of {}, {} decoder thread(s) a stream; {}",
        plan.workers,
        plan.intra_threads,
        plan.max_batch,
        plan.decode_threads,
        plain(&plan.reason)
    )
}

fn decision_words(decision: Option<&DecisionInfo>) -> String {
    let Some(decision) = decision else { return "similarity".into() };
    match (decision.in_use(), decision.reason.as_str()) {
        (DecisionRoute::Classifier, _) => "the classifier, guarded by similarity".into(),
        (_, "") => "similarity".into(),
        (_, why) => format!("similarity, and not the classifier: {}", plain(why)),
    }
}

fn classifier_words(classifier: Option<&Classifier>) -> String {
    match classifier {
        Some(c) => format!(
            "{} people, {} faces, trained {}{}",
            c.people,
            c.faces,
            parse::time_words(c.create_time.as_ref()),
            if c.stale { "; faces changed since, another is trained soon" } else { "" }
        ),
        None => "none; `visage train` trains one".into(),
    }
}

fn threshold_words(calibration: Option<&Calibration>) -> String {
    match calibration {
        Some(c) => format!(
            "{:.3} for {} people: at most {} of 1000 strangers get a name (`visage calibrate`)",
            c.threshold,
            c.people,
            c.fpir * 1000.0
        ),
        None => "the model's own; `visage calibrate` learns one that keeps a promise".into(),
    }
}
