//! A server that is killed again and again at random moments while cameras, a subscriber and an enroller are at work: nothing is lost,
//! nothing comes twice. `make chaos KILLS=200` runs it for long.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinHandle, time::sleep};
use visage::proto::v1::{
    GetPersonRequest, StreamEventsRequest, stream_events_request::Start, stream_events_response::Message,
};

use crate::support::{Server, bytes, crowded_cameras, visage};

/// Kills where `VISAGE_CHAOS_KILLS` says nothing.
const KILLS: u64 = 6;
/// Cameras, each with somebody new every second.
const CAMERAS: usize = 4;

/// What a subscriber received over all its connections.
#[derive(Default)]
struct Received {
    /// Event names by position.
    names: BTreeMap<u64, String>,
    token: Option<String>,
    /// Positions that came twice.
    doubled: u64,
    /// Positions that came out of their turn: some before them were passed over.
    passed_over: u64,
}

impl Received {
    fn take(&mut self, position: u64, name: String, token: String) {
        let next = self.names.last_key_value().map_or(1, |(last, _)| last + 1);
        self.passed_over += position.saturating_sub(next);
        self.doubled += u64::from(self.names.insert(position, name).is_some());
        self.token = Some(token);
    }
}

/// Receives until the server is gone; goes on where the last connection ended.
fn subscribe(server: &Server, received: &Arc<Mutex<Received>>) -> JoinHandle<()> {
    let url = format!("http://{}", server.addr);
    let received = received.clone();
    tokio::spawn(async move {
        let Ok(mut client) = visage::proto::v1::event_service_client::EventServiceClient::connect(url).await else {
            return;
        };
        let token = received.lock().unwrap().token.clone();
        let start = token.map_or(Start::StartTime(prost_types::Timestamp::default()), Start::ResumeToken);
        let request = StreamEventsRequest { filter: None, start: Some(start), heartbeat_interval: None };
        let Ok(answer) = client.stream_events(request).await else { return };
        let mut stream = answer.into_inner();
        while let Ok(Some(message)) = stream.message().await {
            match message.message {
                Some(Message::Event(event)) => {
                    received.lock().unwrap().take(event.position, event.name, message.resume_token);
                }
                Some(Message::Gap(gap)) => panic!("the log lost events: {gap:?}"),
                _ => {}
            }
        }
    })
}

/// Enrols people one after another until the server is gone; keeps those whose enrolment was acknowledged.
fn enrol(server: &Server, round: u64, acknowledged: &Arc<Mutex<BTreeSet<String>>>) -> JoinHandle<()> {
    use visage::proto::v1::{
        CreatePersonRequest, EnrollFacesRequest, Person, person_service_client::PersonServiceClient,
    };
    let url = format!("http://{}", server.addr);
    let acknowledged = acknowledged.clone();
    tokio::spawn(async move {
        let Ok(mut client) = PersonServiceClient::connect(url).await else { return };
        for number in 0.. {
            let id = format!("p-{round}-{number}");
            let person = Person { display_name: id.clone(), ..Default::default() };
            let request = CreatePersonRequest { person_id: id.clone(), person: Some(person), validate_only: false };
            if client.create_person(request).await.is_err() {
                return;
            }
            let request = EnrollFacesRequest {
                person: format!("people/{id}"),
                image: bytes("obama.jpg"),
                source: "chaos".into(),
                allow_several_faces: false,
                force: true,
            };
            let Ok(answers) = client.enroll_faces(tokio_stream::iter(vec![request])).await else { return };
            match answers.into_inner().message().await {
                Ok(Some(answer)) => {
                    assert!(answer.face.is_some(), "{}", answer.message);
                    acknowledged.lock().unwrap().insert(id);
                }
                _ => return,
            }
        }
    })
}

/// Starts a server and kills it before it may be ready.
async fn killed_at_start(data: &Path, after: Duration) {
    let mut child = visage()
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(data)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .spawn()
        .unwrap();
    sleep(after).await;
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_at_random_moments_loses_and_doubles_nothing() {
    let kills = std::env::var("VISAGE_CHAOS_KILLS").ok().map_or(KILLS, |kills| kills.parse().unwrap());
    let seed = std::env::var("VISAGE_CHAOS_SEED").ok().map_or(1, |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let sim = crowded_cameras(dir.path(), CAMERAS);
    let data = dir.path().join("data");

    let server = Server::start(&data).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    for i in 0..CAMERAS {
        server.add_camera(&format!("c{i}"), &sim.url(&format!("c{i}"))).await;
    }
    let (received, acknowledged) = (Arc::<Mutex<Received>>::default(), Arc::<Mutex<BTreeSet<String>>>::default());
    let mut server = Some(server);
    for kill in 0..kills {
        let running = match server.take() {
            Some(server) => server,
            None => Server::start(&data).await,
        };
        let tasks = [subscribe(&running, &received), enrol(&running, kill, &acknowledged)];
        sleep(Duration::from_millis(random.u64(100..3500))).await;
        running.kill().await;
        for task in tasks {
            task.await.unwrap();
        }
        if kill % 4 == 1 {
            killed_at_start(&data, Duration::from_millis(random.u64(0..1500))).await;
        }
    }

    let server = Server::start(&data).await;
    let task = subscribe(&server, &received);
    for i in 0..CAMERAS {
        server.cameras().await.delete_camera(delete(i)).await.unwrap();
    }
    let log = server.log().await;
    let latest = log.last_key_value().map_or(0, |(position, _)| *position);
    let until = tokio::time::Instant::now() + crate::support::PATIENCE;
    while received.lock().unwrap().names.last_key_value().is_none_or(|(position, _)| *position < latest) {
        assert!(tokio::time::Instant::now() < until, "the subscriber never caught up");
        sleep(Duration::from_millis(50)).await;
    }
    let mut people = server.people().await;
    let mut people_lost = 0;
    let acknowledged = acknowledged.lock().unwrap().clone();
    for id in &acknowledged {
        let person = people.get_person(GetPersonRequest { name: format!("people/{id}") }).await;
        people_lost += u64::from(person.map_or(0, |person| person.into_inner().face_count) == 0);
    }
    server.stop().await;
    task.await.unwrap();
    sim.stop();

    let received = received.lock().unwrap();
    let holes = (1..=latest).filter(|position| !log.contains_key(position)).count() as u64;
    let differ = log.iter().filter(|(position, name)| received.names.get(position) != Some(name)).count() as u64;
    let names: BTreeSet<&String> = log.values().collect();
    let doubled = received.doubled + (log.len() - names.len()) as u64;
    let report = serde_json::json!({
        "kills": kills, "events": log.len(), "lost": holes + differ + received.passed_over, "doubled": doubled,
        "enrolled": acknowledged.len(), "enrolled_lost": people_lost,
    });
    if let Ok(path) = std::env::var("VISAGE_CHAOS_REPORT") {
        std::fs::write(path, format!("{report}\n")).unwrap();
    }
    assert!(log.len() as u64 > kills, "hardly any event: {report}");
    assert_eq!((holes, differ, received.passed_over, doubled, people_lost), (0, 0, 0, 0, 0), "{report}");
}

fn delete(camera: usize) -> visage::proto::v1::DeleteCameraRequest {
    visage::proto::v1::DeleteCameraRequest { name: format!("cameras/c{camera}") }
}
