//! Every metric name once; labels are bounded: camera ids, kinds, reasons, never people.

use std::{sync::OnceLock, time::Duration};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::ids::CameraId;

const FRAMES: &str = "visage_frames_total";
const SKIPPED: &str = "visage_frames_skipped_total";
const FACES: &str = "visage_faces_total";
const CUT_FROM: &str = "visage_faces_measured_total";
const EMBEDDINGS: &str = "visage_embeddings_total";
const EVENTS: &str = "visage_events_total";
const LATENCY: &str = "visage_event_latency_seconds";
const DETECT: &str = "visage_detection_seconds";
const CAMERA_UP: &str = "visage_camera_up";
const TRACKS: &str = "visage_active_tracks";
const RESTARTS: &str = "visage_camera_restarts_total";
const ENROLMENTS: &str = "visage_enrolments_total";
const GALLERY: &str = "visage_gallery_faces";
const UNKNOWNS: &str = "visage_unknown_faces";
const UNKNOWNS_TOTAL: &str = "visage_unknown_faces_total";
const INFERENCE_WAIT: &str = "visage_inference_wait_seconds";
const INFERENCE_BATCH: &str = "visage_inference_batch_size";
const INFERENCE_ABANDONED: &str = "visage_inference_abandoned_total";
const REFUSED: &str = "visage_requests_refused_total";
const CONNECTIONS_REFUSED: &str = "visage_connections_refused_total";
const AUDIT_RECORDS: &str = "visage_audit_records_total";
const AUDIT_LOST: &str = "visage_audit_lost_total";
const AUDIT_FAILING: &str = "visage_audit_failing";
const PROVIDER: &str = "visage_inference_provider";

/// Bounds of latency histograms, seconds.
const LATENCY_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0];

/// Bounds of the batch histogram, requests.
const BATCH_BUCKETS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// The process-wide recorder; made at the first call. `None` when another recorder was installed before.
pub fn prometheus() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let handle = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &LATENCY_BUCKETS)
                .ok()?
                .set_buckets_for_metric(Matcher::Full(INFERENCE_BATCH.into()), &BATCH_BUCKETS)
                .ok()?
                .install_recorder()
                .ok()?;
            describe_counter!(FRAMES, "Frames looked at, by camera.");
            describe_counter!(SKIPPED, "Frames not looked at, by camera and reason.");
            describe_counter!(FACES, "Faces found in frames, by camera and outcome.");
            describe_counter!(CUT_FROM, "Faces of cameras with two streams measured, by camera and stream.");
            describe_counter!(EMBEDDINGS, "Faces of frames embedded, by camera.");
            describe_counter!(EVENTS, "Events written, by camera and kind.");
            describe_histogram!(LATENCY, "Capture of the frame to the durable event, by kind.");
            describe_histogram!(DETECT, "Hand-over of a frame to its detections, by camera.");
            describe_gauge!(CAMERA_UP, "1 while the camera streams, by camera.");
            describe_counter!(RESTARTS, "Restarts of a camera's tasks after a fault in the server, by camera.");
            describe_gauge!(TRACKS, "Faces tracked at this moment, by camera.");
            describe_counter!(ENROLMENTS, "Enrolments by outcome.");
            describe_gauge!(GALLERY, "Enrolled faces.");
            describe_gauge!(UNKNOWNS, "Unknown faces that are kept.");
            describe_counter!(UNKNOWNS_TOTAL, "Unknown faces by outcome: kept, lost, expired, evicted, enrolled.");
            describe_histogram!(INFERENCE_WAIT, "How long a request waited for a worker.");
            describe_histogram!(INFERENCE_BATCH, "Requests that ran together.");
            describe_counter!(INFERENCE_ABANDONED, "Requests dropped because nobody waited for the answer any more.");
            describe_counter!(
                REFUSED,
                "Requests refused, by reason: token (none that counts), role (too low), scope (not for some cameras only), rate, requests, streams \
                 (limits of a client)."
            );
            describe_counter!(CONNECTIONS_REFUSED, "Connections refused, by listener and reason: total, address.");
            describe_counter!(AUDIT_RECORDS, "Records of the audit log that are on the disk.");
            describe_counter!(AUDIT_LOST, "Records of the audit log that could not be written.");
            describe_gauge!(AUDIT_FAILING, "1 while the audit log can't be written.");
            describe_gauge!(PROVIDER, "1 for the execution provider that runs the networks.");
            Some(handle)
        })
        .as_ref()
}

/// A frame was looked at.
pub fn frame_looked_at(camera: &CameraId, took: Duration) {
    counter!(FRAMES, "camera" => camera.to_string()).increment(1);
    histogram!(DETECT, "camera" => camera.to_string()).record(took.as_secs_f64());
}

/// `count` more frames were not looked at for `reason`.
pub fn frames_skipped(camera: &CameraId, reason: &'static str, count: u64) {
    counter!(SKIPPED, "camera" => camera.to_string(), "reason" => reason).increment(count);
}

/// Faces were found; `outcome` is `tracked`, `too_small` or `outside_region`.
pub fn faces(camera: &CameraId, outcome: &'static str, count: u64) {
    counter!(FACES, "camera" => camera.to_string(), "outcome" => outcome).increment(count);
}

/// Faces of a camera with two streams were measured in one of them: `main`, or `substream` while the main stream has no frame.
pub fn cut_from(camera: &CameraId, stream: &'static str, count: u64) {
    counter!(CUT_FROM, "camera" => camera.to_string(), "stream" => stream).increment(count);
}

/// Faces of a frame were embedded.
pub fn embedded(camera: &CameraId, count: u64) {
    counter!(EMBEDDINGS, "camera" => camera.to_string()).increment(count);
}

/// An event was written `latency` after its frame was captured.
pub fn event(camera: &CameraId, kind: &'static str, latency: Option<Duration>) {
    counter!(EVENTS, "camera" => camera.to_string(), "kind" => kind).increment(1);
    if let Some(latency) = latency {
        histogram!(LATENCY, "kind" => kind).record(latency.as_secs_f64());
    }
}

/// A camera streams, or does not.
pub fn camera_up(camera: &CameraId, up: bool) {
    gauge!(CAMERA_UP, "camera" => camera.to_string()).set(if up { 1.0 } else { 0.0 });
}

/// A camera's tasks are restarted after a fault in the server.
pub fn camera_restarted(camera: &CameraId) {
    counter!(RESTARTS, "camera" => camera.to_string()).increment(1);
}

/// Faces tracked at this moment.
pub fn active_tracks(camera: &CameraId, tracks: usize) {
    gauge!(TRACKS, "camera" => camera.to_string()).set(tracks as f64);
}

/// An enrolment ended; `outcome` is `enrolled` or `refused`.
pub fn enrolment(outcome: &'static str) {
    counter!(ENROLMENTS, "outcome" => outcome).increment(1);
}

/// Enrolled faces.
pub fn gallery_faces(faces: u64) {
    gauge!(GALLERY).set(faces as f64);
}

/// Unknown faces that are kept.
pub fn unknown_faces_kept(faces: usize) {
    gauge!(UNKNOWNS).set(faces as f64);
}

/// Unknown faces came or went; `outcome` is `kept`, `lost` (not written), `expired` (retention), `evicted` (over the limit) or
/// `enrolled`.
pub fn unknown_faces(outcome: &'static str, count: u64) {
    counter!(UNKNOWNS_TOTAL, "outcome" => outcome).increment(count);
}

/// Requests that waited so long run together.
pub fn batch_cut(waits: impl ExactSizeIterator<Item = Duration>) {
    histogram!(INFERENCE_BATCH).record(waits.len() as f64);
    let wait = histogram!(INFERENCE_WAIT);
    waits.for_each(|waited| wait.record(waited.as_secs_f64()));
}

/// Requests were dropped because nobody waited for the answer any more.
pub fn requests_abandoned(count: u64) {
    counter!(INFERENCE_ABANDONED).increment(count);
}

/// A request was refused; `reason` is `token` (none that counts), `role` (too low), `scope`, or a client's limit: `rate`, `requests`, `streams`.
pub fn request_refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

/// A connection was refused; `listener` is `grpc` or `http`, `reason` is `total` or `address`.
pub fn connection_refused(listener: &'static str, reason: &'static str) {
    counter!(CONNECTIONS_REFUSED, "listener" => listener, "reason" => reason).increment(1);
}

/// Records of the audit log are on the disk.
pub fn audit_recorded(records: u64) {
    counter!(AUDIT_RECORDS).increment(records);
}

/// Records of the audit log could not be written, and are gone.
pub fn audit_lost(records: u64) {
    counter!(AUDIT_LOST).increment(records);
}

/// Whether the audit log can't be written.
pub fn audit_failing(failing: bool) {
    gauge!(AUDIT_FAILING).set(if failing { 1.0 } else { 0.0 });
}

/// The execution provider that runs the networks: `cpu`, `cuda` or `tensorrt`.
pub fn inference_provider(provider: &'static str) {
    gauge!(PROVIDER, "provider" => provider).set(1.0);
}

/// A test that can't run here says so past the test harness, which hides what passing tests print.
#[cfg(test)]
pub(crate) fn skipped(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
