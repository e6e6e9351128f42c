//! Cameras with two streams: watched on the small one, faces cut from the large one.

use visage::{
    proto::v1::{
        Camera, CameraState, CreateCameraRequest, Event, EventKind, GetCameraRequest, GetEventImageRequest,
        UpdateCameraRequest,
    },
    simulator::{Fault, SimCamera, Simulator, SimulatorSettings},
};

use crate::support::{Server, folder_of};

fn size_px(event: &Event) -> f32 {
    event.face.as_ref().map_or(0.0, |face| face.size_px)
}

async fn camera(server: &Server) -> Camera {
    let request = GetCameraRequest { name: "cameras/door".into() };
    server.cameras().await.get_camera(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_found_on_the_substream_is_cut_from_the_main_stream_or_else_from_the_substream() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder_of(dir.path(), "door", &["obama2.jpg"]);
    let text = format!("door={},substream=480x270,period=10s", folder.display());
    let cameras = vec![SimCamera::parse(&text).unwrap()];
    let sim = Simulator::start(SimulatorSettings { cameras, ..Default::default() }).unwrap();
    assert_eq!(sim.names(), ["door", "door-sub"]);
    let server = Server::start(&dir.path().join("data")).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let mut feed = server.stream(None).await;
    let mut asked =
        Camera { url: sim.url("door"), substream_url: "rtsp://elsewhere.invalid/x".into(), ..Default::default() };
    let create = |camera: &Camera| CreateCameraRequest {
        camera_id: "door".into(),
        camera: Some(camera.clone()),
        validate_only: false,
    };
    let refused = server.cameras().await.create_camera(create(&asked)).await.unwrap_err();
    assert!(refused.message().contains("substream_url") && refused.message().contains("another host"), "{refused}");
    asked.substream_url = sim.url("door-sub");
    server.cameras().await.create_camera(create(&asked)).await.unwrap();

    let (seen, _) = feed.until(|e| e.kind() == EventKind::Left).await;
    let named = seen.iter().find(|e| e.kind() == EventKind::Recognized).expect("nobody was named");
    assert_eq!(named.r#match.as_ref().unwrap().person, "people/barack-obama");
    let image = GetEventImageRequest { name: named.name.clone() };
    let jpeg = server.events().await.get_event_image(image).await.unwrap().into_inner().jpeg;
    assert_eq!(image::load_from_memory(&jpeg).unwrap().width(), 1280, "the picture is not the main stream's");
    let large = size_px(named);

    let status = camera(&server).await.status.unwrap();
    let size = |size: &Option<visage::proto::v1::ImageSize>| size.as_ref().map(|s| (s.width, s.height));
    assert_eq!(size(&status.resolution), Some((480, 270)));
    let main = status.main_stream.unwrap();
    assert_eq!((main.state(), size(&main.resolution)), (CameraState::Streaming, Some((1280, 720))));

    // Without its main stream the camera goes on with what it has.
    sim.fault("door", Fault::Gone(true)).unwrap();
    let (seen, _) = feed.until(|e| e.kind() == EventKind::Left).await;
    let (seen, _) = match seen.iter().any(|e| e.kind() == EventKind::Recognized && size_px(e) < large / 2.0) {
        true => (seen, String::new()),
        // The appearance under way when the stream went may have been looked at before.
        false => feed.until(|e| e.kind() == EventKind::Left).await,
    };
    let named =
        seen.iter().find(|e| e.kind() == EventKind::Recognized).expect("nobody was named without the main stream");
    assert!(size_px(named) < large / 2.0, "{} px with, {} px without", large, size_px(named));
    let main = camera(&server).await.status.unwrap().main_stream.unwrap();
    assert!(main.state() != CameraState::Streaming && main.reason_code == "not_found", "{main:?}");

    let mut change = camera(&server).await;
    change.substream_url = String::new();
    let mask = prost_types::FieldMask { paths: vec!["substream_url".into()] };
    let update = UpdateCameraRequest { camera: Some(change), update_mask: Some(mask) };
    let updated = server.cameras().await.update_camera(update).await.unwrap().into_inner();
    assert!(updated.substream_url.is_empty() && updated.status.unwrap().main_stream.is_none());
    server.stop().await;
    sim.stop();
}
