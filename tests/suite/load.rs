//! Many slow subscribers beside a fast one, rubbish from the network, and an end under load. `make load SUBSCRIBERS=1000` runs it larger.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tonic::{
    Code, Streaming,
    transport::{Channel, Endpoint},
};
use visage::proto::v1::{
    camera_service_client::CameraServiceClient, event_service_client::EventServiceClient, stream_events_request::Start,
    stream_events_response::Message, *,
};

use crate::{
    limits::web,
    secured::Secured,
    support::{PATIENCE, bytes},
};

/// Slow subscribers where `VISAGE_LOAD_SUBSCRIBERS` says nothing.
const SUBSCRIBERS: usize = 200;
/// Slow subscribers of one connection.
const PER_CONNECTION: usize = 100;
/// Cameras that change their state all the time.
const CAMERAS: usize = 6;
/// How long each part is measured.
const MEASURED: Duration = Duration::from_secs(5);

/// Registers cameras at which nobody answers, and switches them on and off until `stop`: each switch writes events.
async fn flapping(server: &Secured, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for i in 0..CAMERAS {
        let mut cameras = CameraServiceClient::new(server.plain().await);
        let mut camera = Camera { url: "rtsp://127.0.0.1:9/x".into(), ..Default::default() };
        let create =
            CreateCameraRequest { camera_id: format!("flap-{i}"), camera: Some(camera.clone()), validate_only: false };
        // It is there already after a restart.
        let _ = cameras.create_camera(create).await;
        camera.name = format!("cameras/flap-{i}");
        let stop = stop.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                camera.enabled = Some(round % 2 == 1);
                let mask = prost_types::FieldMask { paths: vec!["enabled".into()] };
                let request = UpdateCameraRequest { camera: Some(camera.clone()), update_mask: Some(mask) };
                if cameras.update_camera(request).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }));
    }
    tasks
}

/// Milliseconds from the writing of events until they were received, for a time.
async fn latencies(events: &mut Streaming<StreamEventsResponse>, during: Duration) -> Vec<f64> {
    let (until, mut found) = (Instant::now() + during, Vec::new());
    while Instant::now() < until {
        let Ok(message) = timeout(Duration::from_secs(2), events.message()).await else { continue };
        if let Some(Message::Event(event)) = message.unwrap().unwrap().message {
            let at = event.create_time.unwrap();
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            found.push(now.as_secs_f64() * 1e3 - (at.seconds as f64 * 1e3 + f64::from(at.nanos) / 1e6));
        }
    }
    found.sort_by(f64::total_cmp);
    found
}

fn share(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// Subscribers that are sent everything and read nothing.
async fn slow(addr: SocketAddr, count: usize) -> Vec<(Channel, Vec<Streaming<StreamEventsResponse>>)> {
    let mut all = Vec::new();
    for begun in (0..count).step_by(PER_CONNECTION) {
        // Small windows: what is not read stays with the server.
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
        let channel = endpoint.initial_stream_window_size(1024).initial_connection_window_size(65_535);
        let channel = channel.connect().await.unwrap();
        let mut streams = Vec::new();
        for _ in begun..count.min(begun + PER_CONNECTION) {
            let start = Some(Start::StartTime(prost_types::Timestamp::default()));
            let request = StreamEventsRequest { start, ..Default::default() };
            let stream = EventServiceClient::new(channel.clone()).stream_events(request).await.unwrap();
            streams.push(stream.into_inner());
        }
        all.push((channel, streams));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_subscribers_slow_nobody_down_and_cost_little() {
    let wanted = std::env::var("VISAGE_LOAD_SUBSCRIBERS").ok().and_then(|n| n.parse().ok()).unwrap_or(SUBSCRIBERS);
    let dir = tempfile::tempdir().unwrap();
    let limit = ("VISAGE_LIMITS__STREAMS_PER_CLIENT", (wanted + 10).to_string());
    let server = Secured::start(dir.path(), "127.0.0.1", &[limit]).await;
    let mut fast = EventServiceClient::new(server.plain().await);
    let mut fast = fast.stream_events(StreamEventsRequest::default()).await.unwrap().into_inner();
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = flapping(&server, &stop).await;
    latencies(&mut fast, Duration::from_secs(1)).await;
    let alone = latencies(&mut fast, MEASURED).await;
    let before = server.rss_mib();
    let held = slow(server.addr, wanted).await;
    assert_eq!(held.iter().map(|(_, streams)| streams.len()).sum::<usize>(), wanted);
    latencies(&mut fast, Duration::from_secs(2)).await;
    let beside = latencies(&mut fast, MEASURED).await;
    let after = server.rss_mib();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    drop(held);
    server.stop().await;
    let report = serde_json::json!({
        "subscribers": wanted, "events": beside.len(),
        "alone_ms": {"median": share(&alone, 0.5), "p95": share(&alone, 0.95)},
        "beside_ms": {"median": share(&beside, 0.5), "p95": share(&beside, 0.95)},
        "rss_mib": {"before": before, "after": after},
    });
    println!("{report}");
    if let Ok(path) = std::env::var("VISAGE_LOAD_REPORT") {
        std::fs::write(path, format!("{report}\n")).unwrap();
    }
    assert!(alone.len() > 50 && beside.len() > 50, "hardly any event: {report}");
    assert!(share(&beside, 0.5) < share(&alone, 0.5) * 3.0 + 50.0, "the fast subscriber is slowed down: {report}");
    assert!(after - before < 40.0 + wanted as f64 * 0.25, "slow subscribers cost too much: {report}");
}

/// Sends bytes and reads what comes until the server closes or says no more. Blocks.
fn rubbish(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.take(1 << 20).read_to_end(&mut answer);
    answer
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_from_the_network_harms_nobody() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let dir = tempfile::tempdir().unwrap();
    let server = Secured::start(dir.path(), "127.0.0.1", &[]).await;
    let channel = server.plain().await;
    let mut events = EventServiceClient::new(channel);
    events.list_events(ListEventsRequest::default()).await.unwrap();
    let (grpc, http) = (server.addr, server.http);
    let sent = tokio::task::spawn_blocking(move || {
        let settings = frame(4, 0, 0, &[]);
        let with = |frames: &[Vec<u8>]| [PREFACE, &settings, &frames.concat()].concat();
        // HPACK: a literal header of 70 000 bytes in frames of 16 384.
        let huge = vec![b'a'; 16_384];
        let many = [vec![frame(1, 0, 1, &huge)], vec![frame(9, 0, 1, &huge); 6]].concat();
        let mut noise = fastrand::Rng::with_seed(7);
        let random: Vec<u8> = (0..100_000).map(|_| noise.u8(..)).collect();
        let raw: [(&str, Vec<u8>); 9] = [
            ("nothing", Vec::new()),
            ("noise", random.clone()),
            ("TLS to a plain port", [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &random[..500]].concat()),
            ("noise after the preface", [PREFACE, &random[..]].concat()),
            ("a frame beyond any limit", with(&[[&[255, 255, 255, 0, 0, 0, 0, 0, 1][..], &random[..1000]].concat()])),
            ("broken HPACK", with(&[frame(1, 4 | 1, 1, &[255; 100])])),
            ("headers without an end", with(&many)),
            ("data before headers", with(&[frame(0, 1, 1, b"x")])),
            ("resets", with(&(0..2000u32).map(|i| frame(3, 0, i * 2 + 1, &[0, 0, 0, 8])).collect::<Vec<_>>())),
        ];
        for (what, bytes) in &raw {
            for addr in [grpc, http] {
                let began = std::time::Instant::now();
                rubbish(addr, bytes);
                assert!(began.elapsed() < Duration::from_secs(30), "{what} holds {addr}");
            }
        }
        // HTTP/1: a head without an end, too many headers, a wrong method; both listeners answer what they can.
        let long = format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(100_000));
        let told = String::from_utf8_lossy(&rubbish(http, long.as_bytes())).into_owned();
        // What was not read may cut the answer off.
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 431"), "{told}");
        let many: String = (0..500).map(|i| format!("x-{i}: a\r\n")).collect();
        let told = rubbish(http, format!("GET /healthz HTTP/1.1\r\n{many}\r\n").as_bytes());
        assert!(told.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&told));
        let told = rubbish(http, b"DELETE /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert!(told.starts_with(b"HTTP/1.1 405"), "{}", String::from_utf8_lossy(&told));
        // Messages: no protobuf, a length that lies, one beyond the limit, an unknown method.
        let method = "visage.v1.PersonService/GetPerson";
        let answer = web(grpc, method, &[255; 50], &[]);
        assert_eq!((answer.http, answer.grpc), (200, Some(13)), "gRPC says INTERNAL for what is no message");
        let answer = web(grpc, "visage.v1.PersonService/Nonsense", b"", &[]);
        assert_eq!(answer.grpc, Some(12));
        let answer = web(grpc, method, b"", &[("x-long", &"a".repeat(30_000))]);
        assert!(answer.http == 200 || answer.http == 431, "{}", answer.http);
    });
    sent.await.unwrap();
    // A picture that lies about its size, and one cut short.
    let mut recognition = recognition_service_client::RecognitionServiceClient::new(server.plain().await);
    let picture = bytes("obama.jpg");
    let large = DetectFacesRequest { image: vec![0; 49 << 20].into(), ..Default::default() };
    assert_eq!(recognition.detect_faces(large).await.unwrap_err().code(), Code::ResourceExhausted);
    for image in [picture.slice(..picture.len() / 3), picture.slice(10..), vec![0; 1000].into()] {
        let told = recognition.detect_faces(DetectFacesRequest { image, ..Default::default() }).await;
        assert!(told.is_ok() || told.is_err_and(|status| status.code() == Code::InvalidArgument));
    }
    events.list_events(ListEventsRequest::default()).await.expect("the server is gone");
    assert!(!server.said("panicked"), "{}", server.told());
    server.stop().await;
}

/// What a subscriber received: events by position, and where it goes on.
#[derive(Default)]
struct Received {
    names: BTreeMap<u64, String>,
    token: Option<String>,
    doubled: u64,
}

/// Receives until the stream ends; how it ended.
fn subscribe(addr: SocketAddr, received: &Arc<Mutex<Received>>) -> JoinHandle<Option<Code>> {
    let received = received.clone();
    tokio::spawn(async move {
        let mut client = EventServiceClient::connect(format!("http://{addr}")).await.unwrap();
        let token = received.lock().unwrap().token.clone();
        let start = token.map_or(Start::StartTime(prost_types::Timestamp::default()), Start::ResumeToken);
        let request = StreamEventsRequest { start: Some(start), ..Default::default() };
        let mut stream = client.stream_events(request).await.unwrap().into_inner();
        loop {
            match stream.message().await {
                Ok(Some(message)) => {
                    let mut received = received.lock().unwrap();
                    received.token = Some(message.resume_token);
                    match message.message {
                        Some(Message::Event(event)) => {
                            let twice = received.names.insert(event.position, event.name).is_some();
                            received.doubled += u64::from(twice);
                        }
                        Some(Message::Gap(gap)) => panic!("events were lost: {gap:?}"),
                        _ => {}
                    }
                }
                Ok(None) => return None,
                Err(status) => return Some(status.code()),
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_under_load_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let received = Arc::new(Mutex::new(Received::default()));
    for _ in 0..2 {
        let grace = ("VISAGE_SERVER__GRACE_SECONDS", "60".to_owned());
        let server = Secured::start(dir.path(), "127.0.0.1", &[grace]).await;
        let task = subscribe(server.addr, &received);
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = flapping(&server, &stop).await;
        let held = slow(server.addr, 20).await;
        sleep(Duration::from_secs(2)).await;
        // Still switching when the end comes.
        let mut server = server;
        let pid = server.pid().to_string();
        tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        let ended = timeout(PATIENCE, task).await.expect("the subscriber is not told of the end").unwrap();
        assert_eq!(ended, Some(Code::Unavailable));
        // Slow ones hold the end up for the grace period at most.
        drop(held);
        let status = timeout(PATIENCE, server.child.wait()).await.expect("the server does not end").unwrap();
        assert!(status.success(), "{status}: {}", server.told());
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
    }
    let server = Secured::start(dir.path(), "127.0.0.1", &[]).await;
    let task = subscribe(server.addr, &received);
    let mut events = EventServiceClient::new(server.plain().await);
    let mut cameras = CameraServiceClient::new(server.plain().await);
    for i in 0..CAMERAS {
        cameras.delete_camera(DeleteCameraRequest { name: format!("cameras/flap-{i}") }).await.unwrap();
    }
    let newest = ListEventsRequest { page_size: 1, ..Default::default() };
    let latest = events.list_events(newest).await.unwrap().into_inner().events[0].position;
    timeout(PATIENCE, async {
        while received.lock().unwrap().names.last_key_value().is_none_or(|(last, _)| *last < latest) {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the subscriber never caught up");
    server.stop().await;
    assert_eq!(task.await.unwrap(), Some(Code::Unavailable));
    let received = received.lock().unwrap();
    let missing = (1..=latest).filter(|position| !received.names.contains_key(position)).count();
    assert!(latest > 100, "hardly any event");
    assert_eq!((missing, received.doubled), (0, 0), "of {latest} events");
}
