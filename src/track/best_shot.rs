//! Which crops of a track are worth embedding.
//!
//! In: each detection of a track with its measured quality ([`LookPlanner::offer`]). Out: embed it, or the reason why not.
//! The first good crop is taken at once (latency); then a few more to agree with it; after that only crops that are better
//! than those held or show the face from another side. After the budget only a look now and then, to notice another face.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    face::{Detection, Quality, quality::Flaw},
    time::{Timestamp, seconds_between},
};

/// How many looks a track gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LookSettings {
    /// Crops embedded for a track, rechecks apart.
    pub budget: u32,
    /// After the budget one more look this often, milliseconds: the track may have gone over to another face. 0: never.
    pub recheck_ms: u32,
    /// Least time between two looks, milliseconds.
    pub min_interval_ms: u32,
    /// Looks that need no improvement, only the interval.
    pub early: u32,
    /// Least quality, 0 to 1.
    pub min_quality: f32,
    /// A later look must beat the best so far by this factor, …
    pub gain: f32,
    /// … or show the face turned otherwise than all held: difference of pose, in eye distances.
    pub diversity: f32,
}

impl Default for LookSettings {
    fn default() -> Self {
        Self {
            budget: 8,
            recheck_ms: 5000,
            min_interval_ms: 150,
            early: 3,
            min_quality: 0.15,
            gain: 1.1,
            diversity: 0.12,
        }
    }
}

/// Pause between looks after the budget while the track is doubted, milliseconds.
const DOUBTED_PAUSE_MS: u32 = 1000;

/// What a face must have to be compared with anybody.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Least {
    /// Edge of the aligned crop, frame pixels: what the embedder needs.
    pub face_px: f32,
    /// Frontality, 0 to 1: alignment and gallery know faces from the front, so a profile has nothing that it could be compared with.
    pub frontality: f32,
}

impl Least {
    /// Whether the face may be compared.
    ///
    /// # Errors
    /// What it lacks: [`Skip::TooSmall`] or [`Skip::TurnedAway`]. Values that are not numbers lack it.
    pub fn check(&self, quality: &Quality) -> Result<(), Skip> {
        if quality.size_px.is_nan() || quality.size_px < self.face_px {
            return Err(Skip::TooSmall { px: quality.size_px, needs: self.face_px });
        }
        if quality.frontality.is_nan() || quality.frontality < self.frontality {
            return Err(Skip::TurnedAway { frontality: quality.frontality, needs: self.frontality });
        }
        Ok(())
    }
}

/// Why a crop is not embedded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Skip {
    /// The aligned crop covers too few frame pixels.
    TooSmall {
        /// Edge of the crop, frame pixels.
        px: f32,
        /// What the model needs.
        needs: f32,
    },
    /// Seen from the side, above or below.
    TurnedAway {
        /// Frontality, 0 to 1.
        frontality: f32,
        /// Least value.
        needs: f32,
    },
    /// Quality too low.
    Poor {
        /// The crop's quality.
        quality: Quality,
        /// Least value.
        needs: f32,
    },
    /// Another look was taken a moment ago.
    TooSoon,
    /// Neither better than nor different from those held.
    NothingNew,
    /// The budget is used up.
    Spent,
}

impl Skip {
    /// Whether the crop itself is unusable, rather than not needed.
    pub fn is_unusable(&self) -> bool {
        matches!(self, Self::TooSmall { .. } | Self::TurnedAway { .. } | Self::Poor { .. })
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { px, needs } => write!(f, "face too small: {px:.0} px, needs {needs:.0}"),
            Self::TurnedAway { frontality, needs } => {
                write!(f, "face {}, needs {needs:.2}", Flaw::TurnedAway(*frontality))
            }
            Self::Poor { quality, needs } => {
                write!(f, "face {}; quality {:.2}, needs {needs:.2}", quality.flaw(), quality.value)
            }
            Self::TooSoon => f.write_str("a look was taken a moment ago"),
            Self::NothingNew => f.write_str("no better than the looks held"),
            Self::Spent => f.write_str("the looks of this track are used up"),
        }
    }
}

/// Plans the looks of one track.
#[derive(Debug, Clone)]
pub struct LookPlanner {
    settings: LookSettings,
    least: Least,
    /// Poses and qualities of the looks taken.
    held: Vec<([f32; 2], f32)>,
    spent: u32,
    /// Looks that need no improvement because the track is doubted.
    urged: u32,
    last_look: Option<Timestamp>,
    best_refused: Option<Skip>,
    best_px: f32,
}

impl LookPlanner {
    /// A planner for a new track.
    pub fn new(settings: LookSettings, least: Least) -> Self {
        Self {
            settings,
            least,
            held: Vec::new(),
            spent: 0,
            urged: 0,
            last_look: None,
            best_refused: None,
            best_px: 0.0,
        }
    }

    /// Offers a crop. `Ok` means: embed it, the budget is charged (see [`LookPlanner::refund`]).
    ///
    /// # Errors
    /// Why it should not be embedded.
    pub fn offer(&mut self, at: Timestamp, detection: &Detection, quality: Quality) -> Result<(), Skip> {
        let judged = self.judge(at, detection, quality);
        match judged {
            Ok(()) => {
                self.held.push((pose(detection), quality.value));
                self.spent += 1;
                self.urged = self.urged.saturating_sub(1);
                self.last_look = Some(at);
            }
            // Keep the refusal of the largest crop: it says best what was missing.
            Err(skip) if skip.is_unusable() && quality.size_px.total_cmp(&self.best_px).is_ge() => {
                self.best_px = quality.size_px;
                self.best_refused = Some(skip);
            }
            Err(_) => {}
        }
        judged
    }

    /// Gives the last look back: it could not be embedded (an overloaded or failed worker).
    pub fn refund(&mut self) {
        if self.held.pop().is_some() {
            self.spent -= 1;
        }
    }

    /// Lets the next `looks` looks be taken without being better (the budget and the interval hold): the last look was unlike
    /// the others, and whether the track shows another face now should be known soon.
    pub fn urge(&mut self, looks: u32) {
        self.urged = self.urged.max(looks);
    }

    /// Why the best of the refused crops was unusable; `None` when there was none, or when looks were taken.
    pub fn why_unusable(&self) -> Option<Skip> {
        self.best_refused.filter(|_| self.spent == 0)
    }

    /// Whether time and budget allow a look: where not, nothing about the crop matters and it need not be measured.
    ///
    /// # Errors
    /// What does not allow it.
    pub fn may_look(&self, at: Timestamp) -> Result<(), Skip> {
        // A clock that ran back is no reason to wait: only a short time forward is.
        let within = |ms: u32| {
            let span = 0.0..f64::from(ms) / 1000.0;
            self.last_look.is_some_and(|last| span.contains(&seconds_between(last, at)))
        };
        if self.spent >= self.settings.budget {
            let pause = if self.urged > 0 { DOUBTED_PAUSE_MS } else { self.settings.recheck_ms };
            return if self.settings.recheck_ms == 0 || within(pause) { Err(Skip::Spent) } else { Ok(()) };
        }
        if within(self.settings.min_interval_ms) { Err(Skip::TooSoon) } else { Ok(()) }
    }

    fn judge(&self, at: Timestamp, detection: &Detection, quality: Quality) -> Result<(), Skip> {
        self.least.check(&quality)?;
        if quality.value.is_nan() || quality.value < self.settings.min_quality {
            return Err(Skip::Poor { quality, needs: self.settings.min_quality });
        }
        self.may_look(at)?;
        if self.spent >= self.settings.budget {
            return Ok(());
        }
        if self.spent < self.settings.early || self.urged > 0 {
            return Ok(());
        }
        let best = self.held.iter().map(|h| h.1).fold(0.0, f32::max);
        let here = pose(detection);
        let apart =
            |held: &([f32; 2], f32)| (held.0[0] - here[0]).hypot(held.0[1] - here[1]) >= self.settings.diversity;
        let new_side = self.held.iter().all(apart) && quality.value >= 0.5 * best;
        if quality.value >= best * self.settings.gain || new_side { Ok(()) } else { Err(Skip::NothingNew) }
    }
}

/// Pose from landmarks: the nose's place relative to the middle of the eyes, in eye distances (left-right, up-down).
fn pose(detection: &Detection) -> [f32; 2] {
    let [left, right, nose, ..] = detection.landmarks;
    let eyes = left.distance(right);
    if eyes.is_nan() || eyes <= 1.0 {
        return [0.0, 0.0];
    }
    [(nose.x - (left.x + right.x) / 2.0) / eyes, (nose.y - (left.y + right.y) / 2.0) / eyes]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{BBox, Point};

    const LEAST: Least = Least { face_px: 40.0, frontality: 0.12 };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    /// A face with eyes 20 px apart and its nose `turn` eye distances off the middle.
    fn face(turn: f32) -> Detection {
        let p = Point::new;
        let landmarks = [p(40.0, 40.0), p(60.0, 40.0), p(50.0 + 20.0 * turn, 52.0), p(42.0, 62.0), p(58.0, 62.0)];
        Detection { bbox: BBox::new(25.0, 15.0, 75.0, 80.0), score: 0.99, landmarks }
    }

    fn quality(value: f32) -> Quality {
        Quality { value, size_px: 60.0, sharpness: value, frontality: 0.9, ..Quality::default() }
    }

    fn planner() -> LookPlanner {
        LookPlanner::new(LookSettings::default(), LEAST)
    }

    #[test]
    fn the_first_good_crop_is_embedded_at_once_and_the_next_ones_spaced() {
        let mut p = planner();
        assert_eq!(p.offer(at(0), &face(0.0), quality(0.5)), Ok(()));
        assert_eq!(p.offer(at(100), &face(0.0), quality(0.9)), Err(Skip::TooSoon));
        assert_eq!(p.offer(at(200), &face(0.0), quality(0.5)), Ok(()));
        assert_eq!(p.offer(at(400), &face(0.0), quality(0.5)), Ok(()));
        assert_eq!(p.offer(at(600), &face(0.0), quality(0.5)), Err(Skip::NothingNew));
    }

    #[test]
    fn later_only_better_or_different_crops() {
        let mut p = planner();
        for i in 0..3 {
            p.offer(at(i * 200), &face(0.0), quality(0.5)).unwrap();
        }
        assert_eq!(p.offer(at(1000), &face(0.0), quality(0.52)), Err(Skip::NothingNew));
        assert_eq!(p.offer(at(1200), &face(0.0), quality(0.6)), Ok(()));
        assert_eq!(p.offer(at(1400), &face(0.3), quality(0.4)), Ok(()), "another side of the face");
        assert_eq!(p.offer(at(1600), &face(0.3), quality(0.4)), Err(Skip::NothingNew));
        assert_eq!(p.offer(at(1800), &face(-0.3), quality(0.2)), Err(Skip::NothingNew), "another side, but poor");
    }

    #[test]
    fn a_doubted_track_is_looked_at_again_soon() {
        let mut p = planner();
        for i in 0..3 {
            p.offer(at(i * 200), &face(0.0), quality(0.5)).unwrap();
        }
        p.urge(2);
        let taken: Vec<bool> = (3..12).map(|i| p.offer(at(i * 200), &face(0.0), quality(0.4)).is_ok()).collect();
        assert_eq!(taken.iter().filter(|t| **t).count(), 2);
    }

    #[test]
    fn after_the_budget_a_look_now_and_then() {
        let mut p = LookPlanner::new(LookSettings { budget: 1, ..LookSettings::default() }, LEAST);
        let taken = |p: &mut LookPlanner, from: i64, until: i64| {
            (from..until).step_by(200).filter(|ms| p.offer(at(*ms), &face(0.0), quality(0.5)).is_ok()).count()
        };
        assert_eq!(taken(&mut p, 0, 10_100), 3, "one, and one every five seconds");
        p.urge(2);
        assert_eq!(taken(&mut p, 10_200, 14_000), 2, "doubted: sooner");
    }

    #[test]
    fn reasons_carry_figures() {
        let mut p = planner();
        let small = Quality { size_px: 31.2, ..quality(0.6) };
        let skip = p.offer(at(0), &face(0.0), small).unwrap_err();
        assert_eq!(skip.to_string(), "face too small: 31 px, needs 40");
        assert_eq!(p.why_unusable(), Some(skip));
        let blurred = p.offer(at(10), &face(0.0), quality(0.05)).unwrap_err();
        assert_eq!(blurred.to_string(), "face too blurred: sharpness 0.05; quality 0.05, needs 0.15");
        assert_eq!(p.why_unusable(), Some(blurred), "the larger face says better what was missing");
        p.offer(at(20), &face(0.0), quality(0.5)).unwrap();
        assert_eq!(p.why_unusable(), None);
    }

    #[test]
    fn a_profile_is_no_look_however_sharp() {
        let mut p = planner();
        let profile = Quality { frontality: 0.05, ..quality(0.6) };
        let skip = p.offer(at(0), &face(0.0), profile).unwrap_err();
        assert_eq!(skip.to_string(), "face turned away too far: frontality 0.05, needs 0.12");
        assert_eq!(p.why_unusable(), Some(skip));
        assert!(p.offer(at(10), &face(0.0), Quality { frontality: f32::NAN, ..profile }).is_err());
        p.offer(at(20), &face(0.0), Quality { frontality: 0.12, ..profile }).unwrap();
        let all = Least { frontality: 0.0, ..LEAST };
        assert_eq!(all.check(&Quality { frontality: 0.0, ..profile }), Ok(()));
    }

    #[test]
    fn a_failed_look_is_given_back_and_no_number_is_no_quality() {
        let mut p = planner();
        assert!(p.offer(at(0), &face(0.0), quality(f32::NAN)).is_err());
        p.offer(at(0), &face(0.0), quality(0.5)).unwrap();
        p.refund();
        p.refund();
        assert_eq!(p.spent, 0);
    }

    proptest! {
        #[test]
        fn the_budget_is_never_exceeded(
            budget in 0u32..10,
            offers in proptest::collection::vec((-50i64..2000, 0f32..1.0, -1f32..1.0, 10f32..100.0), 0..200),
        ) {
            let mut p = LookPlanner::new(LookSettings { budget, recheck_ms: 0, ..LookSettings::default() }, LEAST);
            let (mut now, mut taken, mut last) = (0, 0, None);
            for (dt, value, turn, size_px) in offers {
                now += dt;
                let q = Quality { size_px, ..quality(value) };
                if p.offer(at(now), &face(turn), q).is_ok() {
                    taken += 1;
                    prop_assert!(value >= 0.15 && size_px >= 40.0);
                    prop_assert!(last.is_none_or(|l| !(0..150).contains(&(now - l))));
                    last = Some(now);
                }
            }
            prop_assert!(taken <= budget && p.spent == taken);
        }
    }
}
