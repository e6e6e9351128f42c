//! Simulated RTSP cameras that can fail on command, for the demo, the tests and users without a camera.
//!
//! In: a [`SimulatorSettings`] with cameras described in code or parsed from text ([`SimCamera::parse`]). Out: a running
//! [`Simulator`] with one URL a camera. Every source is encoded once at start ([`clip`]) and looped from memory
//! (`feed`), so serving costs next to nothing. Absent on purpose: anything of the server's own camera code.

mod access;
pub mod clip;
pub mod encode;
mod error;
mod feed;
pub mod file;
pub mod folder;
pub mod pattern;
mod prepare;
mod render;
mod rtsp;
pub mod scene;
pub mod spec;

pub use access::{Credentials, TlsIdentity};
pub use error::SimulatorError;
pub use rtsp::{Fault, Simulator, SimulatorSettings};
pub use scene::{Actor, Appearance, Background, CardShape, Scene, SceneTruth, Visible, Waypoint};
pub use spec::{Bitrate, Codec, FaultPlan, SimCamera, SimSource};

#[cfg(test)]
mod tests;
