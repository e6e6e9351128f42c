use std::time::Duration;

use super::*;
use crate::store::{conformance, qdrant_fake::FakeQdrant};

fn settings(url: &str) -> QdrantSettings {
    QdrantSettings { url: url.into(), ..QdrantSettings::default() }
}

async fn connect(settings: &QdrantSettings, size: usize, distance: Distance) -> Result<QdrantIndex, GalleryError> {
    QdrantIndex::connect(settings, &"m".parse().unwrap(), size, distance).await
}

fn everyone(limit: usize) -> SearchQuery {
    SearchQuery { limit, people: None }
}

#[tokio::test]
async fn conforms_on_the_test_server() {
    for distance in [Distance::Cosine, Distance::Euclidean] {
        let server = FakeQdrant::start(None).await;
        let index = connect(&settings(&server.url), 4, distance).await.unwrap();
        conformance::index(&index, distance).await;
        assert_eq!(index.backend(), "qdrant");
        assert_eq!(server.indexes("visage_m"), ["person"]);
        // A second connection finds the collection as it was left.
        let again = connect(&settings(&server.url), 4, distance).await.unwrap();
        assert_eq!(again.face_ids().await.unwrap(), index.face_ids().await.unwrap());
        drop((index, again));
        server.stop().await;
    }
}

#[tokio::test]
async fn conforms_on_a_real_server() {
    let Ok(url) = std::env::var("VISAGE_TEST_QDRANT_URL") else {
        crate::telemetry::skipped(
            "the tests with a real Qdrant server; set VISAGE_TEST_QDRANT_URL=http://127.0.0.1:6334 to run them",
        );
        return;
    };
    let api_key = Secret::new(std::env::var("VISAGE_TEST_QDRANT_API_KEY").unwrap_or_default());
    for distance in [Distance::Cosine, Distance::Euclidean] {
        let collection_prefix = format!("visage-test-{}", Uuid::now_v7());
        let settings = QdrantSettings { collection_prefix, api_key: api_key.clone(), ..settings(&url) };
        let index = connect(&settings, 4, distance).await.unwrap();
        let (client, name) = (index.client.clone(), index.collection.clone());
        // In a task, so that the collection goes even when the suite fails.
        let suite = tokio::spawn(async move { conformance::index(&index, distance).await }).await;
        let refused = connect(&settings, 5, distance).await.err();
        client.delete_collection(name).await.unwrap();
        suite.unwrap();
        assert!(matches!(refused, Some(GalleryError::Storage(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_collection_of_another_shape_is_refused() {
    let server = FakeQdrant::start(None).await;
    connect(&settings(&server.url), 4, Distance::Cosine).await.unwrap();
    let refused = connect(&settings(&server.url), 4, Distance::Euclidean).await.err().unwrap();
    assert!(matches!(refused, GalleryError::Storage(_)), "{refused:?}");
    let message = refused.to_string();
    for part in ["visage_m", "4 values with distance Cosine", "4 values with distance Euclid", "collection_prefix"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    let refused = connect(&settings(&server.url), 128, Distance::Cosine).await.err().unwrap();
    assert!(refused.to_string().contains("needs vectors of 128 values"), "{refused}");
    let other = QdrantSettings { collection_prefix: "other".into(), ..settings(&server.url) };
    connect(&other, 128, Distance::Cosine).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = connect(&settings(&format!("http://127.0.0.1:{port}")), 4, Distance::Cosine).await.err().unwrap();
    assert!(matches!(away, GalleryError::Unavailable(_)), "{away:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_unavailable() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let settings = QdrantSettings { timeout_ms: 100, ..settings(&url) };
    let away = connect(&settings, 4, Distance::Cosine).await.err().unwrap();
    assert!(matches!(away, GalleryError::Unavailable(_)), "{away:?}");
}

#[tokio::test]
async fn a_server_that_goes_away_later_is_unavailable() {
    let server = FakeQdrant::start(None).await;
    let index = connect(&settings(&server.url), 4, Distance::Cosine).await.unwrap();
    index.reachable().await.unwrap();
    server.stop().await;
    let away = index.reachable().await.err().unwrap();
    assert!(matches!(away, GalleryError::Unavailable(_)), "{away:?}");
    let probe = conformance::embedding(&[1.0, 0.0, 0.0, 0.0], Distance::Cosine);
    for _ in 0..4 {
        let away = index.search(&probe, &everyone(1)).await.err().unwrap();
        assert!(matches!(away, GalleryError::Unavailable(_)), "{away:?}");
    }
}

#[tokio::test]
async fn a_collection_that_is_gone_is_not_reachable() {
    let server = FakeQdrant::start(None).await;
    let index = connect(&settings(&server.url), 4, Distance::Cosine).await.unwrap();
    index.client.delete_collection(index.collection.as_str()).await.unwrap();
    let gone = index.reachable().await.err().unwrap();
    assert!(gone.to_string().contains("lost the collection visage_m"), "{gone}");
}

#[tokio::test]
async fn the_api_key_is_sent_and_never_shown() {
    let server = FakeQdrant::start(Some("s3cret-key")).await;
    let right = QdrantSettings { api_key: Secret::new("s3cret-key"), ..settings(&server.url) };
    connect(&right, 4, Distance::Cosine).await.unwrap();
    let calls = server.calls();
    assert!(!calls.is_empty() && calls.iter().all(|(_, key)| key.as_deref() == Some("s3cret-key")), "{calls:?}");
    assert!(!format!("{right:?}").contains("s3cret-key"));

    // This server repeats the key it was sent.
    let wrong = QdrantSettings { api_key: Secret::new("wrong-key"), ..settings(&server.url) };
    let refused = connect(&wrong, 4, Distance::Cosine).await.err().unwrap();
    assert!(matches!(refused, GalleryError::Storage(_)), "{refused:?}");
    assert!(refused.to_string().contains("api_key") && !format!("{refused:?}").contains("wrong-key"), "{refused:?}");

    let broken = QdrantSettings { api_key: Secret::new("wrong\nkey"), ..settings(&server.url) };
    let refused = connect(&broken, 4, Distance::Cosine).await.err().unwrap();
    assert!(!format!("{refused:?}").contains("wrong"), "{refused:?}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_without_showing_secrets() {
    for url in ["", "127.0.0.1:6334", "ftp://host", "http://user:hidden@host:6334"] {
        let refused = connect(&settings(url), 4, Distance::Cosine).await.err().unwrap();
        assert!(matches!(refused, GalleryError::Storage(_)), "{url}: {refused:?}");
        assert!(!refused.to_string().contains("hidden"), "{refused}");
    }
    let never = QdrantSettings { timeout_ms: 0, ..QdrantSettings::default() };
    assert!(connect(&never, 4, Distance::Cosine).await.is_err());
}

#[tokio::test]
async fn what_needs_no_call_makes_none() {
    let server = FakeQdrant::start(None).await;
    let index = connect(&settings(&server.url), 4, Distance::Cosine).await.unwrap();
    let before = server.calls().len();
    let probe = conformance::embedding(&[1.0, 0.0, 0.0, 0.0], Distance::Cosine);
    let nobody = SearchQuery { limit: 5, people: Some(BTreeSet::new()) };
    assert!(index.search(&probe, &nobody).await.unwrap().is_empty());
    assert!(index.search(&probe, &everyone(0)).await.unwrap().is_empty());
    index.upsert(&[]).await.unwrap();
    let short = conformance::face("f", "p", &[1.0], Distance::Cosine);
    let good = conformance::face("g", "p", &[1.0, 0.0, 0.0, 0.0], Distance::Cosine);
    assert!(matches!(index.upsert(&[good, short]).await, Err(GalleryError::Incomparable(_))));
    assert_eq!(server.calls().len(), before);
}

#[tokio::test]
async fn many_faces_are_written_and_read_in_parts() {
    let server = FakeQdrant::start(None).await;
    let index = connect(&settings(&server.url), 4, Distance::Cosine).await.unwrap();
    let count = SCROLL_PAGE as usize * 2 + 1;
    let face = |i: usize| conformance::face(&format!("f-{i}"), "anna", &[1.0, i as f32, 0.0, 0.0], Distance::Cosine);
    let faces: Vec<EnrolledFace> = (0..count).map(face).collect();
    index.upsert(&faces).await.unwrap();
    assert_eq!(index.face_ids().await.unwrap(), faces.iter().map(|f| f.id.clone()).collect());
    let calls = |name: &str| server.calls().iter().filter(|(path, _)| path.ends_with(name)).count();
    assert_eq!((calls("/Upsert"), calls("/Scroll")), (count.div_ceil(UPSERT_CHUNK), 3));
    index.remove_person(&"anna".parse().unwrap()).await.unwrap();
    assert!(index.face_ids().await.unwrap().is_empty());
}

#[tokio::test]
async fn points_of_somebody_else_are_reported() {
    let server = FakeQdrant::start(None).await;
    let index = connect(&settings(&server.url), 4, Distance::Cosine).await.unwrap();
    let mut payload = Payload::new();
    payload.insert(PERSON, "anna");
    let point = PointStruct::new(Uuid::now_v7().to_string(), vec![1.0, 0.0, 0.0, 0.0], payload);
    index.client.upsert_points(UpsertPointsBuilder::new("visage_m", vec![point]).wait(true)).await.unwrap();
    let found = index.face_ids().await.unwrap_err();
    assert!(found.to_string().contains("no faces"), "{found}");
    let probe = conformance::embedding(&[1.0, 0.0, 0.0, 0.0], Distance::Cosine);
    assert!(matches!(index.search(&probe, &everyone(1)).await, Err(GalleryError::Storage(_))));
}

#[test]
fn points_are_named_by_the_faces_uuid_or_a_stable_hash() {
    let own = FaceId::generate();
    assert_eq!(point_id(&own), PointId::from(own.to_string()));
    let (a, b) = (point_id(&"f-a1".parse().unwrap()), point_id(&"f-a2".parse().unwrap()));
    assert_ne!(a, b);
    assert_eq!(a, point_id(&"f-a1".parse().unwrap()));
    // Another spelling of a UUID is another face.
    let plain: FaceId = own.to_string().replace('-', "").parse().unwrap();
    assert_ne!(point_id(&plain), point_id(&own));
}

#[test]
fn settings_have_defaults_and_know_their_fields() {
    let read: QdrantSettings = toml::from_str("api_key = \"k\"").unwrap();
    assert_eq!(read, QdrantSettings { api_key: Secret::new("k"), ..QdrantSettings::default() });
    assert_eq!(Duration::from_millis(read.timeout_ms), Duration::from_secs(5));
    assert!(toml::from_str::<QdrantSettings>("apikey = \"k\"").is_err());
}

#[test]
fn a_new_collection_lies_as_the_settings_say() {
    use qdrant_client::qdrant::{CreateCollection, quantization_config::Quantization};
    let made = |shards, replicas, quantised| -> CreateCollection {
        let vectors = VectorParamsBuilder::new(4, server_distance(Distance::Cosine));
        Layout { shards, replicas, quantised }.collection("faces", vectors).build()
    };
    let plain = made(0, 0, false);
    assert_eq!((plain.shard_number, plain.replication_factor, plain.quantization_config), (None, None, None));
    let spread = made(6, 3, true);
    assert_eq!((spread.shard_number, spread.replication_factor), (Some(6), Some(3)));
    assert_eq!(spread.write_consistency_factor, Some(2), "most copies");
    let Some(Quantization::Scalar(bytes)) = spread.quantization_config.and_then(|c| c.quantization) else { panic!() };
    assert_eq!(bytes.quantile, Some(0.99));
}
