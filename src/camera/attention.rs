//! How closely a camera is watched: what its loop (faces), its supervisor (changes) and its source (which pictures are decoded) tell
//! each other.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The scene as the source sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scene {
    /// A face is tracked.
    pub active: bool,
    /// When a frame last looked different.
    pub changed: Option<Instant>,
    /// Everything up to this stream time has been looked at, or looked the same.
    pub seen: Option<Duration>,
    /// What came after `seen` and was left encoded is wanted.
    pub wake: bool,
}

/// Shared by the tasks of one camera. Never locked across an await.
#[derive(Debug, Default)]
pub struct Attention(Mutex<Scene>);

impl Attention {
    fn lock(&self) -> MutexGuard<'_, Scene> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection: stream times start anew.
    pub fn begin(&self) {
        let mut scene = self.lock();
        (scene.seen, scene.wake) = (None, false);
    }

    /// Says whether a face is tracked.
    pub fn set_active(&self, active: bool) {
        self.lock().active = active;
    }

    /// Whether a face is tracked.
    pub fn is_active(&self) -> bool {
        self.lock().active
    }

    /// A frame looked different.
    pub fn changed(&self, now: Instant) {
        self.lock().changed = Some(now);
    }

    /// A frame of this stream time was looked at, or looked as before.
    pub fn seen(&self, at: Duration) {
        // Not the latest of all: a stream's clock may be set back.
        self.lock().seen = Some(at);
    }

    /// Asks for what was left encoded since the last frame that was seen.
    pub fn wake(&self) {
        self.lock().wake = true;
    }

    /// The scene; a wish to wake is given once.
    pub fn scene(&self) -> Scene {
        let mut scene = self.lock();
        let now = *scene;
        scene.wake = false;
        now
    }
}
