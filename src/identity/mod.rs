//! Who it is: people and their faces, the search for the nearest, evidence over a track, the open-set decision.
//!
//! In: embeddings of a track. Out: a [`decision::Decision`], where *unknown* is an answer. Decided on values only, so it can be
//! replayed without video. Ports: [`person::GalleryStore`] (people, durable) and [`search::VectorIndex`] (nearest faces).
//! [`gallery::Gallery`] joins both. Absent on purpose: frames, cameras, databases.

pub mod decision;
pub mod evidence;
pub mod gallery;
pub mod person;
pub mod search;

pub use decision::{Decision, Thresholds, Verdict};
pub use gallery::Gallery;
pub use person::{EnrolledFace, GalleryError, GalleryStore, Person};
pub use search::{PersonHit, SearchQuery, VectorIndex};
