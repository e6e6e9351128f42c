//! People, faces, exemplars, calibration, classifier and the model in use.

use bytes::Bytes;

use crate::{
    face::{Detection, Embedding},
    frame::{BBox, Point},
    identity::{EmbeddingStore, EnrolledFace, FaceCrop, GalleryError, GalleryStore, Person},
    ids::ModelId,
    store::sqlite::tests::{anna, face},
    time::now,
};

fn crop() -> FaceCrop {
    let detection = Detection {
        bbox: BBox { x1: 1.0, y1: 2.0, x2: 3.0, y2: 4.0 },
        landmarks: [Point { x: 0.5, y: 0.5 }; 5],
        score: 0.9,
    };
    FaceCrop { jpeg: Bytes::from_static(b"pixels"), detection }
}

/// Runs the suite on a store without people, and leaves none.
pub(in crate::store) async fn people<S: GalleryStore + EmbeddingStore>(store: &S) {
    let model: ModelId = "m".parse().unwrap();
    assert_eq!(store.counts().await.unwrap(), (0, 0));
    let anna = anna();
    let berta = Person { id: "berta".parse().unwrap(), display_name: "Berta".into(), ..anna.clone() };
    store.insert_person(&berta).await.unwrap();
    store.insert_person(&anna).await.unwrap();
    assert!(matches!(store.insert_person(&anna).await, Err(GalleryError::AlreadyExists(_))));
    let changed = Person { display_name: "Anna".into(), revision: 2, ..anna.clone() };
    store.update_person(&changed).await.unwrap();
    assert!(matches!(store.update_person(&changed).await, Err(GalleryError::Conflict(_))));
    let nobody = Person { id: "nobody".parse().unwrap(), ..anna.clone() };
    assert!(matches!(store.update_person(&nobody).await, Err(GalleryError::PersonNotFound(_))));
    assert_eq!(store.person(&anna.id).await.unwrap(), changed);
    let pages = [store.people(None, 1).await.unwrap(), store.people(Some(&anna.id), 5).await.unwrap()].concat();
    assert_eq!(pages, [(changed.clone(), 0), (berta.clone(), 0)]);

    let (one, two, other) = (face(&anna), face(&anna), face(&berta));
    store.insert_face(&one, Some(&crop())).await.unwrap();
    store.insert_face(&two, None).await.unwrap();
    store.insert_face(&other, None).await.unwrap();
    assert!(matches!(store.insert_face(&face(&nobody), None).await, Err(GalleryError::PersonNotFound(_))));
    let sorted = |mut faces: Vec<EnrolledFace>| {
        faces.sort_by(|a, b| a.id.cmp(&b.id));
        faces
    };
    assert_eq!(store.faces(&anna.id).await.unwrap(), sorted(vec![one.clone(), two.clone()]), "as they were");
    assert_eq!(store.all_faces(&model).await.unwrap(), sorted(vec![one.clone(), two.clone(), other.clone()]));
    assert_eq!(store.counts().await.unwrap(), (2, 3));
    assert_eq!(store.people(None, 9).await.unwrap()[0].1, 2);
    assert_eq!(store.crop(&anna.id, &one.id).await.unwrap(), Some(crop()));
    assert_eq!(store.crop(&anna.id, &two.id).await.unwrap(), None);
    assert!(matches!(store.crop(&berta.id, &one.id).await, Err(GalleryError::FaceNotFound(_))));
    assert!(matches!(store.remove_face(&berta.id, &two.id).await, Err(GalleryError::FaceNotFound(_))));
    store.remove_face(&anna.id, &two.id).await.unwrap();
    assert!(matches!(store.remove_face(&anna.id, &two.id).await, Err(GalleryError::FaceNotFound(_))));
    assert_eq!(store.faces(&anna.id).await.unwrap(), [one]);

    let probe = Embedding { values: vec![1.0, 2.0, 3.0].into(), ..other.embedding.clone() };
    for person in [&anna.id, &anna.id, &berta.id] {
        store.insert_negative(person, &probe).await.unwrap();
    }
    assert!(matches!(store.insert_negative(&nobody.id, &probe).await, Err(GalleryError::PersonNotFound(_))));
    assert_eq!(store.negatives(&model).await.unwrap().len(), 3, "judged twice, kept twice");
    assert!(store.remove_negative(&anna.id, &probe).await.unwrap());
    assert_eq!(
        store.negatives(&model).await.unwrap(),
        [(anna.id.clone(), probe.clone()), (berta.id.clone(), probe.clone())]
    );
    assert!(store.remove_negative(&anna.id, &probe).await.unwrap());
    assert!(!store.remove_negative(&anna.id, &probe).await.unwrap());
    store.insert_negative(&anna.id, &probe).await.unwrap();

    store.set_classifier(&model, Some(b"weights")).await.unwrap();
    assert_eq!(store.classifier(&model).await.unwrap().as_deref(), Some(&b"weights"[..]));
    assert_eq!(store.model_in_use().await.unwrap(), None);
    store.settle_model(&model).await.unwrap();
    store.settle_model(&"other".parse().unwrap()).await.unwrap();
    assert_eq!(store.model_in_use().await.unwrap(), Some(model.clone()), "the first word counts");
    assert_eq!(store.calibration(&model).await.unwrap(), None);
    store.set_calibration(&model, None).await.unwrap();

    let receipt = store.erase_person(&anna.id, now()).await.unwrap();
    assert_eq!((receipt.faces_removed, receipt.crops_removed, &receipt.person), (1, 1, &anna.id));
    assert!(matches!(store.erase_person(&anna.id, now()).await, Err(GalleryError::PersonNotFound(_))));
    assert!(matches!(store.person(&anna.id).await, Err(GalleryError::PersonNotFound(_))));
    assert_eq!(store.all_faces(&model).await.unwrap(), [other]);
    assert_eq!(store.negatives(&model).await.unwrap(), [(berta.id.clone(), probe)]);
    assert_eq!(store.classifier(&model).await.unwrap(), None, "erased faces shaped it");
    // The id is free, and nothing of before comes back with it.
    let again = Person { created: now(), ..anna.clone() };
    store.insert_person(&again).await.unwrap();
    assert!(store.faces(&anna.id).await.unwrap().is_empty());
    store.insert_face(&EnrolledFace { created: now(), ..face(&again) }, None).await.unwrap();
    assert_eq!(store.faces(&anna.id).await.unwrap().len(), 1);
    store.erase_person(&anna.id, now()).await.unwrap();
    store.erase_person(&berta.id, now()).await.unwrap();
    assert_eq!(store.counts().await.unwrap(), (0, 0));
}
