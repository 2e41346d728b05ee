//! Hardware boundaries: one trait each, the real device and its simulator side by side.
//!
//! | boundary | trait |
//! |---|---|
//! | [`camera`] | [`camera::Camera`] |
//! | [`clock`] | [`clock::Clock`] |
//!
//! Nothing here decides; what a frame means or when a door opens belongs to [`crate::policy`].

pub mod camera;
pub mod clock;
