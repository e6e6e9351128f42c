use super::{
    fakes::{FakeIndex, FakeStore, at, embedding, face, furnished, id, opened, person, settings},
    *,
};
use crate::{
    identity::{Thresholds, decision::tests::thresholds},
    inference::manifest,
};

#[tokio::test]
async fn a_calibration_is_kept_follows_the_gallery_and_can_be_forgotten() {
    let house = furnished().await;
    let few = house.gallery.calibrate(0.01, Vec::new(), true, at(1)).await;
    assert!(matches!(few, Err(GalleryError::TooLittle(_))) && house.gallery.calibration().is_none());
    // Strangers all around; those near Anna or Berta are the tail.
    let around = |i: usize| {
        let (y, x) = (i as f32 * 1.1).to_radians().sin_cos();
        embedding([x, y])
    };
    let strangers: Vec<Embedding> = (100..400).map(around).collect();
    let found = house.gallery.calibrate(0.05, strangers.clone(), true, at(1)).await.unwrap();
    let (kept, threshold) = house.gallery.calibration().unwrap();
    assert_eq!((&kept, threshold), (&found.calibration, found.threshold));
    house.gallery.create_person(person("clara", &[])).await.unwrap();
    assert!(house.gallery.calibration().unwrap().1.cautious > threshold.cautious, "more people, a higher threshold");
    let again = Gallery::open(house.store.clone(), house.index.clone(), id("m"), settings()).await.unwrap();
    assert_eq!(again.calibration().unwrap().0, kept);
    let mut foreign = embedding([1.0, 0.0]);
    foreign.model = id("n");
    assert!(house.gallery.calibrate(0.05, vec![foreign], false, at(1)).await.is_err());
    house.gallery.forget_calibration().await.unwrap();
    assert!(house.gallery.calibration().is_none());
}

#[tokio::test]
async fn an_index_of_another_installation_is_left_alone() {
    let index: Arc<FakeIndex> = Arc::default();
    index.upsert(&[face("x1", "xavier", [1.0, 0.0])]).await.unwrap();
    let refused = Gallery::open(Arc::<FakeStore>::default(), index.clone(), id("m"), settings()).await.map(drop);
    assert!(matches!(refused, Err(GalleryError::ForeignIndex { faces: 1, .. })), "{refused:?}");
    assert_eq!(index.face_ids().await.unwrap().len(), 1);
}

#[tokio::test]
async fn finds_the_nearest_person_by_name() {
    let house = furnished().await;
    assert_eq!(house.who([0.96, 0.28], &[]).await.as_deref(), Some("ANNA"));
    assert_eq!(house.who([0.28, 0.96], &[]).await.as_deref(), Some("BERTA"));
    assert_eq!(house.who([-1.0, 0.0], &[]).await, None);
}

#[tokio::test]
async fn a_watchlist_limits_who_can_be_named() {
    let house = furnished().await;
    assert_eq!(house.who([0.8, 0.6], &["vip"]).await.as_deref(), Some("BERTA"));
    let before = house.index.searches.load(Ordering::SeqCst);
    assert_eq!(house.who([0.8, 0.6], &["nobody-is-on-this"]).await, None);
    assert_eq!(house.index.searches.load(Ordering::SeqCst), before, "nothing to search for");
    let mut berta = person("berta", &["staff"]);
    berta.revision = 2;
    house.gallery.update_person(berta).await.unwrap();
    assert_eq!(house.who([0.0, 1.0], &["vip"]).await, None);
}

#[tokio::test]
async fn opening_repairs_the_index() {
    let house = furnished().await;
    house.index.faces.lock().unwrap().remove(&id("a1"));
    house.index.faces.lock().unwrap().insert(id("ghost"), face("ghost", "anna", [0.0, 1.0]));
    let again = opened(house.store.clone(), house.index.clone()).await;
    assert!(again.in_step());
    assert_eq!(again.who([1.0, 0.0], &[]).await.as_deref(), Some("ANNA"));
}

#[tokio::test]
async fn a_face_the_index_refuses_is_not_kept() {
    let house = furnished().await;
    house.index.failing_upserts.store(1, Ordering::SeqCst);
    let revision = house.gallery.revision();
    let refused = house.gallery.add_face(face("a2", "anna", [0.9, 0.43]), None).await;
    assert!(matches!(refused, Err(GalleryError::Unavailable(_))));
    assert_eq!(house.store.faces(&id("anna")).await.unwrap().len(), 1);
    assert!(house.in_step());
    assert_eq!(house.gallery.revision(), revision);
}

#[tokio::test]
async fn what_could_not_be_taken_back_is_repaired_before_the_next_change() {
    let house = furnished().await;
    house.index.failing_upserts.store(1, Ordering::SeqCst);
    house.store.failing_removals.store(1, Ordering::SeqCst);
    assert!(house.gallery.add_face(face("a2", "anna", [0.9, 0.43]), None).await.is_err());
    assert!(!house.in_step(), "both failed");
    house.gallery.create_person(person("carla", &[])).await.unwrap();
    assert!(house.in_step());
}

#[tokio::test]
async fn a_removal_the_store_refuses_is_undone_at_once_or_before_the_next_change() {
    let house = furnished().await;
    house.store.failing_removals.store(1, Ordering::SeqCst);
    assert!(house.gallery.remove_face(&id("anna"), &id("a1")).await.is_err());
    assert!(house.in_step());
    house.store.failing_removals.store(1, Ordering::SeqCst);
    house.index.failing_upserts.store(1, Ordering::SeqCst);
    assert!(house.gallery.erase_person(&id("anna"), at(1)).await.is_err());
    assert!(!house.in_step());
    house.gallery.remove_face(&id("berta"), &id("b1")).await.unwrap();
    assert!(house.in_step());
    assert_eq!(house.who([1.0, 0.0], &[]).await.as_deref(), Some("ANNA"), "she kept her face");
    assert!(matches!(house.gallery.remove_face(&id("anna"), &id("b1")).await, Err(GalleryError::FaceNotFound(_))));
}

#[tokio::test]
async fn an_erased_person_is_gone_from_both_and_from_memory() {
    let house = furnished().await;
    house.index.failing_removals.store(1, Ordering::SeqCst);
    assert!(house.gallery.erase_person(&id("anna"), at(5)).await.is_err());
    assert_eq!(house.who([1.0, 0.0], &[]).await.as_deref(), Some("ANNA"), "nothing happened");
    let receipt = house.gallery.erase_person(&id("anna"), at(5)).await.unwrap();
    assert_eq!((receipt.faces_removed, receipt.erased), (1, at(5)));
    assert_eq!(house.who([1.0, 0.0], &[]).await, None);
    assert!(house.gallery.person(&id("anna")).is_none());
    assert!(house.in_step());
    assert!(matches!(house.gallery.erase_person(&id("anna"), at(6)).await, Err(GalleryError::PersonNotFound(_))));
}

#[tokio::test]
async fn nobody_is_named_who_is_only_in_the_index() {
    let house = furnished().await;
    house.index.faces.lock().unwrap().insert(id("g1"), face("g1", "ghost", [-1.0, 0.0]));
    assert_eq!(house.who([-1.0, 0.0], &[]).await, None);
}

#[tokio::test]
async fn a_face_marked_as_not_anna_is_not_named_anna_again() {
    let house = furnished().await;
    assert_eq!(house.who([0.8, 0.6], &["staff"]).await.as_deref(), Some("ANNA"));
    house.gallery.add_negative(&id("anna"), &embedding([0.8, 0.6])).await.unwrap();
    assert_eq!(house.who([0.8, 0.6], &["staff"]).await, None);
    assert_eq!(house.who([1.0, 0.0], &["staff"]).await.as_deref(), Some("ANNA"), "the real one still passes");
    let again = opened(house.store.clone(), house.index.clone()).await;
    assert_eq!(again.who([0.8, 0.6], &["staff"]).await, None, "also after a restart");
    let nobody = house.gallery.add_negative(&id("zoe"), &embedding([0.8, 0.6])).await;
    assert!(matches!(nobody, Err(GalleryError::PersonNotFound(_))));
}

#[tokio::test]
async fn two_faces_of_a_picture_are_two_people() {
    let house = furnished().await;
    let probes = [embedding([0.9, 0.43]), embedding([1.0, 0.0])];
    let answers = house.gallery.identify_together(&probes, &[], &thresholds()).await.unwrap();
    let names: Vec<_> = answers.into_iter().map(|(_, p)| p.map(|p| p.display_name)).collect();
    assert_eq!(names[1].as_deref(), Some("ANNA"));
    assert_ne!(names[0].as_deref(), Some("ANNA"));
}

#[tokio::test]
async fn another_models_embedding_is_refused() {
    let house = furnished().await;
    let mut foreign = embedding([1.0, 0.0]);
    foreign.model = id("n");
    let t = Thresholds::of_model(0.1, 0.0, manifest::Calibration { midpoint: 0.0, slope: 1.0 });
    let refused = house.gallery.identify_together(&[foreign.clone()], &[], &t).await;
    assert!(matches!(refused, Err(GalleryError::Incomparable(_))));
    let enrolled = EnrolledFace { embedding: foreign, ..face("a9", "anna", [1.0, 0.0]) };
    assert!(house.gallery.add_face(enrolled, None).await.is_err());
    assert_eq!(house.store.counts().await.unwrap(), (2, 2));
}

#[tokio::test]
async fn a_change_whose_caller_went_away_is_completed_before_the_next() {
    let house = furnished().await;
    // What the store did after its caller was gone.
    drop(house.gallery.inner.turn().await.unwrap());
    house.store.insert_person(&person("carla", &[])).await.unwrap();
    house.store.insert_face(&face("c1", "carla", [-1.0, 0.0]), None).await.unwrap();
    assert_eq!(house.who([-1.0, 0.0], &[]).await, None);
    house.gallery.create_person(person("dora", &[])).await.unwrap();
    assert_eq!(house.who([-1.0, 0.0], &[]).await.as_deref(), Some("CARLA"));
    assert!(!house.gallery.inner.unsettled.load(Ordering::SeqCst));
    assert!(house.gallery.remove_face(&id("dora"), &id("c1")).await.is_err());
    assert!(!house.gallery.inner.unsettled.load(Ordering::SeqCst), "a refusal leaves nothing to repair");
}

#[tokio::test]
async fn the_revision_counts_changes() {
    let house = furnished().await;
    let mut last = house.gallery.revision();
    house.gallery.create_person(person("carla", &[])).await.unwrap();
    assert!(house.gallery.revision() > last);
    last = house.gallery.revision();
    assert!(house.gallery.create_person(person("anna", &[])).await.is_err());
    assert_eq!(house.gallery.revision(), last);
    house.gallery.add_face(face("c1", "carla", [0.7, 0.7]), None).await.unwrap();
    assert!(house.gallery.revision() > last);
}

#[tokio::test]
async fn a_negative_exemplar_can_be_taken_back_and_survives_nothing_else() {
    let store = Arc::new(FakeStore::default());
    let index = Arc::new(FakeIndex::default());
    let gallery = Gallery::open(store.clone(), index, id("m"), settings()).await.unwrap();
    gallery.create_person(person("anna", &[])).await.unwrap();
    gallery.add_face(face("f-1", "anna", [1.0, 0.0]), None).await.unwrap();
    let (stranger, anna) = (embedding([0.8, 0.6]), embedding([0.99, 0.14]));
    let known = async |probe: &Embedding| {
        let answers = gallery.identify_together(std::slice::from_ref(probe), &[], &thresholds()).await.unwrap();
        answers[0].0.known().is_some()
    };
    assert!(known(&stranger).await);
    gallery.add_negative(&id("anna"), &stranger).await.unwrap();
    gallery.add_negative(&id("anna"), &stranger).await.unwrap();
    assert!(!known(&stranger).await && known(&anna).await, "the right person's other pictures are not hurt");
    gallery.remove_negative(&id("anna"), &stranger).await.unwrap();
    assert!(!known(&stranger).await, "said twice, taken back once");
    gallery.remove_negative(&id("anna"), &stranger).await.unwrap();
    gallery.remove_negative(&id("anna"), &stranger).await.unwrap();
    gallery.remove_negative(&id("nobody"), &stranger).await.unwrap();
    assert!(known(&stranger).await);
    assert!(store.negatives.lock().unwrap().is_empty());
}
