//! The client as a user runs it: processes, exit codes, JSON.

use serde_json::Value;

use crate::support::{Server, cut, picture, visage};

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
    assert!(!err.contains("panicked"), "{err}");
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
    let (code, stdout, _) = output(command).await;
    assert_eq!(code, 0);
    assert!(
        stdout.contains("server.listen") && stdout.contains("***") && !stdout.contains("hush-hush-key"),
        "{stdout}"
    );
}
