//! Which part of a frame is looked at: the configured region of interest, and inside it the moving part with a margin.

/// A part of the picture, in shares of its width and height, 0…1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Left edge.
    pub left: f32,
    /// Top edge.
    pub top: f32,
    /// Width; positive, and not beyond the right edge.
    pub width: f32,
    /// Height; positive, and not beyond the bottom edge.
    pub height: f32,
}

impl Region {
    /// The whole picture.
    pub const WHOLE: Self = Self { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };
}
