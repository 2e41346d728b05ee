//! Integer arithmetic on plain slices: convolution, depthwise convolution, pooling, and the one rounding rule.
//!
//! Nothing here knows tract, ONNX or a model file; nothing here allocates while it computes. A folder a kernel, a file an
//! instruction set; `scalar.rs` is the specification that the others reproduce bit for bit. Which of them run is decided once,
//! by [`Kernels::detect`] or [`Kernels::of`]: a table for instructions that this CPU lacks cannot be had.
//!
//! # Layout
//!
//! Activations lie in planes of four channels, channels last within a plane: `[ceil(C / 4)][pixels][4]` bytes (MNN and ncnn call
//! it NC4HW4). A [`Pixel`] is four channels of one pixel. A vector register then holds the same four channels of several
//! pixels, so that a 1×4 block of weights is one operand for all of them and a block of zeros can be left out; it also means that
//! no kernel needs a transposition. Plain channels-last cannot skip zeros without giving every lane its own address.
//!
//! A plane's number of pixels is rounded up to the lanes of the instruction set ([`Kernels::plane`]); what lies beyond
//! height × width may hold anything and never means anything.

pub mod conv;
pub mod depthwise;
pub mod linear;
pub mod pool;
pub mod requant;
pub mod stage;

use std::fmt;
use std::str::FromStr;

/// Four channels of one pixel: as stored, so u8 or the bits of i8 ([`Storage`]).
pub type Pixel = [u8; 4];

/// How a quantised activation is stored. The model file speaks of u8; ARM's `sdot` and `smull` want both factors signed, so
/// there every byte, and every zero point, is 128 less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 0…255.
    U8,
    /// −128…127.
    I8,
}

impl Storage {
    /// The stored value of what the model file calls `value`.
    pub const fn of(self, value: u8) -> i32 {
        match self {
            Self::U8 => value as i32,
            Self::I8 => value as i32 - 128,
        }
    }

    /// The byte that stores `value`.
    pub const fn byte(self, value: u8) -> u8 {
        self.of(value) as u8
    }

    /// The number that a stored byte means.
    pub const fn number(self, byte: u8) -> i32 {
        match self {
            Self::U8 => byte as i32,
            Self::I8 => byte as i8 as i32,
        }
    }
}

/// An instruction set that has kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable Rust, any CPU: the specification.
    Scalar,
    /// ARMv8.0 Advanced SIMD: Cortex-A53 and A72 (Raspberry Pi 3 and 4, Jetson Nano).
    Neon,
    /// ARMv8.2 `sdot`: Cortex-A76 and A78 (Raspberry Pi 5, Jetson Orin).
    Dotprod,
    /// x86-64-v3.
    Avx2,
    /// 256-bit `vpdpbusd` with VEX encoding.
    AvxVnni,
    /// 512-bit `vpdpbusd`.
    Avx512Vnni,
}

impl Isa {
    /// All of them, on every platform, the preferred ones last.
    pub const ALL: [Self; 6] = [Self::Scalar, Self::Neon, Self::Dotprod, Self::Avx2, Self::AvxVnni, Self::Avx512Vnni];

    /// The name used in logs and in `PAWGATE_ISA`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Dotprod => "dotprod",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512Vnni => "avx512vnni",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why there are no kernels for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// No such name.
    #[error("`{0}` is no instruction set; known are scalar, neon, dotprod, avx2, avxvnni, avx512vnni")]
    Unknown(String),
    /// This CPU does not have it.
    #[error("this CPU does not have {0}; it has {has}", has = names())]
    Missing(Isa),
}

fn names() -> String {
    Kernels::available().map(|k| k.isa.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        Self::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| IsaError::Unknown(name.into()))
    }
}

/// The kernels of one instruction set, which this CPU has. Cannot be made by hand.
#[derive(Debug)]
pub struct Kernels {
    isa: Isa,
    /// Pixels in a vector register.
    lanes: usize,
    /// Pixels that a convolution computes together where it is fastest.
    tile: usize,
    storage: Storage,
    packing: conv::Packing,
    conv: conv::ConvFn,
    /// Where vectors are so long that a part of one is worth other code.
    tail: Option<conv::TailFn>,
    depthwise: depthwise::DepthwiseFn,
}

impl Kernels {
    /// The fastest that this CPU has.
    pub fn detect() -> &'static Self {
        Self::available().last().expect("scalar is always there")
    }

    /// Those of `isa`.
    ///
    /// # Errors
    /// [`IsaError::Missing`] when this CPU does not have it.
    pub fn of(isa: Isa) -> Result<&'static Self, IsaError> {
        Self::available().find(|k| k.isa == isa).ok_or(IsaError::Missing(isa))
    }

    /// All that this CPU can run, slowest first.
    pub fn available() -> impl Iterator<Item = &'static Self> {
        TABLE.iter().copied().filter(|k| has(k.isa))
    }

    /// The specification for one kind of storage: what tests compare the others with.
    pub const fn specification(storage: Storage) -> &'static Self {
        match storage {
            Storage::U8 => &SCALAR_U8,
            Storage::I8 => &SCALAR_I8,
        }
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How activations are stored for these kernels.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Pixels computed at once; runs of pixels are multiples of it.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Pixels that a convolution computes together where it is fastest; a multiple of the lanes.
    pub fn tile(&self) -> usize {
        self.tile
    }

    /// Pixels of a plane that holds `pixels`.
    pub fn plane(&self, pixels: usize) -> usize {
        pixels.next_multiple_of(self.lanes)
    }

    /// What convolution weights must be packed like.
    pub fn packing(&self) -> &conv::Packing {
        &self.packing
    }

    /// Convolution: four output channels of a run of pixels.
    ///
    /// # Panics
    /// When the run reads or writes outside its slices, is no multiple of the lanes, or the weights are packed for others.
    pub fn conv(&self, run: &conv::Run<'_>, output: &mut [Pixel]) {
        assert_eq!(run.weights.packing(), &self.packing, "weights packed for other kernels");
        assert_eq!(output.len() % self.lanes, 0, "a run is a multiple of the lanes");
        run.check(output.len());
        (self.conv)(run, output);
    }

    /// How many of a run's `pixels` are better left to [`Self::conv_tail`]: the last ones, where they would fill less than about
    /// half a vector and the instruction set has a kernel for that. [`Self::conv`] then has the others, a multiple of the lanes.
    pub fn tail(&self, weights: &conv::Packed, pixels: usize) -> usize {
        let last = pixels % self.lanes;
        let dense = matches!(weights.form(), conv::Form::Dense { .. });
        if self.tail.is_some() && dense && last <= conv::TAIL_PIXELS { last } else { 0 }
    }

    /// Convolution: sixteen output channels of the last pixels of a run, as many as [`Self::tail`] says.
    ///
    /// # Panics
    /// When the instruction set has no such kernel, the weights are a stream or packed for others, or a tail reads outside its
    /// slices or is longer than [`conv::TAIL_PIXELS`].
    pub fn conv_tail(&self, tail: &conv::Tail<'_>, output: &mut [conv::TailPixel]) {
        let kernel = self.tail.expect("`Kernels::tail` offers no tails without a kernel");
        assert_eq!(tail.weights.packing(), &self.packing, "weights packed for other kernels");
        tail.check(output.len());
        kernel(tail, output);
    }

    /// Depthwise convolution: four channels of a run of pixels.
    ///
    /// # Panics
    /// When the run reads or writes outside its slices or is no multiple of the lanes.
    pub fn depthwise(&self, run: &depthwise::Run<'_>, output: &mut [Pixel]) {
        assert_eq!(output.len() % self.lanes, 0, "a run is a multiple of the lanes");
        run.check(output.len());
        (self.depthwise)(run, output);
    }
}

static SCALAR_U8: Kernels = scalar(Storage::U8, conv::scalar::conv::<false>, depthwise::scalar::depthwise::<false>);
static SCALAR_I8: Kernels = scalar(Storage::I8, conv::scalar::conv::<true>, depthwise::scalar::depthwise::<true>);

const fn scalar(storage: Storage, conv: conv::ConvFn, depthwise: depthwise::DepthwiseFn) -> Kernels {
    Kernels { isa: Isa::Scalar, lanes: 1, tile: 1, storage, packing: conv::scalar::PACKING, conv, tail: None, depthwise }
}

/// The one table: dispatch, tests and benchmarks all go through it. In the order of preference, the best last.
static TABLE: &[&Kernels] = &[
    &SCALAR_U8,
    #[cfg(target_arch = "aarch64")]
    &Kernels {
        isa: Isa::Neon,
        lanes: 4,
        tile: 16,
        storage: Storage::I8,
        packing: conv::neon::PACKING,
        conv: conv::neon::conv,
        tail: None,
        depthwise: depthwise::neon::depthwise,
    },
    #[cfg(target_arch = "aarch64")]
    &Kernels {
        isa: Isa::Dotprod,
        lanes: 4,
        tile: 16,
        storage: Storage::I8,
        packing: conv::dotprod::PACKING,
        conv: conv::dotprod::conv,
        tail: None,
        depthwise: depthwise::neon::depthwise,
    },
    #[cfg(target_arch = "x86_64")]
    &Kernels {
        isa: Isa::Avx2,
        lanes: 8,
        tile: 8,
        storage: Storage::U8,
        packing: conv::avx2::PACKING,
        conv: conv::avx2::conv,
        tail: None,
        depthwise: depthwise::avx2::depthwise,
    },
    #[cfg(target_arch = "x86_64")]
    &Kernels {
        isa: Isa::AvxVnni,
        lanes: 8,
        tile: 8,
        storage: Storage::U8,
        packing: conv::avxvnni::PACKING,
        conv: conv::avxvnni::conv,
        tail: None,
        depthwise: depthwise::avx2::depthwise,
    },
    #[cfg(target_arch = "x86_64")]
    &Kernels {
        isa: Isa::Avx512Vnni,
        lanes: 16,
        tile: 16,
        storage: Storage::U8,
        packing: conv::avx512vnni::PACKING,
        conv: conv::avx512vnni::conv,
        tail: Some(conv::avx512vnni::tail),
        depthwise: depthwise::avx512vnni::depthwise,
    },
];

/// Whether this CPU has everything that the files of `isa` enable.
fn has(isa: Isa) -> bool {
    match isa {
        Isa::Scalar => true,
        // Miri interprets portable code only.
        _ if cfg!(miri) => false,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
        #[cfg(target_arch = "aarch64")]
        Isa::Dotprod => std::arch::is_aarch64_feature_detected!("neon") && std::arch::is_aarch64_feature_detected!("dotprod"),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => has(Isa::Avx2) && is_x86_feature_detected!("avxvnni"),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => {
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni")
        }
        _ => false,
    }
}
