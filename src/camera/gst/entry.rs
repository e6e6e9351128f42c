//! The door of the decoder: key frames alone while nothing happens, what was kept after all when something does, and no more than it can
//! keep up with.
//!
//! A decoder that is given key frames only would wait for pictures that never come (with B-frames for whole groups). The trick-mode segment
//! makes it give each key frame out at once; another segment goes before what is decoded in full again.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gstreamer::{
    Buffer, ClockTime, Element, EventView, FormattedSegment, Pad, PadProbeData, PadProbeReturn, PadProbeType, Segment,
    SegmentFlags, event, prelude::*,
};

use super::{
    access::{self, Coding},
    backlog::Backlog,
    shared::Shared,
};
use crate::camera::{
    Attention,
    gate::{Coded, Gate, Verdict},
    source::OpenRequest,
    spec::SamplingPolicy,
};

/// Longest time that frames decoded late wait for somebody to look at them.
const PATIENCE: Duration = Duration::from_secs(4);
/// A frame that arrived longer ago than this is still decoded late: the camera catches up.
const BEHIND: Duration = Duration::from_millis(600);

/// Which of the frames decoded late are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late {
    /// Those after this stream time.
    from: Duration,
    /// Up to this one at least.
    until: Duration,
    /// Not before this one.
    next: Duration,
    /// Time between two.
    step: Duration,
    /// When waiting ends.
    pub(super) patience: Instant,
}

/// What a frame that comes out of the decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Was looked at before.
    Seen,
    /// Between two that are looked at.
    Between,
    /// To be looked at.
    Wanted,
    /// Came after the wake.
    Live,
}

impl Late {
    /// Where a frame that arrived `age` ago stands; the next one that is wanted is a step later.
    pub(super) fn place(&mut self, at: Duration, age: Duration, now: Instant) -> Place {
        let caught_up = age < BEHIND || now >= self.patience;
        match at {
            at if at > self.until && caught_up => Place::Live,
            at if at <= self.from => Place::Seen,
            at if at < self.next => Place::Between,
            at => {
                self.next = at + self.step;
                Place::Wanted
            }
        }
    }
}

/// What is kept encoded, beginning with a key frame.
#[derive(Default)]
struct Kept {
    pictures: VecDeque<(Coded, Buffer, bool)>,
    bytes: usize,
}

impl Kept {
    fn push(&mut self, coded: Coded, buffer: Buffer, decoded: bool) {
        self.bytes += coded.bytes;
        self.pictures.push_back((coded, buffer, decoded));
    }

    /// Lets go of everything; how many pictures were never decoded.
    fn clear(&mut self) -> u64 {
        self.bytes = 0;
        self.pictures.drain(..).filter(|(_, _, decoded)| !decoded).count() as u64
    }

    /// Lets go of the groups before the newest key frame that was seen; how many pictures were never decoded.
    fn forget(&mut self, seen: Duration) -> u64 {
        self.begin(|coded, decoded| decoded && coded.key && coded.at <= seen)
    }

    /// Lets go of the groups that are over before `from`; how many pictures were never decoded.
    fn skip(&mut self, from: Duration) -> u64 {
        self.begin(|coded, _| coded.key && coded.at <= from)
    }

    /// Begins with the newest picture that is fit for it, if there is one.
    fn begin(&mut self, fit: impl Fn(&Coded, bool) -> bool) -> u64 {
        let newest = self.pictures.iter().rposition(|(coded, _, decoded)| fit(coded, *decoded));
        let gone = self.pictures.drain(..newest.unwrap_or(0));
        let mut undecoded = 0;
        for (coded, _, decoded) in gone {
            self.bytes -= coded.bytes;
            undecoded += u64::from(!decoded);
        }
        undecoded
    }
}

struct State {
    gate: Gate,
    backlog: Backlog,
    kept: Kept,
    /// It was said that sizes tell nothing.
    doubted: bool,
}

/// The door of one decoder.
pub(super) struct Entry {
    coding: Coding,
    attention: Arc<Attention>,
    policy: SamplingPolicy,
    state: Mutex<State>,
    shared: Arc<Shared>,
    /// Kept pictures are on their way: they pass.
    replaying: AtomicBool,
}

impl Entry {
    /// Watches what goes into `decoder`.
    pub(super) fn watch(decoder: &Element, coding: Coding, request: &OpenRequest, shared: &Arc<Shared>) {
        let Some(pad) = decoder.static_pad("sink") else { return };
        let state = State {
            gate: Gate::new(request.sampling, request.on_demand),
            backlog: Backlog::default(),
            kept: Kept::default(),
            doubted: false,
        };
        let entry = Arc::new(Self {
            coding,
            attention: request.attention.clone(),
            policy: request.sampling,
            state: Mutex::new(state),
            shared: shared.clone(),
            replaying: AtomicBool::new(false),
        });
        let at_event = entry.clone();
        pad.add_probe(PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(PadProbeData::Event(sent)) = &info.data
                && let EventView::Segment(segment) = sent.view()
                && let Some(flagged) = at_event.flagged(segment.segment())
            {
                info.data = Some(PadProbeData::Event(event::Segment::builder(&flagged).seqnum(sent.seqnum()).build()));
            }
            PadProbeReturn::Ok
        });
        pad.add_probe(PadProbeType::BUFFER, move |pad, info| match info.buffer() {
            Some(buffer) => entry.admit(pad, buffer),
            None => PadProbeReturn::Ok,
        });
    }

    /// Whether decoding may begin at a picture; `None` for what is none, such as parameter sets alone.
    fn is_key(&self, buffer: &Buffer) -> Option<bool> {
        let bytes = buffer.map_readable().ok()?;
        access::is_random_access(self.coding, &bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment with the flags of the present way of decoding; `None` when it has them.
    fn flagged(&self, segment: &Segment) -> Option<FormattedSegment<ClockTime>> {
        let trick = SegmentFlags::TRICKMODE | SegmentFlags::TRICKMODE_KEY_UNITS;
        let mut segment = segment.downcast_ref::<ClockTime>()?.clone();
        let wanted =
            if self.shared.alone.load(Ordering::Relaxed) { segment.flags() | trick } else { segment.flags() - trick };
        if wanted == segment.flags() {
            return None;
        }
        segment.set_flags(wanted);
        Some(segment)
    }

    /// Tells the decoder how the pictures after this are meant.
    fn decode_alone(&self, pad: &Pad, alone: bool) {
        if self.shared.alone.swap(alone, Ordering::Relaxed) == alone {
            return;
        }
        if let Some(segment) = pad.sticky_event::<event::Segment>(0) {
            // The probe above sets the flags.
            pad.send_event(event::Segment::builder(segment.segment()).build());
        }
    }

    /// `Handled` leaves a picture out: `Drop` makes GStreamer complain about what the bindings have freed by then.
    fn admit(&self, pad: &Pad, buffer: &Buffer) -> PadProbeReturn {
        let shared = &self.shared;
        if shared.too_large.load(Ordering::Relaxed) {
            return PadProbeReturn::Handled;
        }
        if self.replaying.load(Ordering::Relaxed) {
            if let Some(pts) = buffer.pts() {
                shared.enters(pts);
            }
            return PadProbeReturn::Ok;
        }
        // The decoder always gets what belongs to no picture.
        let Some(key) = self.is_key(buffer) else { return PadProbeReturn::Ok };
        shared.whole();
        let Some(pts) = buffer.pts() else { return PadProbeReturn::Ok };
        let now = Instant::now();
        // Decoding order: time stamps of B-frames go back and forth.
        let order = buffer.dts().unwrap_or(pts);
        let coded = Coded { at: order.into(), key, bytes: buffer.size() };
        shared.arrived(pts, key, now);
        let scene = self.attention.scene();
        let mut state = self.lock();
        let state_now = &mut *state;
        shared.left_encoded(state_now.kept.forget(scene.seen.unwrap_or_default()));
        if shared.holds_back() && state_now.gate.give_up() {
            tracing::warn!(camera = %shared.camera, "the decoder gives out no key frames by themselves; everything is decoded");
        }
        if !state_now.doubted && state_now.gate.is_in_doubt() {
            state_now.doubted = true;
            tracing::info!(
                camera = %shared.camera,
                "pictures of the still scene are too large to tell movement by their sizes, everything is decoded; a variable bit rate spares that"
            );
        }
        let verdict = state_now.gate.step(coded, &scene, state_now.kept.bytes, now);
        shared.watches(state_now.gate.is_idle(), state_now.gate.wakes());
        match verdict {
            Verdict::All => {
                shared.left_encoded(state.kept.clear());
                // What waits behind a wake is late for a good reason.
                let waits = shared.is_catching_up();
                let admitted = waits || lag(pad, pts).is_none_or(|lag| state.backlog.admits(lag, key, now));
                drop(state);
                self.decode_alone(pad, false);
                if !admitted {
                    shared.overloaded();
                    return PadProbeReturn::Handled;
                }
            }
            Verdict::Alone => {
                shared.sent_alone();
                state.kept.push(coded, buffer.clone(), true);
                drop(state);
                self.decode_alone(pad, true);
            }
            Verdict::Keep | Verdict::KeepAnew => {
                if verdict == Verdict::KeepAnew {
                    shared.left_encoded(state.kept.clear());
                }
                state.kept.push(coded, buffer.clone(), false);
                return PadProbeReturn::Handled;
            }
            Verdict::Wake { from } => {
                let mut kept = std::mem::take(&mut state.kept);
                drop(state);
                shared.left_encoded(kept.skip(from));
                self.decode_alone(pad, false);
                let step =
                    Duration::from_secs_f32(1.0 / self.policy.active_fps.max(self.policy.idle_fps).clamp(0.01, 60.0));
                tracing::debug!(camera = %shared.camera, kept = kept.pictures.len(), ?from, at = ?coded.at, ?scene, "the camera woke");
                shared.late(Late { from, until: pts.into(), next: from, step, patience: now + PATIENCE });
                self.replaying.store(true, Ordering::Relaxed);
                for (_, buffer, _) in kept.pictures {
                    // An error ends the stream at the picture after, by the element that had it.
                    if pad.chain(buffer).is_err() {
                        break;
                    }
                }
                self.replaying.store(false, Ordering::Relaxed);
            }
        }
        shared.enters(pts);
        PadProbeReturn::Ok
    }
}

/// How long ago a picture arrived that is about to be decoded.
fn lag(pad: &Pad, pts: ClockTime) -> Option<Duration> {
    let now = pad.parent_element()?.current_running_time()?;
    let segment = pad.sticky_event::<event::Segment>(0)?;
    let then = segment.segment().downcast_ref::<ClockTime>()?.to_running_time(pts)?;
    Some(now.saturating_sub(then).into())
}
