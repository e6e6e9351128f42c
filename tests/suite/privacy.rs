//! What an erased person leaves behind (nothing), what others see, and what is told on request: by the command line, as an operator works.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tonic::Code;
use visage::{
    proto::v1::{Event, EventKind, LegalBasis, LegalGround, Person, UpdatePersonRequest},
    simulator::{SimCamera, Simulator, SimulatorSettings},
};

use crate::support::{Server, bytes, folder_of, visage};

const NAME: &str = "Zebulon Quagmire-Obama";
const ID: &str = "zebulon-q";

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Files of a folder in which something can be found; ids may stand in the audit log, which tells who was erased by whom.
fn traces(dir: &Path, wanted: &[&[u8]]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files(dir) {
        let bytes = fs::read(&path).unwrap();
        let audit = path.parent().is_some_and(|dir| dir.ends_with("audit"));
        for trace in wanted.iter().filter(|trace| !(audit && **trace == ID.as_bytes())) {
            if bytes.windows(trace.len()).any(|window| window == *trace) {
                found.push(format!("{} in {}", String::from_utf8_lossy(trace), path.display()));
            }
        }
    }
    found
}

async fn cli(server: &Server, args: &[&str]) -> (bool, String, String) {
    let out = server.cli(args).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).output();
    let out = out.await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.success(), text(&out.stdout), text(&out.stderr))
}

async fn backup(data: &Path, args: &[&str]) -> (bool, String) {
    let mut command = visage();
    command.arg("backup").args(args).arg("--data-dir").arg(data);
    let out = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).output().await.unwrap();
    (out.status.success(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

fn names(event: &Event, id: &str) -> bool {
    let person = event.r#match.as_ref().map(|m| m.person.as_str());
    person == Some(&format!("people/{id}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_gone_from_every_file_and_from_older_backups() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let folder = folder_of(dir.path(), "visitors", &["obama2.jpg"]);
    let text = format!("door={},codec=mjpeg,size=640x360,fps=8,period=4s", folder.display());
    let cameras = vec![SimCamera::parse(&text).unwrap()];
    let sim = Simulator::start(SimulatorSettings { port: 0, cameras, ..Default::default() }).unwrap();
    let server = Server::start(&data).await;
    server.know("zebulon-q", NAME, "obama.jpg").await;
    let person = Person {
        name: "people/zebulon-q".into(),
        external_id: "EMPLOYEE-4711-ZQ".into(),
        labels: [("team".to_owned(), "quagmire-team".to_owned())].into(),
        legal_basis: Some(LegalBasis {
            ground: LegalGround::Consent.into(),
            reference: "FORM-ZQ-88".into(),
            give_time: None,
        }),
        ..Default::default()
    };
    let request = UpdatePersonRequest { person: Some(person), update_mask: None };
    server.people().await.update_person(request).await.unwrap();
    let mut feed = server.stream(None).await;
    server.add_camera("door", &sim.url("door")).await;
    let (seen, _) = feed.until(|e| e.kind() == EventKind::Recognized && names(e, "zebulon-q")).await;
    let named = seen.last().unwrap().name.clone();
    sim.stop();

    // What is told on request, with the pictures.
    let report = dir.path().join("report");
    let (done, _, told) = cli(&server, &["privacy", "report", "zebulon-q", "-o", report.to_str().unwrap()]).await;
    assert!(done, "{told}");
    let text = fs::read_to_string(report.join("report.json")).unwrap();
    for wanted in [NAME, "EMPLOYEE-4711-ZQ", "FORM-ZQ-88", "dlib-resnet", &named] {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
    let pictures = files(&report).into_iter().filter(|p| p.extension().is_some_and(|e| e == "jpg"));
    let pictures: Vec<_> = pictures.inspect(|p| drop(image::open(p).unwrap())).collect();
    assert!(pictures.len() >= 2, "a face and an event have pictures: {pictures:?}");

    let monday = dir.path().join("monday.tgz");
    let (done, told) = backup(&data, &["create", monday.to_str().unwrap()]).await;
    assert!(done && told.contains("1 people with 1 faces"), "{told}");
    let (done, told) = backup(&data, &["restore", monday.to_str().unwrap(), "--replace"]).await;
    assert!(!done && told.contains("in use"), "{told}");

    let secrets: [&[u8]; 5] = [NAME.as_bytes(), b"EMPLOYEE-4711-ZQ", b"quagmire-team", b"FORM-ZQ-88", ID.as_bytes()];
    assert!(!traces(&data, &secrets[..4]).is_empty(), "the test looks for what is there");
    let (done, receipt, told) = cli(&server, &["person", "remove", "zebulon-q", "--json"]).await;
    assert!(done && receipt.contains("facesRemoved"), "{told}");
    let (done, _, told) = cli(&server, &["privacy", "report", "zebulon-q"]).await;
    assert!(!done && told.contains("does not exist"), "{told}");
    server.stop().await;
    assert_eq!(traces(&data, &secrets), Vec::<String>::new());

    // The old backup comes back, she does not.
    let (done, told) = backup(&data, &["restore", monday.to_str().unwrap(), "--replace"]).await;
    assert!(done && told.contains("1 erasures"), "{told}");
    assert_eq!(traces(&data, &secrets), Vec::<String>::new());
    let server = Server::start(&data).await;
    let (_, people, _) = cli(&server, &["person", "list", "--json"]).await;
    assert_eq!(people, "");
    let (_, event, _) = cli(&server, &["events", "get", named.strip_prefix("events/").unwrap(), "--json"]).await;
    assert!(event.contains("RECOGNIZED") && !event.contains("zebulon") && !event.contains(NAME), "{event}");
    server.stop().await;
    assert_eq!(traces(&data, &secrets), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn others_in_a_picture_are_blurred_and_no_face_is_enrolled_without_a_legal_basis() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // Two people in view at a time, side by side.
    let (left, right) =
        (image::open(crate::support::picture("obama.jpg")), image::open(crate::support::picture("biden.jpg")));
    let (left, right) = (left.unwrap().to_rgb8(), right.unwrap().to_rgb8());
    let edge =
        |image: &image::RgbImage| image::imageops::resize(image, 640, 720, image::imageops::FilterType::Triangle);
    let mut both = image::RgbImage::new(1280, 720);
    let square = |image: &image::RgbImage| {
        let height = image.height().min(image.width() * 9 / 8);
        edge(&image::imageops::crop_imm(image, 0, 0, height * 8 / 9, height).to_image())
    };
    image::imageops::replace(&mut both, &square(&left), 0, 0);
    image::imageops::replace(&mut both, &square(&right), 640, 0);
    let folder = dir.path().join("pair");
    fs::create_dir(&folder).unwrap();
    both.save(folder.join("pair.png")).unwrap();
    let text = format!("door={},codec=mjpeg,size=1280x720,fps=5,period=30s", folder.display());
    let cameras = vec![SimCamera::parse(&text).unwrap()];
    let sim = Simulator::start(SimulatorSettings { port: 0, cameras, ..Default::default() }).unwrap();
    let server = Server::start_with(&data, &[("VISAGE_ENROLLMENT__REQUIRE_LEGAL_BASIS", "true")]).await;

    server.add_person("barack-obama", "Barack Obama").await;
    let request = visage::proto::v1::EnrollFacesRequest {
        person: "people/barack-obama".into(),
        image: bytes("obama.jpg"),
        ..Default::default()
    };
    let mut answers = server.people().await.enroll_faces(tokio_stream::iter(vec![request])).await.unwrap().into_inner();
    let refused = answers.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("--legal-ground"), "{}", refused.message());
    let (done, told, error) =
        cli(&server, &["person", "update", "barack-obama", "--legal-ground", "consent", "--expires", "30d"]).await;
    assert!(done, "{told}{error}");
    assert!(server.enroll("barack-obama", bytes("obama.jpg")).await.face.is_some());

    let mut feed = server.stream(None).await;
    server.add_camera("door", &sim.url("door")).await;
    let (seen, _) = feed.until(|e| e.kind() == EventKind::Recognized && names(e, "barack-obama")).await;
    let event = seen.last().unwrap().name.clone();
    let out = dir.path().join("event.jpg");
    let id = event.strip_prefix("events/").unwrap();
    let (done, _, told) = cli(&server, &["events", "image", id, "-o", out.to_str().unwrap()]).await;
    assert!(done, "{told}");
    let request = visage::proto::v1::DetectFacesRequest { image: fs::read(&out).unwrap().into(), min_score: 0.0 };
    let found = server.recognition().await.detect_faces(request).await.unwrap().into_inner().faces;
    let centres: Vec<f32> =
        found.iter().map(|f| f.bbox.as_ref().map_or(0.0, |b| (b.x1 + b.x2) / 2.0 / 1280.0)).collect();
    assert!(centres.iter().any(|x| *x < 0.5), "the subject is shown: {centres:?}");
    assert!(centres.iter().all(|x| *x < 0.5), "somebody else can be seen: {centres:?}");
    if let Ok(keep) = std::env::var("VISAGE_KEEP_PICTURES") {
        fs::copy(&out, Path::new(&keep).join("blurred.jpg")).unwrap();
    }
    server.stop().await;
    sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gallery_goes_to_another_server_and_comes_out_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let server = Server::start(&out("one")).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    server.know("joe-biden", "Joe Biden", "biden.jpg").await;
    let (done, _, told) = cli(&server, &["gallery", "export", &path("a")]).await;
    assert!(done, "{told}");
    let (done, _, told) = cli(&server, &["gallery", "export", "--no-embeddings", &path("pictures-only")]).await;
    assert!(done, "{told}");
    server.stop().await;

    // The second line on: people, with faces, embeddings and the names of pictures.
    let people = |name: &str| {
        let text = fs::read_to_string(out(name).join("gallery.jsonl")).unwrap();
        text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    let before = people("a");
    assert_eq!(before.len(), 2);
    assert_eq!(before[0]["faces"][0]["embeddings"][0]["values"].as_array().unwrap().len(), 128);

    let server = Server::start(&out("two")).await;
    for (round, expected) in [(0, "4 people and faces added"), (1, "4 were there already")] {
        let (done, told, error) = cli(&server, &["gallery", "import", &path("a")]).await;
        assert!(done && told.contains(expected), "round {round}: {told}{error}");
    }
    let (done, _, told) = cli(&server, &["gallery", "export", &path("b")]).await;
    assert!(done, "{told}");
    assert_eq!(people("b"), before, "nothing is lost or changed on the way");
    for face in ["faces", "pictures"] {
        assert!(before[0].to_string().contains(face));
    }
    let same = |name: &str| fs::read(out("a").join(name)).unwrap() == fs::read(out("b").join(name)).unwrap();
    assert!(before.iter().all(|p| same(p["faces"][0]["picture"].as_str().unwrap())));
    let request = visage::proto::v1::IdentifyFacesRequest { image: bytes("obama2.jpg"), ..Default::default() };
    let found = server.recognition().await.identify_faces(request).await.unwrap().into_inner();
    assert!(found.faces.iter().any(|f| f.r#match.as_ref().is_some_and(|m| m.display_name == "Barack Obama")));
    server.stop().await;

    // With pictures only, embeddings are made anew, by the model in use.
    let server = Server::start(&out("three")).await;
    let (done, told, error) = cli(&server, &["gallery", "import", &path("pictures-only")]).await;
    assert!(done && told.contains("4 people and faces added"), "{told}{error}");
    // What can't be used is told, the rest is taken.
    let list = out("pictures-only").join("gallery.jsonl");
    let text = fs::read_to_string(&list).unwrap();
    let line = serde_json::json!({
        "person": { "name": "people/nobody", "displayName": "No Body" },
        "faces": [{ "face": { "name": "people/nobody/faces/f-1" } }],
    });
    fs::write(&list, format!("{text}{line}\n")).unwrap();
    let out = server.cli(&["gallery", "import", &path("pictures-only"), "--json"]).output().await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((out.status.code(), &told["added"], told["refused"].as_array().unwrap().len()), (Some(3), &1.into(), 1));
    assert!(told["refused"][0]["message"].as_str().unwrap().contains("neither an embedding by dlib-resnet"), "{told}");
    server.stop().await;
}
