//! The door of the decoding: key frames alone while nothing happens, what was kept after all when something does, and no more than the
//! decoder can keep up with. It stands before packets are unpacked, so that what is kept costs next to nothing.
//!
//! A decoder that is given key frames only would wait for pictures that never come (with B-frames for whole groups). The trick-mode segment
//! makes it give each key frame out at once; another segment goes before what is decoded in full again.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gstreamer::{
    Buffer, ClockTime, Element, EventView, FlowError, FlowSuccess, FormattedSegment, Pad, PadProbeData, PadProbeReturn,
    PadProbeType, Segment, SegmentFlags, event, glib::WeakRef, prelude::*,
};

use super::{
    backlog::Backlog,
    deblocking::Deblocking,
    kept::Kept,
    late::Late,
    picture::{self, Encoded, Gatherer, Numbering},
    rtp::{Coding, Packet},
    shared::Shared,
};
use crate::camera::{
    Attention,
    gate::{Coded, Gate, Verdict},
    source::OpenRequest,
    spec::SamplingPolicy,
};

struct State {
    gatherer: Gatherer,
    numbering: Numbering,
    gate: Gate,
    backlog: Backlog,
    kept: Kept,
    /// Of H.264 only.
    deblocking: Option<Deblocking>,
    /// It was said that sizes tell nothing.
    doubted: bool,
}

/// The door of one decoder.
pub(super) struct Entry {
    coding: Coding,
    decoder: WeakRef<Pad>,
    attention: Arc<Attention>,
    policy: SamplingPolicy,
    state: Mutex<State>,
    shared: Arc<Shared>,
    /// Pictures are on their way: their packets pass.
    passing: AtomicBool,
}

impl Entry {
    /// Watches what goes into `depayloader` and, unpacked, into `decoder`.
    pub(super) fn watch(
        depayloader: &Element,
        decoder: &Element,
        coding: Coding,
        request: &OpenRequest,
        shared: &Arc<Shared>,
    ) {
        let (Some(packets), Some(pictures)) = (depayloader.static_pad("sink"), decoder.static_pad("sink")) else {
            return;
        };
        let state = State {
            gatherer: Gatherer::default(),
            numbering: Numbering::default(),
            gate: Gate::new(request.sampling, request.on_demand),
            backlog: Backlog::default(),
            kept: Kept::default(),
            deblocking: (coding == Coding::H264).then(Deblocking::default),
            doubted: false,
        };
        let entry = Arc::new(Self {
            coding,
            decoder: pictures.downgrade(),
            attention: request.attention.clone(),
            policy: request.sampling,
            state: Mutex::new(state),
            shared: shared.clone(),
            passing: AtomicBool::new(false),
        });
        let at_event = entry.clone();
        pictures.add_probe(PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(PadProbeData::Event(sent)) = &info.data
                && let EventView::Segment(segment) = sent.view()
                && let Some(flagged) = at_event.flagged(segment.segment())
            {
                info.data = Some(PadProbeData::Event(event::Segment::builder(&flagged).seqnum(sent.seqnum()).build()));
            }
            PadProbeReturn::Ok
        });
        let at_decoder = shared.clone();
        pictures.add_probe(PadProbeType::BUFFER, move |_, info| {
            // The parser may have found out by this very picture, or by one that was kept.
            if at_decoder.too_large.load(Ordering::Relaxed) {
                return PadProbeReturn::Handled;
            }
            if let Some(pts) = info.buffer().and_then(|buffer| buffer.pts()) {
                at_decoder.enters(pts);
            }
            PadProbeReturn::Ok
        });
        let at_caps = entry.clone();
        packets.add_probe(PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(PadProbeData::Event(sent)) = &info.data
                && let EventView::Caps(announced) = sent.view()
                && let Some(deblocking) = &mut at_caps.lock().deblocking
            {
                deblocking.announced(announced.caps());
            }
            PadProbeReturn::Ok
        });
        packets.add_probe(PadProbeType::BUFFER | PadProbeType::BUFFER_LIST, move |pad, info| {
            if entry.passing.load(Ordering::Relaxed) {
                return PadProbeReturn::Ok;
            }
            let result = match info.data.take() {
                Some(PadProbeData::Buffer(packet)) => entry.take(pad, packet),
                Some(PadProbeData::BufferList(list)) => {
                    list.iter_owned().try_fold(FlowSuccess::Ok, |_, packet| entry.take(pad, packet))
                }
                other => {
                    info.data = other;
                    return PadProbeReturn::Ok;
                }
            };
            info.flow_res = result;
            // What is left out is `Handled`, too: `Drop` makes GStreamer complain about what the bindings have freed by then.
            PadProbeReturn::Handled
        });
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
    fn decode_alone(&self, alone: bool) {
        if self.shared.alone.swap(alone, Ordering::Relaxed) == alone {
            return;
        }
        let Some(pad) = self.decoder.upgrade() else { return };
        if let Some(segment) = pad.sticky_event::<event::Segment>(0) {
            // The probe above sets the flags.
            pad.send_event(event::Segment::builder(segment.segment()).build());
        }
    }

    /// Takes a packet; an error is the decoder's, or of what stands before it.
    fn take(&self, pad: &Pad, packet: Buffer) -> Result<FlowSuccess, FlowError> {
        let shared = &self.shared;
        let Some(read) = packet.map_readable().ok().and_then(|bytes| Packet::read(self.coding, &bytes)) else {
            return Ok(FlowSuccess::Ok);
        };
        if shared.sequence.load(Ordering::Relaxed) == 0
            && let Some(key) = read.slice
        {
            shared.coded(key);
        }
        // One picture may not grow for ever.
        if !shared.packet(picture::cost(&packet)) || shared.too_large.load(Ordering::Relaxed) {
            return Ok(FlowSuccess::Ok);
        }
        let whole = self.lock().gatherer.take(packet, read);
        whole.into_iter().flatten().try_fold(FlowSuccess::Ok, |_, picture| self.admit(pad, picture))
    }

    /// Sends a picture on.
    fn pass(&self, pad: &Pad, picture: &Encoded) -> Result<FlowSuccess, FlowError> {
        let packets = self.lock().numbering.packets(picture);
        self.passing.store(true, Ordering::Relaxed);
        let result = pad.chain_list(packets);
        self.passing.store(false, Ordering::Relaxed);
        result
    }

    fn admit(&self, pad: &Pad, picture: Encoded) -> Result<FlowSuccess, FlowError> {
        let shared = &self.shared;
        if picture.has_sets
            && let Some(deblocking) = &mut self.lock().deblocking
        {
            deblocking.learn(&picture);
        }
        // The decoder always gets what belongs to no picture.
        let (Some(key), Some(pts)) = (picture.key, picture.pts) else { return self.pass(pad, &picture) };
        shared.whole();
        let now = Instant::now();
        let coded = Coded { at: pts.into(), key, bytes: picture.bytes };
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
        let verdict = state_now.gate.step(coded, &scene, state_now.kept.bytes(), now);
        shared.watches(state_now.gate.is_idle(), state_now.gate.wakes());
        match verdict {
            Verdict::All => {
                shared.left_encoded(state.kept.clear());
                // What waits behind a wake is late for a good reason.
                let waits = shared.is_catching_up();
                let admitted = waits || lag(pad, pts).is_none_or(|lag| state.backlog.admits(lag, key, now));
                drop(state);
                self.decode_alone(false);
                if !admitted {
                    shared.overloaded();
                    return Ok(FlowSuccess::Ok);
                }
                self.pass(pad, &picture)
            }
            Verdict::Alone => {
                shared.sent_alone();
                let unfiltered = state.deblocking.as_ref().map(|deblocking| deblocking.without(&picture));
                drop(state);
                self.decode_alone(true);
                let result = self.pass(pad, unfiltered.as_ref().unwrap_or(&picture));
                self.lock().kept.push(coded, picture, true);
                result
            }
            Verdict::Keep | Verdict::KeepAnew => {
                if verdict == Verdict::KeepAnew {
                    shared.left_encoded(state.kept.clear());
                }
                state.kept.push(coded, picture, false);
                Ok(FlowSuccess::Ok)
            }
            Verdict::Wake { from } => {
                let mut kept = std::mem::take(&mut state.kept);
                drop(state);
                shared.left_encoded(kept.skip(from));
                self.decode_alone(false);
                let kept = kept.into_pictures();
                tracing::debug!(camera = %shared.camera, kept = kept.len(), ?from, at = ?coded.at, ?scene, "the camera woke");
                let fps = self.policy.active_fps.max(self.policy.idle_fps);
                shared.late(Late::new(from, coded.at, fps, now));
                for before in kept {
                    self.pass(pad, &before)?;
                }
                self.pass(pad, &picture)
            }
        }
    }
}

/// How long ago a picture arrived that is about to be decoded.
fn lag(pad: &Pad, pts: ClockTime) -> Option<Duration> {
    let now = pad.parent_element()?.current_running_time()?;
    let segment = pad.sticky_event::<event::Segment>(0)?;
    let then = segment.segment().downcast_ref::<ClockTime>()?.to_running_time(pts)?;
    Some(now.saturating_sub(then).into())
}
