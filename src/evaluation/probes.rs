//! Pictures whose names say who of the gallery is in them: `<person>[+<person>…]-N.jpg`; bystanders are unnamed.
//!
//! Judged as the server judges a still picture: all faces together, a person is one face at most ([`crate::identity::decision::assign`]).

use std::{collections::BTreeSet, path::Path};

use serde::Serialize;

use crate::{
    identity::{Candidates, PersonHit, Thresholds, decision},
    inference::manifest::EmbedderSpec,
};

/// A picture with several faces.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbePicture {
    /// Indices of the people who are in it.
    pub expected: BTreeSet<usize>,
    /// For each face the nearest people, best first.
    pub faces: Vec<Vec<PersonHit>>,
}

/// What one threshold gives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// Least similarity of a name.
    pub threshold: f32,
    /// Whether it is the model's default for 1:N.
    pub default: bool,
    /// Appearances of gallery people that the file names promise.
    pub expected: usize,
    /// How many of them were named.
    pub named: usize,
    /// Faces that got a name the picture's file name does not hold.
    pub wrong_names: usize,
    /// Faces found, bystanders included.
    pub faces: usize,
}

/// The names in a file's name: `anna+cem-2.jpg` holds `anna` and `cem`.
pub fn names(file: &Path) -> Vec<String> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let number = stem.rsplit_once('-').filter(|(_, n)| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
    let people = number.map_or(&*stem, |(people, _)| people);
    people.split('+').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// Indices of the people whom a file's name promises. A name with a remark, such as `anna-partial` in `anna-partial-1.jpg`, is that of the person
/// with the longest name that it begins with.
pub fn expected(file: &Path, people: &[String]) -> BTreeSet<usize> {
    let begins = |name: &str, person: &str| {
        name.strip_prefix(person).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let of = |name: &String| {
        let fitting = people.iter().enumerate().filter(|(_, person)| begins(name, person));
        fitting.max_by_key(|(_, person)| person.len()).map(|(i, _)| i)
    };
    names(file).iter().filter_map(of).collect()
}

/// Decides about all pictures at each threshold.
pub fn sweep(pictures: &[ProbePicture], spec: &EmbedderSpec, thresholds: &[f32]) -> Vec<Row> {
    let row = |threshold: &f32| {
        let limits = Thresholds::of_model(*threshold, spec.margin, spec.calibration);
        let mut row = Row {
            threshold: *threshold,
            default: (threshold - spec.identification_threshold).abs() < 1e-6,
            expected: 0,
            named: 0,
            wrong_names: 0,
            faces: 0,
        };
        for picture in pictures {
            row.expected += picture.expected.len();
            row.faces += picture.faces.len();
            let faces: Vec<Candidates> = picture.faces.iter().cloned().map(Candidates::of).collect();
            for decided in decision::assign(&faces, &limits) {
                let Some(hit) = decided.known() else { continue };
                let right = picture.expected.iter().any(|p| hit.person.as_str() == p.to_string());
                if right { row.named += 1 } else { row.wrong_names += 1 }
            }
        }
        row
    };
    thresholds.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{gallery, open_set::tests::spec};

    #[test]
    fn file_names_say_who_is_there() {
        let of = |name: &str| names(Path::new(name));
        assert_eq!(of("x/anna+cem-12.jpg"), ["anna", "cem"]);
        assert_eq!(of("mary-ann-3.png"), ["mary-ann"]);
        assert_eq!(of("mary-ann.png"), ["mary-ann"]);
        assert!(of("+-1.jpg").is_empty());
        let people = ["anna", "anna-lena", "cem"].map(String::from);
        let expected = |name: &str| expected(Path::new(name), &people).into_iter().collect::<Vec<_>>();
        assert_eq!(expected("anna-partial-1.jpg"), [0]);
        assert_eq!(expected("anna-lena+cem-1.jpg"), [1, 2]);
        assert!(expected("annabel-1.jpg").is_empty());
    }

    #[test]
    fn a_name_belongs_to_one_face_and_bystanders_to_nobody() {
        let hit = |person: usize, similarity: f32| {
            gallery::candidates(&[gallery::Hit { person, face: person, similarity }]).unwrap()
        };
        let picture = ProbePicture {
            expected: [0, 2].into(),
            faces: vec![hit(0, 0.8), hit(0, 0.6), hit(1, 0.55), hit(2, 0.3), Vec::new()],
        };
        let rows = sweep(&[picture], &spec(), &[0.5, 0.7]);
        assert_eq!((rows[0].expected, rows[0].named, rows[0].wrong_names, rows[0].faces), (2, 1, 1, 5));
        assert_eq!((rows[1].named, rows[1].wrong_names, rows[0].default), (1, 0, true));
    }
}
