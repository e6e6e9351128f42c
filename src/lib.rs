//! Visage: who is in front of which camera, and are we sure?
//!
//! Folders follow the data: camera → frame → face → track → identity → event → subscriber. Rust lets modules import in
//! circles; `tests/house.rs` keeps the walls that `ARCHITECTURE.md` draws.

// A test may fail by panicking and may print what it measured; the server may do neither.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

pub mod access;
pub mod api;
pub mod camera;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod evaluation;
pub mod event;
pub mod face;
pub mod frame;
pub mod identity;
pub mod ids;
pub mod inference;
pub mod models;
pub mod pipeline;
pub mod proto;
pub mod secret;
pub mod server;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod track;
pub mod vault;
pub mod whole_file;
