use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{
    fakes::{House, embedding, face, furnished, id, person},
    *,
};

/// Another node's writes: past the gallery, into its store.
async fn elsewhere(house: &House) -> Vec<GalleryChange> {
    let store = &house.store;
    store.insert_person(&person("carla", &["staff"])).await.unwrap();
    store.insert_face(&face("c1", "carla", [-1.0, 0.0]), None).await.unwrap();
    let mut anna = store.person(&id("anna")).await.unwrap();
    (anna.display_name, anna.revision) = ("RENAMED".into(), 2);
    store.update_person(&anna).await.unwrap();
    store.remove_face(&id("berta"), &id("b1")).await.unwrap();
    vec![
        GalleryChange::Person(id("carla")),
        GalleryChange::FaceAdded { person: id("carla"), face: id("c1") },
        GalleryChange::Person(id("anna")),
        GalleryChange::FaceRemoved { person: id("berta"), face: id("b1") },
    ]
}

#[tokio::test]
async fn what_another_node_enrolled_changed_and_erased_is_taken_over() {
    let house = furnished().await;
    let changes = elsewhere(&house).await;
    assert_eq!(house.who([-1.0, 0.0], &[]).await, None);
    house.gallery.learn_of(changes.clone()).await.unwrap();
    assert_eq!(house.who([-1.0, 0.0], &[]).await.as_deref(), Some("CARLA"));
    assert_eq!(house.who([1.0, 0.0], &["staff"]).await.as_deref(), Some("RENAMED"));
    assert_eq!(house.who([0.0, 1.0], &[]).await, None, "her face is gone");
    let revision = house.gallery.revision();
    let changed = vec![GalleryChange::Person(id("anna")), GalleryChange::Person(id("nobody"))];
    house.gallery.learn_of(changed).await.unwrap();
    assert_eq!(house.gallery.revision(), revision, "nothing was new: nobody looks again");

    house.store.insert_negative(&id("anna"), &embedding([1.0, 0.0])).await.unwrap();
    house.gallery.learn_of(vec![GalleryChange::Negatives(id("anna"))]).await.unwrap();
    assert_eq!(house.who([1.0, 0.0], &[]).await, None, "somebody said that this is not Anna");

    house.store.erase_person(&id("carla"), fakes::at(9)).await.unwrap();
    house.gallery.learn_of(vec![GalleryChange::Person(id("carla"))]).await.unwrap();
    assert_eq!(house.who([-1.0, 0.0], &[]).await, None);
    assert!(house.gallery.person(&id("carla")).is_none());
}

#[tokio::test]
async fn who_lags_compares_everything() {
    let house = furnished().await;
    let changes = elsewhere(&house).await;
    let (sender, receiver) = broadcast::channel(1);
    // Only the last of them is still there when the gallery gets to it.
    changes.into_iter().for_each(|change| drop(sender.send(change)));
    let stop = CancellationToken::new();
    let following = tokio::spawn({
        let (gallery, stop) = (house.gallery.clone(), stop.clone());
        async move { gallery.follow(receiver, stop).await }
    });
    let began = std::time::Instant::now();
    while house.who([-1.0, 0.0], &[]).await.is_none() {
        assert!(began.elapsed().as_secs() < 10, "it was never taken over");
        tokio::task::yield_now().await;
    }
    assert_eq!(house.who([1.0, 0.0], &["staff"]).await.as_deref(), Some("RENAMED"));
    stop.cancel();
    following.await.unwrap();
}
