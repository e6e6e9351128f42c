//! The gallery notices people who look alike: after each change the faces of those who changed are searched for in the rest.
//!
//! Never while somebody waits for a decision: [`Gallery::look_for_alikes`] runs in the task that tends the gallery, one person after the other.

use std::{collections::BTreeMap, sync::PoisonError};

use tokio_util::sync::CancellationToken;

use super::{Gallery, Inner, side::Side};
use crate::{
    identity::{EnrolledFace, GalleryError, SearchQuery, alike::Neighbour},
    ids::PersonId,
};

/// Faces of a person that are searched for: the best.
const FACES_EACH: usize = 8;
/// Neighbours that a search brings, the person itself among them.
const NEAREST: usize = 9;
/// With more enrolled faces not everybody is looked at when the gallery is opened, only those who change.
const ALL_UP_TO: usize = 20_000;

impl Gallery {
    /// Whom a person looks like, nearest first; people whose nearest enrolled faces are as similar as [`super::AlikeRange::from`].
    pub fn alikes(&self, person: &PersonId) -> Vec<Neighbour> {
        self.inner.in_use().alike.read().unwrap_or_else(PoisonError::into_inner).of(person)
    }

    /// Looks for the look-alikes of everybody who changed since.
    ///
    /// # Errors
    /// When store or index fails; who is left is looked at next time.
    pub(super) async fn look_for_alikes(&self, stop: &CancellationToken) -> Result<(), GalleryError> {
        let inner = &self.inner;
        loop {
            let side = inner.in_use();
            let Some(range) = side.range else { return Ok(()) };
            let person = side.unlooked.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            let Some(person) = person.filter(|_| !stop.is_cancelled()) else { return Ok(()) };
            match self.neighbours(&side, &person, range.from).await {
                Ok(found) => inner.resemble(&side, &person, found),
                Err(GalleryError::PersonNotFound(_)) => inner.resemble(&side, &person, Vec::new()),
                Err(error) => {
                    side.unlooked.lock().unwrap_or_else(PoisonError::into_inner).insert(person);
                    return Err(error);
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn neighbours(&self, side: &Side, person: &PersonId, from: f32) -> Result<Vec<Neighbour>, GalleryError> {
        let inner = &self.inner;
        let mut faces: Vec<EnrolledFace> = inner.store.faces(person).await?;
        faces.retain(|f| f.embedding.model == side.model);
        faces.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        let mut found: BTreeMap<PersonId, f32> = BTreeMap::new();
        for face in faces.iter().take(FACES_EACH) {
            let query = SearchQuery { limit: NEAREST, people: None };
            for hit in side.index.search(&face.embedding, &query).await? {
                if hit.person != *person && hit.similarity >= from {
                    let best = found.entry(hit.person).or_insert(hit.similarity);
                    *best = best.max(hit.similarity);
                }
            }
        }
        Ok(found.into_iter().map(|(person, similarity)| Neighbour { person, similarity }).collect())
    }
}

impl Inner {
    /// Keeps whom a person looks like. Somebody erased meanwhile does not come back: an erasure takes the person from `people` first and
    /// from `alike` after it.
    fn resemble(&self, side: &Side, person: &PersonId, mut found: Vec<Neighbour>) {
        let mut alike = side.alike.write().unwrap_or_else(PoisonError::into_inner);
        let people = self.people.read().unwrap_or_else(PoisonError::into_inner);
        found.retain(|n| people.contains_key(&n.person));
        match people.contains_key(person) {
            true => alike.replace(person, found),
            false => alike.remove(person),
        }
    }

    /// Everybody, unless that would take too long.
    pub(super) fn all_to_look_at(&self, side: &Side) -> Vec<PersonId> {
        let faces = side.faces.load(std::sync::atomic::Ordering::Relaxed);
        if side.range.is_none() {
            return Vec::new();
        }
        if faces > ALL_UP_TO as u64 {
            tracing::warn!(
                faces,
                "too many faces to look for look-alikes of everybody; only people who change are looked at"
            );
            return Vec::new();
        }
        self.people.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}
