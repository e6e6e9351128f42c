//! Nothing that shows a face or opens a camera lies on the disk in the clear.

use bytes::Bytes;

use super::{
    tests::{anna, camera, face, recognized},
    *,
};
use crate::{
    camera::CameraStore,
    event::{EventLog, NewEvent},
    face::Detection,
    frame::{BBox, Point},
    identity::{EmbeddingStore, FaceCrop, GalleryStore},
    ids::ModelId,
    secret::Secret,
};

/// Little-endian floats of an embedding or template.
const VALUES: [f32; 3] = [0.25, -1.5, 3.0];

fn crop() -> FaceCrop {
    let detection = Detection {
        bbox: BBox { x1: 1.0, y1: 2.0, x2: 3.0, y2: 4.0 },
        landmarks: [Point { x: 0.5, y: 0.5 }; 5],
        score: 0.9,
    };
    FaceCrop { jpeg: Bytes::from_static(b"pixels of an enrolled face"), detection }
}

fn traces_in(dir: &Path) -> Vec<String> {
    let traces: [(&str, Vec<u8>); 5] = [
        ("embedding", to_bytes(&VALUES)),
        ("template as text", b"0.25,-1.5,3".to_vec()),
        ("password", b"secret".to_vec()),
        ("crop", b"pixels of an enrolled face".to_vec()),
        ("picture", b"pixels with the name".to_vec()),
    ];
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        for (what, trace) in &traces {
            if bytes.windows(trace.len()).any(|w| w == &trace[..]) {
                found.push(format!("{what} in {}", path.display()));
            }
        }
    }
    found
}

fn shown() -> NewEvent {
    NewEvent { image: Some(Bytes::from_static(b"pixels with the name")), ..recognized(&anna()) }
}

#[tokio::test]
async fn pictures_embeddings_and_passwords_are_unreadable_without_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let storage = VaultSettings { key_file: elsewhere.path().join("key").display().to_string(), ..Default::default() };
    let made = VaultSettings::default();
    made.open(elsewhere.path(), true).unwrap();
    fs::rename(elsewhere.path().join("visage.key"), elsewhere.path().join("key")).unwrap();

    let store = SqliteStore::open(dir.path(), &storage).unwrap();
    let (anna, door) = (anna(), camera("door"));
    store.insert(&door).await.unwrap();
    store.insert_person(&anna).await.unwrap();
    let enrolled = face(&anna);
    store.insert_face(&enrolled, Some(&crop())).await.unwrap();
    store.insert_negative(&anna.id, &enrolled.embedding).await.unwrap();
    let written = store.append(vec![shown()]).await.unwrap();
    assert_eq!(traces_in(dir.path()), Vec::<String>::new());

    // Everything reads back.
    assert_eq!(CameraStore::list(&store).await.unwrap(), [door]);
    let kept = store.get(&written[0].body.id).await.unwrap();
    assert_eq!(kept.body.template.as_deref(), Some(&VALUES[..]));
    assert_eq!(&store.image(&kept.body.id).await.unwrap()[..], b"pixels with the name");
    assert_eq!(store.crop(&anna.id, &enrolled.id).await.unwrap(), Some(crop()));
    assert_eq!(store.faces(&anna.id).await.unwrap(), std::slice::from_ref(&enrolled));
    assert_eq!(store.negatives(&enrolled.embedding.model).await.unwrap().len(), 1);
    assert!(store.remove_negative(&anna.id, &enrolled.embedding).await.unwrap(), "it is found by what was sealed");
    store.close().await;
    drop(store);

    // Another key, or none.
    let other =
        VaultSettings { key: Secret::new("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="), ..Default::default() };
    let refused = SqliteStore::open(dir.path(), &other).err().unwrap();
    assert!(matches!(refused, StoreError::Key(_)), "{refused}");
    let missing = SqliteStore::open(dir.path(), &VaultSettings::default()).err().unwrap().to_string();
    assert!(missing.contains("visage.key") && missing.contains("put it back"), "{missing}");
    assert!(!dir.path().join("visage.key").exists(), "a new key would hide that the old one is gone");
    assert!(SqliteStore::open(dir.path(), &storage).is_ok());
}

#[tokio::test]
async fn what_an_older_version_left_in_the_clear_is_sealed() {
    let dir = tempfile::tempdir().unwrap();
    make_private_dir(dir.path()).unwrap();
    let (anna, door, picture) = (anna(), camera("door"), shown());
    let old = connect(&dir.path().join(DATABASE)).unwrap();
    let before = 5;
    schema::STEPS[..before].iter().for_each(|step| old.execute_batch(step).unwrap());
    old.pragma_update(None, "user_version", before as i64).unwrap();
    let json = |value: &dyn Fn() -> serde_json::Result<String>| value().unwrap();
    old.execute("INSERT INTO cameras VALUES ('door', 1, ?1)", [json(&|| serde_json::to_string(&door))]).unwrap();
    old.execute("INSERT INTO people VALUES (?1, 1, ?2)", [anna.id.as_str(), &json(&|| serde_json::to_string(&anna))])
        .unwrap();
    old.execute("INSERT INTO faces VALUES ('f1', ?1, 0.5, 'a.jpg', '2024-01-01T00:00:00Z')", [anna.id.as_str()])
        .unwrap();
    old.execute("INSERT INTO embeddings VALUES ('f1', 'm', 'euclidean', ?1)", [to_bytes(&VALUES)]).unwrap();
    let detection = json(&|| serde_json::to_string(&crop().detection));
    old.execute("INSERT INTO crops VALUES ('f1', ?1, ?2)", rusqlite::params![&crop().jpeg[..], detection]).unwrap();
    old.execute(
        "INSERT INTO events (id, created_us, camera, person, body) VALUES (?1, 1, 'door', ?2, ?3)",
        [picture.id.as_str(), anna.id.as_str(), &json(&|| serde_json::to_string(&picture))],
    )
    .unwrap();
    let shown = picture.image.clone().unwrap();
    old.execute("INSERT INTO pictures VALUES (?1, ?2)", rusqlite::params![picture.id.as_str(), &shown[..]]).unwrap();
    let receipt = r#"{"id":"r1","person":"long-gone","erased":"2024-01-01T00:00:00Z","faces_removed":0,"events_anonymised":0,"pictures_removed":0}"#;
    old.execute("INSERT INTO erasures VALUES ('r1', ?1)", [receipt]).unwrap();
    drop(old);
    assert_eq!(traces_in(dir.path()).len(), 5, "the test looks for what is there");

    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    fs::remove_file(dir.path().join(format!("visage.before-{}.db", schema::STEPS.len()))).unwrap();
    assert_eq!(traces_in(dir.path()), Vec::<String>::new());
    assert_eq!(CameraStore::list(&store).await.unwrap(), [door]);
    let kept = store.get(&picture.id).await.unwrap();
    assert_eq!(kept.body, NewEvent { image: None, ..picture });
    assert_eq!(store.image(&kept.body.id).await.unwrap(), shown);
    let model: ModelId = "m".parse().unwrap();
    let faces = store.all_faces(&model).await.unwrap();
    assert_eq!(&faces[0].embedding.values[..], &VALUES);
    assert_eq!(store.crop(&anna.id, &faces[0].id).await.unwrap(), Some(crop()));
    // The receipt of before is on the list now, and names nobody in the clear.
    let list = fs::read_to_string(dir.path().join("erasures.jsonl")).unwrap();
    assert!(list.contains("r1") && !list.contains("long-gone"), "{list}");
    store.close().await;
    drop(store);
    SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("erasures.jsonl")).unwrap(), list, "nothing is added twice");
}

#[tokio::test]
async fn an_erasure_that_a_crash_interrupted_or_an_old_copy_undid_is_carried_out_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let storage = VaultSettings::default();
    let store = SqliteStore::open(dir.path(), &storage).unwrap();
    let anna = anna();
    store.insert_person(&anna).await.unwrap();
    store.insert_face(&face(&anna), Some(&crop())).await.unwrap();
    let written = store.append(vec![shown()]).await.unwrap();
    store.close().await;
    drop(store);
    let before = fs::read(dir.path().join(DATABASE)).unwrap();

    // Killed between the list and the database.
    let ledger = Ledger::of(dir.path(), &Arc::new(storage.open(dir.path(), false).unwrap()));
    let erasure = ledger::Erasure { receipt: "r-1".into(), erased: crate::time::now(), person: anna.id.clone() };
    ledger.add(&[erasure]).unwrap();
    for again in [false, true] {
        if again {
            // Somebody puts the old database back by hand.
            fs::write(dir.path().join(DATABASE), &before).unwrap();
        }
        let store = SqliteStore::open(dir.path(), &storage).unwrap();
        assert!(store.person(&anna.id).await.is_err());
        let kept = store.get(&written[0].body.id).await.unwrap();
        assert!(kept.body.matched.unwrap().person.is_none() && !kept.has_image);
        store.close().await;
        drop(store);
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(9).any(|w| w == b"Annabella"), "her name is left in {}", path.display());
        }
    }
}

#[tokio::test]
async fn an_erasure_of_before_does_not_touch_who_has_the_id_now() {
    let dir = tempfile::tempdir().unwrap();
    let storage = VaultSettings::default();
    let store = SqliteStore::open(dir.path(), &storage).unwrap();
    let anna = anna();
    store.insert_person(&anna).await.unwrap();
    store.insert_face(&face(&anna), Some(&crop())).await.unwrap();
    let written = store.append(vec![shown()]).await.unwrap();
    store.close().await;
    drop(store);
    // Noted an hour ago, and then the disk was full; a second try went well, and the id was given again.
    let ledger = Ledger::of(dir.path(), &Arc::new(storage.open(dir.path(), false).unwrap()));
    let erased = anna.created.checked_sub(std::time::Duration::from_secs(3600)).unwrap();
    ledger.add(&[ledger::Erasure { receipt: "r-1".into(), erased, person: anna.id.clone() }]).unwrap();
    for _ in 0..2 {
        let store = SqliteStore::open(dir.path(), &storage).unwrap();
        assert_eq!(store.faces(&anna.id).await.unwrap().len(), 1);
        assert!(store.get(&written[0].body.id).await.unwrap().has_image);
        store.close().await;
    }
}
