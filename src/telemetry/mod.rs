//! Every metric name once, with what it counts; recording is one call. Labels are bounded: cameras, kinds, reasons, never people.
//!
//! A camera that is deleted takes its series along ([`forget_camera`]), so a server that sees many cameras come and go does not grow.
//! Metrics of the process are read when somebody asks. `docs/operations.md` lists all of them, and a test compares the two.

mod camera;
mod drift;
mod faces;
mod metrics;
mod process;
mod series;
mod serving;
mod traces;
mod work;

pub use camera::{
    active_tracks, camera_off, camera_restarted, camera_up, cut_from, embedded, event, faces, forget_camera,
    frame_looked_at, frames_received, frames_skipped, reconnects, searched,
};
pub use faces::{Match, Outcome, Seen, decided, seen};
pub use metrics::{CONTENT_TYPE, catalogue, render, start};
pub use series::Described;
pub use serving::{
    Subscriber, answered, audit_failing, audit_lost, audit_recorded, cameras_in, cameras_of_worker, cameras_unwatched,
    certificate_expires, connection_refused, data_folder, event_log_position, event_pictures_lost, events_lost,
    events_not_ours, events_waiting, heartbeat, readiness, request_refused, spans_lost, workers,
};
pub use traces::Traces;
pub use work::{
    batch_cut, enrolment, gallery_faces, inference_provider, requests_abandoned, store_done, unknown_faces,
    unknown_faces_kept,
};

/// A test that can't run here says so past the test harness, which hides what passing tests print.
#[cfg(test)]
pub(crate) fn skipped(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
