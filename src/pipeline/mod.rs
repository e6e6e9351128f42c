//! The flow: the only room that joins cameras, faces, identity and events.
//!
//! ```text
//!  Source ─► FrameSlot ─► camera_loop ─► FaceEngine::detect ─► Tracker ─► BestShot ─► FaceEngine::embed
//!  (gst)     1, newest     one task        slot a camera                                    │
//!            wins          a camera                                                         ▼
//!  subscribers ◄─ cursor ◄─ EventLog::append ◄─ TrackDecider ◄─ Gallery::identify ◄─ Evidence
//! ```
//!
//! Queues, all of them: decoder → slot: newest wins, 1, replaced ones are counted · slot → engine: one request a camera ·
//! still pictures → engine: 32 wait, 8 are decoded, more are refused · engine → loop: one reply · loop → event log: waits; while the disk takes nothing, 10000 events wait and 256 MiB of their pictures, more are counted as lost · log → subscriber: no queue, a cursor · status: watch, latest
//! only · unknown faces → groups: no queue, they are written with their LEFT and grouped after a wake-up · store writer: bounded commands, blocks.

mod appearance;
mod camera_faces;
pub mod camera_loop;
mod camera_tasks;
pub mod conflict;
mod enroll;
pub mod exchange;
mod figures;
pub mod fleet;
mod label;
mod main_stream;
pub mod outbox;
pub mod past;
pub mod picture;
mod promotion;
pub mod reembed;
mod reembed_plan;
mod status_journal;
mod thresholds;
mod unknown_board;
mod unknown_group;
pub mod unknowns;
