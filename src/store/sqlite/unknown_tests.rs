use super::*;
use crate::{
    event::{EventKind, EventLog, NewEvent},
    face::{Distance, Embedding},
    identity::{UnknownChange, UnknownFace, UnknownStore, unknown::Placement},
    ids::{EventId, FaceId, TrackId, UnknownId},
    time::now,
};

fn left(unknown: UnknownChange) -> NewEvent {
    let camera = "door".parse().unwrap();
    let event = NewEvent::new(EventId::generate(), EventKind::Left, camera, Default::default(), now());
    NewEvent { unknown: Some(unknown), ..event }
}

fn face() -> UnknownFace {
    UnknownFace {
        id: FaceId::generate(),
        camera: "door".parse().unwrap(),
        track: TrackId::generate(),
        event: EventId::generate(),
        began: now(),
        ended: now(),
        template: Embedding {
            model: "m".parse().unwrap(),
            distance: Distance::Euclidean,
            values: vec![0.25, -1.5, 3.0].into(),
        },
        quality: 0.5,
        picture: bytes::Bytes::from_static(b"a picture of a stranger"),
    }
}

#[tokio::test]
async fn faces_come_and_go_with_events_and_group_numbers_are_never_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    let (a, b) = (face(), face());
    store.append([&a, &b].map(|f| left(UnknownChange::Keep(Box::new(f.clone())))).into()).await.unwrap();
    let bare = |f: &UnknownFace| UnknownFace { picture: Default::default(), ..f.clone() };
    assert_eq!(store.ungrouped(10).await.unwrap(), [bare(&a), bare(&b)]);
    // An event that can't be written takes its face with it.
    let mut twice = left(UnknownChange::Keep(Box::new(face())));
    twice.id = EventId::generate();
    let again = NewEvent { unknown: None, ..twice.clone() };
    assert!(store.append(vec![twice, again]).await.is_err());
    assert_eq!(store.unknowns().await.unwrap().len(), 2);

    let groups = store.new_groups(2).await.unwrap();
    assert_eq!(groups, [UnknownId::new(1), UnknownId::new(2)]);
    let placement = |f: &UnknownFace, group, bound| Placement { face: f.id.clone(), group, bound };
    store.place(vec![placement(&a, groups[0], true), placement(&b, groups[1], false)]).await.unwrap();
    store.set_dismissed(groups[1], true).await.unwrap();
    let kept = store.unknowns().await.unwrap();
    assert_eq!(
        kept.iter().map(|k| (k.group, k.bound)).collect::<Vec<_>>(),
        [(Some(groups[0]), true), (Some(groups[1]), false)]
    );
    assert_eq!(store.dismissed().await.unwrap(), [groups[1]].into());
    let pictures = store.unknown_pictures(vec![b.id.clone(), FaceId::generate()]).await.unwrap();
    assert_eq!(pictures, [b.picture.clone(), Default::default()]);

    store.append(vec![left(UnknownChange::Moved(b.id.clone()))]).await.unwrap();
    assert!(store.dismissed().await.unwrap().is_empty(), "an empty group is left");
    assert_eq!(store.remove_unknowns(vec![a.id.clone(), b.id.clone()]).await.unwrap(), 1);
    assert!(store.unknowns().await.unwrap().is_empty());
    assert_eq!(store.new_groups(1).await.unwrap(), [UnknownId::new(3)]);
    store.close().await;
    drop(store);
    let bytes = fs::read(dir.path().join(DATABASE)).unwrap();
    for trace in [&b"a picture of a stranger"[..], &to_bytes(&[0.25, -1.5, 3.0])] {
        assert!(!bytes.windows(trace.len()).any(|w| w == trace), "a trace of a removed face is left");
    }
}

#[tokio::test]
async fn data_of_the_first_step_are_copied_and_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DATABASE);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(schema::STEPS[0]).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    connection.execute("INSERT INTO people VALUES ('anna', 1, '{}')", []).unwrap();
    connection.execute("INSERT INTO meta VALUES ('log_id', 'the-old-log')", []).unwrap();
    drop(connection);

    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    assert_eq!(store.log_id(), "the-old-log");
    assert!(store.unknowns().await.unwrap().is_empty());
    store.append(vec![left(UnknownChange::Keep(Box::new(face())))]).await.unwrap();
    assert_eq!(store.ungrouped(5).await.unwrap().len(), 1);

    let version = |c: &Connection| c.pragma_query_value(None, "user_version", |r| r.get::<_, i64>(0)).unwrap();
    let known = schema::STEPS.len() as i64;
    let copy = Connection::open(dir.path().join(format!("visage.before-{known}.db"))).unwrap();
    let people: i64 = copy.query_row("SELECT count(*) FROM people", [], |r| r.get(0)).unwrap();
    assert_eq!((version(&copy), people), (1, 1), "the copy is what was there before");
    assert!(copy.prepare("SELECT 1 FROM unknown_faces").is_err());
    store.close().await;
    assert_eq!(version(&Connection::open(&path).unwrap()), known);
}
