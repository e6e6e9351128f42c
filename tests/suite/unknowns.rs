//! Strangers: kept when wanted, grouped, enrolled with their past, dismissed; feedback that can be taken back; the past searched.

use std::collections::BTreeMap;

use tonic::Code;
use tonic_types::StatusExt;
use visage::{
    config::Config,
    event::{self, NewEvent, log::EventQuery},
    face::{Distance, Embedding},
    identity::{self, UnknownChange, UnknownFace, UnknownSettings},
    ids::{EventId, FaceId, ModelId, TrackId},
    pipeline::unknowns::{UnknownGroup, Unknowns, UnknownsError},
    proto::v1::{
        DeleteCameraRequest, DismissUnknownRequest, EnrollUnknownRequest, Event, EventKind, Feedback,
        GetUnknownRequest, GiveFeedbackRequest, IdentifyFacesRequest, ListUnknownsRequest, ListUnknownsResponse,
        MergeUnknownsRequest, Unknown, unknown_service_client::UnknownServiceClient,
    },
    server::build::Recognition,
    simulator::{SimCamera, Simulator, SimulatorSettings},
    time::{Timestamp, now},
};

use crate::support::{EventFeed, Server, bytes, folder_of, picture};

const KEEP: [(&str, &str); 1] = [("VISAGE_UNKNOWNS__KEEP", "true")];

fn simulator(cameras: &[String]) -> Simulator {
    let cameras = cameras.iter().map(|c| SimCamera::parse(c).unwrap()).collect();
    Simulator::start(SimulatorSettings { port: 0, cameras, ..Default::default() }).unwrap()
}

async fn unknowns(server: &Server) -> UnknownServiceClient<tonic::transport::Channel> {
    UnknownServiceClient::new(server.channel().await)
}

async fn listed(server: &Server, show_dismissed: bool) -> ListUnknownsResponse {
    let request = ListUnknownsRequest { show_dismissed, ..Default::default() };
    unknowns(server).await.list_unknowns(request).await.unwrap().into_inner()
}

fn person(event: &Event) -> &str {
    event.r#match.as_ref().map_or("", |m| m.person.as_str())
}

async fn left(feed: &mut EventFeed, times: usize) -> Vec<Event> {
    let mut count = 0;
    let (seen, _) = feed
        .until(|e| {
            count += usize::from(e.kind() == EventKind::Left);
            count == times
        })
        .await;
    seen
}

async fn printed(server: &Server, args: &[&str]) -> String {
    let output = server.cli(args).output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "visage {args:?} failed: {err}");
    format!("{out}{err}")
}

/// Makes the groups of a camera one, as an operator would: on a busy machine the few frames that are left may make two tracks of one face, hence
/// two groups. The most appearances that one of them had before.
async fn joined(server: &Server, camera: &str) -> u32 {
    let camera = format!("cameras/{camera}");
    let mut found = listed(server, false).await.unknowns;
    found.retain(|g| g.cameras == [camera.clone()]);
    found.sort_by_key(|g| std::cmp::Reverse(g.face_count));
    assert!(!found.is_empty(), "nobody from {camera}");
    for other in &found[1..] {
        let request = MergeUnknownsRequest { name: found[0].name.clone(), from: other.name.clone() };
        unknowns(server).await.merge_unknowns(request).await.unwrap();
    }
    found[0].face_count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_comes_twice_is_one_group_and_becomes_a_person_with_a_past() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder_of(dir.path(), "door", &["obama.jpg"]);
    let sim = simulator(&[format!("door={}", folder.display())]);
    let server = Server::start_with(&dir.path().join("data"), &KEEP).await;
    server.know("joe-biden", "Joe Biden", "biden.jpg").await;
    let mut feed = server.stream(None).await;
    server.add_camera("door", &sim.url("door")).await;
    let seen = left(&mut feed, 2).await;
    assert!(seen.iter().all(|e| person(e).is_empty()), "a stranger got a name");

    assert!(joined(&server, "door").await >= 2, "the second appearance is not in the first one's group");
    let found = listed(&server, false).await;
    assert!(found.keeping && found.unknowns.len() == 1, "not one group: {:?}", found.unknowns);
    let group = &found.unknowns[0];
    assert!(group.face_count >= 2 && group.cameras == ["cameras/door"], "{group:?}");
    let id = group.name.strip_prefix("unknowns/").unwrap();
    let name = group.name.clone();
    let whole =
        unknowns(&server).await.get_unknown(GetUnknownRequest { name: name.clone() }).await.unwrap().into_inner();
    let told: Vec<&str> = seen.iter().filter(|e| e.kind() == EventKind::Unknown).map(|e| e.name.as_str()).collect();
    assert!(told.iter().all(|event| whole.faces.iter().any(|f| f.event == *event)), "{told:?} {:?}", whole.faces);
    let sheet = dir.path().join("sheet.jpg");
    printed(&server, &["unknown", "show", id, "-o", sheet.to_str().unwrap()]).await;
    assert!(image::open(&sheet).unwrap().width() >= 300, "two tiles");
    let table = printed(&server, &["unknown", "list"]).await;
    assert!(table.contains("APPEARANCES") && table.contains(id), "{table}");
    let search = printed(&server, &["events", "search", picture("obama2.jpg").to_str().unwrap(), "--json"]).await;
    assert!(search.contains(&name) && search.contains("EVENT_KIND_UNKNOWN"), "{search}");
    let nobody = printed(&server, &["events", "search", picture("astronaut.png").to_str().unwrap()]).await;
    assert!(nobody.starts_with("0 appearances"), "{nobody}");

    let force = EnrollUnknownRequest { name: "unknowns/u999".into(), ..Default::default() };
    let missing = unknowns(&server).await.enroll_unknown(force).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.get_error_details().resource_info().unwrap().resource_name, "unknowns/u999");

    let done = printed(&server, &["unknown", "enroll", id, "barack-obama", "--name", "Barack Obama"]).await;
    assert!(done.contains("barack-obama (added)") && done.contains("past events corrected"), "{done}");
    let mut corrected = Vec::new();
    let (after, _) = feed
        .until(|e| {
            if e.kind() == EventKind::Corrected && person(e) == "people/barack-obama" {
                corrected.push(e.corrects.clone());
            }
            e.kind() == EventKind::Recognized && told.iter().all(|event| corrected.iter().any(|c| c == event))
        })
        .await;
    let recognized = after.last().unwrap();
    assert_eq!(person(recognized), "people/barack-obama", "the next appearance has the name");
    let reason = &after.iter().find(|e| e.corrects == told[0]).unwrap().reason;
    assert!(reason.contains(id), "{reason}");
    let later = listed(&server, true).await.unknowns;
    assert!(later.iter().all(|g| g.name != name), "the group is still there: {later:?}");

    server.stop().await;
    sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_dismissed_and_merged_and_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let east = folder_of(dir.path(), "east", &["obama3.jpg"]);
    let west = folder_of(dir.path(), "west", &["biden.jpg"]);
    let sim = simulator(&[format!("east={}", east.display()), format!("west={}", west.display())]);
    let data = dir.path().join("data");
    let server = Server::start_with(&data, &KEEP).await;
    let mut feed = server.stream(None).await;
    for camera in ["east", "west"] {
        server.add_camera(camera, &sim.url(camera)).await;
    }
    let mut gone = std::collections::BTreeSet::new();
    feed.until(|e| {
        if e.kind() == EventKind::Left {
            gone.insert(e.camera.clone());
        }
        gone.len() == 2
    })
    .await;
    for camera in ["east", "west"] {
        let name = format!("cameras/{camera}");
        server.cameras().await.delete_camera(DeleteCameraRequest { name }).await.unwrap();
    }
    for camera in ["east", "west"] {
        joined(&server, camera).await;
    }
    let groups = listed(&server, false).await.unknowns;
    let names: Vec<String> = groups.iter().map(|g| g.name.clone()).collect();
    assert_eq!(groups.len(), 2, "two people, not {groups:?}");
    assert!(groups.iter().all(|g| g.cameras.len() == 1));
    let request = ListUnknownsRequest { page_size: 1, ..Default::default() };
    let first = unknowns(&server).await.list_unknowns(request.clone()).await.unwrap().into_inner();
    let second = ListUnknownsRequest { page_token: first.next_page_token.clone(), ..request };
    let second = unknowns(&server).await.list_unknowns(second).await.unwrap().into_inner();
    assert_eq!([&first, &second].map(|p| p.unknowns[0].name.clone()).to_vec(), names, "pages");
    assert!(second.next_page_token.is_empty());

    let dismiss = DismissUnknownRequest { name: names[0].clone(), undo: false };
    assert!(unknowns(&server).await.dismiss_unknown(dismiss).await.unwrap().into_inner().dismissed);
    let quiet = |groups: Vec<Unknown>| groups.into_iter().map(|g| g.name).collect::<Vec<_>>();
    assert_eq!(quiet(listed(&server, false).await.unknowns), [names[1].clone()]);
    server.stop().await;

    // The same ids after a restart, also where nothing new is kept any more.
    let server = Server::start(&data).await;
    assert!(!listed(&server, false).await.keeping);
    assert_eq!(quiet(listed(&server, true).await.unknowns), names);
    assert_eq!(quiet(listed(&server, false).await.unknowns), [names[1].clone()]);
    let ids: Vec<&str> = names.iter().map(|n| n.strip_prefix("unknowns/").unwrap()).collect();
    printed(&server, &["unknown", "dismiss", "--undo", ids[0]]).await;
    let merged = printed(&server, &["unknown", "merge", ids[0], ids[1], "--json"]).await;
    assert!(
        merged.contains(&names[0]) && merged.contains("cameras/east") && merged.contains("cameras/west"),
        "{merged}"
    );
    assert_eq!(quiet(listed(&server, true).await.unknowns), [names[0].clone()]);
    let same = MergeUnknownsRequest { name: names[0].clone(), from: names[0].clone() };
    assert_eq!(unknowns(&server).await.merge_unknowns(same).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
    sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_unless_the_operator_says_so_and_feedback_can_be_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder_of(dir.path(), "door", &["obama2.jpg"]);
    let yard = folder_of(dir.path(), "yard", &["biden.jpg"]);
    let sim = simulator(&[format!("door={}", folder.display()), format!("yard={}", yard.display())]);
    let server = Server::start(&dir.path().join("data")).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let mut feed = server.stream(None).await;
    server.add_camera("yard", &sim.url("yard")).await;
    feed.until(|e| e.kind() == EventKind::Left).await;
    let found = listed(&server, true).await;
    assert!(!found.keeping && found.unknowns.is_empty());
    let told = printed(&server, &["unknown", "list"]).await;
    assert!(told.contains("unknowns.keep = true"), "{told}");

    server.add_camera("door", &sim.url("door")).await;
    let (seen, _) = feed.until(|e| e.kind() == EventKind::Recognized).await;
    let recognized = seen.last().unwrap().name.clone();
    server.cameras().await.delete_camera(DeleteCameraRequest { name: "cameras/door".into() }).await.unwrap();
    let judge = async |feedback: Feedback| {
        let request = GiveFeedbackRequest { name: recognized.clone(), feedback: feedback.into() };
        server.events().await.give_feedback(request).await.unwrap();
    };
    let mut correction = async || {
        let (seen, _) = feed.until(|e| e.kind() == EventKind::Corrected && e.corrects == recognized).await;
        person(seen.last().unwrap()).to_owned()
    };
    let named = async |image: &str| {
        let request = IdentifyFacesRequest { image: bytes(image), ..Default::default() };
        let found = server.recognition().await.identify_faces(request).await.unwrap().into_inner();
        found.faces[0].r#match.as_ref().unwrap().person.clone()
    };
    assert_eq!(named("obama2.jpg").await, "people/barack-obama");
    judge(Feedback::Wrong).await;
    assert_eq!(correction().await, "");
    assert_eq!(named("obama2.jpg").await, "", "the same mistake is not made again");
    judge(Feedback::Right).await;
    assert_eq!(correction().await, "people/barack-obama");
    assert_eq!(named("obama2.jpg").await, "people/barack-obama", "the negative exemplar is gone");
    judge(Feedback::Right).await;
    assert_eq!(named("obama3.jpg").await, "people/barack-obama");
    server.stop().await;
    sim.stop();
}

/// An appearance of a made-up face: UNKNOWN, and LEFT with the face to keep. Its template is `values` and zeros.
fn appearance(model: &ModelId, at: Timestamp, values: [f32; 3]) -> [NewEvent; 2] {
    let event = |kind| NewEvent::new(EventId::generate(), kind, "door".parse().unwrap(), Default::default(), at);
    let mut template = vec![0.0; 128];
    template[..3].copy_from_slice(&values);
    let (mut unknown, mut left) = (event(event::EventKind::Unknown), event(event::EventKind::Left));
    unknown.track = Some(TrackId::generate());
    (unknown.model, unknown.template) = (Some(model.clone()), Some(template.clone()));
    unknown.image = Some("a picture".into());
    left.unknown = Some(UnknownChange::Keep(Box::new(UnknownFace {
        id: FaceId::generate(),
        camera: "door".parse().unwrap(),
        track: unknown.track.clone().unwrap(),
        event: unknown.id.clone(),
        began: at,
        ended: at,
        template: Embedding { model: model.clone(), distance: Distance::Euclidean, values: template.into() },
        quality: 0.5,
        picture: Default::default(),
    })));
    [unknown, left]
}

fn anybody(id: &str) -> identity::Person {
    identity::Person {
        id: id.parse().unwrap(),
        display_name: id.to_uppercase(),
        external_id: String::new(),
        labels: BTreeMap::new(),
        watchlists: Vec::new(),
        threshold_offset: 0.0,
        terms: Default::default(),
        created: now(),
        revision: 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_go_over_the_limit_and_by_retention_and_erasure_follows_an_enrolment() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.server.data_dir = dir.path().to_owned();
    let r = Recognition::open(&config).await.unwrap();
    let settings = UnknownSettings { keep: true, max: 3, ..Default::default() };
    let open = || Unknowns::new(r.store.unknowns(), r.store.log(), r.gallery.clone(), r.desk.clone(), settings.clone());
    let model = r.gallery.model().clone();
    let began = now();
    let later = |seconds: u64| began.checked_add(std::time::Duration::from_secs(seconds)).unwrap();
    let (one, other) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]);
    let near = |[x, y, z]: [f32; 3], n: u64| [x + 0.05 * n as f32, y, z];
    for (n, who) in [one, one, other, one, other].into_iter().enumerate() {
        let n = n as u64;
        r.store.log().append(appearance(&model, later(n), near(who, n)).into()).await.unwrap();
    }
    let sizes = |groups: &[UnknownGroup]| groups.iter().map(|g| (g.id.to_string(), g.faces.len())).collect::<Vec<_>>();
    let groups = open().list().await.unwrap();
    assert_eq!(sizes(&groups), [("u2".to_owned(), 2), ("u1".to_owned(), 1)], "the newest three, last seen first");
    let unknowns = open();
    assert_eq!(unknowns.list().await.unwrap(), groups, "read anew they are the same");
    // A group of one keeps its dismissal when another goes into it.
    unknowns.dismiss(groups[1].id, true).await.unwrap();
    assert!(unknowns.merge(groups[1].id, groups[0].id).await.unwrap().dismissed);
    unknowns.keep_house(later(86_400 * 14 - 60)).await.unwrap();
    assert_eq!(sizes(&unknowns.list().await.unwrap()), [("u1".to_owned(), 3)]);
    unknowns.keep_house(later(86_400 * 14 + 60)).await.unwrap();
    assert!(unknowns.list().await.unwrap().is_empty() && r.store.unknowns().unknowns().await.unwrap().is_empty());

    for n in 0..2 {
        r.store.log().append(appearance(&model, later(100 + n), near(one, n)).into()).await.unwrap();
    }
    let group = unknowns.list().await.unwrap().remove(0);
    assert_eq!((group.id.to_string().as_str(), group.faces.len()), ("u3", 2), "numbers are never given twice");
    let done = unknowns.enroll(group.id, anybody("zed"), false).await.unwrap();
    assert_eq!((done.created, done.faces_enrolled, done.faces_moved, done.events_corrected), (true, 2, 2, 2));
    assert!(r.store.unknowns().unknowns().await.unwrap().is_empty());
    let zed: identity::Person = r.gallery.person(&"zed".parse().unwrap()).unwrap();
    r.store.log().append(appearance(&model, later(200), near(one, 1)).into()).await.unwrap();
    let again = unknowns.list().await.unwrap().remove(0).id;
    let refused = unknowns.enroll(again, anybody("ypsilon"), false).await.unwrap_err();
    assert!(matches!(refused, UnknownsError::LooksLike { ref person, .. } if *person == zed.id), "{refused}");
    assert!(r.gallery.person(&"ypsilon".parse().unwrap()).is_none(), "a refused enrolment added a person");
    let done = unknowns.enroll(again, zed.clone(), false).await.unwrap();
    assert_eq!((done.created, done.faces_enrolled, done.events_corrected), (false, 0, 1), "the face is known already");

    r.gallery.erase_person(&zed.id, now()).await.unwrap();
    for event in r.store.log().list(&EventQuery { limit: 6, ..Default::default() }).await.unwrap() {
        let told = event.body.matched.as_ref().and_then(|m| m.person.as_ref());
        let left = event.body.kind == event::EventKind::Left;
        assert!(told.is_none() && (left || event.body.template.is_none() && !event.has_image), "{event:?}");
    }
    drop(unknowns);
    r.close().await;
}
