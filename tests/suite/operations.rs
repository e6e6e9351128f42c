//! What an operator's machinery asks a server: is it alive, is it ready, what does it count.

use std::{collections::BTreeSet, path::Path, time::Duration};

use tokio::{process::Command, time::Instant};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::support::{PATIENCE, Server, skipped};

pub async fn get(addr: std::net::SocketAddr, path: &'static str) -> (u16, String) {
    let ask = move || {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut answer = agent.get(format!("http://{addr}{path}")).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().with_config().limit(1 << 30).read_to_string().unwrap())
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// Asks until the answer is as wanted.
pub async fn until(addr: std::net::SocketAddr, path: &'static str, wanted: impl Fn(u16, &str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, text) = get(addr, path).await;
        if wanted(status, &text) {
            return text;
        }
        assert!(Instant::now() < deadline, "{path} went on to answer {status}: {text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let http = server.http;
    let health = get(http, "/healthz").await;
    let ready = get(http, "/readyz").await;
    assert_eq!((health, ready), ((200, "alive\n".into()), (200, "ready\n".into())));
    let every_check = "ready\nmodels: ok\nstore: ok\ngallery: ok\ncameras: off\n";
    assert_eq!(get(http, "/readyz?verbose").await, (200, every_check.into()));
    assert_eq!(get(http, "/nothing").await.0, 404);
    let (_, metrics) = get(http, "/metrics").await;
    for wanted in [
        "visage_gallery_faces 1",
        "visage_enrolments_total{outcome=\"enrolled\"} 1",
        "visage_inference_provider{provider=\"cpu\"} 1",
        "visage_inference_wait_seconds_count",
        "visage_inference_batch_size_bucket{le=\"1\"}",
        "visage_requests_total{method=\"visage.v1.PersonService/CreatePerson\",code=\"OK\"} 1",
        "visage_store_seconds_count{operation=\"write\"}",
        "visage_ready{check=\"store\"} 1",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(wanted), "{wanted} is not in:\n{metrics}");
    }
    assert!(!metrics.contains("obama"), "people are no labels");
    server.stop().await;
}

/// A disk that takes nothing more, as this process can play it without being root: no file may grow or be written (RLIMIT_FSIZE). The
/// signal that would end the process is ignored, as it is where a disk is really full.
async fn allow_writes(pid: u32, allow: bool) {
    let limit = if allow { "--fsize=unlimited:" } else { "--fsize=0:" };
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), limit]).status().await.unwrap();
    assert!(status.success(), "prlimit ended with {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_write_makes_the_server_unready_until_it_can() {
    if !Path::new("/usr/bin/prlimit").exists() {
        skipped("there is no prlimit here (util-linux), so no disk can be played full");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_in_shell(dir.path(), "trap '' XFSZ; exec").await;
    let http = server.http;
    let mut health = HealthClient::new(server.channel().await);
    let status = async |health: &mut HealthClient<_>, service: &str| {
        let request = HealthCheckRequest { service: service.into() };
        health.check(request).await.unwrap().into_inner().status()
    };
    let people = HealthCheckRequest { service: "visage.v1.PersonService".into() };
    let mut watched = health.watch(people).await.unwrap().into_inner();
    let mut next = async || watched.message().await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::Serving);
    assert_eq!(get(http, "/readyz").await.0, 200);

    allow_writes(server.pid(), false).await;
    let began = Instant::now();
    let text = until(http, "/readyz", |status, _| status == 503).await;
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    assert!(text.starts_with("not ready\nstore: failed: a write failed: "), "{text}");
    assert!(!text.contains("models"), "only faults are told: {text}");
    assert_eq!(next().await, ServingStatus::NotServing);
    for (service, wanted) in [
        ("", ServingStatus::NotServing),
        ("visage.v1.EventService", ServingStatus::NotServing),
        ("visage.v1.CameraService", ServingStatus::NotServing),
        ("visage.v1.RecognitionService", ServingStatus::Serving),
        ("visage.v1.ServerService", ServingStatus::Serving),
    ] {
        assert_eq!(status(&mut health, service).await, wanted, "{service:?}");
        // The command tells the same, to scripts by its exit code.
        let said = server.cli(&["health", service, "--json"]).output().await.unwrap();
        let code = if wanted == ServingStatus::Serving { 0 } else { 4 };
        let line = format!("{{\"service\":\"{service}\",\"status\":\"{}\"}}\n", wanted.as_str_name());
        assert_eq!((said.status.code(), String::from_utf8_lossy(&said.stdout).as_ref()), (Some(code), &*line));
    }
    let unknown = server.cli(&["health", "visage.v1.DoorService"]).output().await.unwrap();
    assert_eq!(unknown.status.code(), Some(2), "{}", String::from_utf8_lossy(&unknown.stderr));
    let (_, metrics) = get(http, "/metrics").await;
    assert!(metrics.contains("visage_ready{check=\"store\"} 0"), "{metrics}");
    let failed = metrics.lines().find_map(|l| l.strip_prefix("visage_store_failures_total{operation=\"write\"} "));
    assert!(failed.unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(get(http, "/healthz").await.0, 200, "it is alive all the same");

    allow_writes(server.pid(), true).await;
    until(http, "/readyz", |status, _| status == 200).await;
    assert_eq!(next().await, ServingStatus::Serving);
    assert_eq!(status(&mut health, "").await, ServingStatus::Serving);
    assert!(server.cli(&["health"]).output().await.unwrap().status.success());
    server.add_person("anna", "Anna").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_quorum_too_few_cameras_make_the_server_unready() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &[("VISAGE_SERVER__READY_CAMERAS", "0.5")]).await;
    let http = server.http;
    assert_eq!(get(http, "/readyz").await.0, 200, "half of no camera is none");
    server.add_camera("gone", "rtsp://127.0.0.1:1/gone").await;
    let text = until(http, "/readyz", |status, _| status == 503).await;
    assert!(text.contains("cameras: failed: 0 of 1 cameras stream, 1 are needed"), "{text}");
    until(http, "/metrics", |_, text| text.contains("visage_camera_up{camera=\"gone\"} 0")).await;
    let request = visage::proto::v1::DeleteCameraRequest { name: "cameras/gone".into() };
    server.cameras().await.delete_camera(request).await.unwrap();
    until(http, "/readyz", |status, _| status == 200).await;
    let (_, metrics) = get(http, "/metrics").await;
    assert!(!metrics.contains("camera=\"gone\""), "a deleted camera left series:\n{metrics}");
    server.stop().await;
}

/// The rows of a table in the docs that begin with a metric: name, kind, labels.
fn documented() -> BTreeSet<(String, String, Vec<String>)> {
    let text = include_str!("../../docs/operations.md");
    let rows = text.lines().filter(|l| l.starts_with("| `visage_") || l.starts_with("| `process_"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let name = cells.next().unwrap().trim_matches('`').to_owned();
        let kind = cells.next().unwrap().to_owned();
        let labels = cells.next().unwrap().split(", ").filter(|l| *l != "—");
        (name, kind, labels.map(|l| l.trim_matches('`').to_owned()).collect())
    })
    .collect()
}

#[test]
fn the_list_of_metrics_in_the_docs_is_the_list_of_metrics() {
    let documented = documented();
    let told: BTreeSet<_> = visage::telemetry::catalogue()
        .iter()
        .map(|m| (m.name.to_owned(), m.kind.to_owned(), m.labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>()))
        .collect();
    let missing: Vec<_> = told.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/operations.md lacks {missing:#?}");
    let gone: Vec<_> = documented.difference(&told).collect();
    assert!(gone.is_empty(), "docs/operations.md lists what there is not: {gone:#?}");
    for metric in visage::telemetry::catalogue() {
        let row = format!("| {} |", metric.help);
        assert!(include_str!("../../docs/operations.md").contains(&row), "docs/operations.md lacks the words{row}");
        assert!(!metric.labels.iter().any(|l| l.contains("person") || l.contains("name")), "{metric:?}");
    }
}
