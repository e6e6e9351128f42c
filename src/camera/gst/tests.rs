//! Real streams from an RTSP server in this process.

use std::time::Duration;

use gstreamer_rtsp_server::{RTSPMediaFactory, RTSPServer, prelude::*};

use super::*;
use crate::camera::{
    source::Cause,
    spec::{Transport, parse_url},
};

/// A server with a pattern at `/test`; ends with its drop.
struct Server {
    main_loop: gstreamer::glib::MainLoop,
    thread: Option<std::thread::JoinHandle<()>>,
    port: i32,
}

impl Server {
    fn start(launch: &str) -> Self {
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
            server.mount_points().unwrap().add_factory("/test", factory);
            let _source = server.attach(Some(&context)).unwrap();
            tx.send((main_loop.clone(), server.bound_port())).unwrap();
            main_loop.run();
        });
        let (main_loop, port) = rx.recv().unwrap();
        Self { main_loop, thread: Some(thread), port }
    }

    fn request(&self, path: &str, transport: Transport) -> OpenRequest {
        let (url, credentials) = parse_url(&format!("rtsp://127.0.0.1:{}/{path}", self.port), false).unwrap();
        OpenRequest { camera: "c".parse().unwrap(), url, credentials, transport }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.main_loop.quit();
        self.thread.take().map(|t| t.join());
    }
}

const PATTERN: &str = "( videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=25/1 !";

async fn first_frames(server: &Server, transport: Transport, codec: &str) {
    let opener = gst_opener().unwrap();
    let mut source = opener.open(&server.request("test", transport)).await.unwrap();
    let play = async {
        let mut last = source.next().await.unwrap();
        for _ in 0..5 {
            let frame = source.next().await.unwrap();
            assert!(frame.sequence > last.sequence);
            last = frame;
        }
        last
    };
    let frame = tokio::time::timeout(Duration::from_secs(30), play).await.expect("no frames came");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_path_a_closed_port_and_an_unknown_host_are_told_apart() {
    let server = Server::start(&format!("{PATTERN} jpegenc ! rtpjpegpay name=pay0 pt=26 )"));
    let opener = gst_opener().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = |url: String| {
        let (url, credentials) = parse_url(&url, false).unwrap();
        OpenRequest { camera: "c".parse().unwrap(), url, credentials, transport: Transport::Tcp }
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
