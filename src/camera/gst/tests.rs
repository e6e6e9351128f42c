//! Real streams from an RTSP server in this process.

use std::time::Duration;

use gstreamer_rtsp::RTSPLowerTrans;
use gstreamer_rtsp_server::{RTSPMediaFactory, RTSPServer, prelude::*};

use super::*;
use crate::{
    camera::{
        Attention,
        source::Cause,
        spec::{Credentials, Decoding, SamplingPolicy, TlsPolicy, Transport, parse_url},
    },
    frame::{Decoded, Frame},
};

/// A server with a pattern at `/test`; ends with its drop.
struct Server {
    main_loop: gstreamer::glib::MainLoop,
    thread: Option<std::thread::JoinHandle<()>>,
    port: i32,
}

impl Server {
    fn start(launch: &str) -> Self {
        Self::start_with(launch, RTSPLowerTrans::UDP | RTSPLowerTrans::TCP)
    }

    fn start_with(launch: &str, protocols: RTSPLowerTrans) -> Self {
        gstreamer::init().unwrap();
        let launch = launch.to_owned();
        let (tx, rx) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let context = gstreamer::glib::MainContext::new();
            let main_loop = gstreamer::glib::MainLoop::new(Some(&context), false);
            let server = RTSPServer::new();
            server.set_address("127.0.0.1");
            server.set_service("0");
            let factory = RTSPMediaFactory::new();
            factory.set_launch(&launch);
            factory.set_shared(true);
            factory.set_protocols(protocols);
            server.mount_points().unwrap().add_factory("/test", factory);
            let _source = server.attach(Some(&context)).unwrap();
            tx.send((main_loop.clone(), server.bound_port())).unwrap();
            main_loop.run();
        });
        let (main_loop, port) = rx.recv().unwrap();
        Self { main_loop, thread: Some(thread), port }
    }

    fn request(&self, path: &str, transport: Transport) -> OpenRequest {
        let (url, credentials) = parse_url(&format!("rtsp://127.0.0.1:{}/{path}", self.port)).unwrap();
        asking(url, credentials, transport)
    }
}

fn asking(url: url::Url, credentials: Option<Credentials>, transport: Transport) -> OpenRequest {
    OpenRequest {
        camera: "c".parse().unwrap(),
        url,
        credentials,
        transport,
        tls: TlsPolicy::Verify,
        sampling: SamplingPolicy::default(),
        attention: Arc::default(),
        on_demand: false,
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.main_loop.quit();
        self.thread.take().map(|t| t.join());
    }
}

const PATTERN: &str = "( videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 !";

/// A source with its first frame. An encoder that starts on a busy machine may take longer than a camera ever would.
async fn opened(request: &OpenRequest) -> (Box<dyn Source>, Frame) {
    let opener = gst_opener().unwrap();
    for _ in 0..4 {
        let mut source = opener.open(request).await.unwrap();
        match tokio::time::timeout(Duration::from_secs(30), source.next()).await.expect("neither frame nor end") {
            Ok(frame) => return (source, frame),
            Err(end) => assert!(matches!(end.cause, Cause::ConnectTimeout | Cause::Busy), "{end:?}"),
        }
        source.close().await;
    }
    panic!("the server never answered in time");
}

async fn first_frames(server: &Server, transport: Transport, codec: &str) {
    let (mut source, mut frame) = opened(&server.request("test", transport)).await;
    let play = async {
        for _ in 0..5 {
            let next = source.next().await.unwrap();
            assert!(next.sequence > frame.sequence);
            frame = next;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), play).await.expect("no frames came");
    assert_eq!((frame.picture.width(), frame.picture.height()), (320, 240));
    let luma = frame.picture.plane(0);
    assert!(luma.stride >= 320 && luma.data.iter().any(|v| *v > 100), "the picture is black");
    let age = crate::time::seconds_between(frame.captured.at, crate::time::now());
    assert!((-0.5..5.0).contains(&age), "captured {age} s ago");
    assert_eq!(source.facts().codec, Some(codec));
    source.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_plays_over_tcp_and_udp() {
    let server = Server::start(&format!(
        "{PATTERN} x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96 )"
    ));
    first_frames(&server, Transport::Tcp, "H264").await;
    first_frames(&server, Transport::Udp, "H264").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h265_and_mjpeg_play() {
    let h265 = Server::start(&format!(
        "{PATTERN} x265enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! h265parse config-interval=-1 ! rtph265pay name=pay0 pt=96 )"
    ));
    first_frames(&h265, Transport::Tcp, "H265").await;
    let jpeg = Server::start(&format!("{PATTERN} jpegenc ! rtpjpegpay name=pay0 pt=26 )"));
    first_frames(&jpeg, Transport::Tcp, "JPEG").await;
}

/// 152 rows are decoded as 160, and rows of 200 lie 256 apart: a copy of them would be packed.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_stay_where_the_decoder_put_them() {
    let pattern =
        "( videotestsrc is-live=true pattern=white ! video/x-raw,format=I420,width=200,height=152,framerate=25/1 !";
    let encode = "speed-preset=ultrafast tune=zerolatency key-int-max=25";
    for (codec, rest) in [
        ("H264", format!("x264enc {encode} ! rtph264pay name=pay0 pt=96 )")),
        ("H265", format!("x265enc {encode} ! h265parse config-interval=-1 ! rtph265pay name=pay0 pt=96 )")),
    ] {
        let server = Server::start(&format!("{pattern} {rest}"));
        let (source, frame) = opened(&server.request("test", Transport::Tcp)).await;
        let luma = frame.picture.plane(0);
        assert_eq!((frame.picture.width(), frame.picture.height()), (200, 152), "{codec}");
        assert!(luma.stride > 200, "{codec}: the picture was copied");
        let white = (0..152).all(|y| luma.data[y * luma.stride..][..200].iter().all(|v| *v > 220));
        assert!(white, "{codec}: rows are not where they are said to be");
        source.close().await;
    }
}

/// Of a stream with B-frames, several units to a packet: key frames come out at once though nothing is decoded after them, and all that was kept
/// comes in order after a wake.
#[tokio::test(flavor = "multi_thread")]
async fn key_frames_come_alone_and_the_rest_when_it_is_asked_for() {
    let server = Server::start(
        "( videotestsrc is-live=true pattern=white ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! \
         x264enc speed-preset=ultrafast bframes=2 b-adapt=false rc-lookahead=0 sync-lookahead=0 key-int-max=25 ! \
         rtph264pay name=pay0 pt=96 aggregate-mode=zero-latency )",
    );
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut request = server.request("test", transport);
        request.sampling.decoding = Decoding::KeyFrames;
        let attention = request.attention.clone();
        let (mut source, _) = opened(&request).await;
        let mut play = async |enough: Decoded, count: usize| {
            let mut frames = Vec::new();
            while frames.iter().filter(|frame: &&Frame| frame.decoded == enough).count() < count {
                let next = tokio::time::timeout(Duration::from_secs(30), source.next());
                let frame = next.await.expect("no frame came").unwrap();
                attention.seen(frame.pts.unwrap());
                frames.push(frame);
            }
            frames
        };
        let idle = play(Decoded::Alone, 3).await;
        let key = idle.last().unwrap();
        let age = crate::time::seconds_between(key.arrived, crate::time::now());
        assert!(age < 0.9, "{transport:?}: the key frame came out after {age} s");
        tokio::time::sleep(Duration::from_millis(600)).await;
        attention.wake();
        let woken = play(Decoded::AsItCame, 5).await;
        let late: Vec<_> = woken.iter().filter(|frame| frame.decoded == Decoded::Late).collect();
        assert!(late.len() >= 3, "{transport:?}: {} frames that were kept", late.len());
        let times = |frames: &[&Frame]| frames.iter().map(|frame| frame.pts.unwrap()).collect::<Vec<_>>();
        let gaps: Vec<_> =
            times(&[&[key], &late[..]].concat()).windows(2).map(|at| at[1].saturating_sub(at[0])).collect();
        assert!(
            gaps.iter().all(|gap| (Duration::from_millis(30)..=Duration::from_millis(250)).contains(gap)),
            "{transport:?}: frames are missing or out of order: {gaps:?}"
        );
        assert!(times(&woken.iter().collect::<Vec<_>>()).is_sorted(), "{transport:?}");
        let facts = source.facts();
        assert!(facts.wakes == 1 && facts.idle > 20, "{transport:?}: {facts:?}");
        source.close().await;
    }
}

/// The next frames of a source that are fit, by their luma.
async fn lumas(source: &mut Box<dyn Source>, attention: &Attention, fit: Decoded, count: usize) -> Vec<Vec<u8>> {
    let mut lumas = Vec::new();
    while lumas.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(30), source.next());
        let frame = next.await.expect("no frame came").unwrap();
        attention.seen(frame.pts.unwrap());
        if frame.decoded == fit {
            let luma = frame.picture.plane(0);
            lumas.push(luma.data.chunks(luma.stride).flat_map(|row| &row[..320]).copied().collect());
        }
    }
    lumas
}

/// A still picture, roughly encoded, of which all groups are the same.
#[tokio::test(flavor = "multi_thread")]
async fn lone_key_frames_are_not_filtered_and_after_a_wake_all_is_as_it_came() {
    let server = Server::start(
        "( videotestsrc is-live=true pattern=circular ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! \
         x264enc tune=zerolatency sliced-threads=false speed-preset=veryfast pass=quant quantizer=40 key-int-max=10 ! \
         rtph264pay name=pay0 pt=96 )",
    );
    let mut request = server.request("test", Transport::Tcp);
    request.sampling.decoding = Decoding::All;
    let (mut source, _) = opened(&request).await;
    let sent = lumas(&mut source, &request.attention, Decoded::AsItCame, 25).await;
    source.close().await;
    request.sampling.decoding = Decoding::KeyFrames;
    request.attention = Arc::default();
    let (mut source, _) = opened(&request).await;
    let alone = lumas(&mut source, &request.attention, Decoded::Alone, 3).await;
    assert!(alone.iter().all(|luma| !sent.contains(luma)), "a lone key frame was filtered");
    request.attention.wake();
    let woken = lumas(&mut source, &request.attention, Decoded::AsItCame, 12).await;
    assert!(woken.iter().all(|luma| sent.contains(luma)), "pictures rest on one that was not filtered");
    source.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_takes_udp_only_says_so() {
    let server = Server::start_with(&format!("{PATTERN} jpegenc ! rtpjpegpay name=pay0 pt=26 )"), RTSPLowerTrans::UDP);
    let mut source = gst_opener().unwrap().open(&server.request("test", Transport::Tcp)).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(30), source.next()).await.expect("no end came").unwrap_err();
    source.close().await;
    assert_eq!(end.cause, Cause::Transport, "{end}");
    first_frames(&server, Transport::Udp, "JPEG").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_video_says_so() {
    let audio = "( audiotestsrc is-live=true ! audio/x-raw,rate=8000 ! mulawenc ! rtppcmupay name=pay0 pt=0 )";
    let server = Server::start(audio);
    let mut source = gst_opener().unwrap().open(&server.request("test", Transport::Tcp)).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(30), source.next()).await.expect("no end came").unwrap_err();
    source.close().await;
    assert_eq!(end.cause, Cause::NoVideo, "{end}");
}

/// 4:3 pictures that are to be shown as 16:9 come out with square pixels.
#[tokio::test(flavor = "multi_thread")]
async fn anamorphic_pictures_are_not_squeezed() {
    let server = Server::start(
        "( videotestsrc is-live=true ! video/x-raw,format=I420,width=240,height=240,framerate=25/1,pixel-aspect-ratio=4/3 ! \
         x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96 )",
    );
    let (source, frame) = opened(&server.request("test", Transport::Tcp)).await;
    source.close().await;
    let (width, height) = (frame.picture.width(), frame.picture.height());
    assert!((width as f32 / height as f32 - 4.0 / 3.0).abs() < 0.02, "{width}x{height}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_path_a_closed_port_and_an_unknown_host_are_told_apart() {
    let server = Server::start(&format!("{PATTERN} jpegenc ! rtpjpegpay name=pay0 pt=26 )"));
    let opener = gst_opener().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = |url: String| {
        let (url, credentials) = parse_url(&url).unwrap();
        asking(url, credentials, Transport::Tcp)
    };
    for (request, cause) in [
        (server.request("nothing", Transport::Tcp), Cause::NotFound),
        (at(format!("rtsp://127.0.0.1:{free}/x")), Cause::Refused),
        (at("rtsp://no-such-host.invalid/x".into()), Cause::Dns),
    ] {
        let end = match opener.open(&request).await {
            Err(end) => end,
            Ok(mut source) => {
                let next = tokio::time::timeout(Duration::from_secs(30), source.next()).await;
                source.close().await;
                next.expect("no end came").unwrap_err()
            }
        };
        assert_eq!(end.cause, cause, "{}: {end}", request.url);
    }
}
