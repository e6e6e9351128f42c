//! Liveness: off unless asked for, then on every face that is told of, and a policy at enrolment.

use serde_json::Value;
use visage::{
    proto::v1::{
        DetectFacesRequest, EventKind, GetServerInfoRequest, IdentifyFacesRequest, RefusalReason,
        server_service_client::ServerServiceClient,
    },
    simulator::{SimCamera, Simulator, SimulatorSettings},
};

use crate::support::{Server, bytes, folder_of, picture, skipped, visage};

const ON: (&str, &str) = ("VISAGE_LIVENESS__MODEL", "liveness");

/// Whether the model is here; says so when it is not.
fn is_here() -> bool {
    let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/models/liveness.onnx");
    if !model.is_file() {
        skipped("the liveness model is not here; run `visage models pull liveness`");
    }
    model.is_file()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_off_by_default_and_the_field_unset() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.add_person("barack-obama", "Barack Obama").await;
    let enrolled = server.enroll("barack-obama", bytes("obama.jpg")).await;
    assert!(enrolled.face.is_some() && enrolled.detections[0].liveness.is_none());
    let request = DetectFacesRequest { image: bytes("t1.jpg"), ..Default::default() };
    let found = server.recognition().await.detect_faces(request).await.unwrap().into_inner();
    assert!(found.faces.len() == 6 && found.faces.iter().all(|f| f.liveness.is_none()));
    let out = server.cli(&["identify", picture("obama2.jpg").to_str().unwrap()]).output().await.unwrap();
    let table = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && !table.contains("liveness"), "{table}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_face_is_scored_in_pictures_and_events() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = folder_of(dir.path(), "door", &["obama2.jpg"]);
    let camera = SimCamera::parse(&format!("door={}", folder.display())).unwrap();
    let sim = Simulator::start(SimulatorSettings { port: 0, cameras: vec![camera], ..Default::default() }).unwrap();
    let server = Server::start_with(&dir.path().join("data"), &[ON]).await;
    let info = ServerServiceClient::new(server.channel().await).get_server_info(GetServerInfoRequest {}).await.unwrap();
    let roles: Vec<String> = info.into_inner().models.into_iter().map(|m| m.role).collect();
    assert_eq!(roles, ["detector", "embedder", "liveness"]);
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;

    let request = IdentifyFacesRequest { image: bytes("t1.jpg"), ..Default::default() };
    let found = server.recognition().await.identify_faces(request).await.unwrap().into_inner();
    let scores: Vec<f32> = found.faces.iter().map(|f| f.face.as_ref().unwrap().liveness.unwrap()).collect();
    assert!(scores.len() == 6 && scores.iter().all(|s| (0.0..=1.0).contains(s)), "{scores:?}");
    assert!(scores.iter().any(|s| *s != scores[0]), "every face has the same score: {scores:?}");
    let image = picture("obama2.jpg");
    let out = server.cli(&["identify", "--json", image.to_str().unwrap()]).output().await.unwrap();
    let object: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(object["faces"][0]["liveness"].is_number(), "{object}");
    assert!(object["faces"][0]["person"].is_object(), "{object}");

    let mut feed = server.stream(None).await;
    server.add_camera("door", &sim.url("door")).await;
    let (seen, _) = feed.until(|e| e.kind() == EventKind::Left).await;
    let told: Vec<_> = seen.iter().filter(|e| e.face.is_some() && e.looks > 0).collect();
    assert!(told.iter().any(|e| e.kind() == EventKind::Recognized));
    for event in &told {
        let liveness = event.face.as_ref().unwrap().liveness;
        assert!(liveness.is_some_and(|l| (0.0..=1.0).contains(&l)), "{event:?}");
    }
    // As a user reads it later, from the log.
    let id = told[0].name.trim_start_matches("events/");
    let out = server.cli(&["events", "get", "--json", id]).output().await.unwrap();
    let object: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(object["face"]["liveness"].is_number(), "{object}");
    server.stop().await;
    sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_below_the_least_liveness_is_not_enrolled_and_still_recognised() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Nothing scores exactly 1, so everything is refused.
    let strict = [ON, ("VISAGE_ENROLLMENT__MIN_LIVENESS", "1.0")];
    let data = dir.path().join("data");
    let server = Server::start_with(&data, &[ON]).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    server.stop().await;
    let server = Server::start_with(&data, &strict).await;
    let answer = server.enroll("barack-obama", bytes("obama3.jpg")).await;
    assert_eq!(answer.refusal(), RefusalReason::NotLive, "{}", answer.message);
    assert!(answer.face.is_none() && answer.detections[0].liveness.is_some());
    assert!(answer.message.contains("enrollment.min_liveness asks for 1.00"), "{}", answer.message);
    let image = picture("obama3.jpg");
    let out = server.cli(&["enroll", "barack-obama", "--force", image.to_str().unwrap()]).output().await.unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.code() == Some(3) && text.contains("not live"), "{text}");
    let request = IdentifyFacesRequest { image: bytes("obama2.jpg"), ..Default::default() };
    let found = server.recognition().await.identify_faces(request).await.unwrap().into_inner();
    assert_eq!(
        found.faces[0].r#match.as_ref().unwrap().person,
        "people/barack-obama",
        "recognition has no such policy"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_without_a_model_and_a_model_of_another_kind_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let start = async |env: (&str, &str)| {
        let mut command = visage();
        command.args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"]);
        let out = command.arg(dir.path()).env(env.0, env.1).output().await.unwrap();
        assert!(!out.status.success());
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let text = start(("VISAGE_ENROLLMENT__MIN_LIVENESS", "0.5")).await;
    assert!(text.contains("needs a liveness model") && text.contains("visage models pull liveness"), "{text}");
    let text = start(("VISAGE_LIVENESS__MODEL", "mobilefacenet")).await;
    assert!(text.contains("no liveness model"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_pictures_and_made_attacks_are_scored_beside_each_other() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = folder_of(dir.path(), "real", &["obama.jpg", "biden.jpg"]);
    let eval = async |args: &[&str]| {
        let out =
            visage().args(["eval", "liveness", folder.to_str().unwrap(), "--json"]).args(args).output().await.unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let objects: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        (out.status.code(), objects)
    };
    let (code, objects) = eval(&[]).await;
    assert_eq!((code, objects.len()), (Some(0), 8));
    let faces = |o: &Value| o["faces"].as_u64().unwrap() + o["no_face"].as_u64().unwrap();
    assert!(objects.iter().all(|o| faces(o) == 2 && o["model"] == "liveness"), "{objects:?}");
    assert!(objects.iter().any(|o| o["median"] != objects[0]["median"]), "no attack changes the score: {objects:?}");
    std::fs::write(folder.join("broken.jpg"), "no picture").unwrap();
    let (code, objects) = eval(&["--real-only"]).await;
    assert_eq!((code, objects.len(), objects[0]["pictures"].as_str()), (Some(3), 1, Some("real")));
}
