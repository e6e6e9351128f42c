//! What one client may ask for, as a client meets it: rates, places, connections, deadlines.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use prost::Message as _;
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;
use visage::proto::v1::{
    event_service_client::EventServiceClient, recognition_service_client::RecognitionServiceClient,
    server_service_client::ServerServiceClient, *,
};

use crate::{
    secured::{Secured, token, with},
    support::{PATIENCE, bytes},
};

/// An answer over gRPC-Web: HTTP status, gRPC status where the headers tell one, body.
pub struct Web {
    pub http: u16,
    pub grpc: Option<i32>,
    pub body: Vec<u8>,
}

/// A call over gRPC-Web, where headers are as the test writes them. Blocks.
pub fn web(addr: SocketAddr, method: &str, message: &[u8], headers: &[(&str, &str)]) -> Web {
    try_web(addr, method, message, headers).unwrap()
}

fn try_web(addr: SocketAddr, method: &str, message: &[u8], headers: &[(&str, &str)]) -> Result<Web, ureq::Error> {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build();
    let mut request =
        agent.new_agent().post(format!("http://{addr}/{method}")).header("content-type", "application/grpc-web+proto");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    let mut answer = request.send(&body[..])?;
    let grpc = answer.headers().get("grpc-status").map(|s| s.to_str().unwrap().parse().unwrap());
    Ok(Web { http: answer.status().as_u16(), grpc, body: answer.body_mut().read_to_vec()? })
}

const INFO: &str = "visage.v1.ServerService/GetServerInfo";

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_which_key_and_when_and_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let busy = token(&data, &["create", "busy", "--role", "viewer"]).await;
    let calm = token(&data, &["create", "calm", "--role", "viewer"]).await;
    let env = [
        ("VISAGE_AUTH__REQUIRED", "true".to_owned()),
        ("VISAGE_LIMITS__REQUESTS_PER_SECOND", "2".to_owned()),
        ("VISAGE_LIMITS__REQUEST_BURST", "5".to_owned()),
        ("VISAGE_LIMITS__STREAMS_PER_CLIENT", "1".to_owned()),
    ];
    let server = Secured::start(dir.path(), "127.0.0.1", &env).await;
    let channel = server.plain().await;
    let info = |token: &str| {
        let mut client = ServerServiceClient::new(with(&channel, token));
        async move { client.get_server_info(GetServerInfoRequest {}).await }
    };
    // The services are up when the first answer comes.
    timeout(PATIENCE, async {
        while info(&calm).await.is_err() {
            sleep(Duration::from_millis(600)).await;
        }
    })
    .await
    .unwrap();
    let mut refused = None;
    for _ in 0..20 {
        if let Err(status) = info(&busy).await {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.expect("twenty requests at once were served");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("the token busy") && refused.message().contains("limits.requests_per_second"));
    let details = refused.get_error_details();
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_millis(500), "{wait:?}");
    assert_eq!(details.quota_failure().unwrap().violations[0].subject, "limits.requests_per_second");
    info(&calm).await.expect("another client pays for the busy one");
    for _ in 0..50 {
        HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.expect("health has a limit");
    }
    sleep(wait + Duration::from_millis(50)).await;
    info(&busy).await.expect("who came back in time is refused");
    // Who guesses tokens is told nothing more after a while, and the holders of tokens at that address are served.
    let guesses: Vec<_> = (0..30).map(|_| tokio::spawn(info("visage_guess"))).collect();
    let mut codes = Vec::new();
    for guess in guesses {
        codes.push(guess.await.unwrap().unwrap_err().code());
    }
    let of = |code: Code| codes.iter().filter(|c| **c == code).count();
    assert!(of(Code::Unauthenticated) >= 1 && of(Code::ResourceExhausted) >= 1, "{codes:?}");
    assert_eq!(of(Code::Unauthenticated) + of(Code::ResourceExhausted), codes.len(), "{codes:?}");
    info(&calm).await.expect("a token pays for guesses at its address");
    sleep(Duration::from_millis(1100)).await;
    // Streams have places of their own.
    let stream = || {
        let mut client = EventServiceClient::new(with(&channel, &calm));
        async move { client.stream_events(StreamEventsRequest::default()).await }
    };
    let first = stream().await.unwrap();
    let second = stream().await.unwrap_err();
    assert!(second.code() == Code::ResourceExhausted && second.message().contains("limits.streams_per_client"));
    drop(first);
    timeout(PATIENCE, async {
        while stream().await.is_err() {
            sleep(Duration::from_millis(600)).await;
        }
    })
    .await
    .expect("the place of a stream that ended is not free");
    let (url, held) = (format!("http://{}/metrics", server.http), calm.clone());
    let metrics = tokio::task::spawn_blocking(move || {
        let mut answer = ureq::get(url).header("authorization", format!("Bearer {held}")).call().unwrap();
        answer.body_mut().read_to_string().unwrap()
    });
    let metrics = metrics.await.unwrap();
    for reason in ["rate", "streams", "token"] {
        assert!(metrics.contains(&format!("visage_requests_refused_total{{reason=\"{reason}\"}}")), "{reason}");
    }
    server.stop().await;
}

/// Whether a connection is closed by the server within a time.
fn closed(stream: &mut TcpStream, within: Duration) -> bool {
    let until = Instant::now() + within;
    let mut bytes = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut].contains(&error.kind()) => {}
            Err(_) => return true,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_and_silent_ones_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let env = [
        ("VISAGE_LIMITS__CONNECTIONS_PER_ADDRESS", "6".to_owned()),
        ("VISAGE_LIMITS__GREETING_SECONDS", "3".to_owned()),
    ];
    let server = Secured::start(dir.path(), "127.0.0.1", &env).await;
    let (grpc, http) = (server.addr, server.http);
    let checked = tokio::task::spawn_blocking(move || {
        for (name, addr, begin) in
            [("gRPC", grpc, &b"PRI * HTTP/2"[..]), ("HTTP", http, b"GET /healthz HTTP/1.1\r\nx-a: ")]
        {
            // Silent ones, and ones that begin and dribble.
            let mut held: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(addr).unwrap()).collect();
            for stream in &mut held[2..] {
                stream.write_all(begin).unwrap();
            }
            std::thread::sleep(Duration::from_millis(300));
            // There is a place left, and somebody is served meanwhile; then there is none.
            if addr == http {
                let agent = ureq::Agent::new_with_defaults();
                assert_eq!(agent.get(format!("http://{addr}/healthz")).call().unwrap().status(), 200, "{name}");
                // Keep-alive holds the place until the agent is gone.
                drop(agent);
                std::thread::sleep(Duration::from_millis(200));
            } else {
                assert_eq!(web(addr, INFO, b"", &[]).http, 200, "{name}");
                std::thread::sleep(Duration::from_millis(200));
            }
            let mut sixth = TcpStream::connect(addr).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            let mut seventh = TcpStream::connect(addr).unwrap();
            assert!(closed(&mut seventh, Duration::from_secs(2)), "{name}: a seventh connection is held");
            let began = Instant::now();
            for stream in held.iter_mut().chain([&mut sixth]) {
                let _ = stream.write_all(b"x");
                assert!(closed(stream, Duration::from_secs(20)), "{name}: a slow connection is held");
            }
            assert!(began.elapsed() < Duration::from_secs(15), "{name}: {:?}", began.elapsed());
        }
    });
    checked.await.unwrap();
    let metrics = tokio::task::spawn_blocking(move || {
        ureq::get(format!("http://{http}/metrics")).call().unwrap().body_mut().read_to_string().unwrap()
    });
    let metrics = metrics.await.unwrap();
    for listener in ["grpc", "http"] {
        let line = format!("visage_connections_refused_total{{listener=\"{listener}\",reason=\"address\"}}");
        assert!(metrics.contains(&line), "{metrics}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_work_and_its_place_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let server = Secured::start(dir.path(), "127.0.0.1", &[]).await;
    let channel = server.plain().await;
    let mut recognition = RecognitionServiceClient::new(channel.clone());
    let picture = bytes("obama.jpg");
    recognition.embed_faces(EmbedFacesRequest { image: picture.clone() }).await.unwrap();
    // More than the desk has places for, none of which can be answered in time.
    let message = EmbedFacesRequest { image: picture.clone() }.encode_to_vec();
    let calls: Vec<_> = (0..60)
        .map(|_| {
            let (addr, message) = (server.addr, message.clone());
            let headers = [("grpc-timeout", "20m")];
            tokio::task::spawn_blocking(move || {
                try_web(addr, "visage.v1.RecognitionService/EmbedFaces", &message, &headers)
            })
        })
        .collect();
    let mut late = 0;
    for call in calls {
        match call.await.unwrap() {
            // Those that found the desk full were told at once; an answer that is there when the clock is looked at is given.
            Ok(answer) => {
                assert!([Some(4), Some(14), None].contains(&answer.grpc), "{:?}", answer.grpc);
                late += i32::from(answer.grpc == Some(4));
            }
            // Answered while the picture was still on its way, and closed.
            Err(ureq::Error::Io(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(late > 0, "nobody was told DEADLINE_EXCEEDED");
    let began = Instant::now();
    recognition.embed_faces(EmbedFacesRequest { image: picture }).await.expect("their places are taken");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // A stream ends with its deadline, too.
    let (addr, began) = (server.addr, Instant::now());
    let ended = tokio::task::spawn_blocking(move || {
        web(addr, "visage.v1.EventService/StreamEvents", b"", &[("grpc-timeout", "300m")])
    });
    let ended = ended.await.unwrap();
    // In the head of the answer where the deadline comes before the stream has begun.
    let last = String::from_utf8_lossy(&ended.body).into_owned();
    assert!(ended.grpc == Some(4) || last.contains("grpc-status:4"), "{:?} {last}", ended.grpc);
    assert!(began.elapsed() >= Duration::from_millis(290));
    server.stop().await;
}
