//! What an operator's machinery asks a server: is it alive, is it ready, what does it count.

use crate::support::Server;

fn get(addr: std::net::SocketAddr, path: &str) -> (u16, String) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut answer = agent.get(format!("http://{addr}{path}")).call().unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let http = server.http;
    let answers =
        tokio::task::spawn_blocking(move || ["/healthz", "/readyz", "/metrics", "/nothing"].map(|p| get(http, p)));
    let [health, ready, metrics, nothing] = answers.await.unwrap();
    assert_eq!((health.0, ready.0, metrics.0, nothing.0), (200, 200, 200, 404));
    for wanted in [
        "visage_gallery_faces 1",
        "visage_enrolments_total{outcome=\"enrolled\"} 1",
        "visage_inference_provider{provider=\"cpu\"} 1",
        "visage_inference_wait_seconds_count",
        "visage_inference_batch_size_bucket{le=\"1\"}",
    ] {
        assert!(metrics.1.contains(wanted), "{wanted} is not in:\n{}", metrics.1);
    }
    assert!(!metrics.1.contains("obama"), "people are no labels");
    server.stop().await;
}
