//! Cameras that fail: each shows a state and a reason a person can act on, and comes back by itself.

use tonic::Code;
use visage::{
    proto::v1::{
        Camera, CameraState, CaptureSnapshotRequest, CreateCameraRequest, Credentials, DeleteCameraRequest,
        GetCameraRequest, ListCamerasRequest, TlsPolicy, UpdateCameraRequest,
    },
    simulator::{Fault, SimCamera, Simulator, SimulatorSettings},
};

use crate::support::Server;

fn pattern(credentials: Option<(&str, &str)>) -> Simulator {
    let credentials = credentials
        .map(|(user, password)| visage::simulator::Credentials { user: user.into(), password: password.into() });
    let cameras = vec![SimCamera::parse("test=pattern,size=640x360,fps=15").unwrap()];
    Simulator::start(SimulatorSettings { port: 0, credentials, cameras, ..Default::default() }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_a_right_one_mends_it_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let sim = pattern(Some(("admin", "secret-4711")));
    let server = Server::start(dir.path()).await;
    let plain = sim.url("test");
    let wrong = plain.replace("rtsp://", "rtsp://admin:wr0ng-pass@");
    let added = server.add_camera("test", &wrong).await;
    assert!(!format!("{added:?}").contains("wr0ng-pass"), "the password came back");
    let status = server.camera_in("test", CameraState::Refused).await;
    assert!(status.reason.contains("401") && status.reason.contains("password"), "{}", status.reason);

    let camera = Camera {
        name: "cameras/test".into(),
        credentials: Some(Credentials { username: "admin".into(), password: "secret-4711".into() }),
        ..Default::default()
    };
    let mask = prost_types::FieldMask { paths: vec!["credentials".into()] };
    let request = UpdateCameraRequest { camera: Some(camera), update_mask: Some(mask) };
    let updated = server.cameras().await.update_camera(request).await.unwrap().into_inner();
    assert!(!format!("{updated:?}").contains("4711"));
    let status = server.camera_in("test", CameraState::Streaming).await;
    assert!(status.reason.is_empty());

    let snapshot = CaptureSnapshotRequest { name: "cameras/test".into(), annotate: true };
    let mut tries = 0;
    let jpeg = loop {
        match server.cameras().await.capture_snapshot(snapshot.clone()).await {
            Ok(answer) => break answer.into_inner().jpeg,
            Err(status) if tries < 50 && status.code() == Code::FailedPrecondition => tries += 1,
            Err(status) => panic!("{status}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(image::load_from_memory(&jpeg).unwrap().width(), 640);
    server.stop().await;
    sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_goes_away_is_retried_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let sim = pattern(None);
    let server = Server::start(dir.path()).await;
    server.add_camera("test", &sim.url("test")).await;
    server.camera_in("test", CameraState::Streaming).await;
    sim.fault("test", Fault::Restart(std::time::Duration::from_secs(4))).unwrap();
    let status = server.camera_in("test", CameraState::Retrying).await;
    assert!(!status.reason.is_empty() && status.next_retry.is_some(), "{status:?}");
    let status = server.camera_in("test", CameraState::Streaming).await;
    assert!(status.reconnects >= 1);
    server.stop().await;
    sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn faulty_cameras_are_refused_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let create = |id: &str, url: &str| CreateCameraRequest {
        camera_id: id.into(),
        camera: Some(Camera { url: url.into(), ..Default::default() }),
        validate_only: false,
    };
    let mut cameras = server.cameras().await;
    for (id, url) in
        [("a", "not a url"), ("a", "ftp://h/x"), ("a", "file:///etc/passwd"), ("Upper", "rtsp://h/x"), ("a", "")]
    {
        let status = cameras.create_camera(create(id, url)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{id} {url}: {status}");
    }
    assert!(cameras.list_cameras(ListCamerasRequest::default()).await.unwrap().into_inner().cameras.is_empty());
    cameras.create_camera(create("a", "rtsp://127.0.0.1:1/x")).await.unwrap();
    assert_eq!(
        cameras.create_camera(create("a", "rtsp://127.0.0.1:1/y")).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    let status = server.camera_in("a", CameraState::Retrying).await;
    assert!(status.reason.to_lowercase().contains("refused"), "{}", status.reason);
    let name = "cameras/a".to_owned();
    cameras.delete_camera(DeleteCameraRequest { name: name.clone() }).await.unwrap();
    assert_eq!(cameras.get_camera(GetCameraRequest { name: name.clone() }).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(cameras.delete_camera(DeleteCameraRequest { name }).await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

/// Addresses that are no camera's are refused at registration, with the field; names that lead to one, at the connection (camera_faults.rs).
#[tokio::test(flavor = "multi_thread")]
async fn cameras_may_not_be_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        Server::start_with(dir.path(), &[("VISAGE_CAMERAS__NETWORKS", "[\"127.0.0.0/8\", \"10.0.0.0/8\"]")]).await;
    let mut cameras = server.cameras().await;
    for (url, why) in [
        ("rtsp://169.254.169.254/latest/meta-data", "metadata"),
        ("rtsp://[::ffff:169.254.169.254]/x", "metadata"),
        ("rtsp://[fe80::1]/x", "link-local"),
        ("rtsp://192.168.1.9/x", "cameras.networks"),
        ("rtsp://0.0.0.0/x", "no address of a machine"),
    ] {
        let camera = Some(Camera { url: url.into(), ..Default::default() });
        let request = CreateCameraRequest { camera_id: "a".into(), camera, validate_only: false };
        let status = cameras.create_camera(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{url}: {status}");
        let details = tonic_types::StatusExt::get_error_details(&status);
        let violation = details.bad_request().unwrap().field_violations[0].clone();
        assert!(violation.field == "camera.url" && violation.description.contains(why), "{url}: {violation:?}");
    }
    server.add_camera("test", "rtsp://127.0.0.1:1/x").await;
    assert_eq!(server.camera_in("test", CameraState::Retrying).await.reason_code, "refused");
    let camera = Camera { name: "cameras/test".into(), url: "rtsp://192.168.1.9/x".into(), ..Default::default() };
    let mask = prost_types::FieldMask { paths: vec!["url".into()] };
    let request = UpdateCameraRequest { camera: Some(camera), update_mask: Some(mask) };
    assert_eq!(cameras.update_camera(request).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rtsps_camera_is_refused_for_its_certificate_until_that_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let pem = format!("{}{}", signed.cert.pem(), signed.signing_key.serialize_pem());
    let cameras = vec![SimCamera::parse("test=pattern,size=640x360,fps=15").unwrap()];
    let tls = Some(visage::simulator::TlsIdentity(pem));
    let sim = Simulator::start(SimulatorSettings { port: 0, tls, cameras, ..Default::default() }).unwrap();
    let server = Server::start(dir.path()).await;
    assert!(sim.url("test").starts_with("rtsps://"));
    server.add_camera("test", &sim.url("test")).await;
    let status = server.camera_in("test", CameraState::Refused).await;
    assert!(status.reason_code == "tls" && status.reason.contains("certificate"), "{status:?}");
    let camera = Camera { name: "cameras/test".into(), tls: TlsPolicy::Insecure.into(), ..Default::default() };
    let mask = prost_types::FieldMask { paths: vec!["tls".into()] };
    let request = UpdateCameraRequest { camera: Some(camera), update_mask: Some(mask) };
    server.cameras().await.update_camera(request).await.unwrap();
    server.camera_in("test", CameraState::Streaming).await;
    server.stop().await;
    sim.stop();
}
