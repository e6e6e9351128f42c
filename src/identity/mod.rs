//! Who it is: people and their faces, the search for the nearest, evidence over a track, the open-set decision.
//!
//! In: embeddings of a track. Out: a [`decision::Decision`], where *unknown* is an answer. Decided on values only, so it can be
//! replayed without video. Ports: [`person::GalleryStore`] (people, durable) and [`search::VectorIndex`] (nearest faces).
//! [`gallery::Gallery`] joins both; [`evidence::Evidence`] fuses the looks of a track and [`statement::TrackDecider`] says what is published.
//! Faces that nobody knew may be kept ([`unknown::UnknownStore`]) and are grouped by person ([`cluster::Clusters`]). Absent on purpose: frames, cameras, databases.

pub mod alike;
mod assignment;
pub mod basis;
pub mod calibration;
pub mod classifier;
mod classifier_bytes;
pub mod classifier_folds;
pub mod cluster;
pub mod cluster_score;
pub mod crop;
pub mod decision;
pub mod embeddings;
pub mod evidence;
pub mod gallery;
pub mod gallery_check;
pub mod impostors;
pub mod person;
pub mod search;
pub mod statement;
pub mod unknown;
mod whispers;

pub use alike::{Alike, AlikeRange};
pub use basis::{Basis, NearFace, Route, ThresholdSource, Why, WhyCode};
pub use calibration::Calibration;
pub use classifier::{Classifier, TrainError};
pub use crop::FaceCrop;
pub use decision::{Candidates, Decision, Thresholds, Verdict};
pub use embeddings::EmbeddingStore;
pub use evidence::{Evidence, EvidenceSettings, Look, Spread, Taken};
pub use gallery::{Calibrated, ClassifierInfo, Gallery, GalleryChange, GallerySettings, RouteInfo, Trained};
pub use person::{EnrolledFace, GalleryError, GalleryStore, Person};
pub use search::{PersonHit, SearchQuery, VectorIndex};
pub use statement::{DeciderSettings, Statement, TrackDecider};
pub use unknown::{UnknownChange, UnknownFace, UnknownSettings, UnknownStore, UnknownStoreError};
