//! Cameras that break in every way we know, over real RTSP: each shows a state and a reason a person can act on, comes back by itself when
//! the fault is over, and disturbs no other camera. The table goes to `target/camera-faults.json`; `make faults TIMES=20` repeats it.

use std::{
    net::UdpSocket,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt;
use serde_json::json;
use tokio::time::{Instant, sleep};
use visage::camera::{
    CameraState, CameraStatus, Networks, StreamLimits, gst_opener_within, source::SourceOpener, spec::Transport,
};

use crate::{
    camera_faults_packets::{Recording, announcing, record},
    camera_faults_rtsp::{Behaviour, RawCamera, Twist},
    camera_faults_watch::{Watched, spec},
};

const FPS: f64 = 15.0;

/// One line of the table.
struct Row {
    fault: &'static str,
    times: u64,
    notice: Duration,
    recover: Option<Duration>,
    state: &'static str,
    reason: String,
}

/// What all faults share.
struct Stage {
    opener: Arc<dyn SourceOpener>,
    video: Arc<Recording>,
    times: u64,
    rows: Mutex<Vec<Row>>,
    /// What went otherwise than it should.
    failed: Mutex<Vec<String>>,
}

impl Stage {
    fn good(&self) -> Behaviour {
        self.with(Twist::Nothing)
    }

    fn with(&self, twist: Twist) -> Behaviour {
        Behaviour::Play(self.video.clone(), FPS, twist)
    }

    /// Runs one fault; the others go on when it fails.
    async fn fault(&self, run: impl Future<Output = ()>) {
        if let Err(panic) = AssertUnwindSafe(run).catch_unwind().await {
            let text =
                panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            self.failed.lock().unwrap().push(text.unwrap_or_default());
        }
    }

    fn told(&self, fault: &'static str, notice: Duration, recover: Option<Duration>, status: &CameraStatus) {
        let reason = status.reason.as_ref().map(|reason| reason.message.clone()).unwrap_or_default();
        let row = Row { fault, times: self.times, notice, recover, state: status.state.as_str(), reason };
        self.rows.lock().unwrap().push(row);
    }

    /// A camera that plays, then has a fault, then plays again, as often as asked.
    async fn comes_back(&self, fault: &'static str, bad: Behaviour, code: &str, state: CameraState) {
        self.comes_back_over(Transport::Tcp, fault, bad, code, state).await;
    }

    async fn comes_back_over(
        &self,
        transport: Transport,
        fault: &'static str,
        bad: Behaviour,
        code: &str,
        state: CameraState,
    ) {
        let camera = RawCamera::new(self.good()).await;
        let mut watched = Watched::start(&self.opener, spec("c", &camera.url(), transport));
        watched.streams(fault).await;
        let (mut notice, mut recover, mut last) = (Duration::ZERO, Duration::ZERO, None);
        for _ in 0..self.times {
            camera.becomes(bad.clone());
            let (status, took) = watched
                .until(&format!("{fault}: {code}"), |s| {
                    s.state == state && s.reason.as_ref().is_some_and(|r| r.code == code)
                })
                .await;
            notice = notice.max(took);
            last = Some(status);
            camera.becomes(self.good());
            recover = recover.max(watched.streams(fault).await);
        }
        self.told(fault, notice, Some(recover), &last.unwrap());
        assert!(watched.end().await < Duration::from_secs(5), "{fault}: the camera could not be removed");
    }

    /// A stream that looks bad and is good enough.
    async fn goes_on(&self, fault: &'static str, behaviour: Behaviour, transport: Transport) {
        let camera = RawCamera::new(behaviour).await;
        let mut watched = Watched::start(&self.opener, spec("c", &camera.url(), transport));
        watched.streams(fault).await;
        let before = watched.status.borrow().frames_received;
        sleep(Duration::from_secs(4)).await;
        let status = watched.status.borrow().clone();
        assert!(status.frames_received > before + 5, "{fault}: {} frames before, {status:?}", before);
        assert_eq!(status.state, CameraState::Streaming, "{fault}: {status:?}");
        self.told(fault, Duration::ZERO, None, &status);
        watched.end().await;
    }
}

fn times() -> u64 {
    std::env::var("VISAGE_FAULT_TIMES").ok().map_or(1, |times| times.parse().unwrap())
}

async fn killed_and_restarted(stage: &Stage) {
    let mut camera = RawCamera::new(stage.good()).await;
    let mut watched = Watched::start(&stage.opener, spec("c", &camera.url(), Transport::Auto));
    watched.streams("killed").await;
    let (mut lost, mut refused, mut back, mut last) = (Duration::ZERO, Duration::ZERO, Duration::ZERO, None);
    for _ in 0..stage.times {
        camera.die().await;
        lost = lost.max(watched.until("the loss", |s| s.state != CameraState::Streaming).await.1);
        let code = |s: &CameraStatus| {
            s.state == CameraState::Retrying && s.reason.as_ref().is_some_and(|r| r.code == "refused")
        };
        let (status, took) = watched.until("the refusal", code).await;
        (refused, last) = (refused.max(lost + took), Some(status));
        camera.revive().await;
        back = back.max(watched.streams("killed").await);
    }
    stage.told("server killed, nobody listens", refused, Some(back), &last.unwrap());
    watched.end().await;
}

async fn frozen(stage: &Stage) {
    let camera = RawCamera::new(stage.good()).await;
    let mut watched = Watched::start(&stage.opener, spec("c", &camera.url(), Transport::Auto));
    watched.streams("frozen").await;
    let (mut notice, mut back, mut last) = (Duration::ZERO, Duration::ZERO, None);
    for _ in 0..stage.times {
        camera.freeze(true);
        let (status, took) = watched.until("the stall", |s| s.state == CameraState::Stalled).await;
        assert_eq!(status.reason.as_ref().unwrap().code, "stalled");
        (notice, last) = (notice.max(took), Some(status));
        camera.freeze(false);
        back = back.max(watched.streams("frozen").await);
    }
    stage.told("hangs in the middle of the stream", notice, Some(back), &last.unwrap());
    watched.end().await;
}

/// The next stream of the same camera is another one.
async fn changed(stage: &Stage, fault: &'static str, other: Arc<Recording>, wanted: impl Fn(&CameraStatus) -> bool) {
    let camera = RawCamera::new(stage.good()).await;
    let mut watched = Watched::start(&stage.opener, spec("c", &camera.url(), Transport::Auto));
    watched.streams(fault).await;
    let (mut lost, mut back) = (Duration::ZERO, Duration::ZERO);
    let mut last = None;
    for _ in 0..stage.times {
        camera.becomes(Behaviour::Play(other.clone(), FPS, Twist::Nothing));
        let (status, took) = watched.until("the loss", |s| s.state == CameraState::Retrying).await;
        (lost, last) = (lost.max(took), Some(status));
        back = back.max(watched.until(fault, |s| s.state == CameraState::Streaming && wanted(s)).await.1);
        camera.becomes(stage.good());
        watched.until("the loss", |s| s.state == CameraState::Retrying).await;
        watched.streams(fault).await;
    }
    stage.told(fault, lost, Some(back), &last.unwrap());
    watched.end().await;
}

/// A wrong password is shown once an attempt, and attempts are rare.
async fn password(stage: &Stage) {
    let camera = RawCamera::new(Behaviour::Status(None, 401)).await;
    let url = camera.url().replace("rtsp://", "rtsp://joe:wr0ng-pass@");
    let mut watched = Watched::start(&stage.opener, spec("c", &url, Transport::Auto));
    let (status, notice) = watched.until("401", |s| s.state == CameraState::Refused).await;
    let reason = status.reason.clone().unwrap();
    assert!(reason.message.starts_with("401") && !reason.message.contains("wr0ng"), "{reason:?}");
    let first = camera.passwords();
    // The pause is three seconds here.
    sleep(Duration::from_secs(2)).await;
    assert_eq!((camera.passwords(), camera.connections()), (first, 1), "a refused password was tried again at once");
    watched.until("another attempt", |s| s.reconnects > 1).await;
    assert_eq!(camera.connections(), 2);
    assert!(first <= 1, "one attempt showed the password {first} times");
    stage.told("refused password", notice, None, &status);
    watched.end().await;
}

/// Nothing is ever said to whom a camera sends us.
async fn redirected(stage: &Stage) {
    let (decoy, camera) = (RawCamera::new(stage.good()).await, RawCamera::new(Behaviour::HangUp).await);
    let mut target = decoy.url();
    camera.becomes(Behaviour::Redirect(std::mem::take(&mut target)));
    let mut watched = Watched::start(&stage.opener, spec("c", &camera.url(), Transport::Auto));
    let (status, notice) = watched.until("the redirection", |s| s.state == CameraState::Refused).await;
    assert_eq!(status.reason.as_ref().unwrap().code, "redirected", "{status:?}");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(decoy.connections(), 0, "the redirection was followed");
    camera.becomes(stage.good());
    let recover = watched.streams("redirected").await;
    stage.told("302 to another address", notice, Some(recover), &status);
    watched.end().await;
}

/// Reports go to the camera, wherever it wants them.
async fn reports_elsewhere(stage: &Stage) {
    let decoy = UdpSocket::bind("127.0.0.2:0").unwrap();
    decoy.set_nonblocking(true).unwrap();
    let twist = Twist::SourceElsewhere(decoy.local_addr().unwrap());
    let camera = RawCamera::new(stage.with(twist)).await;
    let mut watched = Watched::start(&stage.opener, spec("c", &camera.url(), Transport::Udp));
    watched.streams("reports").await;
    sleep(Duration::from_secs(6)).await;
    assert!(decoy.recv(&mut [0; 2048]).is_err(), "packets were sent to whom the camera named");
    stage.told("UDP: names another host as its source", Duration::ZERO, None, &watched.status.borrow().clone());
    watched.end().await;
}

/// An address that is not allowed is not connected to, also when a name leads to it.
async fn barred(stage: &Stage) {
    let camera = RawCamera::new(stage.good()).await;
    let networks = Networks::listed(&["10.0.0.0/8".to_owned()]).unwrap();
    let opener = gst_opener_within(StreamLimits { networks, ..Default::default() }).unwrap();
    let url = format!("rtsp://localhost:{}/live", camera.addr.port());
    let mut watched = Watched::start(&opener, spec("c", &url, Transport::Auto));
    let (status, notice) = watched.until("the bar", |s| s.state == CameraState::Refused).await;
    assert_eq!(status.reason.as_ref().unwrap().code, "barred", "{status:?}");
    assert_eq!(camera.connections(), 0, "it was connected to");
    stage.told("name of an address that is not allowed", notice, None, &status);
    watched.end().await;
}

async fn unknown_host(stage: &Stage) {
    let mut watched = Watched::start(&stage.opener, spec("c", "rtsp://no-such-host.invalid/x", Transport::Auto));
    let (status, notice) = watched.until("the DNS failure", |s| s.state == CameraState::Retrying).await;
    assert_eq!(status.reason.as_ref().unwrap().code, "dns", "{status:?}");
    stage.told("host name without an address", notice, None, &status);
    watched.end().await;
}

/// Many cameras that take connections and drop them.
async fn flapping(stage: &Stage, count: usize) {
    let mut all = Vec::new();
    for i in 0..count {
        let camera = RawCamera::new(Behaviour::HangUp).await;
        let watched = Watched::start(&stage.opener, spec(&format!("f{i}"), &camera.url(), Transport::Tcp));
        all.push((camera, watched));
    }
    let began = Instant::now();
    let mut last = None;
    for (_, watched) in &mut all {
        last =
            Some(watched.until("a lost connection", |s| s.state == CameraState::Retrying && s.reconnects > 2).await.0);
    }
    let status = last.unwrap();
    assert_eq!(status.reason.as_ref().unwrap().code, "closed", "{status:?}");
    let notice = began.elapsed();
    for (_, watched) in all {
        watched.end().await;
    }
    stage.told("many cameras flap at once", notice, None, &status);
}

fn report(rows: &[Row]) {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let mut text =
        format!("{:<42} {:>5} {:>10} {:>11} {:<10} reason\n", "fault", "times", "notice ms", "recover ms", "state");
    for row in rows {
        let recover = row.recover.map_or("-".into(), |time| ms(time).to_string());
        let (fault, times, notice, state) = (row.fault, row.times, ms(row.notice), row.state);
        text += &format!("{fault:<42} {times:>5} {notice:>10} {recover:>11} {state:<10} {}\n", row.reason);
    }
    println!("{text}");
    let table: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({"fault": row.fault, "times": row.times, "notice_ms": ms(row.notice), "recover_ms": row.recover.map(ms),
                "state": row.state, "reason": row.reason})
        })
        .collect();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/camera-faults.json");
    std::fs::write(path, serde_json::to_string_pretty(&table).unwrap() + "\n").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_told_and_no_other_camera_minds() {
    use CameraState::{Refused, Retrying};
    let opener = gst_opener_within(StreamLimits::default()).unwrap();
    let h264 = |size| Arc::new(record("H264", size, 30));
    let stage = Stage {
        opener: opener.clone(),
        video: h264((320, 240)),
        times: times(),
        rows: Mutex::default(),
        failed: Mutex::default(),
    };
    let (larger, h265, jpeg) = (h264((640, 480)), record("H265", (320, 240), 30), record("JPEG", (320, 240), 30));
    let huge = Arc::new(record("H264", (7680, 4320), 2));
    let absurd = Arc::new(announcing(1024, 1024));

    let healthy_camera = RawCamera::new(stage.good()).await;
    let mut healthy = Watched::start(&opener, spec("healthy", &healthy_camera.url(), Transport::Auto));
    healthy.streams("the healthy camera").await;
    healthy.longest_gap();
    let s = &stage;
    tokio::join!(
        s.fault(s.comes_back("answers nothing", Behaviour::Mute, "connect_timeout", Retrying)),
        s.fault(s.comes_back("closes every connection", Behaviour::HangUp, "closed", Retrying)),
        s.fault(s.comes_back("401", Behaviour::Status(None, 401), "unauthorized", Refused)),
        s.fault(s.comes_back("404", Behaviour::Status(Some("DESCRIBE"), 404), "not_found", Refused)),
        s.fault(s.comes_back("503", Behaviour::Status(Some("SETUP"), 503), "busy", Retrying)),
        s.fault(s.comes_back("500", Behaviour::Status(Some("DESCRIBE"), 500), "answered", Retrying)),
        s.fault(s.comes_back("454: session forgotten", Behaviour::Status(Some("PLAY"), 454), "session", Retrying)),
        s.fault(s.comes_back("sound alone", Behaviour::AudioOnly, "no_video", Refused)),
        s.fault(s.comes_back("plays no packet (0 fps)", s.with(Twist::Silent), "no_pictures", Retrying)),
        s.fault(s.comes_back("garbage instead of video", s.with(Twist::Garbage), "decode", Retrying)),
        s.fault(s.comes_back("never a key frame", s.with(Twist::NoKeys), "no_key_frame", Retrying)),
        s.fault(s.comes_back("description without an end", Behaviour::EndlessDescription, "connect_timeout", Retrying)),
        s.fault(killed_and_restarted(s)),
        s.fault(frozen(s)),
        s.fault(unknown_host(s)),
        s.fault(barred(s)),
    );
    tokio::join!(
        s.fault(s.comes_back("cut in the middle of a packet", s.with(Twist::CutShort), "closed", Retrying)),
        s.fault(s.comes_back("half a packet, then silence", s.with(Twist::HalfAndSilent), "stalled", Retrying)),
        s.fault(s.comes_back("half a packet, then single bytes", s.with(Twist::HalfAndDribble), "stalled", Retrying)),
        s.fault(s.comes_back("picture without an end", s.with(Twist::Endless), "decode", Retrying)),
        s.fault(s.comes_back("16384x16384", Behaviour::Play(absurd, FPS, Twist::Nothing), "too_large", Refused)),
        s.fault(changed(s, "comes back larger", larger, |s| s.resolution == Some((640, 480)))),
        s.fault(changed(s, "comes back as H.265", Arc::new(h265), |s| s.codec.as_deref() == Some("H265"))),
        s.fault(changed(s, "comes back as MJPEG", Arc::new(jpeg), |s| s.codec.as_deref() == Some("JPEG"))),
        s.fault(s.goes_on("UDP: loss and reordering", s.with(Twist::LossAndReordering), Transport::Udp)),
        s.fault(s.goes_on("clock jumps", s.with(Twist::ClockJumps), Transport::Tcp)),
        s.fault(s.goes_on("120 fps", Behaviour::Play(s.video.clone(), 120.0, Twist::Nothing), Transport::Tcp)),
        s.fault(password(s)),
        s.fault(redirected(s)),
        s.fault(reports_elsewhere(s)),
    );
    let gap = healthy.longest_gap();
    assert!(gap < Duration::from_secs(5), "the healthy camera gave no frame for {gap:?}");
    s.fault(s.goes_on("8K", Behaviour::Play(huge, 3.0, Twist::Nothing), Transport::Tcp)).await;
    healthy.longest_gap();
    let many = std::env::var("VISAGE_FAULT_FLAPPING").ok().map_or(50, |count| count.parse().unwrap());
    s.fault(flapping(s, many)).await;
    let gap = healthy.longest_gap();
    report(&stage.rows.lock().unwrap());
    let failed = stage.failed.lock().unwrap().join("\n");
    assert!(failed.is_empty(), "{failed}");
    assert!(gap < Duration::from_secs(5), "the healthy camera gave no frame for {gap:?} while others flapped");
    let status = healthy.status.borrow().clone();
    assert_eq!((status.state, status.reconnects), (CameraState::Streaming, 0), "{status:?}");
    healthy.end().await;
}
