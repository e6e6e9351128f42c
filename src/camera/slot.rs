//! The one-place mailbox between a camera and its loop: the newest frame wins.

use std::sync::Mutex;

use tokio::sync::Notify;

use crate::frame::Frame;

/// Holds at most one frame. Overflow policy: a newer frame replaces the waiting one, which is returned to be counted.
#[derive(Debug, Default)]
pub struct FrameSlot {
    frame: Mutex<Option<Frame>>,
    filled: Notify,
}

impl FrameSlot {
    /// Puts a frame; returns the older one that nobody took.
    pub fn put(&self, frame: Frame) -> Option<Frame> {
        let old = self.lock().replace(frame);
        self.filled.notify_one();
        old
    }

    /// Waits for a frame and takes it. Cancel safe: a frame is taken only when it is returned. For one taker.
    pub async fn take(&self) -> Frame {
        loop {
            if let Some(frame) = self.lock().take() {
                return frame;
            }
            self.filled.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Frame>> {
        self.frame.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
