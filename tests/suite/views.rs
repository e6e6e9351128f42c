//! A camera that is turned at once, or a video that is cut: what stood at a place says nothing about what stands there now.

use std::path::{Path, PathBuf};

use gstreamer::prelude::*;
use image::{
    Rgb, RgbImage,
    imageops::{self, FilterType},
};
use visage::{
    proto::v1::EventKind,
    simulator::{SimCamera, Simulator, SimulatorSettings},
};

use crate::support::{Server, picture};

/// A room with a head in the middle: part of a fixture as left, top, width, height.
fn room(furniture: u64, name: &str, (x, y, w, h): (u32, u32, u32, u32)) -> RgbImage {
    let mut random = fastrand::Rng::with_seed(furniture);
    let blocks: Vec<u8> = (0..16 * 9).map(|_| random.u8(30..180)).collect();
    let mut room = RgbImage::from_fn(1280, 720, |x, y| Rgb([blocks[(y / 80 * 16 + x / 80) as usize]; 3]));
    let head = image::open(picture(name)).unwrap().crop_imm(x, y, w, h).to_rgb8();
    imageops::replace(&mut room, &imageops::resize(&head, 240, 300, FilterType::Triangle), 520, 200);
    room
}

/// A video that shows each of two pictures for four seconds.
fn video(dir: &Path, pictures: [RgbImage; 2]) -> PathBuf {
    let shown: Vec<String> = pictures
        .iter()
        .enumerate()
        .map(|(i, picture)| {
            let path = dir.join(format!("view-{i}.png"));
            picture.save(&path).unwrap();
            format!(
                "multifilesrc location=\"{}\" loop=true num-buffers=60 caps=image/png,framerate=15/1 ! pngdec ! videoconvert ! \
                 video/x-raw,format=I420 ! views. ",
                path.display()
            )
        })
        .collect();
    let path = dir.join("views.mp4");
    gstreamer::init().unwrap();
    let text = format!(
        "concat name=views ! x264enc speed-preset=veryfast key-int-max=15 bframes=0 ! mp4mux ! filesink location=\"{}\" {}",
        path.display(),
        shown.concat()
    );
    let pipeline = gstreamer::parse::launch(&text).unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let kinds = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(gstreamer::ClockTime::from_seconds(60), &kinds).unwrap();
    assert_eq!(end.type_(), gstreamer::MessageType::Eos, "{end:?}");
    pipeline.set_state(gstreamer::State::Null).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_where_a_stranger_stood_in_the_view_before_is_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let views = [room(1, "biden.jpg", (300, 40, 540, 680)), room(2, "obama2.jpg", (130, 120, 480, 600))];
    let text = format!("door={}", video(dir.path(), views).display());
    let cameras = vec![SimCamera::parse(&text).unwrap()];
    let sim = Simulator::start(SimulatorSettings { cameras, ..Default::default() }).unwrap();
    let server = Server::start(&dir.path().join("data")).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let mut feed = server.stream(None).await;
    server.add_camera("door", &sim.url("door")).await;

    // Whoever is in view when the camera connects may be seen for a part of his time.
    let mut left = 0;
    let (seen, _) = feed
        .until(|e| {
            left += u32::from(e.kind() == EventKind::Left);
            left == 5
        })
        .await;
    let person = |e: &visage::proto::v1::Event| e.r#match.as_ref().map_or(String::new(), |m| m.person.clone());
    let gone: Vec<_> = seen.iter().filter(|e| e.kind() == EventKind::Left).collect();
    let who: Vec<String> = gone.iter().map(|e| person(e)).collect();
    assert!(who.windows(2).all(|two| two[0] != two[1]), "they take turns: {who:?}");
    // Where three unlike looks are needed to notice it, half a second of each is lost. The first may have begun before we looked.
    for event in &gone[1..] {
        let dwell = event.dwell.as_ref().map_or(0.0, |d| d.seconds as f64 + f64::from(d.nanos) / 1e9);
        assert!((3.7..4.3).contains(&dwell), "{:?} was there for {dwell} s of 4", person(event));
    }
    server.stop().await;
    sim.stop();
}
