//! Points, boxes and similarity transforms in pixels of the full frame.

use serde::{Deserialize, Serialize};

/// A point in pixels; x to the right, y down; pixel centres lie at integers plus one half only in resampling code.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Point {
    /// Pixels from the left edge.
    pub x: f32,
    /// Pixels from the top edge.
    pub y: f32,
}

impl Point {
    /// A point from its coordinates.
    pub const fn new(x: f32, y: f32) -> Self {
        Self { x, y }
    }

    /// Euclidean distance in pixels.
    pub fn distance(self, other: Self) -> f32 {
        (self.x - other.x).hypot(self.y - other.y)
    }
}

/// An axis-aligned box in pixels, half-open: `x1 <= x < x2`. May leave the frame.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct BBox {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Bottom edge.
    pub y2: f32,
}

impl BBox {
    /// A box from its edges.
    pub const fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x1, y1, x2, y2 }
    }

    /// Width in pixels, never negative.
    pub fn width(&self) -> f32 {
        (self.x2 - self.x1).max(0.0)
    }

    /// Height in pixels, never negative.
    pub fn height(&self) -> f32 {
        (self.y2 - self.y1).max(0.0)
    }

    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// Centre.
    pub fn center(&self) -> Point {
        Point::new((self.x1 + self.x2) / 2.0, (self.y1 + self.y2) / 2.0)
    }

    /// Intersection over union, 0 to 1; 0 for empty boxes.
    pub fn iou(&self, other: &Self) -> f32 {
        let w = (self.x2.min(other.x2) - self.x1.max(other.x1)).max(0.0);
        let h = (self.y2.min(other.y2) - self.y1.max(other.y1)).max(0.0);
        let inter = w * h;
        let union = self.area() + other.area() - inter;
        if union > 0.0 { inter / union } else { 0.0 }
    }

    /// The box made `factor` times as large around its centre.
    pub fn grown(&self, factor: f32) -> Self {
        let (c, w, h) = (self.center(), self.width() * factor / 2.0, self.height() * factor / 2.0);
        Self::new(c.x - w, c.y - h, c.x + w, c.y + h)
    }

    /// The part inside a frame of the given size.
    pub fn clipped(&self, width: u32, height: u32) -> Self {
        let (w, h) = (width as f32, height as f32);
        Self::new(self.x1.clamp(0.0, w), self.y1.clamp(0.0, h), self.x2.clamp(0.0, w), self.y2.clamp(0.0, h))
    }
}

/// A similarity transform, the 2x3 matrix `[[a, -b, tx], [b, a, ty]]`: maps a frame point to a crop point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// Scale times cosine.
    pub a: f32,
    /// Scale times sine.
    pub b: f32,
    /// Shift in x, crop pixels.
    pub tx: f32,
    /// Shift in y, crop pixels.
    pub ty: f32,
}

impl Similarity {
    /// Maps a frame point to the crop.
    pub fn apply(&self, p: Point) -> Point {
        Point::new(self.a * p.x - self.b * p.y + self.tx, self.b * p.x + self.a * p.y + self.ty)
    }

    /// Scale factor: crop pixels for a frame pixel.
    pub fn scale(&self) -> f32 {
        self.a.hypot(self.b)
    }

    /// The inverse, crop to frame; `None` when the transform is degenerate.
    pub fn inverse(&self) -> Option<Self> {
        let d = self.a * self.a + self.b * self.b;
        if !d.is_finite() || d <= f32::EPSILON {
            return None;
        }
        let (a, b) = (self.a / d, -self.b / d);
        Some(Self { a, b, tx: -(a * self.tx - b * self.ty), ty: -(b * self.tx + a * self.ty) })
    }
}
