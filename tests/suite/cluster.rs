//! A cluster of real processes on a real NATS server, killed and stopped at random: cameras move, nothing is lost, nothing comes twice.
//! `make test-cluster` runs it for long.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tonic::Code;
use visage::proto::v1::{
    Camera, CaptureSnapshotRequest, CreateCameraRequest, DeleteCameraRequest, Event, EventKind, GetCameraRequest,
    ListEventsRequest, camera_service_client::CameraServiceClient,
};

use crate::{
    cluster_nodes::{CAMERAS, Cluster, KEY, LEASE, Received, seconds, signal, streaming, subscribe, taken, until},
    secured::{Secured, with},
    support::{Server, visage},
};

/// Kills where `VISAGE_CLUSTER_TEST_KILLS` says nothing.
const KILLS: usize = 3;
const WORKERS: usize = 2;
/// Within which a camera of a dead worker runs elsewhere.
const PROMISED: f64 = 10.0;
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
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
    cluster.register(&gateway).await;
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
    // Who asks a worker for events is sent to a gateway.
    let elsewhere = worker.events().await.list_events(ListEventsRequest::default()).await.unwrap_err();
    assert_eq!(elsewhere.code(), Code::FailedPrecondition, "{elsewhere:?}");
    assert!(elsewhere.message().contains("ask a gateway"), "{elsewhere:?}");
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
