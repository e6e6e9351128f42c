//! Commands that work in this process: server, demo, simulator, models, evaluation, doctor, recognition without a server.

pub mod configured;
#[cfg(feature = "simulator")]
pub mod demo;
pub mod doctor;
pub mod eval;
pub mod models;
pub mod offline;
pub mod serve;
#[cfg(feature = "simulator")]
pub mod simulate;
