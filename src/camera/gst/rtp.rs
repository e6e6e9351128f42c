//! What is read in RTP packets (RFC 3550), and written: which picture they belong to, and whether decoding can begin with it.
//!
//! Read here and not behind a parser, whose flag says no more than "all intra": H.264 pictures of I slices that are no IDR pictures are flagged
//! like key frames, but later pictures may reach back behind them, and the decoder in trick mode gives none of them out.

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
    /// Bytes of payload.
    pub(super) bytes: usize,
}

impl Packet {
    /// Reads a packet; `None` for what is none.
    pub(super) fn read(coding: Coding, packet: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER] = packet.first_chunk()?;
        if head[0] >> 6 != 2 {
            return None;
        }
        let mut payload = packet.get(HEADER + 4 * usize::from(head[0] & 0x0f)..)?;
        if head[0] & 0x10 != 0 {
            let words = u16::from_be_bytes([*payload.get(2)?, *payload.get(3)?]);
            payload = payload.get(4 + 4 * usize::from(words)..)?;
        }
        Some(Self {
            sequence: u16::from_be_bytes([head[2], head[3]]),
            timestamp: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            is_last: head[1] & 0x80 != 0,
            slice: slice(coding, payload),
            bytes: payload.len(),
        })
    }
}

/// Writes a number into a packet, and that it is the last one of its picture.
pub(super) fn renumber(packet: &mut [u8], sequence: u16, is_last: bool) {
    if let [_, kind, high, low, ..] = packet {
        *kind |= u8::from(is_last) << 7;
        [*high, *low] = sequence.to_be_bytes();
    }
}

/// Units of one packet that are looked at in search of a slice: parameter sets and messages come before it.
const MOST: usize = 64;

/// Whether decoding can begin at the first slice that begins in a payload; `None` when none begins. RFC 6184 and RFC 7798: whole units, several of
/// them, and the first fragment of one.
fn slice(coding: Coding, payload: &[u8]) -> Option<bool> {
    let byte = |at: usize| payload.get(at).copied();
    match coding {
        Coding::Jpeg => Some(true),
        Coding::H265 => match (byte(0)? >> 1) & 0x3f {
            48 => units(payload.get(2..)?).find_map(|unit| of_h265((unit >> 1) & 0x3f)),
            49 => of_h265(byte(2).filter(|head| head & 0x80 != 0)? & 0x3f),
            kind => of_h265(kind),
        },
        Coding::H264 => match byte(0)? & 0x1f {
            24 => units(payload.get(1..)?).find_map(|unit| of_h264(unit & 0x1f)),
            28 | 29 => of_h264(byte(1).filter(|head| head & 0x80 != 0)? & 0x1f),
            kind => of_h264(kind),
        },
    }
}

/// The first bytes of units that stand behind lengths of two bytes.
fn units(mut rest: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
        let first = rest.get(2).copied();
        rest = rest.get(2 + length..).unwrap_or_default();
        first
    })
    .take(MOST)
}

/// By the kind of a unit, ITU-T H.264 table 7-1: slices, of which IDR ones are for beginning.
fn of_h264(kind: u8) -> Option<bool> {
    (1..=5).contains(&kind).then_some(kind == 5)
}

/// By the kind of a unit, ITU-T H.265 table 7-1: slices, of which IRAP ones are for beginning.
fn of_h265(kind: u8) -> Option<bool> {
    (kind < 32).then_some((16..=23).contains(&kind))
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
        let read = Packet { sequence: 1, timestamp: 9, is_last: false, slice: Some(true), bytes: 1 };
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
