//! The records of one call: which resources it names, that it begins, how it ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc::OwnedPermit, oneshot};

use super::{Audit, AuditError, Entry, record::BEGUN, writer::Job};
use crate::time;

/// Resources of a record at most; what is more is told by `…`.
const MOST: usize = 100;

/// What is recorded of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: it looks at what every viewer may see.
    Unrecorded,
    /// It reads faces: one record, on the disk before the answer goes out.
    Read,
    /// It changes something: one record on the disk before the change, one at the end.
    Change,
}

struct Call {
    audit: Audit,
    kind: Kind,
    facts: Entry,
    subjects: Mutex<Vec<String>>,
    /// Place of the last record; taken when it is written.
    place: Mutex<Option<OwnedPermit<Job>>>,
}

/// The records of a call; of one that isn't recorded it does nothing. Dropped without [`Trail::end`] it records that the caller went away.
#[derive(Clone)]
pub struct Trail(Option<Arc<Call>>);

impl Trail {
    /// The trail of a call that isn't recorded.
    pub fn none() -> Self {
        Self(None)
    }

    /// The trail of a call; waits for a place in the queue.
    ///
    /// # Errors
    /// When the log is closed.
    pub async fn of(audit: &Audit, kind: Kind, facts: Entry) -> Result<Self, AuditError> {
        if kind == Kind::Unrecorded || (kind == Kind::Read && !audit.records_reads()) {
            return Ok(Self(None));
        }
        let place = Mutex::new(Some(audit.place().await?));
        Ok(Self(Some(Arc::new(Call { audit: audit.clone(), kind, facts, subjects: Mutex::default(), place }))))
    }

    /// Names a resource that the call is about.
    pub fn names(&self, subject: String) {
        if let Some(call) = &self.0 {
            let mut subjects = call.subjects();
            match subjects.len() {
                n if n < MOST && !subjects.contains(&subject) => subjects.push(subject),
                MOST => subjects.push("…".into()),
                _ => {}
            }
        }
    }

    /// The change begins: what it names is on the disk when this returns.
    ///
    /// # Errors
    /// When that can't be written and such changes are to be refused.
    pub async fn begins(&self) -> Result<(), AuditError> {
        let Some(call) = &self.0 else { return Ok(()) };
        call.audit.record(call.entry(BEGUN)).await
    }

    /// One step of a long change is done: a record of its own, with the resource that it made.
    pub async fn step(&self, subject: String) {
        if let Some(call) = &self.0 {
            let entry = Entry { subjects: vec![subject], ..call.entry("STEP") };
            call.audit.note(entry).await;
        }
    }

    /// The call has ended. The record of one that read faces is on the disk when this returns.
    ///
    /// # Errors
    /// When that can't be written and such calls are to be refused.
    pub async fn end(&self, outcome: &str) -> Result<(), AuditError> {
        let Some((call, place)) = self.taken() else { return Ok(()) };
        let entry = call.entry(outcome);
        if call.kind == Kind::Read {
            let (done, told) = oneshot::channel();
            place.send(Job { entry, done: Some(done) });
            return told.await.map_err(|_| AuditError::Closed)?;
        }
        place.send(Job { entry, done: None });
        Ok(())
    }

    /// The call has ended; nobody waits for the disk.
    pub fn ended(&self, outcome: &str) {
        if let Some((call, place)) = self.taken() {
            place.send(Job { entry: call.entry(outcome), done: None });
        }
    }

    fn taken(&self) -> Option<(&Call, OwnedPermit<Job>)> {
        let call = self.0.as_deref()?;
        call.place.lock().unwrap_or_else(PoisonError::into_inner).take().map(|place| (call, place))
    }
}

impl Call {
    fn subjects(&self) -> MutexGuard<'_, Vec<String>> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, outcome: &str) -> Entry {
        let subjects = self.subjects().clone();
        Entry { time: time::now(), subjects, outcome: outcome.into(), ..self.facts.clone() }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let place = self.place.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(place) = place {
            let entry = self.entry("CANCELLED");
            place.send(Job { entry, done: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::audit::{AuditSettings, check};

    #[tokio::test]
    async fn a_change_is_recorded_before_it_begins_and_at_its_end_whatever_becomes_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path(), &AuditSettings::default()).await.unwrap();
        let facts = Entry::local(time::now(), "S/Change", String::new(), "");
        let trail = Trail::of(&audit, Kind::Change, facts.clone()).await.unwrap();
        trail.names("people/anna".into());
        trail.names("people/anna".into());
        trail.begins().await.unwrap();
        assert_eq!(check::verify(dir.path()).unwrap().last, 1, "it is on the disk before the change");
        trail.step("people/anna/faces/1".into()).await;
        trail.end("OK").await.unwrap();
        drop(trail);
        drop(Trail::of(&audit, Kind::Change, facts.clone()).await.unwrap());
        let read = Trail::of(&audit, Kind::Read, facts.clone()).await.unwrap();
        (0..MOST + 50).for_each(|i| read.names(format!("events/{i}")));
        read.end("OK").await.unwrap();
        assert_eq!(check::verify(dir.path()).unwrap().last, 5, "it is on the disk before the answer");
        drop(Trail::of(&audit, Kind::Unrecorded, facts).await.unwrap());
        audit.close().await;
        let mut told = Vec::new();
        check::lines::<AuditError>(dir.path(), |_, _, line| {
            let entry = crate::access::audit::Record::parse(line).unwrap().entry;
            told.push((entry.outcome, entry.subjects.len(), entry.subjects.first().cloned().unwrap_or_default()));
            Ok(())
        })
        .unwrap();
        let told: Vec<(&str, usize, &str)> = told.iter().map(|(o, n, s)| (o.as_str(), *n, s.as_str())).collect();
        assert_eq!(
            told,
            [
                ("BEGUN", 1, "people/anna"),
                ("STEP", 1, "people/anna/faces/1"),
                ("OK", 1, "people/anna"),
                ("CANCELLED", 0, ""),
                ("OK", MOST + 1, "events/0"),
            ]
        );
    }
}
