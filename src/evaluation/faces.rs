//! Picture files through the engine that serves: the face that counts, its quality and its embedding. All workers are kept busy.

use std::path::{Path, PathBuf};

use futures::{StreamExt, stream};

use super::{
    EvaluationError,
    damage::Damage,
    hardship::{Attempt, Tried},
    people::Sample,
};
use crate::{
    face::{Detection, Embedding, FaceEngine, FaceError, Quality},
    frame::{
        Picture, Point, crop, scale,
        still::{self, StillLimits},
    },
};

/// What a picture may cost; data sets hold larger ones than users send.
const LIMITS: StillLimits = StillLimits { bytes: 64 << 20, pixels: 120_000_000 };

/// Which face counts in a picture with several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// The largest box.
    #[default]
    Largest,
    /// The large one near the middle: area less twice the squared distance of its centre, as LFW's evaluations with FaceNet choose
    /// (davidsandberg/facenet, `align_dataset_mtcnn.py`). LFW's pictures are cropped around their person.
    Central,
}

/// The face of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Face {
    /// Where.
    pub detection: Detection,
    /// How well it can be recognised.
    pub quality: Quality,
    /// What it is compared by.
    pub embedding: Embedding,
}

/// What a picture gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A face.
    Face(Box<Face>),
    /// The detector saw none.
    NoFace,
    /// The file is no picture that can be read, and why.
    Unreadable(String),
}

impl Found {
    /// The face, if there is one.
    pub fn face(&self) -> Option<&Face> {
        match self {
            Self::Face(face) => Some(face),
            _ => None,
        }
    }
}

/// A picture that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// Why, in words.
    pub why: String,
}

/// The pictures among `samples` that [`embed`] could not read.
pub fn unreadable(samples: &[Sample], found: &[Found]) -> Vec<Unreadable> {
    let bad = samples.iter().zip(found).filter_map(|(sample, found)| match found {
        Found::Unreadable(why) => Some(Unreadable { path: sample.path.clone(), why: why.clone() }),
        _ => None,
    });
    bad.collect()
}

/// Reads and decodes a picture file, size checked before reading. Blocks.
///
/// # Errors
/// Why it can't be read, in words.
pub fn open(path: &Path) -> Result<Picture, String> {
    let facts = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !facts.is_file() {
        return Err("it is no regular file".into());
    }
    if facts.len() > LIMITS.bytes as u64 {
        return Err(format!("it has {} bytes, at most {} are read", facts.len(), LIMITS.bytes));
    }
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    still::decode(&bytes, &LIMITS).map_err(|e| e.to_string())
}

/// [`open`] off the async threads.
pub(super) async fn opened(path: PathBuf) -> Result<Picture, String> {
    let task = tokio::task::spawn_blocking(move || open(&path));
    task.await.unwrap_or_else(|_| Err("decoding it failed".into()))
}

/// The index of the face that counts.
pub fn choose(faces: &[Detection], choice: Choice, (width, height): (u32, u32)) -> Option<usize> {
    let middle = Point::new(width as f32 / 2.0, height as f32 / 2.0);
    let weight = |d: &Detection| match choice {
        Choice::Largest => d.bbox.area(),
        Choice::Central => d.bbox.area() - 2.0 * d.bbox.center().distance(middle).powi(2),
    };
    (0..faces.len()).max_by(|a, b| weight(&faces[*a]).total_cmp(&weight(&faces[*b])))
}

/// The face that counts of each picture, in order. `done` hears of each finished picture.
///
/// # Errors
/// When the engine fails. A picture that can't be read is an answer, not an error.
pub async fn embed(
    engine: &FaceEngine,
    files: &[PathBuf],
    choice: Choice,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Found>, EvaluationError> {
    let one = |file: PathBuf| async move {
        let picture = match opened(file).await {
            Ok(picture) => picture,
            Err(why) => return Ok(Found::Unreadable(why)),
        };
        let faces = engine.detect_still(&picture, None).await?;
        let Some(index) = choose(&faces, choice, (picture.width(), picture.height())) else {
            return Ok(Found::NoFace);
        };
        let embedding = engine.embed(&picture, &faces[index..=index]).await?.pop();
        let quality = engine.measure(&picture, &faces[index]);
        let face = embedding.map(|embedding| Face { detection: faces[index], quality, embedding });
        Ok::<_, FaceError>(face.map_or(Found::NoFace, |face| Found::Face(Box::new(face))))
    };
    run(engine, files, one, done).await
}

/// Every face of each picture, in order; why, for pictures that can't be read.
///
/// # Errors
/// When the engine fails.
pub async fn embed_every(
    engine: &FaceEngine,
    files: &[PathBuf],
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Result<Vec<Face>, Unreadable>>, EvaluationError> {
    let one = |file: PathBuf| async move {
        let picture = match opened(file.clone()).await {
            Ok(picture) => picture,
            Err(why) => return Ok(Err(Unreadable { path: file, why })),
        };
        let faces = engine.detect_still(&picture, None).await?;
        let embeddings = engine.embed(&picture, &faces).await?;
        let faces = faces.into_iter().zip(embeddings).map(|(detection, embedding)| Face {
            detection,
            quality: engine.measure(&picture, &detection),
            embedding,
        });
        Ok::<_, FaceError>(Ok(faces.collect()))
    };
    run(engine, files, one, done).await
}

/// Detections of each picture above `min_score` (0 to 1), in order; `None` for pictures that can't be read.
///
/// # Errors
/// When the engine fails.
pub async fn detect(
    engine: &FaceEngine,
    files: &[PathBuf],
    min_score: f32,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Option<Vec<Detection>>>, EvaluationError> {
    let one = |file: PathBuf| async move {
        let Ok(picture) = opened(file).await else { return Ok(None) };
        engine.detect_still(&picture, Some(min_score)).await.map(Some)
    };
    run(engine, files, one, done).await
}

/// Faces of a picture at several input sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct AtSizes {
    /// At the size of the truth.
    pub truth: Vec<Detection>,
    /// The scale of each other size that is no enlargement, and what was found there; all in the picture's own pixels, scores above 0.5.
    pub at: Vec<(f32, Vec<Detection>)>,
}

/// Detections of each picture at the size of the truth and at others (longer sides, pixels); `None` for pictures that can't be read.
///
/// # Errors
/// When the engine fails.
pub async fn detect_at(
    engine: &FaceEngine,
    files: &[PathBuf],
    truth: u32,
    sides: &[u32],
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Option<AtSizes>>, EvaluationError> {
    let one = |file: PathBuf| async move {
        let Ok(picture) = opened(file).await else { return Ok(None) };
        let longer = picture.width().max(picture.height()).max(1);
        let mut found = AtSizes { truth: engine.detect_at(&picture, truth, 0.5).await?, at: Vec::new() };
        for side in sides.iter().copied().filter(|side| *side < longer.min(truth)) {
            found.at.push((side as f32 / longer as f32, engine.detect_at(&picture, side, 0.5).await?));
        }
        Ok(Some(found))
    };
    run(engine, files, one, done).await
}

/// Longest side of the cut-out that is damaged, pixels.
const DAMAGED_SIDE: u32 = 640;
/// Seeds, that is strengths, of each kind of damage.
const STRENGTHS: u64 = 2;

/// The face that counts of each picture, as it is and after every kind of damage at two strengths; pictures without a face are left out, those that
/// can't be read are named beside. What is damaged is a cut-out of three times the face's box, 640 pixels at most.
///
/// # Errors
/// When the engine fails.
pub async fn embed_damaged(
    engine: &FaceEngine,
    samples: &[Sample],
    done: &(dyn Fn() + Sync),
) -> Result<(Vec<Tried>, Vec<Unreadable>), EvaluationError> {
    let files: Vec<PathBuf> = samples.iter().map(|s| s.path.clone()).collect();
    let one = |file: PathBuf| async move {
        let picture = match opened(file.clone()).await {
            Ok(picture) => picture,
            Err(why) => return Ok(Err(Unreadable { path: file, why })),
        };
        let faces = engine.detect_still(&picture, None).await?;
        let Some(index) = choose(&faces, Choice::Largest, (picture.width(), picture.height())) else {
            return Ok(Ok(None));
        };
        let (cut, landmarks) = cut_for_damage(&picture, &faces[index]);
        let mut attempts = vec![attempt(engine, cut.clone(), landmarks, None, 0).await?];
        for damage in Damage::ALL {
            for seed in 0..STRENGTHS {
                attempts.push(attempt(engine, cut.clone(), landmarks, Some(damage), seed).await?);
            }
        }
        Ok(Ok(Some(attempts)))
    };
    let (mut tried, mut unreadable) = (Vec::new(), Vec::new());
    for (sample, attempts) in samples.iter().zip(run(engine, &files, one, done).await?) {
        match attempts {
            Ok(Some(attempts)) => tried.push(Tried { person: sample.person.clone(), attempts }),
            Ok(None) => {}
            Err(bad) => unreadable.push(bad),
        }
    }
    Ok((tried, unreadable))
}

/// The part of a picture around a face, and the landmarks in it.
fn cut_for_damage(picture: &Picture, face: &Detection) -> (image::RgbImage, [Point; 5]) {
    let (cut, corner) = crop::cut_out(picture, &face.bbox.grown(3.0));
    let (width, height) = scale::fitted(cut.width(), cut.height(), DAMAGED_SIDE);
    let factor = width as f32 / cut.width().max(1) as f32;
    let landmarks = face.landmarks.map(|p| Point::new((p.x - corner.x) * factor, (p.y - corner.y) * factor));
    let cut = if (width, height) == cut.dimensions() { cut } else { crop::resized(&cut, width, height) };
    (cut, landmarks)
}

/// Damages a cut-out and looks for its face again: the one whose landmarks lie where they should.
async fn attempt(
    engine: &FaceEngine,
    cut: image::RgbImage,
    landmarks: [Point; 5],
    damage: Option<Damage>,
    seed: u64,
) -> Result<Attempt, FaceError> {
    let width = cut.width() as f32;
    // Different pictures get different strengths: the first landmark tells them apart.
    let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(landmarks[0].x.to_bits());
    let work = move || damage.map_or(cut.clone(), |damage| damage.apply(&cut, &landmarks, seed));
    let Ok(image) = tokio::task::spawn_blocking(work).await else { return Ok(Attempt { damage, face: None }) };
    let factor = image.width() as f32 / width;
    let middle = |points: &[Point; 5]| {
        let sum = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.x / 5.0, y + p.y / 5.0));
        Point::new(sum.0, sum.1)
    };
    let eyes = landmarks[0].distance(landmarks[1]) * factor;
    let wanted = middle(&landmarks.map(|p| Point::new(p.x * factor, p.y * factor)));
    let picture = Picture::from_rgb(image);
    let faces = engine.detect_still(&picture, None).await?;
    let away = |d: &Detection| middle(&d.landmarks).distance(wanted);
    let near = faces.into_iter().filter(|d| away(d) < 0.6 * eyes).min_by(|a, b| away(a).total_cmp(&away(b)));
    let Some(detection) = near else { return Ok(Attempt { damage, face: None }) };
    let embedding = engine.embed(&picture, &[detection]).await?.pop();
    let quality = engine.measure(&picture, &detection);
    Ok(Attempt { damage, face: embedding.map(|embedding| Face { detection, quality, embedding }) })
}

/// `one` for every file, a few more at a time than there are workers, so that decoding never keeps them waiting.
async fn run<T, F>(
    engine: &FaceEngine,
    files: &[PathBuf],
    one: impl Fn(PathBuf) -> F,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<T>, EvaluationError>
where
    F: Future<Output = Result<T, FaceError>>,
{
    let mut results = stream::iter(files.iter().cloned()).map(one).buffered(2 * engine.workers() + 2);
    let mut out = Vec::with_capacity(files.len());
    while let Some(result) = results.next().await {
        out.push(result?);
        done();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::BBox;

    #[test]
    fn the_largest_or_the_central_face_counts() {
        let at = |x: f32, edge: f32| Detection {
            bbox: BBox::new(x, 100.0, x + edge, 100.0 + edge),
            score: 0.9,
            landmarks: [Point::default(); 5],
        };
        let faces = [at(100.0, 50.0), at(190.0, 55.0)];
        assert_eq!(choose(&faces, Choice::Largest, (250, 250)), Some(1));
        assert_eq!(choose(&faces, Choice::Central, (250, 250)), Some(0));
        assert_eq!(choose(&[], Choice::Largest, (250, 250)), None);
    }

    #[test]
    fn files_that_are_no_pictures_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.jpg");
        assert!(open(&file).is_err());
        std::fs::write(&file, b"hello").unwrap();
        assert!(open(&file).unwrap_err().contains("no picture"));
        assert!(open(dir.path()).unwrap_err().contains("regular file"));
    }
}
