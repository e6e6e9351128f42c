//! The composition root: settings → parts, listeners, readiness, the order of shutdown.

pub mod accept;
pub mod build;
mod elsewhere;
pub mod embedder;
pub mod http;
mod http_connections;
mod listeners;
mod probe;
pub mod readiness;
pub mod retention;
pub mod run;
mod sharing;
mod start_error;
pub mod stores;
pub mod tls;
mod worker;

pub use build::Server;
pub use run::run;
pub use start_error::StartError;
