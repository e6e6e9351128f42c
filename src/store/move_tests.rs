//! A gallery moves to another model, on both back ends.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use super::{
    exact::ExactIndex,
    qdrant::{QdrantIndex, QdrantSettings},
    qdrant_fake::FakeQdrant,
    sqlite::SqliteStore,
};
use crate::{
    face::{Distance, Embedding},
    identity::{
        EmbeddingStore, EnrolledFace, Gallery, GalleryError, GallerySettings, GalleryStore, Person, Thresholds,
        VectorIndex,
    },
    ids::{FaceId, ModelId},
    inference::manifest::Calibration,
    time::now,
    vault::VaultSettings,
};

fn model(id: &str) -> ModelId {
    id.parse().unwrap()
}

/// Vectors of `m` have two values, those of `n` three: never comparable.
fn embedding(of: &str, degrees: f32) -> Embedding {
    let (y, x) = degrees.to_radians().sin_cos();
    let values = if of == "m" { vec![x, y] } else { vec![0.0, x, y] };
    Embedding { model: model(of), distance: Distance::Cosine, values: values.into() }
}

fn face(person: &str, degrees: f32) -> EnrolledFace {
    EnrolledFace {
        id: FaceId::generate(),
        person: person.parse().unwrap(),
        embedding: embedding("m", degrees),
        quality: 0.9,
        source: String::new(),
        created: now(),
    }
}

async fn who(gallery: &Gallery, of: &str, degrees: f32) -> Result<Option<String>, GalleryError> {
    let thresholds = Thresholds::of_model(0.9, 0.0, Calibration { midpoint: 0.5, slope: 10.0 });
    let answers = gallery.identify_together(&[embedding(of, degrees)], &[], &thresholds).await?;
    Ok(answers[0].1.as_ref().map(|p| p.id.to_string()))
}

async fn moves(store: Arc<SqliteStore>, old: Arc<dyn VectorIndex>, new: Arc<dyn VectorIndex>) {
    let gallery = Gallery::open(store.clone(), old.clone(), model("m"), GallerySettings::default()).await.unwrap();
    let mut faces = Vec::new();
    for (id, degrees) in [("anna", 0.0), ("berta", 90.0), ("carla", 180.0)] {
        let person = Person {
            id: id.parse().unwrap(),
            display_name: id.into(),
            external_id: String::new(),
            labels: BTreeMap::new(),
            watchlists: Vec::new(),
            created: now(),
            revision: 1,
            threshold_offset: 0.0,
            terms: Default::default(),
        };
        gallery.create_person(person).await.unwrap();
        faces.push(face(id, degrees));
        gallery.add_face(faces[faces.len() - 1].clone(), None).await.unwrap();
    }
    // The new model turns everything by 45 degrees.
    for (face, degrees) in faces.iter().zip([45.0, 135.0, 225.0]) {
        store.insert_embedding(&face.id, &embedding("n", degrees)).await.unwrap();
    }
    store.insert_negative(&faces[0].person, &embedding("n", 60.0)).await.unwrap();
    let same = gallery.join(model("m"), new.clone(), None).await;
    assert!(matches!(same, Err(GalleryError::Moving(_))), "it is in use");
    // What an interrupted move left there is not believed.
    new.upsert(&[EnrolledFace { embedding: embedding("n", 300.0), ..face("nobody", 0.0) }]).await.unwrap();
    gallery.join(model("n"), new.clone(), None).await.unwrap();
    assert!(new.face_ids().await.unwrap().is_empty());
    assert!(matches!(gallery.join(model("n"), new.clone(), None).await, Err(GalleryError::Moving(_))), "one at a time");
    gallery.fill(&*store, |_| true).await.unwrap();
    assert_eq!(new.face_ids().await.unwrap().len(), 3);
    assert!(who(&gallery, "n", 45.0).await.is_err(), "asked before it took over");

    // Erased while the other model joins: gone from both.
    gallery.erase_person(&faces[2].person, now()).await.unwrap();
    assert_eq!((old.face_ids().await.unwrap().len(), new.face_ids().await.unwrap().len()), (2, 2));
    // Enrolled at the last moment.
    let late = face("berta", 100.0);
    gallery.add_face(late.clone(), None).await.unwrap();
    let revision = gallery.revision();

    let failing = gallery
        .take_over(async { Ok::<(), GalleryError>(()) }, async { Err(GalleryError::Storage("no".into())) }, || {})
        .await;
    assert!(failing.is_err() && gallery.model() == model("m"), "it took over although the choice was not kept");
    let switched = Cell::new(false);
    let last = async {
        store.insert_embedding(&late.id, &embedding("n", 145.0)).await?;
        Ok::<(), GalleryError>(())
    };
    gallery.take_over(last, store.use_model(&model("n"), &model("m")), || switched.set(true)).await.unwrap();
    assert!(switched.get() && gallery.revision() > revision, "tracks must look again");
    assert_eq!((gallery.model(), store.model_in_use().await.unwrap()), (model("n"), Some(model("n"))));
    assert_eq!(who(&gallery, "n", 45.0).await.unwrap().as_deref(), Some("anna"));
    assert_eq!(who(&gallery, "n", 145.0).await.unwrap().as_deref(), Some("berta"));
    assert_eq!(who(&gallery, "n", 60.0).await.unwrap(), None, "the new model's exemplars count");
    assert_eq!(who(&gallery, "m", 0.0).await.unwrap().as_deref(), Some("anna"), "begun with the old model");
    assert!(gallery.add_face(face("anna", 1.0), None).await.is_err(), "enrolled with the old model");

    gallery.retire().await.unwrap();
    assert!(old.face_ids().await.unwrap().is_empty(), "the old index still holds faces");
    assert!(who(&gallery, "m", 0.0).await.is_err());
    assert_eq!(store.all_faces(&model("m")).await.unwrap().len(), 3, "embeddings of the old model are kept");
    gallery.erase_person(&faces[0].person, now()).await.unwrap();
    assert!(store.all_faces(&model("m")).await.unwrap().iter().all(|f| f.person != faces[0].person));

    // Back, and then not after all.
    gallery.join(model("m"), old.clone(), None).await.unwrap();
    gallery.fill(&*store, |_| false).await.unwrap();
    gallery.turn_away().await.unwrap();
    assert!(old.face_ids().await.unwrap().is_empty() && gallery.model() == model("n"));
}

#[tokio::test]
async fn in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap());
    let index = |id, size| Arc::new(ExactIndex::new(model(id), size, Distance::Cosine));
    moves(store, index("m", 2), index("n", 3)).await;
}

#[tokio::test]
async fn on_a_vector_server_with_a_collection_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap());
    let server = FakeQdrant::start(None).await;
    let settings = QdrantSettings { url: server.url.clone(), ..QdrantSettings::default() };
    let connect = async |id: &str, size| {
        Arc::new(QdrantIndex::connect(&settings, &model(id), size, Distance::Cosine).await.unwrap())
    };
    let (old, new) = (connect("m", 2).await, connect("n", 3).await);
    moves(store, old, new).await;
    assert_eq!((server.points("visage_m"), server.points("visage_n")), (0, 2));
}
