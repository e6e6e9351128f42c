//! Scenes as pictures: faces cut out of photographs, put before a background.
//!
//! A face keeps the head around it (an ellipse with a soft edge) and is moved, scaled and blurred along its motion. What is true about a
//! frame follows from where it was put: the middle of its detection box in the photograph moves along.

use fastrand::Rng;
use image::{Rgb, RgbImage};

use super::scene::{SIZE, Scene};
use crate::{
    face::Detection,
    frame::{BBox, Picture, crop},
};

/// Edge of the face in a stored head, pixels; scenes show it smaller.
const EDGE: f32 = 120.0;
/// What is cut out, in box sizes.
const AROUND: f32 = 1.9;
/// Exposure, milliseconds: the motion of that time is blurred.
const EXPOSURE_MS: i64 = 15;
/// Time of a change from one picture to the next, milliseconds.
const FADE_MS: i64 = 350;
/// Noise of the sensor, grey levels at most.
const NOISE: i32 = 5;

/// A head cut out of a photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    image: RgbImage,
    /// The face's box in it.
    face: BBox,
}

impl Head {
    /// Cuts the head of a detected face out.
    pub fn cut(picture: &Picture, detection: &Detection) -> Self {
        let bbox = &detection.bbox;
        let (part, corner) = crop::cut_out(picture, &bbox.grown(AROUND));
        let scale = EDGE / bbox.area().sqrt().max(1.0);
        let size = |edge: u32| ((edge as f32 * scale).round() as u32).clamp(1, 2000);
        let image = crop::resized(&part, size(part.width()), size(part.height()));
        let place = |v: f32, corner: f32| (v - corner) * scale;
        let face = BBox::new(
            place(bbox.x1, corner.x),
            place(bbox.y1, corner.y),
            place(bbox.x2, corner.x),
            place(bbox.y2, corner.y),
        );
        Self { image, face }
    }

    /// Colour and opacity (0 to 1) where a face of edge 1 has its centre at the origin.
    fn at(&self, u: f32, v: f32) -> ([f32; 3], f32) {
        // The head's ellipse in units of the face's edge, a little lower than the brow for chin and hair alike.
        let radius = ((u / 0.72).powi(2) + ((v + 0.05) / 0.88).powi(2)).sqrt();
        let opacity = ((1.0 - radius) / 0.12).clamp(0.0, 1.0);
        let c = self.face.center();
        let (x, y) = (c.x + u * EDGE - 0.5, c.y + v * EDGE - 0.5);
        let (w, h) = (self.image.width() as f32 - 1.0, self.image.height() as f32 - 1.0);
        if opacity <= 0.0 || x < 0.0 || y < 0.0 || x > w || y > h {
            return ([0.0; 3], 0.0);
        }
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        let pixel = |dx: f32, dy: f32| self.image.get_pixel((left + dx).min(w) as u32, (top + dy).min(h) as u32).0;
        let corners = [pixel(0.0, 0.0), pixel(1.0, 0.0), pixel(0.0, 1.0), pixel(1.0, 1.0)];
        let weights = [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy];
        let mut color = [0.0; 3];
        for (corner, weight) in corners.iter().zip(weights) {
            color.iter_mut().zip(corner).for_each(|(sum, v)| *sum += weight * f32::from(*v));
        }
        (color, opacity)
    }
}

/// What a scene is rendered from.
#[derive(Debug, Clone)]
pub struct Studio {
    /// Heads of the people, pictures of each.
    pub people: Vec<Vec<Head>>,
    /// Backgrounds; made ones are used when there is none.
    pub backgrounds: Vec<RgbImage>,
}

/// A scene with its cast, ready to be rendered.
pub struct Shooting<'a> {
    scene: &'a Scene,
    studio: &'a Studio,
    /// Person and first picture of each actor.
    cast: Vec<(usize, usize)>,
    background: RgbImage,
}

impl Studio {
    /// Chooses people and background for a scene; people differ as long as there are enough.
    ///
    /// `None` without people.
    pub fn cast<'a>(&'a self, scene: &'a Scene) -> Option<Shooting<'a>> {
        let mut dice =
            Rng::with_seed(scene.seed.wrapping_mul(77) ^ scene.name.len() as u64 ^ (scene.actors.len() as u64) << 32);
        let mut order: Vec<usize> = (0..self.people.len()).filter(|i| !self.people[*i].is_empty()).collect();
        if order.is_empty() {
            return None;
        }
        dice.shuffle(&mut order);
        let person = |i: usize| order[i % order.len()];
        let cast = (0..scene.actors.len()).map(|i| (person(i), dice.usize(0..self.people[person(i)].len()))).collect();
        let background = match self.backgrounds.len() {
            0 => made(&mut dice),
            n => self.backgrounds[dice.usize(0..n)].clone(),
        };
        Some(Shooting { scene, studio: self, cast, background })
    }
}

impl Shooting<'_> {
    /// The frame, [`SIZE`].
    pub fn frame(&self, number: usize) -> RgbImage {
        let scene = self.scene;
        let at = scene.times.get(number).copied().unwrap_or_default();
        let (dx, dy) = scene.shift(number);
        let mut image = RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| {
            let place = |v: u32, shift: f32, edge: u32| (v as f32 - shift).clamp(0.0, edge as f32 - 1.0) as u32;
            *self.background.get_pixel(place(x, dx, SIZE.0), place(y, dy, SIZE.1))
        });
        let mut order: Vec<usize> = (0..scene.actors.len()).collect();
        order.sort_by(|a, b| scene.actors[*a].edge.total_cmp(&scene.actors[*b].edge).then(a.cmp(b)));
        for actor in order {
            self.draw(&mut image, actor, at, (dx, dy));
        }
        for wall in &scene.walls {
            let clip = |v: f32, most: u32| v.clamp(0.0, most as f32) as u32;
            for x in clip(wall.x1 + dx, SIZE.0)..clip(wall.x2 + dx, SIZE.0) {
                let shade = 90 + ((x as f32 * 0.21).sin() * 18.0) as i32;
                for y in clip(wall.y1 + dy, SIZE.1)..clip(wall.y2 + dy, SIZE.1) {
                    image.put_pixel(x, y, Rgb([shade as u8, shade as u8, (shade - 10) as u8]));
                }
            }
        }
        let mut dice = Rng::with_seed(scene.seed ^ (number as u64) << 20);
        for value in image.iter_mut() {
            *value = (i32::from(*value) + dice.i32(-NOISE..=NOISE)).clamp(0, 255) as u8;
        }
        image
    }

    fn draw(&self, image: &mut RgbImage, actor: usize, at: i64, (dx, dy): (f32, f32)) {
        let who = &self.scene.actors[actor];
        let Some((_, x, y)) = who.place(at) else { return };
        let before = who.place(at - EXPOSURE_MS).unwrap_or((0, x, y));
        let (bx, by) = (before.1 - x, before.2 - y);
        let steps = (bx.hypot(by).ceil() as usize).clamp(1, 10);
        let (now, next, mix) = self.heads(actor, at);
        let reach = who.edge;
        let range = |c: f32, most: u32| (c - reach).max(0.0) as u32..((c + reach).max(0.0) as u32).min(most);
        for py in range(y + dy, SIZE.1) {
            for px in range(x + dx, SIZE.0) {
                let (mut color, mut opacity) = ([0.0; 3], 0.0);
                for step in 0..steps {
                    let part = step as f32 / steps as f32;
                    let u = (px as f32 + 0.5 - dx - x - bx * part) / who.edge;
                    let v = (py as f32 + 0.5 - dy - y - by * part) / who.edge;
                    for (head, share) in [(now, 1.0 - mix), (next, mix)] {
                        if share > 0.0 {
                            let (c, o) = head.at(u, v);
                            let weight = o * share / steps as f32;
                            color.iter_mut().zip(c).for_each(|(sum, v)| *sum += weight * v);
                            opacity += weight;
                        }
                    }
                }
                if opacity > 0.0 {
                    let under = image.get_pixel_mut(px, py);
                    for (value, sum) in under.0.iter_mut().zip(color) {
                        *value = (f32::from(*value) * (1.0 - opacity) + sum + 0.5).clamp(0.0, 255.0) as u8;
                    }
                }
            }
        }
    }

    /// The picture shown, the one after it, and how far the change has gone, 0 to 1.
    fn heads(&self, actor: usize, at: i64) -> (&Head, &Head, f32) {
        let (person, first) = self.cast[actor];
        let pictures = &self.studio.people[person];
        let change = self.scene.actors[actor].change_ms;
        if change <= 0 {
            return (&pictures[first], &pictures[first], 0.0);
        }
        let number = first + (at / change).max(0) as usize;
        let mix = ((at % change - (change - FADE_MS)) as f32 / FADE_MS as f32).clamp(0.0, 1.0);
        (&pictures[number % pictures.len()], &pictures[(number + 1) % pictures.len()], mix)
    }
}

/// A background: a gradient, soft spots and straight edges.
fn made(dice: &mut Rng) -> RgbImage {
    // Muted, as walls and floors are.
    let color = |dice: &mut Rng| {
        let grey = dice.f32() * 120.0 + 60.0;
        [0; 3].map(|_| grey + dice.f32() * 30.0 - 15.0)
    };
    let (top, bottom) = (color(dice), color(dice));
    let waves: Vec<[f32; 4]> =
        (0..6).map(|_| [dice.f32() * 0.06, dice.f32() * 0.06, dice.f32() * 6.3, 1.0 + dice.f32() * 4.0]).collect();
    let blocks: Vec<(BBox, f32)> = (0..12)
        .map(|_| {
            let (x, y) = (dice.f32() * SIZE.0 as f32, dice.f32() * SIZE.1 as f32);
            (BBox::new(x, y, x + 20.0 + dice.f32() * 180.0, y + 20.0 + dice.f32() * 180.0), dice.f32() * 70.0 - 35.0)
        })
        .collect();
    RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| {
        let (fx, fy) = (x as f32, y as f32);
        let down = fy / SIZE.1 as f32;
        let soft: f32 = waves.iter().map(|[a, b, c, d]| d * (a * fx + b * fy + c).sin()).sum();
        let hard: f32 = blocks
            .iter()
            .filter(|(b, _)| (b.x1..b.x2).contains(&fx) && (b.y1..b.y2).contains(&fy))
            .map(|(_, shade)| shade)
            .sum();
        let mut out = [0; 3];
        for (i, value) in out.iter_mut().enumerate() {
            *value = (top[i] * (1.0 - down) + bottom[i] * down + soft + hard).clamp(0.0, 255.0) as u8;
        }
        Rgb(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Point;

    fn studio() -> Studio {
        // A red "face" on green.
        let photo = RgbImage::from_fn(200, 200, |x, y| {
            if (70..130).contains(&x) && (60..140).contains(&y) { Rgb([220, 20, 20]) } else { Rgb([20, 200, 20]) }
        });
        let detection =
            Detection { bbox: BBox::new(70.0, 60.0, 130.0, 140.0), score: 1.0, landmarks: [Point::default(); 5] };
        Studio { people: vec![vec![Head::cut(&Picture::from_rgb(photo), &detection)]], backgrounds: Vec::new() }
    }

    #[test]
    fn a_face_is_where_the_truth_says() {
        let (studio, scene) = (studio(), Scene::make("turned", 1).unwrap());
        let shooting = studio.cast(&scene).unwrap();
        let image = shooting.frame(4);
        for (_, truth) in scene.truth(4) {
            let c = truth.bbox.center();
            let [r, g, _] = image.get_pixel(c.x as u32, c.y as u32).0;
            assert!(r > 200 && g < 40, "{r} {g} at {c:?}");
        }
        assert_eq!(image, shooting.frame(4), "the same frame twice");
        assert!(Studio { people: vec![Vec::new()], backgrounds: Vec::new() }.cast(&scene).is_none());
    }
}
