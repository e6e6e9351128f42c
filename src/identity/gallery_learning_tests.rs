use tokio_util::sync::CancellationToken;

use super::{fakes::*, *};
use crate::identity::{
    Decision, Thresholds, TrainError, alike::Neighbour, classifier::tests::look, decision::tests::thresholds,
};

fn on() -> CancellationToken {
    CancellationToken::new()
}

fn deciding(route: Route) -> GallerySettings {
    GallerySettings { route, ..settings() }
}

async fn opened_as(store: &Arc<FakeStore>, route: Route) -> Gallery {
    let index: Arc<FakeIndex> = Arc::default();
    Gallery::open(store.clone(), index, id("m"), deciding(route)).await.unwrap()
}

/// `people` people with three faces each.
async fn town(route: Route, people: usize) -> (Arc<FakeStore>, Gallery) {
    let store: Arc<FakeStore> = Arc::default();
    let gallery = opened_as(&store, route).await;
    let mut seed = 5;
    for i in 0..people {
        settle(&gallery, i, 3, &mut seed).await;
    }
    (store, gallery)
}

async fn settle(gallery: &Gallery, i: usize, faces: usize, seed: &mut u64) {
    gallery.create_person(person(&format!("p{i}"), &[])).await.unwrap();
    for n in 0..faces {
        let embedding = look(i, 0.3, seed);
        let enrolled = EnrolledFace { embedding, ..face(&format!("f{i}-{n}"), &format!("p{i}"), [1.0, 0.0]) };
        gallery.add_face(enrolled, None).await.unwrap();
    }
}

/// Strangers of 16 random values come near to each other.
fn strict() -> Thresholds {
    Thresholds { similarity: 0.8, ..thresholds() }
}

async fn decided(gallery: &Gallery, i: usize) -> Decision {
    let probe = look(i, 0.3, &mut 77);
    gallery.identify_together(&[probe], &[], &strict()).await.unwrap().remove(0).0
}

fn named(decision: &Decision) -> (Option<&str>, Route) {
    (decision.known().map(|h| h.person.as_str()), decision.basis.route)
}

#[tokio::test]
async fn a_gallery_that_decides_by_classifier_trains_one_keeps_it_and_reads_it_again() {
    let (store, gallery) = town(Route::Classifier, 5).await;
    let route = gallery.route();
    assert_eq!((route.configured, route.in_use, route.classifier), (Route::Classifier, Route::Similarity, None));
    assert_eq!(named(&decided(&gallery, 2).await), (Some("p2"), Route::Similarity), "until then similarity decides");
    gallery.catch_up(&on()).await.unwrap();
    assert_eq!(named(&decided(&gallery, 2).await), (Some("p2"), Route::Classifier));
    let kept = gallery.route().classifier.unwrap();
    assert_eq!((kept.people, kept.faces, kept.stale), (5, 15, false));

    let again = opened_as(&store, Route::Classifier).await;
    assert_eq!(again.route().classifier, Some(kept.clone()), "as it was kept");
    assert_eq!(named(&decided(&again, 2).await), (Some("p2"), Route::Classifier));
    let plain = opened_as(&store, Route::Similarity).await;
    assert_eq!((plain.route().in_use, plain.route().classifier), (Route::Similarity, Some(kept)));
    assert_eq!(named(&decided(&plain, 2).await).1, Route::Similarity);
}

#[tokio::test]
async fn new_people_are_decided_by_similarity_until_it_is_trained_again() {
    let (_store, gallery) = town(Route::Classifier, 5).await;
    gallery.catch_up(&on()).await.unwrap();
    settle(&gallery, 5, 3, &mut 9).await;
    assert!(gallery.route().classifier.unwrap().stale);
    assert_eq!(named(&decided(&gallery, 5).await), (Some("p5"), Route::Similarity));
    assert_eq!(named(&decided(&gallery, 1).await), (Some("p1"), Route::Classifier), "the others are as they were");
    gallery.catch_up(&on()).await.unwrap();
    assert_eq!(named(&decided(&gallery, 5).await), (Some("p5"), Route::Classifier));
    let kept = gallery.route().classifier.unwrap();
    assert_eq!((kept.people, kept.faces, kept.stale), (6, 18, false));
    gallery.remove_face(&id("p5"), &id("f5-0")).await.unwrap();
    assert!(gallery.route().classifier.unwrap().stale);
    gallery.catch_up(&on()).await.unwrap();
    assert_eq!(gallery.route().classifier.map(|c| (c.faces, c.stale)), Some((17, false)));
}

#[tokio::test]
async fn an_erased_person_is_gone_from_the_classifier_at_once() {
    let (store, gallery) = town(Route::Classifier, 5).await;
    gallery.catch_up(&on()).await.unwrap();
    assert!(store.classifier(&id("m")).await.unwrap().is_some());
    gallery.erase_person(&id("p2"), at(9)).await.unwrap();
    assert_eq!(store.classifier(&id("m")).await.unwrap(), None, "the bytes go with the person");
    let route = gallery.route();
    assert_eq!((route.in_use, route.classifier), (Route::Similarity, None));
    assert!(route.why.unwrap().contains("trained again without them"));
    assert_eq!(named(&decided(&gallery, 2).await).0, None);
    gallery.catch_up(&on()).await.unwrap();
    let bytes = store.classifier(&id("m")).await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("\"p2\""), "nor does the next know them");
    assert_eq!(named(&decided(&gallery, 1).await), (Some("p1"), Route::Classifier));
    assert_eq!(named(&decided(&gallery, 2).await).0, None);
}

#[tokio::test]
async fn a_training_that_an_erasure_overtook_is_not_kept() {
    let (store, gallery) = town(Route::Similarity, 5).await;
    let (one, other) = (gallery.clone(), gallery.clone());
    // The first progress is told between two folds; the training stands there until the person is erased.
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let training = tokio::spawn(async move {
        let token = on();
        one.train(5, thresholds(), true, &token, move |_, _| {
            if let Some(gone) = gone.lock().unwrap().take() {
                tell.try_send(()).unwrap();
                gone.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
            }
        })
        .await
    });
    told.recv().await.unwrap();
    other.erase_person(&id("p2"), at(9)).await.unwrap();
    go.send(()).unwrap();
    let trained = training.await.unwrap().unwrap();
    assert_eq!(trained.classifier.people, 4, "it was trained anew without the erased person");
    let bytes = store.classifier(&id("m")).await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("\"p2\""), "what was kept knows the erased person");
}

#[tokio::test]
async fn too_little_is_said_and_similarity_decides() {
    let (_store, gallery) = town(Route::Classifier, 1).await;
    gallery.catch_up(&on()).await.unwrap();
    let route = gallery.route();
    assert_eq!(route.in_use, Route::Similarity);
    assert!(route.why.as_deref().is_some_and(|w| w.contains("enrol more pictures")), "{route:?}");
    let refused = gallery.train(5, thresholds(), true, &on(), |_, _| {}).await;
    assert!(matches!(refused, Err(GalleryError::Training(TrainError::TooLittle { people: 1, .. }))), "{refused:?}");
}

#[tokio::test]
async fn bytes_that_are_no_classifier_are_said_and_trained_again() {
    let (store, gallery) = town(Route::Classifier, 5).await;
    gallery.catch_up(&on()).await.unwrap();
    let mut bytes = store.classifier(&id("m")).await.unwrap().unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    store.set_classifier(&id("m"), Some(&bytes)).await.unwrap();
    let again = opened_as(&store, Route::Classifier).await;
    let route = again.route();
    assert_eq!((route.in_use, route.classifier), (Route::Similarity, None));
    assert!(route.why.unwrap().contains("it was changed"));
    again.catch_up(&on()).await.unwrap();
    assert_eq!(again.route().in_use, Route::Classifier);
    assert_ne!(store.classifier(&id("m")).await.unwrap(), Some(bytes));
}

#[tokio::test]
async fn training_on_request_tells_how_good_it_is_and_is_kept_only_if_wanted() {
    let (store, gallery) = town(Route::Similarity, 5).await;
    let steps = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = steps.clone();
    let trained =
        gallery.train(3, thresholds(), false, &on(), move |n, of| told.lock().unwrap().push((n, of))).await.unwrap();
    assert_eq!(*steps.lock().unwrap(), [(1, 4), (2, 4), (3, 4), (4, 4)]);
    let v = &trained.validation;
    assert_eq!((v.folds, v.tested, v.untested_people, v.classifier_first), (3, 15, 0, 15));
    assert_eq!(store.classifier(&id("m")).await.unwrap(), None, "only told");
    gallery.train(3, thresholds(), true, &on(), |_, _| {}).await.unwrap();
    assert!(gallery.route().classifier.is_some());
    // Once trained it follows the gallery, whatever decides.
    settle(&gallery, 5, 2, &mut 9).await;
    gallery.catch_up(&on()).await.unwrap();
    assert_eq!(gallery.route().classifier.map(|c| c.people), Some(6));
    gallery.forget_classifier().await.unwrap();
    assert_eq!((gallery.route().classifier, store.classifier(&id("m")).await.unwrap()), (None, None));
    gallery.catch_up(&on()).await.unwrap();
    assert_eq!(gallery.route().classifier, None, "nobody wants one");
}

#[tokio::test(start_paused = true)]
async fn the_task_follows_changes_and_ends_when_told() {
    let (_store, gallery) = town(Route::Classifier, 4).await;
    let (stop, tending) = (on(), gallery.clone());
    let task = tokio::spawn({
        let stop = stop.clone();
        async move { tending.tend(stop).await }
    });
    let trained_on = |people: usize| {
        let gallery = gallery.clone();
        async move {
            while gallery.route().classifier.is_none_or(|c| c.people != people || c.stale) {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    };
    trained_on(4).await;
    settle(&gallery, 4, 3, &mut 9).await;
    trained_on(5).await;
    gallery.erase_person(&id("p0"), at(9)).await.unwrap();
    trained_on(4).await;
    stop.cancel();
    task.await.unwrap();
}

fn near(person: &str) -> Vec<String> {
    vec![person.to_owned()]
}

fn alikes(gallery: &Gallery, person: &str) -> Vec<String> {
    gallery.alikes(&id(person)).into_iter().map(|n: Neighbour| n.person.to_string()).collect()
}

#[tokio::test]
async fn look_alikes_follow_enrolment_removal_and_erasure() {
    let house = furnished().await;
    let gallery = &house.gallery;
    gallery.catch_up(&on()).await.unwrap();
    assert!(alikes(gallery, "anna").is_empty());
    // 8 degrees from Anna: cosine 0.990.
    gallery.create_person(person("twin", &[])).await.unwrap();
    gallery.add_face(face("t1", "twin", [0.9903, 0.1392]), None).await.unwrap();
    gallery.catch_up(&on()).await.unwrap();
    assert_eq!((alikes(gallery, "anna"), alikes(gallery, "twin")), (near("twin"), near("anna")));
    let similarity = gallery.alikes(&id("anna"))[0].similarity;
    assert!((similarity - 0.9903).abs() < 1e-3, "{similarity}");
    // A face to the side of the twin's: as far from Anna as 20 degrees, so 8 degrees stay the nearest.
    gallery.add_face(face("t2", "twin", [0.9397, 0.342]), None).await.unwrap();
    gallery.remove_face(&id("twin"), &id("t1")).await.unwrap();
    gallery.catch_up(&on()).await.unwrap();
    assert!(alikes(gallery, "anna").is_empty() && alikes(gallery, "twin").is_empty());
    gallery.add_face(face("t3", "twin", [0.9903, 0.1392]), None).await.unwrap();
    gallery.catch_up(&on()).await.unwrap();
    assert_eq!(alikes(gallery, "anna"), near("twin"));
    let again = Gallery::open(house.store.clone(), house.index.clone(), id("m"), settings()).await.unwrap();
    again.catch_up(&on()).await.unwrap();
    assert_eq!(alikes(&again, "anna"), near("twin"), "found again after a start");
    gallery.erase_person(&id("twin"), at(3)).await.unwrap();
    assert!(alikes(gallery, "anna").is_empty() && alikes(gallery, "twin").is_empty(), "at once");
}

#[tokio::test]
async fn between_look_alikes_the_lead_must_be_wider_and_a_decision_costs_one_search() {
    let house = furnished().await;
    let gallery = &house.gallery;
    gallery.create_person(person("twin", &[])).await.unwrap();
    gallery.add_face(face("t1", "twin", [0.9903, 0.1392]), None).await.unwrap();
    // 8 degrees to the other side of Anna: she leads the twin by 0.99 - 0.961 = 0.029 … with a margin of 0.02 that is enough,
    let probe = [0.9903, -0.1392];
    let strict = Thresholds { margin: 0.02, ..thresholds() };
    let ask = || async {
        let found = gallery.identify_together(&[embedding(probe)], &[], &strict).await.unwrap().remove(0).0;
        found.known().map(|h| h.person.to_string())
    };
    assert_eq!(ask().await.as_deref(), Some("anna"));
    gallery.catch_up(&on()).await.unwrap();
    // … and between twins it is not.
    assert_eq!(ask().await, None);
    let before = house.index.searches.load(Ordering::SeqCst);
    ask().await;
    assert_eq!(house.index.searches.load(Ordering::SeqCst) - before, 1);
}

#[tokio::test]
async fn a_person_carries_an_own_offset() {
    let house = furnished().await;
    let (gallery, probe) = (&house.gallery, [0.6, -0.8]);
    assert_eq!(house.who(probe, &[]).await.as_deref(), Some("ANNA"), "0.60 reaches 0.42");
    let stricter = Person { threshold_offset: 0.2, revision: 2, ..person("anna", &["staff"]) };
    gallery.update_person(stricter).await.unwrap();
    assert_eq!(house.who(probe, &[]).await, None);
    assert_eq!(house.who([0.28, 0.96], &[]).await.as_deref(), Some("BERTA"));
}
