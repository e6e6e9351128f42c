//! A cluster of real processes on a real NATS server, killed and stopped at random: cameras move, nothing is lost, nothing comes twice.
//! `make test-cluster` runs it for long.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    process::Command,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic::Code;
use visage::{
    proto::v1::{
        Camera, CameraState, CaptureSnapshotRequest, CreateCameraRequest, DeleteCameraRequest, Event, EventKind,
        GetCameraRequest, ListCamerasRequest, StreamEventsRequest, camera_service_client::CameraServiceClient,
        event_service_client::EventServiceClient, stream_events_request::Start, stream_events_response::Message,
    },
    simulator::{SimCamera, Simulator, SimulatorSettings},
};

use crate::{
    nats::Nats,
    secured::{Secured, with},
    support::{PATIENCE, Server, crowd, visage},
};

/// Kills where `VISAGE_CLUSTER_TEST_KILLS` says nothing.
const KILLS: usize = 3;
const WORKERS: usize = 2;
/// Cameras, each with somebody new every second.
const CAMERAS: usize = 4;
/// The lease of the settings' defaults.
const LEASE: Duration = Duration::from_secs(5);
/// Within which a camera of a dead worker runs elsewhere.
const PROMISED: f64 = 10.0;
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// One event as a subscriber received it, and when.
struct Heard {
    event: Event,
    at: Instant,
}

#[derive(Default)]
struct Received {
    heard: BTreeMap<u64, Heard>,
    token: Option<String>,
    doubled: u64,
    passed_over: u64,
}

impl Received {
    fn take(&mut self, event: Event, token: String) {
        let next = self.heard.last_key_value().map_or(1, |(last, _)| last + 1);
        self.passed_over += event.position.saturating_sub(next);
        let (position, heard) = (event.position, Heard { event, at: Instant::now() });
        self.doubled += u64::from(self.heard.insert(position, heard).is_some());
        self.token = Some(token);
    }

    /// Cameras that stream, as the events tell it.
    fn streaming(&self) -> usize {
        let states = self.heard.values().filter(|heard| !heard.event.camera_state.is_empty());
        let states: BTreeMap<&str, &str> =
            states.map(|heard| (heard.event.camera.as_str(), heard.event.camera_state.as_str())).collect();
        states.values().filter(|state| **state == "STREAMING").count()
    }

    /// The worker that took each camera over last.
    fn owners(&self) -> BTreeMap<String, String> {
        let taken = self.heard.values().filter_map(|heard| Some((heard.event.camera.clone(), taken(&heard.event)?)));
        taken.collect()
    }
}

/// The worker that takes the camera over with this event.
fn taken(event: &Event) -> Option<String> {
    let rest = event.reason.strip_prefix("worker ")?;
    rest.split_once(" runs this camera").map(|(worker, _)| worker.to_owned())
}

fn subscribe(server: &Server, received: &Arc<Mutex<Received>>) -> JoinHandle<()> {
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

struct Cluster {
    nats: Vec<Nats>,
    dir: Logs,
    sim: Simulator,
    nodes: usize,
}

impl Cluster {
    async fn start() -> Self {
        Self::over(1).await
    }

    /// Over so many NATS servers, each of which keeps a copy of everything.
    async fn over(servers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let nats = Nats::start(&dir.path().join("nats"), servers).await;
        let folder = crowd(dir.path());
        let cameras = (0..CAMERAS)
            .map(|i| {
                let text = format!("c{i}={},codec=mjpeg,size=640x360,fps=8,period=1s", folder.display());
                SimCamera::parse(&text).unwrap()
            })
            .collect();
        let sim = Simulator::start(SimulatorSettings { port: 0, cameras, ..Default::default() }).unwrap();
        Self { nats, dir: Logs(dir), sim, nodes: 0 }
    }

    /// The setting that names them.
    fn servers(&self) -> String {
        let urls: Vec<String> = self.nats.iter().map(Nats::url).collect();
        serde_json::to_string(&urls).unwrap()
    }

    /// A process of a role. Its folder is its own, and empty: replicas may be thrown away.
    async fn node(&mut self, name: &str, role: &str) -> Server {
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
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < end, "not within {} s: {what}", PATIENCE.as_secs());
        sleep(Duration::from_millis(100)).await;
    }
}

async fn streaming(server: &Server) -> usize {
    let request = ListCamerasRequest { page_size: 100, ..Default::default() };
    let Ok(list) = server.cameras().await.list_cameras(request).await else { return 0 };
    let cameras = list.into_inner().cameras;
    cameras.iter().filter(|c| c.status.as_ref().is_some_and(|s| s.state() == CameraState::Streaming)).count()
}

async fn signal(server: &Server, name: &str) {
    let done = Command::new("kill").args([name, &server.pid().to_string()]).status().await.unwrap();
    assert!(done.success());
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_gateways_that_are_killed_lose_and_double_nothing() {
    let (kills, workers) = (number("VISAGE_CLUSTER_TEST_KILLS", KILLS), number("VISAGE_CLUSTER_TEST_WORKERS", WORKERS));
    let mut random = fastrand::Rng::with_seed(number("VISAGE_CLUSTER_TEST_SEED", 1) as u64);
    let mut cluster = Cluster::start().await;
    let mut running: BTreeMap<String, Server> = BTreeMap::new();
    let mut gateway = cluster.node("gateway-0", "api").await;
    for i in 0..workers {
        let name = format!("worker-{i}");
        running.insert(name.clone(), cluster.node(&name, "ingest").await);
    }
    // Registered and enrolled at the gateway, run and recognised by workers.
    for i in 0..CAMERAS {
        gateway.add_camera(&format!("c{i}"), &cluster.sim.url(&format!("c{i}"))).await;
    }
    gateway.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let received = Arc::<Mutex<Received>>::default();
    let mut subscriber = subscribe(&gateway, &received);
    until("every camera streams", async || streaming(&gateway).await == CAMERAS).await;
    until("somebody is recognised", async || {
        let received = received.lock().unwrap();
        received.heard.values().any(|h| h.event.kind() == EventKind::Recognized)
    })
    .await;

    let (mut failovers, mut gateways) = (Vec::new(), 0);
    for kill in 0..kills {
        sleep(Duration::from_millis(random.u64(500..3000))).await;
        if kill % 3 == 1 {
            // The subscriber goes on at another gateway.
            gateways += 1;
            let next = cluster.node(&format!("gateway-{gateways}"), "api").await;
            std::mem::replace(&mut gateway, next).kill().await;
            subscriber.await.unwrap();
            subscriber = subscribe(&gateway, &received);
            continue;
        }
        let owners = received.lock().unwrap().owners();
        let with_cameras: Vec<&String> = running.keys().filter(|name| owners.values().any(|o| o == *name)).collect();
        let name = with_cameras[random.usize(..with_cameras.len())].clone();
        let its: BTreeSet<String> =
            owners.iter().filter(|(_, owner)| **owner == name).map(|(c, _)| c.clone()).collect();
        let worker = running.remove(&name).unwrap();
        let (died, stopped) = (Instant::now(), kill % 3 == 2);
        if stopped {
            signal(&worker, "-STOP").await;
        }
        let worker = if stopped {
            Some(worker)
        } else {
            worker.kill().await;
            None
        };
        // Until frames of each of its cameras arrive at another worker.
        let mut found: BTreeMap<String, f64> = BTreeMap::new();
        until("the dead worker's cameras stream elsewhere", async || {
            let received = received.lock().unwrap();
            let mut taken_by = BTreeMap::new();
            for heard in received.heard.values().filter(|h| h.at > died) {
                let camera = &heard.event.camera;
                if let Some(worker) = taken(&heard.event).filter(|worker| *worker != name) {
                    taken_by.insert(camera.clone(), worker);
                } else if taken_by.contains_key(camera) && its.contains(camera) {
                    found.entry(camera.clone()).or_insert((heard.at - died).as_secs_f64());
                }
            }
            found.len() == its.len()
        })
        .await;
        failovers.extend(found.into_values());
        match worker {
            // It wakes up and believes that nothing happened.
            Some(worker) => {
                sleep(LEASE).await;
                signal(&worker, "-CONT").await;
                sleep(Duration::from_secs(3)).await;
                running.insert(name, worker);
            }
            None => drop(running.insert(name.clone(), cluster.node(&name, "ingest").await)),
        }
    }

    // One that ends in order hands over: its cameras are never without a worker that tells their events.
    until("every camera streams", async || streaming(&gateway).await == CAMERAS).await;
    let owners = received.lock().unwrap().owners();
    let leaver = running.keys().find(|name| owners.values().any(|owner| owner == *name)).unwrap().clone();
    let leaves = Instant::now();
    running.remove(&leaver).unwrap().stop().await;
    until("the cameras of the one that left stream", async || {
        let received = received.lock().unwrap();
        received.owners().values().all(|owner| *owner != leaver) && received.streaming() == CAMERAS
    })
    .await;
    let left: Vec<String> = {
        let received = received.lock().unwrap();
        let mut left = Vec::new();
        for heard in received.heard.values().filter(|h| h.event.kind() == EventKind::Left) {
            left.push(heard.event.track.clone());
        }
        left
    };
    assert_eq!(left.len(), left.iter().collect::<BTreeSet<_>>().len(), "a track left twice");

    for i in 0..CAMERAS {
        let request = DeleteCameraRequest { name: format!("cameras/c{i}") };
        gateway.cameras().await.delete_camera(request).await.unwrap();
    }
    // As a node tells it that has seen nothing of all this.
    let fresh = cluster.node("fresh", "api").await;
    let log = fresh.log().await;
    let latest = log.last_key_value().map_or(0, |(position, _)| *position);
    until("the subscriber has caught up", async || {
        received.lock().unwrap().heard.last_key_value().is_some_and(|(position, _)| *position >= latest)
    })
    .await;
    let said = cluster.nats[0].said().await;
    for server in running.into_values().chain([gateway, fresh]) {
        server.stop().await;
    }
    subscriber.await.unwrap();
    cluster.sim.stop();

    // The fence: claims only grow, and each is one node's.
    for (camera, stretches) in &said {
        assert!(stretches.windows(2).all(|w| w[0].0 < w[1].0), "{camera} was told by two at once: {stretches:?}");
    }
    let received = received.lock().unwrap();
    let holes = (1..=latest).filter(|position| !log.contains_key(position)).count() as u64;
    let name = |position: &u64| received.heard.get(position).map(|heard| &heard.event.name);
    let differ = log.iter().filter(|(position, event)| name(position) != Some(event)).count() as u64;
    let names: BTreeSet<&String> = log.values().collect();
    let doubled = received.doubled + (log.len() - names.len()) as u64;
    failovers.sort_by(f64::total_cmp);
    let (p50, max) = (failovers[failovers.len() / 2], failovers[failovers.len() - 1]);
    let unwatched = unwatched(&received, leaves);
    let report = serde_json::json!({
        "workers": workers, "kills": kills, "failover_s": {"p50": p50, "max": max}, "handover_gap_s": unwatched, "events": log.len(),
        "lost": holes + differ + received.passed_over, "doubled": doubled,
    });
    if let Ok(path) = std::env::var("VISAGE_CLUSTER_TEST_REPORT") {
        std::fs::write(path, format!("{report}\n")).unwrap();
        assert!(max < PROMISED && unwatched == 0.0, "{report}");
    }
    assert_eq!((holes, differ, received.passed_over, doubled), (0, 0, 0, 0), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_shows_frames_of_workers_and_knows_tokens_of_the_cluster() {
    let mut cluster = Cluster::start().await;
    let worker = cluster.node("worker", "ingest").await;
    let servers = cluster.servers();
    let cluster_is = |node: &str| {
        [
            ("VISAGE_STORE", "cluster".to_owned()),
            ("VISAGE_SERVER__ROLE", "api".into()),
            ("VISAGE_CLUSTER__SERVERS", servers.clone()),
            ("VISAGE_CLUSTER__NODE", node.into()),
            ("VISAGE_STORAGE__KEY", KEY.into()),
            ("VISAGE_AUTH__REQUIRED", "true".into()),
        ]
    };
    let dir = tempfile::tempdir().unwrap();
    let gateway = Secured::start(dir.path(), "127.0.0.1", &cluster_is("gateway")).await;
    // Beside the cluster, on any machine: nothing of the gateway's folder is used.
    let token = async |args: &[&str]| {
        let mut command = visage();
        command.arg("token").args(args).arg("--data-dir").arg(dir.path().join("elsewhere")).envs(cluster_is("admin"));
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let operator = token(&["create", "me", "--role", "operator"]).await;
    assert!(token(&["list"]).await.contains("operator"));
    let channel = gateway.plain().await;
    let mut cameras = CameraServiceClient::new(with(&channel, &operator));
    let camera = Camera { url: cluster.sim.url("c0"), ..Default::default() };
    let create = CreateCameraRequest { camera_id: "c0".into(), camera: Some(camera), validate_only: false };
    until("the token counts at the gateway", async || cameras.create_camera(create.clone()).await.is_ok()).await;
    let ask = |annotate| CaptureSnapshotRequest { name: "cameras/c0".into(), annotate };
    until("the gateway has a frame", async || cameras.capture_snapshot(ask(false)).await.is_ok()).await;
    let own = worker.cameras().await.capture_snapshot(ask(false)).await.unwrap().into_inner();
    let shown = cameras.capture_snapshot(ask(true)).await.unwrap().into_inner();
    let size = |jpeg: &[u8]| image::load_from_memory(jpeg).map(|picture| (picture.width(), picture.height())).unwrap();
    assert_eq!((size(&own.jpeg), size(&shown.jpeg)), ((640, 360), (640, 360)));
    until("the gateway tells of the faces that the worker found", async || {
        let get = GetCameraRequest { name: "cameras/c0".into() };
        cameras.get_camera(get).await.unwrap().into_inner().status.unwrap().faces_found > 0
    })
    .await;
    // A worker that is gone is told of, and asked no more.
    worker.kill().await;
    until("the camera has no worker", async || {
        let get = GetCameraRequest { name: "cameras/c0".into() };
        let status = cameras.get_camera(get).await.unwrap().into_inner().status.unwrap();
        status.reason_code == "no_worker"
    })
    .await;
    let metrics = async || {
        let (url, held) = (format!("http://{}/metrics", gateway.http), operator.clone());
        let page = move || {
            ureq::get(url).header("authorization", format!("Bearer {held}")).call()?.body_mut().read_to_string()
        };
        tokio::task::spawn_blocking(page).await.unwrap().unwrap()
    };
    until("the alert's metric tells", async || {
        let page = metrics().await;
        page.contains("visage_cluster_cameras_unwatched 1.0\n") && page.contains("visage_cluster_workers 0.0\n")
    })
    .await;
    let refused = cameras.capture_snapshot(ask(false)).await.unwrap_err();
    assert!(refused.message().contains("has no frame to show"), "{refused:?}");
    token(&["revoke", "me"]).await;
    until("the token counts no more", async || {
        cameras
            .get_camera(GetCameraRequest { name: "cameras/c0".into() })
            .await
            .is_err_and(|s| s.code() == Code::Unauthenticated)
    })
    .await;
    gateway.stop().await;
    cluster.sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn cameras_go_on_while_nats_is_away_and_everything_catches_up() {
    let mut cluster = Cluster::start().await;
    // One process that does everything, and a worker.
    let server = cluster.node("first", "all").await;
    let worker = cluster.node("second", "ingest").await;
    for i in 0..CAMERAS {
        server.add_camera(&format!("c{i}"), &cluster.sim.url(&format!("c{i}"))).await;
    }
    let received = Arc::<Mutex<Received>>::default();
    let subscriber = subscribe(&server, &received);
    let count = || received.lock().unwrap().heard.len();
    until("events come", async || streaming(&server).await == CAMERAS && count() > 12).await;
    cluster.nats[0].kill().await;
    until("readiness tells", async || !ready(&server).await).await;
    let (before, away) = (count(), Instant::now());
    sleep(LEASE + Duration::from_secs(3)).await;
    let refused = server.cameras().await.delete_camera(DeleteCameraRequest { name: "cameras/c0".into() }).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    cluster.nats[0].start_again().await;
    until("what waited is told", async || count() > before + 4 && ready(&server).await).await;
    // Long enough for anybody to claim what is not theirs.
    sleep(LEASE * 2).await;
    {
        let received = received.lock().unwrap();
        let created = received.heard.values().filter(|h| h.at > away).filter_map(|h| h.event.create_time);
        let waited = created.filter(|t| seconds(t) < seconds(&now()) - 3.0).count();
        assert!(waited > 0, "nothing was decided while NATS was away");
        assert_eq!(moved(&received, away), 0, "cameras were taken from workers that were cut off as well");
        assert_eq!((received.passed_over, received.doubled), (0, 0));
    }
    worker.stop().await;
    server.stop().await;
    subscriber.await.unwrap();
    cluster.sim.stop();
}

/// The longest time from a claim since then until frames arrived where it was claimed; nothing where they did already.
fn unwatched(received: &Received, since: Instant) -> f64 {
    let events: Vec<&Event> = received.heard.values().filter(|h| h.at > since).map(|h| &h.event).collect();
    let mut longest = 0.0_f64;
    for (i, claim) in events.iter().enumerate().filter(|(_, event)| taken(event).is_some()) {
        let frames = events[i..].iter().find(|e| e.camera == claim.camera && e.camera_state == "STREAMING");
        let at = |event: &Event| seconds(&event.create_time.unwrap());
        longest = longest.max(frames.map_or(f64::INFINITY, |frames| at(frames) - at(claim)));
    }
    longest
}

/// Cameras that were taken over since then.
fn moved(received: &Received, since: Instant) -> usize {
    received.heard.values().filter(|h| h.at > since && taken(&h.event).is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_nats_servers_may_die() {
    let mut cluster = Cluster::over(3).await;
    let gateway = cluster.node("gateway", "api").await;
    let workers = [cluster.node("first", "ingest").await, cluster.node("second", "ingest").await];
    for i in 0..CAMERAS {
        gateway.add_camera(&format!("c{i}"), &cluster.sim.url(&format!("c{i}"))).await;
    }
    let received = Arc::<Mutex<Received>>::default();
    let subscriber = subscribe(&gateway, &received);
    let count = || received.lock().unwrap().heard.len();
    until("events come", async || streaming(&gateway).await == CAMERAS && count() > 12).await;
    let settled = Instant::now();
    for dies in 0..3 {
        cluster.nats[dies].kill().await;
        let before = count();
        until("events go on", async || count() > before + 8).await;
        // What is written is kept by the two that are left.
        let other = Camera { url: cluster.sim.url("c0"), enabled: Some(false), ..Default::default() };
        let (id, mut cameras) = (format!("other-{dies}"), gateway.cameras().await);
        let create = CreateCameraRequest { camera_id: id, camera: Some(other), validate_only: false };
        until("a camera is registered", async || cameras.create_camera(create.clone()).await.is_ok()).await;
        cluster.nats[dies].start_again().await;
        until("all copies are there again", async || cluster.nats[dies].copies_are_current().await).await;
    }
    // Two of three: nothing can be written, and nothing is lost.
    cluster.nats[0].kill().await;
    cluster.nats[1].kill().await;
    until("readiness tells", async || !ready(&gateway).await).await;
    let before = count();
    cluster.nats[0].start_again().await;
    cluster.nats[1].start_again().await;
    until("what waited is told", async || count() > before + 8 && ready(&gateway).await).await;
    assert_eq!(moved(&received.lock().unwrap(), settled), 0, "cameras moved although every worker lived");
    for worker in workers {
        worker.stop().await;
    }
    gateway.stop().await;
    subscriber.await.unwrap();
    cluster.sim.stop();
    let received = received.lock().unwrap();
    assert_eq!((received.passed_over, received.doubled), (0, 0));
}

async fn ready(server: &Server) -> bool {
    let url = format!("http://{}/readyz", server.http);
    tokio::task::spawn_blocking(move || ureq::get(url).call().is_ok()).await.unwrap()
}

fn now() -> prost_types::Timestamp {
    std::time::SystemTime::now().into()
}

fn seconds(time: &prost_types::Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos) * 1e-9
}
