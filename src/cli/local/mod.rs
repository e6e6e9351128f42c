//! Commands that work in this process: server, demo, simulator, models, evaluation, measurements, doctor, API tokens,
//! recognition without a server.

pub mod audit;
pub mod backup;
pub mod bench;
#[cfg(feature = "simulator")]
mod cast;
pub mod configured;
#[cfg(feature = "simulator")]
pub mod demo;
pub mod doctor;
pub mod eval;
pub mod models;
pub mod offline;
#[cfg(feature = "simulator")]
mod processes;
pub mod serve;
#[cfg(feature = "simulator")]
pub mod simulate;
pub mod token;
