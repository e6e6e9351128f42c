//! Commands that ask a server. They know the wire types and nothing else of the server.

pub mod calibrate;
pub mod camera;
pub mod camera_change;
pub mod client;
pub mod enroll;
mod enroll_conflicts;
pub mod enroll_sources;
pub mod events;
pub mod gallery;
mod gallery_folder;
pub mod health;
pub mod identify;
pub mod info;
pub mod person;
pub mod privacy;
pub mod train;
pub mod unknown;
pub mod verify;
pub mod watch;
