//! Who is which face of a picture: the pairs of greatest worth in which nobody is two faces (Kuhn 1955, Munkres 1957).

use pathfinding::prelude::{Matrix, kuhn_munkres};

/// A person that a face may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// Index of the face.
    pub(super) face: usize,
    /// Index of the person.
    pub(super) person: usize,
    /// What it is worth, 0 to 1000: any pair is better than none.
    pub(super) worth: f64,
}

/// Pairs (face, person) of the greatest sum of worth. Faces may stay free: each has a spare column of worth nothing.
pub(super) fn match_up(faces: usize, people: usize, allowed: &[Allowed]) -> Vec<(usize, usize)> {
    const FORBIDDEN: i64 = -(1 << 40);
    if faces == 0 || people == 0 {
        return Vec::new();
    }
    let mut weights = Matrix::new(faces, people + faces, FORBIDDEN);
    for face in 0..faces {
        for spare in 0..faces {
            weights[(face, people + spare)] = 0;
        }
    }
    for pair in allowed {
        weights[(pair.face, pair.person)] = 1 + (pair.worth * 1_000_000.0) as i64;
    }
    let (_, columns) = kuhn_munkres(&weights);
    columns.into_iter().enumerate().filter(|(_, column)| *column < people).collect()
}
