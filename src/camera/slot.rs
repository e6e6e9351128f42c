//! The mailbox between a camera and its loop: the newest frame wins, unless frames are to be kept in order.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use crate::frame::Frame;

/// Most frames that are kept in order.
const KEPT: usize = 4;

/// Holds one frame that a newer one replaces, and a few that nothing replaces: those that were decoded late because the camera woke up.
/// Overflow policies: [`FrameSlot::put`] returns the older frame to be counted; [`FrameSlot::keep`] waits for a place.
#[derive(Debug, Default)]
pub struct FrameSlot {
    waiting: Mutex<Waiting>,
    filled: Notify,
    taken: Notify,
    room: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    newest: Option<Frame>,
    kept: VecDeque<Frame>,
}

impl FrameSlot {
    /// Puts a frame; returns the older one that nobody took.
    pub fn put(&self, frame: Frame) -> Option<Frame> {
        let old = self.lock().newest.replace(frame);
        self.filled.notify_one();
        old
    }

    /// Adds a frame that nothing replaces, waiting for a place; returns an older replaceable one that nobody took. Cancel safe: a cancelled
    /// call may lose its own frame only.
    pub async fn keep(&self, frame: Frame) -> Option<Frame> {
        loop {
            let freed = self.taken.notified();
            {
                let mut waiting = self.lock();
                if waiting.kept.len() < KEPT {
                    waiting.kept.push_back(frame);
                    self.filled.notify_one();
                    return waiting.newest.take();
                }
            }
            freed.await;
        }
    }

    /// As [`FrameSlot::keep`] for a thread of its own; gives the frame up (false) at `until`. Blocks.
    pub fn keep_until(&self, frame: Frame, until: Instant) -> bool {
        let mut waiting = self.lock();
        while waiting.kept.len() >= KEPT {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            waiting = self.room.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting.kept.push_back(frame);
        self.filled.notify_one();
        true
    }

    /// Waits for a frame and takes it, kept ones first. Cancel safe: a frame is taken only when it is returned. For one taker.
    pub async fn take(&self) -> Frame {
        loop {
            if let Some(frame) = self.next() {
                self.taken.notify_one();
                self.room.notify_one();
                return frame;
            }
            self.filled.notified().await;
        }
    }

    fn next(&self) -> Option<Frame> {
        let mut waiting = self.lock();
        waiting.kept.pop_front().or_else(|| waiting.newest.take())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
