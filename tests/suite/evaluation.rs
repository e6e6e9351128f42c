//! `visage eval` as a user runs it: real models on the fixtures, exit codes, JSON, plots.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Server, cut, folder_of, picture, visage};

/// Two people with two pictures or more, and one with a single one.
fn people(dir: &Path) -> PathBuf {
    let people = dir.join("people");
    folder_of(&people, "obama", &["obama.jpg", "obama2.jpg", "obama3.jpg"]);
    folder_of(&people, "biden", &["biden.jpg"]);
    let again = people.join("biden/again.png");
    cut("biden.jpg", (0, 0, 900, 1000), &again);
    folder_of(&people, "astronaut", &["astronaut.png"]);
    people
}

async fn run(args: &[&str]) -> (i32, String, String) {
    let out = visage().arg("eval").args(args).output().await.unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_people_is_compared_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let people = people(dir.path());
    std::fs::write(people.join("biden/broken.jpg"), "no picture").unwrap();
    let plot = dir.path().join("plot.svg");
    let args =
        ["pairs", text(&people), "--all", "--json", "--embedder", "dlib-resnet,mobilefacenet", "--plot", text(&plot)];
    let (code, stdout, err) = run(&args).await;
    assert_eq!(code, 3, "a picture could not be read: {err}");
    assert!(err.contains("broken.jpg"), "{err}");
    let objects: Vec<Value> = stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(
        objects.iter().map(|o| o["model"].as_str().unwrap()).collect::<Vec<_>>(),
        ["dlib-resnet", "mobilefacenet"]
    );
    for object in &objects {
        assert_eq!(object["pairs"], 21);
        assert!((object["no_face"].as_f64().unwrap() - 1.0 / 7.0).abs() < 1e-9, "{object}");
        for key in ["accuracy_mean", "accuracy_se", "auc", "threshold", "eer"] {
            assert!(object[key].is_number(), "{key} is missing in {object}");
        }
        assert!(object["tar_at_far"]["0.01"].is_number() && object["tar_at_far"]["0.001"].is_number());
    }
    assert!(std::fs::read_to_string(&plot).unwrap().contains("</svg>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lfw_reads_its_list_and_says_what_to_do_without_one() {
    let dir = tempfile::tempdir().unwrap();
    for (name, number, file) in [
        ("Barack_Obama", 1, "obama.jpg"),
        ("Barack_Obama", 2, "obama2.jpg"),
        ("Barack_Obama", 3, "obama3.jpg"),
        ("Joe_Biden", 1, "biden.jpg"),
    ] {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(picture(file), folder.join(format!("{name}_{number:04}.jpg"))).unwrap();
    }
    let (code, _, err) = run(&["lfw", text(dir.path())]).await;
    assert!(code == 1 && err.contains("pairs.txt") && err.contains("--all"), "{code} {err}");
    let list =
        "2\t1\nBarack_Obama\t1\t2\nBarack_Obama\t1\tJoe_Biden\t1\nBarack_Obama\t2\t3\nBarack_Obama\t3\tJoe_Biden\t1\n";
    std::fs::write(dir.path().join("pairs.txt"), list).unwrap();
    let (code, stdout, err) = run(&["lfw", text(dir.path()), "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let object: Value = serde_json::from_str(stdout.trim()).unwrap();
    assert_eq!((&object["pairs"], &object["accuracy_mean"], &object["auc"]), (&4.into(), &1.0.into(), &1.0.into()));
    std::fs::write(dir.path().join("pairs.txt"), "10\t300\nBarack_Obama\t1\t2\n").unwrap();
    let (code, _, err) = run(&["lfw", text(dir.path())]).await;
    assert!(code == 1 && err.contains("line 1: promises 6000 pairs"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gallery_is_searched_and_strangers_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let people = people(dir.path());
    let strangers = folder_of(dir.path(), "strangers", &["sample1.jpg"]);
    let sheet = dir.path().join("sheet.png");
    let args = ["gallery", text(&people), "--strangers", text(&strangers), "--sheet", text(&sheet), "--json"];
    let (code, stdout, err) = run(&args).await;
    assert_eq!(code, 0, "{err}");
    let object: Value = serde_json::from_str(stdout.trim()).unwrap();
    assert_eq!((&object["people"], &object["faces"], &object["rank_1"]), (&3.into(), &6.into(), &1.0.into()));
    assert!(object["strangers"].as_u64().unwrap() > 0);
    let rows = object["open_set"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|r| r["default"] == true).count(), 1);
    assert_eq!(object["look_alikes"].as_array().unwrap().len(), 3);
    let routes = object["routes"].as_array().unwrap();
    assert_eq!(routes.len(), 3, "six faces are too few for a classifier: {object}");
    assert!(object["no_classifier"].as_str().unwrap().contains("too little to train on"));
    assert!(routes.iter().all(|r| r["first"] == 1.0 && r["strangers_named"] == 0.0), "{object}");
    assert!(image::open(&sheet).is_ok());
    let (code, _, err) = run(&["gallery", "--data-dir", text(&dir.path().join("nowhere"))]).await;
    assert!(code == 2 && err.contains("--data-dir"), "{code} {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_enrolled_gallery_is_evaluated_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data).await;
    server.know("obama", "Barack Obama", "obama.jpg").await;
    server.know("biden", "Joe Biden", "biden.jpg").await;
    server.stop().await;
    let (code, stdout, err) = run(&["gallery", "--data-dir", text(&data), "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let object: Value = serde_json::from_str(stdout.trim()).unwrap();
    assert_eq!((&object["people"], &object["faces"], &object["non_mated_searches"]), (&2.into(), &2.into(), &2.into()));
    assert!(object["rank_1"].is_null(), "nobody has two faces: {object}");
    let (code, _, err) = run(&["gallery", "--data-dir", text(&data), "--embedder", "mobilefacenet"]).await;
    assert!(code == 1 && err.contains("--embedder: dlib-resnet"), "{code} {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_detector_is_judged_on_pictures() {
    let dir = tempfile::tempdir().unwrap();
    folder_of(dir.path(), "e", &["astronaut.png"]);
    let truth = dir.path().join("truth.txt");
    // Where the astronaut's face is.
    std::fs::write(&truth, "e/astronaut.png\n1\n180 70 90 110 0 0 0 0 0 0\n").unwrap();
    let args = ["widerface", "--truth", text(&truth), "--images", text(dir.path()), "--size", "original", "--json"];
    let (code, stdout, err) = run(&args).await;
    assert_eq!(code, 0, "{err}");
    let object: Value = serde_json::from_str(stdout.trim()).unwrap();
    assert!(object["average_precision"]["all"].as_f64().unwrap() > 0.99, "{object}");
    let (code, _, err) = run(&["widerface", "--truth", text(&truth), "--predictions", text(dir.path())]).await;
    assert!(code == 1 && err.contains("astronaut.txt"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_are_followed_through_a_made_scene() {
    let dir = tempfile::tempdir().unwrap();
    let people = people(dir.path());
    let (footage, export, draw) = (dir.path().join("footage"), dir.path().join("mot"), dir.path().join("draw"));
    let scene = ["tracking", text(&people), "--scenes", "walk", "--seeds", "1", "--json"];
    let (code, first, err) = run(&[&scene[..], &["--draw", text(&draw)]].concat()).await;
    assert_eq!(code, 0, "{err}");
    let objects: Vec<Value> = first.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let trackers: Vec<_> = objects.iter().map(|o| o["tracker"].as_str().unwrap()).collect();
    assert_eq!(trackers, ["visage", "overlap", "byte"]);
    let walk = &objects[0]["scenes"]["walk"];
    assert!(walk["idf1"].as_f64().unwrap() > 0.9 && walk["counts"]["appearances"] == 2, "{walk}");
    assert!(std::fs::read_dir(&draw).unwrap().count() >= 3);

    let kept = ["--footage", text(&footage), "--export", text(&export)];
    let (_, again, _) = run(&[&scene[..], &kept[..]].concat()).await;
    let (_, replayed, _) = run(&[&scene[..], &kept[..]].concat()).await;
    assert_eq!((&again, &replayed), (&first, &first), "the same scene from the same number, and from the file");
    let truth = std::fs::read_to_string(export.join("walk-1/gt.txt")).unwrap();
    assert!(truth.lines().count() > 30 && truth.lines().all(|l| l.split(',').count() == 10));
    let (code, _, err) = run(&["tracking", text(&people), "--scenes", "walk", "--seeds", "2", kept[0], kept[1]]).await;
    assert!(code == 2 && err.contains("does not hold scene walk of number 2"), "{code}: {err}");

    // Other pictures, other options: what was seen then answers another question.
    let (code, _, err) = run(&[&scene[..], &kept[..], &["--size", "320", "--mirror", "off"]].concat()).await;
    assert!(code == 2 && err.contains("was made with another --size, --mirror"), "{code}: {err}");
    std::fs::write(people.join("biden/broken.jpg"), "no picture").unwrap();
    let (code, _, err) = run(&[&scene[..], &kept[..]].concat()).await;
    assert!(code == 2 && err.contains("was made with another DIR"), "{code}: {err}");
    std::fs::remove_file(&footage).unwrap();
    let (code, made, err) = run(&[&scene[..], &kept[..]].concat()).await;
    assert!(code == 3 && err.contains("broken.jpg") && made == first, "{code}: {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_can_not_be_tested_on_three_people() {
    let dir = tempfile::tempdir().unwrap();
    let people = people(dir.path());
    std::fs::write(people.join("biden/broken.jpg"), "no picture").unwrap();
    let (code, _, err) = run(&["promise", text(&people)]).await;
    assert!(code == 1 && err.contains("add people") && err.contains("broken.jpg"), "{code}: {err}");
    assert_eq!(run(&["promise"]).await.0, 2);
    assert_eq!(run(&["promise", "--simulated", "2", "--fpir", "1.5"]).await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_portraits_are_judged_and_a_broken_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let people = dir.path().join("people");
    folder_of(&people, "astronaut", &["astronaut.png"]);
    folder_of(&people, "obama", &["obama.jpg", "obama2.jpg"]);
    let features = dir.path().join("features.jsonl");
    std::fs::write(&features, "what was there").unwrap();
    let args = ["quality", text(&people), "--features", text(&features), "--json"];
    // A failure before the end costs no older file.
    let single = dir.path().join("single");
    folder_of(&single, "astronaut", &["astronaut.png"]);
    let (code, _, err) = run(&["quality", text(&single), "--features", text(&features)]).await;
    assert!(code == 1 && err.contains("nobody in"), "{code}: {err}");
    assert_eq!(std::fs::read_to_string(&features).unwrap(), "what was there");
    let (code, whole, err) = run(&args).await;
    assert_eq!(code, 0, "{err}");
    std::fs::write(people.join("obama/broken.jpg"), "no picture").unwrap();
    let (code, stdout, err) = run(&args).await;
    assert!(code == 3 && err.contains("broken.jpg"), "{code}: {err}");
    let object = |text: &str| serde_json::from_str::<Value>(text.trim()).unwrap();
    let (whole, partly) = (object(&whole), object(&stdout));
    assert_eq!((&whole["unreadable"], &partly["unreadable"]), (&0.into(), &1.into()));
    assert_eq!(whole["rows"], partly["rows"], "a picture that can't be read changes no figure");
    let lines = std::fs::read_to_string(&features).unwrap();
    assert!(lines.lines().count() > 20, "{lines}");
    assert!(lines.lines().all(|line| object(line)["recognised"].is_array()));
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_would_change_nothing_are_refused() {
    for args in [
        &["sizes", "dir", "--plot", "a.svg"][..],
        &["sizes", "dir", "--mirror", "on"],
        &["widerface", "--truth", "t", "--images", "i", "--embedder", "dlib-resnet"],
        &["widerface", "--truth", "t", "--predictions", "p", "--size", "640"],
        &["promise", "--simulated", "1", "--splits", "3"],
        &["promise", "--simulated", "1", "--embedder", "dlib-resnet"],
        &["promise", "--simulated", "1", "--size", "640"],
        &["promise", "--simulated", "1", "--config", "visage.toml"],
    ] {
        let (code, _, err) = run(args).await;
        assert_eq!(code, 2, "{args:?}: {err}");
    }
}
