//! Simulated sites on the unit sphere, to test the calibration on scores that its own quantile was not chosen on.
//!
//! A person is a direction, its pictures lie around it. [`World`]s differ in what makes different people alike: nothing but chance in few
//! or in many dimensions, groups of people who resemble each other, families whose members may look very much alike, and strangers who
//! are of other groups than the gallery. Similarities are cosines.

use std::thread;

use fastrand::Rng;
use serde::Serialize;

use super::{Share, looks::Photo};
use crate::{
    face::{Distance, Embedding},
    identity::{Calibration, EnrolledFace, impostors},
    time::Timestamp,
};

/// Length of the vectors.
const DIM: usize = 64;
/// Groups of a world that has some, and families.
const GROUPS: usize = 6;
const FAMILIES: usize = 400;
/// Fresh strangers a site is judged with.
const STRANGERS: usize = 4000;

/// How people are alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct World {
    /// Its name.
    pub name: &'static str,
    /// Variance of the k-th direction is `1 / k^decay`: above 0 few directions count.
    pub decay: f32,
    /// What all faces share, relative to what tells them apart.
    pub common: f32,
    /// What the people of a group share.
    pub group: f32,
    /// Most that members of a family share; each person draws its own part with a heavy tail.
    pub family: f32,
    /// Length of the noise of a picture, least and most of a person, relative to the person.
    pub noise: (f32, f32),
}

/// The worlds.
pub const WORLDS: [World; 5] = [
    World { name: "many dimensions", decay: 0.0, common: 0.5, group: 0.0, family: 0.0, noise: (0.5, 0.9) },
    World { name: "few dimensions", decay: 1.0, common: 0.3, group: 0.0, family: 0.0, noise: (0.4, 0.9) },
    World { name: "groups", decay: 0.5, common: 0.3, group: 0.7, family: 0.0, noise: (0.4, 0.9) },
    World { name: "look-alikes", decay: 0.4, common: 0.3, group: 0.3, family: 1.6, noise: (0.4, 0.9) },
    World { name: "wild pictures", decay: 0.5, common: 0.4, group: 0.3, family: 0.4, noise: (0.2, 2.2) },
];

/// Gaussian number (Box and Muller).
fn gauss(dice: &mut Rng) -> f32 {
    let (u, v) = (1.0 - dice.f32(), dice.f32());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

type Vector = [f32; DIM];

fn plus(a: &mut Vector, b: &Vector, weight: f32) {
    a.iter_mut().zip(b).for_each(|(x, y)| *x += weight * y);
}

fn unit(mut v: Vector) -> Vector {
    let length = v.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    v.iter_mut().for_each(|x| *x /= length);
    v
}

/// People of a world as they are drawn.
struct Population {
    world: World,
    scales: Vector,
    common: Vector,
    groups: Vec<Vector>,
    families: Vec<Vector>,
    dice: Rng,
}

struct Being {
    centre: Vector,
    noise: f32,
}

impl Population {
    fn new(world: World, seed: u64) -> Self {
        let mut scales = [0.0; DIM];
        scales.iter_mut().enumerate().for_each(|(k, s)| *s = ((k + 1) as f32).powf(-world.decay / 2.0));
        let total = scales.iter().map(|s| s * s).sum::<f32>().sqrt();
        scales.iter_mut().for_each(|s| *s /= total);
        let mut new = Self {
            world,
            scales,
            common: [0.0; DIM],
            groups: Vec::new(),
            families: Vec::new(),
            dice: Rng::with_seed(seed),
        };
        new.common = new.draw();
        new.groups = (0..GROUPS).map(|_| new.draw()).collect();
        new.families = (0..FAMILIES).map(|_| new.draw()).collect();
        new
    }

    /// A vector of about unit length.
    fn draw(&mut self) -> Vector {
        let mut v = [0.0; DIM];
        for (x, s) in v.iter_mut().zip(self.scales) {
            *x = s * gauss(&mut self.dice);
        }
        v
    }

    fn being(&mut self) -> Being {
        let world = self.world;
        let mut centre = self.draw();
        plus(&mut centre, &self.common.clone(), world.common);
        let group = self.groups[self.dice.usize(0..GROUPS)];
        plus(&mut centre, &group, world.group);
        // A cube of an even number: most are hardly related, a few are like twins.
        let kin = world.family * self.dice.f32().powi(3);
        let family = self.families[self.dice.usize(0..FAMILIES)];
        plus(&mut centre, &family, kin);
        let noise = world.noise.0 + (world.noise.1 - world.noise.0) * self.dice.f32().powi(2);
        Being { centre: unit(centre), noise }
    }

    fn picture(&mut self, being: &Being) -> Vector {
        let mut v = being.centre;
        let noise = self.draw();
        plus(&mut v, &noise, being.noise);
        unit(v)
    }
}

fn embedding(v: &Vector) -> Option<Embedding> {
    Some(Embedding { model: "sphere".parse().ok()?, distance: Distance::Cosine, values: v.as_slice().into() })
}

/// People with pictures as [`super::split`] takes them.
pub fn photos(world: &World, people: usize, pictures: usize, seed: u64) -> Vec<Photo> {
    let mut all = Population::new(*world, seed);
    let mut photos = Vec::new();
    for person in 0..people {
        let being = all.being();
        for _ in 0..pictures {
            let picture = all.picture(&being);
            let still = Being { centre: picture, noise: 0.25 };
            let looks = (0..4).filter_map(|_| Some((embedding(&all.picture(&still))?, 0.5))).collect();
            photos.extend(embedding(&picture).map(|embedding| Photo { person, embedding, looks }));
        }
    }
    photos
}

/// What sites of one kind gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The world.
    pub world: &'static str,
    /// People enrolled, one to three pictures each.
    pub people: usize,
    /// Background strangers.
    pub background: usize,
    /// The promise.
    pub fpir: f64,
    /// Share of the sites at which at most the promised share of fresh strangers reached the threshold.
    pub kept: Share,
    /// The same for the best estimate of the threshold, which is not used.
    pub kept_best: Share,
    /// Mean share of strangers who reached the threshold.
    pub named: f64,
    /// The share that the worst site in ten reached.
    pub worst: f64,
    /// Sites with too little to calibrate.
    pub refused: usize,
}

/// Plays `sites` sites of a kind, on all cores; another `seed` gives others.
pub fn play(world: World, people: usize, background: usize, fpir: f64, sites: usize, seed: u64) -> Row {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(sites.max(1));
    let of = |worker: usize| -> Vec<Option<(f64, f64)>> {
        (worker..sites)
            .step_by(workers)
            .map(|site| one(world, people, background, fpir, seed * 1_000_003 + site as u64))
            .collect()
    };
    let mut rates: Vec<Option<(f64, f64)>> = Vec::new();
    thread::scope(|scope| {
        let started: Vec<_> = (0..workers).map(|worker| scope.spawn(move || of(worker))).collect();
        rates.extend(started.into_iter().flat_map(|t| t.join().unwrap_or_default()));
    });
    let good: Vec<(f64, f64)> = rates.iter().flatten().copied().collect();
    let n = good.len();
    let share =
        |of: &dyn Fn(&(f64, f64)) -> bool| Share::of(good.iter().filter(|g| of(g)).count() as f64 / n.max(1) as f64, n);
    let mut sorted: Vec<f64> = good.iter().map(|g| g.0).collect();
    sorted.sort_by(f64::total_cmp);
    Row {
        world: world.name,
        people,
        background,
        fpir,
        kept: share(&|g| g.0 <= fpir),
        kept_best: share(&|g| g.1 <= fpir),
        named: sorted.iter().sum::<f64>() / n.max(1) as f64,
        worst: sorted.get(n * 9 / 10).copied().unwrap_or(0.0),
        refused: rates.len() - n,
    }
}

/// A site: rate of strangers at the threshold and at its best estimate; `None` when it can't be calibrated.
fn one(world: World, people: usize, background: usize, fpir: f64, seed: u64) -> Option<(f64, f64)> {
    let mut all = Population::new(world, seed.wrapping_mul(0x9E37_79B9) ^ (people as u64) << 40 ^ background as u64);
    let mut gallery: Vec<Vec<Vector>> = Vec::with_capacity(people);
    let mut faces = Vec::new();
    for person in 0..people {
        let being = all.being();
        let pictures: Vec<Vector> = (0..1 + person % 3).map(|_| all.picture(&being)).collect();
        for (i, picture) in pictures.iter().enumerate() {
            faces.push(EnrolledFace {
                id: format!("{person}-{i}").parse().ok()?,
                person: person.to_string().parse().ok()?,
                embedding: embedding(picture)?,
                quality: 1.0,
                source: String::new(),
                created: Timestamp::UNIX_EPOCH,
            });
        }
        gallery.push(pictures);
    }
    let strangers: Vec<Embedding> = (0..background)
        .filter_map(|_| {
            let being = all.being();
            embedding(&all.picture(&being))
        })
        .collect();
    let compared = impostors::compare(&faces, &strangers);
    let learned = Calibration::learn(fpir, &compared.comparisons, compared.people, Timestamp::UNIX_EPOCH).ok()?;
    let threshold = learned.threshold(people);
    let (mut at, mut at_best) = (0, 0);
    for _ in 0..STRANGERS {
        let being = all.being();
        let probe = all.picture(&being);
        let near = |face: &Vector| face.iter().zip(&probe).map(|(a, b)| a * b).sum::<f32>();
        let best = gallery.iter().flatten().map(near).fold(f32::NEG_INFINITY, f32::max);
        at += usize::from(best >= threshold.cautious);
        at_best += usize::from(best >= threshold.best);
    }
    let share = |n: usize| n as f64 / STRANGERS as f64;
    Some((share(at), share(at_best)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_nearer_to_themselves_than_to_others_in_every_world() {
        for world in WORLDS {
            let photos = photos(&world, 30, 3, 5);
            let (mut own, mut other) = (Vec::new(), Vec::new());
            for (i, a) in photos.iter().enumerate() {
                for b in &photos[..i] {
                    let s = a.embedding.similarity(&b.embedding).unwrap();
                    if a.person == b.person { own.push(s) } else { other.push(s) }
                }
            }
            let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
            assert!(mean(&own) > mean(&other) + 0.2, "{}: {} {}", world.name, mean(&own), mean(&other));
        }
    }

    #[test]
    fn a_site_is_the_same_twice_and_a_small_one_is_refused() {
        let world = WORLDS[1];
        assert_eq!(one(world, 12, 40, 0.05, 3), one(world, 12, 40, 0.05, 3));
        let row = play(world, 5, 0, 0.05, 2, 1);
        assert_eq!((row.refused, row.kept.trials), (2, 0));
    }
}
