//! Pictures of given planes, for tests.

use super::{ColorMatrix, PixelFormat, Pixels, Plane};

/// BT.709 in the limited range, as most cameras send it.
pub(super) const BT709: ColorMatrix = ColorMatrix { bt709: true, full_range: false };

/// A picture whose planes are bytes with a stride, whole or not.
pub(super) struct Made {
    pub(super) format: PixelFormat,
    pub(super) size: (u32, u32),
    pub(super) planes: Vec<(Vec<u8>, usize)>,
    pub(super) color: ColorMatrix,
}

impl Pixels for Made {
    fn format(&self) -> PixelFormat {
        self.format
    }
    fn size(&self) -> (u32, u32) {
        self.size
    }
    fn plane(&self, index: usize) -> Plane<'_> {
        Plane { data: &self.planes[index].0, stride: self.planes[index].1 }
    }
    fn color(&self) -> ColorMatrix {
        self.color
    }
}
