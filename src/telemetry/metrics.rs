//! All metrics of a process: their names, what they are, and the page that tells them.

use std::sync::LazyLock;

use prometheus_client::{encoding::prometheus_text, metrics::counter::Counter};

use super::{
    drift::Recent,
    process::Process,
    series::{Bounds, Catalogue, Described, Gauge, Histogram, Series, begin},
};

/// The content type of [`render`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

macro_rules! bounds {
    ($($(#[$doc:meta])* $name:ident = $bounds:expr;)*) => {
        $($(#[$doc])* #[derive(Debug)] pub(super) struct $name;
        impl Bounds for $name {
            const BOUNDS: &'static [f64] = &$bounds;
        })*
    };
}

bounds! {
    /// Times, seconds.
    Seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0];
    /// Times of a disk, seconds.
    DiskSeconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
    /// Requests that run together.
    Batches = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
    /// Similarities: finer where thresholds lie.
    Similarities = [0.0, 0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9];
    /// Leads in similarity.
    Margins = [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0];
    /// Edges of faces, pixels.
    Pixels = [16.0, 24.0, 32.0, 48.0, 64.0, 80.0, 112.0, 160.0, 224.0, 320.0];
    /// Shares, 0 to 1.
    Shares = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
    /// Looks of a decision.
    Looks = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0];
}

/// Every metric.
pub(super) struct Metrics {
    catalogue: Catalogue,
    // cameras
    pub(super) frames: Series<Counter>,
    pub(super) searched: Series<Counter>,
    pub(super) frames_received: Series<Counter>,
    pub(super) frames_skipped: Series<Counter>,
    pub(super) detection: Series<Histogram<Seconds>>,
    pub(super) faces: Series<Counter>,
    pub(super) measured: Series<Counter>,
    pub(super) embeddings: Series<Counter>,
    pub(super) events: Series<Counter>,
    pub(super) event_latency: Series<Histogram<Seconds>>,
    pub(super) camera_up: Series<Gauge>,
    pub(super) cameras: Series<Gauge>,
    pub(super) reconnects: Series<Counter>,
    pub(super) restarts: Series<Counter>,
    pub(super) tracks: Series<Gauge>,
    // faces
    pub(super) decisions: Series<Counter>,
    pub(super) match_similarity: Series<Histogram<Similarities>>,
    pub(super) non_match_similarity: Series<Histogram<Similarities>>,
    pub(super) match_margin: Histogram<Margins>,
    pub(super) face_size: Series<Histogram<Pixels>>,
    pub(super) face_quality: Histogram<Shares>,
    pub(super) looks: Histogram<Looks>,
    pub(super) recent: Recent,
    pub(super) gallery_faces: Gauge,
    pub(super) unknown_faces: Gauge,
    pub(super) unknown_faces_total: Series<Counter>,
    pub(super) enrolments: Series<Counter>,
    // networks
    pub(super) inference_wait: Histogram<Seconds>,
    pub(super) inference_batch: Histogram<Batches>,
    pub(super) inference_abandoned: Counter,
    pub(super) provider: Series<Gauge>,
    pub(super) fallback: Gauge,
    // store and events
    pub(super) store_seconds: Series<Histogram<DiskSeconds>>,
    pub(super) store_failures: Series<Counter>,
    pub(super) events_waiting: Gauge,
    pub(super) events_lost: Counter,
    pub(super) events_fenced: Counter,
    pub(super) workers: Gauge,
    pub(super) owned: Gauge,
    pub(super) unwatched: Gauge,
    pub(super) pictures_lost: Counter,
    pub(super) log_position: Gauge,
    pub(super) subscribers: Gauge,
    pub(super) disk_free: Gauge,
    pub(super) disk_size: Gauge,
    // serving
    pub(super) requests: Series<Counter>,
    pub(super) request_seconds: Series<Histogram<Seconds>>,
    pub(super) refused: Series<Counter>,
    pub(super) connections_refused: Series<Counter>,
    pub(super) audit_records: Counter,
    pub(super) audit_lost: Counter,
    pub(super) audit_failing: Gauge,
    pub(super) ready: Series<Gauge>,
    pub(super) lag: Histogram<Seconds>,
    pub(super) certificate_expiry: Series<Gauge>,
    pub(super) spans_dropped: Counter,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The process's metrics; made at the first use.
pub(super) fn all() -> &'static Metrics {
    &METRICS
}

/// Makes the metrics, so that what begins at 0 is there before anything happens.
pub fn start() {
    LazyLock::force(&METRICS);
}

/// The page for Prometheus, text format 0.0.4. It reads `/proc`, which does not block for long.
pub fn render() -> String {
    let metrics = all();
    let mut page = String::new();
    if let Err(error) = prometheus_text::encode(&mut page, &metrics.catalogue.registry) {
        tracing::error!(%error, "metrics could not be written");
    }
    page
}

/// Every metric that [`render`] describes, in its order.
pub fn catalogue() -> &'static [Described] {
    &all().catalogue.list
}

impl Metrics {
    fn new() -> Self {
        let mut c = Catalogue::default();
        let build: Series<Gauge> =
            c.by(&["version"], "visage_build_info", "1 for the version of the program that runs.");
        build.of(env!("CARGO_PKG_VERSION"), |g| g.set(1.0));
        let metrics = Self {
            frames: c.by(&["camera"], "visage_frames_total", "Frames searched for faces."),
            searched: c.by(
                &["camera", "extent"],
                "visage_searches_total",
                "Searches of frames for faces: in parts, where no more had changed, as a whole, or both, where a part cut a face off.",
            ),
            frames_received: c.by(&["camera"], "visage_frames_received_total", "Frames that arrived, decoded or not."),
            frames_skipped: c.by(
                &["camera", "reason"],
                "visage_frames_skipped_total",
                "Frames not searched; overload and replaced mean that this machine was too slow.",
            ),
            detection: c.by(&["camera"], "visage_detection_seconds", "Hand-over of a frame to its detections."),
            faces: c.by(&["camera", "outcome"], "visage_faces_total", "Faces found in frames, by what became of them."),
            measured: c.by(
                &["camera", "stream"],
                "visage_faces_measured_total",
                "Faces of cameras with two streams measured, by the stream they were cut from.",
            ),
            embeddings: c.by(&["camera"], "visage_embeddings_total", "Faces of frames embedded."),
            events: c.by(&["camera", "kind"], "visage_events_total", "Events written."),
            event_latency: c.by(&["kind"], "visage_event_latency_seconds", "Capture of the frame to the durable event."),
            camera_up: c.by(&["camera"], "visage_camera_up", "1 while the camera streams, 0 while it does not; none while it is switched off."),
            cameras: c.by(&["state"], "visage_cameras", "Cameras by state."),
            reconnects: c.by(&["camera"], "visage_camera_reconnects_total", "Connections to the camera that failed or ended."),
            restarts: c.by(&["camera"], "visage_camera_restarts_total", "Restarts of a camera's tasks after a fault in the server."),
            tracks: c.by(&["camera"], "visage_active_tracks", "Faces tracked at this moment."),
            decisions: c.by(
                &["camera", "outcome", "reason"],
                "visage_decisions_total",
                "Appearances by what was said of them: named, unknown (with the reason), corrected, undecided.",
            ),
            match_similarity: c.by(&["camera"], "visage_match_similarity", "Similarity of named appearances to their person."),
            non_match_similarity: c.by(
                &["camera"],
                "visage_non_match_similarity",
                "Similarity to the best person who was not named: the second of a named appearance, the first of an unknown one.",
            ),
            match_margin: c.one("visage_match_margin", "Lead of named appearances over the second person, in similarity."),
            face_size: c.by(&["camera"], "visage_face_size_pixels", "Edge of the best face of decided appearances, in pixels."),
            face_quality: c.one("visage_face_quality", "Quality of the best face of decided appearances, 0 to 1."),
            looks: c.one("visage_decision_looks", "Embedded faces that a decision rests on."),
            recent: Recent::register(&mut c),
            gallery_faces: c.one("visage_gallery_faces", "Enrolled faces."),
            unknown_faces: c.one("visage_unknown_faces", "Unknown faces that are kept."),
            unknown_faces_total: c.by(
                &["outcome"],
                "visage_unknown_faces_total",
                "Unknown faces that came or went: kept, lost (not written), expired, evicted, enrolled.",
            ),
            enrolments: c.by(&["outcome"], "visage_enrolments_total", "Enrolments by outcome."),
            inference_wait: c.one("visage_inference_wait_seconds", "How long a request waited for a worker."),
            inference_batch: c.one("visage_inference_batch_size", "Requests that ran together."),
            inference_abandoned: c.one(
                "visage_inference_abandoned_total",
                "Requests dropped because nobody waited for the answer any more.",
            ),
            provider: c.by(&["provider"], "visage_inference_provider", "1 for the execution provider that runs the networks."),
            fallback: c.one("visage_inference_fallback", "1 when the networks run on the CPU although something faster was tried."),
            store_seconds: c.by(&["operation"], "visage_store_seconds", "Time in the store, queue included, by operation: read, write."),
            store_failures: c.by(&["operation"], "visage_store_failures_total", "Operations of the store that failed."),
            events_waiting: c.one("visage_events_waiting", "Events that wait for the data folder to be writable."),
            events_lost: c.one("visage_events_lost_total", "Events that could not be written and were not kept."),
            events_fenced: c.one(
                "visage_events_fenced_total",
                "Events of cameras that another worker has, which this one did not tell.",
            ),
            workers: c.one("visage_cluster_workers", "Workers of the cluster that are alive, as this node sees it."),
            owned: c.one("visage_cluster_cameras", "Cameras of the cluster that this worker runs."),
            unwatched: c.one(
                "visage_cluster_cameras_unwatched",
                "Cameras that are switched on and that no living worker has, as this gateway sees it.",
            ),
            pictures_lost: c.one(
                "visage_event_pictures_lost_total",
                "Pictures of waiting events that were let go, because too many waited.",
            ),
            log_position: c.one("visage_event_log_position", "Position of the newest event; it only grows."),
            subscribers: c.one("visage_event_subscribers", "Streams of events that are open."),
            disk_free: c.one("visage_data_folder_free_bytes", "Space that is left where the data folder is."),
            disk_size: c.one("visage_data_folder_size_bytes", "Size of the disk where the data folder is."),
            requests: c.by(&["method", "code"], "visage_requests_total", "gRPC requests answered, by method and status code."),
            request_seconds: c.by(&["method"], "visage_request_seconds", "gRPC request to the begin of its answer."),
            refused: c.by(
                &["reason"],
                "visage_requests_refused_total",
                "Requests refused: token (none that counts), role (too low), scope (not for some cameras only); rate, requests, streams: limits of a client.",
            ),
            connections_refused: c.by(
                &["listener", "reason"],
                "visage_connections_refused_total",
                "Connections refused, since there were too many in total or from one address.",
            ),
            audit_records: c.one("visage_audit_records_total", "Records of the audit log that are on the disk."),
            audit_lost: c.one("visage_audit_lost_total", "Records of the audit log that could not be written."),
            audit_failing: c.one("visage_audit_failing", "1 while the audit log can't be written."),
            ready: c.by(&["check"], "visage_ready", "1 where a check of readiness passes, 0 where it fails."),
            lag: c.one("visage_runtime_lag_seconds", "How late the async runtime ran a task that was due each second."),
            certificate_expiry: c.by(
                &["certificate"],
                "visage_tls_certificate_expiry_timestamp_seconds",
                "When the certificate in use ends, seconds since 1970.",
            ),
            spans_dropped: c.one("visage_trace_spans_dropped_total", "Spans that could not be given to the collector of traces."),
            catalogue: Catalogue::default(),
        };
        begin(&metrics.enrolments, &["enrolled", "refused"]);
        begin(&metrics.unknown_faces_total, &["kept", "lost", "expired", "evicted", "enrolled"]);
        begin(&metrics.store_failures, &["read", "write"]);
        begin(&metrics.refused, &["token", "role"]);
        Process::register(&mut c);
        Self { catalogue: c, ..metrics }
    }

    /// Drops every series of a camera.
    pub(super) fn forget_camera(&self, camera: &str) {
        self.catalogue.by_camera.iter().for_each(|series| series.forget(camera));
    }
}
