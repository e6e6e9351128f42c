//! The gallery learns its own threshold, keeps it beside the people, and uses it.

use std::sync::PoisonError;

use super::{Gallery, Side};
use crate::{
    face::Embedding,
    identity::{Calibration, GalleryError, calibration::Threshold, impostors},
    ids::ModelId,
    time::Timestamp,
};

/// What a calibration found.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrated {
    /// What was learned.
    pub calibration: Calibration,
    /// The threshold at the present size of the gallery.
    pub threshold: Threshold,
    /// Share of enrolled faces, each looked up without itself, that miss their person at the threshold; `None` without people with
    /// several faces.
    pub fnir: Option<f32>,
    /// The same at the best estimate.
    pub fnir_best: Option<f32>,
    /// Faces that the two shares rest on.
    pub mates: usize,
}

impl Gallery {
    /// Learns the threshold that keeps `fpir` (above 0 and below 1) from the gallery and faces of strangers. With `keep` it is used from
    /// now on, and follows the size of the gallery.
    ///
    /// # Errors
    /// When there is too little to learn from, a stranger's embedding is of another model, or the store fails.
    pub async fn calibrate(
        &self,
        fpir: f64,
        strangers: Vec<Embedding>,
        keep: bool,
        now: Timestamp,
    ) -> Result<Calibrated, GalleryError> {
        let (inner, side) = (&self.inner, self.inner.in_use());
        strangers.iter().try_for_each(|e| side.check_model(e))?;
        let faces = inner.store.all_faces(&side.model).await?;
        let compared = tokio::task::spawn_blocking(move || impostors::compare(&faces, &strangers))
            .await
            .map_err(|e| GalleryError::Storage(e.to_string()))?;
        let calibration = Calibration::learn(fpir, &compared.comparisons, compared.people, now)?;
        let threshold = calibration.threshold(compared.people);
        let (fnir, fnir_best) = (compared.fnir(threshold.cautious), compared.fnir(threshold.best));
        if keep {
            self.keep_calibration(&side, Some(calibration.clone())).await?;
        }
        Ok(Calibrated { calibration, threshold, fnir, fnir_best, mates: compared.mates.len() })
    }

    /// Forgets what was learned: the model's own threshold counts again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_calibration(&self) -> Result<(), GalleryError> {
        self.keep_calibration(&self.inner.in_use(), None).await
    }

    async fn keep_calibration(&self, side: &Side, calibration: Option<Calibration>) -> Result<(), GalleryError> {
        self.inner.store.set_calibration(&side.model, calibration.as_ref()).await?;
        *side.calibration.write().unwrap_or_else(PoisonError::into_inner) = calibration;
        Ok(())
    }

    /// What was learned about the model in use, with the threshold that keeps its promise at the gallery's present size.
    pub fn calibration(&self) -> Option<(Calibration, Threshold)> {
        self.calibrated(&self.inner.in_use())
    }

    /// The same for a model, which may be on its way out; `None` for models that are not searched.
    pub fn calibration_of(&self, model: &ModelId) -> Option<(Calibration, Threshold)> {
        self.calibrated(self.inner.all_sides().iter().find(|side| side.model == *model)?)
    }

    fn calibrated(&self, side: &Side) -> Option<(Calibration, Threshold)> {
        let people = self.inner.people.read().unwrap_or_else(PoisonError::into_inner).len();
        let kept = side.calibration.read().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map(|c| (c.clone(), c.threshold(people)))
    }
}
