use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{
    camera::{CameraSpec, CameraStore, CameraStoreError, spec},
    event::{
        EventFilter, EventKind, EventLog, EventMatch, NamedPerson, NewEvent,
        log::EventQuery,
        subscription::{Item, Start, Subscription},
    },
    face::{Distance, Embedding},
    identity::{EnrolledFace, GalleryError, GalleryStore, NearFace, Person, WhyCode},
    ids::{EventId, FaceId, ModelId},
    time::now,
};

pub(in crate::store) fn camera(id: &str) -> CameraSpec {
    let (url, credentials) = spec::parse_url("rtsp://joe:secret@10.0.0.1/live").unwrap();
    CameraSpec {
        id: id.parse().unwrap(),
        display_name: "Door".into(),
        url,
        substream: None,
        credentials,
        transport: Default::default(),
        tls: Default::default(),
        labels: BTreeMap::new(),
        enabled: true,
        sampling: Default::default(),
        min_face_px: 0,
        regions: Vec::new(),
        watchlists: Vec::new(),
        threshold_override: None,
        revision: 1,
        created: now(),
    }
}

pub(in crate::store) fn anna() -> Person {
    Person {
        id: "anna".parse().unwrap(),
        display_name: "Annabella Quux".into(),
        external_id: String::new(),
        labels: BTreeMap::new(),
        watchlists: vec!["staff".into()],
        threshold_offset: 0.05,
        terms: Default::default(),
        created: now(),
        revision: 1,
    }
}

pub(in crate::store) fn face(person: &Person) -> EnrolledFace {
    let model = "m".parse().unwrap();
    EnrolledFace {
        id: FaceId::generate(),
        person: person.id.clone(),
        embedding: Embedding { model, distance: Distance::Euclidean, values: vec![0.25, -1.5, 3.0].into() },
        quality: 0.5,
        source: "a.jpg".into(),
        created: now(),
    }
}

pub(in crate::store) fn event(kind: EventKind) -> NewEvent {
    NewEvent::new(EventId::generate(), kind, "door".parse().unwrap(), BTreeMap::new(), now())
}

pub(in crate::store) fn recognized(person: &Person) -> NewEvent {
    let mut event = event(EventKind::Recognized);
    event.matched = Some(EventMatch {
        person: Some(NamedPerson {
            id: person.id.clone(),
            display_name: person.display_name.clone(),
            watchlists: person.watchlists.clone(),
        }),
        similarity: 0.5,
        margin: 0.1,
        threshold: 0.4,
        confidence: 0.9,
        ..EventMatch::default()
    });
    if let Some(matched) = &mut event.matched {
        matched.basis.faces = vec![NearFace { face: "nearface-4711".parse().unwrap(), similarity: 0.5 }];
    }
    event.template = Some(vec![0.25, -1.5, 3.0]);
    event.image = Some(bytes::Bytes::from_static(b"picture of Annabella Quux"));
    event
}

#[tokio::test]
async fn cameras_survive_a_reopening_and_revisions_guard_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    let door = camera("door");
    store.insert(&door).await.unwrap();
    assert!(matches!(store.insert(&door).await, Err(CameraStoreError::AlreadyExists(_))));
    let changed = CameraSpec { display_name: "Gate".into(), revision: 2, ..door.clone() };
    store.update(&changed).await.unwrap();
    assert!(matches!(store.update(&changed).await, Err(CameraStoreError::Conflict(_))));
    assert!(matches!(store.update(&camera("lobby")).await, Err(CameraStoreError::NotFound(_))));
    store.close().await;
    drop(store);
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    assert_eq!(CameraStore::list(&store).await.unwrap(), [changed]);
    store.remove(&door.id).await.unwrap();
    assert!(matches!(store.remove(&door.id).await, Err(CameraStoreError::NotFound(_))));
}

#[tokio::test]
async fn people_and_faces_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    let (anna, other) = (anna(), Person { id: "zoe".parse().unwrap(), ..anna() });
    assert!(matches!(store.insert_face(&face(&anna), None).await, Err(GalleryError::PersonNotFound(_))));
    store.insert_person(&anna).await.unwrap();
    store.insert_person(&other).await.unwrap();
    let f = face(&anna);
    store.insert_face(&f, None).await.unwrap();
    assert_eq!(store.faces(&anna.id).await.unwrap(), std::slice::from_ref(&f));
    assert_eq!(store.all_faces(&f.embedding.model).await.unwrap(), std::slice::from_ref(&f));
    assert_eq!(store.people(None, 10).await.unwrap(), [(anna.clone(), 1), (other.clone(), 0)]);
    assert_eq!(store.people(Some(&anna.id), 10).await.unwrap(), [(other.clone(), 0)]);
    assert_eq!(store.counts().await.unwrap(), (2, 1));
    store.insert_negative(&anna.id, &f.embedding).await.unwrap();
    assert_eq!(store.negatives(&f.embedding.model).await.unwrap(), [(anna.id.clone(), f.embedding.clone())]);
    store.insert_negative(&anna.id, &f.embedding).await.unwrap();
    assert!(store.remove_negative(&anna.id, &f.embedding).await.unwrap());
    assert_eq!(store.negatives(&f.embedding.model).await.unwrap().len(), 1, "one of two is taken back");
    assert!(store.remove_negative(&anna.id, &f.embedding).await.unwrap());
    assert!(!store.remove_negative(&anna.id, &f.embedding).await.unwrap());
    assert!(store.remove_face(&other.id, &f.id).await.is_err());
    store.remove_face(&anna.id, &f.id).await.unwrap();
    assert!(store.faces(&anna.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn erasure_leaves_no_trace_in_any_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    let anna = anna();
    store.insert_person(&anna).await.unwrap();
    store.insert_face(&face(&anna), None).await.unwrap();
    // An appearance that was unknown until she was enrolled.
    let mut stranger = recognized(&anna);
    (stranger.kind, stranger.matched) = (EventKind::Unknown, None);
    let corrected = NewEvent { kind: EventKind::Corrected, corrects: Some(stranger.id.clone()), ..recognized(&anna) };
    let earlier = stranger.id.clone();
    let written = store.append(vec![recognized(&anna), event(EventKind::Left), stranger, corrected]).await.unwrap();
    let models: [ModelId; 2] = ["m", "n"].map(|m| m.parse().unwrap());
    for model in &models {
        store.set_classifier(model, Some(b"weights of Annabella")).await.unwrap();
        assert!(store.classifier(model).await.unwrap().is_some());
    }
    let receipt = store.erase_person(&anna.id, now()).await.unwrap();
    assert_eq!((receipt.faces_removed, receipt.events_anonymised, receipt.pictures_removed), (1, 2, 3));
    for model in &models {
        assert_eq!(store.classifier(model).await.unwrap(), None, "it was shaped by her faces");
    }
    let was_unknown = store.get(&earlier).await.unwrap();
    assert!(was_unknown.body.template.is_none() && !was_unknown.has_image, "her face is left in a corrected event");
    let kept = store.get(&written[0].body.id).await.unwrap();
    assert!(kept.body.template.is_none() && !kept.has_image);
    let matched = kept.body.matched.unwrap();
    assert!(matched.person.is_none() && matched.basis.faces.is_empty());
    assert_eq!((matched.code, matched.similarity), (Some(WhyCode::Erased), 0.5), "figures stay");
    assert!(store.erase_person(&anna.id, now()).await.is_err());
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        for trace in [&b"Annabella"[..], b"nearface-4711", &to_bytes(&[0.25, -1.5, 3.0])] {
            assert!(!bytes.windows(trace.len()).any(|w| w == trace), "a trace is left in {}", path.display());
        }
    }
}

#[tokio::test]
async fn positions_have_no_holes_under_concurrent_appends_and_subscribers_miss_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap());
    let log: Arc<dyn EventLog> = store.clone();
    let mut subscriber = Subscription::new(log.clone(), EventFilter::default(), Start::Now).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let log = log.clone();
        writers.spawn(async move {
            for _ in 0..10 {
                log.append(vec![event(EventKind::Appeared), event(EventKind::Left)]).await.unwrap();
            }
        });
    }
    for expected in 1..=160u64 {
        let Item::Event(event) = subscriber.next().await.unwrap() else { panic!("a gap") };
        assert_eq!(event.position, expected);
    }
    while writers.join_next().await.is_some() {}
    // A failed append (an id twice) leaves no hole.
    let twice = event(EventKind::Left);
    assert!(store.append(vec![twice.clone(), twice]).await.is_err());
    let next = store.append(vec![event(EventKind::Left)]).await.unwrap();
    assert_eq!(next[0].position, 161);
    let left = EventFilter { kinds: vec![EventKind::Left], ..Default::default() };
    let page = EventLog::list(&*store, &EventQuery { filter: left, limit: 5, ..Default::default() }).await.unwrap();
    assert_eq!(page.iter().map(|e| e.position).collect::<Vec<_>>(), [161, 160, 158, 156, 154]);
}

#[tokio::test]
async fn retention_is_told_as_a_gap_and_positions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap());
    store.append(vec![event(EventKind::Appeared), event(EventKind::Left)]).await.unwrap();
    let middle = now();
    store.append(vec![event(EventKind::Appeared)]).await.unwrap();
    assert_eq!(store.position_before(middle).await.unwrap(), 2);
    assert_eq!(store.remove_before(middle).await.unwrap(), 2);
    let log: Arc<dyn EventLog> = store.clone();
    let mut late = Subscription::new(log.clone(), EventFilter::default(), Start::After(0)).await.unwrap();
    assert_eq!(late.next().await.unwrap(), Item::Gap { first: 1, last: 2 });
    assert!(matches!(late.next().await.unwrap(), Item::Event(e) if e.position == 3));
    assert_eq!(store.remove_before(now()).await.unwrap(), 1);
    let mut later = Subscription::new(log, EventFilter::default(), Start::After(0)).await.unwrap();
    assert_eq!(later.next().await.unwrap(), Item::Gap { first: 1, last: 3 });
    assert_eq!(store.append(vec![event(EventKind::Left)]).await.unwrap()[0].position, 4);
    assert!(matches!(later.next().await.unwrap(), Item::Event(e) if e.position == 4));
}

#[tokio::test]
async fn a_second_server_newer_data_and_rubbish_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    assert!(matches!(SqliteStore::open(dir.path(), &VaultSettings::default()), Err(StoreError::InUse(_))));
    store.close().await;
    drop(store);
    let connection = Connection::open(dir.path().join(DATABASE)).unwrap();
    connection.pragma_update(None, "user_version", 999).unwrap();
    drop(connection);
    assert!(matches!(
        SqliteStore::open(dir.path(), &VaultSettings::default()),
        Err(StoreError::Newer { found: 999, .. })
    ));
    let rubbish = tempfile::tempdir().unwrap();
    fs::write(rubbish.path().join(DATABASE), vec![7u8; 8192]).unwrap();
    assert!(matches!(SqliteStore::open(rubbish.path(), &VaultSettings::default()), Err(StoreError::Database { .. })));
    fs::write(rubbish.path().join("file"), "x").unwrap();
    assert!(matches!(
        SqliteStore::open(&rubbish.path().join("file"), &VaultSettings::default()),
        Err(StoreError::Folder { .. })
    ));
}

#[tokio::test]
async fn what_was_changed_after_it_was_written_is_read_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    let anna = anna();
    store.insert_person(&anna).await.unwrap();
    let first = store.append(vec![recognized(&anna)]).await.unwrap().remove(0);
    let read = async || store.read_after(0, 9).await.unwrap();
    let named = |events: &[crate::event::Event]| {
        events.iter().filter(|e| e.body.matched.as_ref().is_some_and(|m| m.person.is_some())).count()
    };
    let events = read().await;
    assert_eq!((named(&events), events[0].has_image, events[0].body.template.is_none()), (1, true, true));
    store.set_feedback(&first.body.id, crate::event::Feedback::Right).await.unwrap();
    assert!(read().await[0].feedback.is_some());
    store.append(vec![recognized(&anna)]).await.unwrap();
    let events = read().await;
    assert_eq!((named(&events), events[0].feedback.is_some()), (2, true));
    store.remove_pictures_before(now()).await.unwrap();
    assert!(read().await.iter().all(|e| !e.has_image));
    store.append(vec![recognized(&anna)]).await.unwrap();
    assert_eq!(named(&store.read_after(2, 9).await.unwrap()), 1, "the newest alone");
    store.erase_person(&anna.id, now()).await.unwrap();
    assert_eq!((read().await.len(), named(&read().await), named(&store.read_after(2, 9).await.unwrap())), (3, 0, 0));
}
