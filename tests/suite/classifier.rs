//! A classifier over real faces through the server: trained by itself, told, used under guard, forgotten with an erased person; and what a
//! decision tells about itself.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::Code;
use visage::proto::v1::{
    DecisionInfo, DecisionRoute, DeletePersonRequest, EnrollFacesRequest, GetPersonRequest, GetServerInfoRequest,
    IdentifyFacesRequest, Match, Person, ThresholdSource, TrainClassifierRequest, TrainingResult, UnknownReasonCode,
    UpdatePersonRequest, server_service_client::ServerServiceClient, train_classifier_response::Message,
};

use crate::support::{PATIENCE, Server, bytes};

/// A person with pictures, each enrolled whatever the server thinks of it.
async fn force(server: &Server, id: &str, pictures: &[&str]) {
    server.add_person(id, &id.to_uppercase()).await;
    let requests: Vec<EnrollFacesRequest> = pictures
        .iter()
        .map(|picture| EnrollFacesRequest {
            person: format!("people/{id}"),
            image: bytes(picture),
            force: true,
            ..Default::default()
        })
        .collect();
    let mut answers = server.people().await.enroll_faces(tokio_stream::iter(requests)).await.unwrap().into_inner();
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(answer.face.is_some(), "{}", answer.message);
    }
}

async fn decision(server: &Server) -> DecisionInfo {
    let mut client = ServerServiceClient::new(server.channel().await);
    client.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner().decision.unwrap()
}

async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !reached().await {
        assert!(Instant::now() < end, "{what} was not reached");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn train(server: &Server, r: TrainClassifierRequest) -> Result<(usize, Option<TrainingResult>), tonic::Status> {
    let mut client = ServerServiceClient::new(server.channel().await);
    let mut answers = client.train_classifier(r).await?.into_inner();
    let (mut progress, mut result) = (0, None);
    while let Some(answer) = answers.message().await? {
        match answer.message.unwrap() {
            Message::Progress(_) => progress += 1,
            Message::Result(r) => result = Some(r),
        }
    }
    Ok((progress, result))
}

async fn who(server: &Server, picture: &str) -> Match {
    let request = IdentifyFacesRequest { image: bytes(picture), ..Default::default() };
    let answer = server.recognition().await.identify_faces(request).await.unwrap().into_inner();
    answer.faces[0].r#match.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classifier_decides_under_guard_and_goes_with_an_erased_person() {
    let dir = tempfile::tempdir().unwrap();
    let route = [("VISAGE_IDENTITY__DECISION", "classifier")];
    let server = Server::start_with(dir.path(), &route).await;
    let told = decision(&server).await;
    assert_eq!((told.configured(), told.in_use()), (DecisionRoute::Classifier, DecisionRoute::Similarity));
    assert!(!told.reason.is_empty(), "nobody is enrolled, and that is not said");
    let refused = train(&server, TrainClassifierRequest::default()).await.unwrap_err();
    assert!(refused.code() == Code::FailedPrecondition && refused.message().contains("enrol more"), "{refused}");
    let bad = TrainClassifierRequest { folds: 21, ..Default::default() };
    assert_eq!(train(&server, bad).await.unwrap_err().code(), Code::InvalidArgument);

    force(&server, "obama", &["obama.jpg", "obama3.jpg", "obama.jpg", "obama3.jpg", "obama.jpg"]).await;
    force(&server, "biden", &["biden.jpg"; 5]).await;
    force(&server, "astronaut", &["astronaut.png"]).await;
    until("a classifier in use", async || {
        let told = decision(&server).await;
        told.in_use() == DecisionRoute::Classifier && told.classifier.is_some_and(|c| c.faces == 11 && !c.stale)
    })
    .await;
    let found = who(&server, "obama2.jpg").await;
    assert_eq!((found.person.as_str(), found.route()), ("people/obama", DecisionRoute::Classifier));
    assert!(found.classifier_lead.unwrap() >= 0.5 && found.similarity >= found.threshold);
    assert_eq!(found.near_faces.len(), 3);
    assert!(found.near_faces.iter().all(|f| f.face.starts_with("people/obama/faces/")), "{found:?}");
    assert!(
        found.near_faces[0].similarity == found.similarity && found.runner_up_similarity.unwrap() < found.similarity
    );
    assert_eq!(found.threshold_source(), ThresholdSource::Model);

    let (_, result) =
        train(&server, TrainClassifierRequest { validate_only: true, ..Default::default() }).await.unwrap();
    let result = result.unwrap();
    assert_eq!((result.folds, result.tested, result.untested_people, result.classifier_first), (5, 10, 1, 10));
    assert_eq!(result.by_classifier.unwrap().right, 10);
    let out = server.cli(&["train", "--dry-run"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.contains("11 faces of 3 people") && text.contains("only told"), "{text}");

    server.stop().await;
    let server = Server::start_with(dir.path(), &route).await;
    assert_eq!(decision(&server).await.in_use(), DecisionRoute::Classifier, "it was kept");
    let name = "people/obama".to_owned();
    server.people().await.delete_person(DeletePersonRequest { name }).await.unwrap();
    let told = decision(&server).await;
    assert_eq!((told.in_use(), told.classifier), (DecisionRoute::Similarity, None), "gone at once");
    let stranger = who(&server, "obama2.jpg").await;
    assert!(stranger.person.is_empty() && stranger.near_faces.is_empty());
    let why = stranger.unknown_reason.unwrap();
    assert_eq!(why.code(), UnknownReasonCode::BelowThreshold);
    assert!((why.value, why.needed) == (stranger.similarity, stranger.threshold));
    until("too little to train on", async || decision(&server).await.reason.contains("too little to train on")).await;
    let out = server.cli(&["train"]).output().await.unwrap();
    assert!(out.status.code() == Some(1) && String::from_utf8_lossy(&out.stderr).contains("enrol more pictures"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_who_look_alike_are_flagged_and_people_have_thresholds_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    force(&server, "anna", &["obama.jpg"]).await;
    force(&server, "berta", &["obama3.jpg"]).await;
    let get = async |id: &str| {
        let request = GetPersonRequest { name: format!("people/{id}") };
        server.people().await.get_person(request).await.unwrap().into_inner()
    };
    until("look-alikes", async || !get("anna").await.looks_like.is_empty()).await;
    let anna = get("anna").await;
    assert_eq!(anna.looks_like[0].person, "people/berta");
    assert_eq!(get("berta").await.looks_like[0].similarity, anna.looks_like[0].similarity);
    let out = server.cli(&["person", "list"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains(&format!("berta ({:.2})", anna.looks_like[0].similarity)), "{text}");
    server.people().await.delete_person(DeletePersonRequest { name: "people/berta".into() }).await.unwrap();
    assert!(get("anna").await.looks_like.is_empty(), "at once");

    let found = who(&server, "obama2.jpg").await;
    assert_eq!((found.person.as_str(), found.runner_up_similarity), ("people/anna", None));
    let out = server.cli(&["person", "update", "anna", "--threshold", "0.3"]).output().await.unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let strict = who(&server, "obama2.jpg").await;
    assert!(strict.person.is_empty() && (strict.threshold - found.threshold - 0.3).abs() < 1e-5, "{strict:?}");
    assert_eq!(strict.threshold_source(), ThresholdSource::Person);
    let out = server.cli(&["person", "get", "anna"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("0.30 stricter"));
    let out = server.cli(&["person", "update", "anna", "--threshold", "0.464"]).output().await.unwrap();
    assert!(out.status.code() == Some(2) && String::from_utf8_lossy(&out.stderr).contains("-0.3 to 0.3"));
    let far = Person { name: "people/anna".into(), threshold_offset: f32::NAN, ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["threshold_offset".into()] });
    let refused = server.people().await.update_person(UpdatePersonRequest { person: Some(far), update_mask }).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    let out = server.cli(&["person", "update", "anna", "--clear", "threshold"]).output().await.unwrap();
    assert!(out.status.success());
    assert_eq!(who(&server, "obama2.jpg").await.person, "people/anna");
    server.stop().await;
}
