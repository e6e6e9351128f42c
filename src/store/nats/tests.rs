//! Several nodes over one real NATS server.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tempfile::{TempDir, tempdir};
use tokio::time::{Instant, sleep, timeout};

use super::{ClusterStore, Holds, server::NatsServer, server::key};
use crate::{
    camera::{CameraSpec, CameraStore, CameraStoreError},
    event::{Event, EventKind, EventLog, EventLogError, Feedback, NewEvent},
    identity::{EnrolledFace, GalleryChange, GalleryError, GalleryStore, Person},
    ids::CameraId,
    store::{
        StoreError, conformance,
        sqlite::{
            SqliteStore,
            tests::{anna, camera, event, face, recognized},
            tokens::TokenBookError,
        },
    },
    time::now,
    vault::VaultSettings,
};

fn door() -> CameraId {
    "door".parse().unwrap()
}

pub(super) async fn take(node: &ClusterStore) -> Event {
    node.take_over(&door(), 1, event(EventKind::CameraState)).await.unwrap()
}

/// Waits until something is so.
pub(super) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A server and two nodes.
async fn two() -> (NatsServer, TempDir, TempDir, Arc<ClusterStore>, Arc<ClusterStore>) {
    let server = NatsServer::start();
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let (a, b) = (server.node("a", one.path()).await, server.node("b", two.path()).await);
    (server, one, two, a, b)
}

/// Everything that a replica says, to be compared with another's.
pub(super) async fn told(node: &ClusterStore) -> String {
    let mut cameras = CameraStore::list(node).await.unwrap();
    cameras.iter_mut().for_each(|camera| camera.credentials = None);
    let people = node.people(None, 1000).await.unwrap();
    let faces = node.all_faces(&"m".parse().unwrap()).await.unwrap();
    let negatives = node.negatives(&"m".parse().unwrap()).await.unwrap();
    let tokens = node.tokens(true).await.unwrap();
    let events =
        EventLog::list(node, &crate::event::log::EventQuery { limit: 1000, ..Default::default() }).await.unwrap();
    format!("{cameras:#?} {people:#?} {faces:#?} {negatives:#?} {tokens:#?} {events:#?} {}", node.log_id())
}

#[tokio::test]
async fn a_cluster_keeps_what_the_ports_promise() {
    let server = NatsServer::start();
    let dir = tempdir().unwrap();
    let node = server.node("a", dir.path()).await;
    assert_eq!(node.node(), "a");
    conformance::cameras(&*node).await;
    conformance::people(&*node).await;
    assert!(matches!(node.append(vec![event(EventKind::Left)]).await, Err(EventLogError::Fenced(_))), "not taken over");
    take(&node).await;
    conformance::events(&*node).await;
    conformance::retention(&*node).await;
    conformance::tokens(&*node, async |token| node.add_token(&token).await.unwrap()).await;
    node.probe().await.unwrap();
    node.close().await;
    drop(node);
    // What was written is there for the next run, which reads only what is new.
    let node = server.node("a", dir.path()).await;
    assert_eq!(node.tokens(false).await.unwrap().len(), 1);
    node.close().await;
}

#[tokio::test]
async fn nodes_see_what_others_write_and_only_the_first_of_two_changes_counts() {
    let (_server, _one, _two, a, b) = two().await;
    assert_eq!(a.log_id(), b.log_id());
    let (mut cameras, mut gallery) = (b.changes(), b.gallery_changes());
    let door = camera("door");
    a.insert(&door).await.unwrap();
    timeout(Duration::from_secs(5), cameras.changed()).await.unwrap().unwrap();
    assert_eq!(CameraStore::list(&*b).await.unwrap(), std::slice::from_ref(&door));
    assert!(matches!(b.insert(&door).await, Err(CameraStoreError::AlreadyExists(_))));
    // Both change the same revision.
    let (left, right) = (
        CameraSpec { display_name: "left".into(), revision: 2, ..door.clone() },
        CameraSpec { display_name: "right".into(), revision: 2, ..door.clone() },
    );
    let (l, r) = tokio::join!(a.update(&left), b.update(&right));
    assert!(l.is_ok() != r.is_ok(), "one of them counts: {l:?} {r:?}");
    assert!(matches!(l.and(r), Err(CameraStoreError::Conflict(_))));

    let anna = anna();
    a.insert_person(&anna).await.unwrap();
    let face = face(&anna);
    a.insert_face(&face, None).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(timeout(Duration::from_secs(5), gallery.recv()).await.unwrap().unwrap());
    }
    let added = GalleryChange::FaceAdded { person: anna.id.clone(), face: face.id.clone() };
    // A face that is heard of before its person brings the person along.
    assert!(seen.contains(&GalleryChange::Person(anna.id.clone())) && seen.contains(&added), "{seen:?}");
    assert_eq!(b.faces(&anna.id).await.unwrap(), std::slice::from_ref(&face));
    b.remove_face(&anna.id, &face.id).await.unwrap();
    until("the face is gone at the other", async || a.faces(&anna.id).await.unwrap().is_empty()).await;

    // One live token a name in the whole cluster.
    let (first, second) = (conformance::made("reader"), conformance::made("reader"));
    let (l, r) = tokio::join!(a.add_token(&first), b.add_token(&second));
    assert!(matches!(l.and(r), Err(TokenBookError::Exists(_))));
    until("both know one", async || a.tokens(false).await.unwrap() == b.tokens(false).await.unwrap()).await;
    let revoked = b.revoke_token(&first.name, now()).await.unwrap();
    until("it is revoked", async || a.tokens(false).await.unwrap().is_empty()).await;
    assert_eq!(a.tokens(true).await.unwrap(), [revoked]);
    assert!(matches!(a.revoke_token(&first.name, now()).await, Err(TokenBookError::NotFound(_))));
    a.add_token(&second).await.unwrap();
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn a_camera_that_was_taken_over_is_said_by_nobody_else() {
    let (_server, _one, _two, a, b) = two().await;
    let first = take(&a).await;
    let written = a.append(vec![event(EventKind::Appeared), event(EventKind::Unknown)]).await.unwrap();
    assert_eq!(written[1].position, first.position + 2);
    assert!(a.owns(&door()) && !b.owns(&door()));
    let taken = take(&b).await;
    assert_eq!(taken.position, first.position + 3);
    // A was paused and knows nothing of it.
    let late = event(EventKind::Left);
    assert!(matches!(a.append(vec![late.clone()]).await, Err(EventLogError::Fenced(id)) if id == door()));
    assert!(!a.owns(&door()));
    assert!(matches!(a.append(vec![late.clone()]).await, Err(EventLogError::Fenced(_))));
    let next = b.append(vec![event(EventKind::Unknown)]).await.unwrap();
    assert_eq!(next[0].position, taken.position + 1, "what was refused left no hole");
    assert!(matches!(EventLog::get(&*b, &late.id).await, Err(EventLogError::NotFound(_))));
    // An event that was stored while its answer was lost comes again.
    let again = b.append(next.iter().map(|event| event.body.clone()).collect()).await.unwrap();
    assert_eq!(again[0].position, next[0].position);
    let after = b.append(vec![event(EventKind::Left)]).await.unwrap();
    assert_eq!(after[0].position, next[0].position + 1);
    until("A reads them all", async || *a.latest().borrow() == after[0].position).await;
    let read = a.read_after(0, 100).await.unwrap();
    assert_eq!(read.iter().map(|e| e.position).collect::<Vec<_>>(), (1..=after[0].position).collect::<Vec<_>>());
    // Nobody names the camera any more; then A takes it again.
    b.give_up(&door());
    assert!(matches!(b.append(vec![event(EventKind::Left)]).await, Err(EventLogError::Fenced(_))));
    take(&a).await;
    a.append(vec![late]).await.unwrap();
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn the_last_event_of_a_camera_may_expire() {
    let (_server, _one, _two, a, b) = two().await;
    take(&a).await;
    a.append(vec![event(EventKind::Left)]).await.unwrap();
    until("b has them", async || *b.latest().borrow() == 2).await;
    sleep(Duration::from_millis(5)).await;
    assert_eq!(b.remove_before(now()).await.unwrap(), 2, "any node may do it");
    assert_eq!(a.append(vec![event(EventKind::Left)]).await.unwrap()[0].position, 3);
    assert_eq!(a.remove_before(now()).await.unwrap(), 3, "and every node does");
    take(&b).await;
    assert!(matches!(a.append(vec![event(EventKind::Left)]).await, Err(EventLogError::Fenced(_))));
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn while_nats_is_away_nothing_hangs_and_later_all_is_there_once() {
    let (mut server, _one, _two, a, b) = two().await;
    take(&a).await;
    a.append(vec![event(EventKind::Appeared)]).await.unwrap();
    server.kill();
    let waiting: Vec<NewEvent> = (0..3).map(|_| event(EventKind::Unknown)).collect();
    let began = Instant::now();
    assert!(matches!(a.append(waiting.clone()).await, Err(EventLogError::Unavailable(_))));
    assert!(matches!(a.insert(&camera("lobby")).await, Err(CameraStoreError::Unavailable(_))));
    assert!(matches!(a.insert_person(&anna()).await, Err(GalleryError::Disk(_))));
    assert!(a.probe().await.is_err());
    assert!(a.set_feedback(&waiting[0].id, Feedback::Right).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
    // What is here can be read.
    assert_eq!(a.read_after(0, 10).await.unwrap().len(), 2);
    server.run();
    until("it is written", async || a.append(waiting.clone()).await.is_ok()).await;
    until("b has them", async || *b.latest().borrow() == 5).await;
    let read = b.read_after(2, 10).await.unwrap();
    assert!(read.iter().map(|e| &e.body.id).eq(waiting.iter().map(|e| &e.id)), "in order, each once");
    a.insert(&camera("lobby")).await.unwrap();
    until("b follows again", async || CameraStore::list(&*b).await.unwrap().len() == 1).await;
    until("all is well", async || a.probe().await.is_ok() && b.probe().await.is_ok()).await;
    a.close().await;
    b.close().await;
}

/// Two people, of whom one is named by events, and what else there is.
async fn filled(node: &ClusterStore) -> (Person, Vec<Event>) {
    let anna = Person { created: now(), ..anna() };
    let berta = Person { id: "berta".parse().unwrap(), display_name: "Bertilla".into(), ..anna.clone() };
    for person in [&anna, &berta] {
        node.insert_person(person).await.unwrap();
        let face = EnrolledFace { created: now(), ..face(person) };
        node.insert_face(&face, None).await.unwrap();
        node.insert_negative(&person.id, &face.embedding).await.unwrap();
    }
    node.insert(&camera("door")).await.unwrap();
    take(node).await;
    let unknown = NewEvent { template: Some(vec![0.25, -1.5, 3.0]), ..event(EventKind::Unknown) };
    let corrected = NewEvent { kind: EventKind::Corrected, corrects: Some(unknown.id.clone()), ..recognized(&anna) };
    let events = vec![event(EventKind::Appeared), unknown, recognized(&anna), corrected, recognized(&berta)];
    let written = node.append(events).await.unwrap();
    node.set_feedback(&written[2].body.id, Feedback::Wrong).await.unwrap();
    (anna, written)
}

/// Words in files below a folder that must not be there in the clear.
fn traces(dir: &Path) -> Vec<String> {
    let words = ["anna", "Annabella Quux", "Bertilla", "secret", "nearface-4711"];
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(traces(&path));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let is_in = |word: &&str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
        found.extend(words.iter().filter(|word| is_in(word)).map(|word| format!("{word} in {}", path.display())));
    }
    found
}

#[tokio::test]
async fn a_new_replica_is_like_the_old_ones_and_an_erasure_reaches_all() {
    let (server, _one, _two, a, b) = two().await;
    let (anna, written) = filled(&a).await;
    let last = written[4].position;
    until("b has all", async || *b.latest().borrow() == last && told(&a).await == told(&b).await).await;
    let (three, four) = (tempdir().unwrap(), tempdir().unwrap());
    let c = server.node("c", three.path()).await;
    assert_eq!(told(&c).await, told(&a).await);
    let found = traces(server.folder());
    assert!(found.is_empty(), "in NATS in the clear: {found:?}");
    assert_eq!(&c.image(&written[2].body.id).await.unwrap()[..], b"picture of Annabella Quux");

    let receipt = b.erase_person(&anna.id, now()).await.unwrap();
    assert_eq!((receipt.faces_removed, receipt.events_anonymised), (1, 2));
    for node in [&a, &c] {
        until("nobody knows her", async || {
            let gone = matches!(node.person(&anna.id).await, Err(GalleryError::PersonNotFound(_)));
            gone && told(node).await == told(&b).await
        })
        .await;
        assert!(!told(node).await.contains("anna"));
        assert_eq!(*node.latest().borrow(), last);
        assert!(matches!(node.image(&written[2].body.id).await, Err(EventLogError::NoImage(_))));
        let judged = EventLog::get(&**node, &written[2].body.id).await.unwrap();
        assert_eq!((judged.position, judged.feedback), (written[2].position, Some(Feedback::Wrong)));
        let corrected = EventLog::get(&**node, &written[1].body.id).await.unwrap();
        assert!(corrected.body.template.is_none(), "it showed her");
    }
    // A replica built anew never hears of her, and has every event in its place.
    let d = server.node("d", four.path()).await;
    assert_eq!(told(&d).await, told(&a).await);
    let positions: Vec<u64> = d.read_after(0, 100).await.unwrap().iter().map(|e| e.position).collect();
    assert_eq!(positions, (1..=last).collect::<Vec<_>>());
    // The messages, keys and pictures themselves are gone.
    assert!(super::bucket::last_of(&d.cluster.events, "visage.events.door").await.unwrap().is_some());
    for position in [written[1].position, written[2].position, written[3].position] {
        assert!(d.cluster.events.get_raw_message(position).await.is_err(), "the message {position} is there");
    }
    assert!(d.cluster.picture(d.replica.vault(), &written[2].body.id).await.unwrap().is_none());
    let under = format!("{}.", d.person_key(&anna.id));
    let faces = d.cluster.bucket(crate::store::sqlite::replica::Source::Faces).unwrap();
    assert!(!faces.keys().await.unwrap().iter().any(|key| key.starts_with(&under)));

    // An event that names her and comes late names nobody, here and at its origin.
    let late = recognized(&anna);
    let position = a.append(vec![late.clone()]).await.unwrap()[0].position;
    until("d has it", async || *d.latest().borrow() == position).await;
    assert!(!told(&d).await.contains("anna"));
    for node in [a, b, c, d] {
        node.close().await;
    }
}

#[tokio::test]
async fn an_erasure_that_was_interrupted_is_finished_by_whoever_comes() {
    let (server, one, _two, a, b) = two().await;
    let (anna, written) = filled(&a).await;
    until("b has all", async || *b.latest().borrow() == written[4].position).await;
    b.close().await;
    // The node dies after the intent: nothing else was done.
    let record = super::records::ErasureRecord { person: anna.id.clone(), erased: now(), done: false };
    let erasures = a.cluster.bucket(crate::store::sqlite::replica::Source::Erasures).unwrap();
    let revision = erasures.create("receipt-1", &record).await.unwrap();
    a.applied(crate::store::sqlite::replica::Source::Erasures, revision).await.unwrap();
    a.close().await;
    assert!(matches!(a.replica.person(&anna.id).await, Err(GalleryError::Storage(_))), "it is closed");
    std::fs::remove_file(one.path().join("visage.db")).unwrap();
    // The first that starts finishes it; its replica is new, too.
    let three = tempdir().unwrap();
    let c = server.node("c", three.path()).await;
    assert!(!told(&c).await.contains("anna"));
    let done: Option<(u64, super::records::ErasureRecord)> =
        c.cluster.bucket(crate::store::sqlite::replica::Source::Erasures).unwrap().get("receipt-1").await.unwrap();
    assert!(done.unwrap().1.done);
    for position in [written[1].position, written[2].position, written[3].position] {
        assert!(c.cluster.events.get_raw_message(position).await.is_err(), "the message {position} is there");
    }
    assert_eq!(c.read_after(0, 100).await.unwrap().len() as u64, written[4].position, "no event is missing");
    c.close().await;
}

#[tokio::test]
async fn what_can_not_work_is_refused_with_what_to_do() {
    let server = NatsServer::start();
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let a = server.node("a", one.path()).await;
    let other = VaultSettings {
        key: crate::secret::Secret::new("AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="),
        ..Default::default()
    };
    let open = async |settings: &super::ClusterSettings, key: &VaultSettings| {
        let error =
            ClusterStore::open(settings, two.path(), key, Holds::Everything).await.err().expect("it was accepted");
        assert!(matches!(error, StoreError::Cluster(_)), "{error:?}");
        // The folder is free again.
        std::fs::remove_dir_all(two.path()).unwrap();
        error.to_string()
    };
    let text = open(&server.settings("b"), &other).await;
    assert!(text.contains("another key") && text.contains("storage.key"), "{text}");
    let nowhere = super::ClusterSettings { servers: vec!["nats://127.0.0.1:1".into()], ..server.settings("b") };
    let text = open(&nowhere, &key()).await;
    assert!(text.contains("no NATS server") && text.contains("127.0.0.1:1"), "{text}");
    let three = super::ClusterSettings { replicas: 3, ..server.settings("b") };
    let text = open(&three, &key()).await;
    assert!(text.contains("cluster.replicas = 3"), "{text}");
    // Data of a server without a cluster would be lost.
    let own = SqliteStore::open(two.path(), &key()).unwrap();
    own.insert(&camera("lobby")).await.unwrap();
    own.append(vec![event(EventKind::Appeared)]).await.unwrap();
    own.close().await;
    drop(own);
    let text = open(&server.settings("b"), &key()).await;
    assert!(text.contains("--data-dir"), "{text}");
    // A replica of another cluster is emptied.
    let elsewhere = super::ClusterSettings { name: "other".into(), ..server.settings("b") };
    let b = ClusterStore::open(&elsewhere, two.path(), &key(), Holds::Everything).await.unwrap();
    b.insert(&camera("lobby")).await.unwrap();
    assert!(b.replica().is_replica().await.unwrap());
    b.close().await;
    drop(b);
    let b = server.node("b", two.path()).await;
    assert_eq!(told(&b).await, told(&a).await);
    // Unknown faces and moves are not there.
    use crate::identity::{EmbeddingStore, UnknownStore};
    assert!(b.unknowns().await.unwrap().is_empty());
    assert!(b.new_groups(1).await.is_err());
    let model = "m".parse().unwrap();
    assert!(matches!(b.use_model(&model, &model).await, Err(GalleryError::Moving(_))));
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn large_pictures_come_back_whole() {
    let server = NatsServer::start();
    let dir = tempdir().unwrap();
    let a = server.node("a", dir.path()).await;
    take(&a).await;
    let picture: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let shown = NewEvent { image: Some(Bytes::from(picture.clone())), ..event(EventKind::Unknown) };
    a.append(vec![shown.clone()]).await.unwrap();
    assert_eq!(a.image(&shown.id).await.unwrap(), picture);
    a.close().await;
}
