//! A stream under supervision, as the server watches it, without the rest of the server: its states by the clock, its frames counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use visage::{
    camera::{
        CameraSpec, CameraState, CameraStatus, FrameSlot,
        source::SourceOpener,
        spec::{Decoding, SamplingPolicy, Transport, parse_url},
        supervisor::{Outlet, SupervisorSettings, supervise},
    },
    time,
};

/// The longest that a fault may go unnoticed, or a camera stay away, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Limits that make faults show quickly.
pub fn hasty() -> SupervisorSettings {
    SupervisorSettings {
        connect_timeout_s: 4,
        stall_after_s: 1,
        stall_restart_s: 1,
        retry_min_ms: 200,
        retry_max_s: 1,
        refused_retry_s: 3,
    }
}

/// A camera as anybody would register it.
pub fn spec(id: &str, url: &str, transport: Transport) -> CameraSpec {
    let (url, credentials) = parse_url(url).unwrap();
    CameraSpec {
        id: id.parse().unwrap(),
        display_name: String::new(),
        url,
        substream: None,
        credentials,
        transport,
        tls: Default::default(),
        labels: BTreeMap::new(),
        enabled: true,
        sampling: SamplingPolicy { idle_fps: 30.0, active_fps: 30.0, decoding: Decoding::All, ..Default::default() },
        min_face_px: 0,
        regions: Vec::new(),
        watchlists: Vec::new(),
        threshold_override: None,
        revision: 1,
        created: time::now(),
    }
}

/// A supervised stream.
pub struct Watched {
    pub status: watch::Receiver<CameraStatus>,
    frames: Arc<AtomicU64>,
    /// When the last frame came, and the longest time between two.
    pace: Arc<Mutex<(Instant, Duration)>>,
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

impl Watched {
    pub fn start(opener: &Arc<dyn SourceOpener>, spec: CameraSpec) -> Self {
        let (tx, status) = watch::channel(CameraStatus::new(CameraState::Connecting, time::now()));
        let (slot, stop, frames) =
            (Arc::new(FrameSlot::default()), CancellationToken::new(), Arc::<AtomicU64>::default());
        let pace = Arc::new(Mutex::new((Instant::now(), Duration::ZERO)));
        let (counted, paced, from, ends) = (frames.clone(), pace.clone(), slot.clone(), stop.clone());
        let take = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = ends.cancelled() => return,
                    _ = from.take() => {}
                }
                counted.fetch_add(1, Ordering::Relaxed);
                let mut pace = paced.lock().unwrap();
                pace.1 = pace.1.max(pace.0.elapsed());
                pace.0 = Instant::now();
            }
        });
        let outlet = Outlet { status: tx, slot, attention: Arc::default(), on_demand: false };
        let run = tokio::spawn(supervise(spec, opener.clone(), outlet, hasty(), stop.clone()));
        Self { status, frames, pace, stop, tasks: [take, run] }
    }

    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// The longest time between two frames since it was asked last.
    pub fn longest_gap(&self) -> Duration {
        let mut pace = self.pace.lock().unwrap();
        let longest = pace.1.max(pace.0.elapsed());
        *pace = (Instant::now(), Duration::ZERO);
        longest
    }

    /// Waits for a status; it, and how long that took.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&CameraStatus) -> bool) -> (CameraStatus, Duration) {
        let began = Instant::now();
        let found = timeout(PATIENCE, self.status.wait_for(|status| wanted(status))).await;
        let found = found.map(|status| status.unwrap().clone());
        match found {
            Ok(status) => (status, began.elapsed()),
            Err(_) => panic!("{what} never came; last seen: {:?}", self.status.borrow().clone()),
        }
    }

    /// Waits until it streams and frames have come.
    pub async fn streams(&mut self, what: &str) -> Duration {
        let began = Instant::now();
        self.until(&format!("{what}: a picture"), |s| s.state == CameraState::Streaming).await;
        let before = self.frames();
        while self.frames() < before + 2 {
            assert!(began.elapsed() < PATIENCE, "{what}: no frames; {:?}", self.status.borrow().clone());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }

    /// Ends it; how long that took.
    pub async fn end(self) -> Duration {
        let began = Instant::now();
        self.stop.cancel();
        for task in self.tasks {
            timeout(PATIENCE, task).await.expect("a task of the camera did not end").unwrap();
        }
        began.elapsed()
    }
}
