//! What a decision rests on, and why nobody was named, as data beside the words.
//!
//! Kept with events, so nobody but the person who was named may be found in it: an erased person must not live on in events about
//! others. The faces of the person who was named go with that person's name ([`Basis::forget`]).

use serde::{Deserialize, Serialize};

use crate::ids::FaceId;

/// Faces of the named person that are told at most.
pub const MOST_FACES: usize = 3;

/// An enrolled face and how near a probe is to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NearFace {
    /// The face.
    pub face: FaceId,
    /// Similarity to the probe, of the model in use.
    pub similarity: f32,
}

/// Who set the threshold that a similarity had to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdSource {
    /// Not known: kept by an earlier version.
    #[default]
    Unknown,
    /// The model's manifest.
    Model,
    /// `identity.identification_threshold`.
    Config,
    /// Learned by calibration.
    Calibrated,
    /// The camera's own.
    Camera,
    /// The request's own.
    Request,
    /// Any of the others, moved by the offset of the best person.
    Person,
}

/// What chose among the people who are near enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// The nearest enrolled face, with a lead.
    #[default]
    Similarity,
    /// A classifier trained on the enrolled faces.
    Classifier,
}

/// What a decision rests on, besides similarity, margin and threshold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Basis {
    /// The nearest enrolled faces of the person who was named, nearest first, at most [`MOST_FACES`]; empty when nobody was.
    pub faces: Vec<NearFace>,
    /// Similarity of the best other person; `None` when there was none.
    pub runner_up: Option<f32>,
    /// Who set the threshold.
    pub source: ThresholdSource,
    /// What chose the person.
    pub route: Route,
    /// The classifier's probability of the person shown minus that of its best rival, -1 to 1; `None` when it was not asked.
    pub lead: Option<f32>,
}

impl Basis {
    /// Takes out what belongs to the person who was named; figures stay.
    pub fn forget(&mut self) {
        self.faces.clear();
    }
}

/// Why nobody was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyCode {
    /// There is nobody to compare with: nobody enrolled, or nobody on the watchlists asked for.
    EmptyGallery,
    /// The best person is not near enough; similarity and threshold.
    BelowThreshold,
    /// The lead over another person is too small; lead and margin.
    RunnerUpTooClose,
    /// A face marked as "not that person" is nearer; the best similarity and that of the marked face.
    NegativeExemplar,
    /// The best person is another face of the picture; its similarity and the threshold.
    OtherFaceOfPicture,
    /// The crop covers too few pixels; pixels and what the model needs.
    TooSmall,
    /// The face is too blurred; quality and what is needed.
    TooBlurred,
    /// The face is turned away too far; frontality, or the quality where that is too low, and what is needed.
    TurnedAway,
    /// The eyes show no detail (dark glasses, a shadow); quality and what is needed.
    EyesHidden,
    /// The mouth shows no detail (a mask, a hand); quality and what is needed.
    MouthHidden,
    /// The face is over-exposed; quality and what is needed.
    OverExposed,
    /// Too few looks agreed before the face was gone; looks and what is needed.
    TooFewLooks,
    /// No crop of the face could be compared before it was gone.
    NoLook,
    /// The person was erased.
    Erased,
    /// Somebody said that the match was wrong.
    TakenBack,
}

impl WhyCode {
    /// The word that is kept with events, such as `below_threshold`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EmptyGallery => "empty_gallery",
            Self::BelowThreshold => "below_threshold",
            Self::RunnerUpTooClose => "runner_up_too_close",
            Self::NegativeExemplar => "negative_exemplar",
            Self::OtherFaceOfPicture => "other_face_of_picture",
            Self::TooSmall => "too_small",
            Self::TooBlurred => "too_blurred",
            Self::TurnedAway => "turned_away",
            Self::EyesHidden => "eyes_hidden",
            Self::MouthHidden => "mouth_hidden",
            Self::OverExposed => "over_exposed",
            Self::TooFewLooks => "too_few_looks",
            Self::NoLook => "no_look",
            Self::Erased => "erased",
            Self::TakenBack => "taken_back",
        }
    }
}

/// Why nobody was named: code, words, and the figures that the words hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The kind of reason.
    pub code: WhyCode,
    /// In words; never names a person.
    pub text: String,
    /// What was found; its unit follows from the code. 0 where there is none.
    pub value: f32,
    /// What was needed; 0 where there is none.
    pub needed: f32,
}

impl Why {
    /// A reason with figures.
    pub fn new(code: WhyCode, text: impl Into<String>, value: f32, needed: f32) -> Self {
        Self { code, text: text.into(), value, needed }
    }

    /// A reason without figures.
    pub fn plain(code: WhyCode, text: impl Into<String>) -> Self {
        Self::new(code, text, 0.0, 0.0)
    }

    /// Somebody was erased between the decision and its use.
    pub fn erased() -> Self {
        Self::plain(WhyCode::Erased, "the person was erased meanwhile")
    }
}
