//! Which similarity is enough: the settings of a site, and what counts when several say something.

use serde::{Deserialize, Serialize};

use crate::{
    face::FaceEngine,
    identity::{Gallery, Route, ThresholdSource, Thresholds},
    ids::ModelId,
    inference::manifest::Calibration,
    track::Least,
};

/// Least frontality, 0 to 1, of faces that are enrolled and compared unless the settings say otherwise: a gallery without profiles says nothing
/// about one.
pub(super) const MIN_FRONTALITY: f32 = 0.12;

/// What decides who it is: section `[identity]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySettings {
    /// Least similarity for 1:N; `None` takes the one learned by calibration, or the model's.
    pub identification_threshold: Option<f32>,
    /// Least similarity for 1:1; `None` takes the model's.
    pub verification_threshold: Option<f32>,
    /// Least lead over the second best person; `None` takes the model's.
    pub margin: Option<f32>,
    /// Least frontality, 0 to 1, of a face that is compared with anybody; 0 compares profiles too.
    pub min_frontality: f32,
    /// What chooses among the people who are near enough: `similarity` or `classifier`.
    pub decision: Route,
    /// Lead in probability, 0 to 1, with which the classifier is sure and the margin is waived; `None` takes 0.5.
    pub classifier_lead: Option<f32>,
    /// The model that these values are meant for, `models.embedder`: with another one in use they say nothing. `None` means any.
    #[serde(skip)]
    pub model: Option<ModelId>,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self {
            identification_threshold: None,
            verification_threshold: None,
            margin: None,
            min_frontality: MIN_FRONTALITY,
            decision: Route::default(),
            classifier_lead: None,
            model: None,
        }
    }
}

impl IdentitySettings {
    /// The values where they are meant for this model, else none.
    pub(super) fn of(&self, model: &ModelId) -> Self {
        if self.model.as_ref().is_none_or(|m| m == model) {
            return self.clone();
        }
        Self {
            decision: self.decision,
            classifier_lead: self.classifier_lead,
            min_frontality: self.min_frontality,
            ..Self::default()
        }
    }

    /// Names of the values that are set.
    pub fn set(&self) -> Vec<&'static str> {
        let values = [
            ("identity.identification_threshold", self.identification_threshold),
            ("identity.verification_threshold", self.verification_threshold),
            ("identity.margin", self.margin),
        ];
        values.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect()
    }
}

/// Thresholds of the embedder in use. The least similarity is the caller's, else the settings', else the one that was learned here and
/// keeps its promised rate, else the model's.
pub(super) fn thresholds(
    engine: &FaceEngine,
    gallery: &Gallery,
    settings: &IdentitySettings,
    threshold: Option<(f32, ThresholdSource)>,
) -> Thresholds {
    let (spec, settings) = (engine.embedder().embedder.as_ref(), settings.of(&engine.embedder().id));
    let learned = || gallery.calibration_of(&engine.embedder().id).map(|(_, learned)| learned.cautious);
    let (similarity, source) = threshold
        .or(settings.identification_threshold.map(|t| (t, ThresholdSource::Config)))
        .or_else(|| learned().map(|t| (t, ThresholdSource::Calibrated)))
        .or(spec.map(|s| (s.identification_threshold, ThresholdSource::Model)))
        .unwrap_or((1.0, ThresholdSource::Model));
    Thresholds {
        similarity,
        source,
        lead: settings.classifier_lead.unwrap_or(Thresholds::LEAD),
        margin: settings.margin.or(spec.map(|s| s.margin)).unwrap_or(0.0),
        calibration: spec.map(|s| s.calibration).unwrap_or(Calibration { midpoint: 1.0, slope: 1.0 }),
    }
}

/// What a face must have to be compared with the embedder in use.
pub(super) fn least(engine: &FaceEngine, settings: &IdentitySettings) -> Least {
    let face_px = engine.embedder().embedder.as_ref().map_or(0.0, |e| e.min_face_px);
    Least { face_px, frontality: settings.min_frontality }
}

/// A threshold that a request asks for.
pub(super) fn requested(threshold: Option<f32>) -> Option<(f32, ThresholdSource)> {
    threshold.map(|t| (t, ThresholdSource::Request))
}
