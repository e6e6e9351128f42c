//! Register → stream → enrol → recognise → resume after a restart, on real faces over real RTSP.

use std::collections::BTreeSet;

use visage::{
    proto::v1::{
        EventFilter, EventKind, GetEventImageRequest, ListEventsRequest, UnknownReasonCode,
        stream_events_request::Start,
    },
    simulator::{SimCamera, Simulator, SimulatorSettings},
};

use crate::support::{Server, cut, folder_of, picture};

fn simulator(cameras: &[String]) -> Simulator {
    let cameras = cameras.iter().map(|c| SimCamera::parse(c).unwrap()).collect();
    Simulator::start(SimulatorSettings { port: 0, cameras, ..Default::default() }).unwrap()
}

fn person(event: &visage::proto::v1::Event) -> &str {
    event.r#match.as_ref().map_or("", |m| m.person.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_person_is_named_once_and_a_resumed_subscriber_sees_neither_gap_nor_double() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder_of(dir.path(), "door", &["obama2.jpg"]);
    let sim = simulator(&[format!("door={}", folder.display())]);
    let data = dir.path().join("data");
    let server = Server::start(&data).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    server.know("joe-biden", "Joe Biden", "biden.jpg").await;
    let mut feed = server.stream(None).await;
    server.add_camera("door", &sim.url("door")).await;

    let (seen, token) = feed.until(|e| e.kind() == EventKind::Left).await;
    let track = seen.last().unwrap().track.clone();
    let kinds: Vec<EventKind> = seen.iter().filter(|e| e.track == track).map(|e| e.kind()).collect();
    assert_eq!(
        kinds,
        [EventKind::Appeared, EventKind::Recognized, EventKind::Left],
        "one appearance, a handful of events"
    );
    let recognized = seen.iter().find(|e| e.kind() == EventKind::Recognized).unwrap();
    assert_eq!(person(recognized), "people/barack-obama");
    let matched = recognized.r#match.as_ref().unwrap();
    assert!(matched.similarity >= matched.threshold && matched.confidence > 0.5, "{matched:?}");
    assert!(seen.iter().all(|e| person(e) != "people/joe-biden"));
    assert!(seen.last().unwrap().dwell.is_some());

    let image = GetEventImageRequest { name: recognized.name.clone() };
    let jpeg = server.events().await.get_event_image(image).await.unwrap().into_inner().jpeg;
    let drawn = image::load_from_memory(&jpeg).unwrap();
    assert!(drawn.width() >= 320);

    // A crash and a restart: the camera comes back by itself, the subscriber goes on where it stopped.
    let last = seen.last().unwrap().position;
    server.kill().await;
    let server = Server::start(&data).await;
    let mut feed = server.stream(Some(Start::ResumeToken(token))).await;
    let (after, _) = feed.until(|e| e.kind() == EventKind::Recognized).await;
    let positions: Vec<u64> = after.iter().map(|e| e.position).collect();
    let expected: Vec<u64> = (last + 1..=last + positions.len() as u64).collect();
    assert_eq!(positions, expected, "a gap or a double after the restart");
    assert_eq!(person(after.last().unwrap()), "people/barack-obama");

    let listed = server.events().await.list_events(ListEventsRequest::default()).await.unwrap().into_inner().events;
    assert!(listed.windows(2).all(|w| w[0].position == w[1].position + 1), "newest first without holes");
    server.stop().await;
    sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_stays_unknown_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("lobby");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(picture("biden.jpg"), folder.join("biden.jpg")).unwrap();
    let sim = simulator(&[format!("lobby={}", folder.display())]);
    let server = Server::start(&dir.path().join("data")).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let mut feed = server.stream(None).await;
    server.add_camera("lobby", &sim.url("lobby")).await;
    let (seen, _) = feed.until(|e| e.kind() == EventKind::Left).await;
    assert!(seen.iter().all(|e| e.kind() != EventKind::Recognized && person(e).is_empty()), "a stranger got a name");
    let unknown = seen.iter().find(|e| e.kind() == EventKind::Unknown).expect("no UNKNOWN was told");
    assert!(!unknown.reason.is_empty());
    server.stop().await;
    sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_compared_with_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("aisle");
    std::fs::create_dir_all(&folder).unwrap();
    cut("sample2.jpg", (200, 40, 480, 480), &folder.join("profile.png"));
    image::RgbImage::new(480, 480).save(folder.join("z-nobody.png")).unwrap();
    let sim = simulator(&[format!("aisle={}", folder.display())]);
    let data = dir.path().join("data");
    // A threshold that everybody passes: whoever is compared gets the name.
    let server = Server::start_with(&data, &[("VISAGE_IDENTITY__IDENTIFICATION_THRESHOLD", "-0.9")]).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let mut feed = server.stream(None).await;
    server.add_camera("aisle", &sim.url("aisle")).await;
    let (seen, _) = feed.until(|e| e.kind() == EventKind::Left).await;
    assert!(seen.iter().all(|e| person(e).is_empty()), "a profile got a name");
    let unknown = seen.iter().find(|e| e.kind() == EventKind::Unknown).expect("no UNKNOWN was told");
    let why = unknown.r#match.as_ref().and_then(|m| m.unknown_reason.as_ref()).unwrap();
    assert_eq!(why.code(), UnknownReasonCode::TurnedAway, "{unknown:?}");
    assert!(why.value < why.needed && why.needed == 0.12, "{why:?}");
    server.stop().await;

    // Who wants profiles compared may have it so.
    let all = [("VISAGE_IDENTITY__IDENTIFICATION_THRESHOLD", "-0.9"), ("VISAGE_IDENTITY__MIN_FRONTALITY", "0")];
    let server = Server::start_with(&data, &all).await;
    let mut feed = server.stream(None).await;
    feed.until(|e| e.kind() == EventKind::Recognized).await;
    server.stop().await;
    sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cameras_with_different_people_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let east = folder_of(dir.path(), "east", &["obama3.jpg"]);
    let west = folder_of(dir.path(), "west", &["biden.jpg"]);
    let sim =
        simulator(&[format!("east={},codec=h265", east.display()), format!("west={},codec=mjpeg", west.display())]);
    let server = Server::start(&dir.path().join("data")).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    server.know("joe-biden", "Joe Biden", "biden.jpg").await;
    let mut feed = server.stream(None).await;
    for id in ["east", "west"] {
        server.add_camera(id, &sim.url(id)).await;
    }
    let mut named: BTreeSet<(String, String)> = BTreeSet::new();
    feed.until(|e| {
        if e.kind() == EventKind::Recognized {
            named.insert((e.camera.clone(), person(e).to_owned()));
        }
        named.len() >= 2
    })
    .await;
    let expected = [("cameras/east", "people/barack-obama"), ("cameras/west", "people/joe-biden")];
    assert_eq!(named, expected.map(|(c, p)| (c.to_owned(), p.to_owned())).into());

    // A filter by camera shows that camera alone.
    let filter = EventFilter { cameras: vec!["cameras/west".into()], ..Default::default() };
    let request = ListEventsRequest { filter: Some(filter), ..Default::default() };
    let events = server.events().await.list_events(request).await.unwrap().into_inner().events;
    assert!(!events.is_empty() && events.iter().all(|e| e.camera == "cameras/west"));
    server.stop().await;
    sim.stop();
}
