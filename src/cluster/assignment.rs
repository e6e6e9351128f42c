//! Weighted rendezvous hashing: which worker a camera belongs to, computed alike by everybody who knows the same workers.
//!
//! Each pair of camera and worker has a random but fixed number `u` in (0, 1); the camera belongs to the worker with the greatest
//! `-weight / ln(u)` (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005, the logarithmic method). A worker gets cameras in
//! proportion to its weight, and when one comes or goes only its own cameras move: those of `n` others stay.

use sha2::{Digest, Sha256};

/// A text as a number that is the same on every machine and in every version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point(u64);

impl Point {
    /// The first eight bytes of the SHA-256 of a text.
    pub fn of(text: &str) -> Self {
        let hash = Sha256::digest(text.as_bytes());
        Self(hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A number in (0, 1) for a pair.
    fn with(self, other: Self) -> f64 {
        // The finaliser of splitmix64 (Steele, Lea and Flood 2014): every bit of both hangs on every bit of the result.
        let mut z = self.0 ^ other.0.rotate_left(32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // 52 bits and a half: never 0, never 1.
        ((z >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }
}

/// A worker that may be given cameras.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Its name.
    pub point: Point,
    /// Its share: cameras that it can run. At 0 it gets none.
    pub weight: f64,
}

/// The workers that cameras are shared out over, those of one weight together: among them the greatest number wins, and one logarithm does for all.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    classes: Vec<(f64, Vec<(usize, Point)>)>,
}

impl Candidates {
    /// All of a cluster, in the same order on every machine.
    pub fn new(workers: &[Candidate]) -> Self {
        let mut classes: Vec<(f64, Vec<(usize, Point)>)> = Vec::new();
        for (place, worker) in workers.iter().enumerate().filter(|(_, worker)| worker.weight > 0.0) {
            match classes.iter_mut().find(|(weight, _)| *weight == worker.weight) {
                Some((_, class)) => class.push((place, worker.point)),
                None => classes.push((worker.weight, vec![(place, worker.point)])),
            }
        }
        classes.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { classes }
    }

    /// The place of the worker that a camera belongs to; `None` when nobody takes any.
    pub fn of(&self, camera: Point) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (weight, class) in &self.classes {
            let mut greatest = (0, 0.0);
            for (place, worker) in class {
                let number = camera.with(*worker);
                if number > greatest.1 {
                    greatest = (*place, number);
                }
            }
            let score = -weight / greatest.1.ln();
            if best.is_none_or(|(_, least)| score > least) {
                best = Some((greatest.0, score));
            }
        }
        best.map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(count: usize) -> Vec<Candidate> {
        (0..count).map(|i| Candidate { point: Point::of(&format!("worker-{i}")), weight: 20.0 }).collect()
    }

    fn cameras(count: usize) -> Vec<Point> {
        (0..count).map(|i| Point::of(&format!("camera-{i}"))).collect()
    }

    fn share(all: &[Candidate], cameras: &[Point]) -> Vec<usize> {
        let mut share = vec![0; all.len()];
        let all = Candidates::new(all);
        cameras.iter().for_each(|camera| share[all.of(*camera).unwrap()] += 1);
        share
    }

    #[test]
    fn cameras_are_shared_by_weight() {
        let (mut all, cameras) = (workers(10), cameras(10_000));
        let even = share(&all, &cameras);
        assert!(even.iter().all(|n| (850..1150).contains(n)), "{even:?}");
        all[3].weight = 60.0;
        all[7].weight = 0.0;
        // Shares of 20 in 220, and 60 in 220.
        let uneven = share(&all, &cameras);
        assert!((2500..2950).contains(&uneven[3]) && uneven[7] == 0, "{uneven:?}");
        assert!((800..1020).contains(&uneven[0]), "{uneven:?}");
        assert_eq!(Candidates::new(&[]).of(cameras[0]), None);
        assert_eq!(Candidates::new(&[Candidate { weight: 0.0, ..all[0] }]).of(cameras[0]), None);
    }

    #[test]
    fn only_the_cameras_of_a_worker_that_goes_move() {
        let (all, cameras) = (workers(20), cameras(5_000));
        let without = |gone: usize| -> Vec<Candidate> {
            all.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, worker)| *worker).collect()
        };
        let (all, left) = (Candidates::new(&all), Candidates::new(&without(4)));
        for camera in &cameras {
            let (before, after) = (all.of(*camera).unwrap(), left.of(*camera).unwrap());
            let after = if after >= 4 { after + 1 } else { after };
            assert!(before == 4 || before == after, "a camera of a worker that stayed has moved");
        }
    }

    #[test]
    fn it_is_the_same_on_every_machine_and_in_every_order() {
        // A change of these numbers would move every camera of a cluster while it is upgraded.
        assert_eq!(Point::of("door").0, 0x2534_E2DE_1DEC_24FE);
        let all = workers(5);
        let places: Vec<usize> =
            cameras(12).into_iter().map(|camera| Candidates::new(&all).of(camera).unwrap()).collect();
        assert_eq!(places, [4, 3, 2, 3, 0, 4, 1, 0, 3, 2, 4, 3]);
        let reversed: Vec<Candidate> = all.iter().rev().copied().collect();
        for (camera, place) in cameras(12).into_iter().zip(places) {
            assert_eq!(Candidates::new(&reversed).of(camera), Some(4 - place));
        }
    }
}
