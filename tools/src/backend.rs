//! Where burn computes: on the CPU, or on a GPU through CUDA or wgpu (Vulkan, Metal, DirectX 12).
//!
//! Which of them there are was decided by the cargo features `cuda` and `wgpu`; whether the machine has what they need is found out by
//! [`Backend::open`], because burn panics where a driver is missing. The cargo features leave out burn's autotuning and fusion: they
//! would choose kernels anew in each run, among them some that compute f32 convolutions with ten bits of mantissa (TF32).

/// The back ends by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// All cores of the CPU.
    Cpu,
    /// A GPU of NVIDIA's; needs its driver and the CUDA toolkit's NVRTC library and headers.
    Cuda,
    /// Any GPU with a driver for Vulkan, Metal or DirectX 12.
    Wgpu,
}

/// `--backend`, for commands that compute in floats.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct BackendArgs {
    /// Where the fp32 network's features are computed and the paper's head is trained. The best recipe's head is found, and int8 models
    /// run, on the CPU always.
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    pub backend: Backend,
}

impl BackendArgs {
    /// See [`Backend::open`]. From then on a panic on any thread ends the program: burn feeds a GPU on a thread of its own, which after
    /// a panic (where memory ran out, for one) would go on with numbers that nobody computed.
    ///
    /// # Errors
    /// As [`Backend::open`].
    pub fn open(self) -> anyhow::Result<Device> {
        static ENDS: std::sync::Once = std::sync::Once::new();
        let device = self.backend.open()?;
        if device != Device::Cpu {
            ENDS.call_once(|| {
                let report = std::panic::take_hook();
                std::panic::set_hook(Box::new(move |panic| {
                    report(panic);
                    std::process::exit(101);
                }));
            });
        }
        Ok(device)
    }
}

/// A back end that can be computed on: it was compiled in, and the machine has what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// See [`Backend::Cpu`].
    Cpu,
    /// See [`Backend::Cuda`]; the first device.
    #[cfg(feature = "cuda")]
    Cuda,
    /// See [`Backend::Wgpu`]; the device that wgpu takes for the fastest, or `CUBECL_WGPU_DEFAULT_DEVICE`.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

/// Evaluates an expression with `$B` as the name of an open [`Device`]'s back end of burn, with gradients.
macro_rules! on_device {
    ($device:expr, $B:ident => $body:expr) => {
        match $device {
            $crate::backend::Device::Cpu => {
                type $B = burn::backend::Autodiff<burn::backend::NdArray>;
                $body
            }
            #[cfg(feature = "cuda")]
            $crate::backend::Device::Cuda => {
                type $B = burn::backend::Autodiff<burn::backend::Cuda>;
                $body
            }
            #[cfg(feature = "wgpu")]
            $crate::backend::Device::Wgpu => {
                type $B = burn::backend::Autodiff<burn::backend::Wgpu>;
                $body
            }
        }
    };
}
pub(crate) use on_device;

impl Backend {
    /// Makes sure that it can be computed on, and logs on what.
    ///
    /// # Errors
    /// Says what is missing: the cargo feature, the driver, a library, or a device.
    pub fn open(self) -> anyhow::Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda => cuda::open().map(|()| Device::Cuda),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => wgpu::open().map(|()| Device::Wgpu),
            #[cfg(not(all(feature = "cuda", feature = "wgpu")))]
            missing => {
                let name = format!("{missing:?}").to_lowercase();
                anyhow::bail!("this pawgate-tools was built without `{name}`: build it with `--features {name}`")
            }
        }
    }
}

impl Device {
    /// Views of pictures that are computed at once. A GPU needs many to be busy; wgpu promises no more than 128 MiB for one tensor, and a
    /// view needs 7.4 MB for what the first convolution sees.
    pub fn batch(self) -> usize {
        match self {
            Self::Cpu => 1,
            #[cfg(feature = "cuda")]
            Self::Cuda => 64,
            #[cfg(feature = "wgpu")]
            Self::Wgpu => 16,
        }
    }

    /// The back end and what it computes on.
    ///
    /// # Errors
    /// When a device does not say its name.
    pub fn description(self) -> anyhow::Result<String> {
        let hardware = match self {
            Self::Cpu => format!("{} threads", rayon::current_num_threads()),
            #[cfg(feature = "cuda")]
            Self::Cuda => cuda::name()?,
            #[cfg(feature = "wgpu")]
            Self::Wgpu => wgpu::name()?,
        };
        Ok(format!("{}, {hardware}", self.name()))
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            #[cfg(feature = "cuda")]
            Self::Cuda => "cuda",
            #[cfg(feature = "wgpu")]
            Self::Wgpu => "wgpu",
        }
    }
}

/// Runs what may panic in a library, and makes an error of the first panic, on whatever thread, instead of a message on standard error.
///
/// The panic hook belongs to the whole process: call it before other threads are at work.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn caught<T>(work: impl FnOnce() -> T + std::panic::UnwindSafe) -> anyhow::Result<T> {
    let first = std::sync::Arc::new(std::sync::OnceLock::new());
    let said = first.clone();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        said.set(panic.payload_as_str().unwrap_or("it panicked").to_owned()).ok();
    }));
    let result = std::panic::catch_unwind(work);
    std::panic::set_hook(hook);
    result.map_err(|_| anyhow::Error::msg(first.get().cloned().unwrap_or_default()))
}

/// Says what is missing; the library's own words, which are many, are logged for who debugs.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn missing(what: &'static str) -> impl FnOnce(anyhow::Error) -> anyhow::Error {
    move |error| {
        log::debug!("{error:#}");
        anyhow::Error::msg(what)
    }
}

/// Adds two numbers on a device: what is still missing then comes to light.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn adds<B: burn::tensor::backend::Backend>() -> anyhow::Result<()> {
    use burn::tensor::Tensor;
    let sum = caught(|| {
        let one = Tensor::<B, 1>::from_floats([1.0], &B::Device::default());
        one.add_scalar(2.0).into_data().iter::<f32>().collect::<Vec<f32>>()
    })?;
    anyhow::ensure!(sum == [3.0], "1 + 2 is {sum:?} on it");
    Ok(())
}

#[cfg(feature = "cuda")]
mod cuda {
    use anyhow::{Context, ensure};
    use cudarc::{driver::result as driver, nvrtc};

    use super::missing;

    pub(super) fn open() -> anyhow::Result<()> {
        super::caught(driver::init)
            .map_err(missing("CUDA: there is no NVIDIA driver (no libcuda is found)"))?
            .context("CUDA: the driver does not start")?;
        let devices = driver::device::get_count().context("CUDA: the driver counts no devices")?;
        ensure!(devices > 0, "CUDA: the driver finds no device");
        super::caught(|| nvrtc::compile_ptx("extern \"C\" __global__ void nothing() {}"))
            .map_err(missing("CUDA: there is no NVRTC (no libnvrtc is found); it comes with the CUDA toolkit"))?
            .context("CUDA: NVRTC compiles nothing")?;
        super::adds::<burn::backend::Cuda>().context("CUDA: the device does not compute")?;
        log::info!("CUDA: {}", name()?);
        Ok(())
    }

    /// Of the device.
    pub(super) fn name() -> anyhow::Result<String> {
        driver::device::get(0).and_then(driver::device::get_name).context("CUDA: device 0")
    }
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use std::sync::OnceLock;

    use anyhow::Context;
    use burn::backend::wgpu::{WgpuDevice, graphics::AutoGraphicsApi, init_setup};

    pub(super) fn open() -> anyhow::Result<()> {
        name().map(drop)
    }

    /// Of the device, after setting it up.
    pub(super) fn name() -> anyhow::Result<String> {
        // A device is set up once a process.
        static OPENED: OnceLock<Result<String, String>> = OnceLock::new();
        OPENED.get_or_init(|| first().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
    }

    fn first() -> anyhow::Result<String> {
        let setup = super::caught(|| init_setup::<AutoGraphicsApi>(&WgpuDevice::default(), Default::default()));
        let setup = setup.map_err(super::missing("wgpu: there is no GPU with a driver for Vulkan, Metal or DirectX 12"))?;
        let adapter = setup.adapter.get_info();
        super::adds::<burn::backend::Wgpu>().with_context(|| format!("wgpu: {} does not compute", adapter.name))?;
        log::info!("wgpu: {} ({:?}, {:?})", adapter.name, adapter.device_type, adapter.backend);
        Ok(adapter.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(all(feature = "cuda", feature = "wgpu")))]
    fn what_was_not_compiled_in_names_its_feature() {
        let missing = if cfg!(feature = "cuda") { Backend::Wgpu } else { Backend::Cuda };
        let error = missing.open().unwrap_err().to_string();
        assert!(error.contains(if cfg!(feature = "cuda") { "--features wgpu" } else { "--features cuda" }), "{error}");
    }

    #[test]
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn a_panic_becomes_an_error_with_its_text() {
        assert_eq!(caught(|| 5).unwrap(), 5);
        assert_eq!(caught(|| panic!("no {}", "driver")).unwrap_err().to_string(), "no driver");
        let elsewhere = caught(|| std::thread::spawn(|| panic!("no device")).join().unwrap());
        assert_eq!(elsewhere.unwrap_err().to_string(), "no device");
    }
}
