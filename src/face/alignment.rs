//! Five landmarks onto a model's template: the least-squares similarity transform (Umeyama 1991, in two dimensions).

use super::Landmarks;
use crate::frame::{Point, Similarity};

/// The similarity transform (rotation, scale, shift; no mirroring) that maps `from` nearest to `to` in the least-squares sense.
///
/// With centred points p and q: `a = Σ(p·q) / Σ|p|²`, `b = Σ(p×q) / Σ|p|²`, shift from the means. `None` when the points coincide
/// or are not finite.
pub fn similarity(from: &Landmarks, to: &Landmarks) -> Option<Similarity> {
    let mean = |points: &Landmarks| {
        let n = points.len() as f64;
        let sum = points.iter().fold((0.0, 0.0), |s, p| (s.0 + f64::from(p.x), s.1 + f64::from(p.y)));
        (sum.0 / n, sum.1 / n)
    };
    let ((fx, fy), (tx, ty)) = (mean(from), mean(to));
    let (mut dot, mut cross, mut norm) = (0.0, 0.0, 0.0);
    for (p, q) in from.iter().zip(to) {
        let (px, py) = (f64::from(p.x) - fx, f64::from(p.y) - fy);
        let (qx, qy) = (f64::from(q.x) - tx, f64::from(q.y) - ty);
        dot += px * qx + py * qy;
        cross += px * qy - py * qx;
        norm += px * px + py * py;
    }
    if !norm.is_finite() || norm < 1e-9 || !dot.is_finite() || !cross.is_finite() {
        return None;
    }
    let (a, b) = (dot / norm, cross / norm);
    Some(Similarity {
        a: a as f32,
        b: b as f32,
        tx: (tx - (a * fx - b * fy)) as f32,
        ty: (ty - (b * fx + a * fy)) as f32,
    })
}

/// A template as the manifest writes it.
pub fn template(points: &[[f32; 2]; 5]) -> Landmarks {
    points.map(|[x, y]| Point::new(x, y))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ARCFACE: [[f32; 2]; 5] =
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]];

    #[test]
    fn the_reference_matrix_of_a_known_face() {
        // Landmarks and matrix of the first face of the letterboxed reference `t1` (640x640).
        let marks = [[245.831, 159.617], [271.538, 164.765], [253.65, 178.392], [241.349, 183.473], [264.222, 187.754]];
        let t = similarity(&template(&marks), &template(&ARCFACE)).unwrap();
        for (got, want) in [(t.a, 1.4265), (t.b, -0.33057), (t.tx, -365.9685), (t.ty, -93.05067)] {
            assert!((got - want).abs() < 2e-2, "{got} {want}");
        }
    }

    #[test]
    fn points_that_coincide_have_no_transform() {
        assert!(similarity(&[Point::new(1.0, 1.0); 5], &template(&ARCFACE)).is_none());
        assert!(similarity(&[Point::new(f32::NAN, 1.0); 5], &template(&ARCFACE)).is_none());
    }

    proptest! {
        #[test]
        fn recovers_any_similarity(angle in -3.1f32..3.1, scale in 0.1f32..8.0, tx in -2e3f32..2e3, ty in -2e3f32..2e3) {
            let t = Similarity { a: scale * angle.cos(), b: scale * angle.sin(), tx, ty };
            let from = template(&ARCFACE);
            let found = similarity(&from, &from.map(|p| t.apply(p))).unwrap();
            for p in from {
                prop_assert!(found.apply(p).distance(t.apply(p)) < 0.05);
            }
            let back = found.inverse().unwrap();
            prop_assert!(back.apply(found.apply(Point::new(3.0, 4.0))).distance(Point::new(3.0, 4.0)) < 0.05);
        }
    }
}
