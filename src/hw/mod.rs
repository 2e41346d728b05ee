//! Hardware boundaries: one trait each, the real device and its simulator side by side.
//!
//! | boundary | trait |
//! |---|---|
//! | [`actuator`] | [`actuator::Latch`], [`actuator::Dispenser`] |
//! | [`camera`] | [`camera::Camera`] |
//! | [`clock`] | [`clock::Clock`] |
//! | [`display`] | [`display::Display`] |
//! | [`inputs`] | [`inputs::Input`] |
//!
//! [`fault`] lets each of them fail on purpose.
//!
//! Nothing here decides; what a frame means or when a door opens belongs to [`crate::policy`].

pub mod actuator;
pub mod camera;
pub mod clock;
pub mod display;
pub mod fault;
pub mod inputs;
