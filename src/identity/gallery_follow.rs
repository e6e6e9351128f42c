//! The gallery follows a store that others write to as well: memory and index take over what another node enrolled, changed or erased.
//!
//! A node hears of its own changes, too; taking over what is there already does nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{PoisonError, atomic::Ordering},
};

use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::{Gallery, Inner};
use crate::{
    identity::GalleryError,
    ids::{FaceId, PersonId},
};

/// Changes taken together at most.
const MOST: usize = 1024;
/// After a failure of store or index.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Something that the gallery's store holds was changed; the store has it already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GalleryChange {
    /// A person was added, changed or erased.
    Person(PersonId),
    /// A face was added.
    FaceAdded {
        /// Whose.
        person: PersonId,
        /// Which.
        face: FaceId,
    },
    /// A face was removed.
    FaceRemoved {
        /// Whose it was.
        person: PersonId,
        /// Which.
        face: FaceId,
    },
    /// What is said not to be a person was changed.
    Negatives(PersonId),
    /// A calibration was changed.
    Calibration,
}

/// What changed about a person.
#[derive(Debug, Default)]
struct News {
    added: BTreeSet<FaceId>,
    removed: BTreeSet<FaceId>,
    negatives: bool,
}

impl Gallery {
    /// Takes over changes that others make, until `stop` or the end of the changes. Where some were missed, or could not be taken over, the whole
    /// gallery is compared with the store.
    pub async fn follow(&self, mut changes: broadcast::Receiver<GalleryChange>, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return,
                first = changes.recv() => first,
            };
            let taken = match first {
                Ok(first) => {
                    let mut together = vec![first];
                    while together.len() < MOST
                        && let Ok(more) = changes.try_recv()
                    {
                        together.push(more);
                    }
                    self.learn_of(together).await
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "changes of the gallery were missed; all of it is compared with the store");
                    self.compare().await
                }
                Err(RecvError::Closed) => return,
            };
            let mut taken = taken;
            while let Err(error) = taken {
                tracing::warn!(%error, "changes of the gallery could not be taken over; all of it is compared again");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
                taken = self.compare().await;
            }
        }
    }

    /// Makes memory and index hold what the store holds.
    ///
    /// # Errors
    /// When store or index fails.
    pub async fn compare(&self) -> Result<(), GalleryError> {
        let inner = &self.inner;
        let _turn = inner.turn().await?;
        inner.unlearn();
        inner.in_use().read_calibration(&*inner.store).await?;
        inner.repair().await?;
        inner.settled();
        Ok(())
    }

    /// Takes over changes that the store has already.
    ///
    /// # Errors
    /// When store or index fails; [`Gallery::compare`] makes it good.
    pub async fn learn_of(&self, changes: Vec<GalleryChange>) -> Result<(), GalleryError> {
        let inner = &self.inner;
        let (mut people, mut calibration) = (BTreeMap::<PersonId, News>::new(), false);
        for change in changes {
            match change {
                GalleryChange::Person(person) => drop(people.entry(person).or_default()),
                GalleryChange::FaceAdded { person, face } => {
                    let news = people.entry(person).or_default();
                    news.removed.remove(&face);
                    news.added.insert(face);
                }
                GalleryChange::FaceRemoved { person, face } => {
                    let news = people.entry(person).or_default();
                    news.added.remove(&face);
                    news.removed.insert(face);
                }
                GalleryChange::Negatives(person) => people.entry(person).or_default().negatives = true,
                GalleryChange::Calibration => calibration = true,
            }
        }
        let _turn = inner.turn().await?;
        if calibration {
            inner.in_use().read_calibration(&*inner.store).await?;
        }
        let mut changed = calibration;
        for (person, news) in people {
            changed |= inner.learn_of(&person, news).await?;
        }
        inner.unsettled.store(false, Ordering::Release);
        if changed {
            inner.settled();
        }
        Ok(())
    }
}

impl Inner {
    /// Takes over what is new about a person; whether anything was.
    async fn learn_of(&self, id: &PersonId, news: News) -> Result<bool, GalleryError> {
        let known = self.people.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        let person = match self.store.person(id).await {
            Ok(person) => person,
            Err(GalleryError::PersonNotFound(_)) if known.is_none() => return Ok(false),
            Err(GalleryError::PersonNotFound(_)) => return self.forget(id).await.map(|()| true),
            Err(error) => return Err(error),
        };
        let mut changed = known.as_deref() != Some(&person);
        if changed {
            let mut people = self.people.write().unwrap_or_else(PoisonError::into_inner);
            people.insert(id.clone(), person.into());
        }
        let side = self.in_use();
        if news.negatives {
            let of_person = self.store.negatives(&side.model).await?.into_iter().filter(|(p, _)| p == id);
            let of_person = of_person.map(|(_, probe)| probe).collect();
            side.negatives.write().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), of_person);
            changed = true;
        }
        if !(news.added.is_empty() && news.removed.is_empty()) {
            for face in &news.removed {
                side.index.remove_face(face).await?;
            }
            let mut faces = self.store.faces(id).await?;
            faces.retain(|face| news.added.contains(&face.id) && face.embedding.model == side.model);
            if !faces.is_empty() {
                side.index.upsert(&faces).await?;
            }
            side.count(self.store.counts().await?.1);
            self.faces_changed([id.clone()]);
            changed = true;
        }
        Ok(changed)
    }

    /// The person was erased elsewhere: nobody is recognised as them from here on.
    async fn forget(&self, id: &PersonId) -> Result<(), GalleryError> {
        self.unlearn();
        self.people.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        for side in self.all_sides() {
            side.index.remove_person(id).await?;
            side.negatives.write().unwrap_or_else(PoisonError::into_inner).remove(id);
            side.alike.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
        let side = self.in_use();
        side.count(self.store.counts().await?.1);
        self.faces_changed([]);
        Ok(())
    }
}
