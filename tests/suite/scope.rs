//! Tokens for some cameras only: what is outside is as if it were not there.

use std::collections::HashMap;

use tokio::time::{sleep, timeout};
use tonic::{Code, transport::Channel};
use visage::proto::v1::{
    camera_service_client::CameraServiceClient, event_service_client::EventServiceClient,
    person_service_client::PersonServiceClient, recognition_service_client::RecognitionServiceClient,
    server_service_client::ServerServiceClient, stream_events_request::Start, stream_events_response::Message,
    unknown_service_client::UnknownServiceClient, *,
};

use crate::{
    secured::{Secured, Shown, token, with},
    support::{PATIENCE, bytes, visage},
};

fn camera(id: &str, site: &str) -> Camera {
    Camera {
        name: format!("cameras/{id}"),
        url: "rtsp://127.0.0.1:9/x".into(),
        labels: HashMap::from([("site".to_owned(), site.to_owned()), ("floor".to_owned(), "1".to_owned())]),
        ..Default::default()
    }
}

fn create(id: &str, site: &str) -> CreateCameraRequest {
    CreateCameraRequest { camera_id: id.into(), camera: Some(camera(id, site)), validate_only: false }
}

fn cameras(channel: &Channel, token: &str) -> CameraServiceClient<Shown> {
    CameraServiceClient::new(with(channel, token))
}

fn events(channel: &Channel, token: &str) -> EventServiceClient<Shown> {
    EventServiceClient::new(with(channel, token))
}

/// Cameras of all events that a token may list.
async fn seen(channel: &Channel, token: &str, filter: Option<EventFilter>) -> Vec<Event> {
    let request = ListEventsRequest { filter, page_size: 1000, ..Default::default() };
    events(channel, token).list_events(request).await.unwrap().into_inner().events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_some_cameras_sees_and_touches_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let admin = token(&data, &["create", "admin", "--role", "admin"]).await;
    let north = ["--camera-label", "site=north", "--camera-label", "floor=1"];
    let viewer = token(&data, &[&["create", "guard", "--role", "viewer"][..], &north].concat()).await;
    let operator = token(&data, &[&["create", "keeper", "--role", "operator"][..], &north].concat()).await;
    let listed = token(&data, &["list"]).await;
    assert!(listed.contains("floor=1, site=north"), "{listed}");
    let output = visage()
        .args([
            "token",
            "create",
            "x",
            "--role",
            "viewer",
            "--camera-label",
            "a=1",
            "--camera-label",
            "a=2",
            "--data-dir",
        ])
        .arg(&data)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "no camera has two values of a label");

    let server = Secured::start(dir.path(), "127.0.0.1", &[("VISAGE_AUTH__REQUIRED", "true".to_owned())]).await;
    let channel = server.plain().await;
    let mut all = cameras(&channel, &admin);
    for (id, site) in [("gate", "north"), ("vault", "south")] {
        all.create_camera(create(id, site)).await.unwrap();
    }
    // Both cameras have told something.
    let events_of = |id: &'static str| {
        let (channel, admin) = (channel.clone(), admin.clone());
        async move {
            let name = format!("cameras/{id}");
            timeout(PATIENCE, async {
                loop {
                    let events = seen(&channel, &admin, None).await;
                    match events.into_iter().find(|e| e.camera == name) {
                        Some(event) => return event,
                        None => sleep(std::time::Duration::from_millis(50)).await,
                    }
                }
            })
            .await
            .expect("a camera that nobody answers for tells nothing")
        }
    };
    let (inside, outside) = (events_of("gate").await, events_of("vault").await);

    // Cameras.
    let mut mine = cameras(&channel, &operator);
    for token in [&viewer, &operator] {
        let list = cameras(&channel, token).list_cameras(ListCamerasRequest::default()).await.unwrap().into_inner();
        assert_eq!(list.cameras.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["cameras/gate"]);
    }
    let info = ServerServiceClient::new(with(&channel, &viewer)).get_server_info(GetServerInfoRequest {}).await;
    assert_eq!(info.unwrap().into_inner().cameras, 1);
    let get = |name: &str| GetCameraRequest { name: name.into() };
    mine.get_camera(get("cameras/gate")).await.unwrap();
    // What is outside answers exactly as what does not exist.
    let outside_told = mine.get_camera(get("cameras/vault")).await.unwrap_err();
    let missing_told = mine.get_camera(get("cameras/vaux")).await.unwrap_err();
    assert_eq!(outside_told.code(), Code::NotFound);
    assert_eq!(outside_told.message().replace("vault", "vaux"), missing_told.message());
    let snapshot = CaptureSnapshotRequest { name: "cameras/vault".into(), annotate: false };
    assert_eq!(mine.capture_snapshot(snapshot).await.unwrap_err().code(), Code::NotFound);
    let update = |camera: Camera, path: &str| UpdateCameraRequest {
        camera: Some(camera),
        update_mask: Some(prost_types::FieldMask { paths: vec![path.into()] }),
    };
    let mut changed = camera("vault", "south");
    changed.display_name = "mine now".into();
    assert_eq!(mine.update_camera(update(changed, "display_name")).await.unwrap_err().code(), Code::NotFound);
    let relabelled = mine.update_camera(update(camera("vault", "north"), "labels")).await.unwrap_err();
    assert_eq!(relabelled.code(), Code::NotFound, "a camera was taken over");
    let deleted = mine.delete_camera(DeleteCameraRequest { name: "cameras/vault".into() }).await.unwrap_err();
    assert_eq!(deleted.code(), Code::NotFound);
    let away = mine.update_camera(update(camera("gate", "south"), "labels")).await.unwrap_err();
    assert_eq!(away.code(), Code::PermissionDenied, "{away:?}");
    assert_eq!(mine.create_camera(create("cellar", "south")).await.unwrap_err().code(), Code::PermissionDenied);
    mine.create_camera(create("porch", "north")).await.unwrap();
    let mut named = camera("porch", "north");
    named.display_name = "Porch".into();
    mine.update_camera(update(named, "display_name")).await.unwrap();

    // Watching: a camera that leaves the scope is gone for the watcher.
    let mut watch = cameras(&channel, &viewer)
        .watch_cameras(WatchCamerasRequest { names: vec!["cameras/porch".into(), "cameras/vault".into()] })
        .await
        .unwrap()
        .into_inner();
    all.update_camera(update(camera("porch", "south"), "labels")).await.unwrap();
    timeout(PATIENCE, async {
        while let Some(message) = watch.message().await.unwrap() {
            assert_eq!(message.camera.as_ref().unwrap().name, "cameras/porch");
            if message.removed {
                return;
            }
        }
        panic!("the watch ended");
    })
    .await
    .expect("a camera outside is still told");
    assert_eq!(mine.get_camera(get("cameras/porch")).await.unwrap_err().code(), Code::NotFound);

    // Events.
    let mut of_mine = events(&channel, &operator);
    let own: Vec<Event> = seen(&channel, &viewer, None).await;
    assert!(!own.is_empty() && own.iter().all(|e| e.camera_labels["site"] == "north"), "{own:#?}");
    let south =
        EventFilter { camera_labels: HashMap::from([("site".to_owned(), "south".to_owned())]), ..Default::default() };
    assert!(seen(&channel, &viewer, Some(south)).await.is_empty(), "a filter undoes the scope");
    let vault = EventFilter { cameras: vec!["cameras/vault".into()], ..Default::default() };
    assert!(seen(&channel, &viewer, Some(vault)).await.is_empty());
    of_mine.get_event(GetEventRequest { name: inside.name.clone() }).await.unwrap();
    let name = outside.name.clone();
    assert_eq!(of_mine.get_event(GetEventRequest { name: name.clone() }).await.unwrap_err().code(), Code::NotFound);
    let image = GetEventImageRequest { name: name.clone() };
    assert_eq!(of_mine.get_event_image(image).await.unwrap_err().code(), Code::NotFound);
    let feedback = GiveFeedbackRequest { name, feedback: Feedback::Wrong.into() };
    assert_eq!(of_mine.give_feedback(feedback).await.unwrap_err().code(), Code::NotFound);
    let search = SearchEventsRequest { image: bytes("obama.jpg"), ..Default::default() };
    of_mine.search_events(search).await.unwrap();
    let start = Some(Start::StartTime(prost_types::Timestamp::default()));
    let request = StreamEventsRequest {
        start,
        heartbeat_interval: Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 }),
        ..Default::default()
    };
    let mut stream = events(&channel, &viewer).stream_events(request).await.unwrap().into_inner();
    let (mut got, mut beats) = (0, 0);
    while beats < 3 {
        match timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap().message {
            Some(Message::Event(event)) => {
                assert_eq!(event.camera_labels["site"], "north");
                got += 1;
            }
            _ => beats += 1,
        }
    }
    assert!(got > 0);

    // What is of all cameras is refused, what is of none is not.
    let identify = IdentifyFacesRequest { image: bytes("obama.jpg"), ..Default::default() };
    let mut recognition = RecognitionServiceClient::new(with(&channel, &operator));
    assert_eq!(recognition.identify_faces(identify).await.unwrap_err().code(), Code::PermissionDenied);
    recognition.embed_faces(EmbedFacesRequest { image: bytes("obama.jpg") }).await.unwrap();
    let mut people = PersonServiceClient::new(with(&channel, &operator));
    let told = people.list_people(ListPeopleRequest::default()).await.unwrap_err();
    assert!(told.code() == Code::PermissionDenied && told.message().contains("site=north"), "{told:?}");
    let mut unknowns = UnknownServiceClient::new(with(&channel, &operator));
    let told = unknowns.list_unknowns(ListUnknownsRequest::default()).await.unwrap_err();
    assert_eq!(told.code(), Code::PermissionDenied);
    let (url, held) = (format!("http://{}/metrics", server.http), viewer.clone());
    let code = tokio::task::spawn_blocking(move || {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        agent.get(url).header("authorization", format!("Bearer {held}")).call().unwrap().status().as_u16()
    });
    assert_eq!(code.await.unwrap(), 403, "metrics name all cameras");
    server.stop().await;
}
