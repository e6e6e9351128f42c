//! Two plain trackers to be better than: overlap alone, and the scheme of ByteTrack without time and looks.

use super::{Footage, Trail};
use crate::{face::Detection, frame::BBox, track::association::assign};

/// Least score of a good detection, as in the server's tracker.
const GOOD: f32 = 0.6;
/// Frames a track is kept without its face: 1.5 s at 8 frames a second.
const KEPT: usize = 12;

/// A track of a rival.
#[derive(Debug, Clone, Copy)]
struct Line {
    number: usize,
    bbox: BBox,
    /// Pixels a frame.
    velocity: (f32, f32),
    missed: usize,
}

/// Overlap with the last box: IoU at least 0.3, best assignment, good detections only (SORT without its filter: Bewley et al., ICIP 2016).
pub fn overlap(footage: &Footage) -> Trail {
    let (mut lines, mut next): (Vec<Line>, usize) = (Vec::new(), 0);
    let each = footage.moments.iter().map(|moment| {
        let good = indices(&moment.seen.iter().map(|s| s.detection).collect::<Vec<_>>(), GOOD, 2.0);
        let boxes: Vec<BBox> = moment.seen.iter().map(|s| s.detection.bbox).collect();
        let mut free: Vec<usize> = (0..lines.len()).collect();
        let pairs = by_overlap(&lines, &mut free, &boxes, &good, 0.3, |line| line.bbox);
        for (line, i) in &pairs {
            (lines[*line].bbox, lines[*line].missed) = (boxes[*i], 0);
        }
        finish(&mut lines, &mut next, &pairs, &free, &good, &boxes)
    });
    each.collect()
}

/// The scheme of ByteTrack (Zhang et al., ECCV 2022): boxes moved on by a constant velocity a *frame*, good detections at IoU 0.2, then
/// doubtful ones at IoU 0.5 for tracks that were seen in the last frame. A smoothed velocity stands for its Kalman filter.
pub fn byte(footage: &Footage) -> Trail {
    let (mut lines, mut next): (Vec<Line>, usize) = (Vec::new(), 0);
    let each = footage.moments.iter().map(|moment| {
        let detections: Vec<Detection> = moment.seen.iter().map(|s| s.detection).collect();
        let (good, doubtful) = (indices(&detections, GOOD, 2.0), indices(&detections, 0.1, GOOD));
        let boxes: Vec<BBox> = detections.iter().map(|d| d.bbox).collect();
        let ahead = |line: &Line| {
            let frames = (line.missed + 1) as f32;
            let (dx, dy) = (line.velocity.0 * frames, line.velocity.1 * frames);
            BBox::new(line.bbox.x1 + dx, line.bbox.y1 + dy, line.bbox.x2 + dx, line.bbox.y2 + dy)
        };
        let mut free: Vec<usize> = (0..lines.len()).collect();
        let mut pairs = by_overlap(&lines, &mut free, &boxes, &good, 0.2, ahead);
        let mut lately: Vec<usize> = free.iter().copied().filter(|l| lines[*l].missed == 0).collect();
        let second = by_overlap(&lines, &mut lately, &boxes, &doubtful, 0.5, ahead);
        free.retain(|l| second.iter().all(|p| p.0 != *l));
        pairs.extend(second);
        for (l, i) in &pairs {
            let line = &mut lines[*l];
            let (old, new, frames) = (line.bbox.center(), boxes[*i].center(), (line.missed + 1) as f32);
            let step = ((new.x - old.x) / frames, (new.y - old.y) / frames);
            line.velocity = (0.4 * line.velocity.0 + 0.6 * step.0, 0.4 * line.velocity.1 + 0.6 * step.1);
            (line.bbox, line.missed) = (boxes[*i], 0);
        }
        finish(&mut lines, &mut next, &pairs, &free, &good, &boxes)
    });
    each.collect()
}

fn indices(detections: &[Detection], from: f32, below: f32) -> Vec<usize> {
    (0..detections.len()).filter(|i| (from..below).contains(&detections[*i].score)).collect()
}

/// Best assignment of detections to free lines by IoU; lines taken are no longer free.
fn by_overlap(
    lines: &[Line],
    free: &mut Vec<usize>,
    boxes: &[BBox],
    among: &[usize],
    least: f32,
    expected: impl Fn(&Line) -> BBox,
) -> Vec<(usize, usize)> {
    let mut allowed = Vec::new();
    for line in free.iter() {
        let expected = expected(&lines[*line]);
        for i in among {
            let iou = expected.iou(&boxes[*i]);
            if iou >= least {
                allowed.push((*line, *i, 1 + (iou * 1e6) as i64));
            }
        }
    }
    let pairs = assign(&allowed);
    free.retain(|l| pairs.iter().all(|p| p.0 != *l));
    pairs
}

/// Begins and ends lines; what is told about the frame.
fn finish(
    lines: &mut Vec<Line>,
    next: &mut usize,
    pairs: &[(usize, usize)],
    free: &[usize],
    good: &[usize],
    boxes: &[BBox],
) -> Vec<(usize, usize)> {
    let mut told: Vec<(usize, usize)> = pairs.iter().map(|(l, i)| (lines[*l].number, *i)).collect();
    free.iter().for_each(|l| lines[*l].missed += 1);
    for i in good.iter().filter(|i| pairs.iter().all(|p| p.1 != **i)) {
        lines.push(Line { number: *next, bbox: boxes[*i], velocity: (0.0, 0.0), missed: 0 });
        told.push((*next, *i));
        *next += 1;
    }
    lines.retain(|line| line.missed <= KEPT);
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evaluation::tracking::{Moment, Seen},
        frame::Point,
    };

    fn footage(frames: &[&[(f32, f32)]]) -> Footage {
        let seen = |&(x, score): &(f32, f32)| Seen {
            detection: Detection { bbox: BBox::new(x, 0.0, x + 50.0, 50.0), score, landmarks: [Point::default(); 5] },
            quality: [0.5; 4],
            embedding: Vec::new(),
        };
        let moment = |(i, frame): (usize, &&[(f32, f32)])| Moment {
            at_ms: 125 * i as i64,
            truth: Vec::new(),
            seen: frame.iter().map(seen).collect(),
        };
        let moments = frames.iter().enumerate().map(moment).collect();
        Footage {
            scene: "made".into(),
            seed: 0,
            model: "m".into(),
            setup: super::super::tests::setup(),
            size: (640, 360),
            moments,
        }
    }

    #[test]
    fn overlap_follows_slow_faces_and_loses_fast_ones() {
        let slow = footage(&[&[(0.0, 0.9)], &[(10.0, 0.9)], &[(20.0, 0.9), (200.0, 0.9)]]);
        assert_eq!(overlap(&slow), [vec![(0, 0)], vec![(0, 0)], vec![(0, 0), (1, 1)]]);
        let fast = footage(&[&[(0.0, 0.9)], &[(60.0, 0.9)]]);
        assert_eq!(overlap(&fast), [vec![(0, 0)], vec![(1, 0)]]);
    }

    #[test]
    fn byte_predicts_and_uses_doubtful_detections() {
        let f = footage(&[&[(0.0, 0.9)], &[(30.0, 0.9)], &[(55.0, 0.3)], &[(110.0, 0.9)]]);
        assert_eq!(byte(&f).concat(), [(0, 0); 4]);
        assert_eq!(overlap(&f)[2], []);
    }
}
