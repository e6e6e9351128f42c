//! The client as a user runs it: processes, exit codes, JSON.

use std::path::Path;

use serde_json::Value;

use crate::support::{Server, cut, free_addr, picture, visage};

/// Lines of JSON.
fn objects(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a command that must end well; its lines of JSON.
async fn json(server: &Server, args: &[&str]) -> Vec<Value> {
    let (code, stdout, err) = output(server.cli(&[args, &["--json"]].concat())).await;
    assert_eq!(code, 0, "{args:?}: {err}");
    objects(&stdout)
}

async fn output(mut command: tokio::process::Command) -> (i32, String, String) {
    let out = command.output().await.unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_enrolled_and_a_picture_identified() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data")).await;
    let people = dir.path().join("people");
    for (person, file) in [("Barack Obama", "obama.jpg"), ("Joe Biden", "biden.jpg")] {
        std::fs::create_dir_all(people.join(person)).unwrap();
        std::fs::copy(picture(file), people.join(person).join(file)).unwrap();
    }
    std::fs::write(people.join("Joe Biden/notes.jpg"), "no picture").unwrap();
    let (code, _, err) = output(server.cli(&["enroll", "--from-dir", people.to_str().unwrap()])).await;
    assert_eq!(code, 3, "partly refused: {err}");

    let out = dir.path().join("annotated.jpg");
    let image = picture("obama2.jpg");
    let args = ["identify", image.to_str().unwrap(), "--json", "-o", out.to_str().unwrap()];
    let (code, stdout, err) = output(server.cli(&args)).await;
    assert_eq!(code, 0, "{err}");
    let value: Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    let face = &value["faces"][0];
    assert_eq!(face["person"]["id"], "barack-obama");
    assert_eq!(face["person"]["display_name"], "Barack Obama");
    assert_eq!(face["bbox"].as_array().unwrap().len(), 4);
    assert_eq!(face["landmarks"].as_array().unwrap().len(), 5);
    for key in ["score", "quality", "similarity", "margin", "threshold"] {
        assert!(face[key].is_number(), "{key} is missing in {face}");
    }
    assert!(image::open(&out).is_ok());

    let (a, b) = (picture("obama.jpg"), picture("obama2.jpg"));
    let (code, stdout, _) = output(server.cli(&["verify", a.to_str().unwrap(), b.to_str().unwrap(), "--json"])).await;
    let value: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &value["same"]), (0, &Value::Bool(true)));
    let notes = people.join("Joe Biden/notes.jpg");
    let (code, _, err) = output(server.cli(&["verify", text(&a), text(&notes)])).await;
    assert!(code == 1 && err.contains("image_b"), "which picture is wrong? {err}");

    // The annotated picture: alone on stdout, and never in place of the picture itself.
    let own = dir.path().join("own.jpg");
    std::fs::copy(&image, &own).unwrap();
    let mut to_stdout = server.cli(&["identify", text(&own), "-o", "-"]);
    let drawn = to_stdout.output().await.unwrap();
    assert!(image::load_from_memory(&drawn.stdout).is_ok() && drawn.status.success());
    assert!(String::from_utf8_lossy(&drawn.stderr).contains("Barack Obama"), "the table is lost");
    let (code, _, err) = output(server.cli(&["identify", text(&own), "-o", "-", "--json"])).await;
    assert!(code == 2 && err.contains("stdout"), "{err}");
    let same = dir.path().join("people/../own.jpg");
    let (code, _, err) = output(server.cli(&["identify", text(&own), "-o", text(&same)])).await;
    assert_eq!(code, 2, "{err}");
    assert_eq!(std::fs::read(&own).unwrap(), std::fs::read(&image).unwrap());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_that_breaks_tells_what_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let limit = [("VISAGE_LIMITS__PICTURES_PER_ENROLMENT", "2")];
    let server = Server::start_with(&dir.path().join("data"), &limit).await;
    let people = dir.path().join("people");
    for file in ["1.jpg", "2.jpg", "3.jpg"] {
        std::fs::create_dir_all(people.join("anna")).unwrap();
        std::fs::write(people.join("anna").join(file), "no picture").unwrap();
    }
    let (code, stdout, err) = output(server.cli(&["enroll", "--from-dir", text(&people), "--json"])).await;
    assert_eq!(code, 1, "{err}");
    let error: Value = serde_json::from_str(&err).unwrap();
    assert_eq!(error["error"]["code"], "RESOURCE_EXHAUSTED");
    assert_eq!(error["error"]["violations"][0]["field"], "limits.pictures_per_enrolment");
    let lines = objects(&stdout);
    assert_eq!(lines.len(), 3);
    let summary = &lines[2]["summary"];
    assert_eq!((&summary["refused"], &summary["created"], &summary["unanswered"]), (&2.into(), &1.into(), &1.into()));
    let (code, stdout, _) = output(server.cli(&["enroll", "--from-dir", text(&people)])).await;
    assert!(code == 1 && stdout.contains("2 pictures refused, 1 not reached"), "{stdout}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_ends_when_told_and_goes_on_without_gap_or_double() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let nobody = format!("rtsp://{}/x", free_addr());
    let position = |event: &Value| event["position"].as_str().unwrap().parse::<u64>().unwrap();
    let positions = |events: &[Value]| events.iter().map(position).collect::<Vec<_>>();
    let token = |events: &[Value]| events.last().unwrap()["resumeToken"].as_str().unwrap().to_owned();

    // An address where nobody listens is told once.
    json(&server, &["camera", "add", "one", &nobody, "--label", "site=berlin"]).await;
    let first = json(&server, &["watch", "--since", "1h", "--count", "1"]).await;
    assert_eq!(positions(&first), [1]);
    assert_eq!((&first[0]["kind"], &first[0]["cameraState"]), (&"EVENT_KIND_CAMERA_STATE".into(), &"RETRYING".into()));
    json(&server, &["camera", "add", "two", &nobody]).await;
    json(&server, &["camera", "add", "three", &nobody]).await;
    let after_first = ["watch", "--resume", &token(&first), "--kind", "camera-state", "--count", "2"];
    let next = json(&server, &after_first).await;
    assert_eq!(positions(&next), [2, 3]);
    assert_eq!(json(&server, &after_first).await, next, "a token is good for more than once");
    let all = json(&server, &["watch", "--since", "1h", "--count", "3"]).await;
    assert_eq!(positions(&all), [1, 2, 3]);
    let berlin = json(&server, &["watch", "--since", "1h", "--label", "site=berlin", "--count", "1"]).await;
    assert_eq!(berlin[0]["name"], first[0]["name"]);
    let began = std::time::Instant::now();
    let later = json(&server, &["watch", "--resume", &token(&next), "--for", "1s"]).await;
    assert!(began.elapsed() >= std::time::Duration::from_secs(1));
    assert!(positions(&later).iter().all(|position| *position > 3), "{later:?}");
    let (code, _, err) = output(server.cli(&["watch", "--resume", "nonsense"])).await;
    assert!(code == 1 && err.contains("resume token"), "{err}");

    let listed = json(&server, &["events", "list", "--limit", "2", "--until", "0s"]).await;
    let newest = position(&listed[0]);
    assert_eq!(positions(&listed), [newest, newest - 1]);
    let id = first[0]["name"].as_str().unwrap().trim_start_matches("events/");
    let got = json(&server, &["events", "get", id]).await;
    assert_eq!((&got[0]["name"], &got[0]["reason"]), (&first[0]["name"], &first[0]["reason"]));

    // A camera without a frame: states are told, a picture is refused.
    let states = json(&server, &["camera", "watch", "one", "--count", "1"]).await;
    assert_eq!(states[0]["camera"]["name"], "cameras/one");
    let file = dir.path().join("snapshot.jpg");
    let (code, _, err) = output(server.cli(&["camera", "snapshot", "one", "-o", text(&file)])).await;
    assert_eq!((code, file.exists()), (1, false));
    assert_eq!(err.matches("no frame").count(), 1, "{err}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_can_be_cleared_and_passwords_go_with_a_user_name() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    // Set for the whole session, used where there is a user name.
    let mut add = server.cli(&["camera", "add", "door", "rtsp://127.0.0.1:1/x", "--disabled", "--label", "a=b"]);
    add.args(["--watchlist", "staff", "--threshold", "0.5", "--exclude", "0,0 1,0 1,1"]);
    let (code, _, err) = output({
        add.env("VISAGE_CAMERA_PASSWORD", "hush");
        add
    })
    .await;
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = output(server.cli(&["camera", "update", "door", "--username", "joe"])).await;
    assert!(code == 2 && err.contains("VISAGE_CAMERA_PASSWORD"), "{err}");
    let fields = ["labels", "watchlists", "thresholdOverride", "regions"];
    let camera = &json(&server, &["camera", "get", "door"]).await[0];
    assert!(fields.iter().all(|field| !camera[field].is_null()), "{camera}");
    json(&server, &["camera", "update", "door", "--clear", "labels,regions", "--clear", "watchlists,threshold"]).await;
    let camera = &json(&server, &["camera", "get", "door"]).await[0];
    assert!(fields.iter().all(|field| camera[field].is_null()), "{camera}");
    let (code, _, err) = output(server.cli(&["camera", "update", "door", "--clear", "labels", "--label", "a=b"])).await;
    assert_eq!(code, 2, "{err}");

    json(&server, &["person", "add", "anna", "--label", "a=b", "--watchlist", "staff"]).await;
    json(&server, &["person", "update", "anna", "--clear", "labels,watchlists"]).await;
    let person = &json(&server, &["person", "get", "anna"]).await[0];
    assert!(person["labels"].is_null() && person["watchlists"].is_null(), "{person}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identify_works_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    server.stop().await;
    let part = dir.path().join("part.png");
    cut("obama3.jpg", (500, 100, 560, 700), &part);
    let mut command = visage();
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["identify", part.to_str().unwrap(), "--json", "--offline", "--data-dir", data.to_str().unwrap()]);
    let (code, stdout, err) = output(command).await;
    assert_eq!(code, 0, "{err}");
    let value: Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    assert_eq!(value["faces"][0]["person"]["id"], "barack-obama");

    // The server's configuration file counts; a vector server is left alone, and the data folder decides which embedder is used.
    let file = dir.path().join("visage.toml");
    let config = format!("[server]\ndata_dir = {data:?}\n[gallery]\nbackend = \"qdrant\"\n");
    std::fs::write(&file, &config).unwrap();
    let offline = || {
        let mut command = visage();
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.args(["identify", text(&part), "--json", "--offline"]).env("VISAGE_CONFIG", &file);
        output(command)
    };
    let (code, stdout, err) = offline().await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(objects(&stdout)[0]["faces"][0]["person"]["id"], "barack-obama");
    assert!(err.contains("the vector server is not asked"), "{err}");
    std::fs::write(&file, format!("{config}[models]\nembedder = \"mobilefacenet\"\n")).unwrap();
    let (code, stdout, err) = offline().await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(objects(&stdout)[0]["faces"][0]["person"]["id"], "barack-obama");
    assert!(err.contains("models.embedder = mobilefacenet does not count"), "{err}");
    let mut doctor = visage();
    doctor.current_dir(env!("CARGO_MANIFEST_DIR")).arg("doctor").env("VISAGE_CONFIG", &file);
    let (_, stdout, _) = output(doctor).await;
    assert!(stdout.contains("visage gallery reembed --model mobilefacenet"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_and_models_look_where_the_server_would() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("visage.toml");
    let (grpc, http, data) = (free_addr(), free_addr(), dir.path().join("data"));
    let config = format!("[server]\ndata_dir = {data:?}\nlisten = \"{grpc}\"\nhttp = \"{http}\"\n");
    std::fs::write(&file, config).unwrap();
    let run = |args: &[&str], models: Option<&Path>| {
        let mut command = visage();
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).arg("--json").env("VISAGE_CONFIG", &file);
        command.envs(models.map(|dir| ("VISAGE_MODELS__DIR", dir)));
        output(command)
    };
    let (code, stdout, err) = run(&["doctor"], None).await;
    let findings = objects(&stdout);
    assert_eq!(code, 0, "{findings:#?} {err}");
    let found = |check: &str| {
        let finding = findings.iter().find(|f| f["check"] == check);
        finding.unwrap_or_else(|| panic!("{check} was not looked at"))["found"].as_str().unwrap().to_owned()
    };
    assert!(found("gRPC port").contains(&grpc.to_string()) && found("HTTP port").contains(&http.to_string()));
    assert!(found("data directory").contains(text(&data)) && found("runtime library").contains("ONNX Runtime "));
    assert!(found("embedder").contains("dlib-resnet") && !data.exists());

    let models = dir.path().join("models");
    std::fs::create_dir(&models).unwrap();
    std::fs::write(models.join("retinaface-mnet025.onnx"), "another file").unwrap();
    let (code, stdout, _) = run(&["doctor"], Some(&models)).await;
    let missing: Vec<Value> = objects(&stdout).into_iter().filter(|f| f["verdict"] == "missing").collect();
    assert_eq!((code, missing.len()), (1, 2), "{missing:#?}");
    assert!(missing.iter().all(|f| f["mend"].as_str().unwrap().starts_with("visage models pull ")), "{missing:#?}");
    let (_, stdout, _) = run(&["models", "list"], Some(&models)).await;
    let state = |id: &str| objects(&stdout).into_iter().find(|m| m["id"] == id).unwrap()["state"].clone();
    assert_eq!((state("retinaface-mnet025"), state("dlib-resnet")), ("wrong file".into(), "not here".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_codes_and_hints() {
    let mut command = visage();
    command.args(["camera", "list", "--server", "http://127.0.0.1:1"]);
    let (code, _, err) = output(command).await;
    assert_eq!(code, 5);
    assert!(err.contains("visage serve"), "{err}");

    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (code, _, err) = output(server.cli(&["camera", "add", "x", "nonsense"])).await;
    assert_eq!(code, 1);
    assert!(err.contains("url"), "{err}");
    let (code, _, err) = output(server.cli(&["person", "get", "nobody"])).await;
    assert_eq!(code, 1);
    assert!(err.contains("nobody"), "{err}");

    // A second server on the same data folder, and one on a taken port.
    let mut second = visage();
    second.args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"]).arg(&server.data);
    second.current_dir(env!("CARGO_MANIFEST_DIR"));
    let (code, _, err) = output(second).await;
    assert_ne!(code, 0);
    assert!(err.contains("in use by another visage server") && err.contains("--data-dir"), "{err}");
    let mut taken = visage();
    taken.args(["serve", "--http", "127.0.0.1:0", "--listen", &server.addr.to_string(), "--data-dir"]).arg(dir.path());
    let (code, _, err) = output(taken).await;
    assert_ne!(code, 0);
    assert!(err.contains("--listen"), "{err}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_fault_names_the_nearest_key_and_print_config_masks_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("visage.toml");
    std::fs::write(&file, "[server]\nlissten = \"127.0.0.1:1\"\n").unwrap();
    let mut command = visage();
    command.args(["serve", "--config"]).arg(&file);
    let (code, _, err) = output(command).await;
    assert_ne!(code, 0);
    assert!(err.contains("server.listen"), "{err}");
    let mut command = visage();
    command.args(["serve", "--print-config"]).env("VISAGE_GALLERY__QDRANT__API_KEY", "hush-hush-key");
    command.env("VISAGE_GALLERY__QDRANT__URL", "http://joe:hush-hush-key@vectors:6334").env("VISAGE_DATA_DIR", "2026");
    let (code, stdout, _) = output(command).await;
    assert_eq!(code, 0);
    for line in
        ["server.data_dir = \"2026\"  # environment", "gallery.qdrant.url = \"http://***@vectors:6334\"  # environment"]
    {
        assert!(stdout.contains(line), "{line} is not in:\n{stdout}");
    }
    assert!(
        stdout.contains("server.listen") && stdout.contains("***") && !stdout.contains("hush-hush-key"),
        "{stdout}"
    );
}
