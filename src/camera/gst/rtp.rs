//! What is read in RTP packets (RFC 3550), and written: which picture they belong to, and whether decoding can begin with it.
//!
//! Read here and not behind a parser, whose flag says no more than "all intra": H.264 pictures of I slices that are no IDR pictures are flagged
//! like key frames, but later pictures may reach back behind them, and the decoder in trick mode gives none of them out.

use std::ops::Range;

/// How pictures are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    H264,
    H265,
    /// Every picture stands alone.
    Jpeg,
}

/// Bytes before the payload, at least.
const HEADER: usize = 12;

/// The header of a packet, and what its payload begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    /// Its number, from 65535 on to 0.
    pub(super) sequence: u16,
    /// The same for all packets of a picture.
    pub(super) timestamp: u32,
    /// Nothing of its picture comes after it.
    pub(super) is_last: bool,
    /// Whether decoding can begin at the slice that begins in it; `None` when none does.
    pub(super) slice: Option<bool>,
    /// Parameter sets of H.264 begin in it.
    pub(super) has_sets: bool,
    /// Bytes of payload.
    pub(super) bytes: usize,
}

impl Packet {
    /// Reads a packet; `None` for what is none.
    pub(super) fn read(coding: Coding, packet: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER] = packet.first_chunk()?;
        let at = payload(packet)?;
        let mut read = Self {
            sequence: u16::from_be_bytes([head[2], head[3]]),
            timestamp: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            is_last: head[1] & 0x80 != 0,
            slice: (coding == Coding::Jpeg).then_some(true),
            has_sets: false,
            bytes: packet.len() - at,
        };
        for unit in units_from(coding, packet, at) {
            let kind = unit.kind(coding);
            read.slice = read.slice.or_else(|| begins(coding, kind));
            read.has_sets |= coding == Coding::H264 && SETS_OF_H264.contains(&kind);
        }
        Some(read)
    }
}

/// Where the payload of a packet begins; `None` for what is no packet.
fn payload(packet: &[u8]) -> Option<usize> {
    let head = *packet.first()?;
    let mut at = HEADER + 4 * usize::from(head & 0x0f);
    if head & 0x10 != 0 {
        let words = u16::from_be_bytes(*packet.get(at + 2..)?.first_chunk()?);
        at += 4 + 4 * usize::from(words);
    }
    (head >> 6 == 2 && at <= packet.len()).then_some(at)
}

/// Writes a number into a packet, and that it is the last one of its picture.
pub(super) fn renumber(packet: &mut [u8], sequence: u16, is_last: bool) {
    if let [_, kind, high, low, ..] = packet {
        *kind |= u8::from(is_last) << 7;
        [*high, *low] = sequence.to_be_bytes();
    }
}

/// Units of one packet that are looked at: parameter sets and messages come before slices.
const MOST: usize = 64;

/// Parameter sets that slices refer to, ITU-T H.264 table 7-1.
pub(super) const SETS_OF_H264: [u8; 2] = [7, 8];

/// A unit that begins in a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// Its first byte. Where a packet has only a fragment, it is put together again.
    pub(super) head: u8,
    /// Where the rest of it, or as much as is there, stands in the packet. The second byte of the head of H.265 is missing where it is a fragment.
    pub(super) rest: Range<usize>,
    /// It ends in the packet, too.
    pub(super) is_whole: bool,
}

impl Unit {
    /// What it is, ITU-T H.264 and H.265 table 7-1.
    pub(super) fn kind(&self, coding: Coding) -> u8 {
        if coding == Coding::H265 { (self.head >> 1) & 0x3f } else { self.head & 0x1f }
    }
}

/// The units that begin in a packet (RFC 6184 and RFC 7798): one that is whole, several of them, or the first fragment of one.
pub(super) fn units(coding: Coding, packet: &[u8]) -> impl Iterator<Item = Unit> {
    units_from(coding, packet, payload(packet).unwrap_or(packet.len()))
}

fn units_from(coding: Coding, packet: &[u8], at: usize) -> impl Iterator<Item = Unit> {
    let end = packet.len();
    let byte = |at: usize| packet.get(at).copied();
    // Units that stand behind lengths of two bytes begin at `several`.
    let (one, several) = match (coding, byte(at)) {
        (Coding::Jpeg, _) | (_, None) => (None, None),
        (Coding::H264, Some(head)) => match head & 0x1f {
            24 => (None, Some(at + 1)),
            28 | 29 => {
                let fragment = byte(at + 1).filter(|fragment| fragment & 0x80 != 0);
                // The second kind has a number before the fragment.
                let rest = (at + if head & 0x1f == 28 { 2 } else { 4 }).min(end)..end;
                (fragment.map(|kind| Unit { head: head & 0xe0 | kind & 0x1f, rest, is_whole: false }), None)
            }
            _ => (Some(Unit { head, rest: at + 1..end, is_whole: true }), None),
        },
        (Coding::H265, Some(head)) => match (head >> 1) & 0x3f {
            48 => (None, Some(at + 2)),
            49 => {
                let fragment = byte(at + 2).filter(|fragment| fragment & 0x80 != 0);
                let rest = (at + 3).min(end)..end;
                (fragment.map(|kind| Unit { head: head & 0x81 | (kind & 0x3f) << 1, rest, is_whole: false }), None)
            }
            _ => (Some(Unit { head, rest: at + 1..end, is_whole: true }), None),
        },
    };
    let mut next = several.unwrap_or(end);
    let several = std::iter::from_fn(move || {
        let begin = next + 2;
        let length = usize::from(u16::from_be_bytes(*packet.get(next..)?.first_chunk()?));
        next = begin + length;
        let head = *packet.get(begin)?;
        Some(Unit { head, rest: begin + 1..next.clamp(begin + 1, end), is_whole: next <= end })
    });
    one.into_iter().chain(several.take(MOST))
}

/// Whether decoding can begin at a unit of a kind; `None` when it is no slice. ITU-T H.264 table 7-1: slices, of which IDR ones are for beginning;
/// ITU-T H.265 table 7-1: slices, of which IRAP ones are.
fn begins(coding: Coding, kind: u8) -> Option<bool> {
    match coding {
        Coding::H265 => (kind < 32).then_some((16..=23).contains(&kind)),
        _ => (1..=5).contains(&kind).then_some(kind == 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> Vec<u8> {
        [&[0x80, 96, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1], payload].concat()
    }

    fn of(coding: Coding, payload: &[u8]) -> Option<bool> {
        Packet::read(coding, &packet(payload)).unwrap().slice
    }

    #[test]
    fn the_first_slice_of_a_packet_tells_whether_decoding_can_begin() {
        let h264 = |payload: &[u8]| of(Coding::H264, payload);
        assert_eq!(h264(&[0x65, 1]), Some(true));
        assert_eq!(h264(&[0x41, 1]), Some(false));
        assert_eq!((h264(&[0x67, 1]), h264(&[9, 0x10]), h264(&[])), (None, None, None), "no slice");
        assert_eq!((h264(&[0x7c, 0x85]), h264(&[0x7c, 0x81]), h264(&[0x7c, 0x05])), (Some(true), Some(false), None));
        let several = [0x78, 0, 2, 9, 0x10, 0, 1, 0x67, 0, 3, 0x65, 1, 2];
        assert_eq!(
            (h264(&several), h264(&several[..8]), h264(&several[..2])),
            (Some(true), None, None),
            "several in one"
        );
        let h265 = |payload: &[u8]| of(Coding::H265, payload);
        for (kind, begins) in [(1, false), (9, false), (19, true), (20, true), (21, true), (16, true)] {
            assert_eq!(h265(&[kind << 1, 1]), Some(begins), "{kind}");
        }
        assert_eq!(h265(&[48 << 1, 1, 0, 2, 32 << 1, 1, 0, 2, 1 << 1, 1]), Some(false), "several in one");
        assert_eq!((h265(&[33 << 1, 1]), h265(&[49 << 1, 1, 20])), (None, None));
        assert_eq!(h265(&[49 << 1, 1, 0x80 | 20]), Some(true));
        assert_eq!(of(Coding::Jpeg, &[]), Some(true));
    }

    #[test]
    fn headers_are_read_and_written() {
        // Contributors and an extension stand before the payload.
        let mut long = packet(&[0, 0, 0, 9, 0xbe, 0xde, 0, 1, 1, 2, 3, 4, 0x65]);
        long[0] = 0x91;
        let read = Packet { sequence: 1, timestamp: 9, is_last: false, slice: Some(true), has_sets: false, bytes: 1 };
        assert_eq!(Packet::read(Coding::H264, &long), Some(read));
        renumber(&mut long, 0x1234, false);
        assert_eq!(Packet::read(Coding::H264, &long), Some(Packet { sequence: 0x1234, ..read }));
        renumber(&mut long, 1, true);
        assert_eq!(Packet::read(Coding::H264, &long), Some(Packet { is_last: true, ..read }));
        renumber(&mut long, 2, false);
        assert!(Packet::read(Coding::H264, &long).unwrap().is_last, "what was last stays last");
    }

    #[test]
    fn any_bytes_are_read() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..5000 {
            let mut bytes: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            for coding in [Coding::H264, Coding::H265, Coding::Jpeg] {
                Packet::read(coding, &bytes);
                renumber(&mut bytes, 7, true);
            }
        }
    }
}
