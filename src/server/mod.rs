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
mod start_error;
pub mod tls;

pub use build::Server;
pub use run::run;
pub use start_error::StartError;
