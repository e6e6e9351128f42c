//! A cluster whose NATS servers go away and come back: cameras go on, nobody takes another's, and everything catches up.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tonic::Code;
use visage::proto::v1::{Camera, CreateCameraRequest, DeleteCameraRequest};

use crate::{
    cluster_nodes::{CAMERAS, Cluster, LEASE, Received, moved, seconds, streaming, subscribe, until},
    support::Server,
};

async fn ready(server: &Server) -> bool {
    let url = format!("http://{}/readyz", server.http);
    tokio::task::spawn_blocking(move || ureq::get(url).call().is_ok()).await.unwrap()
}

fn now() -> prost_types::Timestamp {
    std::time::SystemTime::now().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn cameras_go_on_while_nats_is_away_and_everything_catches_up() {
    let mut cluster = Cluster::start().await;
    // One process that does everything, and a worker.
    let server = cluster.node("first", "all").await;
    let worker = cluster.node("second", "ingest").await;
    cluster.register(&server).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_nats_servers_may_die() {
    let mut cluster = Cluster::over(3).await;
    let gateway = cluster.node("gateway", "api").await;
    let workers = [cluster.node("first", "ingest").await, cluster.node("second", "ingest").await];
    cluster.register(&gateway).await;
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
        until("a camera is registered", async || match cameras.create_camera(create.clone()).await {
            Ok(_) => true,
            // It was, and only the answer was lost.
            Err(status) => status.code() == Code::AlreadyExists,
        })
        .await;
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
