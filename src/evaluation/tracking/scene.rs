//! Scenes by name: who is where at which time. Made from a number, the same on every machine.

use fastrand::Rng;

use super::Truth;
use crate::frame::BBox;

/// Width and height of all scenes, pixels.
pub const SIZE: (u32, u32) = (960, 540);
/// Frames a second unless a scene is about something else: the server's default rate while a face is tracked.
const FPS: f32 = 8.0;
/// Absences from this long on end an appearance, milliseconds; no scene has absences near it.
const ABSENCE_MS: i64 = 3000;
/// A head is larger than its face box by this factor; it covers what is behind it.
pub const HEAD: f32 = 1.35;

/// Names of the scenes, with what happens in them.
pub const SCENES: [(&str, &str); 12] = [
    ("walk", "two people walk by"),
    ("crossing", "two pairs cross, one covering the other"),
    ("meeting", "two pairs meet and turn back"),
    ("pillar", "two people walk behind a pillar for 0.3 to 1.5 s"),
    ("behind", "people stand while others pass before them"),
    ("drops", "three people walk, 40 % of the frames and once a whole second are lost"),
    ("rates", "three people walk, 2, then 10, then 5 frames a second, unevenly"),
    ("fast", "two people run, 3 to 5 face widths a second"),
    ("return", "people leave and come back, after 1 to 1.8 s (the same appearance) and after 5 s (another)"),
    ("crowd", "seven people move about"),
    ("turned", "three people stand, each look at them is another picture"),
    ("shake", "three people, a camera that shakes and is knocked"),
];

/// A place at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Milliseconds.
    pub at_ms: i64,
    /// Centre of the face, pixels.
    pub x: f32,
    /// Centre of the face, pixels.
    pub y: f32,
}

/// Somebody in the scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Actor {
    /// Stretches of presence; within one, places are joined by straight lines.
    pub stretches: Vec<Vec<Key>>,
    /// Edge of the face (square root of the area of its box), pixels. Larger faces are nearer and cover smaller ones.
    pub edge: f32,
    /// Begin of the bobbing of the head, radians.
    pub phase: f32,
    /// Milliseconds after which another picture of the person is shown; 0 keeps one.
    pub change_ms: i64,
}

/// Something that hides faces, pixels.
pub type Wall = BBox;

/// A scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Its name.
    pub name: String,
    /// What its dice began with.
    pub seed: u64,
    /// Capture times, milliseconds.
    pub times: Vec<i64>,
    /// Everybody.
    pub actors: Vec<Actor>,
    /// What stands before them.
    pub walls: Vec<Wall>,
    /// How far the camera is off at each time, pixels; empty when it stands still.
    pub shake: Vec<(f32, f32)>,
}

impl Actor {
    /// Number of the stretch and centre of the face at a time; `None` while away.
    pub fn place(&self, at_ms: i64) -> Option<(usize, f32, f32)> {
        let within =
            |keys: &Vec<Key>| keys.first().zip(keys.last()).is_some_and(|(a, b)| (a.at_ms..=b.at_ms).contains(&at_ms));
        let stretch = self.stretches.iter().position(within)?;
        let keys = &self.stretches[stretch];
        let next = keys.iter().position(|k| k.at_ms >= at_ms)?;
        let (a, b) = (keys[next.saturating_sub(1)], keys[next]);
        let part = if b.at_ms > a.at_ms { (at_ms - a.at_ms) as f32 / (b.at_ms - a.at_ms) as f32 } else { 0.0 };
        let seconds = at_ms as f32 / 1000.0;
        // Heads bob with the steps and sway half as often.
        let bob = 0.06 * self.edge * (std::f32::consts::TAU * 1.8 * seconds + self.phase).sin();
        let sway = 0.05 * self.edge * (std::f32::consts::TAU * 0.9 * seconds + 2.0 * self.phase).sin();
        Some((stretch, a.x + part * (b.x - a.x) + sway, a.y + part * (b.y - a.y) + bob))
    }

    /// Number of the appearance among this actor's, at a stretch: short absences don't end one.
    fn appearance(&self, stretch: usize) -> usize {
        let gap = |w: &[Vec<Key>]| w[1].first().zip(w[0].last()).map_or(0, |(b, a)| b.at_ms - a.at_ms);
        self.stretches[..=stretch].windows(2).filter(|w| gap(w) >= ABSENCE_MS).count()
    }
}

impl Scene {
    /// Makes a scene; `None` when there is none of that name.
    pub fn make(name: &str, seed: u64) -> Option<Self> {
        let number = SCENES.iter().position(|s| s.0 == name)? as u64;
        let mut maker = Maker { dice: Rng::with_seed(seed.wrapping_mul(1_000_003) ^ number << 40 ^ 0x5EED) };
        let mut scene = maker.scene(name);
        (scene.name, scene.seed) = (name.to_owned(), seed);
        Some(scene)
    }

    /// How far the camera is off at a frame, pixels.
    pub fn shift(&self, frame: usize) -> (f32, f32) {
        self.shake.get(frame).copied().unwrap_or_default()
    }

    /// The faces at a frame: actor and truth.
    pub fn truth(&self, frame: usize) -> Vec<(usize, Truth)> {
        let Some(&at) = self.times.get(frame) else { return Vec::new() };
        let (dx, dy) = self.shift(frame);
        let boxed = |actor: &Actor, x: f32, y: f32| {
            let (w, h) = (actor.edge / 2.0 * 0.9, actor.edge / 2.0 / 0.9);
            BBox::new(x + dx - w, y + dy - h, x + dx + w, y + dy + h)
        };
        let here: Vec<(usize, usize, BBox)> = self
            .actors
            .iter()
            .enumerate()
            .filter_map(|(i, a)| a.place(at).map(|(stretch, x, y)| (i, stretch, boxed(a, x, y))))
            .collect();
        let mut all = Vec::new();
        for &(i, stretch, bbox) in &here {
            let nearer: Vec<BBox> = here.iter().filter(|o| self.is_nearer(o.0, i)).map(|o| o.2.grown(HEAD)).collect();
            let walls = self.walls.iter().map(|w| BBox::new(w.x1 + dx, w.y1 + dy, w.x2 + dx, w.y2 + dy));
            let hidden = hidden(&bbox, &walls.collect::<Vec<_>>(), &nearer);
            // Numbers of appearances: a person's own, ten at most, beside each other.
            let appearance = i * 10 + self.actors[i].appearance(stretch);
            all.push((i, Truth { appearance, bbox, counts: hidden < 0.5 }));
        }
        all
    }

    /// Whether actor `a` is drawn over actor `b`.
    pub fn is_nearer(&self, a: usize, b: usize) -> bool {
        (self.actors[a].edge, a) > (self.actors[b].edge, b)
    }
}

/// Share of a box that lies behind walls or heads (ellipses), or outside the frame.
fn hidden(bbox: &BBox, walls: &[BBox], heads: &[BBox]) -> f32 {
    const GRID: usize = 10;
    let mut count = 0;
    for k in 0..GRID * GRID {
        let part = |i: usize| (i as f32 + 0.5) / GRID as f32;
        let x = bbox.x1 + bbox.width() * part(k % GRID);
        let y = bbox.y1 + bbox.height() * part(k / GRID);
        let inside = |b: &BBox| (b.x1..b.x2).contains(&x) && (b.y1..b.y2).contains(&y);
        let under = |b: &BBox| {
            let c = b.center();
            ((x - c.x) / (b.width() / 2.0)).powi(2) + ((y - c.y) / (b.height() / 2.0)).powi(2) < 1.0
        };
        let frame = BBox::new(0.0, 0.0, SIZE.0 as f32, SIZE.1 as f32);
        count += usize::from(!inside(&frame) || walls.iter().any(inside) || heads.iter().any(under));
    }
    count as f32 / (GRID * GRID) as f32
}

struct Maker {
    dice: Rng,
}

impl Maker {
    /// Evenly between two numbers.
    fn from(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.dice.f32()
    }

    fn actor(&mut self, edge: f32, stretches: Vec<Vec<Key>>) -> Actor {
        let phase = self.from(0.0, std::f32::consts::TAU);
        Actor { stretches, edge, phase, change_ms: 0 }
    }

    /// Somebody who walks along a row from one side to the other, at `speed` pixels a second, from a time on.
    fn walker(&mut self, y: f32, speed: f32, edge: f32, from_ms: i64) -> Actor {
        let width = SIZE.0 as f32;
        let way = width + 2.0 * edge;
        let until = from_ms + (way / speed.abs() * 1000.0) as i64;
        let (a, b) = if speed > 0.0 { (-edge, width + edge) } else { (width + edge, -edge) };
        let slope = self.from(-30.0, 30.0);
        let keys = vec![Key { at_ms: from_ms, x: a, y }, Key { at_ms: until, x: b, y: y + slope }];
        self.actor(edge, vec![keys])
    }

    fn still(&mut self, x: f32, y: f32, edge: f32, until_ms: i64) -> Actor {
        let (dx, dy) = (self.from(-25.0, 25.0), self.from(-12.0, 12.0));
        let keys = vec![Key { at_ms: 0, x, y }, Key { at_ms: until_ms, x: x + dx, y: y + dy }];
        self.actor(edge, vec![keys])
    }

    /// Times at a rate, each off by up to `uneven` of the step.
    fn times(&mut self, from_ms: f32, until_ms: f32, fps: f32, uneven: f32) -> Vec<i64> {
        let step = 1000.0 / fps;
        let count = ((until_ms - from_ms) / step) as usize;
        (0..count).map(|i| (from_ms + step * (i as f32 + self.from(-uneven, uneven))).max(0.0) as i64).collect()
    }

    fn scene(&mut self, name: &str) -> Scene {
        let side = |dice: &mut Rng| if dice.bool() { 1.0 } else { -1.0 };
        let seconds = match name {
            "walk" | "crossing" | "meeting" | "pillar" | "behind" | "drops" | "fast" => 6.0,
            "return" => 12.0,
            _ => 7.0,
        };
        let end = (seconds * 1000.0) as i64;
        let mut times = self.times(0.0, seconds * 1000.0, FPS, 0.04);
        let (mut actors, mut walls, mut shake) = (Vec::new(), Vec::new(), Vec::new());
        match name {
            "crossing" => {
                for row in [150.0, 390.0] {
                    for direction in [1.0, -1.0] {
                        let edge = self.from(60.0, 100.0);
                        let (speed, y) = (self.from(150.0, 230.0), row + self.from(-20.0, 20.0));
                        actors.push(self.walker(y, direction * speed, edge, 0));
                    }
                }
            }
            "meeting" => {
                for row in [150.0, 390.0] {
                    let (middle, edge) = (self.from(380.0, 580.0), self.from(65.0, 95.0));
                    let (apart, pause) = (self.from(0.3, 0.9) * edge, self.from(100.0, 600.0) as i64);
                    let (met, y) = (self.from(2200.0, 2800.0) as i64, row + self.from(-10.0, 10.0));
                    for direction in [-1.0, 1.0] {
                        let far = middle + direction * self.from(230.0, 330.0);
                        let near = middle + direction * apart / 2.0;
                        let y = y + self.from(-12.0, 12.0);
                        let keys = [(0, far), (met, near), (met + pause, near), (end, far)];
                        let keys = keys.map(|(at_ms, x)| Key { at_ms, x, y }).into();
                        let edge = edge * self.from(0.9, 1.1);
                        actors.push(self.actor(edge, vec![keys]));
                    }
                }
            }
            "pillar" => {
                for row in [150.0, 390.0] {
                    let (edge, speed) = (self.from(60.0, 90.0), self.from(130.0, 220.0));
                    let (hidden_s, x) = (self.from(0.3, 1.5), self.from(300.0, 500.0));
                    let direction = side(&mut self.dice);
                    walls.push(BBox::new(x, row - 130.0, x + speed * hidden_s, row + 130.0));
                    actors.push(self.walker(row, direction * speed, edge, 0));
                }
            }
            "behind" => {
                for row in [150.0, 390.0] {
                    let (edge, x) = (self.from(55.0, 75.0), self.from(300.0, 650.0));
                    actors.push(self.still(x, row, edge, end));
                    let front = edge * self.from(1.3, 1.7);
                    // Hidden while the nearer head covers more than half: about its own width at its speed.
                    let speed = front * HEAD / self.from(0.3, 1.5);
                    let direction = side(&mut self.dice);
                    let y = row + self.from(-10.0, 10.0);
                    actors.push(self.walker(y, direction * speed.max(110.0), front, 0));
                }
            }
            "fast" => {
                for row in [140.0, 390.0] {
                    let edge = self.from(60.0, 90.0);
                    let speed = edge * self.from(3.0, 5.0);
                    let (mut at_ms, mut x) = (0, self.from(100.0, 860.0));
                    let mut keys = Vec::new();
                    let mut goal = if self.dice.bool() { 860.0 } else { 100.0 };
                    while at_ms < end {
                        let y = row + self.from(-30.0, 30.0);
                        keys.push(Key { at_ms, x, y });
                        at_ms += ((goal - x).abs() / speed * 1000.0) as i64 + 1;
                        x = goal;
                        goal = 960.0 - goal;
                    }
                    keys.push(Key { at_ms, x, y: row });
                    actors.push(self.actor(edge, vec![keys]));
                }
            }
            "return" => {
                for (row, away) in [(130.0, self.from(1000.0, 1800.0)), (390.0, self.from(4800.0, 5500.0))] {
                    let (edge, speed) = (self.from(65.0, 95.0), self.from(160.0, 240.0));
                    let direction = side(&mut self.dice);
                    let edge_x = |d: f32| if d > 0.0 { 960.0 + edge * 0.5 } else { -edge * 0.5 };
                    let start = 480.0 - direction * self.from(0.0, 200.0);
                    let gone = ((edge_x(direction) - start).abs() / speed * 1000.0) as i64;
                    let back = gone + away as i64;
                    let there = Key { at_ms: end, x: start, y: row };
                    let first =
                        vec![Key { at_ms: 0, x: start, y: row }, Key { at_ms: gone, x: edge_x(direction), y: row }];
                    let second = vec![
                        Key { at_ms: back, x: edge_x(direction), y: row },
                        Key { at_ms: (back + gone).min(end - 1), ..there },
                        there,
                    ];
                    actors.push(self.actor(edge, vec![first, second]));
                }
            }
            "crowd" => {
                for i in 0..7 {
                    let edge = 52.0 + 7.0 * i as f32 + self.from(-3.0, 3.0);
                    let mut keys = Vec::new();
                    let (mut x, mut y) = (self.from(80.0, 880.0), self.from(90.0, 450.0));
                    let mut at_ms = 0;
                    while at_ms < end {
                        keys.push(Key { at_ms, x, y });
                        at_ms += self.from(900.0, 2200.0) as i64;
                        x = (x + self.from(-260.0, 260.0)).clamp(70.0, 890.0);
                        y = (y + self.from(-70.0, 70.0)).clamp(80.0, 460.0);
                    }
                    keys.push(Key { at_ms, x, y });
                    actors.push(self.actor(edge, vec![keys]));
                }
            }
            "turned" => {
                for i in 0..3 {
                    let (x, y) = (180.0 + 300.0 * i as f32 + self.from(-40.0, 40.0), self.from(160.0, 380.0));
                    let edge = self.from(70.0, 110.0);
                    let change_ms = self.from(900.0, 1600.0) as i64;
                    actors.push(Actor { change_ms, ..self.still(x, y, edge, end) });
                }
            }
            "shake" => {
                for i in 0..3 {
                    let (x, y) = (200.0 + 270.0 * i as f32, self.from(180.0, 360.0));
                    let edge = self.from(60.0, 90.0);
                    let to = x + self.from(-120.0, 120.0);
                    let keys = vec![Key { at_ms: 0, x, y }, Key { at_ms: end, x: to, y }];
                    actors.push(self.actor(edge, vec![keys]));
                }
                let knock = self.dice.i64(2000..4500);
                let (kx, ky) = (self.from(-90.0, 90.0), self.from(-60.0, 60.0));
                for t in &times {
                    let s = *t as f32 / 1000.0;
                    let (a, b) = (self.from(-14.0, 14.0), self.from(-10.0, 10.0));
                    let after = (*t - knock) as f32 / 1000.0;
                    let swing = if after >= 0.0 { (-after * 1.5).exp() * (after * 9.0).cos() } else { 0.0 };
                    shake.push((a + 12.0 * (3.1 * s).sin() + kx * swing, b + 8.0 * (4.3 * s).cos() + ky * swing));
                }
            }
            _ => {
                let count = if name == "walk" { 2 } else { 3 };
                for i in 0..count {
                    let y = 120.0 + 300.0 * i as f32 / (count - 1) as f32;
                    let (edge, speed) = (self.from(60.0, 95.0), self.from(140.0, 230.0));
                    let direction = side(&mut self.dice);
                    actors.push(self.walker(y, direction * speed, edge, 0));
                }
            }
        }
        if name == "drops" {
            let gap = self.dice.i64(1500..3500);
            times.retain(|t| self.dice.f32() >= 0.4 && !(gap..gap + 1000).contains(t));
        }
        if name == "rates" {
            times = self.times(0.0, 2500.0, 2.0, 0.2);
            times.extend(self.times(2500.0, 4500.0, 10.0, 0.2));
            times.extend(self.times(4500.0, 7000.0, 5.0, 0.2));
        }
        times.dedup();
        Scene { name: String::new(), seed: 0, times, actors, walls, shake }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scene_is_the_same_twice_and_another_with_another_number() {
        for (name, _) in SCENES {
            let scene = Scene::make(name, 3).unwrap();
            assert_eq!(Scene::make(name, 3), Some(scene.clone()));
            assert_ne!(Scene::make(name, 4).map(|s| s.actors), Some(scene.actors.clone()));
            assert!(scene.times.is_sorted() && scene.times.len() > 15, "{name}: {:?}", scene.times);
            let counted = (0..scene.times.len()).flat_map(|i| scene.truth(i)).filter(|(_, t)| t.counts).count();
            assert!(counted > 30, "{name}: {counted} faces");
        }
        assert_eq!(Scene::make("nonsense", 1), None);
    }

    #[test]
    fn whoever_is_behind_a_pillar_does_not_count() {
        let scene = Scene::make("pillar", 1).unwrap();
        let hidden = (0..scene.times.len())
            .flat_map(|i| scene.truth(i))
            .filter(|(_, t)| !t.counts && t.bbox.x1 > 0.0 && t.bbox.x2 < SIZE.0 as f32);
        let middles: Vec<f32> = hidden.map(|(_, t)| t.bbox.center().x).collect();
        assert!(!middles.is_empty());
        let near = |x: &f32| scene.walls.iter().any(|w| (w.x1 - 5.0..w.x2 + 5.0).contains(x));
        assert!(middles.iter().all(near), "{middles:?}");
    }

    #[test]
    fn a_long_absence_is_another_appearance_and_a_short_one_is_not() {
        let scene = Scene::make("return", 2).unwrap();
        let mut seen: Vec<usize> =
            (0..scene.times.len()).flat_map(|i| scene.truth(i)).map(|(_, t)| t.appearance).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [0, 10, 11]);
    }
}
