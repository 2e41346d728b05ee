//! `pawgate camera-feed`: one V4L2 camera's frames on standard output. pawgate starts it for itself, because a process that hangs in a
//! driver can be killed and a thread cannot; it is of use in trying out a camera, too.

use std::io::{BufWriter, Write};
use std::os::fd::AsFd;

use super::{Exit, Failure};
use crate::hw::camera::v4l2::{self, Device, Which};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The camera: its path, number, or `name:` and the name of its card.
    device: Which,
    /// Width and height to ask for, in pixels.
    #[arg(long, default_value = "640x480", value_parser = size)]
    size: [u32; 2],
    /// Frames a second.
    #[arg(long, default_value_t = 5, value_parser = super::setup::fps)]
    fps: u32,
}

fn size(text: &str) -> Result<[u32; 2], String> {
    let side = |side: &str| side.parse().ok().filter(|side| (1..=16_384).contains(side));
    let sides = text.split_once('x').and_then(|(width, height)| Some([side(width)?, side(height)?]));
    sides.ok_or_else(|| format!("`{text}` is no size; write \"640x480\""))
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    // Whoever reads may be killed while this waits for a camera that delivers nothing: the camera must not stay taken.
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)) {
        log::warn!("a camera may stay taken when pawgate is killed: {error}");
    }
    let [width, height] = args.size;
    let device = Device { which: args.device.clone(), width, height, fps: args.fps };
    // Not `Stdout`, which searches what it writes for ends of lines.
    let mut out = BufWriter::with_capacity(1 << 16, std::fs::File::from(std::io::stdout().as_fd().try_clone_to_owned()?));
    v4l2::feed(&device, &mut out).map_err(|e| Failure::new(Exit::Camera, e))?;
    out.flush().ok();
    Ok(Exit::Ok)
}
