//! People moving before a background, described in code, with the truth of who is visible when and where.

use std::sync::Arc;
use std::time::Duration;

use image::RgbImage;

use super::encode::frame_time;

/// What is behind the people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// One colour, RGB.
    Plain([u8; 3]),
    /// From the top colour to the bottom colour, RGB.
    Gradient {
        /// Colour of the first row.
        top: [u8; 3],
        /// Colour of the last row.
        bottom: [u8; 3],
    },
}

/// How a picture is cut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardShape {
    /// The whole rectangle with slightly soft edges.
    Whole,
    /// The ellipse that fits the rectangle, with a soft edge.
    Ellipse,
}

/// Where an actor is at a moment; between two of them the movement is smooth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Waypoint {
    /// Time within the scene.
    pub at: Duration,
    /// Centre as a fraction of the frame's width; below 0 or above 1 is outside.
    pub x: f32,
    /// Centre as a fraction of the frame's height.
    pub y: f32,
    /// Height of the card as a fraction of the frame's height; the aspect ratio is kept.
    pub height: f32,
}

/// One appearance of one person.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Who it is; comes back in the truth.
    pub label: String,
    /// The picture.
    pub picture: Arc<RgbImage>,
    /// How it is cut out.
    pub shape: CardShape,
    /// Part of the picture that is the card: x, y, width, height in pixels; all of it when `None`.
    pub region: Option<[u32; 4]>,
    /// The way; present from the first waypoint to the last, in order of time.
    pub path: Vec<Waypoint>,
}

impl Actor {
    /// The card's rectangle in picture pixels, cut to the picture.
    pub(super) fn card(&self) -> [u32; 4] {
        let (width, height) = self.picture.dimensions();
        let [x, y, w, h] = self.region.unwrap_or([0, 0, width, height]);
        let (x, y) = (x.min(width.saturating_sub(1)), y.min(height.saturating_sub(1)));
        [x, y, w.clamp(1, width - x), h.clamp(1, height - y)]
    }

    /// Centre x, centre y, height as fractions at `at`; `None` before the first and after the last waypoint.
    pub(super) fn place(&self, at: Duration) -> Option<(f32, f32, f32)> {
        self.path.windows(2).find_map(|pair| {
            let [from, to] = pair else { return None };
            if at < from.at || at >= to.at {
                return None;
            }
            let part = (at - from.at).as_secs_f32() / (to.at - from.at).as_secs_f32();
            let eased = part * part * (3.0 - 2.0 * part);
            let mix = |a: f32, b: f32| a + (b - a) * eased;
            Some((mix(from.x, to.x), mix(from.y, to.y), mix(from.height, to.height)))
        })
    }

    /// Left, top, width, height of the card in frame pixels at `at`.
    pub(super) fn rectangle(&self, at: Duration, size: (u32, u32)) -> Option<[f32; 4]> {
        let (x, y, height) = self.place(at)?;
        let [_, _, card_width, card_height] = self.card();
        let height = height * size.1 as f32;
        let width = height * card_width as f32 / card_height as f32;
        Some([x * size.0 as f32 - width / 2.0, y * size.1 as f32 - height / 2.0, width, height])
    }
}

/// A scene: actors over a background, repeated for ever.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Width and height, pixels.
    pub size: (u32, u32),
    /// Frames per second.
    pub fps: u32,
    /// Length of one loop.
    pub duration: Duration,
    /// What is behind.
    pub background: Background,
    /// Noise of the sensor: most grey levels that a pixel is off by, the same for its three channels; 0 for none.
    pub noise: u8,
    /// Whether date and time stand in the left upper corner, as most cameras write them; the loop begins at midnight.
    pub clock: bool,
    /// Who comes; later ones are in front.
    pub actors: Vec<Actor>,
}

impl Scene {
    /// An empty scene on a light grey background.
    pub fn new(size: (u32, u32), fps: u32, duration: Duration) -> Self {
        let background = Background::Plain([170, 174, 177]);
        Self { size, fps, duration, background, noise: 0, clock: false, actors: Vec::new() }
    }

    /// With this background.
    pub fn background(mut self, background: Background) -> Self {
        self.background = background;
        self
    }

    /// With a noisy sensor.
    pub fn noise(mut self, levels: u8) -> Self {
        self.noise = levels;
        self
    }

    /// With the time in the picture.
    pub fn clock(mut self) -> Self {
        self.clock = true;
        self
    }

    /// With one more actor, in front of the ones before.
    pub fn actor(mut self, actor: Actor) -> Self {
        self.actors.push(actor);
        self
    }

    /// Number of pictures in one loop.
    pub fn frames(&self) -> u32 {
        (self.duration.as_secs_f64() * f64::from(self.fps)).round() as u32
    }

    /// Who is visible when and where.
    pub fn truth(&self) -> SceneTruth {
        let frames = (0..self.frames()).map(|index| self.visible_at(frame_time(index, self.fps))).collect();
        SceneTruth { fps: self.fps, duration: frame_time(self.frames(), self.fps), frames }
    }

    fn visible_at(&self, at: Duration) -> Vec<Visible> {
        let (width, height) = (self.size.0 as f32, self.size.1 as f32);
        let seen = self.actors.iter().enumerate().filter_map(|(actor, one)| {
            let [x, y, w, h] = one.rectangle(at, self.size)?;
            let shown_width = ((x + w).min(width) - x.max(0.0)).max(0.0);
            let shown_height = ((y + h).min(height) - y.max(0.0)).max(0.0);
            let shown = shown_width * shown_height / (w * h).max(1.0);
            (shown > 0.0).then(|| Visible { label: one.label.clone(), actor, rectangle: [x, y, w, h], shown })
        });
        seen.collect()
    }
}

/// A card in the picture at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Visible {
    /// Who.
    pub label: String,
    /// Index of the actor in the scene.
    pub actor: usize,
    /// Left, top, width, height of the whole card, frame pixels; may reach outside the frame.
    pub rectangle: [f32; 4],
    /// Part of the card inside the frame, (0, 1].
    pub shown: f32,
}

/// One appearance: an actor with more than half of the card in the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Appearance {
    /// Who.
    pub label: String,
    /// First moment, within the loop.
    pub from: Duration,
    /// End, within the loop.
    pub until: Duration,
}

/// The truth of a scene, for tests and the demo.
#[derive(Debug, Clone)]
pub struct SceneTruth {
    fps: u32,
    /// Length of one loop.
    pub duration: Duration,
    frames: Vec<Vec<Visible>>,
}

impl SceneTruth {
    /// Who is visible `at` this time since the first loop began; loops are counted in.
    pub fn visible_at(&self, at: Duration) -> &[Visible] {
        let within = at.as_nanos() % self.duration.as_nanos().max(1);
        let index = within * u128::from(self.fps) / 1_000_000_000;
        self.frames.get(usize::try_from(index).unwrap_or(usize::MAX)).map_or(&[], Vec::as_slice)
    }

    /// The appearances of one loop, in order of time.
    pub fn appearances(&self) -> Vec<Appearance> {
        let mut found: Vec<(usize, u32, Appearance)> = Vec::new();
        for (index, frame) in (0_u32..).zip(&self.frames) {
            let until = frame_time(index + 1, self.fps);
            for seen in frame.iter().filter(|seen| seen.shown > 0.5) {
                match found.iter_mut().find(|(actor, last, _)| *actor == seen.actor && *last + 1 == index) {
                    Some((_, last, appearance)) => {
                        *last = index;
                        appearance.until = until;
                    }
                    None => {
                        let from = frame_time(index, self.fps);
                        found.push((seen.actor, index, Appearance { label: seen.label.clone(), from, until }));
                    }
                }
            }
        }
        found.into_iter().map(|(_, _, appearance)| appearance).collect()
    }
}
