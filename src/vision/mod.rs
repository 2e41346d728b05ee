//! From the bytes of a picture to the tensor the network takes.
//!
//! [`decode()`] turns a file into upright 8-bit RGB and refuses what is not a whole picture; [`preprocess`] cuts and scales it
//! to the square the network looks at, brightens, sharpens ([`sharpen`]) and normalises it. [`quality`] says when there is too little to see, [`motion`] when
//! something moves and where, [`region`] which part of a frame is looked at. All are pure, but for [`collect`], which searches
//! folders, and the reading of files. What a picture *means* does not belong here.

pub mod collect;
pub mod decode;
pub mod motion;
pub mod preprocess;
pub mod quality;
pub mod region;
pub mod sharpen;

pub use decode::{DecodeError, decode};
pub use preprocess::{Exposure, Preprocess, ResizeRule};
pub use sharpen::Sharpening;
