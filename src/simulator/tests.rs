//! The simulator seen through a real RTSP client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::encode::Running;
use super::*;

const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(20);

/// A picture with a white square in the middle of a red ground.
fn picture() -> image::RgbImage {
    image::RgbImage::from_fn(120, 160, |x, y| {
        let inside = (40..80).contains(&x) && (60..100).contains(&y);
        image::Rgb(if inside { [255, 255, 255] } else { [200, 20, 20] })
    })
}

/// A second of a moving card, small and quick to encode.
fn scene(millis: u64) -> Scene {
    let place = |at: u64, x: f32| Waypoint { at: Duration::from_millis(at), x, y: 0.5, height: 0.8 };
    Scene::new((160, 120), 10, Duration::from_millis(millis)).actor(Actor {
        label: "red".into(),
        picture: Arc::new(picture()),
        shape: CardShape::Whole,
        region: None,
        path: vec![place(0, -0.5), place(millis / 4, 0.5), place(millis / 2, 0.5), place(millis * 3 / 4, 1.5)],
    })
}

fn camera(name: &str) -> SimCamera {
    SimCamera::new(name, SimSource::Scene(scene(1000)))
}

fn start(cameras: Vec<SimCamera>) -> Simulator {
    Simulator::start(SimulatorSettings { cameras, ..SimulatorSettings::default() }).unwrap()
}

/// What a client was told instead of pictures.
#[derive(Debug, PartialEq)]
enum Refusal {
    NotFound,
    NotAuthorized,
    Unreachable,
    Ended,
    Silence,
}

struct Client {
    running: Running,
    sink: gst_app::AppSink,
}

impl Client {
    fn new(url: &str, codec: Codec, transport: &str) -> Self {
        gst::init().unwrap();
        let depayloader = match codec {
            Codec::H264 => "rtph264depay",
            Codec::H265 => "rtph265depay",
            Codec::Mjpeg => "rtpjpegdepay",
        };
        let text = format!(
            "rtspsrc location={url} protocols={transport} latency=50 timeout=20000000 ! {depayloader} ! {} ! appsink name=out sync=false",
            codec.parser()
        );
        let running = Running::launch(&text).unwrap();
        let sink = running.element("out").unwrap();
        running.0.set_state(gst::State::Playing).ok();
        Self { running, sink }
    }

    fn next_within(&self, patience: gst::ClockTime) -> Result<gst::Sample, Refusal> {
        if let Some(sample) = self.sink.try_pull_sample(patience) {
            return Ok(sample);
        }
        let message = self.running.0.bus().unwrap().pop_filtered(&[gst::MessageType::Error]);
        let Some(message) = message else {
            return Err(if self.sink.is_eos() { Refusal::Ended } else { Refusal::Silence });
        };
        let gst::MessageView::Error(error) = message.view() else { unreachable!() };
        Err(match error.error().kind::<gst::ResourceError>() {
            Some(gst::ResourceError::NotFound) => Refusal::NotFound,
            Some(gst::ResourceError::NotAuthorized) => Refusal::NotAuthorized,
            Some(gst::ResourceError::OpenReadWrite) => Refusal::Unreachable,
            _ => Refusal::Ended,
        })
    }

    fn next(&self) -> gst::Sample {
        self.next_within(PATIENCE).unwrap()
    }

    /// The refusal: an error message of the pipeline, waited for.
    fn refusal(&self) -> Refusal {
        let bus = self.running.0.bus().unwrap();
        let message = bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::Error]).unwrap();
        bus.post(message).unwrap();
        self.next_within(gst::ClockTime::ZERO).map(|_| ()).unwrap_err()
    }

    fn until_end(&self) {
        while self.next_within(PATIENCE).is_ok() {}
    }

    /// Time stamps of the next `count` pictures.
    fn times(&self, count: usize) -> Vec<gst::ClockTime> {
        let mut times = Vec::new();
        while times.len() < count {
            // Parameter sets that the depayloader sends ahead of a picture have no time of their own.
            times.extend(self.next().buffer().unwrap().pts().filter(|pts| *pts > gst::ClockTime::ZERO));
        }
        times
    }
}

/// Connects anew while the stream of the last client is still being put away, which the server answers with 503.
fn playing(url: &str, codec: Codec, transport: &str) -> Client {
    for _ in 0..20 {
        let client = Client::new(url, codec, transport);
        match client.next_within(PATIENCE) {
            Ok(_) => return client,
            Err(refusal) => assert_eq!(refusal, Refusal::Ended),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the camera never played");
}

/// Connects until it works; the server may be coming back.
fn connect_again(url: &str) -> Client {
    for _ in 0..100 {
        let client = Client::new(url, Codec::H264, "tcp");
        let bus = client.running.0.bus().unwrap();
        for _ in 0..100 {
            if client.sink.try_pull_sample(gst::ClockTime::from_mseconds(50)).is_some() {
                return client;
            }
            if bus.pop_filtered(&[gst::MessageType::Error]).is_some() {
                break;
            }
        }
    }
    panic!("the camera did not come back");
}

/// A video file as people have them: H.264 in MP4, 60 pictures of 320x180 at 20 a second, a key frame each second.
fn video(folder: &std::path::Path) -> PathBuf {
    gst::init().unwrap();
    let path = folder.join("clip with spaces.mp4");
    let running = Running::launch(&format!(
        "videotestsrc num-buffers=60 ! video/x-raw,width=320,height=180,framerate=20/1 ! \
         x264enc speed-preset=ultrafast key-int-max=20 bframes=0 ! mp4mux ! filesink location=\"{}\"",
        path.display()
    ))
    .unwrap();
    running.0.set_state(gst::State::Playing).unwrap();
    let bus = running.0.bus().unwrap();
    let end = bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::Eos, gst::MessageType::Error]).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    path
}

#[test]
fn every_codec_plays_past_the_end_of_the_clip_over_both_transports() {
    let simulator = start(vec![
        camera("avc"),
        camera("hevc").codec(Codec::H265),
        SimCamera::new("jpeg", SimSource::Pattern).codec(Codec::Mjpeg).size(160, 120).fps(5),
    ]);
    for (name, codec) in [("avc", Codec::H264), ("hevc", Codec::H265), ("jpeg", Codec::Mjpeg)] {
        for transport in ["tcp", "udp"] {
            let client = playing(&simulator.url(name), codec, transport);
            // The scenes are ten pictures long.
            let times = client.times(if codec == Codec::Mjpeg { 4 } else { 25 });
            assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{name} over {transport}: {times:?}");
        }
    }
    simulator.stop();
}

#[test]
fn several_clients_see_the_same_instant_and_several_simulators_live_side_by_side() {
    let (one, two) = (start(vec![camera("a")]), start(vec![camera("a")]));
    assert_ne!(one.port(), two.port());
    let clients: Vec<Client> =
        [&one, &one, &two].iter().map(|simulator| Client::new(&simulator.url("a"), Codec::H264, "tcp")).collect();
    clients.iter().for_each(|client| assert_eq!(client.times(5).len(), 5));
    drop(clients);
    one.stop();
    assert_eq!(Client::new(&two.url("a"), Codec::H264, "tcp").times(3).len(), 3);
    two.stop();
}

#[test]
fn a_password_is_asked_and_a_wrong_one_is_refused_as_such() {
    for basic in [false, true] {
        let credentials = Some(Credentials { user: "viewer".into(), password: "s3cret".into() });
        let settings = SimulatorSettings { credentials, basic, cameras: vec![camera("a")], ..Default::default() };
        let simulator = Simulator::start(settings).unwrap();
        let url = simulator.url("a");
        let with = |who: &str| url.replace("rtsp://", &format!("rtsp://{who}@"));
        assert_eq!(Client::new(&url, Codec::H264, "tcp").refusal(), Refusal::NotAuthorized);
        assert_eq!(Client::new(&with("viewer:wrong"), Codec::H264, "tcp").refusal(), Refusal::NotAuthorized);
        assert_eq!(Client::new(&with("viewer:s3cret"), Codec::H264, "tcp").times(3).len(), 3);
        simulator.stop();
    }
    let shown = format!("{:?}", Credentials { user: "viewer".into(), password: "s3cret".into() });
    assert!(!shown.contains("s3cret"));
}

#[test]
fn a_stall_is_silence_and_ends_at_the_present_moment() {
    let simulator = start(vec![camera("a")]);
    let client = Client::new(&simulator.url("a"), Codec::H264, "tcp");
    let before = *client.times(5).last().unwrap();
    simulator.fault("a", Fault::Stall(true)).unwrap();
    // What was under way may still arrive; then nothing does.
    let silence = std::iter::repeat_with(|| client.next_within(gst::ClockTime::from_seconds(1)));
    let last = silence.take(20).find_map(Result::err);
    assert_eq!(last, Some(Refusal::Silence));
    simulator.fault("a", Fault::Stall(false)).unwrap();
    let after = client.times(3)[0];
    assert!(after >= before + gst::ClockTime::from_mseconds(900), "{before} then {after}");
    simulator.stop();
}

#[test]
fn dropped_clients_may_come_back_at_once() {
    let simulator = start(vec![camera("a"), camera("b")]);
    let dropped = Client::new(&simulator.url("a"), Codec::H264, "tcp");
    let other = Client::new(&simulator.url("b"), Codec::H264, "tcp");
    dropped.next();
    other.next();
    simulator.fault("a", Fault::Drop).unwrap();
    dropped.until_end();
    assert_eq!(other.times(15).len(), 15, "the other camera's clients stay");
    assert_eq!(Client::new(&simulator.url("a"), Codec::H264, "tcp").times(3).len(), 3);
    simulator.stop();
}

#[test]
fn a_restarted_server_is_back_on_the_same_port() {
    let simulator = start(vec![camera("a")]);
    let url = simulator.url("a");
    let client = Client::new(&url, Codec::H264, "tcp");
    client.next();
    simulator.fault("a", Fault::Refuse(true)).unwrap();
    client.until_end();
    assert_eq!(Client::new(&url, Codec::H264, "tcp").refusal(), Refusal::Unreachable);
    simulator.fault("a", Fault::Refuse(false)).unwrap();
    assert_eq!(Client::new(&url, Codec::H264, "tcp").times(3).len(), 3);
    simulator.fault("a", Fault::Restart(Duration::from_millis(300))).unwrap();
    connect_again(&url).next();
    simulator.stop();
}

#[test]
fn a_camera_that_is_gone_answers_404_until_it_is_back() {
    let simulator = start(vec![camera("a")]);
    simulator.fault("a", Fault::Gone(true)).unwrap();
    assert_eq!(Client::new(&simulator.url("a"), Codec::H264, "tcp").refusal(), Refusal::NotFound);
    simulator.fault("a", Fault::Gone(false)).unwrap();
    assert_eq!(Client::new(&simulator.url("a"), Codec::H264, "tcp").times(2).len(), 2);
    assert!(matches!(simulator.fault("nobody", Fault::Drop), Err(SimulatorError::UnknownCamera(_))));
    simulator.stop();
}

#[test]
fn faults_come_by_the_clock() {
    let mut camera = camera("a");
    camera.faults.drop_every = Some(Duration::from_millis(1500));
    let simulator = start(vec![camera]);
    for _ in 0..2 {
        let client = connect_again(&simulator.url("a"));
        client.until_end();
    }
    simulator.stop();
}

#[test]
fn a_video_passes_through_or_is_transcoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = video(folder.path());
    let size = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    let native = SimCamera::new("native", SimSource::File(path.clone()));
    let clip = file::load(&native, &path, 64 << 20).unwrap();
    assert_eq!((clip.codec, clip.units.len()), (Codec::H264, 60));
    assert_eq!(clip.units.iter().filter(|unit| unit.is_key).count(), 3);
    assert!((2.9..3.1).contains(&clip.duration.as_secs_f64()), "{:?}", clip.duration);
    assert!(clip.bytes() < size + 4096, "not encoded again: {} bytes of {size}", clip.bytes());
    let too_small = file::load(&native, &path, 1000);
    assert!(matches!(too_small, Err(SimulatorError::Video { reason, .. }) if reason.contains("MiB")));
    let other = native.clone().codec(Codec::Mjpeg).size(160, 120).fps(5);
    let clip = file::load(&other, &path, 64 << 20).unwrap();
    assert!((14..=16).contains(&clip.units.len()), "{} units", clip.units.len());
    let simulator = start(vec![native]);
    let times = Client::new(&simulator.url("native"), Codec::H264, "tcp").times(80);
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "time runs back at the loop");
    simulator.stop();
}

#[test]
fn further_cameras_show_the_same_pictures_on_timelines_of_their_own() {
    let further = ("later".to_owned(), Duration::from_millis(4900));
    let source = SimSource::Scene(scene(6000));
    let main = SimCamera { substream: Some((160, 120)), further: vec![further], ..SimCamera::new("now", source) };
    let simulator = start(vec![main]);
    assert_eq!(simulator.names(), ["later", "later-sub", "now", "now-sub"]);
    assert_eq!(simulator.truth("later").unwrap().appearances(), simulator.truth("now").unwrap().appearances());
    let first = |name: &str| {
        let sample = Client::new(&simulator.url(name), Codec::H264, "tcp").next();
        let buffer = sample.buffer().unwrap().map_readable().unwrap();
        (buffer.as_slice().to_vec(), simulator.position(name).unwrap())
    };
    let (now, position) = first("now");
    assert!(position < Duration::from_secs(4), "{position:?}");
    assert_eq!(simulator.position("later"), None, "its own first client starts it");
    let (later, position) = first("later");
    // A key frame every two seconds.
    assert!(position >= Duration::from_secs(4), "{position:?}");
    assert_ne!(now, later);
    let sub = simulator.position("later-sub").unwrap();
    assert!(sub >= position && sub < position + Duration::from_secs(1), "{sub:?} is not the moment of {position:?}");
    simulator.stop();
}

#[test]
fn bad_sources_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let source = |path: PathBuf| SimSource::Folder { path, period: Duration::from_secs(2) };
    let begin = |source| {
        let cameras = vec![SimCamera::new("a", source).size(160, 120)];
        Simulator::start(SimulatorSettings { cameras, ..Default::default() }).map(|_| ()).unwrap_err()
    };
    assert!(matches!(begin(source(folder.path().into())), SimulatorError::EmptyFolder { .. }));
    let no_picture = folder.path().join("a.jpg");
    std::fs::write(&no_picture, b"no picture").unwrap();
    assert!(matches!(begin(source(no_picture.clone())), SimulatorError::Picture { .. }));
    assert!(matches!(begin(source(folder.path().into())), SimulatorError::Picture { .. }));
    assert!(matches!(begin(SimSource::File(no_picture)), SimulatorError::Video { .. }));
    assert!(matches!(begin(SimSource::File("/no/file.mp4".into())), SimulatorError::NotFound { .. }));
    let none = Simulator::start(SimulatorSettings::default()).map(|_| ());
    assert!(matches!(none, Err(SimulatorError::NoCamera)));
    let twice = SimulatorSettings { cameras: vec![camera("a"), camera("a")], ..Default::default() };
    assert!(matches!(Simulator::start(twice).map(|_| ()), Err(SimulatorError::DuplicateName(_))));
    let further = SimCamera { further: vec![("b".into(), Duration::ZERO)], ..camera("a") };
    let twice = SimulatorSettings { cameras: vec![further, camera("b")], ..Default::default() };
    assert!(matches!(Simulator::start(twice).map(|_| ()), Err(SimulatorError::DuplicateName(name)) if name == "b"));
    let small = SimulatorSettings { cameras: vec![camera("a")], memory_limit: 100, ..Default::default() };
    assert!(matches!(Simulator::start(small).map(|_| ()), Err(SimulatorError::TooLarge { .. })));
}

#[test]
fn a_port_in_use_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let settings = SimulatorSettings { port, cameras: vec![camera("a")], ..Default::default() };
    let error = Simulator::start(settings).map(|_| ()).unwrap_err();
    assert!(matches!(error, SimulatorError::Bind { .. }), "{error}");
    assert!(error.to_string().contains("another port"));
}

#[test]
fn the_truth_of_a_scene_is_what_is_drawn() {
    let scene = scene(4000);
    let truth = scene.truth();
    let appearances = truth.appearances();
    assert_eq!(appearances.len(), 1);
    assert!(appearances[0].from < Duration::from_secs(1) && appearances[0].until > Duration::from_secs(2));
    let painter = render::Painter::new(&scene);
    let mut pixels = vec![0; 160 * 120 * 3];
    let centre = (60 * 160 + 80) * 3;
    painter.draw(Duration::from_millis(1500), &mut pixels);
    assert!(pixels[centre..centre + 3].iter().all(|value| *value > 240), "the white square is in the middle");
    let seen = &truth.visible_at(Duration::from_millis(1500))[0];
    assert_eq!((seen.label.as_str(), seen.shown), ("red", 1.0));
    let [_, _, width, height] = seen.rectangle;
    assert!((width / height - 0.75).abs() < 1e-3, "the aspect ratio is kept");
    // The last quarter is empty, in the next loop too.
    assert!(truth.visible_at(Duration::from_millis(3500 + 4000)).is_empty());
    painter.draw(Duration::from_millis(3500), &mut pixels);
    assert!(pixels.chunks_exact(3).all(|pixel| pixel == [170, 174, 177]));
}

#[test]
fn each_picture_of_a_folder_is_one_appearance_with_a_gap_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    picture().save(folder.path().join("anna.png")).unwrap();
    picture().save(folder.path().join("bert.jpg")).unwrap();
    let scene = folder::scene(folder.path(), (320, 180), 10, Duration::from_secs(5)).unwrap();
    let found = scene.truth().appearances();
    assert_eq!(found.iter().map(|one| one.label.as_str()).collect::<Vec<_>>(), ["anna", "bert"]);
    assert!(found[1].from > found[0].until + Duration::from_millis(700));
    assert!(scene.truth().visible_at(Duration::from_millis(4800)).is_empty());
}
