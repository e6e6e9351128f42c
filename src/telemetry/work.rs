//! What is recorded about the gallery, the networks and the store.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::metrics::all;

/// An enrolment ended; `outcome` is `enrolled` or `refused`.
pub fn enrolment(outcome: &'static str) {
    all().enrolments.of(outcome, Counter::inc);
}

/// Enrolled faces.
pub fn gallery_faces(faces: u64) {
    all().gallery_faces.set(faces as f64);
}

/// Unknown faces that are kept.
pub fn unknown_faces_kept(faces: usize) {
    all().unknown_faces.set(faces as f64);
}

/// Unknown faces came or went; `outcome` is `kept`, `lost` (not written), `expired` (retention), `evicted` (over the limit) or
/// `enrolled`.
pub fn unknown_faces(outcome: &'static str, count: u64) {
    all().unknown_faces_total.of(outcome, |c| c.inc_by(count));
}

/// Requests that waited so long run together.
pub fn batch_cut(waits: impl ExactSizeIterator<Item = Duration>) {
    all().inference_batch.observe(waits.len() as f64);
    waits.for_each(|waited| all().inference_wait.observe(waited.as_secs_f64()));
}

/// Requests were dropped because nobody waited for the answer any more.
pub fn requests_abandoned(count: u64) {
    all().inference_abandoned.inc_by(count);
}

/// The execution provider that runs the networks: `cpu`, `cuda` or `tensorrt`, and whether it is not the better one that was tried.
pub fn inference_provider(provider: &'static str, fallback: bool) {
    all().provider.of(provider, |g| g.set(1.0));
    all().fallback.set(if fallback { 1.0 } else { 0.0 });
}

/// The store did something, or failed at it; `operation` is `read` or `write`.
pub fn store_done(operation: &'static str, took: Duration, failed: bool) {
    all().store_seconds.of(operation, |h| h.observe(took.as_secs_f64()));
    if failed {
        all().store_failures.of(operation, Counter::inc);
    }
}
