//! The event log.

use crate::{
    event::{Event, EventFilter, EventKind, EventLog, EventLogError, Feedback, log::EventQuery},
    ids::EventId,
    store::sqlite::tests::{event, recognized},
    time::now,
};

fn positions(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.position).collect()
}

/// Runs the suite on a log that takes events of the camera `door` and names nobody that exists.
pub(in crate::store) async fn events(log: &dyn EventLog) {
    let base = log.bounds().await.unwrap().latest;
    assert_eq!(*log.latest().borrow(), base);
    let sent = [event(EventKind::Appeared), event(EventKind::Unknown), event(EventKind::Left)];
    let mut sent = sent.to_vec();
    sent[1].image = Some(bytes::Bytes::from_static(b"a picture"));
    sent[1].template = Some(vec![0.5, 1.5]);
    let written = log.append(sent.clone()).await.unwrap();
    assert_eq!(positions(&written), [base + 1, base + 2, base + 3], "in order and without holes");
    assert_eq!(*log.latest().borrow(), base + 3, "subscribers are woken");
    let read = log.read_after(base, 10).await.unwrap();
    assert_eq!(positions(&read), [base + 1, base + 2, base + 3]);
    assert!(read.iter().zip(&sent).all(|(r, s)| r.body.id == s.id && r.body.kind == s.kind && r.body.image.is_none()));
    // A cursor goes on where it was.
    assert_eq!(positions(&log.read_after(base + 1, 1).await.unwrap()), [base + 2]);
    assert!(log.read_after(base + 3, 9).await.unwrap().is_empty());

    let one = log.get(&sent[1].id).await.unwrap();
    assert!(one.has_image && one.body.template.as_deref() == Some(&[0.5, 1.5]));
    assert_eq!(&log.image(&sent[1].id).await.unwrap()[..], b"a picture");
    assert!(matches!(log.image(&sent[0].id).await, Err(EventLogError::NoImage(_))));
    let unknown = EventId::generate();
    assert!(matches!(log.image(&unknown).await, Err(EventLogError::NotFound(_))));
    assert!(matches!(log.get(&unknown).await, Err(EventLogError::NotFound(_))));
    assert!(matches!(log.set_feedback(&unknown, Feedback::Right).await, Err(EventLogError::NotFound(_))));

    let judged = log.set_feedback(&sent[1].id, Feedback::Wrong).await.unwrap();
    assert_eq!((judged.position, judged.feedback, judged.has_image), (base + 2, Some(Feedback::Wrong), true));
    let judged = log.set_feedback(&sent[1].id, Feedback::Right).await.unwrap();
    assert_eq!(judged.feedback, Some(Feedback::Right), "the last word counts");
    assert_eq!(log.read_after(base + 1, 1).await.unwrap()[0].feedback, Some(Feedback::Right));

    let query = |kinds: &[EventKind], below| EventQuery {
        filter: EventFilter { kinds: kinds.to_vec(), ..Default::default() },
        from: Some(sent[0].created),
        below,
        limit: 10,
        ..Default::default()
    };
    let listed = log.list(&query(&[], None)).await.unwrap();
    assert_eq!(positions(&listed), [base + 3, base + 2, base + 1], "newest first");
    assert_eq!(positions(&log.list(&query(&[EventKind::Unknown], None)).await.unwrap()), [base + 2]);
    assert_eq!(positions(&log.list(&query(&[], Some(base + 2))).await.unwrap()), [base + 1]);
    assert_eq!(log.position_before(sent[0].created).await.unwrap(), base);
    assert_eq!(log.position_before(now()).await.unwrap(), base + 3);

    // Whoever is named and does not exist was erased between the decision and the writing.
    let gone = recognized(&crate::store::sqlite::tests::anna());
    let written = log.append(vec![gone.clone()]).await.unwrap();
    assert!(!written[0].has_image && written[0].body.template.is_none());
    let kept = log.get(&gone.id).await.unwrap();
    assert!(kept.body.matched.unwrap().person.is_none() && !kept.has_image);
}

/// Runs the suite of retention on the same log.
pub(in crate::store) async fn retention(log: &dyn EventLog) {
    let mut old = event(EventKind::Unknown);
    old.image = Some(bytes::Bytes::from_static(b"an old picture"));
    log.append(vec![old.clone()]).await.unwrap();
    log.set_feedback(&old.id, Feedback::Right).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let between = now();
    let mut new = event(EventKind::Unknown);
    new.image = Some(bytes::Bytes::from_static(b"a new picture"));
    let position = log.append(vec![new.clone()]).await.unwrap()[0].position;

    assert!(log.remove_pictures_before(between).await.unwrap() >= 1);
    assert!(matches!(log.image(&old.id).await, Err(EventLogError::NoImage(_))));
    assert!(!log.get(&old.id).await.unwrap().has_image);
    assert_eq!(&log.image(&new.id).await.unwrap()[..], b"a new picture");
    assert_eq!(log.remove_pictures_before(between).await.unwrap(), 0);

    let before = log.bounds().await.unwrap();
    assert_eq!(log.remove_before(between).await.unwrap(), position - before.oldest);
    assert_eq!(log.remove_before(between).await.unwrap(), 0);
    assert!(matches!(log.get(&old.id).await, Err(EventLogError::NotFound(_))));
    let bounds = log.bounds().await.unwrap();
    assert_eq!((bounds.oldest, bounds.latest), (position, position));
    assert_eq!(&log.image(&new.id).await.unwrap()[..], b"a new picture");
    assert!(log.remove_before(now()).await.unwrap() >= 1);
    let bounds = log.bounds().await.unwrap();
    assert_eq!(
        (bounds.oldest, bounds.latest),
        (position + 1, position),
        "all are gone, and positions are not given twice"
    );
    let next = log.append(vec![event(EventKind::Left)]).await.unwrap();
    assert_eq!(next[0].position, position + 1);
}
