//! What streaming threads and the source share: the frames on their way, counts, and how the stream ended.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gstreamer::ClockTime;
use tokio::sync::Notify;

use super::late::{Late, Place};
use crate::{
    camera::{
        FrameSlot,
        source::{Cause, SourceEnd, StreamFacts},
    },
    ids::CameraId,
};

/// How often one request is sent: without a password, and with it (or with one over a stale challenge, and over the new one).
const SENDS: u64 = 2;
/// Most bytes that are collected for one encoded picture: 8K key frames take less than half of it.
const UNFINISHED: usize = 16 << 20;
/// Decode times kept for the median.
const SAMPLES: usize = 64;

/// What streaming threads and the source share. Callbacks hold this, never the pipeline, so nothing keeps itself alive.
pub(super) struct Shared {
    pub(super) camera: CameraId,
    pub(super) slot: FrameSlot,
    pub(super) sequence: AtomicU64,
    pub(super) replaced: AtomicU64,
    overloaded: AtomicU64,
    pub(super) unreadable: AtomicU64,
    pub(super) passed: AtomicU64,
    /// Key frames are decoded by themselves.
    pub(super) alone: AtomicBool,
    /// Key frames decoded by themselves that have not come out.
    alone_inside: AtomicU64,
    /// Frames that are decoded late.
    late: Mutex<Option<Late>>,
    /// The camera described a video stream.
    pub(super) video_offered: AtomicBool,
    /// Network packets of video that arrived.
    packets: AtomicU64,
    /// Bytes that arrived since the last whole picture, and what keeping their packets takes.
    unfinished: AtomicUsize,
    /// How often a connection was begun.
    connects: AtomicU64,
    /// How often the present request was sent.
    sends: AtomicU64,
    /// No request is sent any more.
    silent: AtomicBool,
    /// Most pixels of a picture.
    pub(super) max_pixels: u64,
    /// Pictures are too large: none is decoded.
    pub(super) too_large: AtomicBool,
    stats: Mutex<Stats>,
    pub(super) end: Mutex<Option<SourceEnd>>,
    pub(super) ended: Notify,
}

#[derive(Default)]
pub(super) struct Stats {
    pub(super) codec: Option<&'static str>,
    last_key: Option<ClockTime>,
    key_frame_interval: Option<Duration>,
    /// Pictures in the decoder: time stamp and when they went in.
    in_decoder: VecDeque<(ClockTime, Instant)>,
    decode_times: VecDeque<Duration>,
    pictures: u64,
    coded: u64,
    keys: u64,
    last_picture: Option<Instant>,
    idle: u64,
    key_frames_only: bool,
    wakes: u64,
}

impl Shared {
    /// Nothing has come yet.
    pub(super) fn new(camera: CameraId, max_pixels: u64) -> Self {
        Self {
            camera,
            slot: FrameSlot::default(),
            sequence: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            alone: AtomicBool::new(false),
            alone_inside: AtomicU64::new(0),
            late: Mutex::default(),
            video_offered: AtomicBool::new(false),
            packets: AtomicU64::new(0),
            unfinished: AtomicUsize::new(0),
            connects: AtomicU64::new(0),
            sends: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            max_pixels,
            too_large: AtomicBool::new(false),
            stats: Mutex::default(),
            end: Mutex::default(),
            ended: Notify::new(),
        }
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A packet came; whether it is taken: one picture may not grow for ever.
    pub(super) fn packet(&self, bytes: usize) -> bool {
        self.packets.fetch_add(1, Ordering::Relaxed);
        let so_far = self.unfinished.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if so_far > UNFINISHED {
            let detail = format!("more than {} MiB and no whole picture", UNFINISHED >> 20);
            self.end(SourceEnd::new(Cause::Decode, detail));
        }
        so_far <= UNFINISHED
    }

    /// A picture came whole.
    pub(super) fn whole(&self) {
        self.unfinished.store(0, Ordering::Relaxed);
    }

    /// A connection or another request is begun. The second connection of an attempt is where the camera sends us.
    pub(super) fn steps(&self, connects: bool) {
        self.sends.store(0, Ordering::Relaxed);
        if connects && self.connects.fetch_add(1, Ordering::Relaxed) > 0 {
            self.end(SourceEnd::new(Cause::Redirected, ""));
            self.silent.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a request is sent. Nothing is said to whom the camera sends us, and a password is shown once: rtspsrc would show a refused
    /// one eight times, and cameras lock accounts.
    pub(super) fn may_send(&self) -> bool {
        if self.sends.fetch_add(1, Ordering::Relaxed) >= SENDS {
            self.end(SourceEnd::new(Cause::Unauthorized, ""));
            self.silent.store(true, Ordering::Relaxed);
        }
        !self.silent.load(Ordering::Relaxed)
    }

    /// A slice of a picture came before any was decoded.
    pub(super) fn coded(&self, key: bool) {
        let mut stats = self.stats();
        stats.coded += 1;
        stats.keys += u64::from(key);
    }

    /// An encoded picture came.
    pub(super) fn arrived(&self, pts: ClockTime, is_key: bool, now: Instant) {
        let mut stats = self.stats();
        stats.pictures += 1;
        stats.last_picture = Some(now);
        if is_key
            && let Some(last) = stats.last_key.replace(pts)
            && pts > last
        {
            stats.key_frame_interval = Some((pts - last).into());
        }
    }

    /// A picture goes into the decoder.
    pub(super) fn enters(&self, pts: ClockTime) {
        let mut stats = self.stats();
        if stats.in_decoder.len() == SAMPLES {
            stats.in_decoder.pop_front();
        }
        stats.in_decoder.push_back((pts, Instant::now()));
    }

    /// A picture came out of the decoder.
    pub(super) fn leaves(&self, pts: ClockTime, now: Instant) {
        let mut stats = self.stats();
        if let Some(place) = stats.in_decoder.iter().position(|(p, _)| *p == pts)
            && let Some((_, entered)) = stats.in_decoder.remove(place)
        {
            if stats.decode_times.len() == SAMPLES {
                stats.decode_times.pop_front();
            }
            stats.decode_times.push_back(now.duration_since(entered));
        }
    }

    /// Pictures that will never be decoded, since nothing happened.
    pub(super) fn left_encoded(&self, pictures: u64) {
        self.stats().idle += pictures;
    }

    /// A key frame goes into the decoder by itself.
    pub(super) fn sent_alone(&self) {
        self.alone_inside.fetch_add(1, Ordering::Relaxed);
    }

    /// A key frame that was decoded by itself came out.
    pub(super) fn came_alone(&self) {
        self.alone_inside.store(0, Ordering::Relaxed);
    }

    /// Whether the decoder does not give out key frames at once.
    pub(super) fn holds_back(&self) -> bool {
        self.alone_inside.load(Ordering::Relaxed) > 1
    }

    /// A picture that the decoder has no time for.
    pub(super) fn overloaded(&self) {
        self.overloaded.fetch_add(1, Ordering::Relaxed);
    }

    /// How the stream is watched.
    pub(super) fn watches(&self, key_frames_only: bool, wakes: u64) {
        let mut stats = self.stats();
        (stats.key_frames_only, stats.wakes) = (key_frames_only, wakes);
    }

    /// Pictures come that were kept.
    pub(super) fn late(&self, late: Late) {
        *self.late.lock().unwrap_or_else(PoisonError::into_inner) = Some(late);
    }

    /// Whether frames are decoded late.
    pub(super) fn is_catching_up(&self) -> bool {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|late| Instant::now() < late.patience)
    }

    /// Where a frame that came out of the decoder stands among those decoded late, and how long they may wait.
    pub(super) fn place(&self, pts: Option<ClockTime>, age: Duration, now: Instant) -> (Place, Instant) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(waiting), Some(pts)) = (late.as_mut(), pts) else { return (Place::Live, now) };
        let (place, patience) = (waiting.place(pts.into(), age, now), waiting.patience);
        if place == Place::Live {
            *late = None;
        }
        (place, patience)
    }

    /// The stream ended, or must; the first cause counts.
    pub(super) fn end(&self, end: SourceEnd) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
        self.ended.notify_one();
    }

    /// What is known of the stream by now.
    pub(super) fn facts(&self) -> StreamFacts {
        let stats = self.stats();
        let mut times: Vec<Duration> = stats.decode_times.iter().copied().collect();
        times.sort_unstable();
        StreamFacts {
            codec: stats.codec,
            key_frame_interval: stats.key_frame_interval,
            decode_latency: times.get(times.len() / 2).copied(),
            replaced: self.replaced.load(Ordering::Relaxed),
            overloaded: self.overloaded.load(Ordering::Relaxed),
            unreadable: self.unreadable.load(Ordering::Relaxed),
            passed: self.passed.load(Ordering::Relaxed),
            pictures: stats.pictures,
            last_picture: stats.last_picture,
            idle: stats.idle,
            key_frames_only: stats.key_frames_only,
            wakes: stats.wakes,
            described: self.video_offered.load(Ordering::Relaxed),
            packets: self.packets.load(Ordering::Relaxed),
            coded: stats.coded,
            keys: stats.keys,
        }
    }
}
