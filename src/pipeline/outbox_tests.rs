use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::event::{
    Feedback,
    log::{Bounds, EventQuery},
};

/// A log that can be made to refuse.
#[derive(Default)]
struct Disk {
    written: Mutex<Vec<NewEvent>>,
    full: std::sync::atomic::AtomicBool,
    tries: AtomicUsize,
    /// The reason of an event that is never taken.
    poison: Option<&'static str>,
}

#[async_trait]
impl EventLog for Disk {
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Event>, EventLogError> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        if self.full.load(Ordering::Relaxed) {
            return Err(EventLogError::Unavailable("the disk is full".into()));
        }
        if events.iter().any(|e| Some(e.reason.as_str()) == self.poison) {
            return Err(EventLogError::Storage("no such event may be".into()));
        }
        let mut written = self.written.lock().unwrap();
        let first = written.len() as u64;
        written.extend(events.iter().cloned());
        let told = |(i, body)| Event { position: first + i as u64, has_image: false, feedback: None, body };
        Ok(events.into_iter().enumerate().map(told).collect())
    }
    async fn read_after(&self, _: u64, _: usize) -> Result<Vec<Event>, EventLogError> {
        Ok(Vec::new())
    }
    async fn position_before(&self, _: Timestamp) -> Result<u64, EventLogError> {
        Ok(0)
    }
    async fn bounds(&self) -> Result<Bounds, EventLogError> {
        Ok(Bounds::default())
    }
    async fn get(&self, id: &EventId) -> Result<Event, EventLogError> {
        Err(EventLogError::NotFound(id.clone()))
    }
    async fn image(&self, id: &EventId) -> Result<Bytes, EventLogError> {
        Err(EventLogError::NotFound(id.clone()))
    }
    async fn list(&self, _: &EventQuery) -> Result<Vec<Event>, EventLogError> {
        Ok(Vec::new())
    }
    async fn set_feedback(&self, id: &EventId, _: Feedback) -> Result<Event, EventLogError> {
        Err(EventLogError::NotFound(id.clone()))
    }
    async fn remove_before(&self, _: Timestamp) -> Result<u64, EventLogError> {
        Ok(0)
    }
    async fn remove_pictures_before(&self, _: Timestamp) -> Result<u64, EventLogError> {
        Ok(0)
    }
    fn latest(&self) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }
    fn log_id(&self) -> &str {
        "log"
    }
}

const ROOMY: OutboxLimits = OutboxLimits { events: 1000, picture_bytes: 1 << 20 };

fn event(camera: &str, reason: impl Into<String>) -> NewEvent {
    let id = camera.parse().unwrap();
    let bare = NewEvent::new(EventId::generate(), EventKind::Appeared, id, BTreeMap::new(), time::now());
    NewEvent { reason: reason.into(), image: Some(Bytes::from_static(&[7; 100])), ..bare }
}

fn reasons(disk: &Disk) -> Vec<String> {
    disk.written.lock().unwrap().iter().map(|e| e.reason.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn while_the_disk_is_full_events_wait_and_are_written_in_order_once_it_is_not() {
    let disk = Arc::new(Disk::default());
    let outbox = Outbox::new(disk.clone(), ROOMY);
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (outbox, stop) = (outbox.clone(), stop.clone());
        async move { outbox.run(stop).await }
    });
    outbox.write(vec![event("a", "0")]).await;
    assert_eq!(reasons(&disk), ["0"], "at once");
    disk.full.store(true, Ordering::Relaxed);
    for i in 1..=200 {
        outbox.write(vec![event(if i % 2 == 0 { "a" } else { "b" }, i.to_string())]).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((outbox.waiting(), reasons(&disk).len()), (200, 1));
    assert!(disk.tries.load(Ordering::Relaxed) < 400, "a full disk is not hammered");
    assert!(outbox.trouble().borrow().as_deref().is_some_and(|why| why.contains("full")));
    disk.full.store(false, Ordering::Relaxed);
    tokio::time::sleep(LONGEST + FIRST).await;
    let expected: Vec<String> = (0..=200).map(|i| i.to_string()).collect();
    assert_eq!(reasons(&disk), expected);
    assert_eq!((outbox.waiting(), outbox.trouble().borrow().clone()), (0, None));
    assert!(disk.written.lock().unwrap().iter().all(|e| e.image.is_some()), "pictures wait, too");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_old_pictures_go_then_events_and_how_many_is_told() {
    let disk = Arc::new(Disk::default());
    let outbox = Outbox::new(disk.clone(), OutboxLimits { events: 10, picture_bytes: 350 });
    disk.full.store(true, Ordering::Relaxed);
    for i in 0..14 {
        outbox.write(vec![event(if i < 12 { "a" } else { "b" }, i.to_string())]).await;
    }
    assert_eq!(outbox.waiting(), 10);
    disk.full.store(false, Ordering::Relaxed);
    outbox.drain().await;
    let written = disk.written.lock().unwrap();
    let pictures: Vec<bool> = written.iter().take(10).map(|e| e.image.is_some()).collect();
    assert_eq!(pictures, [false, false, false, false, false, false, false, true, true, true]);
    let told: Vec<(&str, bool)> =
        written[10..].iter().map(|e| (e.camera.as_str(), e.reason.starts_with("2 events"))).collect();
    assert_eq!(told, [("a", true), ("b", true)]);
    assert!(written[10..].iter().all(|e| e.kind == EventKind::CameraState));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_can_never_be_written_does_not_hold_up_the_others() {
    let disk = Arc::new(Disk { poison: Some("bad"), ..Disk::default() });
    let outbox = Outbox::new(disk.clone(), ROOMY);
    disk.full.store(true, Ordering::Relaxed);
    for reason in ["1", "bad", "2"] {
        outbox.write(vec![event("a", reason)]).await;
    }
    disk.full.store(false, Ordering::Relaxed);
    // Twice at once: nothing is written twice.
    tokio::join!(outbox.drain(), outbox.drain());
    assert_eq!(reasons(&disk), ["1", "2"]);
}

#[tokio::test]
async fn events_of_a_camera_that_is_held_are_told_once_it_is_released_and_never_when_discarded() {
    let disk = Arc::new(Disk::default());
    let outbox = Outbox::new(disk.clone(), ROOMY);
    let (a, b): (CameraId, CameraId) = ("a".parse().unwrap(), "b".parse().unwrap());
    outbox.hold(&a);
    outbox.hold(&b);
    for i in 0..HELD + 2 {
        outbox.write(vec![event("a", format!("a{i}"))]).await;
    }
    outbox.write(vec![event("b", "b0"), event("c", "c0")]).await;
    assert_eq!(reasons(&disk), ["c0"], "others are told at once");
    outbox.discard(&b);
    outbox.release(&a).await;
    outbox.write(vec![event("b", "b1")]).await;
    let told = reasons(&disk);
    assert_eq!((told.len(), told[1].as_str()), (HELD + 2, "a2"), "the oldest went, the order stays");
    assert_eq!(told.last().unwrap(), "b1");
}
