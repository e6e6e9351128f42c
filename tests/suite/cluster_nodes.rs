//! Processes of a cluster over real NATS servers, with simulated cameras, and a subscriber that counts.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    process::Command,
    task::JoinHandle,
    time::{Instant, sleep},
};
use visage::{
    proto::v1::{
        CameraState, Event, ListCamerasRequest, StreamEventsRequest, event_service_client::EventServiceClient,
        stream_events_request::Start, stream_events_response::Message,
    },
    simulator::Simulator,
};

use crate::{
    nats::Nats,
    support::{PATIENCE, Server, crowded_cameras, visage},
};

/// Cameras, each with somebody new every second.
pub const CAMERAS: usize = 4;
/// The lease of the settings' defaults.
pub const LEASE: Duration = Duration::from_secs(5);
pub const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// One event as a subscriber received it, and when.
pub struct Heard {
    pub event: Event,
    pub at: Instant,
}

#[derive(Default)]
pub struct Received {
    pub heard: BTreeMap<u64, Heard>,
    token: Option<String>,
    pub doubled: u64,
    pub passed_over: u64,
}

impl Received {
    pub fn take(&mut self, event: Event, token: String) {
        let next = self.heard.last_key_value().map_or(1, |(last, _)| last + 1);
        self.passed_over += event.position.saturating_sub(next);
        let (position, heard) = (event.position, Heard { event, at: Instant::now() });
        self.doubled += u64::from(self.heard.insert(position, heard).is_some());
        self.token = Some(token);
    }

    /// Cameras that stream, as the events tell it.
    pub fn streaming(&self) -> usize {
        let states = self.heard.values().filter(|heard| !heard.event.camera_state.is_empty());
        let states: BTreeMap<&str, &str> =
            states.map(|heard| (heard.event.camera.as_str(), heard.event.camera_state.as_str())).collect();
        states.values().filter(|state| **state == "STREAMING").count()
    }

    /// The worker that took each camera over last.
    pub fn owners(&self) -> BTreeMap<String, String> {
        let taken = self.heard.values().filter_map(|heard| Some((heard.event.camera.clone(), taken(&heard.event)?)));
        taken.collect()
    }
}

/// The worker that takes the camera over with this event.
pub fn taken(event: &Event) -> Option<String> {
    let rest = event.reason.strip_prefix("worker ")?;
    rest.split_once(" runs this camera").map(|(worker, _)| worker.to_owned())
}

pub fn subscribe(server: &Server, received: &Arc<Mutex<Received>>) -> JoinHandle<()> {
    let (url, received) = (format!("http://{}", server.addr), received.clone());
    tokio::spawn(async move {
        let Ok(mut client) = EventServiceClient::connect(url).await else { return };
        let token = received.lock().unwrap().token.clone();
        let start = token.map_or(Start::StartTime(prost_types::Timestamp::default()), Start::ResumeToken);
        let request = StreamEventsRequest { filter: None, start: Some(start), heartbeat_interval: None };
        let Ok(answer) = client.stream_events(request).await else { return };
        let mut stream = answer.into_inner();
        while let Ok(Some(message)) = stream.message().await {
            match message.message {
                Some(Message::Event(event)) => received.lock().unwrap().take(event, message.resume_token),
                Some(Message::Gap(gap)) => panic!("the log lost events: {gap:?}"),
                _ => {}
            }
        }
    })
}

pub struct Cluster {
    pub nats: Vec<Nats>,
    dir: Logs,
    pub sim: Simulator,
    nodes: usize,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::over(1).await
    }

    /// Over so many NATS servers, each of which keeps a copy of everything.
    pub async fn over(servers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let nats = Nats::start(&dir.path().join("nats"), servers).await;
        let sim = crowded_cameras(dir.path(), CAMERAS);
        Self { nats, dir: Logs(dir), sim, nodes: 0 }
    }

    /// The setting that names them.
    pub fn servers(&self) -> String {
        let urls: Vec<String> = self.nats.iter().map(Nats::url).collect();
        serde_json::to_string(&urls).unwrap()
    }

    /// Registers every camera at a node.
    pub async fn register(&self, node: &Server) {
        for i in 0..CAMERAS {
            node.add_camera(&format!("c{i}"), &self.sim.url(&format!("c{i}"))).await;
        }
    }

    /// A process of a role. Its folder is its own, and empty: replicas may be thrown away.
    pub async fn node(&mut self, name: &str, role: &str) -> Server {
        self.nodes += 1;
        let data: PathBuf = self.dir.0.path().join(format!("node-{}", self.nodes));
        let servers = self.servers();
        let log = std::fs::File::create(self.dir.0.path().join(format!("{name}-{}.log", self.nodes))).unwrap();
        let mut command = visage();
        command.envs([
            ("VISAGE_STORE", "cluster"),
            ("VISAGE_SERVER__ROLE", role),
            ("VISAGE_CLUSTER__SERVERS", &servers),
            ("VISAGE_CLUSTER__REPLICAS", &self.nats.len().to_string()),
            ("VISAGE_CLUSTER__NODE", name),
            ("VISAGE_STORAGE__KEY", KEY),
        ]);
        command.stderr(log);
        Server::start_as(command, &data).await
    }
}

/// A folder of logs; a test that fails shows what every process said.
struct Logs(tempfile::TempDir);

impl Drop for Logs {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in std::fs::read_dir(self.0.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|end| end == "log") {
                let said = std::fs::read_to_string(entry.path()).unwrap_or_default();
                eprintln!("{}:\n{said}", entry.file_name().display());
            }
        }
    }
}

/// Waits for something to become true.
pub async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < end, "not within {} s: {what}", PATIENCE.as_secs());
        sleep(Duration::from_millis(100)).await;
    }
}

pub async fn streaming(server: &Server) -> usize {
    let request = ListCamerasRequest { page_size: 100, ..Default::default() };
    let Ok(list) = server.cameras().await.list_cameras(request).await else { return 0 };
    let cameras = list.into_inner().cameras;
    cameras.iter().filter(|c| c.status.as_ref().is_some_and(|s| s.state() == CameraState::Streaming)).count()
}

pub async fn signal(server: &Server, name: &str) {
    let done = Command::new("kill").args([name, &server.pid().to_string()]).status().await.unwrap();
    assert!(done.success());
}

/// Cameras that were taken over since then.
pub fn moved(received: &Received, since: Instant) -> usize {
    received.heard.values().filter(|h| h.at > since && taken(&h.event).is_some()).count()
}

pub fn seconds(time: &prost_types::Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos) * 1e-9
}
