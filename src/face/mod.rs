//! What a frame contains: faces found, aligned, judged and embedded.
//!
//! In: a [`crate::frame::Picture`]. Out: [`Detection`], [`Quality`], [`Embedding`]. [`FaceEngine`] is the door: it owns the
//! workers that run the detector and the embedder. Absent on purpose: cameras, people, time.

pub mod alignment;
pub mod detection;
pub mod embedder;
pub mod embedding;
pub mod engine;
pub mod in_use;
mod job;
pub mod liveness;
pub mod quality;
pub mod refine;
pub mod retinaface;
pub mod search;
pub mod tiling;

pub use detection::{Detection, Landmarks};
pub use embedding::{Distance, Embedding};
pub use engine::{FaceEngine, FaceError};
pub use in_use::EngineInUse;
pub use quality::Quality;
