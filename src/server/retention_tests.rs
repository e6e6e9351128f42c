//! The clock is moved: what is past its time goes, and nothing else.

use bytes::Bytes;

use super::*;
use crate::{
    event::{EventKind, NewEvent},
    face::Distance,
    identity::{GallerySettings, GalleryStore, Person, person::Terms},
    ids::{EventId, ModelId, PersonId},
    store::{exact::ExactIndex, sqlite::SqliteStore},
    vault::VaultSettings,
};

const DAY: Duration = Duration::from_secs(86_400);

fn after(days: u32) -> Timestamp {
    time::now().checked_add(DAY * days + Duration::from_secs(60)).unwrap()
}

#[tokio::test]
async fn pictures_go_before_their_events_and_both_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    let camera = "door".parse().unwrap();
    let bare = NewEvent::new(EventId::generate(), EventKind::Appeared, camera, Default::default(), time::now());
    let id = bare.id.clone();
    log.append(vec![NewEvent { image: Some(Bytes::from_static(b"jpeg")), ..bare }]).await.unwrap();
    let kept = KeptFor { events: 30, pictures: 7 };
    let state = async || match log.get(&id).await {
        Ok(event) => (true, event.has_image),
        Err(_) => (false, false),
    };
    for (day, expected) in [(6, (true, true)), (7, (true, false)), (29, (true, false)), (30, (false, false))] {
        remove_events(&log, kept, after(day)).await;
        assert_eq!(state().await, expected, "on day {day}");
    }
    let latest = log.bounds().await.unwrap();
    assert_eq!((latest.oldest, latest.latest), (2, 1), "positions are never given again");
}

#[tokio::test]
async fn without_limits_nothing_goes() {
    let dir = tempfile::tempdir().unwrap();
    let log = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    let camera = "door".parse().unwrap();
    let event = NewEvent::new(EventId::generate(), EventKind::Appeared, camera, Default::default(), time::now());
    log.append(vec![event]).await.unwrap();
    remove_events(&log, KeptFor::default(), after(36_500)).await;
    assert_eq!(log.bounds().await.unwrap().oldest, 1);
}

#[tokio::test]
async fn people_are_erased_when_their_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap());
    let model: ModelId = "m".parse().unwrap();
    let gallery = Gallery::open(
        store.clone(),
        Arc::new(ExactIndex::new(model.clone(), 3, Distance::Cosine)),
        model,
        GallerySettings::default(),
    );
    let gallery = gallery.await.unwrap();
    let person = |id: &str, days: Option<u32>| Person {
        id: id.parse().unwrap(),
        display_name: id.into(),
        external_id: String::new(),
        labels: Default::default(),
        watchlists: Vec::new(),
        threshold_offset: 0.0,
        terms: Terms { expires: days.map(|d| time::now().checked_add(DAY * d).unwrap()), ..Terms::default() },
        created: time::now(),
        revision: 1,
    };
    for (id, days) in [("visitor", Some(1)), ("contractor", Some(90)), ("staff", None)] {
        gallery.create_person(person(id, days)).await.unwrap();
    }
    let left = async || {
        let people = store.people(None, 10).await.unwrap();
        people.into_iter().map(|(p, _)| p.id).collect::<Vec<PersonId>>()
    };
    erase_expired(&gallery, time::now()).await;
    assert_eq!(left().await.len(), 3);
    erase_expired(&gallery, after(1)).await;
    assert_eq!(left().await, ["contractor", "staff"].map(|id| id.parse().unwrap()));
    erase_expired(&gallery, after(90)).await;
    assert_eq!(left().await, ["staff".parse().unwrap()]);
    let list = std::fs::read_to_string(dir.path().join("erasures.jsonl")).unwrap();
    assert_eq!(list.lines().count(), 2, "each leaves a receipt");
}
