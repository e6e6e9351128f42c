//! The contact sheet of `eval gallery`: pictures are read once more, only those that are shown.

use std::path::Path;

use image::RgbImage;

use super::gallery::Result;
use crate::{
    cli::error::Failure,
    evaluation::{
        Found,
        contact_sheet::{self, Couple, Section},
        faces, gallery,
        people::Sample,
    },
    whole_file,
};

/// Draws and writes the sheet of one model.
///
/// # Errors
/// When the file can't be written. A picture that can't be read any more is black.
pub fn write(
    file: &Path,
    samples: &[Sample],
    found: &[Found],
    result: &Result,
    count: usize,
) -> std::result::Result<(), Failure> {
    let tile = |face: usize| -> RgbImage {
        let place = result.places.get(face).copied().unwrap_or(usize::MAX);
        let picture = samples.get(place).and_then(|s| faces::open(&s.path).ok());
        match (picture, found.get(place).and_then(Found::face)) {
            (Some(picture), Some(face)) => contact_sheet::tile(&picture, &face.detection),
            _ => RgbImage::new(1, 1),
        }
    };
    let name = |face: usize| result.faces.entries.get(face).map(|e| e.name.clone()).unwrap_or_default();
    let couples = |list: Vec<gallery::Couple>, alarming: &dyn Fn(&gallery::Couple) -> bool| -> Vec<Couple> {
        let drawn = |c: &gallery::Couple| Couple {
            faces: [tile(c.a), tile(c.b)],
            names: [name(c.a), name(c.b)],
            figure: format!("similarity {:.3}", c.similarity),
            alarming: alarming(c),
        };
        list.iter().map(drawn).collect()
    };
    let (same, name_from) = (result.spec.verification_threshold, result.spec.identification_threshold);
    let sections = [
        Section {
            title: format!("These two look alike (red: one would be named as the other, from {name_from:.3})"),
            couples: couples(result.searches.look_alikes(&result.faces, count), &|c| c.similarity >= name_from),
        },
        Section {
            title: format!("This photo does not look like its person (red: below {same:.3})"),
            couples: couples(result.searches.odd_ones(count), &|c| c.similarity < same),
        },
    ];
    whole_file::write_picture(file, &contact_sheet::draw(&sections))
        .map_err(|e| Failure::new(format!("cannot write {}", file.display())).because(&e))
}
