//! One camera while it is served: its timeline, its faults, and the units handed to each running media.
//!
//! The timeline starts with the first client and goes on by the clock, as a real camera's does: who connects later, or
//! again after a fault, joins at the present moment (at the key frame before it).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::clip::EncodedClip;
use super::encode::clock;

/// A mutex's content, whatever happened to another holder.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The served side of one camera.
#[derive(Debug)]
pub(super) struct Camera {
    pub(super) clip: EncodedClip,
    /// What the timeline shows when the first client plays.
    ahead: Duration,
    timeline: Timeline,
    state: Mutex<State>,
}

/// When the first client played; shared by the streams of one camera.
type Timeline = Arc<Mutex<Option<Instant>>>;

#[derive(Debug, Default)]
struct State {
    stalled: bool,
    feeds: Vec<Weak<Feed>>,
}

impl Camera {
    /// A camera whose timeline begins this far into the clip, at the key frame before it.
    pub(super) fn new(clip: EncodedClip, ahead: Duration) -> Self {
        let (loops, within) = clip.split(ahead);
        let key = clip.units.get(clip.key_at(within)).map_or(Duration::ZERO, |unit| unit.pts);
        let ahead = clip.duration * loops + key;
        Self { clip, ahead, timeline: Timeline::default(), state: Mutex::default() }
    }

    /// Another stream of the same camera: both show the same moment.
    pub(super) fn beside(&self, clip: EncodedClip) -> Self {
        Self { clip, ahead: self.ahead, timeline: self.timeline.clone(), state: Mutex::default() }
    }

    /// Starts the timeline, once.
    pub(super) fn start_timeline(&self) {
        lock(&self.timeline).get_or_insert_with(Instant::now);
    }

    /// Time on the timeline, which runs since the first client played; loops counted in.
    pub(super) fn position(&self) -> Option<Duration> {
        lock(&self.timeline).map(|started| self.ahead + started.elapsed())
    }

    fn is_stalled(&self) -> bool {
        lock(&self.state).stalled
    }

    /// Stops or resumes sending.
    pub(super) fn stall(&self, on: bool) {
        let feeds: Vec<Arc<Feed>> = {
            let mut state = lock(&self.state);
            state.stalled = on;
            state.feeds.iter().filter_map(Weak::upgrade).collect()
        };
        if !on {
            feeds.iter().for_each(|feed| feed.resume());
        }
    }

    /// Connects a new media's source to this camera.
    pub(super) fn attach(self: &Arc<Self>, source: &gst_app::AppSrc) {
        source.set_caps(Some(&self.clip.caps));
        source.set_format(gst::Format::Time);
        source.set_max_bytes(1);
        let now = self.position().unwrap_or(self.ahead);
        let (loops, within) = self.clip.split(now);
        let next = self.clip.key_at(within);
        let unit_time = self.clip.units.get(next).map_or(Duration::ZERO, |unit| unit.pts);
        let start = self.clip.duration * loops + unit_time;
        let cursor = Cursor { loops, next, sent: false, waiting: false };
        let feed = Arc::new(Feed {
            camera: Arc::downgrade(self),
            source: source.downgrade(),
            start,
            cursor: Mutex::new(cursor),
        });
        {
            let mut state = lock(&self.state);
            state.feeds.retain(|feed| feed.strong_count() > 0);
            state.feeds.push(Arc::downgrade(&feed));
        }
        let needs = gst_app::AppSrcCallbacks::builder().need_data(move |source, _| feed.push_next(source)).build();
        source.set_callbacks(needs);
    }
}

/// What one media gets: shared by all its clients.
#[derive(Debug)]
struct Feed {
    camera: Weak<Camera>,
    source: gst::glib::WeakRef<gst_app::AppSrc>,
    /// Time on the camera's timeline of this media's first unit.
    start: Duration,
    cursor: Mutex<Cursor>,
}

#[derive(Debug)]
struct Cursor {
    loops: u32,
    next: usize,
    sent: bool,
    /// The source asked for data while the camera was stalled.
    waiting: bool,
}

impl Feed {
    /// Hands over the next unit, or notes the wish while the camera is stalled.
    fn push_next(&self, source: &gst_app::AppSrc) {
        let Some(camera) = self.camera.upgrade() else { return };
        let buffer = {
            let mut cursor = lock(&self.cursor);
            // The first unit always goes out: without it the server could not even describe the stream.
            cursor.waiting = cursor.sent && camera.is_stalled();
            if cursor.waiting {
                return;
            }
            self.take(&camera.clip, &mut cursor)
        };
        if let Some(buffer) = buffer {
            let _ = source.push_buffer(buffer);
        }
    }

    fn take(&self, clip: &EncodedClip, cursor: &mut Cursor) -> Option<gst::Buffer> {
        let unit = clip.units.get(cursor.next)?;
        let at = clip.duration * cursor.loops + unit.pts;
        // A shallow copy: the bytes stay shared, the time is this media's.
        let mut buffer = unit.data.copy();
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(clock(at.saturating_sub(self.start)));
            buffer.set_dts(gst::ClockTime::NONE);
            buffer.set_duration(gst::ClockTime::NONE);
        }
        cursor.sent = true;
        cursor.next += 1;
        if cursor.next >= clip.units.len() {
            cursor.next = 0;
            cursor.loops = cursor.loops.saturating_add(1);
        }
        Some(buffer)
    }

    /// Goes on after a stall at the present moment, never back in time.
    fn resume(&self) {
        let (Some(camera), Some(source)) = (self.camera.upgrade(), self.source.upgrade()) else { return };
        {
            let mut cursor = lock(&self.cursor);
            if !std::mem::take(&mut cursor.waiting) {
                return;
            }
            let clip = &camera.clip;
            let running = source.current_running_time().map_or(0, gst::ClockTime::nseconds);
            let (loops, within) = clip.split(self.start + Duration::from_nanos(running));
            let next = clip.key_at(within);
            if (loops, next) > (cursor.loops, cursor.next) {
                (cursor.loops, cursor.next) = (loops, next);
            }
        }
        self.push_next(&source);
    }
}
