//! A folder of pictures, or one alone, as a scene: each picture walks in, stays with a slow pan and zoom, and walks out again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};

use super::scene::{Actor, CardShape, Scene, Waypoint};
use super::{Background, SimulatorError};

/// Time from one picture's entrance to the next one's, unless told otherwise.
pub const DEFAULT_PERIOD: Duration = Duration::from_secs(8);
/// Share of the period in which somebody may be seen; the rest is empty background, so that each walk is an appearance of its own.
const WALKING: f32 = 0.75;
const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// Longest side of a picture that is decoded, pixels.
const MAX_SIDE: u32 = 12_000;

/// The scene of a folder or of a single picture; actors are labelled with the file's name without its ending.
///
/// # Errors
/// No such folder or picture, no picture in it, or a picture that cannot be read.
pub fn scene(path: &Path, size: (u32, u32), fps: u32, period: Duration) -> Result<Scene, SimulatorError> {
    let pictures = pictures_in(path)?;
    let mut scene = Scene::new(size, fps, period * u32::try_from(pictures.len()).unwrap_or(u32::MAX))
        .background(Background::Gradient { top: [196, 201, 205], bottom: [142, 147, 150] });
    for (index, file) in pictures.iter().enumerate() {
        let label = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let picture = Arc::new(no_larger_than_shown(open_picture(file)?, size));
        let enters_at = period * u32::try_from(index).unwrap_or(u32::MAX);
        scene = scene.actor(walk_through(label, picture, size, enters_at, period, index % 2 == 0));
    }
    Ok(scene)
}

/// A picture is drawn at most as large as the frame, so more pixels would only take memory.
fn no_larger_than_shown(picture: RgbImage, (width, height): (u32, u32)) -> RgbImage {
    let most = |edge: u32| edge.saturating_mul(2).max(1);
    let shrink = (most(width) as f32 / picture.width() as f32).min(most(height) as f32 / picture.height() as f32);
    if shrink >= 1.0 {
        return picture;
    }
    let scaled = |edge: u32| ((edge as f32 * shrink) as u32).max(1);
    let (width, height) = (scaled(picture.width()), scaled(picture.height()));
    image::imageops::resize(&picture, width, height, image::imageops::FilterType::Triangle)
}

/// An actor who walks in from one side, stays a while in the middle, and leaves on the other side before `period` ends.
///
/// The whole picture is shown, as large as fits; about a third of the period is empty background at the end.
pub fn walk_through(
    label: String,
    picture: Arc<RgbImage>,
    size: (u32, u32),
    enters_at: Duration,
    period: Duration,
    from_left: bool,
) -> Actor {
    let aspect = picture.width() as f32 / picture.height().max(1) as f32;
    let frame_aspect = size.0 as f32 / size.1.max(1) as f32;
    // As tall as the frame allows, and never wider than nine tenths of it.
    let height = 0.94_f32.min(0.9 * frame_aspect / aspect);
    let outside = 0.5 + aspect * height * 1.1 / frame_aspect / 2.0 + 0.02;
    let side = if from_left { -1.0 } else { 1.0 };
    let at = |part: f32, x: f32, zoom: f32| Waypoint {
        at: enters_at + period.mul_f32(part * WALKING),
        x: 0.5 + x,
        y: 0.5,
        height: height * zoom,
    };
    let path = vec![
        at(0.0, side * outside, 1.0),
        at(0.2, side * 0.03, 1.0),
        at(0.65, -side * 0.03, 1.08),
        at(0.85, -side * outside, 1.08),
    ];
    Actor { label, picture, shape: CardShape::Whole, region: None, path }
}

/// Whether a file is a picture, by its ending.
pub fn is_picture(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// The pictures of a folder, by name; of a picture itself.
fn pictures_in(path: &Path) -> Result<Vec<PathBuf>, SimulatorError> {
    if is_picture(path) {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|_| SimulatorError::NotFound { path: path.to_owned() })?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(|file| is_picture(file)).collect();
    files.sort();
    if files.is_empty() {
        return Err(SimulatorError::EmptyFolder { path: path.to_owned() });
    }
    Ok(files)
}

/// Reads a picture upright (EXIF orientation applied).
///
/// # Errors
/// Absent, damaged, or with a side above 12 000 pixels.
pub fn open_picture(path: &Path) -> Result<RgbImage, SimulatorError> {
    let fail = |reason: String| SimulatorError::Picture { path: path.to_owned(), reason };
    let mut reader =
        ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(|error| fail(error.to_string()))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| fail(error.to_string()))?;
    let orientation = decoder.orientation().map_err(|error| fail(error.to_string()))?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| fail(error.to_string()))?;
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}
