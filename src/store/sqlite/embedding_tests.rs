use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::{
    face::{Detection, Distance, Embedding},
    frame::{BBox, Point},
    identity::{EmbeddingStore, EnrolledFace, FaceCrop, GalleryError, GalleryStore, Person},
    ids::{FaceId, ModelId},
    time::now,
};

fn model(id: &str) -> ModelId {
    id.parse().unwrap()
}

fn person(id: &str) -> Person {
    Person {
        id: id.parse().unwrap(),
        display_name: id.to_uppercase(),
        external_id: String::new(),
        labels: BTreeMap::new(),
        watchlists: Vec::new(),
        created: now(),
        revision: 1,
        threshold_offset: 0.0,
        terms: Default::default(),
    }
}

fn embedding(of: &str, values: &[f32]) -> Embedding {
    Embedding { model: model(of), distance: Distance::Cosine, values: values.into() }
}

fn face(person: &str, of: &str, values: &[f32]) -> EnrolledFace {
    EnrolledFace {
        id: FaceId::generate(),
        person: person.parse().unwrap(),
        embedding: embedding(of, values),
        quality: 0.5,
        source: format!("{person}.jpg"),
        created: now(),
    }
}

fn crop() -> FaceCrop {
    let detection = Detection { bbox: BBox::new(1.0, 2.0, 3.0, 4.0), score: 0.9, landmarks: [Point::new(1.5, 2.5); 5] };
    FaceCrop { jpeg: Bytes::from_static(b"the picture of a face that is kept"), detection }
}

#[tokio::test]
async fn a_folder_of_an_older_version_opens_and_its_faces_have_no_picture() {
    let dir = tempfile::tempdir().unwrap();
    make_private_dir(dir.path()).unwrap();
    let values: [f32; 3] = [0.25, -1.5, 3.0];
    {
        let c = Connection::open(dir.path().join(DATABASE)).unwrap();
        // Two steps: what was there before a face could have several embeddings.
        schema::STEPS[..2].iter().for_each(|step| c.execute_batch(step).unwrap());
        c.pragma_update(None, "user_version", 2).unwrap();
        let body = serde_json::to_string(&person("anna")).unwrap();
        c.execute("INSERT INTO people VALUES ('anna', 1, ?1)", [body]).unwrap();
        let sql = "INSERT INTO faces VALUES ('f1', 'anna', 'm', 'euclidean', ?1, 0.5, 'a.jpg', '2024-01-01T00:00:00Z')";
        c.execute(sql, [to_bytes(&values)]).unwrap();
    }
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    assert!(dir.path().join(format!("visage.before-{}.db", schema::STEPS.len())).is_file(), "no copy was made");
    let faces = store.all_faces(&model("m")).await.unwrap();
    assert_eq!((faces.len(), &faces[0].embedding.values[..]), (1, &values[..]));
    assert_eq!(faces[0].embedding.distance, Distance::Euclidean);
    let (person, id) = (faces[0].person.clone(), faces[0].id.clone());
    assert_eq!(store.faces(&person).await.unwrap(), faces);
    assert_eq!(store.crop(&person, &id).await.unwrap(), None);
    assert_eq!((store.crops().await.unwrap(), store.model_in_use().await.unwrap()), (0, None));
    let missing = store.without_picture(&model("n")).await.unwrap();
    assert_eq!((missing.len(), &missing[0].face, missing[0].source.as_str()), (1, &id, "a.jpg"));
    assert!(store.without_picture(&model("m")).await.unwrap().is_empty());
    let receipt = store.erase_person(&person, now()).await.unwrap();
    assert_eq!((receipt.faces_removed, receipt.crops_removed), (1, 0));
    let left = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.contains(".before-")), "the copy holds the erased person");
}

#[tokio::test]
async fn an_upgrade_that_a_crash_ended_or_that_was_taken_back_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    make_private_dir(dir.path()).unwrap();
    {
        let c = Connection::open(dir.path().join(DATABASE)).unwrap();
        schema::STEPS[..2].iter().for_each(|step| c.execute_batch(step).unwrap());
        c.pragma_update(None, "user_version", 2).unwrap();
    }
    // A copy of an earlier try, and one that was being made.
    let copy = dir.path().join(format!("visage.before-{}.db", schema::STEPS.len()));
    fs::write(&copy, "left by an earlier try").unwrap();
    fs::write(copy.with_extension("db.partial"), "half").unwrap();
    SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap().close().await;
    let old = Connection::open(&copy).unwrap();
    let version: i64 = old.pragma_query_value(None, "user_version", |r| r.get(0)).unwrap();
    assert_eq!(version, 2, "the copy is what was there before");
    assert!(!copy.with_extension("db.partial").exists());
}

#[tokio::test]
async fn while_a_gallery_moves_its_faces_are_those_of_the_model_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    store.insert_person(&person("anna")).await.unwrap();
    // The new model comes first in the alphabet.
    let own = face("anna", "z", &[1.0, 0.0]);
    store.insert_face(&own, None).await.unwrap();
    store.settle_model(&model("z")).await.unwrap();
    store.insert_embedding(&own.id, &embedding("a", &[0.5, 0.5, 0.5])).await.unwrap();
    assert_eq!(store.faces(&own.person).await.unwrap()[0].embedding, own.embedding);
    store.settle_model(&model("a")).await.unwrap();
    assert_eq!(store.model_in_use().await.unwrap(), Some(model("z")), "what is settled stays until a move");
}

#[tokio::test]
async fn a_face_has_an_embedding_a_model_and_the_one_in_use_is_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    for id in ["anna", "berta"] {
        store.insert_person(&person(id)).await.unwrap();
    }
    let (a, b) = (face("anna", "m", &[1.0, 0.0]), face("berta", "m", &[0.0, 1.0]));
    store.insert_face(&a, Some(&crop())).await.unwrap();
    store.insert_face(&b, None).await.unwrap();
    assert_eq!(store.crop(&a.person, &a.id).await.unwrap(), Some(crop()));
    assert_eq!(store.crop(&b.person, &b.id).await.unwrap(), None);
    assert!(matches!(store.crop(&b.person, &a.id).await, Err(GalleryError::FaceNotFound(_))));
    let todo = store.unembedded(&model("n"), None, 10).await.unwrap();
    assert_eq!(todo, [(a.id.clone(), crop())]);
    assert!(store.unembedded(&model("n"), Some(&a.id), 10).await.unwrap().is_empty());
    assert_eq!(store.unembedded_count(&model("n")).await.unwrap(), 1);

    let other = embedding("n", &[0.5, 0.5, 0.5]);
    assert!(store.insert_embedding(&a.id, &other).await.unwrap());
    assert!(!store.insert_embedding(&FaceId::generate(), &other).await.unwrap(), "there is no such face");
    let covers: Vec<_> = store.coverage().await.unwrap().into_iter().map(|c| (c.model, c.people, c.faces)).collect();
    assert_eq!(covers, [(model("m"), 2, 2), (model("n"), 1, 1)]);
    assert_eq!(store.embedded(&model("n"), None, 10).await.unwrap()[0].embedding, other);
    assert_eq!(store.counts().await.unwrap(), (2, 2), "a face counts once");
    assert_eq!(store.people(None, 10).await.unwrap()[0].1, 1);

    store.use_model(&model("n"), &model("m")).await.unwrap();
    assert_eq!(store.index_in_work().await.unwrap(), Some(model("m")));
    store.set_index_in_work(None).await.unwrap();
    assert_eq!(store.index_in_work().await.unwrap(), None);
    assert_eq!(store.faces(&a.person).await.unwrap()[0].embedding, other, "not that of the model in use");
    assert_eq!(store.faces(&b.person).await.unwrap(), std::slice::from_ref(&b), "it has only that of the other model");
    let missing = store.missing(&model("n")).await.unwrap();
    assert_eq!(missing.iter().map(|m| &m.face).collect::<Vec<_>>(), [&b.id]);

    assert_eq!(store.drop_embeddings(&model("m"), &model("n")).await.unwrap(), 1, "what only one model knows stays");
    assert_eq!(store.all_faces(&model("m")).await.unwrap(), [b]);
    assert_eq!(store.drop_embeddings(&model("n"), &model("n")).await.unwrap(), 0);
    store.close().await;
    drop(store);
    let (moved, coverage) = SqliteStore::embedders(dir.path()).unwrap();
    assert_eq!((moved, coverage.len()), (Some(model("n")), 2));
}

#[tokio::test]
async fn erasure_and_removal_leave_neither_picture_nor_any_embedding() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
    let anna = person("anna");
    store.insert_person(&anna).await.unwrap();
    // What lies on the disk, as it is sealed.
    let pieces = || {
        let connection = Connection::open(dir.path().join(DATABASE)).unwrap();
        let sql = "SELECT jpeg FROM crops UNION ALL SELECT embedding FROM embeddings";
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |r| r.get::<_, Vec<u8>>(0)).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    let traces = |wanted: &[Vec<u8>]| {
        let files: Vec<Vec<u8>> =
            fs::read_dir(dir.path()).unwrap().map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
        wanted.iter().map(|w| files.iter().any(|f| f.windows(w.len()).any(|part| part == w))).collect::<Vec<_>>()
    };
    let enrolled = async || {
        let one = face("anna", "m", &[0.125, 7.5, -3.25]);
        store.insert_face(&one, Some(&crop())).await.unwrap();
        store.insert_embedding(&one.id, &embedding("n", &[9.75, -0.375, 2.5, 1.25])).await.unwrap();
        one
    };
    let one = enrolled().await;
    let before = pieces();
    assert_eq!(traces(&before), [true; 3], "what is looked for is not there");
    store.remove_face(&anna.id, &one.id).await.unwrap();
    assert_eq!((store.crops().await.unwrap(), store.coverage().await.unwrap().len()), (0, 0));
    assert_eq!(traces(&before), [false; 3], "the removed face left a trace");
    enrolled().await;
    let again = pieces();
    let receipt = store.erase_person(&anna.id, now()).await.unwrap();
    assert_eq!((receipt.faces_removed, receipt.crops_removed), (1, 1));
    assert_eq!((again.len(), traces(&again)), (3, vec![false; 3]), "a trace is left");
}
