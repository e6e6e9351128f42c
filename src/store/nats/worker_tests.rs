//! A node whose replica holds no events, as that of a worker does.

use tempfile::tempdir;

use super::{
    Holds,
    server::NatsServer,
    tests::{take, told, until},
};
use crate::{
    event::{EventKind, EventLog, EventLogError},
    identity::{GalleryError, GalleryStore, Person},
    store::sqlite::tests::{anna, event, recognized},
    time::now,
};

#[tokio::test]
async fn a_worker_writes_events_and_keeps_none() {
    let server = NatsServer::start();
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let (a, b) = (server.node("a", one.path()).await, server.holding("b", two.path(), Holds::AllButEvents).await);
    let anna = Person { created: now(), ..anna() };
    a.insert_person(&anna).await.unwrap();
    until("the worker knows her", async || b.person(&anna.id).await.is_ok()).await;
    take(&b).await;
    let written = b.append(vec![event(EventKind::Appeared), recognized(&anna)]).await.unwrap();
    until("the gateway has them", async || *a.latest().borrow() == written[1].position).await;
    b.probe().await.unwrap();
    assert_eq!(b.replica().bounds().await.unwrap().latest, 0, "they are in the worker's replica");
    assert!(matches!(b.read_after(0, 10).await, Err(EventLogError::Elsewhere)));
    assert!(matches!(EventLog::get(&*b, &written[0].body.id).await, Err(EventLogError::Elsewhere)));
    assert!(matches!(b.image(&written[1].body.id).await, Err(EventLogError::Elsewhere)));
    assert_eq!(b.remove_before(now()).await.unwrap(), 0);

    // It could not tell which events name her; what it is told it does, and names her no more.
    assert!(matches!(b.erase_person(&anna.id, now()).await, Err(GalleryError::Elsewhere)));
    b.resume().await.unwrap();
    a.erase_person(&anna.id, now()).await.unwrap();
    until("the worker knows her no more", async || b.person(&anna.id).await.is_err()).await;
    let late = b.append(vec![recognized(&anna)]).await.unwrap()[0].position;
    until("the gateway has it", async || *a.latest().borrow() == late).await;
    assert!(!told(&a).await.contains("anna"));
    a.close().await;
    b.close().await;
    drop(b);
    // As a gateway it reads them.
    let b = server.node("b", two.path()).await;
    assert_eq!(*b.latest().borrow(), late);
    assert!(!told(&b).await.contains("anna"));
    b.close().await;
}
