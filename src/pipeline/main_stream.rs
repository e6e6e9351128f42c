//! The main stream of a camera that is watched on its substream: decoded while somebody is there, its frames found by time.
//!
//! In: frames of the main stream. Out: the one that was captured with a given frame of the substream, so that a face found in the small
//! picture is cut from the large one. Overflow policy: the oldest of [`KEPT`] frames goes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    camera::{Attention, FrameSlot},
    face::Detection,
    frame::{Frame, Point},
    time::{CaptureOrigin, Timestamp, seconds_between},
};

/// Frames that wait to be asked for: half a second of most cameras.
const KEPT: usize = 12;
/// Frames of two streams that are further apart than this don't show the same, seconds.
const TOGETHER_S: f64 = 0.06;
/// How long the first frames may take: the group that was kept encoded is decoded meanwhile.
const PATIENCE: Duration = Duration::from_millis(900);
/// After a wait in vain nobody waits for this long: the stream is down.
const DOWN: Duration = Duration::from_secs(5);

/// The newest frames of a main stream.
#[derive(Default)]
pub(super) struct MainStream {
    attention: Arc<Attention>,
    frames: Mutex<VecDeque<Frame>>,
    came: Notify,
    size: Mutex<Option<(u32, u32)>>,
    in_vain: Mutex<Option<tokio::time::Instant>>,
}

/// What the frames that are there say about a moment.
enum Found {
    Frame(Box<Frame>),
    /// It may still come.
    NotYet,
    /// Later ones are there, it is not.
    Gone,
}

impl MainStream {
    /// A stream that is decoded when `attention` says that somebody is there.
    pub(super) fn new(attention: Arc<Attention>) -> Self {
        Self { attention, ..Self::default() }
    }

    /// Takes the frames of `slot` until `stop`.
    pub(super) async fn follow(&self, slot: &FrameSlot, stop: &CancellationToken) {
        loop {
            let frame = tokio::select! {
                () = stop.cancelled() => return,
                frame = slot.take() => frame,
            };
            *lock(&self.size) = Some((frame.picture.width(), frame.picture.height()));
            {
                let mut frames = lock(&self.frames);
                if frames.len() == KEPT {
                    frames.pop_front();
                }
                frames.push_back(frame);
            }
            self.came.notify_one();
        }
    }

    /// Says whether a face is tracked. Without one nothing is kept.
    pub(super) fn set_active(&self, active: bool) {
        self.attention.set_active(active);
        if !active {
            lock(&self.frames).clear();
        }
    }

    /// Width and height of its pictures, once one was decoded.
    pub(super) fn size(&self) -> Option<(u32, u32)> {
        *lock(&self.size)
    }

    /// The frame captured together with `small`, with the times of `small`; waits for it a little. `None` when there is none: the stream is
    /// down, or another frame rate leaves a gap.
    pub(super) async fn beside(&self, small: &Frame) -> Option<Frame> {
        self.attention.set_active(true);
        let down = lock(&self.in_vain).is_some_and(|at| at.elapsed() < DOWN);
        let until = tokio::time::Instant::now() + if down { Duration::ZERO } else { PATIENCE };
        loop {
            let came = self.came.notified();
            match self.find(small) {
                Found::Frame(frame) => {
                    *lock(&self.in_vain) = None;
                    return Some(Frame { captured: small.captured, arrived: small.arrived, ..*frame });
                }
                Found::Gone => return None,
                Found::NotYet => {}
            }
            if tokio::time::timeout_at(until, came).await.is_err() {
                // Only a real wait says that it is down: else one that is a little late would never be waited for again.
                if !down {
                    *lock(&self.in_vain) = Some(tokio::time::Instant::now());
                }
                return None;
            }
        }
    }

    fn find(&self, small: &Frame) -> Found {
        let frames = lock(&self.frames);
        // The clocks of sender reports are the camera's and the same for both streams; arrival is ours.
        let by_camera = |frame: &Frame| frame.captured.origin == CaptureOrigin::SenderReport;
        let captured = by_camera(small) && frames.iter().all(by_camera);
        let at = |frame: &Frame| -> Timestamp { if captured { frame.captured.at } else { frame.arrived } };
        let off = |frame: &Frame| seconds_between(at(small), at(frame));
        let nearest = frames.iter().min_by(|a, b| off(a).abs().total_cmp(&off(b).abs()));
        let Some(newest) = frames.back().map(off) else { return Found::NotYet };
        match nearest {
            // A nearer one can only come while all are earlier.
            Some(frame) if off(frame).abs() <= TOGETHER_S && newest >= 0.0 => Found::Frame(Box::new(frame.clone())),
            _ if newest > TOGETHER_S => Found::Gone,
            _ => Found::NotYet,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A detection in a picture of one size as one in a picture of another size that shows the same; the shapes may differ, as those of a
/// substream with other than square pixels do.
pub(super) fn enlarged(detection: &Detection, from: (u32, u32), to: (u32, u32)) -> Detection {
    let (sx, sy) = (to.0 as f32 / from.0.max(1) as f32, to.1 as f32 / from.1.max(1) as f32);
    let mut large = *detection;
    let bbox = &mut large.bbox;
    (bbox.x1, bbox.x2, bbox.y1, bbox.y2) = (bbox.x1 * sx, bbox.x2 * sx, bbox.y1 * sy, bbox.y2 * sy);
    large.landmarks = detection.landmarks.map(|p| Point::new(p.x * sx, p.y * sy));
    large
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::{BBox, Decoded, Picture},
        time::CaptureTime,
    };

    fn frame(ms: i64, width: u32, origin: CaptureOrigin) -> Frame {
        let at = Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap();
        Frame {
            camera: "c".parse().unwrap(),
            sequence: 0,
            pts: None,
            captured: CaptureTime { at, origin },
            arrived: at,
            received: std::time::Instant::now(),
            decoded: Decoded::AsItCame,
            picture: Picture::from_rgb(image::RgbImage::new(width, width / 2)),
        }
    }

    /// A followed stream and the door for its frames.
    fn followed() -> (Arc<MainStream>, Arc<FrameSlot>, CancellationToken) {
        let (main, slot) = (Arc::new(MainStream::default()), Arc::new(FrameSlot::default()));
        let stop = CancellationToken::new();
        let (follows, door, end) = (main.clone(), slot.clone(), stop.clone());
        tokio::spawn(async move { follows.follow(&door, &end).await });
        (main, slot, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn the_frame_of_the_same_moment_is_waited_for_and_found() {
        let (main, slot, stop) = followed();
        let origin = CaptureOrigin::SenderReport;
        let feed = async {
            for ms in (0..400).step_by(40) {
                tokio::time::sleep(Duration::from_millis(40)).await;
                slot.keep(frame(ms, 64, origin)).await;
            }
        };
        let small = frame(205, 16, origin);
        let (large, ()) = tokio::join!(main.beside(&small), feed);
        let large = large.unwrap();
        assert_eq!((large.picture.width(), large.captured.at), (64, small.captured.at));
        assert!(main.attention.is_active() && main.size() == Some((64, 32)));
        assert!(main.beside(&frame(-500, 16, origin)).await.is_none(), "long gone");
        main.set_active(false);
        assert!(lock(&main.frames).is_empty());
        stop.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_down_is_waited_for_once() {
        let (main, _slot, stop) = followed();
        let begun = tokio::time::Instant::now();
        assert!(main.beside(&frame(0, 16, CaptureOrigin::Arrival)).await.is_none());
        assert_eq!(begun.elapsed().as_millis(), PATIENCE.as_millis());
        assert!(main.beside(&frame(40, 16, CaptureOrigin::Arrival)).await.is_none());
        assert!(begun.elapsed() < PATIENCE + Duration::from_millis(10));
        // Asked all the time, it is given another chance all the same.
        let again = tokio::time::Instant::now();
        while again.elapsed() < DOWN {
            assert!(main.beside(&frame(80, 16, CaptureOrigin::Arrival)).await.is_none());
            tokio::time::sleep(Duration::from_millis(125)).await;
        }
        let waited = tokio::time::Instant::now();
        assert!(main.beside(&frame(80, 16, CaptureOrigin::Arrival)).await.is_none());
        assert_eq!(waited.elapsed().as_millis(), PATIENCE.as_millis(), "never waited for again");
        stop.cancel();
    }

    #[test]
    fn a_face_keeps_its_place() {
        let small =
            Detection { bbox: BBox::new(10.0, 20.0, 30.0, 40.0), score: 0.9, landmarks: [Point::new(16.0, 24.0); 5] };
        let large = enlarged(&small, (640, 480), (1920, 1080));
        assert_eq!((large.bbox.x1, large.bbox.y2, large.landmarks[0].x), (30.0, 90.0, 48.0));
    }
}
