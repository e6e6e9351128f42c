//! What is kept encoded while nothing happens, beginning with a key frame.

use std::{collections::VecDeque, time::Duration};

use super::picture::Encoded;
use crate::camera::gate::Coded;

/// Encoded pictures in the order of decoding.
#[derive(Default)]
pub(super) struct Kept {
    /// Each with whether it was decoded.
    pictures: VecDeque<(Coded, Encoded, bool)>,
    bytes: usize,
}

impl Kept {
    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, coded: Coded, picture: Encoded, decoded: bool) {
        self.bytes += picture.cost;
        self.pictures.push_back((coded, picture, decoded));
    }

    /// All of them.
    pub(super) fn into_pictures(self) -> impl ExactSizeIterator<Item = Encoded> {
        self.pictures.into_iter().map(|(_, picture, _)| picture)
    }

    /// Lets go of everything; how many pictures were never decoded.
    pub(super) fn clear(&mut self) -> u64 {
        self.bytes = 0;
        self.pictures.drain(..).filter(|(_, _, decoded)| !decoded).count() as u64
    }

    /// Lets go of the groups before the newest key frame that was seen; how many pictures were never decoded.
    pub(super) fn forget(&mut self, seen: Duration) -> u64 {
        self.begin(|coded, decoded| decoded && coded.key && coded.at <= seen)
    }

    /// Lets go of the groups that are over before `from`; how many pictures were never decoded.
    pub(super) fn skip(&mut self, from: Duration) -> u64 {
        self.begin(|coded, _| coded.key && coded.at <= from)
    }

    /// Begins with the newest picture that is fit for it, if there is one.
    fn begin(&mut self, fit: impl Fn(&Coded, bool) -> bool) -> u64 {
        let newest = self.pictures.iter().rposition(|(coded, _, decoded)| fit(coded, *decoded));
        let gone = self.pictures.drain(..newest.unwrap_or(0));
        let mut undecoded = 0;
        for (_, picture, decoded) in gone {
            self.bytes -= picture.cost;
            undecoded += u64::from(!decoded);
        }
        undecoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_the_newest_key_frame_that_is_fit() {
        let mut kept = Kept::default();
        // Key frames at 0, 2 and 4 s; the one at 2 s is not decoded.
        for second in 0..6u64 {
            let coded = Coded { at: Duration::from_secs(second), key: second % 2 == 0, bytes: 9 };
            let mut picture = Encoded::default();
            picture.cost = 300;
            kept.push(coded, picture, matches!(second, 0 | 4));
        }
        assert_eq!((kept.bytes(), kept.forget(Duration::from_secs(3))), (1800, 0), "nothing but the first was seen");
        assert_eq!((kept.skip(Duration::from_secs(3)), kept.bytes()), (1, 1200));
        assert_eq!((kept.forget(Duration::from_secs(4)), kept.bytes()), (2, 600));
        assert_eq!((kept.clear(), kept.bytes()), (1, 0));
        assert_eq!(kept.into_pictures().len(), 0);
    }
}
