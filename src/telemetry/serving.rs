//! What is recorded about serving: requests, subscribers, readiness, disk.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::metrics::all;

/// A gRPC request was answered; both words are of the code. `began` is the time until the answer began, where it did.
pub fn answered(method: &'static str, code: &'static str, began: Option<Duration>) {
    all().requests.with(method, [code, ""], Counter::inc);
    if let Some(began) = began {
        all().request_seconds.of(method, |h| h.observe(began.as_secs_f64()));
    }
}

/// A request was refused; `reason` is `token` (none that counts), `role` (too low), `scope`, or a client's limit: `rate`, `requests`, `streams`.
pub fn request_refused(reason: &'static str) {
    all().refused.of(reason, Counter::inc);
}

/// A connection was refused; `listener` is `grpc` or `http`, `reason` is `total` or `address`.
pub fn connection_refused(listener: &'static str, reason: &'static str) {
    all().connections_refused.with(listener, [reason, ""], Counter::inc);
}

/// Records of the audit log are on the disk.
pub fn audit_recorded(records: u64) {
    all().audit_records.inc_by(records);
}

/// Records of the audit log could not be written, and are gone.
pub fn audit_lost(records: u64) {
    all().audit_lost.inc_by(records);
}

/// Whether the audit log can't be written.
pub fn audit_failing(failing: bool) {
    all().audit_failing.set(if failing { 1.0 } else { 0.0 });
}

/// A stream of events, counted while it lives.
#[derive(Debug)]
pub struct Subscriber(());

impl Subscriber {
    /// One more.
    pub fn new() -> Self {
        all().subscribers.inc();
        Self(())
    }
}

impl Default for Subscriber {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        all().subscribers.dec();
    }
}

/// Events wait for the data folder to be writable.
pub fn events_waiting(events: usize) {
    all().events_waiting.set(events as f64);
}

/// Events could not be written and were not kept.
pub fn events_lost(events: u64) {
    all().events_lost.inc_by(events);
}

/// Events of cameras that another worker has were not told.
pub fn events_not_ours(events: u64) {
    all().events_fenced.inc_by(events);
}

/// Workers of the cluster that hold a lease.
pub fn workers(workers: usize) {
    all().workers.set(workers as f64);
}

/// Cameras of the cluster that this worker runs.
pub fn cameras_of_worker(cameras: usize) {
    all().owned.set(cameras as f64);
}

/// Cameras of the cluster that nobody runs.
pub fn cameras_unwatched(cameras: usize) {
    all().unwatched.set(cameras as f64);
}

/// Pictures of waiting events were let go, because too many waited.
pub fn event_pictures_lost(pictures: u64) {
    all().pictures_lost.inc_by(pictures);
}

/// Position of the newest event.
pub fn event_log_position(position: u64) {
    all().log_position.set(position as f64);
}

/// How many cameras are in a state, a word of the code.
pub fn cameras_in(state: &'static str, cameras: usize) {
    all().cameras.of(state, |g| g.set(cameras as f64));
}

/// Space where the data folder is, bytes.
pub fn data_folder(free: u64, size: u64) {
    all().disk_free.set(free as f64);
    all().disk_size.set(size as f64);
}

/// A check of readiness passed or failed.
pub fn readiness(check: &'static str, passed: bool) {
    all().ready.of(check, |g| g.set(if passed { 1.0 } else { 0.0 }));
}

/// The runtime ran a task this late.
pub fn heartbeat(late: Duration) {
    all().lag.observe(late.as_secs_f64());
}

/// When the certificate of the listeners ends, seconds since 1970. A server without TLS tells none.
pub fn certificate_expires(at: i64) {
    all().certificate_expiry.of("server", |g| g.set(at as f64));
}

/// Spans could not be given to the collector.
pub fn spans_lost(count: u64) {
    all().spans_dropped.inc_by(count);
}
