//! pawgate watches a camera at a pet door or a feeder, tells which animal stands there, and decides by the owner's rules.
//!
//! The way of a picture through the crate, one module a step:
//!
//! | module | does |
//! |---|---|
//! | [`vision`] | bytes → upright RGB → the square of pixels the network looks at → normalised tensor |
//! | [`nn`] | ONNX bytes → a network that tract runs; knows tensors, not animals |
//! | [`model`] | a self-describing model file: labels, gate, pre-processing; tensor → scores → reading |
//! | [`policy`] | evidence → decision; pure, no I/O, no clock |
//! | [`individuals`] | telling single animals apart |
//! | [`hw`] | hardware boundaries: a trait each, the device and its simulator |
//! | [`journal`] | the record of what happened and why |
//! | [`config`] | a TOML file → checked settings of every module, or everything that is wrong with it |
//! | [`samples`] | the public-domain pictures of the demo |
//!
//! The binary and `pawgate-tools` are thin callers of this library: what the tools measure is the code that ships.
#![deny(unsafe_code)]

pub mod cli;
pub mod config;
pub mod hw;
pub mod individuals;
pub mod journal;
pub mod model;
pub mod nn;
pub mod policy;
pub mod samples;
pub mod service;
pub mod vision;
