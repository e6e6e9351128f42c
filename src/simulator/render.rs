//! Draws the pictures of a scene: soft-edged cards over a background, sub-pixel positions, aspect ratio kept.

use std::time::Duration;

use image::{RgbImage, imageops};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};

use super::scene::{Actor, Background, CardShape, Scene};

/// Height of a camera's own writing, in parts of the picture's.
const WRITING: f32 = 0.035;

/// A card scaled to the largest size it is shown at, with its opacity.
struct Card {
    pixels: RgbImage,
    alpha: Vec<u8>,
}

/// Draws one scene; keeps the background and the scaled cards.
pub(super) struct Painter<'a> {
    scene: &'a Scene,
    background: Vec<u8>,
    cards: Vec<Card>,
    /// Noise of a picture and as much again, so that each picture begins at another place.
    noise: Vec<i8>,
}

impl<'a> Painter<'a> {
    pub(super) fn new(scene: &'a Scene) -> Self {
        let cards = scene.actors.iter().map(|actor| prepare(actor, scene.size.1)).collect();
        Self { scene, background: background(scene), cards, noise: noise(scene) }
    }

    /// Fills a packed RGB picture with the scene at `at`.
    pub(super) fn draw(&self, at: Duration, pixels: &mut [u8]) {
        pixels.copy_from_slice(&self.background);
        for (actor, card) in self.scene.actors.iter().zip(&self.cards) {
            if let Some(rectangle) = actor.rectangle(at, self.scene.size) {
                blend(pixels, self.scene.size, card, rectangle);
            }
        }
        if !self.noise.is_empty() {
            let begin = fastrand::Rng::with_seed(at.as_millis() as u64).usize(..self.noise.len() / 2);
            for (pixel, off) in pixels.chunks_exact_mut(3).zip(&self.noise[begin..]) {
                pixel.iter_mut().for_each(|channel| *channel = channel.saturating_add_signed(*off));
            }
        }
        if self.scene.clock {
            write_time(at, pixels, self.scene.size);
        }
    }
}

/// Date and time, white with a shadow. Cameras write them behind the sensor: no noise.
fn write_time(at: Duration, pixels: &mut [u8], (width, height): (u32, u32)) {
    let second = at.as_secs();
    let text = format!("2026-01-05 {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    let wanted = height as f32 * WRITING;
    let drawn = if wanted < 24.0 { RasterHeight::Size16 } else { RasterHeight::Size32 };
    // The font ends at 32 pixels; dots of larger writing are squares.
    let dot = (wanted / drawn.val() as f32).round().max(1.0) as usize;
    let corner = wanted as usize / 2;
    let (width, height) = (width as usize, height as usize);
    for (shift, color) in [(dot, 16), (0, 235)] {
        let mut left = corner + shift;
        for glyph in text.chars().filter_map(|c| get_raster(c, FontWeight::Bold, drawn)) {
            for (row, line) in glyph.rows().enumerate() {
                for (column, _) in line.iter().enumerate().filter(|(_, strength)| **strength > 127) {
                    let (x, y) = (left + column * dot, corner + shift + row * dot);
                    for (x, y) in (0..dot * dot).map(|i| (x + i % dot, y + i / dot)) {
                        if x < width && y < height {
                            pixels[(y * width + x) * 3..][..3].fill(color);
                        }
                    }
                }
            }
            left += glyph.width() * dot;
        }
    }
}

fn noise(scene: &Scene) -> Vec<i8> {
    let (most, mut random) = (scene.noise.min(i8::MAX as u8) as i8, fastrand::Rng::with_seed(7));
    let pixels = if most == 0 { 0 } else { scene.size.0 as usize * scene.size.1 as usize };
    (0..pixels * 2).map(|_| random.i8(-most..=most)).collect()
}

fn background(scene: &Scene) -> Vec<u8> {
    let (width, height) = (scene.size.0 as usize, scene.size.1 as usize);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        let colour = match scene.background {
            Background::Plain(colour) => colour,
            Background::Gradient { top, bottom } => std::array::from_fn(|channel| {
                let part = row as f32 / height.max(2) as f32;
                (f32::from(top[channel]) * (1.0 - part) + f32::from(bottom[channel]) * part).round() as u8
            }),
        };
        pixels.extend(std::iter::repeat_n(colour, width).flatten());
    }
    pixels
}

fn prepare(actor: &Actor, frame_height: u32) -> Card {
    let [x, y, width, height] = actor.card();
    let tallest = actor.path.iter().map(|point| point.height).fold(0.0, f32::max) * frame_height as f32;
    let scale = (tallest / height as f32).clamp(0.01, 4.0);
    let to = |side: u32| ((side as f32 * scale).round() as u32).max(2);
    let cut = imageops::crop_imm(actor.picture.as_ref(), x, y, width, height).to_image();
    let pixels = imageops::resize(&cut, to(width), to(height), imageops::FilterType::CatmullRom);
    let (width, height) = pixels.dimensions();
    let mut alpha = Vec::with_capacity((width * height) as usize);
    let soft = (width.min(height) as f32 * 0.03).max(1.0);
    for row in 0..height {
        for column in 0..width {
            let (dx, dy) = (column as f32 + 0.5, row as f32 + 0.5);
            let opacity = match actor.shape {
                CardShape::Whole => {
                    let edge = dx.min(width as f32 - dx).min(dy).min(height as f32 - dy);
                    edge / soft
                }
                CardShape::Ellipse => {
                    let (half_width, half_height) = (width as f32 / 2.0, height as f32 / 2.0);
                    let radius = ((dx / half_width - 1.0).powi(2) + (dy / half_height - 1.0).powi(2)).sqrt();
                    (1.0 - radius) / 0.12
                }
            };
            alpha.push((opacity.clamp(0.0, 1.0) * 255.0) as u8);
        }
    }
    Card { pixels, alpha }
}

/// Draws the card into the rectangle (left, top, width, height), bilinear in 8-bit fixed point.
fn blend(frame: &mut [u8], size: (u32, u32), card: &Card, rectangle: [f32; 4]) {
    let [left, top, width, height] = rectangle;
    let (card_width, card_height) = (card.pixels.width() as usize, card.pixels.height() as usize);
    let first_row = top.floor().max(0.0) as usize;
    let last_row = (top + height).ceil().clamp(0.0, size.1 as f32) as usize;
    let first_column = left.floor().max(0.0) as usize;
    let last_column = (left + width).ceil().clamp(0.0, size.0 as f32) as usize;
    if first_row >= last_row || first_column >= last_column || width < 1.0 || height < 1.0 {
        return;
    }
    let (step_x, step_y) = (card_width as f32 / width, card_height as f32 / height);
    // Index and weight (0 to 256) of the two neighbours, the same for every row.
    let split = |position: f32, length: usize| {
        let position = position.clamp(0.0, (length - 1) as f32 - 0.001);
        (position as usize, ((position.fract()) * 256.0) as u32)
    };
    let columns: Vec<(usize, u32)> = (first_column..last_column)
        .map(|column| split((column as f32 + 0.5 - left) * step_x - 0.5, card_width))
        .collect();
    let source = card.pixels.as_raw();
    for row in first_row..last_row {
        let (y, wy) = split((row as f32 + 0.5 - top) * step_y - 0.5, card_height);
        let upper = &source[y * card_width * 3..(y + 1) * card_width * 3];
        let lower = &source[(y + 1) * card_width * 3..(y + 2) * card_width * 3];
        let opacity = &card.alpha[y * card_width..(y + 1) * card_width];
        let start = (row * size.0 as usize + first_column) * 3;
        let target = &mut frame[start..start + columns.len() * 3];
        for (pixel, &(x, wx)) in target.chunks_exact_mut(3).zip(&columns) {
            let a = u32::from(opacity[x]);
            if a == 0 {
                continue;
            }
            for (channel, value) in pixel.iter_mut().enumerate() {
                let at = x * 3 + channel;
                let high = u32::from(upper[at]) * (256 - wx) + u32::from(upper[at + 3]) * wx;
                let low = u32::from(lower[at]) * (256 - wx) + u32::from(lower[at + 3]) * wx;
                let mixed = (high * (256 - wy) + low * wy) >> 16;
                *value = ((mixed * a + u32::from(*value) * (255 - a)) / 255) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_changes_by_the_second_and_nothing_beside_it() {
        for size in [(640, 360), (1920, 1080), (40, 20)] {
            let scene = Scene::new(size, 25, Duration::from_secs(90)).clock();
            let painter = Painter::new(&scene);
            let picture = |ms| {
                let mut image = RgbImage::new(size.0, size.1);
                painter.draw(Duration::from_millis(ms), &mut image);
                image
            };
            let (first, same, next) = (picture(59_000), picture(59_960), picture(60_000));
            assert_eq!(first, same);
            let changed: Vec<_> = first.enumerate_pixels().filter(|(x, y, p)| next.get_pixel(*x, *y) != *p).collect();
            let inside = |(x, y, _): &(u32, u32, _)| *x < size.0 / 2 && *y <= size.1 / 10;
            assert!(changed.iter().all(inside) && (size.0 < 640 || changed.len() > 50), "{size:?}: {}", changed.len());
        }
    }
}
