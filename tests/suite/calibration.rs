//! The promise about strangers, through the server: too little is said, what was learned is used and survives a restart.

use tonic::Code;
use visage::proto::v1::{
    CalibrateRequest, EmbedFacesRequest, GetServerInfoRequest, IdentifyFacesRequest, StrangerFace,
};

use crate::support::{Server, bytes};

#[tokio::test(flavor = "multi_thread")]
async fn a_calibrated_threshold_is_used_kept_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    server.know("joe-biden", "Joe Biden", "biden.jpg").await;
    let info = async |server: &Server| {
        let channel = server.channel().await;
        let mut client = visage::proto::v1::server_service_client::ServerServiceClient::new(channel);
        client.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner().calibration
    };
    let mut client = visage::proto::v1::server_service_client::ServerServiceClient::new(server.channel().await);
    let request = |fpir: f64, strangers: &[StrangerFace], validate_only: bool| CalibrateRequest {
        fpir,
        strangers: strangers.to_vec(),
        validate_only,
    };
    let few = client.calibrate(request(0.01, &[], false)).await.unwrap_err();
    assert!(few.code() == Code::FailedPrecondition && few.message().contains("--background"), "{few}");
    for (fpir, code) in [(-0.1, Code::InvalidArgument), (1.0, Code::InvalidArgument), (f64::NAN, Code::InvalidArgument)]
    {
        assert_eq!(client.calibrate(request(fpir, &[], false)).await.unwrap_err().code(), code);
    }
    let wrong = [StrangerFace { embedding: vec![0.5; 3] }];
    let status = client.calibrate(request(0.01, &wrong, false)).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().contains("strangers[0]"), "{status}");

    // Strangers by the hundred, made of one real face: what matters here is that they are learned from, not who they are.
    let found = server.recognition().await.embed_faces(EmbedFacesRequest { image: bytes("t1.jpg") }).await.unwrap();
    let faces: Vec<Vec<f32>> = found.into_inner().faces.into_iter().map(|f| f.embedding).collect();
    let strangers: Vec<StrangerFace> = (0..300)
        .map(|i| {
            let (a, b) = (&faces[i % faces.len()], &faces[(i * 7 + 1) % faces.len()]);
            let share = (i % 50) as f32 / 50.0;
            StrangerFace { embedding: a.iter().zip(b).map(|(a, b)| a + share * (b - a)).collect() }
        })
        .collect();
    let told = client.calibrate(request(0.01, &strangers, true)).await.unwrap().into_inner().calibration.unwrap();
    assert!(info(&server).await.is_none(), "only asked, and changed all the same");
    let learned = client.calibrate(request(0.01, &strangers, false)).await.unwrap().into_inner().calibration.unwrap();
    assert_eq!((told.threshold, told.people), (learned.threshold, 2));
    assert!(learned.threshold_low <= learned.threshold_best && learned.threshold_best <= learned.threshold);
    let identify = IdentifyFacesRequest { image: bytes("obama2.jpg"), ..Default::default() };
    let threshold = async |server: &Server| {
        let answer = server.recognition().await.identify_faces(identify.clone()).await.unwrap().into_inner();
        answer.faces[0].r#match.as_ref().unwrap().threshold
    };
    assert_eq!(threshold(&server).await, learned.threshold);

    server.stop().await;
    let server = Server::start(dir.path()).await;
    assert_eq!(info(&server).await.map(|c| c.threshold), Some(learned.threshold));
    let mut client = visage::proto::v1::server_service_client::ServerServiceClient::new(server.channel().await);
    client.calibrate(request(0.0, &[], false)).await.unwrap();
    assert!(info(&server).await.is_none() && threshold(&server).await != learned.threshold);
    server.stop().await;
}
