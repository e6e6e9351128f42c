//! Where a face will be: constant velocity that fades, in real time rather than frames.
//!
//! In: boxes with times in seconds. Out: the predicted box at another time. An alpha-beta filter whose gains follow the
//! time between samples, so 8, 5 and 2 frames a second describe the same movement.

use crate::frame::BBox;

/// Seconds after which an unseen face has lost 63 % of its speed: people stop and turn.
const DAMPING_S: f32 = 0.8;
/// Time constant of the velocity estimate: newer displacements outweigh those older than this many seconds.
const VELOCITY_MEMORY_S: f32 = 0.25;
/// Share of a new measurement in the position; detector boxes jitter by a few percent of their size.
const POSITION_GAIN: f32 = 0.85;
/// Share of a new measurement in the size, which jitters more than the position.
const SIZE_GAIN: f32 = 0.6;
/// Shortest time between samples that says something about speed, seconds.
const MIN_STEP_S: f32 = 0.02;

/// Position, size and velocity of one face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Motion {
    center: (f32, f32),
    size: (f32, f32),
    /// Pixels a second.
    velocity: (f32, f32),
    /// Seconds on the tracker's own clock.
    at: f64,
    samples: u32,
}

impl Motion {
    /// A face first seen at `at` seconds, taken to stand still.
    pub fn new(bbox: &BBox, at: f64) -> Self {
        let c = bbox.center();
        Self { center: (c.x, c.y), size: (bbox.width(), bbox.height()), velocity: (0.0, 0.0), at, samples: 1 }
    }

    /// Time of the last measurement, seconds.
    pub fn at(&self) -> f64 {
        self.at
    }

    /// Velocity in pixels a second.
    pub fn velocity(&self) -> (f32, f32) {
        self.velocity
    }

    /// Whether at least three measurements back the velocity.
    pub fn is_settled(&self) -> bool {
        self.samples >= 3
    }

    /// The box expected at `at` seconds; times before the last measurement give its box. Displacement of a velocity that
    /// fades with time constant T over t: `v * T * (1 - exp(-t / T))`.
    pub fn predict(&self, at: f64) -> BBox {
        let t = (at - self.at).max(0.0) as f32;
        let fade = DAMPING_S * (1.0 - (-t / DAMPING_S).exp());
        let (cx, cy) = (self.center.0 + self.velocity.0 * fade, self.center.1 + self.velocity.1 * fade);
        let (w, h) = (self.size.0 / 2.0, self.size.1 / 2.0);
        BBox::new(cx - w, cy - h, cx + w, cy + h)
    }

    /// Takes a measurement in. Times that do not advance correct position and size but not the velocity.
    pub fn update(&mut self, bbox: &BBox, at: f64) {
        let step = (at - self.at).max(0.0) as f32;
        let seen = bbox.center();
        let expected = self.predict(at).center();
        let blend = |old: f32, new: f32, gain: f32| old + gain * (new - old);
        let center = (blend(expected.x, seen.x, POSITION_GAIN), blend(expected.y, seen.y, POSITION_GAIN));
        if step >= MIN_STEP_S {
            let measured = ((center.0 - self.center.0) / step, (center.1 - self.center.1) / step);
            // The first displacement is all there is to know; later ones count by the time they cover.
            let gain = if self.samples == 1 { 0.8 } else { 1.0 - (-step / VELOCITY_MEMORY_S).exp() };
            self.velocity = (blend(self.velocity.0, measured.0, gain), blend(self.velocity.1, measured.1, gain));
        }
        self.center = center;
        self.size = (blend(self.size.0, bbox.width(), SIZE_GAIN), blend(self.size.1, bbox.height(), SIZE_GAIN));
        self.at = self.at.max(at);
        self.samples = self.samples.saturating_add(1);
    }

    /// Follows a change of the frame's size (a camera switched its resolution): `x` and `y` are new over old.
    pub fn rescale(&mut self, x: f32, y: f32) {
        for (pair, (sx, sy)) in [(&mut self.center, (x, y)), (&mut self.size, (x, y)), (&mut self.velocity, (x, y))] {
            *pair = (pair.0 * sx, pair.1 * sy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_x(x: f32) -> BBox {
        BBox::new(x, 100.0, x + 50.0, 160.0)
    }

    #[test]
    fn the_same_walk_is_predicted_alike_at_any_sample_rate() {
        for fps in [2.0, 5.0, 8.0, 25.0] {
            let mut motion = Motion::new(&at_x(0.0), 0.0);
            let mut t = 0.0;
            while t < 2.0 {
                t += 1.0 / fps;
                motion.update(&at_x(200.0 * t as f32), t);
            }
            let speed = motion.velocity().0;
            assert!((170.0..=215.0).contains(&speed), "{fps} fps: {speed} px/s");
        }
    }

    #[test]
    fn an_unseen_face_slows_down_and_never_flies_away() {
        let mut motion = Motion::new(&at_x(0.0), 0.0);
        motion.update(&at_x(40.0), 0.2);
        motion.update(&at_x(80.0), 0.4);
        let near = motion.predict(0.6).x1;
        assert!((100.0..125.0).contains(&near), "{near}");
        assert!(motion.predict(1000.0).x1 < 80.0 + 0.81 * 220.0);
    }

    #[test]
    fn time_that_stands_or_runs_back_is_harmless() {
        let mut motion = Motion::new(&at_x(0.0), 5.0);
        motion.update(&at_x(10.0), 5.0);
        motion.update(&at_x(12.0), 3.0);
        assert_eq!(motion.velocity(), (0.0, 0.0));
        assert_eq!(motion.at(), 5.0);
        assert!(motion.predict(0.0).x1.is_finite());
    }

    #[test]
    fn follows_a_change_of_resolution() {
        let mut motion = Motion::new(&at_x(100.0), 0.0);
        motion.rescale(0.5, 0.5);
        assert_eq!(motion.predict(0.0), BBox::new(50.0, 50.0, 75.0, 80.0));
    }
}
