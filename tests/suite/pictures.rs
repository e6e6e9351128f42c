//! Questions about single pictures: who is it, are they the same, and what is refused.

use tonic::Code;
use visage::proto::v1::{
    DetectFacesRequest, EmbedFacesRequest, IdentifyFacesRequest, UnknownReasonCode, VerifyFacesRequest,
};

use crate::support::{Server, bytes};

#[tokio::test(flavor = "multi_thread")]
async fn one_person_is_at_most_one_face_of_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let mut recognition = server.recognition().await;
    // A threshold that everybody passes: only one face may still get the name.
    let image = bytes("t1.jpg");
    let request = IdentifyFacesRequest { image, threshold: Some(-0.9), annotate: true, ..Default::default() };
    let found = recognition.identify_faces(request).await.unwrap().into_inner();
    assert_eq!(found.faces.len(), 6);
    let named = found.faces.iter().filter(|f| !f.r#match.as_ref().unwrap().person.is_empty()).count();
    assert_eq!(named, 1);
    let reasons = found.faces.iter().filter_map(|f| f.r#match.as_ref()?.unknown_reason.as_ref());
    let turned = reasons.filter(|why| why.code() == UnknownReasonCode::TurnedAway).count();
    assert_eq!(turned, 1, "the profile at the right is compared with nobody");
    let drawn = image::load_from_memory(&found.annotated_jpeg).unwrap();
    assert_eq!((drawn.width(), drawn.height()), (found.size.unwrap().width, found.size.unwrap().height));

    let strangers = recognition.identify_faces(IdentifyFacesRequest { image: bytes("t1.jpg"), ..Default::default() });
    let strangers = strangers.await.unwrap().into_inner();
    assert!(strangers.faces.iter().all(|f| f.r#match.as_ref().unwrap().person.is_empty()), "a stranger got a name");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pictures_are_compared_and_embeddings_have_the_models_length() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut recognition = server.recognition().await;
    let verify = |a: &str, b: &str| VerifyFacesRequest { image_a: bytes(a), image_b: bytes(b), threshold: None };
    let same = recognition.verify_faces(verify("obama.jpg", "obama2.jpg")).await.unwrap().into_inner();
    assert!(same.same && same.similarity >= same.threshold, "{same:?}");
    let other = recognition.verify_faces(verify("obama.jpg", "biden.jpg")).await.unwrap().into_inner();
    assert!(!other.same, "{other:?}");
    let embedded = recognition.embed_faces(EmbedFacesRequest { image: bytes("obama.jpg") }).await.unwrap().into_inner();
    assert_eq!((embedded.faces.len(), embedded.faces[0].embedding.len()), (1, 128));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_and_rubbish_are_refused_before_they_are_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut recognition = server.recognition().await;
    // A valid PNG head that promises 20000 x 20000 pixels.
    let mut bomb = Vec::new();
    {
        let mut png = std::io::Cursor::new(&mut bomb);
        image::GrayImage::new(8, 8).write_to(&mut png, image::ImageFormat::Png).unwrap();
    }
    bomb[16..20].copy_from_slice(&20_000u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&20_000u32.to_be_bytes());
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    let large = vec![0; 21 << 20];
    let endless = vec![0; 49 << 20];
    for (image, code, word) in [
        (bomb, Code::ResourceExhausted, "limits.picture_pixels"),
        (large, Code::ResourceExhausted, "limits.picture_bytes"),
        (endless, Code::ResourceExhausted, "limits.message_bytes"),
        (b"GIF89a".to_vec(), Code::InvalidArgument, "JPEG, PNG or WebP"),
        (vec![0xff, 0xd8, 0xff], Code::InvalidArgument, "JPEG, PNG or WebP"),
        (Vec::new(), Code::InvalidArgument, "JPEG, PNG or WebP"),
    ] {
        let request = DetectFacesRequest { image: image.into(), min_score: 0.0 };
        let status = recognition.detect_faces(request).await.unwrap_err();
        assert!(status.code() == code && status.message().contains(word), "{status}");
    }
    server.stop().await;
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    })
}
