//! The tracker of one camera: one track per appearance of one face.
//!
//! In: the detections of a frame with its capture time ([`Tracker::step`]). Out: a [`StepReport`]. Detections are joined to tracks
//! in two rounds, good detections first and doubtful ones for what is left, as in ByteTrack (Zhang et al., ECCV 2022,
//! arXiv 2110.06864); each round is an optimal assignment. Pairs are gated by distance from the predicted centre relative to the
//! face's size and the time passed, not by overlap alone: at 5 frames a second a face moves more than its own width.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{association::assign, motion::Motion};
use crate::{
    face::Detection,
    frame::BBox,
    ids::TrackId,
    time::{Timestamp, seconds_between},
};

/// How detections become tracks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrackSettings {
    /// Detections from this score on (0 to 1) begin tracks and are joined first.
    pub high_score: f32,
    /// Detections from this score on (0 to 1) may still continue a track; weaker ones are ignored.
    pub low_score: f32,
    /// A track counts from this many detections on …
    pub min_hits: u32,
    /// … within this many milliseconds …
    pub confirm_within_ms: u32,
    /// … or at once from this score on (0 to 1).
    pub instant_score: f32,
    /// A track ends when its face was not found for this long, milliseconds.
    pub max_lost_ms: u32,
    /// A track outlives a pause without frames up to this long, milliseconds, if its face is there in the next frame.
    pub max_gap_ms: u32,
    /// How fast a face may deviate from its prediction, in face sizes a second.
    pub max_speed: f32,
    /// Greatest deviation from the prediction in face sizes, whatever the time.
    pub max_reach: f32,
}

impl Default for TrackSettings {
    fn default() -> Self {
        Self {
            high_score: 0.6,
            low_score: 0.3,
            min_hits: 2,
            confirm_within_ms: 1000,
            instant_score: 0.98,
            max_lost_ms: 1500,
            max_gap_ms: 3000,
            max_speed: 5.0,
            max_reach: 2.5,
        }
    }
}

/// A track that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedTrack {
    /// Its id.
    pub id: TrackId,
    /// Capture time of its first detection.
    pub first_seen: Timestamp,
    /// Capture time of its last detection; never before the first.
    pub last_seen: Timestamp,
    /// Number of its detections.
    pub hits: u32,
}

/// What a frame changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepReport {
    /// Tracks that are sure to exist from now on.
    pub started: Vec<TrackId>,
    /// Tracks seen in this frame, those started included, each with the index of its detection.
    pub matched: Vec<(TrackId, usize)>,
    /// Tracks that ended.
    pub ended: Vec<EndedTrack>,
}

#[derive(Debug)]
struct Live {
    /// `None` until it is sure that this is a face.
    id: Option<TrackId>,
    motion: Motion,
    first_seen: Timestamp,
    last_seen: Timestamp,
    /// Seconds on the tracker's clock.
    born: f64,
    hits: u32,
    /// Frames in a row without it.
    misses: u32,
}

/// Tracks of one camera.
#[derive(Debug)]
pub struct Tracker {
    settings: TrackSettings,
    live: Vec<Live>,
    /// Tracks that ended lately.
    recent: VecDeque<EndedTrack>,
    /// Seconds of capture time passed; never runs back.
    clock: f64,
    last_step: Option<Timestamp>,
    frame_size: Option<(u32, u32)>,
}

/// Ended tracks remembered at most.
const MAX_RECENT: usize = 64;
/// A new detection that overlaps one already taken by more than this (IoU) is the same face found twice.
const SAME_FACE_IOU: f32 = 0.5;
/// Reach of doubtful detections relative to good ones.
const DOUBTFUL_REACH: f32 = 0.6;
/// Reach that needs no time to pass, in face sizes: jitter of boxes.
const BASE_REACH: f32 = 0.5;
/// Greatest ratio of sizes (edge) between prediction and detection.
const MAX_SIZE_RATIO: f32 = 2.0;

impl Tracker {
    /// A tracker that has seen nothing.
    pub fn new(settings: TrackSettings) -> Self {
        Self { settings, live: Vec::new(), recent: VecDeque::new(), clock: 0.0, last_step: None, frame_size: None }
    }

    /// Takes a frame in: `at` is its capture time, `frame_size` its width and height in pixels.
    ///
    /// Call it for every frame that was searched, also when nothing was found: that is how tracks end. A capture time before
    /// that of the last frame counts as no time passed. Detections that are not finite or empty are ignored.
    pub fn step(&mut self, at: Timestamp, frame_size: (u32, u32), detections: &[Detection]) -> StepReport {
        self.advance(at, frame_size);
        let mut report = StepReport::default();

        // Time ran out while no frame came: no detection may revive these.
        let (clock, settings) = (self.clock, self.settings.clone());
        let outlived = |t: &Live| {
            let allowed = if t.misses == 0 { settings.max_gap_ms } else { settings.max_lost_ms };
            clock - t.motion.at() > f64::from(allowed) / 1000.0
        };
        self.end_where(outlived, &mut report);

        let order = usable(detections, self.settings.low_score);
        let (high, low): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|&i| detections[i].score >= self.settings.high_score);

        // Sure tracks choose among good detections first, then tracks yet to be confirmed, then doubtful detections.
        let mut owner: Vec<Option<usize>> = vec![None; detections.len()];
        let mut seen = vec![false; self.live.len()];
        self.join(&mut owner, &mut seen, detections, &high, |t| t.id.is_some(), 1.0);
        self.join(&mut owner, &mut seen, detections, &high, |t| t.id.is_none(), 1.0);
        self.join(&mut owner, &mut seen, detections, &low, |t| t.misses == 0, DOUBTFUL_REACH);

        for (i, track) in owner.iter().enumerate() {
            if let Some(track) = track.and_then(|t| self.live.get_mut(t)) {
                track.motion.update(&detections[i].bbox, clock);
                track.last_seen = track.last_seen.max(at);
                track.hits = track.hits.saturating_add(1);
                track.misses = 0;
            }
        }
        for (track, _) in self.live.iter_mut().zip(&seen).filter(|(_, seen)| !**seen) {
            track.misses = track.misses.saturating_add(1);
        }
        self.begin(&mut owner, detections, &high, at);

        for (i, index) in owner.iter().enumerate() {
            let Some(track) = index.and_then(|t| self.live.get_mut(t)) else { continue };
            if track.id.is_none() {
                let within = clock - track.born <= f64::from(self.settings.confirm_within_ms) / 1000.0;
                let often = track.hits >= self.settings.min_hits && within;
                if !often && detections[i].score < self.settings.instant_score {
                    continue;
                }
                let id = TrackId::generate();
                track.id = Some(id.clone());
                report.started.push(id);
            }
            report.matched.extend(track.id.clone().map(|id| (id, i)));
        }

        let lost_s = f64::from(self.settings.max_lost_ms) / 1000.0;
        let confirm_s = f64::from(self.settings.confirm_within_ms) / 1000.0;
        let over = |t: &Live| {
            let limit = if t.id.is_some() { lost_s } else { confirm_s.min(lost_s) };
            let unconfirmed = t.id.is_none() && clock - t.born > confirm_s;
            unconfirmed || (t.misses > 0 && clock - t.motion.at() > limit)
        };
        self.end_where(over, &mut report);
        report
    }

    /// Ends every track: the camera stopped.
    pub fn finish(&mut self) -> Vec<EndedTrack> {
        let mut report = StepReport::default();
        self.end_where(|_| true, &mut report);
        report.ended
    }

    /// Number of confirmed tracks at this moment.
    pub fn active(&self) -> usize {
        self.live.iter().filter(|t| t.id.is_some()).count()
    }

    /// Whether any face is followed, also one that is not yet sure to be a face: the next frames decide.
    pub fn is_following(&self) -> bool {
        !self.live.is_empty()
    }

    /// Confirmed tracks whose face was not found in the last frame, with the capture time of their last detection.
    pub fn lost(&self) -> impl Iterator<Item = (&TrackId, Timestamp)> {
        self.live.iter().filter(|t| t.misses > 0).filter_map(|t| Some((t.id.as_ref()?, t.last_seen)))
    }

    /// Where the faces of all tracks, those that are not yet sure included, should be at a capture time.
    pub fn expected(&self, at: Timestamp) -> Vec<BBox> {
        let passed = self.last_step.map_or(0.0, |last| seconds_between(last, at).max(0.0));
        self.live.iter().map(|track| track.motion.predict(self.clock + passed)).collect()
    }

    /// Goes on with a track that was lost or that ended lately: the live track `new` takes the id, first time and hits of `old`, and
    /// the id `new` is gone. False, and nothing changes, when `old` is seen now or not remembered, or `new` is not live.
    ///
    /// For callers that found by [`super::appearance`] that both are one appearance.
    pub fn continue_as(&mut self, old: &TrackId, new: &TrackId) -> bool {
        if !self.live.iter().any(|t| t.id.as_ref() == Some(new)) {
            return false;
        }
        let ended = self.recent.iter().position(|t| t.id == *old).and_then(|place| self.recent.remove(place));
        let past = ended.map(|t| (t.first_seen, t.hits)).or_else(|| {
            let place = self.live.iter().position(|t| t.id.as_ref() == Some(old) && t.misses > 0)?;
            let lost = self.live.swap_remove(place);
            Some((lost.first_seen, lost.hits))
        });
        let Some((first_seen, hits)) = past else { return false };
        if let Some(live) = self.live.iter_mut().find(|t| t.id.as_ref() == Some(new)) {
            live.first_seen = live.first_seen.min(first_seen);
            live.hits = live.hits.saturating_add(hits);
            live.id = Some(old.clone());
        }
        true
    }

    /// Cuts a live track in two: it went over to another face (as its embeddings say). Gives the ended track, to which the
    /// detections so far belong, and the id under which the tracker goes on; `None` when there is no such live track.
    pub fn split(&mut self, id: &TrackId) -> Option<(EndedTrack, TrackId)> {
        let live = self.live.iter_mut().find(|t| t.id.as_ref() == Some(id))?;
        let new = TrackId::generate();
        let ended = EndedTrack {
            id: id.clone(),
            first_seen: live.first_seen,
            last_seen: live.last_seen,
            hits: live.hits.saturating_sub(1).max(1),
        };
        live.id = Some(new.clone());
        live.first_seen = live.last_seen;
        live.hits = 1;
        Some((ended, new))
    }

    /// Two live tracks took each other's face (as their embeddings say): each goes on where the other one is. What is known of an
    /// appearance (its id, first time and hits) changes places, motion stays. False, and nothing changes, when one is not live.
    pub fn exchange(&mut self, a: &TrackId, b: &TrackId) -> bool {
        let place = |id: &TrackId| self.live.iter().position(|t| t.id.as_ref() == Some(id));
        let (Some(i), Some(j)) = (place(a), place(b)) else { return false };
        let (motion_a, motion_b) = (self.live[i].motion, self.live[j].motion);
        let (seen_a, seen_b) = (self.live[i].last_seen, self.live[j].last_seen);
        let (misses_a, misses_b) = (self.live[i].misses, self.live[j].misses);
        (self.live[i].motion, self.live[i].last_seen, self.live[i].misses) = (motion_b, seen_b, misses_b);
        (self.live[j].motion, self.live[j].last_seen, self.live[j].misses) = (motion_a, seen_a, misses_a);
        true
    }

    fn remember(&mut self, ended: EndedTrack) {
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(ended);
    }

    fn advance(&mut self, at: Timestamp, frame_size: (u32, u32)) {
        if let Some(last) = self.last_step {
            self.clock += seconds_between(last, at).max(0.0);
        }
        self.last_step = Some(at);
        if let Some((w, h)) = self.frame_size.replace(frame_size)
            && (w, h) != frame_size
            && w > 0
            && h > 0
        {
            let (x, y) = (frame_size.0 as f32 / w as f32, frame_size.1 as f32 / h as f32);
            self.live.iter_mut().for_each(|t| t.motion.rescale(x, y));
        }
    }

    /// One round: free tracks that `may` take part against free detections among `candidates`.
    fn join(
        &self,
        owner: &mut [Option<usize>],
        seen: &mut [bool],
        detections: &[Detection],
        candidates: &[usize],
        may: impl Fn(&Live) -> bool,
        reach: f32,
    ) {
        let mut allowed = Vec::new();
        for (t, track) in self.live.iter().enumerate().filter(|(t, track)| !seen[*t] && may(track)) {
            let expected = track.motion.predict(self.clock);
            // Ranks instead of indices: the result must not depend on the order in which the detector lists its finds.
            for (rank, &i) in candidates.iter().enumerate().filter(|(_, i)| owner[**i].is_none()) {
                if let Some(weight) = self.affinity(track, &expected, &detections[i].bbox, reach) {
                    allowed.push((t, rank, weight));
                }
            }
        }
        for (t, rank) in assign(&allowed) {
            owner[candidates[rank]] = Some(t);
            seen[t] = true;
        }
    }

    /// How well a detection continues a track, 1 to 2^22; `None` when it cannot be the same face.
    fn affinity(&self, track: &Live, expected: &BBox, found: &BBox, reach: f32) -> Option<i64> {
        let (a, b) = (expected.area().sqrt(), found.area().sqrt());
        let ratio = a.max(b) / a.min(b).max(1.0);
        let passed = (self.clock - track.motion.at()).max(0.0) as f32;
        let speed = self.settings.max_speed * if track.motion.is_settled() { 0.5 } else { 1.0 };
        let gate = (BASE_REACH + speed * passed).min(self.settings.max_reach) * reach;
        let distance = expected.center().distance(found.center()) / (a * b).sqrt().max(1.0);
        if !(distance <= gate && ratio <= MAX_SIZE_RATIO) {
            return None;
        }
        // Squared distance: for faces in a row it prefers two short steps to one long one and none. Not divided by the gate:
        // the weights of different tracks must be comparable.
        let reach2 = self.settings.max_reach.max(BASE_REACH).powi(2);
        let score = 2.0 - distance * distance / reach2 + 0.3 * expected.iou(found) - 0.5 * (ratio - 1.0);
        Some(((score * 1_000_000.0) as i64).max(1))
    }

    /// Good detections that continue nothing begin tracks.
    fn begin(&mut self, owner: &mut [Option<usize>], detections: &[Detection], high: &[usize], at: Timestamp) {
        let mut best_first: Vec<usize> = high.iter().copied().filter(|&i| owner[i].is_none()).collect();
        best_first.sort_by(|&a, &b| detections[b].score.total_cmp(&detections[a].score));
        for i in best_first {
            let found = &detections[i].bbox;
            let twice =
                |(j, taken): (usize, &Option<usize>)| taken.is_some() && detections[j].bbox.iou(found) > SAME_FACE_IOU;
            if owner.iter().enumerate().any(twice) {
                continue;
            }
            owner[i] = Some(self.live.len());
            self.live.push(Live {
                id: None,
                motion: Motion::new(found, self.clock),
                first_seen: at,
                last_seen: at,
                born: self.clock,
                hits: 1,
                misses: 0,
            });
        }
    }

    fn end_where(&mut self, over: impl Fn(&Live) -> bool, report: &mut StepReport) {
        let gone: Vec<Live> = self.live.extract_if(.., |t| over(t)).collect();
        for track in gone {
            let Some(id) = track.id else { continue };
            let ended = EndedTrack { id, first_seen: track.first_seen, last_seen: track.last_seen, hits: track.hits };
            self.remember(ended.clone());
            report.ended.push(ended);
        }
    }
}

/// Indices of detections that can be tracked, in an order that depends on their values only.
fn usable(detections: &[Detection], low_score: f32) -> Vec<usize> {
    let key = |b: &BBox| [b.x1, b.y1, b.x2, b.y2];
    let mut order: Vec<usize> = (0..detections.len())
        .filter(|&i| {
            let d = &detections[i];
            key(&d.bbox).iter().all(|v| v.is_finite()) && d.bbox.area() > 0.0 && d.score >= low_score
        })
        .collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&detections[a], &detections[b]);
        let by_box = key(&a.bbox).iter().zip(key(&b.bbox)).map(|(x, y)| x.total_cmp(&y)).find(|o| o.is_ne());
        by_box.unwrap_or_else(|| a.score.total_cmp(&b.score))
    });
    order
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
pub(crate) mod tests;
