//! Cameras.

use crate::{
    camera::{CameraSpec, CameraStore, CameraStoreError},
    store::sqlite::tests::camera,
};

/// Runs the suite on a store without cameras, and leaves none.
pub(in crate::store) async fn cameras(store: &dyn CameraStore) {
    assert!(store.list().await.unwrap().is_empty());
    let (door, gate) = (camera("door"), camera("gate"));
    store.insert(&gate).await.unwrap();
    store.insert(&door).await.unwrap();
    assert_eq!(store.list().await.unwrap(), [door.clone(), gate.clone()], "by id, passwords included");
    assert!(matches!(store.insert(&door).await, Err(CameraStoreError::AlreadyExists(id)) if id == door.id));
    let changed = CameraSpec { display_name: "Back door".into(), revision: 2, ..door.clone() };
    store.update(&changed).await.unwrap();
    assert!(matches!(store.update(&changed).await, Err(CameraStoreError::Conflict(_))), "a revision counts once");
    let ahead = CameraSpec { revision: 4, ..changed.clone() };
    assert!(matches!(store.update(&ahead).await, Err(CameraStoreError::Conflict(_))));
    assert!(matches!(store.update(&camera("lobby")).await, Err(CameraStoreError::NotFound(_))));
    assert_eq!(store.list().await.unwrap(), [changed, gate.clone()]);
    store.remove(&door.id).await.unwrap();
    assert!(matches!(store.remove(&door.id).await, Err(CameraStoreError::NotFound(_))));
    // The id is free again, and revisions begin anew.
    store.insert(&door).await.unwrap();
    store.update(&CameraSpec { revision: 2, ..door.clone() }).await.unwrap();
    store.remove(&door.id).await.unwrap();
    store.remove(&gate.id).await.unwrap();
    assert!(store.list().await.unwrap().is_empty());
}
