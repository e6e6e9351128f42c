//! Values that types can't exclude.

use super::Config;

/// Every faulty value, each with its key and the range.
pub fn faults(config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    let mut need = |ok: bool, text: &str| {
        if !ok {
            faults.push(text.to_owned());
        }
    };
    let i = &config.inference;
    need((160..=1920).contains(&i.detector_size), "inference.detector_size: give 160 to 1920 pixels");
    need(i.min_score > 0.0 && i.min_score < 1.0, "inference.min_score: give a number above 0 and below 1");
    need(i.workers <= 256, "inference.workers: give at most 256");
    need(i.max_batch <= 64, "inference.max_batch: give at most 64");
    need(i.batch_wait_ms <= 1000, "inference.batch_wait_ms: give at most 1000");
    need(config.cameras.max >= 1, "cameras.max: give at least 1");
    need((1..=600).contains(&config.server.grace_seconds), "server.grace_seconds: give 1 to 600");
    let in_range = |t: Option<f32>| t.is_none_or(|t| t > -1.0 && t < 1.0);
    need(in_range(config.identity.identification_threshold), "identity.identification_threshold: give -1 to 1");
    need(in_range(config.identity.verification_threshold), "identity.verification_threshold: give -1 to 1");
    need(in_range(config.identity.margin), "identity.margin: give -1 to 1");
    need(config.models.detector != config.models.embedder, "models.detector and models.embedder: name two models");
    if let Err(text) = crate::api::check_listen(config.server.listen, config.server.insecure) {
        faults.push(format!("server.listen: {text}"));
    }
    if let Err(text) = crate::api::check_listen(config.server.http, config.server.insecure) {
        faults.push(format!("server.http: {text}"));
    }
    faults
}
