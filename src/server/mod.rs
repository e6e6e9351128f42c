//! The composition root: settings → parts, listeners, readiness, the order of shutdown.

pub mod accept;
pub mod build;
pub mod embedder;
pub mod http;
mod http_connections;
mod listeners;
mod probe;
pub mod readiness;
pub mod retention;
pub mod run;
pub mod tls;

pub use build::{Server, StartError};
pub use run::run;
