//! What every vector index must do, whatever is behind it.

use std::collections::BTreeSet;

use crate::{
    face::{Distance, Embedding},
    identity::{EnrolledFace, SearchQuery, VectorIndex},
    time::Timestamp,
};

pub(in crate::store) fn embedding(values: &[f32], distance: Distance) -> Embedding {
    let mut values = values.to_vec();
    if distance == Distance::Cosine {
        let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-9);
        values.iter_mut().for_each(|v| *v /= norm);
    }
    Embedding { model: "m".parse().unwrap(), distance, values: values.into() }
}

pub(in crate::store) fn face(id: &str, person: &str, values: &[f32], distance: Distance) -> EnrolledFace {
    EnrolledFace {
        id: id.parse().unwrap(),
        person: person.parse().unwrap(),
        embedding: embedding(values, distance),
        quality: 0.9,
        source: "test".into(),
        created: Timestamp::UNIX_EPOCH,
    }
}

/// Runs the suite on an empty index for model `m` with 4 values.
pub(in crate::store) async fn index(index: &dyn VectorIndex, distance: Distance) {
    let everyone = |limit| SearchQuery { limit, people: None };
    let probe = embedding(&[1.0, 0.1, 0.0, 0.0], distance);
    assert!(index.search(&probe, &everyone(5)).await.unwrap().is_empty(), "an empty index finds nobody");

    let faces = [
        face("f-a1", "anna", &[1.0, 0.0, 0.0, 0.0], distance),
        face("f-a2", "anna", &[0.9, 0.3, 0.0, 0.0], distance),
        face("f-b1", "berta", &[0.0, 1.0, 0.0, 0.0], distance),
        face("f-c1", "clara", &[0.0, 0.0, 1.0, 0.0], distance),
    ];
    index.upsert(&faces).await.unwrap();
    let hits = index.search(&probe, &everyone(5)).await.unwrap();
    let people: Vec<&str> = hits.iter().map(|h| h.person.as_str()).collect();
    assert_eq!(people.len(), 3, "each person once: {people:?}");
    assert_eq!(people[..2], ["anna", "berta"], "nearest first");
    assert!(hits.windows(2).all(|w| w[0].similarity >= w[1].similarity));
    let own = faces[0].embedding.similarity(&probe).unwrap().max(faces[1].embedding.similarity(&probe).unwrap());
    assert!((hits[0].similarity - own).abs() < 1e-4, "{} is not {own}", hits[0].similarity);
    assert_eq!(index.search(&probe, &everyone(1)).await.unwrap().len(), 1);

    let only = SearchQuery { limit: 5, people: Some(BTreeSet::from(["clara".parse().unwrap()])) };
    let hits = index.search(&probe, &only).await.unwrap();
    assert_eq!(hits.iter().map(|h| h.person.as_str()).collect::<Vec<_>>(), ["clara"]);
    let nobody = SearchQuery { limit: 5, people: Some(BTreeSet::new()) };
    assert!(index.search(&probe, &nobody).await.unwrap().is_empty());

    // Replacing a face moves it; the old place is forgotten.
    index.upsert(&[face("f-c1", "clara", &[1.0, 0.1, 0.0, 0.0], distance)]).await.unwrap();
    assert_eq!(index.search(&probe, &everyone(1)).await.unwrap()[0].person.as_str(), "clara");
    assert_eq!(index.face_ids().await.unwrap().len(), 4);

    index.remove_face(&"f-c1".parse().unwrap()).await.unwrap();
    index.remove_face(&"f-never".parse().unwrap()).await.unwrap();
    index.remove_person(&"anna".parse().unwrap()).await.unwrap();
    index.remove_person(&"nobody".parse().unwrap()).await.unwrap();
    let left: Vec<String> = index.face_ids().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(left, ["f-b1"]);

    let mut other = embedding(&[1.0, 0.0, 0.0, 0.0], distance);
    other.model = "other".parse().unwrap();
    assert!(index.search(&other, &everyone(1)).await.is_err(), "another model's embedding is refused");
    let short = embedding(&[1.0, 0.0], distance);
    assert!(index.search(&short, &everyone(1)).await.is_err(), "another length is refused");

    index.clear().await.unwrap();
    assert!(index.face_ids().await.unwrap().is_empty(), "cleared and not empty");
    assert!(index.search(&probe, &everyone(5)).await.unwrap().is_empty());
    index.upsert(&faces[..1]).await.unwrap();
    assert_eq!(index.search(&probe, &everyone(5)).await.unwrap().len(), 1, "it can be filled again");
}
