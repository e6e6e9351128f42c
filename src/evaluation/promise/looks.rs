//! What a camera would see of the faces in photographs: each is shown again smaller, shifted, lighter or darker and with noise, and goes through
//! detector, alignment and embedder anew. Looks of one photograph differ as consecutive frames do; looks of several as a long track's do.

use std::path::PathBuf;

use fastrand::Rng;
use futures::{StreamExt, stream};
use image::RgbImage;

use crate::{
    evaluation::{
        EvaluationError,
        faces::{self, Choice, Unreadable},
    },
    face::{Detection, Embedding, FaceEngine},
    frame::{Picture, crop},
};

/// Looks made of each photograph.
pub const LOOKS: usize = 4;
/// Edge of the face in a look, pixels, least and most.
const EDGE: (f32, f32) = (55.0, 130.0);
/// What is shown around the face, in box sizes.
const AROUND: f32 = 2.4;

/// A photograph's face.
#[derive(Debug, Clone, PartialEq)]
pub struct Photo {
    /// Index of the person.
    pub person: usize,
    /// Of the photograph itself.
    pub embedding: Embedding,
    /// Of its looks, with their qualities; at least one.
    pub looks: Vec<(Embedding, f32)>,
}

/// Photographs of people, `people[i]` being whose face file `i` shows; files without a face are left out, those that can't be
/// read are named beside. `done` hears of each.
///
/// # Errors
/// When the engine fails.
pub async fn photos(
    engine: &FaceEngine,
    files: &[PathBuf],
    people: &[usize],
    done: &(dyn Fn() + Sync),
) -> Result<(Vec<Photo>, Vec<Unreadable>), EvaluationError> {
    let one = |(number, file): (usize, PathBuf)| async move {
        let picture = match faces::opened(file.clone()).await {
            Ok(picture) => picture,
            Err(why) => return Ok(Err(Unreadable { path: file, why })),
        };
        let found = engine.detect_still(&picture, None).await?;
        let size = (picture.width(), picture.height());
        let Some(face) = faces::choose(&found, Choice::Largest, size).map(|i| found[i]) else { return Ok(Ok(None)) };
        let Some(embedding) = engine.embed(&picture, &[face]).await?.pop() else { return Ok(Ok(None)) };
        let mut looks = Vec::with_capacity(LOOKS);
        let mut dice = Rng::with_seed(number as u64);
        for _ in 0..LOOKS {
            let shown = Picture::from_rgb(shown(&picture, &face, &mut dice));
            let found = engine.detect_still(&shown, None).await?;
            let size = (shown.width(), shown.height());
            let Some(face) = faces::choose(&found, Choice::Central, size).map(|i| found[i]) else { continue };
            let quality = engine.measure(&shown, &face).value;
            looks.extend(engine.embed(&shown, &[face]).await?.pop().map(|e| (e, quality)));
        }
        if looks.is_empty() {
            looks.push((embedding.clone(), engine.measure(&picture, &face).value));
        }
        Ok::<_, EvaluationError>(Ok(people.get(number).map(|&person| Photo { person, embedding, looks })))
    };
    let mut results = stream::iter(files.iter().cloned().enumerate()).map(one).buffered(2 * engine.workers());
    let (mut photos, mut unreadable) = (Vec::with_capacity(files.len()), Vec::new());
    while let Some(photo) = results.next().await {
        match photo? {
            Ok(photo) => photos.extend(photo),
            Err(bad) => unreadable.push(bad),
        }
        done();
    }
    Ok((photos, unreadable))
}

/// The face as a camera might see it.
fn shown(picture: &Picture, face: &Detection, dice: &mut Rng) -> RgbImage {
    let mut bbox = face.bbox.grown(AROUND + 0.4 * dice.f32());
    let (dx, dy) = ((dice.f32() - 0.5) * 0.3 * face.bbox.width(), (dice.f32() - 0.5) * 0.3 * face.bbox.height());
    (bbox.x1, bbox.x2, bbox.y1, bbox.y2) = (bbox.x1 + dx, bbox.x2 + dx, bbox.y1 + dy, bbox.y2 + dy);
    let (part, _) = crop::cut_out(picture, &bbox);
    let edge = EDGE.0 + (EDGE.1 - EDGE.0) * dice.f32();
    let scale = edge / face.bbox.area().sqrt().max(1.0);
    let size = |v: u32| ((v as f32 * scale).round() as u32).clamp(32, 2000);
    let mut image = crop::resized(&part, size(part.width()), size(part.height()));
    let (gain, lift, noise) = (0.75 + 0.5 * dice.f32(), 30.0 * (dice.f32() - 0.5), 3 + dice.i32(0..8));
    for value in image.iter_mut() {
        *value = (f32::from(*value) * gain + lift + dice.i32(-noise..=noise) as f32).clamp(0.0, 255.0) as u8;
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{BBox, Point};

    #[test]
    fn a_look_shows_the_face_at_a_cameras_size_and_never_twice_the_same() {
        let photo = RgbImage::from_fn(400, 400, |x, y| image::Rgb([x as u8, y as u8, 90]));
        let bbox = BBox::new(100.0, 100.0, 260.0, 300.0);
        let face = Detection { bbox, score: 1.0, landmarks: [Point::default(); 5] };
        let mut dice = Rng::with_seed(1);
        let looks: Vec<RgbImage> = (0..3).map(|_| shown(&Picture::from_rgb(photo.clone()), &face, &mut dice)).collect();
        assert!(looks.iter().all(|l| (60..400).contains(&l.width())));
        assert!(looks[0] != looks[1] && looks[1] != looks[2]);
    }
}
