//! Figures of multiple-object tracking: CLEAR MOT (Bernardin and Stiefelhagen, EURASIP JIVP 2008) and identity F1 (Ristani et al., ECCV
//! Workshops 2016, arXiv 1609.01775).
//!
//! A track's box is at a face when their IoU is at least 0.5. As MOTChallenge does, boxes at faces that don't count are taken out first. Matches
//! hold as long as they can (CLEAR); a *switch* is a face at another track than the last one it was at, however long ago; a
//! *fragmentation* a face that is lost between two moments at which it is followed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Truth;
use crate::{frame::BBox, track::association::assign};

/// Least IoU of a box at a face.
const AT: f32 = 0.5;
/// Weight of a match, so that more matches always beat better ones.
const MATCH: i64 = 10_000_000;

/// Truth and tracks of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameOf {
    /// Faces that are there.
    pub truth: Vec<Truth>,
    /// Number of the track and its box.
    pub tracks: Vec<(usize, BBox)>,
}

/// Counts of one or several scenes; rates are made of their sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Faces to be followed, over all frames.
    pub faces: usize,
    /// Boxes of tracks, over all frames.
    pub boxes: usize,
    /// Faces at no track.
    pub misses: usize,
    /// Boxes at no face.
    pub false_positives: usize,
    /// Faces that are at another track than before.
    pub switches: usize,
    /// Interruptions.
    pub fragmentations: usize,
    /// Faces at the track that is the appearance's own under the best one-to-one assignment of tracks to appearances.
    pub identified: usize,
    /// Appearances that could be followed.
    pub appearances: usize,
    /// Tracks of at least two boxes: what a subscriber would be told of as appearances.
    pub tracks: usize,
}

impl Figures {
    /// Identity F1, 0 to 1.
    pub fn idf1(&self) -> f64 {
        ratio(2 * self.identified, self.faces + self.boxes)
    }

    /// Multiple-object tracking accuracy, at most 1; negative when there are more mistakes than faces.
    pub fn mota(&self) -> f64 {
        1.0 - ratio(self.misses + self.false_positives + self.switches, self.faces)
    }

    /// Tracks an appearance; 1 is right.
    pub fn tracks_per_appearance(&self) -> f64 {
        ratio(self.tracks, self.appearances)
    }
}

fn ratio(a: usize, b: usize) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

impl std::iter::Sum for Figures {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            faces: a.faces + b.faces,
            boxes: a.boxes + b.boxes,
            misses: a.misses + b.misses,
            false_positives: a.false_positives + b.false_positives,
            switches: a.switches + b.switches,
            fragmentations: a.fragmentations + b.fragmentations,
            identified: a.identified + b.identified,
            appearances: a.appearances + b.appearances,
            tracks: a.tracks + b.tracks,
        })
    }
}

/// Judges a scene.
pub fn judge(frames: &[FrameOf]) -> Figures {
    let mut figures = Figures::default();
    // Last track each appearance was at, and its history: followed or not.
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    let mut history: BTreeMap<usize, Vec<bool>> = BTreeMap::new();
    let mut together: BTreeMap<(usize, usize), i64> = BTreeMap::new();
    let mut boxes_of: BTreeMap<usize, usize> = BTreeMap::new();
    for frame in frames {
        let (truth, tracks) = counted(frame);
        figures.faces += truth.len();
        figures.boxes += tracks.len();
        tracks.iter().for_each(|(track, _)| *boxes_of.entry(*track).or_default() += 1);
        for face in &truth {
            for (track, _) in tracks.iter().filter(|(_, b)| b.iou(&face.bbox) >= AT) {
                *together.entry((face.appearance, *track)).or_default() += 1;
            }
        }
        let pairs = clear_matches(&truth, &tracks, &last);
        figures.misses += truth.len() - pairs.len();
        figures.false_positives += tracks.len() - pairs.len();
        for (t, face) in truth.iter().enumerate() {
            let at = pairs.iter().find(|p| p.0 == t).map(|p| tracks[p.1].0);
            history.entry(face.appearance).or_default().push(at.is_some());
            if let Some(track) = at {
                let before = last.insert(face.appearance, track);
                figures.switches += usize::from(before.is_some_and(|before| before != track));
            }
        }
    }
    figures.fragmentations = history.values().map(|h| interruptions(h)).sum();
    let rows: Vec<usize> = history.keys().copied().collect();
    let columns: Vec<usize> = boxes_of.keys().copied().collect();
    let allowed: Vec<_> = together
        .iter()
        .filter_map(|((a, t), n)| Some((rows.binary_search(a).ok()?, columns.binary_search(t).ok()?, *n)))
        .collect();
    let chosen = assign(&allowed);
    figures.identified = chosen
        .iter()
        .filter_map(|(a, t)| together.get(&(*rows.get(*a)?, *columns.get(*t)?)))
        .map(|n| usize::try_from(*n).unwrap_or(0))
        .sum();
    figures.appearances = history.len();
    figures.tracks = boxes_of.values().filter(|n| **n > 1).count();
    figures
}

/// Faces and boxes that count: those of faces that don't are taken out.
fn counted(frame: &FrameOf) -> (Vec<Truth>, Vec<(usize, BBox)>) {
    let gone = matches(&frame.truth, &frame.tracks, &[], &[]);
    let tracks = frame.tracks.iter().enumerate().filter(|(i, _)| {
        let at = gone.iter().find(|p| p.1 == *i);
        at.is_none_or(|(t, _)| frame.truth[*t].counts)
    });
    (frame.truth.iter().filter(|t| t.counts).copied().collect(), tracks.map(|(_, track)| *track).collect())
}

/// CLEAR's matches: those of before first, the rest by the best assignment.
fn clear_matches(truth: &[Truth], tracks: &[(usize, BBox)], last: &BTreeMap<usize, usize>) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (t, face) in truth.iter().enumerate() {
        let Some(before) = last.get(&face.appearance) else { continue };
        let still = tracks.iter().position(|(track, b)| track == before && b.iou(&face.bbox) >= AT);
        pairs.extend(still.filter(|i| pairs.iter().all(|p| p.1 != *i)).map(|i| (t, i)));
    }
    let (rows, columns): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
    pairs.extend(matches(truth, tracks, &rows, &columns));
    pairs
}

/// The most matches, and of those the best, among faces and tracks that are not taken.
fn matches(truth: &[Truth], tracks: &[(usize, BBox)], rows: &[usize], columns: &[usize]) -> Vec<(usize, usize)> {
    let mut allowed = Vec::new();
    for (t, face) in truth.iter().enumerate().filter(|(t, _)| !rows.contains(t)) {
        for (i, (_, bbox)) in tracks.iter().enumerate().filter(|(i, _)| !columns.contains(i)) {
            let iou = bbox.iou(&face.bbox);
            if iou >= AT {
                allowed.push((t, i, MATCH + (iou * 1e5) as i64));
            }
        }
    }
    assign(&allowed)
}

/// How often a face is lost between two moments at which it is followed.
fn interruptions(followed: &[bool]) -> usize {
    let Some(end) = followed.iter().rposition(|f| *f) else { return 0 };
    followed[..=end].windows(2).filter(|w| w[0] && !w[1]).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f32) -> BBox {
        BBox::new(x, 0.0, x + 10.0, 10.0)
    }

    fn face(appearance: usize, x: f32) -> Truth {
        Truth { appearance, bbox: at(x), counts: true }
    }

    /// Faces as (appearance, x), tracks as (number, x).
    type Made<'a> = (&'a [(usize, f32)], &'a [(usize, f32)]);

    fn play(frames: &[Made<'_>]) -> Figures {
        let frame = |(truth, tracks): &Made<'_>| FrameOf {
            truth: truth.iter().map(|(a, x)| face(*a, *x)).collect(),
            tracks: tracks.iter().map(|(t, x)| (*t, at(*x))).collect(),
        };
        judge(&frames.iter().map(frame).collect::<Vec<_>>())
    }

    #[test]
    fn following_perfectly_is_one() {
        let frame: Made<'_> = (&[(0, 0.0), (1, 50.0)], &[(7, 1.0), (9, 50.0)]);
        let f = play(&[frame; 4]);
        assert_eq!((f.idf1(), f.mota(), f.switches, f.fragmentations, f.tracks), (1.0, 1.0, 0, 0, 2));
    }

    #[test]
    fn tracks_that_change_places_cost_identity_and_two_switches() {
        let before: Made<'_> = (&[(0, 0.0), (1, 50.0)], &[(7, 0.0), (9, 50.0)]);
        let after: Made<'_> = (&[(0, 0.0), (1, 50.0)], &[(9, 0.0), (7, 50.0)]);
        let f = play(&[before, before, before, after]);
        // Six of eight boxes are at the right face: IDF1 = 2 * 6 / (8 + 8).
        assert_eq!((f.idf1(), f.switches, f.mota()), (0.75, 2, 0.75));
    }

    #[test]
    fn a_new_track_for_the_same_face_is_a_switch_even_after_a_gap() {
        let f = play(&[
            (&[(0, 0.0)], &[(1, 0.0)]),
            (&[(0, 0.0)], &[(1, 0.0)]),
            (&[(0, 0.0)], &[]),
            (&[(0, 0.0)], &[(2, 0.0)]),
            (&[(0, 0.0)], &[]),
        ]);
        assert_eq!((f.switches, f.fragmentations, f.misses, f.tracks, f.appearances), (1, 1, 2, 1, 1));
        // Best single track is right twice: 2 * 2 / (5 + 3).
        assert_eq!(f.idf1(), 0.5);
        assert!((f.mota() - 0.4).abs() < 1e-9);
    }

    #[test]
    fn a_match_holds_although_another_track_comes_nearer() {
        let f = play(&[(&[(0, 0.0)], &[(1, 2.0)]), (&[(0, 0.0)], &[(1, 2.0), (2, 0.0)])]);
        assert_eq!((f.switches, f.false_positives, f.misses), (0, 1, 0));
    }

    #[test]
    fn boxes_at_faces_that_do_not_count_are_no_mistakes() {
        let hidden = FrameOf { truth: vec![Truth { counts: false, ..face(0, 0.0) }], tracks: vec![(1, at(0.0))] };
        let f = judge(&[hidden.clone(), FrameOf { tracks: vec![(1, at(0.0)), (2, at(70.0))], ..hidden }]);
        assert_eq!((f.faces, f.boxes, f.false_positives, f.misses), (0, 1, 1, 0));
    }

    #[test]
    fn nothing_is_nothing() {
        let f = judge(&[]);
        assert_eq!((f.idf1(), f.tracks_per_appearance(), f.faces), (0.0, 0.0, 0));
    }
}
