//! Where frames come from: cameras as registered, supervised streams, their state with a reason.
//!
//! In: a [`CameraSpec`]. Out: frames in a [`FrameSlot`] (newest wins, replaced ones are counted) and a
//! [`CameraStatus`] to watch. Three pure rules spare work: [`gate`] which encoded pictures are decoded (what their sizes tell is in [`sizes`]), [`sampler`] how often a frame is
//! looked at, [`stillness`] whether it shows anything new (what changes and is nobody is in [`restless`]). [`supervisor::supervise`] is the task; whoever spawns it owns it. GStreamer is behind
//! [`source::Source`] and stays in [`gst`]. Absent on purpose: faces, people, what frames are looked at for.

pub mod attention;
pub mod far;
pub mod gate;
pub mod gst;
pub mod limits;
pub mod networks;
pub mod registry;
pub mod restless;
pub mod sampler;
pub mod sizes;
pub mod slot;
pub mod source;
pub mod spec;
pub mod status;
pub mod stillness;
pub mod supervisor;
mod tally;

pub use attention::Attention;
pub use far::{FarFrame, FarFrames, FarStatus};
pub use gst::{DECODE_THREADS, MissingElement, gst_opener, gst_opener_within, gstreamer_version, missing_elements};
pub use limits::StreamLimits;
pub use networks::Networks;
pub use registry::{CameraStore, CameraStoreError};
pub use slot::FrameSlot;
pub use spec::{CameraSpec, SpecError};
pub use status::{CameraState, CameraStatus, Reason};
