//! The one place for ONNX Runtime: the environment once, sessions with typed outputs.

mod runtime;
mod session;

pub use runtime::{RuntimeError, environment, version};
pub use session::OrtSession;
