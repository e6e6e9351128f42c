use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use async_trait::async_trait;

use super::*;
use crate::{
    camera::{
        source::StreamFacts,
        spec::{SamplingPolicy, parse_url},
    },
    frame::{Frame, Picture},
    time::{CaptureOrigin, CaptureTime},
};

fn frame(sequence: u64, pts: Option<Duration>, decoded: Decoded, image: image::RgbImage) -> Frame {
    Frame {
        camera: "c".parse().unwrap(),
        sequence,
        pts,
        captured: CaptureTime { at: time::now(), origin: CaptureOrigin::Arrival },
        arrived: time::now(),
        received: Instant::now(),
        decoded,
        picture: Picture::from_rgb(image),
    }
}

/// What one attempt does: so many frames, then an end or silence.
#[derive(Clone)]
enum Plan {
    Ends(u64, Cause),
    Silent(u64),
}

struct Planned {
    plan: Plan,
    given: u64,
}

#[async_trait]
impl Source for Planned {
    async fn next(&mut self) -> Result<Frame, SourceEnd> {
        let (frames, end) = match &self.plan {
            Plan::Ends(frames, cause) => (*frames, Some(*cause)),
            Plan::Silent(frames) => (*frames, None),
        };
        if self.given < frames {
            self.given += 1;
            tokio::time::sleep(Duration::from_millis(40)).await;
            return Ok(frame(self.given, None, Decoded::AsItCame, image::RgbImage::new(4, 4)));
        }
        match end {
            Some(cause) => Err(SourceEnd::new(cause, "")),
            None => std::future::pending().await,
        }
    }
    fn facts(&self) -> StreamFacts {
        StreamFacts { codec: Some("H264"), ..Default::default() }
    }
    async fn close(self: Box<Self>) {}
}

#[derive(Default)]
struct Script {
    plans: Mutex<VecDeque<Plan>>,
    opened: Mutex<Vec<tokio::time::Instant>>,
    transports: Mutex<Vec<Transport>>,
}

#[async_trait]
impl SourceOpener for Script {
    async fn open(&self, request: &OpenRequest) -> Result<Box<dyn Source>, SourceEnd> {
        self.transports.lock().unwrap().push(request.transport);
        self.opened.lock().unwrap().push(tokio::time::Instant::now());
        let plan = self.plans.lock().unwrap().pop_front().unwrap_or(Plan::Ends(0, Cause::Refused));
        Ok(Box::new(Planned { plan, given: 0 }))
    }
}

fn spec(enabled: bool) -> CameraSpec {
    let (url, credentials) = parse_url("rtsp://joe:hush-hush@10.0.0.1/x").unwrap();
    CameraSpec {
        id: "c".parse().unwrap(),
        display_name: String::new(),
        url,
        substream: None,
        credentials,
        transport: Transport::Auto,
        tls: Default::default(),
        labels: BTreeMap::new(),
        enabled,
        sampling: SamplingPolicy::default(),
        min_face_px: 0,
        regions: Vec::new(),
        watchlists: Vec::new(),
        threshold_override: None,
        revision: 1,
        created: time::now(),
    }
}

struct Run {
    script: Arc<Script>,
    status: watch::Receiver<CameraStatus>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn run(enabled: bool, plans: &[Plan]) -> Run {
    let script = Arc::new(Script { plans: Mutex::new(plans.iter().cloned().collect()), ..Default::default() });
    let (tx, status) = watch::channel(CameraStatus::new(CameraState::Connecting, time::now()));
    let stop = CancellationToken::new();
    let task = tokio::spawn(supervise(
        spec(enabled),
        script.clone(),
        Outlet { status: tx, slot: Arc::default(), attention: Arc::default(), on_demand: false },
        SupervisorSettings::default(),
        stop.clone(),
    ));
    Run { script, status, stop, task }
}

impl Run {
    async fn until(&mut self, state: CameraState) -> CameraStatus {
        self.status.wait_for(|s| s.state == state).await.unwrap().clone()
    }
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_and_never_hammer() {
    let mut run = run(true, &[]);
    let status = run.until(CameraState::Retrying).await;
    assert_eq!(status.reason.as_ref().unwrap().code, "refused");
    assert!(status.next_retry.is_some());
    tokio::time::sleep(Duration::from_secs(600)).await;
    let opened = run.script.opened.lock().unwrap().clone();
    assert!((10..=40).contains(&opened.len()), "{} attempts in ten minutes", opened.len());
    let last = opened.windows(2).last().map(|w| w[1] - w[0]).unwrap();
    assert!(last >= Duration::from_secs(29), "{last:?}");
    assert!(!format!("{:?}", run.status.borrow().clone()).contains("hush-hush"));
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_password_is_retried_rarely() {
    let mut run = run(true, &[Plan::Ends(0, Cause::Unauthorized), Plan::Ends(0, Cause::Unauthorized)]);
    let status = run.until(CameraState::Refused).await;
    assert!(status.reason.unwrap().message.starts_with("401"));
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert_eq!(run.script.opened.lock().unwrap().len(), 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(run.script.opened.lock().unwrap().len(), 2);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_told_then_torn_down_and_the_camera_comes_back() {
    let mut run = run(true, &[Plan::Silent(3), Plan::Ends(50, Cause::Closed), Plan::Silent(1)]);
    run.until(CameraState::Streaming).await;
    let stalled = run.until(CameraState::Stalled).await;
    assert_eq!(stalled.reason.unwrap().code, "stalled");
    run.until(CameraState::Retrying).await;
    let back = run.until(CameraState::Streaming).await;
    assert!(back.reason.is_none() && back.reconnects == 1);
    run.until(CameraState::Retrying).await;
    run.until(CameraState::Streaming).await;
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_camera_that_never_answers_times_out() {
    let mut run = run(true, &[Plan::Silent(0)]);
    let status = run.until(CameraState::Retrying).await;
    assert_eq!(status.reason.unwrap().code, "connect_timeout");
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_disabled_camera_is_left_alone() {
    let mut run = run(false, &[]);
    run.until(CameraState::Disabled).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(run.script.opened.lock().unwrap().is_empty());
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_transport_is_followed_by_the_other_and_an_outage_is_not() {
    use Transport::{Tcp, Udp};
    let plans = [
        Plan::Ends(0, Cause::ConnectTimeout),
        Plan::Ends(0, Cause::Transport),
        Plan::Ends(50, Cause::Closed),
        Plan::Silent(1),
    ];
    let mut run = run(true, &plans);
    run.status.wait_for(|s| s.reconnects == 3 && s.state == CameraState::Streaming).await.unwrap();
    assert_eq!(*run.script.transports.lock().unwrap(), [Tcp, Tcp, Udp, Udp]);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_camera_that_takes_no_transport_is_refused() {
    let mut run = run(true, &[Plan::Ends(0, Cause::Transport), Plan::Ends(0, Cause::Transport)]);
    let status = run.until(CameraState::Refused).await;
    assert_eq!((&*status.reason.unwrap().code, status.reconnects), ("transport", 2));
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn every_frame_is_counted_once_also_at_the_end_of_an_attempt() {
    let mut run = run(true, &[Plan::Ends(100, Cause::Closed)]);
    let status = run.until(CameraState::Retrying).await;
    let skipped: u64 = status.frames_skipped.values().sum();
    assert_eq!((status.frames_received, status.frames_sampled + skipped), (100, 100));
    // Nobody took a frame, so only the newest sampled one was not replaced.
    assert_eq!(status.frames_sampled, 1);
    run.end().await;
}

/// A frame of an empty room, or one with a card at `x`.
fn seen_at(ms: u64, x: Option<u32>, decoded: Decoded) -> Frame {
    let mut image = image::RgbImage::from_pixel(640, 360, image::Rgb([90; 3]));
    for at in x.into_iter().flat_map(|x| (0..2500).map(move |i| (x + i % 50, 100 + i / 50))) {
        image.put_pixel(at.0, at.1, image::Rgb([220; 3]));
    }
    frame(ms, Some(Duration::from_millis(ms)), decoded, image)
}

#[test]
fn a_face_keeps_frames_coming_but_only_what_moves_is_a_change() {
    let (attention, begun) = (Attention::default(), Instant::now());
    let mut watched = Watched::new(&spec(true), &attention);
    let mut judge = |ms: u64, x: Option<u32>, decoded| {
        watched.judge(&seen_at(ms, x, decoded), begun + Duration::from_millis(ms)).map(|kept| kept.is_ok())
    };
    let changed = || attention.scene().changed.map(|at| (at - begun).as_millis());
    assert_eq!(judge(0, None, Decoded::AsItCame), Some(true));
    assert_eq!((judge(1000, None, Decoded::AsItCame), changed()), (Some(false), None), "nothing happens");
    assert_eq!((judge(2000, Some(300), Decoded::AsItCame), changed()), (Some(true), Some(2000)), "somebody comes");
    attention.set_active(true);
    assert_eq!((judge(3000, Some(300), Decoded::AsItCame), changed()), (Some(true), Some(3000)), "has a face");
    assert_eq!((judge(4000, Some(300), Decoded::AsItCame), changed()), (Some(true), Some(3000)), "stands still");
    assert_eq!((judge(5000, None, Decoded::AsItCame), changed()), (Some(true), Some(5000)), "leaves");
    assert_eq!((judge(6000, None, Decoded::AsItCame), changed()), (Some(true), Some(5000)), "may come back");
    attention.set_active(false);
    assert_eq!((judge(7000, None, Decoded::AsItCame), changed()), (Some(false), Some(5000)), "does not");
    // A face that is still told of wants what was left encoded, however still the key frame.
    attention.set_active(true);
    assert_eq!(judge(9000, None, Decoded::Alone), None);
    let scene = attention.scene();
    assert!(scene.wake && scene.changed == Some(begun + Duration::from_secs(9)), "{scene:?}");
}
