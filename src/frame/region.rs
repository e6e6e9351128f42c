//! Polygons in normalised coordinates: where faces count.

use serde::{Deserialize, Serialize};

use super::Point;

/// A polygon; points are fractions (0 to 1) of the frame's width and height.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// 3 to 64 corners.
    pub points: Vec<Point>,
    /// Faces inside do not count.
    pub exclude: bool,
}

impl Region {
    /// Whether the polygon has 3 to 64 corners inside the frame.
    pub fn is_valid(&self) -> bool {
        (3..=64).contains(&self.points.len())
            && self.points.iter().all(|p| (0.0..=1.0).contains(&p.x) && (0.0..=1.0).contains(&p.y))
    }

    /// Whether a normalised point lies inside (even-odd rule).
    pub fn contains(&self, p: Point) -> bool {
        let mut inside = false;
        let n = self.points.len();
        for i in 0..n {
            let (a, b) = (self.points[i], self.points[(i + n - 1) % n]);
            if (a.y > p.y) != (b.y > p.y) && p.x < (b.x - a.x) * (p.y - a.y) / (b.y - a.y) + a.x {
                inside = !inside;
            }
        }
        inside
    }
}

/// Whether a normalised point counts: inside some including region (or there is none) and inside no excluding one.
pub fn counts(regions: &[Region], p: Point) -> bool {
    let mut including = regions.iter().filter(|r| !r.exclude).peekable();
    let included = including.peek().is_none() || including.any(|r| r.contains(p));
    included && !regions.iter().any(|r| r.exclude && r.contains(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(x1: f32, x2: f32, exclude: bool) -> Region {
        let points = vec![Point::new(x1, 0.0), Point::new(x2, 0.0), Point::new(x2, 1.0), Point::new(x1, 1.0)];
        Region { points, exclude }
    }

    #[test]
    fn excluded_parts_win_over_included_ones() {
        let regions = [square(0.0, 0.5, false), square(0.4, 0.6, true)];
        assert!(counts(&regions, Point::new(0.2, 0.5)));
        assert!(!counts(&regions, Point::new(0.45, 0.5)));
        assert!(!counts(&regions, Point::new(0.8, 0.5)));
        assert!(counts(&[], Point::new(0.8, 0.5)));
    }
}
