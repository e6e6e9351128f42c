//! Which worker runs which camera.
//!
//! In: the workers that hold a lease, the owners of cameras, the registered cameras. Out: what this worker does next: warm a camera up, claim it,
//! let it go. No network and no clock of its own: the server drives it with real ones, `visage bench simulate` with made ones.
//! Absent on purpose: a leader. Every worker computes the same assignment; who is right about a camera is decided by one compare-and-swap.

pub mod assignment;
pub mod coordinator;
pub mod registry;
pub mod simulation;

pub use coordinator::{Action, Coordinator};
pub use registry::{Lease, Owner, Registry, RegistryError};
