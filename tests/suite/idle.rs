//! Idling on key frames over real RTSP: what is decoded, and that nothing between two key frames is lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use visage::{
    camera::{
        Attention, gst_opener,
        source::{OpenRequest, Source},
        spec::{SamplingPolicy, TlsPolicy, Transport, parse_url},
    },
    frame::{Decoded, Frame},
    proto::v1::CameraState,
    simulator::{
        Actor, Bitrate, CardShape, Codec, Scene, SimCamera, SimSource, Simulator, SimulatorSettings, Waypoint,
    },
};

use crate::support::{Server, http_get};

const FPS: u32 = 25;

/// A still room in which somebody is for less than a key-frame interval, between two key frames; they are two seconds apart.
fn visited(codec: Codec, visit: Duration) -> Simulator {
    let card = image::RgbImage::from_fn(80, 80, |x, y| image::Rgb([(x * 3) as u8, (y * 3) as u8, 200]));
    let at = |ms, x| Waypoint { at: visit + Duration::from_millis(ms), x, y: 0.5, height: 0.3 };
    let visitor = Actor {
        label: "visitor".into(),
        picture: Arc::new(card),
        shape: CardShape::Whole,
        region: None,
        path: vec![at(0, 0.3), at(1_200, 0.7)],
    };
    let scene = Scene::new((320, 240), FPS, visit + Duration::from_secs(8)).actor(visitor);
    let camera = SimCamera::new("room", SimSource::Scene(scene)).codec(codec);
    Simulator::start(SimulatorSettings { cameras: vec![camera], ..Default::default() }).unwrap()
}

fn asking(simulator: &Simulator, attention: &Arc<Attention>) -> OpenRequest {
    let (url, credentials) = parse_url(&simulator.url("room")).unwrap();
    OpenRequest {
        camera: "room".parse().unwrap(),
        url,
        credentials,
        transport: Transport::Tcp,
        tls: TlsPolicy::Verify,
        sampling: SamplingPolicy::default(),
        attention: attention.clone(),
        on_demand: false,
    }
}

/// Plays until `enough`; every frame is seen as soon as it comes.
async fn play(source: &mut dyn Source, attention: &Attention, mut enough: impl FnMut(&Frame) -> bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    let watched = async {
        loop {
            let frame = source.next().await.unwrap();
            attention.seen(frame.pts.unwrap());
            let done = enough(&frame);
            frames.push(frame);
            if done {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), watched).await.expect("it took too long");
    frames
}

/// `looks`: time between two key frames that are decoded, as promised.
async fn a_visitor_between_two_key_frames_is_seen(codec: Codec, visit: Duration, looks: Duration) {
    let simulator = visited(codec, visit);
    let attention = Arc::new(Attention::default());
    let mut request = asking(&simulator, &attention);
    request.sampling.max_detection_delay = looks;
    let mut source = gst_opener().unwrap().open(&request).await.unwrap();
    let frames = play(&mut *source, &attention, |frame| frame.decoded == Decoded::Late).await;
    let alone: Vec<_> = frames.iter().filter(|f| f.decoded == Decoded::Alone).collect();
    assert!(alone.len() >= 2, "it never idled: {} frames", frames.len());
    let apart = alone.windows(2).map(|w| w[1].pts.unwrap() - w[0].pts.unwrap());
    assert!(
        apart.clone().all(|gap| gap.abs_diff(looks) < Duration::from_millis(500)),
        "not the key frames of the promise: {:?}",
        apart.collect::<Vec<_>>()
    );
    let begin = frames[0].pts.unwrap();
    let late = play(&mut *source, &attention, |frame| frame.decoded == Decoded::AsItCame).await;
    let first = frames.last().unwrap().pts.unwrap() - begin;
    assert!(first <= visit + Duration::from_millis(150), "the visit at {visit:?} was first looked at at {first:?}");
    let all: Vec<_> = frames.iter().rev().take(1).chain(&late).map(|f| f.pts.unwrap()).collect();
    assert!(all.is_sorted(), "frames out of order: {all:?}");
    assert!(late.iter().all(|f| f.decoded != Decoded::Alone));
    let facts = source.facts();
    assert!(facts.wakes == 1 && !facts.key_frames_only && facts.idle > 50, "{facts:?}");
    source.close().await;
    simulator.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_between_two_key_frames_of_h264_is_seen() {
    a_visitor_between_two_key_frames_is_seen(Codec::H264, Duration::from_millis(12_300), Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_between_two_key_frames_of_h265_is_seen() {
    a_visitor_between_two_key_frames_is_seen(Codec::H265, Duration::from_millis(12_300), Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_after_a_key_frame_that_was_passed_over_is_seen() {
    a_visitor_between_two_key_frames_is_seen(Codec::H264, Duration::from_millis(18_300), Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wakes_it_gets_everything_since_the_last_frame_seen() {
    let simulator = visited(Codec::H264, Duration::from_millis(12_300));
    let attention = Arc::new(Attention::default());
    let mut source = gst_opener().unwrap().open(&asking(&simulator, &attention)).await.unwrap();
    let idle = play(&mut *source, &attention, |frame| frame.decoded == Decoded::Alone).await;
    let key = idle.last().unwrap().pts.unwrap();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    attention.wake();
    let woken = play(&mut *source, &attention, |frame| frame.decoded == Decoded::AsItCame).await;
    let late: Vec<_> = woken.iter().filter(|f| f.decoded == Decoded::Late).map(|f| f.pts.unwrap()).collect();
    let gaps: Vec<_> = std::iter::once(&key).chain(&late).zip(&late).map(|(a, b)| *b - *a).collect();
    assert!(late.len() >= 5, "{late:?}");
    assert!(gaps.iter().all(|gap| *gap <= Duration::from_millis(170)), "a gap among frames decoded late: {gaps:?}");
    let (last, live) = (late[late.len() - 1], woken[woken.len() - 1].pts.unwrap());
    assert!(live - last <= Duration::from_millis(400), "a gap before the live ones: {:?}", live - last);
    source.close().await;
    simulator.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_writes_the_time_into_its_picture_idles() {
    let dir = tempfile::tempdir().unwrap();
    // Smaller writing hardly changes the brightness of a cell, and the clock would be no hindrance.
    let scene = Scene::new((1280, 720), FPS, Duration::from_secs(60)).noise(6).clock();
    let camera = SimCamera { bitrate: Some(Bitrate::AtMost(3000)), ..SimCamera::new("room", SimSource::Scene(scene)) };
    let simulator = Simulator::start(SimulatorSettings { cameras: vec![camera], ..Default::default() }).unwrap();
    let server = Server::start(dir.path()).await;
    server.add_camera("room", &simulator.url("room")).await;
    let (mut before, mut began) = (server.camera_in("room", CameraState::Streaming).await, Instant::now());
    // Known after a while, and idle from then on: for 15 s no picture but key frames, each of them with another second in it.
    let idles = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = server.camera_in("room", CameraState::Streaming).await;
            if !now.key_frames_only || now.wakes != before.wakes || !before.key_frames_only {
                (before, began) = (now, Instant::now());
            } else if began.elapsed() >= Duration::from_secs(15) {
                return now;
            }
        }
    };
    let after = tokio::time::timeout(Duration::from_secs(100), idles).await.expect("it never idles for long");
    let idle = after.frames_skipped["idle"] - before.frames_skipped.get("idle").copied().unwrap_or_default();
    assert!(idle > 300, "{idle} of 375: {before:?} {after:?}");
    let metrics = http_get(server.http, "/metrics").await;
    let in_parts = r#"visage_searches_total{camera="room",extent="parts"}"#;
    assert!(
        metrics.lines().any(|line| line.starts_with(in_parts)),
        "a clock is no reason to search the whole: {metrics}"
    );
    server.stop().await;
    simulator.stop();
}
