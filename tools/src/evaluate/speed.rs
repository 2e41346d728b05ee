//! How fast features are computed and the paper's breed layer is trained: on the CPU, and beside it on the back end that was chosen.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::backend::{Device, on_device};
use crate::features::Extractor;
use crate::material::{DataArgs, Material};
use crate::train::linear::Protocol;

/// So many pictures are computed, if there are as many.
const PICTURES: usize = 256;

/// What one back end does.
#[derive(Debug, Clone, Serialize)]
pub struct Speed {
    /// Which back end, on what.
    pub device: String,
    /// Pictures a second through the fp32 network, decoding included, cache excluded.
    pub pictures_a_second: f64,
    /// Seconds for an epoch of the paper's breed layer on both views of all pets.
    pub seconds_an_epoch: f64,
}

/// Measures the CPU, and `device` where it is another.
///
/// # Errors
/// What loading the network or computing reports.
pub fn measure(
    network: &Path,
    data: &DataArgs,
    material: &Material,
    protocol: &Protocol,
    device: Device,
) -> anyhow::Result<Vec<Speed>> {
    let examples = &material.examples;
    let all: Vec<usize> = (0..examples.len()).collect();
    let pictures: Vec<&Path> = material.paths.iter().map(std::path::PathBuf::as_path).take(PICTURES).collect();
    let other = Some(device).filter(|device| *device != Device::Cpu);
    let of = |device: Device| {
        let extractor = Extractor::open(network, &data.preprocess(), &data.cache, device)?;
        // The first batch, and the first epoch, also compile what a GPU runs.
        extractor.throughput(&pictures[..device.batch().min(pictures.len())])?;
        let pictures_a_second = extractor.throughput(&pictures)?;
        let train = |epochs: usize| {
            let protocol = Protocol { epochs, ..protocol.clone() };
            let start = Instant::now();
            on_device!(device, B => examples.fit_breed::<B>(&all, 0..extractor.len(), &protocol));
            start.elapsed().as_secs_f64()
        };
        train(1);
        let seconds_an_epoch = train(protocol.epochs) / protocol.epochs as f64;
        let speed = Speed { device: device.description()?, pictures_a_second, seconds_an_epoch };
        log::info!("{}: {pictures_a_second:.1} pictures a second, {seconds_an_epoch:.3} s an epoch", speed.device);
        Ok(speed)
    };
    std::iter::once(Device::Cpu).chain(other).map(of).collect()
}
