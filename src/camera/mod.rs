//! Where frames come from: cameras as registered, supervised streams, their state with a reason.
//!
//! In: a [`CameraSpec`]. Out: frames in a one-place [`FrameSlot`] (newest wins, replaced ones are counted) and a
//! [`CameraStatus`] to watch. [`supervisor::supervise`] is the task; whoever spawns it owns it. GStreamer is behind
//! [`source::Source`] and stays in [`gst`]. Absent on purpose: faces, people, what frames are looked at for.

pub mod gst;
pub mod registry;
pub mod sampler;
pub mod slot;
pub mod source;
pub mod spec;
pub mod status;
pub mod supervisor;

pub use gst::{MissingElement, gst_opener, gstreamer_version, missing_elements};
pub use registry::{CameraStore, CameraStoreError};
pub use slot::FrameSlot;
pub use spec::{CameraSpec, SpecError};
pub use status::{CameraState, CameraStatus, Reason};
