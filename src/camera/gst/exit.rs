//! The end of the decoder: pictures become frames, newest first, or in order while the camera catches up.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use gstreamer::{
    Caps, ClockTime, FlowError, FlowSuccess, PadProbeReturn, PadProbeType, QueryViewMut, prelude::*, query::Allocation,
};
use gstreamer_app::{AppSink, AppSinkCallbacks};
use gstreamer_video::{VideoBufferPool, VideoInfo, VideoMeta};

use super::{buffer, late::Place, pipeline::LATENCY_MS, shared::Shared};
use crate::{
    frame::{Decoded, Frame, Picture},
    time,
};

/// The sink of a decoder: keeps one frame, hands over the newest.
pub(super) fn sink(shared: &Arc<Shared>) -> AppSink {
    let caps = Caps::builder("video/x-raw")
        .field("format", gstreamer::List::new(["I420", "NV12"]))
        .field("pixel-aspect-ratio", gstreamer::Fraction::new(1, 1))
        .build();
    let sink = AppSink::builder().caps(&caps).max_buffers(1).drop(true).sync(false).build();
    if let Some(pad) = sink.static_pad("sink") {
        pad.add_probe(PadProbeType::QUERY_DOWNSTREAM, |_, info| match info.query_mut().map(|query| query.view_mut()) {
            Some(QueryViewMut::Allocation(query)) => {
                welcome(query);
                PadProbeReturn::Handled
            }
            _ => PadProbeReturn::Ok,
        });
    }
    let shared = shared.clone();
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| FlowError::Eos)?;
                take(&shared, sink, &sample);
                Ok(FlowSuccess::Ok)
            })
            .build(),
    );
    sink
}

/// Lets a decoder hand over the memory that it decoded into, its rows as far apart as it likes. A sink that says nothing gets a packed copy of
/// each picture; and so does one that offers no pool, where a decoder's blocks reach beyond the picture (1088 rows for 1080).
fn welcome(query: &mut Allocation) {
    query.add_allocation_meta::<VideoMeta>(None);
    let (caps, _) = query.get_owned();
    if let Some(info) = caps.and_then(|caps| VideoInfo::from_caps(&caps).ok()) {
        // As many buffers as are in use: frames are few, and the decoder keeps what it refers to.
        query.add_allocation_pool(Some(&VideoBufferPool::new()), info.size() as u32, 0, 0);
    }
}

/// A decoded picture becomes a frame in the slot; what can't be mapped is left out.
fn take(shared: &Shared, sink: &AppSink, sample: &gstreamer::Sample) {
    let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps()) else { return };
    let Ok(info) = VideoInfo::from_caps(caps) else { return };
    let now = Instant::now();
    let pts = buffer.pts();
    let running = sample.segment().and_then(|s| s.downcast_ref::<ClockTime>()?.to_running_time(pts?));
    let age = age(sink.current_running_time(), running);
    let (place, patience) = shared.place(pts, age, now);
    if matches!(place, Place::Seen | Place::Between) {
        shared.passed.fetch_add(u64::from(place == Place::Between), Ordering::Relaxed);
        return;
    }
    // rtspsrc stamps buffers on arrival, so this is when the picture came in.
    let arrived = time::now().checked_sub(age).unwrap_or_else(|_| time::now());
    let captured = buffer::captured(&buffer, arrived);
    if let Some(pts) = pts {
        shared.leaves(pts, now);
    }
    let alone = shared.alone.load(Ordering::Relaxed);
    if alone {
        shared.came_alone();
    }
    let Some(pixels) = buffer::Mapped::new(buffer, &info) else {
        shared.unreadable.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let frame = Frame {
        camera: shared.camera.clone(),
        sequence: shared.sequence.fetch_add(1, Ordering::Relaxed),
        pts: pts.map(Duration::from),
        captured,
        arrived,
        received: now,
        decoded: match place {
            Place::Wanted => Decoded::Late,
            _ if alone => Decoded::Alone,
            _ => Decoded::AsItCame,
        },
        picture: Picture::new(pixels),
    };
    if place == Place::Wanted {
        if !shared.slot.keep_until(frame, patience) {
            shared.overloaded();
        }
    } else if shared.slot.put(frame).is_some() {
        shared.replaced.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long ago a picture arrived, by running times. One that comes earlier than its time foretold, since a network became faster, has just
/// arrived: any other age would set the clock of tracks back.
fn age(now: Option<ClockTime>, arrived: Option<ClockTime>) -> Duration {
    match (now, arrived) {
        (Some(now), Some(arrived)) => now.saturating_sub(arrived).into(),
        _ => Duration::from_millis(u64::from(LATENCY_MS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_comes_early_has_just_arrived() {
        let [early, late] = [10_000, 10_070].map(|ms| Some(ClockTime::from_mseconds(ms)));
        assert_eq!(age(late, early), Duration::from_millis(70));
        assert_eq!(age(early, late), Duration::ZERO);
        assert_eq!(age(late, None), Duration::from_millis(200), "what the jitter buffer takes");
    }
}
