//! The gallery moves to another model: the new model's index is filled beside the old one, then takes its place in one step.
//!
//! Questions name their model by their embeddings, so one that was begun with the old model is answered by the old model's index until
//! [`Gallery::retire`]. Removals reach every index from the moment it joins.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use super::{Gallery, Side, side::CHUNK};
use crate::{
    identity::{AlikeRange, EmbeddingStore, GalleryError, VectorIndex},
    ids::{FaceId, ModelId},
    telemetry,
};

impl Gallery {
    /// Takes in the index of another model, which is emptied first: whatever it holds may be out of date. `alike` says who will be said to
    /// look alike with it.
    ///
    /// # Errors
    /// When a move is under way, the model is in use, or the index fails.
    pub async fn join(
        &self,
        model: ModelId,
        index: Arc<dyn VectorIndex>,
        alike: Option<AlikeRange>,
    ) -> Result<(), GalleryError> {
        let inner = &self.inner;
        let _turn = inner.turn().await?;
        let free = {
            let sides = inner.sides();
            sides.joining.is_none() && sides.leaving.is_none() && sides.in_use.model != model
        };
        if !free {
            let text = "the gallery moves already, or the model is in use; wait a moment and try again";
            return Err(inner.refused(GalleryError::Moving(text.into())));
        }
        index.clear().await?;
        let side = Arc::new(Side::new(model, index, alike));
        inner.sides.write().unwrap_or_else(PoisonError::into_inner).joining = Some(side);
        inner.unsettled.store(false, Ordering::Release);
        Ok(())
    }

    /// Fills the joining model's index from the store, a chunk at a time so that changes get their turn. `told` hears how many faces
    /// are done and says whether to go on. What is enrolled meanwhile is taken in by [`Self::take_over`].
    ///
    /// # Errors
    /// When no model joins, or store or index fails.
    pub async fn fill(&self, store: &dyn EmbeddingStore, told: impl Fn(u64) -> bool) -> Result<(), GalleryError> {
        let (mut after, mut done): (Option<FaceId>, u64) = (None, 0);
        loop {
            let _turn = self.inner.turn().await?;
            let side = self.joining()?;
            let page = store.embedded(&side.model, after.as_ref(), CHUNK).await?;
            let Some(last) = page.last() else {
                self.inner.unsettled.store(false, Ordering::Release);
                return Ok(());
            };
            after = Some(last.id.clone());
            side.index.upsert(&page).await?;
            done += page.len() as u64;
            self.inner.unsettled.store(false, Ordering::Release);
            if !told(done) {
                return Ok(());
            }
        }
    }

    /// The joining model takes over: its index is brought in line with the store and compared with it, `commit` keeps the choice, and
    /// from then on it is searched. `last` runs before that while nobody changes the gallery: it embeds what was enrolled at the last
    /// moment. `switched` runs when it is done, still before anybody can change the gallery. The old model answers what was begun with it until [`Self::retire`].
    ///
    /// # Errors
    /// When no model joins, the index does not hold what the store holds, or store, index, `last` or `commit` fails; then nothing has changed.
    pub async fn take_over<E: From<GalleryError>>(
        &self,
        last: impl Future<Output = Result<(), E>>,
        commit: impl Future<Output = Result<(), GalleryError>>,
        switched: impl FnOnce(),
    ) -> Result<(), E> {
        let inner = &self.inner;
        let _turn = inner.turn().await?;
        let side = self.joining()?;
        last.await?;
        let state = side.repair(&*inner.store).await?;
        side.read_calibration(&*inner.store).await?;
        side.learn(inner.kept_classifier(&side, &state).await?);
        let (wanted, found) = (side.faces.load(Ordering::Relaxed), side.index.face_ids().await?.len() as u64);
        if wanted != found {
            let text = format!("the index of {} holds {found} faces instead of {wanted}; try again", side.model);
            return Err(GalleryError::Storage(text).into());
        }
        commit.await?;
        {
            let mut sides = inner.sides.write().unwrap_or_else(PoisonError::into_inner);
            sides.leaving = Some(std::mem::replace(&mut sides.in_use, side));
            sides.joining = None;
        }
        switched();
        // Look-alikes and classifier are another model's matter now.
        inner.faces_changed(inner.all_to_look_at(&inner.in_use()));
        telemetry::gallery_faces(wanted);
        inner.settled();
        Ok(())
    }

    /// The model that was in use before answers nobody any more; its index is emptied. Embeddings in the store stay.
    ///
    /// # Errors
    /// When the index fails; then it can be repeated.
    pub async fn retire(&self) -> Result<(), GalleryError> {
        let _turn = self.inner.turn().await?;
        let side = self.inner.sides().leaving.clone();
        if let Some(side) = side {
            // Removals must reach the index until it is empty.
            side.index.clear().await?;
            self.inner.sides.write().unwrap_or_else(PoisonError::into_inner).leaving = None;
        }
        self.inner.unsettled.store(false, Ordering::Release);
        Ok(())
    }

    /// The joining model does not take over after all; its index is emptied.
    ///
    /// # Errors
    /// When the index fails; then it can be repeated.
    pub async fn turn_away(&self) -> Result<(), GalleryError> {
        let _turn = self.inner.turn().await?;
        let side = self.inner.sides().joining.clone();
        if let Some(side) = side {
            // Removals must reach the index until it is empty.
            side.index.clear().await?;
            self.inner.sides.write().unwrap_or_else(PoisonError::into_inner).joining = None;
        }
        self.inner.unsettled.store(false, Ordering::Release);
        Ok(())
    }

    fn joining(&self) -> Result<Arc<Side>, GalleryError> {
        self.inner.sides().joining.clone().ok_or_else(|| GalleryError::Moving("no model joins the gallery".into()))
    }
}
