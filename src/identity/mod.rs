//! Who it is: people and their faces, the search for the nearest, evidence over a track, the open-set decision.
//!
//! In: embeddings of a track. Out: a [`decision::Decision`], where *unknown* is an answer. Decided on values only, so it can be
//! replayed without video. Ports: [`person::GalleryStore`] (people, durable) and [`search::VectorIndex`] (nearest faces).
//! [`gallery::Gallery`] joins both; [`evidence::Evidence`] fuses the looks of a track and [`statement::TrackDecider`] says what is published. Absent on purpose: frames, cameras, databases.

pub mod calibration;
pub mod decision;
pub mod evidence;
pub mod gallery;
pub mod impostors;
pub mod person;
pub mod search;
pub mod statement;

pub use calibration::Calibration;
pub use decision::{Decision, Thresholds, Verdict};
pub use evidence::{Evidence, EvidenceSettings, Look, Taken};
pub use gallery::{Calibrated, Gallery};
pub use person::{EnrolledFace, GalleryError, GalleryStore, Person};
pub use search::{PersonHit, SearchQuery, VectorIndex};
pub use statement::{DeciderSettings, Statement, TrackDecider};
