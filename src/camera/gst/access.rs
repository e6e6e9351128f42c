//! Whether an encoded picture can be decoded by itself: read from its NAL units.
//!
//! A parser's flag says no more than "all intra": H.264 pictures of I slices that are no IDR pictures are flagged like key frames, but
//! later pictures may reach back behind them, and the decoder in trick mode gives none of them out.

/// How pictures are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    H264,
    H265,
    /// Every picture stands alone.
    Jpeg,
}

/// NAL units that are looked at in search of the first slice: parameter sets and messages come before it.
const MOST: usize = 64;

/// Whether decoding may begin at an access unit: ITU-T H.264 table 7-1 (IDR), H.265 table 7-1 (IRAP). Units stand behind start codes, or
/// behind lengths of four bytes. `None` when no slice is found.
pub(super) fn is_random_access(coding: Coding, unit: &[u8]) -> Option<bool> {
    if coding == Coding::Jpeg {
        return Some(true);
    }
    // A length of 1 would be a unit without content.
    let coded = unit.starts_with(&[0, 0, 0, 1]) || unit.starts_with(&[0, 0, 1]);
    let mut rest = unit;
    for _ in 0..MOST {
        let (begin, end) = if coded {
            (rest.windows(3).position(|code| code == [0, 0, 1])? + 3, None)
        } else {
            let length = u32::from_be_bytes(rest.first_chunk::<4>().copied()?);
            (4, Some(4usize.checked_add(usize::try_from(length).ok()?)?))
        };
        let header = *rest.get(begin)?;
        let (kind, begins, slices) = match coding {
            Coding::H265 => ((header >> 1) & 0x3f, 16..=23, 0..=31),
            _ => (header & 0x1f, 5..=5, 1..=5),
        };
        if slices.contains(&kind) {
            return Some(begins.contains(&kind));
        }
        rest = rest.get(end.unwrap_or(begin)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idr_pictures_are_told_from_plain_intra_ones() {
        let unit =
            |nal: &[u8]| [&[0, 0, 0, 1, 9, 0x10, 0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 1], nal].concat();
        assert_eq!(is_random_access(Coding::H264, &unit(&[0x65, 0x88])), Some(true));
        assert_eq!(is_random_access(Coding::H264, &unit(&[0x41, 0x88])), Some(false));
        assert_eq!(is_random_access(Coding::H264, &unit(&[0x06, 1])), None, "no slice");
        assert_eq!(is_random_access(Coding::H264, &[]), None);
    }

    #[test]
    fn units_behind_lengths_are_read_as_well() {
        let unit = |slice: u8| [0, 0, 0, 2, 9, 0x10, 0, 0, 0, 3, 0x67, 1, 2, 0, 0, 0, 2, slice, 0x88];
        assert_eq!(is_random_access(Coding::H264, &unit(0x65)), Some(true));
        assert_eq!(is_random_access(Coding::H264, &unit(0x41)), Some(false));
        assert_eq!(is_random_access(Coding::H264, &[0xff, 0xff, 0xff, 0xff, 9]), None);
    }

    #[test]
    fn h265_begins_at_irap_pictures() {
        let unit = |kind: u8| [0, 0, 0, 1, 32 << 1, 1, 9, 0, 0, 1, kind << 1, 1, 0x80];
        for (kind, begins) in [(1, false), (9, false), (19, true), (20, true), (21, true), (16, true)] {
            assert_eq!(is_random_access(Coding::H265, &unit(kind)), Some(begins), "{kind}");
        }
    }

    #[test]
    fn any_bytes_are_read() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..random.usize(..60)).map(|_| random.u8(..3)).collect();
            is_random_access(Coding::H264, &bytes);
            is_random_access(Coding::H265, &bytes);
        }
        assert_eq!(is_random_access(Coding::Jpeg, &[]), Some(true));
    }
}
