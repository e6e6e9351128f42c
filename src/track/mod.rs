//! Detections joined over time: one track per appearance.
//!
//! In: the [`crate::face::Detection`]s of each sampled frame with the frame's capture time, and the [`crate::face::Quality`] of
//! each crop. Out: [`tracker::StepReport`] (which tracks began, were seen, ended) and, per track, which crops are worth
//! embedding ([`best_shot::LookPlanner`]). [`appearance`] says whether a new track is a face that was just lost. All of it is
//! pure: stepped by frames, time is given, nothing waits. Absent on purpose: pixels, cameras, people, events.

pub mod appearance;
pub mod association;
pub mod best_shot;
pub mod motion;
pub mod tracker;

#[cfg(test)]
mod simulation;

pub use best_shot::{Least, LookPlanner, LookSettings, Skip};
pub use tracker::{EndedTrack, StepReport, TrackSettings, Tracker};
