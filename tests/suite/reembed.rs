//! A gallery moves to another model: while it is used, without losing anybody silently, through crashes, and back.

use std::path::Path;

use tonic::{Code, transport::Channel};
use visage::{
    proto::v1::{gallery_service_client::GalleryServiceClient, *},
    simulator::{SimCamera, Simulator, SimulatorSettings},
};

use crate::support::{PATIENCE, Server, bytes, folder_of};

const DLIB: &str = "dlib-resnet";
const MOBILE: &str = "mobilefacenet";

async fn gallery(server: &Server) -> GalleryServiceClient<Channel> {
    GalleryServiceClient::new(server.channel().await)
}

async fn status(server: &Server) -> Gallery {
    gallery(server).await.get_gallery(GetGalleryRequest {}).await.unwrap().into_inner()
}

fn to(model: &str) -> ReembedGalleryRequest {
    ReembedGalleryRequest { model: model.into(), ..Default::default() }
}

async fn planned(server: &Server, model: &str) -> ReembedPlan {
    let request = ReembedGalleryRequest { validate_only: true, ..to(model) };
    let mut answers = gallery(server).await.reembed_gallery(request).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.stage(), ReembedStage::Planned);
    assert!(answers.message().await.unwrap().is_none());
    answer.plan.unwrap()
}

/// Moves to the end: the stages seen and the report.
async fn moved(server: &Server, request: ReembedGalleryRequest) -> (Vec<ReembedStage>, ReembedPlan) {
    let mut answers = gallery(server).await.reembed_gallery(request).await.unwrap().into_inner();
    let mut stages = Vec::new();
    let run = async {
        while let Some(answer) = answers.message().await.unwrap() {
            stages.push(answer.stage());
            if answer.stage() == ReembedStage::Done {
                return answer.plan.unwrap();
            }
        }
        panic!("the move ended without a word");
    };
    let report = tokio::time::timeout(PATIENCE, run).await.expect("the move does not end");
    (stages, report)
}

/// Model that embeds, and who is in a picture of Obama.
async fn used(server: &Server) -> (String, String, f32) {
    let mut client = server.recognition().await;
    let embed = EmbedFacesRequest { image: bytes("obama2.jpg") };
    let model = client.embed_faces(embed).await.unwrap().into_inner().model;
    let identify = IdentifyFacesRequest { image: bytes("obama2.jpg"), ..Default::default() };
    let found = client.identify_faces(identify).await.unwrap().into_inner();
    let matched = found.faces[0].r#match.clone().unwrap();
    (model, matched.person, matched.threshold)
}

/// Whether bytes are in any file of a folder.
fn holds(dir: &Path, wanted: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()).any(|path| {
        let content = std::fs::read(path).unwrap();
        content.windows(wanted.len()).any(|w| w == wanted)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gallery_moves_while_it_is_used_stays_moved_and_goes_back_without_work() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    server.know("joe-biden", "Joe Biden", "biden.jpg").await;
    let before = used(&server).await;
    assert_eq!((before.0.as_str(), before.1.as_str()), (DLIB, "people/barack-obama"));
    let plan = planned(&server, MOBILE).await;
    assert_eq!((plan.people, plan.faces, plan.embedded, plan.to_embed, plan.missing.len()), (2, 2, 0, 2, 0));
    for (model, code) in [(DLIB, Code::FailedPrecondition), ("no-such-model", Code::InvalidArgument)] {
        let refused = async {
            let mut answers = gallery(&server).await.reembed_gallery(to(model)).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok::<(), tonic::Status>(())
        };
        assert_eq!(refused.await.unwrap_err().code(), code, "{model}");
    }

    // Asked all the time, and somebody is enrolled in the middle.
    let asked = async {
        let mut models = std::collections::BTreeSet::new();
        loop {
            let (model, person, threshold) = used(&server).await;
            assert_eq!(person, "people/barack-obama", "not recognised during the move, with {model}");
            assert!(threshold == 0.464 || threshold == 0.5, "a threshold of neither model: {threshold}");
            let done = model == MOBILE;
            models.insert(model);
            if done {
                return models;
            }
        }
    };
    let enrolled = server.know("astronaut", "Astronaut", "astronaut.png");
    let (models, (), (stages, report)) = tokio::join!(asked, enrolled, moved(&server, to(MOBILE)));
    assert!(models.contains(DLIB), "it was never asked before the switch");
    assert_eq!((stages[0], report.missing.len(), report.embedded, report.faces), (ReembedStage::Loading, 0, 3, 3));
    let after = status(&server).await;
    assert_eq!((after.model.as_str(), after.configured_model.as_str(), after.pictures), (MOBILE, DLIB, 3));
    assert!(after.models.iter().find(|m| m.model == MOBILE).is_some_and(|m| m.complete && m.in_use), "{after:?}");

    server.stop().await;
    let server = Server::start(dir.path()).await;
    assert_eq!(used(&server).await, (MOBILE.into(), "people/barack-obama".into(), 0.5), "not kept over a restart");
    let identify = IdentifyFacesRequest { image: bytes("astronaut.png"), ..Default::default() };
    let found = server.recognition().await.identify_faces(identify).await.unwrap().into_inner();
    assert_eq!(found.faces[0].r#match.as_ref().unwrap().person, "people/astronaut", "enrolled during the move");

    // Back: only what was enrolled after the first move has to be embedded.
    let answer = server.enroll("joe-biden", bytes("sample1.jpg")).await;
    let extra = u64::from(answer.face.is_some());
    let plan = planned(&server, DLIB).await;
    let after_move = status(&server).await.models.iter().find(|m| m.model == DLIB).map_or(0, |m| m.faces);
    assert_eq!(plan.to_embed, plan.faces - after_move);
    assert!(plan.to_embed <= 1 + extra, "{plan:?}");
    let request = ReembedGalleryRequest { drop_old: true, ..to(DLIB) };
    let (_, report) = moved(&server, request).await;
    assert_eq!(report.dropped, report.faces);
    assert_eq!(used(&server).await.0, DLIB);
    assert!(status(&server).await.models.iter().all(|m| m.model == DLIB), "old embeddings are left");

    // Erasure leaves neither the picture nor the embeddings of any model.
    let parent = "people/barack-obama".to_owned();
    let list = ListFacesRequest { parent: parent.clone(), ..Default::default() };
    let face = server.people().await.list_faces(list).await.unwrap().into_inner().faces.remove(0).name;
    let image = server.people().await.get_face_image(GetFaceImageRequest { name: face.clone() }).await.unwrap();
    let jpeg = image.into_inner().jpeg;
    let trace = &jpeg[jpeg.len() / 2..jpeg.len() / 2 + 64];
    server.stop().await;
    assert!(!holds(dir.path(), trace), "the picture lies there in the clear");
    let server = Server::start(dir.path()).await;
    let receipt = server.people().await.delete_person(DeletePersonRequest { name: parent }).await.unwrap();
    assert_eq!(receipt.into_inner().receipt.unwrap().face_images_removed, 1);
    let gone = server.people().await.get_face_image(GetFaceImageRequest { name: face }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert!(used(&server).await.1.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_be_enrolled_again_is_said_and_nobody_is_lost_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &[("VISAGE_GALLERY__KEEP_CROPS", "false")]).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    assert!(!status(&server).await.keeps_pictures);
    server.stop().await;
    let server = Server::start(dir.path()).await;
    // Of one there is a second face with a picture; Biden has only that.
    assert!(server.enroll("barack-obama", bytes("obama2.jpg")).await.face.is_some());
    server.know("joe-biden", "Joe Biden", "biden.jpg").await;
    let plan = planned(&server, MOBILE).await;
    assert_eq!((plan.missing.len(), plan.lost_people.len(), plan.to_embed), (1, 0, 2));
    assert!(plan.missing[0].name.starts_with("people/barack-obama/faces/") && plan.missing[0].source == "test");

    let faces = ListFacesRequest { parent: "people/barack-obama".into(), ..Default::default() };
    let faces = server.people().await.list_faces(faces).await.unwrap().into_inner().faces;
    let pictured = faces.iter().map(|f| f.name.clone()).find(|name| *name != plan.missing[0].name).unwrap();
    server.people().await.delete_face(DeleteFaceRequest { name: pictured }).await.unwrap();
    assert_eq!(planned(&server, MOBILE).await.lost_people, ["people/barack-obama"]);
    let refused = gallery(&server).await.reembed_gallery(to(MOBILE)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("barack-obama") && !refused.message().contains("joe-biden"), "{refused}");
    assert_eq!(used(&server).await.1, "people/barack-obama");

    let (_, report) = moved(&server, ReembedGalleryRequest { allow_missing: true, ..to(MOBILE) }).await;
    assert_eq!((report.lost_people.len(), report.missing.len(), report.embedded), (1, 1, 1));
    assert_eq!(used(&server).await.1, "", "known by a model that never saw the face");
    let found = gallery(&server).await.check_gallery(CheckGalleryRequest::default()).await.unwrap().into_inner();
    assert!(found.findings.iter().any(|f| f.kind() == GalleryFindingKind::NoFace && f.person == "people/barack-obama"));
    assert!(server.enroll("barack-obama", bytes("obama.jpg")).await.face.is_some());
    assert_eq!(used(&server).await.1, "people/barack-obama");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_was_cancelled_or_crashed_goes_on_where_it_was_and_only_one_runs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.add_person("barack-obama", "Barack Obama").await;
    let request = EnrollFacesRequest {
        person: "people/barack-obama".into(),
        image: bytes("obama.jpg"),
        force: true,
        ..Default::default()
    };
    let many = tokio_stream::iter(vec![request; 24]);
    let mut answers = server.people().await.enroll_faces(many).await.unwrap().into_inner();
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(answer.face.is_some(), "{}", answer.message);
    }
    let embedding_from = async |server: &Server, least: u64| {
        let mut answers = gallery(server).await.reembed_gallery(to(MOBILE)).await.unwrap().into_inner();
        loop {
            let answer = answers.message().await.unwrap().expect("it ended early");
            assert!(answer.stage() != ReembedStage::Switched, "too fast for this test");
            if answer.stage() == ReembedStage::Embedding && answer.done >= least {
                return answers;
            }
        }
    };
    // A caller who goes away cancels.
    let under_way = embedding_from(&server, 2).await;
    let second = gallery(&server).await.reembed_gallery(to(MOBILE)).await.unwrap_err();
    assert!(second.code() == Code::FailedPrecondition && second.message().contains("already"), "{second}");
    assert!(status(&server).await.moving);
    drop(under_way);
    let until = tokio::time::Instant::now() + PATIENCE;
    while status(&server).await.moving {
        assert!(tokio::time::Instant::now() < until, "it goes on without its caller");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let plan = planned(&server, MOBILE).await;
    assert!(plan.embedded >= 2 && plan.to_embed > 0, "{plan:?}");
    assert_eq!(used(&server).await.0, DLIB);

    let under_way = embedding_from(&server, 2).await;
    server.kill().await;
    drop(under_way);
    let server = Server::start(dir.path()).await;
    assert_eq!(used(&server).await, (DLIB.into(), "people/barack-obama".into(), 0.464), "half moved");
    let again = planned(&server, MOBILE).await;
    assert!(again.embedded >= plan.embedded + 2 && again.embedded + again.to_embed == 24, "{again:?}");
    let (_, report) = moved(&server, to(MOBILE)).await;
    assert_eq!((report.embedded, report.missing.len()), (24, 0));
    assert_eq!(used(&server).await.0, MOBILE);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_before_a_camera_stays_one_appearance_through_the_move() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder_of(dir.path(), "door", &["obama2.jpg"]);
    let cameras = vec![SimCamera::parse(&format!("door={}", folder.display())).unwrap()];
    let sim = Simulator::start(SimulatorSettings { port: 0, cameras, ..Default::default() }).unwrap();
    let server = Server::start(&dir.path().join("data")).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let mut feed = server.stream(None).await;
    server.add_camera("door", &sim.url("door")).await;
    feed.until(|e| e.kind() == EventKind::Recognized).await;
    let (_, report) = moved(&server, to(MOBILE)).await;
    assert_eq!(report.to, MOBILE);
    // Some appearance of the new model is named; none is told with templates of both.
    let (seen, _) = feed.until(|e| e.kind() == EventKind::Recognized && e.model == MOBILE).await;
    let all = server.events().await.list_events(ListEventsRequest::default()).await.unwrap().into_inner().events;
    assert!(seen.iter().chain(&all).all(|e| e.kind() != EventKind::Unknown), "a known face became unknown");
    for event in &all {
        let threshold = event.r#match.as_ref().map_or(0.0, |m| m.threshold);
        let fits = match (event.kind(), event.model.as_str()) {
            (EventKind::Recognized | EventKind::Corrected, DLIB) => threshold == 0.464,
            (EventKind::Recognized | EventKind::Corrected, MOBILE) => threshold == 0.5,
            _ => true,
        };
        assert!(fits, "model and threshold do not fit: {event:?}");
    }
    let appeared = |track: &str| all.iter().filter(|e| e.track == track && e.kind() == EventKind::Appeared).count();
    assert!(all.iter().filter(|e| !e.track.is_empty()).all(|e| appeared(&e.track) <= 1));
    server.stop().await;
    sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_name_the_enrolled_face_and_can_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data")).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    // One face says too little to refuse another; two that agree are sure.
    let told = server.enroll("barack-obama", bytes("astronaut.png")).await;
    assert!(told.face.is_some(), "{}", told.message);
    assert_eq!(told.conflicts.len(), 1);
    assert!(told.conflicts[0].kind() == ConflictKind::UnlikeOwnFaces && !told.conflicts[0].refuses);
    server.people().await.delete_face(DeleteFaceRequest { name: told.face.unwrap().name }).await.unwrap();
    assert!(server.enroll("barack-obama", bytes("obama2.jpg")).await.face.is_some());
    let refused = server.enroll("barack-obama", bytes("astronaut.png")).await;
    assert_eq!(refused.refusal(), RefusalReason::UnlikeOwnFaces, "{}", refused.message);
    let conflict = &refused.conflicts[0];
    assert!(conflict.refuses && conflict.similarity < conflict.limit && refused.message.contains("unlike"));
    let image = GetFaceImageRequest { name: conflict.face.clone() };
    let shown = server.people().await.get_face_image(image).await.unwrap().into_inner();
    let picture = image::load_from_memory(&shown.jpeg).unwrap();
    let identify = IdentifyFacesRequest { image: shown.jpeg, ..Default::default() };
    let found = server.recognition().await.identify_faces(identify).await.unwrap().into_inner();
    assert_eq!(
        found.faces[0].r#match.as_ref().unwrap().person,
        "people/barack-obama",
        "the picture shows somebody else"
    );
    let (there, here) = (shown.face.unwrap().bbox.unwrap(), found.faces[0].face.as_ref().unwrap().bbox.unwrap());
    assert!((there.x1 - here.x1).abs() < picture.width() as f32 / 10.0, "the face is not where it is said to be");

    // The command line shows the same, and a sheet.
    let (image, sheet) = (crate::support::picture("astronaut.png"), dir.path().join("conflicts.png"));
    let (image, out) = (image.to_string_lossy().into_owned(), sheet.to_string_lossy().into_owned());
    let enroll = server.cli(&["enroll", "barack-obama", &image, "--sheet", &out]).output().await.unwrap();
    let text = String::from_utf8_lossy(&enroll.stdout).into_owned();
    assert_eq!(enroll.status.code(), Some(3), "{text}");
    let face = conflict.face.rsplit_once('/').unwrap().1.to_owned();
    assert!(text.contains("unlike own faces") && text.contains(&face), "{text}");
    assert!(image::open(&sheet).unwrap().width() > 320);

    // A sheet that can't be drawn: told after the summary; a name that can't work: before anything is sent.
    let nowhere = dir.path().join("none/conflicts.png").to_string_lossy().into_owned();
    let enroll = server.cli(&["enroll", "barack-obama", &image, "--sheet", &nowhere]).output().await.unwrap();
    let (text, told) = (String::from_utf8_lossy(&enroll.stdout), String::from_utf8_lossy(&enroll.stderr));
    assert!(enroll.status.code() == Some(1) && text.contains("1 pictures refused"), "{text}");
    assert!(told.contains("no sheet was drawn: cannot write") && told.contains("none/conflicts.png"), "{told}");
    let enroll = server.cli(&["enroll", "barack-obama", &image, "--sheet", "conflicts.gif"]).output().await.unwrap();
    assert!(enroll.status.code() == Some(2) && enroll.stdout.is_empty(), "{enroll:?}");
    let out = dir.path().join("face.jpg").to_string_lossy().into_owned();
    let short = format!("barack-obama/{face}");
    assert!(server.cli(&["person", "face-image", &short, "-o", &out]).status().await.unwrap().success());
    assert_eq!(image::open(&out).unwrap().width(), picture.width());
    let check = server.cli(&["gallery", "check"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&check.stdout).contains("nothing to look at among 2 faces"), "{check:?}");

    // Forced all the same, the check finds it.
    let forced = EnrollFacesRequest {
        person: "people/barack-obama".into(),
        image: bytes("astronaut.png"),
        force: true,
        ..Default::default()
    };
    let mut answers = server.people().await.enroll_faces(tokio_stream::iter(vec![forced])).await.unwrap().into_inner();
    let forced = answers.message().await.unwrap().unwrap();
    let odd = forced.face.unwrap().name;
    assert!(!forced.conflicts[0].refuses);
    server.know("joe-biden", "Joe Biden", "biden.jpg").await;
    let found = gallery(&server).await.check_gallery(CheckGalleryRequest::default()).await.unwrap().into_inner();
    let outlier = found.findings.iter().find(|f| f.kind() == GalleryFindingKind::Outlier).unwrap();
    assert!(outlier.face == odd && !outlier.advice.is_empty(), "{found:?}");
    let text = server.cli(&["gallery", "status"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("dlib-resnet") && text.contains("in use") && text.contains("4 of 4 faces"), "{text}");
    let dry = server.cli(&["gallery", "reembed", "--model", MOBILE, "--dry-run"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(dry.status.success() && text.contains("4 faces from their pictures"), "{text}");
    server.stop().await;
}
