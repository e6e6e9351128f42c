//! What comes from the network, counted before anything is decoded: whether anything comes, and whether decoding could begin.
//!
//! Read from the packets themselves: depayloaders and parsers leave out pictures whose parameter sets never came.

use std::sync::{Arc, atomic::Ordering};

use gstreamer::{BufferRef, Element, PadProbeData, PadProbeReturn, PadProbeType, prelude::*};

use super::{access::Coding, shared::Shared};

/// Counts what goes into a depayloader; leaves out what would grow one picture for ever.
pub(super) fn watch(depayloader: &Element, coding: Coding, shared: &Arc<Shared>) {
    let Some(pad) = depayloader.static_pad("sink") else { return };
    let shared = shared.clone();
    pad.add_probe(PadProbeType::BUFFER | PadProbeType::BUFFER_LIST, move |_, info| {
        let mut bytes = 0;
        let mut look = |buffer: &BufferRef| {
            bytes += buffer.size();
            if shared.sequence.load(Ordering::Relaxed) == 0
                && let Ok(packet) = buffer.map_readable()
                && let Some(key) = slice(coding, &packet)
            {
                shared.coded(key);
            }
        };
        match &info.data {
            Some(PadProbeData::Buffer(buffer)) => look(buffer),
            Some(PadProbeData::BufferList(list)) => list.iter().for_each(look),
            _ => {}
        }
        if shared.packet(bytes) { PadProbeReturn::Ok } else { PadProbeReturn::Handled }
    });
}

/// Whether the slice that begins in an RTP packet is one that decoding can begin with; `None` when none begins. RFC 6184 and RFC 7798: whole
/// units, the first of several, and the first fragment.
fn slice(coding: Coding, packet: &[u8]) -> Option<bool> {
    if coding == Coding::Jpeg {
        return Some(true);
    }
    let first = *packet.first()?;
    let mut payload = packet.get(12 + 4 * usize::from(first & 0x0f)..)?;
    if first & 0x10 != 0 {
        let words = u16::from_be_bytes([*payload.get(2)?, *payload.get(3)?]);
        payload = payload.get(4 + 4 * usize::from(words)..)?;
    }
    let byte = |at: usize| payload.get(at).copied();
    match coding {
        Coding::H265 => {
            let kind = match (byte(0)? >> 1) & 0x3f {
                48 => (byte(4)? >> 1) & 0x3f,
                49 => Some(byte(2)?).filter(|head| head & 0x80 != 0)? & 0x3f,
                kind => kind,
            };
            (kind < 32).then_some((16..=23).contains(&kind))
        }
        _ => {
            let kind = match byte(0)? & 0x1f {
                24 => byte(3)? & 0x1f,
                28 | 29 => Some(byte(1)?).filter(|head| head & 0x80 != 0)? & 0x1f,
                kind => kind,
            };
            (1..=5).contains(&kind).then_some(kind == 5)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> Vec<u8> {
        [&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn the_first_slice_of_a_packet_tells_whether_decoding_can_begin() {
        let h264 = |payload: &[u8]| slice(Coding::H264, &packet(payload));
        assert_eq!(h264(&[0x65, 1]), Some(true));
        assert_eq!(h264(&[0x41, 1]), Some(false));
        assert_eq!(h264(&[0x67, 1]), None, "a parameter set");
        assert_eq!((h264(&[0x7c, 0x85]), h264(&[0x7c, 0x81]), h264(&[0x7c, 0x05])), (Some(true), Some(false), None));
        assert_eq!(h264(&[0x78, 0, 5, 0x65, 1]), Some(true), "several in one");
        let h265 = |payload: &[u8]| slice(Coding::H265, &packet(payload));
        assert_eq!((h265(&[19 << 1, 1]), h265(&[1 << 1, 1]), h265(&[33 << 1, 1])), (Some(true), Some(false), None));
        assert_eq!((h265(&[49 << 1, 1, 0x80 | 20]), h265(&[49 << 1, 1, 20])), (Some(true), None));
        // Contributors and an extension stand before the payload.
        let mut long = packet(&[0, 0, 0, 9, 0xbe, 0xde, 0, 1, 1, 2, 3, 4, 0x65]);
        long[0] = 0x91;
        assert_eq!(slice(Coding::H264, &long), Some(true));
    }

    #[test]
    fn any_bytes_are_read() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..5000 {
            let bytes: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            slice(Coding::H264, &bytes);
            slice(Coding::H265, &bytes);
        }
    }
}
