//! The writer: one task that takes records from a bounded queue and appends them in batches, each on the disk before anybody is answered.
//!
//! A call has its place in the queue before it begins, so its last record is never lost to a full queue: when all places are taken, calls wait.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::{
    sync::{
        mpsc::{self, OwnedPermit},
        oneshot,
    },
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{AuditError, AuditSettings, Entry, Ledger, OnFailure};
use crate::{telemetry, time};

/// Places in the queue: calls that are recorded at one time; more of them wait.
const PLACES: usize = 4096;
/// Records written at once.
const BATCH: usize = 512;
/// Records of what has happened already that wait for the disk to come back; beyond that they are lost and counted.
const HELD: usize = 4096;
/// Between two tries to write what is held.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks for records past their retention.
const EXPIRE: Duration = Duration::from_secs(3600);
/// Refused calls that are recorded singly: one a second, and so many at once; the rest is counted in the next record. Nobody without a token fills the disk.
const REFUSED_AT_ONCE: std::num::NonZeroU32 = std::num::NonZeroU32::MIN.saturating_add(59);

/// A record on its way; whoever waits for it is told.
pub(super) struct Job {
    pub entry: Entry,
    pub done: Option<oneshot::Sender<Result<(), AuditError>>>,
}

struct Inner {
    sender: mpsc::Sender<Job>,
    closing: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
    refused: DefaultDirectRateLimiter,
    left_out: std::sync::atomic::AtomicU64,
    reads: bool,
}

/// The log of a server. Cheap to clone.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

impl Audit {
    /// Opens the log of a data folder, repairs its end, and starts the writer.
    ///
    /// # Errors
    /// When it can't be used and calls that can't be recorded are to be refused.
    pub async fn open(data_dir: &Path, settings: &AuditSettings) -> Result<Self, AuditError> {
        let mut ledger = Ledger::of(data_dir, settings.file_bytes);
        let (opened, ledger) =
            tokio::task::spawn_blocking(move || (ledger.open(), ledger)).await.map_err(|_| AuditError::Closed)?;
        match (opened, settings.on_failure) {
            (Ok(records), _) => tracing::info!(records, "the audit log is open"),
            (Err(error), OnFailure::Refuse) => return Err(error),
            (Err(error), OnFailure::Warn) => {
                tracing::error!(%error, "nothing is recorded in the audit log (audit.on_failure = \"warn\")");
            }
        }
        let (sender, jobs) = mpsc::channel(PLACES);
        let closing = CancellationToken::new();
        let writer = Writer { ledger: Some(ledger), settings: settings.clone(), held: Vec::new(), failing: false };
        let task = tokio::spawn(writer.run(jobs, closing.clone()));
        let refused = RateLimiter::direct(Quota::per_second(std::num::NonZeroU32::MIN).allow_burst(REFUSED_AT_ONCE));
        Ok(Self(Arc::new(Inner {
            sender,
            closing,
            task: Mutex::new(Some(task)),
            refused,
            left_out: Default::default(),
            reads: settings.reads,
        })))
    }

    /// Whether calls that read faces are recorded.
    pub fn records_reads(&self) -> bool {
        self.0.reads
    }

    /// Records a call that was refused before anything was done; when there are many, only their number.
    pub fn refused(&self, mut entry: Entry) {
        use std::sync::atomic::Ordering::Relaxed;
        if self.0.refused.check().is_err() {
            self.0.left_out.fetch_add(1, Relaxed);
            return;
        }
        entry.left_out = self.0.left_out.swap(0, Relaxed);
        if let Err(error) = self.0.sender.try_send(Job { entry, done: None }) {
            let (mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) = error;
            self.0.left_out.fetch_add(1 + job.entry.left_out, Relaxed);
        }
    }

    /// Records something and waits until it is on the disk.
    ///
    /// # Errors
    /// When it can't be written and such calls are to be refused, or the log is closed.
    pub async fn record(&self, entry: Entry) -> Result<(), AuditError> {
        let (done, told) = oneshot::channel();
        self.0.sender.send(Job { entry, done: Some(done) }).await.map_err(|_| AuditError::Closed)?;
        told.await.map_err(|_| AuditError::Closed)?
    }

    /// Records something that has happened, without waiting for the disk.
    pub async fn note(&self, entry: Entry) {
        // A closed log was told about by whoever closed it.
        let _ = self.0.sender.send(Job { entry, done: None }).await;
    }

    /// A place for the last record of a call; waits for one.
    ///
    /// # Errors
    /// When the log is closed.
    pub(super) async fn place(&self) -> Result<OwnedPermit<Job>, AuditError> {
        self.0.sender.clone().reserve_owned().await.map_err(|_| AuditError::Closed)
    }

    /// Writes what is in the queue and ends the writer.
    pub async fn close(&self) {
        self.0.closing.cancel();
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the audit log's writer failed");
        }
    }
}

struct Writer {
    /// `None` only after a panic while writing.
    ledger: Option<Ledger>,
    settings: AuditSettings,
    /// Records of what has happened already that could not be written yet.
    held: Vec<Entry>,
    failing: bool,
}

impl Writer {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>, closing: CancellationToken) {
        let (mut closed, mut expire) = (false, Instant::now());
        loop {
            let retry = if self.held.is_empty() { expire } else { Instant::now() + RETRY };
            let mut batch = Vec::new();
            tokio::select! {
                taken = jobs.recv_many(&mut batch, BATCH) => if taken == 0 { break },
                () = closing.cancelled(), if !closed => {
                    closed = true;
                    jobs.close();
                }
                () = sleep_until(retry.min(expire)) => {}
            }
            self.write(batch).await;
            if Instant::now() >= expire {
                expire = Instant::now() + EXPIRE;
                self.expire().await;
            }
        }
        self.write(Vec::new()).await;
        if !self.held.is_empty() {
            tracing::error!(records = self.held.len(), "records of the audit log are lost");
            telemetry::audit_lost(self.held.len() as u64);
        }
    }

    async fn write(&mut self, batch: Vec<Job>) {
        let entries: Vec<Entry> = self.held.iter().chain(batch.iter().map(|job| &job.entry)).cloned().collect();
        if entries.is_empty() {
            return;
        }
        let (written, entries) = self
            .blocking(move |ledger| (ledger.append(&entries), entries))
            .await
            .unwrap_or_else(|| (Err(AuditError::Closed), Vec::new()));
        match written {
            Ok(()) => {
                telemetry::audit_recorded(entries.len() as u64);
                self.held.clear();
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the audit log is written again");
                }
                batch.into_iter().filter_map(|job| job.done).for_each(|done| drop(done.send(Ok(()))));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let refused = self.settings.on_failure == OnFailure::Refuse;
                    tracing::error!(%error, refused, "the audit log can't be written");
                }
                for job in batch {
                    let refuse = self.settings.on_failure == OnFailure::Refuse;
                    match job.done {
                        // Nothing was done, so there is nothing to record.
                        Some(done) if refuse => drop(done.send(Err(error.clone()))),
                        done => {
                            self.hold(job.entry);
                            done.into_iter().for_each(|done| drop(done.send(Ok(()))));
                        }
                    }
                }
            }
        }
        telemetry::audit_failing(self.failing);
    }

    fn hold(&mut self, entry: Entry) {
        if self.held.len() < HELD {
            self.held.push(entry);
        } else {
            telemetry::audit_lost(1);
        }
    }

    async fn expire(&mut self) {
        let days = self.settings.retention_days;
        let before = time::now().checked_sub(Duration::from_secs(u64::from(days) * 86_400));
        let (true, Ok(before)) = (days > 0, before) else { return };
        match self.blocking(move |ledger| ledger.expire(before)).await {
            Some(Ok(0)) | None => {}
            Some(Ok(files)) => {
                tracing::info!(files, days, "records of the audit log past their retention were removed")
            }
            Some(Err(error)) => tracing::error!(%error, "retention could not remove records of the audit log"),
        }
    }

    async fn blocking<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Ledger) -> T + Send + 'static) -> Option<T> {
        let mut ledger = self.ledger.take()?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&mut ledger);
            (done, ledger)
        });
        let (done, ledger) = done.await.ok()?;
        self.ledger = Some(ledger);
        Some(done)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::access::audit::check::verify;

    fn entry(outcome: &str) -> Entry {
        Entry::local(time::now(), "test", "things/1".into(), outcome)
    }

    #[tokio::test]
    async fn while_the_disk_fails_calls_are_refused_and_what_has_happened_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path(), &AuditSettings::default()).await.unwrap();
        audit.record(entry("BEGUN")).await.unwrap();
        let (folder, aside) = (dir.path().join("audit"), dir.path().join("aside"));
        fs::rename(&folder, &aside).unwrap();
        fs::write(&folder, b"in the way").unwrap();
        audit.note(entry("OK")).await;
        assert!(matches!(audit.record(entry("BEGUN")).await, Err(AuditError::File { .. })));
        fs::remove_file(&folder).unwrap();
        fs::rename(&aside, &folder).unwrap();
        audit.record(entry("BEGUN")).await.unwrap();
        audit.close().await;
        assert_eq!(verify(dir.path()).unwrap().last, 3, "the first, the one that was held, the last");
        assert!(matches!(audit.record(entry("BEGUN")).await, Err(AuditError::Closed)));
    }

    #[tokio::test]
    async fn where_that_is_said_calls_go_on_and_are_recorded_later() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("audit"), b"in the way").unwrap();
        assert!(Audit::open(dir.path(), &AuditSettings::default()).await.is_err());
        let settings = AuditSettings { on_failure: OnFailure::Warn, ..AuditSettings::default() };
        let audit = Audit::open(dir.path(), &settings).await.unwrap();
        audit.record(entry("BEGUN")).await.unwrap();
        fs::remove_file(dir.path().join("audit")).unwrap();
        audit.close().await;
        assert_eq!(verify(dir.path()).unwrap().last, 1);
    }

    #[tokio::test]
    async fn a_flood_of_refused_calls_is_counted_and_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path(), &AuditSettings::default()).await.unwrap();
        for _ in 0..1000 {
            audit.refused(entry("UNAUTHENTICATED"));
        }
        tokio::time::sleep(Duration::from_millis(1100)).await;
        audit.refused(entry("UNAUTHENTICATED"));
        audit.close().await;
        let verified = verify(dir.path()).unwrap();
        assert!((60..70).contains(&verified.last), "{verified:?}");
        let path = dir.path().join("audit").join("audit-000000000001.jsonl");
        let text = fs::read_to_string(path).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert!(last["left_out"].as_u64().unwrap() > 900, "{last}");
    }
}
