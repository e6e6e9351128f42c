//! Configuration: each room owns its settings, this room composes, loads and checks them.

pub mod check;
pub mod load;
pub mod types;

pub use load::{ConfigError, Loaded, load};
pub use types::Config;
