//! The audit log as its readers meet it: who did what, told by commands beside a running server, and what tampering, crashes and a failing disk do.

use std::{collections::HashSet, fs, path::Path, time::Duration};

use serde_json::Value;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, transport::Channel};
use visage::proto::v1::{
    camera_service_client::CameraServiceClient, event_service_client::EventServiceClient,
    gallery_service_client::GalleryServiceClient, person_service_client::PersonServiceClient,
    recognition_service_client::RecognitionServiceClient, server_service_client::ServerServiceClient, *,
};

use crate::{
    secured::{Secured, token, with},
    support::{PATIENCE, bytes, visage},
};

fn create(id: &str, name: &str) -> CreatePersonRequest {
    let person = Person { display_name: name.into(), ..Default::default() };
    CreatePersonRequest { person_id: id.into(), person: Some(person), validate_only: false }
}

/// `visage audit …`: whether it ended well, and what it said.
async fn audit(data: &Path, args: &[&str]) -> (bool, String, String) {
    let output = visage().arg("audit").args(args).arg("--data-dir").arg(data).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// All records, once `wanted` of them are there.
async fn records(data: &Path, wanted: usize) -> Vec<Value> {
    timeout(PATIENCE, async {
        loop {
            let (_, out, _) = audit(data, &["export", "--json"]).await;
            let records: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if records.len() >= wanted {
                return records;
            }
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("records are missing")
}

/// Method, token and outcome of a record.
fn brief(record: &Value) -> (String, String, String) {
    let text = |key: &str| record[key].as_str().unwrap().to_owned();
    let method = text("method");
    (method.rsplit('/').next().unwrap().to_owned(), text("token"), text("outcome"))
}

async fn enrol(channel: &Channel, token: &str, person: &str) -> String {
    let request = EnrollFacesRequest {
        person: person.into(),
        image: bytes("obama.jpg"),
        source: "a/source.jpg".into(),
        allow_several_faces: false,
        force: false,
    };
    let mut people = PersonServiceClient::new(with(channel, token));
    let mut answers = people.enroll_faces(tokio_stream::iter([request])).await.unwrap().into_inner();
    let face = answers.message().await.unwrap().unwrap().face.unwrap().name;
    assert!(answers.message().await.unwrap().is_none());
    face
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_something_leaves_a_record_and_whoever_is_refused_too() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut tokens = Vec::new();
    for role in ["viewer", "enroller", "operator", "admin"] {
        tokens.push(token(&data, &["create", &format!("the-{role}"), "--role", role]).await);
    }
    let [viewer, enroller, operator, admin] = &tokens[..] else { unreachable!() };
    let server = Secured::start(dir.path(), "127.0.0.1", &[("VISAGE_AUTH__REQUIRED", "true".to_owned())]).await;
    let channel = server.plain().await;

    // A viewer looks: not recorded. And asks who is in a picture: recorded.
    ServerServiceClient::new(with(&channel, viewer)).get_server_info(GetServerInfoRequest {}).await.unwrap();
    let request = IdentifyFacesRequest { image: bytes("obama.jpg"), ..Default::default() };
    RecognitionServiceClient::new(with(&channel, viewer)).identify_faces(request).await.unwrap();
    // An enroller makes a person, whose id the server chooses, and enrols a face; the request has an id of the caller's.
    let mut people = PersonServiceClient::new(with(&channel, enroller));
    let mut request = Request::new(create("", "Barack Hussein"));
    request.metadata_mut().insert("x-request-id", "from-the-client.1".parse().unwrap());
    let answer = people.create_person(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "from-the-client.1");
    let person = answer.into_inner().name;
    let face = enrol(&channel, enroller, &person).await;
    // An operator registers a camera, with a password, and erases the person; fails to delete a camera.
    let mut cameras = CameraServiceClient::new(with(&channel, operator));
    let camera = Camera { url: "rtsp://joe:hush-hush@127.0.0.1:9/x".into(), ..Default::default() };
    let request = CreateCameraRequest { camera_id: "door".into(), camera: Some(camera), validate_only: false };
    cameras.create_camera(request).await.unwrap();
    let missing = cameras.delete_camera(DeleteCameraRequest { name: "cameras/none".into() }).await.unwrap_err();
    assert!(missing.metadata().contains_key("x-request-id"), "errors have the id, too: {missing:?}");
    // An admin asks what a move would do.
    let request = ReembedGalleryRequest { model: "mobilefacenet".into(), validate_only: true, ..Default::default() };
    if let Ok(answers) = GalleryServiceClient::new(with(&channel, admin)).reembed_gallery(request).await {
        let mut answers = answers.into_inner();
        while let Ok(Some(_)) = answers.message().await {}
    }
    // Refused: too low a role, no token, a wrong one.
    let delete = || DeletePersonRequest { name: person.clone() };
    let mut refused = PersonServiceClient::new(with(&channel, viewer));
    assert_eq!(refused.delete_person(delete()).await.unwrap_err().code(), Code::PermissionDenied);
    let mut nobody = PersonServiceClient::new(channel.clone());
    let unknown = nobody.delete_person(delete()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);
    let id = unknown.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
    assert_eq!(id.len(), 36, "the server makes one: {id}");
    let mut operators = PersonServiceClient::new(with(&channel, operator));
    let receipt = operators.delete_person(delete()).await.unwrap().into_inner().receipt.unwrap();
    assert_eq!(receipt.person, person);

    let all = records(&data, 8 + 14).await;
    let told: Vec<_> = all.iter().map(brief).collect();
    let has = |method: &str, token: &str, outcome: &str| {
        let wanted = (method.to_owned(), token.to_owned(), outcome.to_owned());
        assert!(told.contains(&wanted), "{wanted:?} is not in {told:#?}");
        &all[told.iter().position(|t| *t == wanted).unwrap()]
    };
    has("token create", "local", "OK");
    has("IdentifyFaces", "the-viewer", "OK");
    let begun = has("CreatePerson", "the-enroller", "BEGUN");
    assert_eq!((&begun["request"], &begun["subjects"][0]), (&"from-the-client.1".into(), &person.as_str().into()));
    assert!(begun["peer"].as_str().unwrap().starts_with("127.0.0.1:") && begun["role"] == "enroller");
    has("CreatePerson", "the-enroller", "OK");
    assert_eq!(has("EnrollFaces", "the-enroller", "STEP")["subjects"][0], face.as_str());
    has("EnrollFaces", "the-enroller", "OK");
    has("CreateCamera", "the-operator", "BEGUN");
    assert_eq!(has("DeleteCamera", "the-operator", "NOT_FOUND")["subjects"][0], "cameras/none");
    assert!(told.iter().any(|(method, token, _)| method == "ReembedGallery" && token == "the-admin"));
    has("DeletePerson", "the-viewer", "PERMISSION_DENIED");
    assert_eq!(has("DeletePerson", "nobody", "UNAUTHENTICATED")["request"], id.as_str());
    assert_eq!(has("DeletePerson", "the-operator", "OK")["subjects"][0], person.as_str());
    assert!(told.iter().all(|(method, ..)| method != "GetServerInfo"), "looking is recorded");
    // Ids only, and no secret.
    let (_, text, _) = audit(&data, &["export", "--json"]).await;
    for hidden in ["Barack", "hush-hush", "joe", "a/source.jpg"].into_iter().chain(tokens.iter().map(String::as_str)) {
        assert!(!text.contains(hidden), "{hidden} is in the audit log");
    }
    let (sound, out, _) = audit(&data, &["verify"]).await;
    assert!(sound && out.contains("is sound"), "{out}");
    let noted = out.lines().last().unwrap().to_owned();
    let (_, words, _) = audit(&data, &["export", "--since", "1h"]).await;
    assert!(words.contains("the-operator (operator) 127.0.0.1:") && words.contains(&person), "{words}");
    let (_, none, _) = audit(&data, &["export", "--until", "1h"]).await;
    assert_eq!(none, "");
    server.stop().await;

    // Tampering.
    let file = data.join("audit/audit-000000000001.jsonl");
    let sound = fs::read_to_string(&file).unwrap();
    let said = |text: String| {
        fs::write(&file, text).unwrap();
        audit(&data, &["verify"])
    };
    let number =
        told.iter().position(|(method, token, _)| method == "DeletePerson" && token == "the-operator").unwrap() + 1;
    let line = sound.lines().nth(number - 1).unwrap();
    let (ok, _, err) = said(sound.replace(line, &line.replace("the-operator", "the-viewer"))).await;
    assert!(!ok && err.contains(&format!("breaks at record {number}")), "{err}");
    let (ok, _, err) = said(sound.replace(&format!("{line}\n"), "")).await;
    assert!(!ok && err.contains(&format!("breaks at record {number}")), "{err}");
    // The end cut off can be told by who noted it.
    let last = sound.lines().last().unwrap();
    let (ok, ..) = said(sound.replace(&format!("{last}\n"), "")).await;
    assert!(ok, "a chain can't know its end");
    let (ok, _, err) = audit(&data, &["verify", "--noted", &noted]).await;
    assert!(!ok && err.contains("noted"), "{err}");
    assert!(said(sound.clone()).await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_leaves_a_chain_that_holds_and_what_was_answered_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut made = Vec::new();
    for round in 0..2 {
        let server = Secured::start(dir.path(), "127.0.0.1", &[]).await;
        let channel = server.plain().await;
        let tasks: Vec<_> = (0..8)
            .map(|lane| {
                let mut people = PersonServiceClient::new(channel.clone());
                tokio::spawn(async move {
                    let mut made = Vec::new();
                    for i in 0.. {
                        let id = format!("p-{round}-{lane}-{i}");
                        if people.create_person(create(&id, "x")).await.is_err() {
                            break;
                        }
                        made.push(id);
                    }
                    made
                })
            })
            .collect();
        sleep(Duration::from_millis(1500)).await;
        server.kill().await;
        for task in tasks {
            made.extend(task.await.unwrap());
        }
        let (sound, out, err) = audit(&dir.path().join("data"), &["verify"]).await;
        assert!(sound, "{out}{err}");
    }
    assert!(made.len() > 20, "hardly anything was made");
    // Half a record, as a crash in the middle of a write leaves it.
    let data = dir.path().join("data");
    let mut files: Vec<_> = fs::read_dir(data.join("audit")).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
    files.sort();
    let text = fs::read_to_string(files.last().unwrap()).unwrap();
    fs::write(files.last().unwrap(), format!("{text}{{\"record\":99,\"time\":\"20")).unwrap();
    let (sound, _, err) = audit(&data, &["verify"]).await;
    assert!(sound && err.contains("half a record"), "{err}");
    let server = Secured::start(dir.path(), "127.0.0.1", &[]).await;
    assert!(server.said("half a record"), "the repair is not told: {}", server.told());
    let all = records(&data, 1).await;
    assert!(all.iter().any(|record| record["method"] == "audit.repair"));
    let begun = all.iter().filter(|record| record["outcome"] == "BEGUN");
    let begun: HashSet<&str> = begun.filter_map(|record| record["subjects"][0].as_str()).collect();
    for id in &made {
        assert!(begun.contains(format!("people/{id}").as_str()), "{id} was made without a record");
    }
    assert!(audit(&data, &["verify"]).await.0);
    server.stop().await;
    assert!(audit(&data, &["verify"]).await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_recorded_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let server = Secured::start(dir.path(), "127.0.0.1", &[]).await;
    let channel = server.plain().await;
    let mut people = PersonServiceClient::new(channel.clone());
    people.create_person(create("anna", "Anna")).await.unwrap();
    let (folder, aside) = (server.data.join("audit"), server.data.join("aside"));
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, b"in the way").unwrap();
    let refused = people.create_person(create("bob", "Bob")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("audit log"), "{refused:?}");
    let mut recognition = RecognitionServiceClient::new(channel.clone());
    let request = || EmbedFacesRequest { image: bytes("obama.jpg") };
    assert_eq!(recognition.embed_faces(request()).await.unwrap_err().code(), Code::Unavailable);
    // Looking goes on.
    EventServiceClient::new(channel).list_events(ListEventsRequest::default()).await.unwrap();
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    let gone = people.get_person(GetPersonRequest { name: "people/bob".into() }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "it was done all the same");
    people.create_person(create("bob", "Bob")).await.unwrap();
    recognition.embed_faces(request()).await.unwrap();
    assert!(audit(&server.data, &["verify"]).await.0);
    server.stop().await;
}
