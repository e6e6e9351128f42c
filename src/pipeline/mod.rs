//! The flow: the only room that joins cameras, faces, identity and events.

pub mod fleet;
pub mod picture;
