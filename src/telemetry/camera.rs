//! What is recorded by camera.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::metrics::all;
use crate::ids::CameraId;

/// A frame was looked at.
pub fn frame_looked_at(camera: &CameraId, took: Duration) {
    all().frames.of(camera.as_str(), Counter::inc);
    all().detection.of(camera.as_str(), |h| h.observe(took.as_secs_f64()));
}

/// A frame was searched for faces: in `parts`, as a `whole`, or in parts first and then as a whole (`both`).
pub fn searched(camera: &CameraId, extent: &'static str) {
    all().searched.with(camera.as_str(), [extent, ""], Counter::inc);
}

/// `count` more frames arrived.
pub fn frames_received(camera: &CameraId, count: u64) {
    all().frames_received.of(camera.as_str(), |c| c.inc_by(count));
}

/// `count` more frames were not looked at for `reason`.
pub fn frames_skipped(camera: &CameraId, reason: &'static str, count: u64) {
    all().frames_skipped.with(camera.as_str(), [reason, ""], |c| c.inc_by(count));
}

/// Faces were found; `outcome` is `tracked`, `too_small`, `too_many` or `outside_region`.
pub fn faces(camera: &CameraId, outcome: &'static str, count: u64) {
    all().faces.with(camera.as_str(), [outcome, ""], |c| c.inc_by(count));
}

/// Faces of a camera with two streams were measured in one of them: `main`, or `substream` while the main stream has no frame.
pub fn cut_from(camera: &CameraId, stream: &'static str, count: u64) {
    all().measured.with(camera.as_str(), [stream, ""], |c| c.inc_by(count));
}

/// Faces of a frame were embedded.
pub fn embedded(camera: &CameraId, count: u64) {
    all().embeddings.of(camera.as_str(), |c| c.inc_by(count));
}

/// An event was written `latency` after its frame was captured.
pub fn event(camera: &CameraId, kind: &'static str, latency: Option<Duration>) {
    all().events.with(camera.as_str(), [kind, ""], Counter::inc);
    if let Some(latency) = latency {
        all().event_latency.of(kind, |h| h.observe(latency.as_secs_f64()));
    }
}

/// A camera streams, or does not although it should.
pub fn camera_up(camera: &CameraId, up: bool) {
    all().camera_up.of(camera.as_str(), |g| g.set(if up { 1.0 } else { 0.0 }));
}

/// A camera is switched off: it is neither up nor down.
pub fn camera_off(camera: &CameraId) {
    use super::series::Forget;
    all().camera_up.forget(camera.as_str());
}

/// `count` more connections to a camera failed or ended.
pub fn reconnects(camera: &CameraId, count: u64) {
    all().reconnects.of(camera.as_str(), |c| c.inc_by(count));
}

/// A camera's tasks are restarted after a fault in the server.
pub fn camera_restarted(camera: &CameraId) {
    all().restarts.of(camera.as_str(), Counter::inc);
}

/// Faces tracked at this moment.
pub fn active_tracks(camera: &CameraId, tracks: usize) {
    all().tracks.of(camera.as_str(), |g| g.set(tracks as f64));
}

/// A camera was deleted and its tasks are over: its series go.
pub fn forget_camera(camera: &CameraId) {
    all().forget_camera(camera.as_str());
}
