//! Placeholder.

/// How well a face can be recognised.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quality {
    /// One number, 0 (useless) to 1 (ideal).
    pub value: f32,
    /// Edge of the aligned crop in frame pixels: the resolution the embedder really gets.
    pub size_px: f32,
    /// Sharpness, 0 (blurred) to 1 (sharp).
    pub sharpness: f32,
    /// Frontality, 0 (profile) to 1 (frontal).
    pub frontality: f32,
}
