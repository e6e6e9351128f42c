use super::{
    replica::{Applied, Change, Erased, Incoming, Source},
    tests::{anna, camera, event, face, recognized},
    *,
};
use crate::{
    camera::CameraStore,
    event::{EventKind, EventLog, Feedback, NewEvent},
    identity::{GalleryChange, GalleryStore, Person},
    time::now,
};

fn opened(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, &VaultSettings::default()).unwrap()
}

fn told(source: Source, revision: u64, key: &str, change: Change) -> Incoming {
    Incoming { source, key: key.into(), revision, in_turn: true, change }
}

fn said(position: u64, body: &NewEvent) -> Incoming {
    told(Source::Events, position, body.id.as_str(), Change::Event(Box::new(body.clone()), body.image.is_some()))
}

#[tokio::test]
async fn a_replica_knows_how_far_it_is_and_is_emptied_for_another_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path());
    assert!(!store.is_replica().await.unwrap());
    let (applied, erased) = store.replica_of("log-1").await.unwrap();
    assert_eq!((applied, *store.latest().borrow()), (Applied::default(), 0));
    assert!(store.is_replica().await.unwrap());
    let anna = anna();
    let changes = vec![
        told(Source::Cameras, 7, "door", Change::Camera(Box::new(camera("door")))),
        told(Source::People, 3, "hash", Change::Person(Box::new(anna.clone()))),
        told(Source::Faces, 4, "hash.f", Change::Face(Box::new(face(&anna)), None)),
        said(5, &event(EventKind::Appeared)),
        said(6, &event(EventKind::Left)),
    ];
    let outcome = store.apply(changes, &erased).await.unwrap();
    assert!(outcome.cameras && !outcome.rewrites);
    assert!(matches!(&outcome.gallery[..], [GalleryChange::Person(_), GalleryChange::FaceAdded { .. }]));
    assert_eq!(*store.latest().borrow(), 6);
    store.close().await;
    drop(store);

    let store = opened(dir.path());
    let (applied, erased) = store.replica_of("log-1").await.unwrap();
    let of = |source: Source| applied[source as usize];
    assert_eq!([of(Source::Cameras), of(Source::People), of(Source::Faces), of(Source::Events)], [7, 3, 4, 6]);
    assert_eq!(store.revision_of(Source::People, "hash").await.unwrap(), Some(3));
    let read = store.read_after(0, 9).await.unwrap();
    assert_eq!(read.iter().map(|e| e.position).collect::<Vec<_>>(), [5, 6]);
    // A mark names a hash: the replica knows who it was, and what went with them.
    let outcome = store.apply(vec![told(Source::People, 9, "hash", Change::Gone)], &erased).await.unwrap();
    assert_eq!(outcome.gallery, [GalleryChange::Person(anna.id)]);
    assert_eq!(store.counts().await.unwrap(), (0, 0));
    assert_eq!(store.revision_of(Source::Faces, "hash.f").await.unwrap(), None);
    let (applied, _) = store.replica_of("log-2").await.unwrap();
    assert_eq!((applied, *store.latest().borrow()), (Applied::default(), 0), "what was here is gone");
    assert!(CameraStore::list(&store).await.unwrap().is_empty());
    store.close().await;
    // What is no replica is not made one.
    let dir = tempfile::tempdir().unwrap();
    let own = opened(dir.path());
    own.append(vec![event(EventKind::Appeared)]).await.unwrap();
    assert!(own.replica_of("log-1").await.unwrap_err().to_string().contains("--data-dir"));
    assert_eq!(own.read_after(0, 9).await.unwrap().len(), 1);
    own.close().await;
}

#[tokio::test]
async fn events_keep_their_positions_whatever_order_words_about_them_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path());
    let (_, erased) = store.replica_of("log").await.unwrap();
    let (one, two) = (event(EventKind::Appeared), event(EventKind::Unknown));
    let judged = |position: u64, body: &NewEvent| {
        let body = Box::new(body.clone());
        let change = Change::Amended { position, body, has_image: false, feedback: Some(Feedback::Wrong) };
        told(Source::Amended, position, &position.to_string(), change)
    };
    // The judgement first, as a new replica reads it, then the event as it was.
    store.apply(vec![judged(2, &two), said(1, &one), said(2, &two)], &erased).await.unwrap();
    let read = store.read_after(0, 9).await.unwrap();
    assert_eq!(
        read.iter().map(|e| (e.position, e.feedback)).collect::<Vec<_>>(),
        [(1, None), (2, Some(Feedback::Wrong))]
    );
    // One event stored twice is one event; what follows is read from memory and from the database alike.
    store.apply(vec![said(3, &two), said(4, &event(EventKind::Left))], &erased).await.unwrap();
    store.apply(vec![said(9, &event(EventKind::Left))], &erased).await.unwrap();
    store.apply(vec![said(10, &event(EventKind::Left))], &erased).await.unwrap();
    for after in [0, 3, 4, 8] {
        let read = store.read_after(after, 9).await.unwrap();
        let expected: Vec<u64> = [1, 2, 4, 9, 10].into_iter().filter(|p| *p > after).collect();
        assert_eq!(read.iter().map(|e| e.position).collect::<Vec<_>>(), expected, "after {after}");
    }
    assert_eq!(store.remove_up_to(4).await.unwrap(), 3);
    store.close().await;
}

#[tokio::test]
async fn whoever_was_erased_does_not_come_back_by_what_comes_late() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path());
    let (_, erased) = store.replica_of("log").await.unwrap();
    let anna = Person { created: now(), ..anna() };
    let named = recognized(&anna);
    let unknown = event(EventKind::Unknown);
    let corrected = NewEvent { corrects: Some(unknown.id.clone()), ..recognized(&anna) };
    let person = |revision| told(Source::People, revision, "hash", Change::Person(Box::new(anna.clone())));
    store.apply(vec![person(1), said(1, &unknown), said(2, &named), said(3, &corrected)], &erased).await.unwrap();
    let change = Change::Erasure { person: anna.id.clone(), erased: now(), done: false };
    let outcome = store.apply(vec![told(Source::Erasures, 1, "r1", change.clone())], &erased).await.unwrap();
    assert!(outcome.rewrites);
    let rewrites: Vec<u64> = store.rewrites(9).await.unwrap().iter().map(|r| r.position).collect();
    assert_eq!(rewrites, [1, 2, 3], "those that name her, and the one that showed her");
    assert_eq!(store.open_erasures().await.unwrap(), ["r1"]);
    let receipt = store.receipt("r1", &anna.id).await.unwrap().unwrap();
    assert_eq!((receipt.events_anonymised, receipt.pictures_removed, receipt.person), (2, 2, anna.id.clone()));
    // Told again, nothing happens; the person as she was, a face and an event are not taken in.
    let late = recognized(&anna);
    let late = NewEvent { created: named.created, ..late };
    let outcome = store
        .apply(
            vec![
                told(Source::Erasures, 2, "r1", change),
                person(2),
                told(Source::Faces, 3, "hash.f", Change::Face(Box::new(face(&anna)), None)),
                said(4, &late),
            ],
            &erased,
        )
        .await
        .unwrap();
    assert!(outcome.rewrites);
    assert_eq!(store.counts().await.unwrap(), (0, 0));
    let kept = EventLog::get(&store, &late.id).await.unwrap();
    assert!(kept.body.matched.unwrap().person.is_none() && !kept.has_image);
    store.rewritten(2).await.unwrap();
    assert_eq!(store.rewrites(9).await.unwrap().len(), 3);
    store.close().await;
    drop(store);
    // The next run knows it, too.
    let store = opened(dir.path());
    let (_, erased): (_, Erased) = store.replica_of("log").await.unwrap();
    store.apply(vec![person(5)], &erased).await.unwrap();
    assert_eq!(store.counts().await.unwrap(), (0, 0));
    let newer = Person { created: now(), ..anna };
    store.apply(vec![told(Source::People, 6, "hash", Change::Person(Box::new(newer)))], &erased).await.unwrap();
    assert_eq!(store.counts().await.unwrap(), (1, 0), "somebody new may have the id");
    store.close().await;
}

#[test]
fn a_database_of_before_gets_the_table_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path());
    drop(store);
    let path = dir.path().join(DATABASE);
    let before = schema::STEPS.len() as i64 - 1;
    {
        let c = Connection::open(&path).unwrap();
        let sql = "DROP TABLE replica; INSERT INTO meta VALUES ('kept', 'yes')";
        c.execute_batch(sql).unwrap();
        c.pragma_update(None, "user_version", before).unwrap();
    }
    drop(opened(dir.path()));
    let c = Connection::open(&path).unwrap();
    assert_eq!(c.query_row("SELECT count(*) FROM replica", [], |r| r.get::<_, i64>(0)).unwrap(), 0);
    let kept: String = c.query_row("SELECT value FROM meta WHERE key = 'kept'", [], |r| r.get(0)).unwrap();
    assert_eq!(kept, "yes");
    assert!(path.with_extension(format!("before-{}.db", before + 1)).is_file(), "a copy was made");
}
