//! Enrolment and its refusals, and erasure.

use tonic::Code;
use tonic_types::StatusExt;
use visage::proto::v1::{
    CreatePersonRequest, DeletePersonRequest, EnrollFacesRequest, GetPersonRequest, IdentifyFacesRequest,
    ListFacesRequest, RefusalReason,
};

use crate::support::{Server, bytes};

#[tokio::test(flavor = "multi_thread")]
async fn a_check_without_change_finds_a_taken_id_and_a_long_enrolment_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &[("VISAGE_LIMITS__PICTURES_PER_ENROLMENT", "1")]).await;
    server.add_person("anna", "Anna").await;
    let check = |id: &str| CreatePersonRequest { person_id: id.into(), person: None, validate_only: true };
    let mut people = server.people().await;
    assert_eq!(people.create_person(check("anna")).await.unwrap_err().code(), Code::AlreadyExists);
    people.create_person(check("berta")).await.unwrap();
    let berta = GetPersonRequest { name: "people/berta".into() };
    assert_eq!(people.get_person(berta).await.unwrap_err().code(), Code::NotFound);

    let picture = EnrollFacesRequest { person: "people/anna".into(), image: "no picture".into(), ..Default::default() };
    let mut answers =
        people.enroll_faces(tokio_stream::iter(vec![picture.clone(), picture])).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().refusal(), RefusalReason::NotAnImage);
    let limit = answers.message().await.unwrap_err();
    assert_eq!(limit.code(), Code::ResourceExhausted);
    let quota = limit.get_error_details().quota_failure().unwrap().violations[0].subject.clone();
    assert_eq!(quota, "limits.pictures_per_enrolment");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_that_can_not_be_used_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.add_person("anna", "Anna").await;
    let blank = {
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_pixel(640, 480, image::Rgb([90, 120, 90]))
            .write_to(&mut png, image::ImageFormat::Png)
            .unwrap();
        png.into_inner()
    };
    for (image, reason) in [
        (b"this is no picture".to_vec(), RefusalReason::NotAnImage),
        (Vec::new(), RefusalReason::NotAnImage),
        (blank, RefusalReason::NoFace),
        (bytes("t1.jpg").to_vec(), RefusalReason::SeveralFaces),
    ] {
        let answer = server.enroll("anna", image.into()).await;
        assert_eq!(answer.refusal(), reason, "{}", answer.message);
        assert!(answer.face.is_none() && !answer.message.is_empty());
    }
    assert!(server.enroll("anna", bytes("obama.jpg")).await.face.is_some());
    assert_eq!(server.enroll("anna", bytes("obama.jpg")).await.refusal(), RefusalReason::Duplicate);
    server.add_person("berta", "Berta").await;
    let answer = server.enroll("berta", bytes("obama2.jpg")).await;
    assert_eq!(answer.refusal(), RefusalReason::LooksLikeAnotherPerson, "{}", answer.message);
    assert_eq!(answer.similar_person, "people/anna");
    let faces = ListFacesRequest { parent: "people/anna".into(), ..Default::default() };
    assert_eq!(server.people().await.list_faces(faces).await.unwrap().into_inner().faces.len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_nowhere_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.know("barack-obama", "Zaphod Beeblebrox", "obama.jpg").await;
    let identify = IdentifyFacesRequest { image: bytes("obama2.jpg"), ..Default::default() };
    let found = server.recognition().await.identify_faces(identify.clone()).await.unwrap().into_inner();
    assert_eq!(found.faces[0].r#match.as_ref().unwrap().person, "people/barack-obama");

    let name = "people/barack-obama".to_owned();
    let receipt = server.people().await.delete_person(DeletePersonRequest { name: name.clone() }).await.unwrap();
    let receipt = receipt.into_inner().receipt.unwrap();
    assert_eq!((receipt.faces_removed, receipt.person.as_str()), (1, name.as_str()));
    let gone = server.people().await.get_person(GetPersonRequest { name }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let found = server.recognition().await.identify_faces(identify).await.unwrap().into_inner();
    assert!(found.faces[0].r#match.as_ref().unwrap().person.is_empty());
    server.stop().await;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let content = std::fs::read(&path).unwrap();
            let left = content.windows(b"Beeblebrox".len()).any(|w| w == b"Beeblebrox");
            assert!(!left, "the name is still in {}", path.display());
        }
    }
}
