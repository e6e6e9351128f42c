//! The one place for ONNX Runtime: the environment once, sessions with typed outputs.

pub use ort::environment::Environment;

mod pinned;
mod runtime;
mod session;

pub use runtime::{RuntimeError, environment, version};
pub use session::{OrtSession, bare_session};
