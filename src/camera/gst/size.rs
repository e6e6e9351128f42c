//! How large pictures may be: what a stream announces is judged before a decoder makes room for it.

use std::sync::{Arc, atomic::Ordering};

use gstreamer::{CapsRef, Element, EventView, PadProbeData, PadProbeReturn, PadProbeType, prelude::*};

use super::shared::Shared;
use crate::camera::source::{Cause, SourceEnd};

/// The size in caps that is beyond `most` pixels.
fn beyond(caps: &CapsRef, most: u64) -> Option<(u64, u64)> {
    let structure = caps.structure(0)?;
    let side = |name: &str| structure.get::<i32>(name).ok().and_then(|side| u64::try_from(side).ok());
    let (width, height) = (side("width")?, side("height")?);
    (width.saturating_mul(height) > most).then_some((width, height))
}

/// Judges what goes into `decoder`, and what it is about to give out: some formats tell their size in the picture only.
pub(super) fn watch(decoder: &Element, shared: &Arc<Shared>) {
    for name in ["sink", "src"] {
        let Some(pad) = decoder.static_pad(name) else { continue };
        let shared = shared.clone();
        pad.add_probe(PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let Some(PadProbeData::Event(event)) = &info.data else { return PadProbeReturn::Ok };
            let EventView::Caps(caps) = event.view() else { return PadProbeReturn::Ok };
            let Some((width, height)) = beyond(caps.caps(), shared.max_pixels) else { return PadProbeReturn::Ok };
            shared.too_large.store(true, Ordering::Relaxed);
            shared.end(SourceEnd::new(Cause::TooLarge, format!("{width}x{height}")));
            PadProbeReturn::Drop
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gstreamer::Caps;

    #[test]
    fn only_sizes_that_are_known_are_judged() {
        gstreamer::init().unwrap();
        let of = |width: i32, height: i32| {
            Caps::builder("video/x-h264").field("width", width).field("height", height).build()
        };
        assert_eq!(beyond(&of(7680, 4320), 7680 * 4320), None);
        assert_eq!(beyond(&of(16384, 16384), 7680 * 4320), Some((16384, 16384)));
        assert_eq!(beyond(&of(-1, i32::MAX), 100), None);
        assert_eq!(beyond(&Caps::new_empty_simple("video/x-h264"), 100), None);
    }
}
