//! Convolution with ARMv8.0 Advanced SIMD: 4 pixels a register. `smull` and `smlal` add two or four products of i8 · i8 in 16 bits,
//! as many as the weights allow ([`super::Pairs::Consecutive`]), and `sadalp` adds pairs of those in 32.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "loops over registers are unrolled")]

use std::arch::aarch64::*;
use std::arch::asm;
use std::mem::MaybeUninit;

use super::{DenseOrder, Form, Packing, Pairs, Quad, Run, fours_and_fives, word};
use crate::nn::kernels::Pixel;
use crate::nn::kernels::requant::neon::{Finish, load, store};

pub(in crate::nn::kernels) const PACKING: Packing =
    Packing { dense: Some(DenseOrder::Channels), pairs: Pairs::Consecutive, sparse_below: [0.85, 0.85] };

const LANES: usize = 4;

/// See [`super::ConvFn`].
pub(in crate::nn::kernels) fn conv(run: &Run<'_>, output: &mut [Pixel]) {
    // SAFETY: the table hands this function out only after finding neon (`kernels::has`).
    unsafe { dispatch(run, output) }
}

#[target_feature(enable = "neon")]
fn dispatch(run: &Run<'_>, output: &mut [Pixel]) {
    let group = Group::new(run);
    let (fours, fives, last) = fours_and_fives(output.len() / LANES);
    for i in 0..fours {
        tile::<4>(&group, i * 4 * LANES, output);
    }
    for i in 0..fives {
        tile::<5>(&group, (fours * 4 + i * 5) * LANES, output);
    }
    let start = (fours * 4 + fives * 5) * LANES;
    if last > 0 {
        by_vectors!(last, tile(&group, start, output), 1 2 3);
    }
}

/// What the tiles of a run have in common.
struct Group<'a> {
    run: &'a Run<'a>,
    weights: Weights<'a>,
    biases: Biases,
    finish: Finish,
    multipliers: float32x4_t,
}

/// The weights of four channels.
enum Weights<'a> {
    Dense(Dense<'a>),
    Stream([[&'a [Quad]; 2]; 4]),
}

/// The bias of each channel in the first of a pixel's two lanes, four times for one load of four registers.
type Biases = [[u64; 4]; 4];

impl<'a> Group<'a> {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(run: &'a Run<'a>) -> Self {
        let weights = match run.weights.form() {
            Form::Dense { weights, taps, planes, plane, runs } => {
                let size = 4 * taps.len() * planes;
                let weights = &weights[run.group * size..][..size];
                // Fewer than four planes, or no taps, are never packed densely; the loops count on it.
                assert!(*planes >= 4 && !taps.is_empty(), "{planes} planes under {} taps", taps.len());
                Weights::Dense(Dense { weights, runs: runs.group(run.group), taps, planes: *planes, plane: *plane })
            }
            Form::Stream(stream) => Weights::Stream(std::array::from_fn(|c| stream.lists(run.group * 4 + c))),
        };
        let biases = run.requant.bias[run.group].map(|bias| [u64::from(bias as u32); 4]);
        // SAFETY: an array of four 32-bit values.
        let multipliers = unsafe { vld1q_f32(run.requant.multiplier[run.group].as_ptr()) };
        Self { run, weights, biases, finish: Finish::new(run.requant), multipliers }
    }
}

/// Four channels of `V` vectors, one channel after the other.
#[inline]
#[target_feature(enable = "neon")]
fn tile<const V: usize>(group: &Group<'_>, at: usize, output: &mut [Pixel]) {
    // SAFETY: `Run::check`: first + run lies within the input.
    let from = unsafe { group.run.input.as_ptr().add(group.run.first + at) };
    let sums = match &group.weights {
        // SAFETY: `Run::check`: first + run + reach is within the input, reach being the largest tap + plane offset.
        Weights::Dense(dense) => unsafe { dense.sums::<V>(&group.biases, from) },
        Weights::Stream(channels) => {
            let mut finished = [[vdupq_n_s32(0); V]; 4];
            for c in 0..4 {
                let mut sums = Sums::new(&group.biases[c]);
                let [fours, twos] = channels[c];
                // SAFETY: the distances of a list add up to at most the weights' reach (`pack`), which `Run::check` allows for.
                unsafe {
                    stream_list::<V, false>(&mut sums, from, fours);
                    stream_list::<V, true>(&mut sums, from, twos);
                }
                finished[c] = sums.finish();
            }
            finished
        }
    };
    let output = output[at..][..V * LANES].as_chunks_mut::<LANES>().0;
    match group.run.residual {
        None => {
            for v in 0..V {
                store(&mut output[v], 0, group.finish.pixels(sums.map(|channel| channel[v]), group.multipliers));
            }
        }
        Some(others) => {
            let others = others[at..][..V * LANES].as_chunks::<LANES>().0;
            for v in 0..V {
                let other = load(&others[v], 0);
                store(&mut output[v], 0, group.finish.added(sums.map(|channel| channel[v]), group.multipliers, other));
            }
        }
    }
}

/// 32-bit sums of one channel; two lanes a pixel (products of the first two input channels, and of the other two).
#[derive(Clone, Copy)]
struct Sums<const V: usize> {
    /// Pixels 0 and 1 of each vector.
    pairs: [int32x4_t; V],
    /// Pixels 2 and 3.
    more: [int32x4_t; V],
}

impl<const V: usize> Sums<V> {
    /// A pixel's two lanes are added in the end: the bias goes into one of them.
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(bias: &[u64; 4]) -> Self {
        let bias = vreinterpretq_s32_u64(vdupq_n_u64(bias[0]));
        Self { pairs: [bias; V], more: [bias; V] }
    }

    /// One lane a pixel.
    #[inline]
    #[target_feature(enable = "neon")]
    fn finish(&self) -> [int32x4_t; V] {
        let mut finished = [vdupq_n_s32(0); V];
        for v in 0..V {
            finished[v] = vpaddq_s32(self.pairs[v], self.more[v]);
        }
        finished
    }
}

/// 16-bit sums: products of one channel, four lanes a pixel.
#[derive(Clone, Copy)]
struct Products<const V: usize> {
    low: [int16x8_t; V],
    high: [int16x8_t; V],
}

impl<const V: usize> Products<V> {
    /// Of one block. `from` points to `V` · 4 readable pixels.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn new(from: *const Pixel, block: [i8; 4]) -> Self {
        // SAFETY: the caller's promise.
        let pixels = unsafe { pixels::<V>(from) };
        let weights = weights(block);
        Self { low: pixels.map(|p| vmull_s8(vget_low_s8(p), vget_low_s8(weights))), high: pixels.map(|p| smull2(p, weights)) }
    }

    /// Adds another block's.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add(&mut self, from: *const Pixel, block: [i8; 4]) {
        // SAFETY: the caller's promise.
        let pixels = unsafe { pixels::<V>(from) };
        let weights = weights(block);
        for v in 0..V {
            self.low[v] = vmlal_s8(self.low[v], vget_low_s8(pixels[v]), vget_low_s8(weights));
            self.high[v] = smlal2(self.high[v], pixels[v], weights);
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn flush(&self, sums: &mut Sums<V>) {
        for v in 0..V {
            sums.pairs[v] = vpadalq_s16(sums.pairs[v], self.low[v]);
            sums.more[v] = vpadalq_s16(sums.more[v], self.high[v]);
        }
    }
}

/// Products of the high halves. Written as the instruction, because the compiler sees that both halves of `weights` are the same
/// and moves the high half of `pixels` down first.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::nn::kernels) fn smull2(pixels: int8x16_t, weights: int8x16_t) -> int16x8_t {
    let products;
    // SAFETY: registers in, a register out.
    unsafe {
        asm!(
            "smull2 {products:v}.8h, {pixels:v}.16b, {weights:v}.16b",
            products = lateout(vreg) products,
            pixels = in(vreg) pixels,
            weights = in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    products
}

/// `products` and those of the high halves; see [`smull2`].
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::nn::kernels) fn smlal2(mut products: int16x8_t, pixels: int8x16_t, weights: int8x16_t) -> int16x8_t {
    // SAFETY: registers in, a register out.
    unsafe {
        asm!(
            "smlal2 {products:v}.8h, {pixels:v}.16b, {weights:v}.16b",
            products = inout(vreg) products,
            pixels = in(vreg) pixels,
            weights = in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    products
}

/// Products of the pixels in some registers with a register of weights. `smull` begins and `smlal` adds to 16-bit sums: for each
/// register of pixels one for its low and one for its high half.
macro_rules! products {
    ($op:literal, $weights:literal, $($low:literal $high:literal $pixels:literal),*) => {
        concat!($(
            $op, " ", $low, ".8h, ", $pixels, ".8b, ", $weights, ".8b\n",
            $op, "2 ", $high, ".8h, ", $pixels, ".16b, ", $weights, ".16b\n",
        )*)
    };
}

/// Adds pairs of 16-bit sums to the 32-bit ones.
macro_rules! flush {
    ($($sum:literal $products:literal),*) => {
        concat!($("sadalp ", $sum, ".4s, ", $products, ".8h\n",)*)
    };
}

/// Adds the two lanes of each pixel: `pairs` and `more` become one register.
macro_rules! pairs {
    ($($pairs:literal $more:literal),*) => {
        concat!($("addp ", $pairs, ".4s, ", $pairs, ".4s, ", $more, ".4s\n",)*)
    };
}

/// Four vectors: pixels in v24…v27, 16-bit sums in v16…v23, [`Sums::pairs`] in v0…v3, [`Sums::more`] in v4…v7. With an operation and
/// weights: one plane, from `from` on; without: the flush. `begin` puts the bias into one lane of each pixel ([`Biases`]), `end` adds a pixel's two
/// lanes and writes them to `sums`.
macro_rules! four {
    ($op:literal, $weights:literal, $step:literal) => {
        concat!(
            "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{from}]", $step, "\n",
            products!($op, $weights, "v16" "v20" "v24", "v17" "v21" "v25", "v18" "v22" "v26", "v19" "v23" "v27"),
        )
    };
    (begin) => {
        concat!("ld4r {{v0.2d, v1.2d, v2.2d, v3.2d}}, [{biases}]\n", "ld4r {{v4.2d, v5.2d, v6.2d, v7.2d}}, [{biases}], #32\n")
    };
    (end) => {
        concat!(
            pairs!("v0" "v4", "v1" "v5", "v2" "v6", "v3" "v7"),
            "st1 {{v0.4s, v1.4s, v2.4s, v3.4s}}, [{sums}], #64\n",
        )
    };
    () => {
        flush!("v0" "v16", "v4" "v20", "v1" "v17", "v5" "v21", "v2" "v18", "v6" "v22", "v3" "v19", "v7" "v23")
    };
}

/// Five vectors: pixels in v20…v24, 16-bit sums in v10…v19, [`Sums::pairs`] in v0…v4, [`Sums::more`] in v5…v9; as [`four`].
macro_rules! five {
    ($op:literal, $weights:literal, $step:literal) => {
        concat!(
            "ldr q24, [{from}, #64]\n",
            "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{from}]", $step, "\n",
            products!($op, $weights, "v10" "v15" "v20", "v11" "v16" "v21", "v12" "v17" "v22", "v13" "v18" "v23", "v14" "v19" "v24"),
        )
    };
    (begin) => {
        concat!(
            "ld4r {{v0.2d, v1.2d, v2.2d, v3.2d}}, [{biases}]\n",
            "ld4r {{v4.2d, v5.2d, v6.2d, v7.2d}}, [{biases}]\n",
            "ld2r {{v8.2d, v9.2d}}, [{biases}]\n",
            "add {biases}, {biases}, #32\n",
        )
    };
    (end) => {
        concat!(
            pairs!("v0" "v5", "v1" "v6", "v2" "v7", "v3" "v8", "v4" "v9"),
            "st1 {{v0.4s, v1.4s, v2.4s, v3.4s}}, [{sums}], #64\n",
            "str q4, [{sums}], #16\n",
        )
    };
    () => {
        flush!("v0" "v10", "v5" "v15", "v1" "v11", "v6" "v16", "v2" "v12", "v7" "v17", "v3" "v13", "v8" "v18", "v4" "v14", "v9" "v19")
    };
}

/// A group's dense weights, channel by channel; made by [`Group::new`] only.
#[derive(Clone, Copy)]
struct Dense<'a> {
    /// `[4][taps][planes]`.
    weights: &'a [[i8; 4]],
    /// Where four planes may be added in 16 bits.
    runs: &'a [u16],
    taps: &'a [usize],
    planes: usize,
    plane: usize,
}

/// Four planes that fit in 16 bits; `$before` stands before the last one's additions.
macro_rules! dense_four {
    ($tile:ident, $before:literal) => {
        concat!(
            "ld4r {{v28.4s, v29.4s, v30.4s, v31.4s}}, [{weights}], #16\n",
            $tile!("smull", "v28", ", {plane}"),
            $tile!("smlal", "v29", ", {plane}"),
            $tile!("smlal", "v30", ", {plane}"),
            $before,
            $tile!("smlal", "v31", ", {plane}"),
            $tile!(),
        )
    };
}

/// Four channels, each a loop over taps: eight planes at a time (label 3; an odd number of fours begins at label 9), fours that do not
/// fit in 16 bits with a flush in the middle (after label 4), and what is left one at a time (label 6).
macro_rules! dense_loop {
    ($dense:ident, $biases:ident, $from:ident, $sums:ident, $tile:ident, $($clobbers:tt)*) => {
        asm!(
            "1:",
            "mov {taps}, {first_tap}",
            $tile!(begin),
            "2:",
            "ldr {from}, [{taps}], #8",
            "ldrh {count:w}, [{runs}], #2",
            "add {from}, {origin}, {from}, lsl #2",
            "sub {left}, {fours}, {count}",
            "8:",
            "tbnz {count}, #0, 9f",
            "cbz {count}, 4f",
            "3:",
            dense_four!($tile, ""),
            "9:",
            dense_four!($tile, "subs {count}, {count}, #2\n"),
            "b.gt 3b",
            "4:",
            "cbz {left}, 5f",
            "ld4r {{v28.4s, v29.4s, v30.4s, v31.4s}}, [{weights}], #16",
            $tile!("smull", "v28", ", {plane}"),
            $tile!("smlal", "v29", ", {plane}"),
            $tile!(),
            $tile!("smull", "v30", ", {plane}"),
            $tile!("smlal", "v31", ", {plane}"),
            $tile!(),
            "subs {left}, {left}, #1",
            "b.eq 5f",
            "ldrh {count:w}, [{runs}], #2",
            "sub {left}, {left}, {count}",
            "b 8b",
            "5:",
            "cbz {rest}, 7f",
            "mov {count}, {rest}",
            "6:",
            "ld1r {{v28.4s}}, [{weights}], #4",
            $tile!("smull", "v28", ", {plane}"),
            "subs {count}, {count}, #1",
            $tile!(),
            "b.ne 6b",
            "7:",
            "cmp {taps}, {end}",
            "b.ne 2b",
            $tile!(end),
            "cmp {biases}, {last_bias}",
            "b.ne 1b",
            biases = inout(reg) $biases.as_ptr() => _,
            last_bias = in(reg) $biases.as_ptr_range().end,
            sums = inout(reg) $sums.as_mut_ptr() => _,
            origin = in(reg) $from,
            from = out(reg) _,
            plane = in(reg) $dense.plane * size_of::<Pixel>(),
            first_tap = in(reg) $dense.taps.as_ptr(),
            taps = out(reg) _,
            end = in(reg) $dense.taps.as_ptr_range().end,
            weights = inout(reg) $dense.weights.as_ptr() => _,
            runs = inout(reg) $dense.runs.as_ptr() => _,
            fours = in(reg) $dense.planes / 4,
            left = out(reg) _,
            rest = in(reg) $dense.planes % 4,
            count = out(reg) _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            $($clobbers)*
            options(nostack)
        )
    };
}

impl Dense<'_> {
    /// The sums of four channels: all planes under all taps.
    ///
    /// # Safety
    /// At each tap's distance from `from`, `planes` times `plane` pixels apart, `V` · 4 pixels are readable.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sums<const V: usize>(&self, biases: &Biases, from: *const Pixel) -> [[int32x4_t; V]; 4] {
        if V >= 4 {
            // SAFETY: the caller's promise; weights, planes and taps are as [`Group::new`] takes care of, the runs those that were
            // packed with them.
            return unsafe { self.four_or_five(biases, from) };
        }
        let mut finished = [[vdupq_n_s32(0); V]; 4];
        for (c, weights) in self.weights.chunks_exact(self.taps.len() * self.planes).enumerate() {
            let mut sums = Sums::new(&biases[c]);
            for (tap, blocks) in self.taps.iter().zip(weights.chunks_exact(self.planes)) {
                // SAFETY: the caller's promise.
                unsafe { self.tap(&mut sums, from.wrapping_add(*tap), blocks) };
            }
            finished[c] = sums.finish();
        }
        finished
    }

    /// By hand because the compiler loads pixels with three instructions and weights with four where one does: this loop is most of
    /// an inference.
    ///
    /// # Safety
    /// As [`Self::sums`], `V` being 4 or 5, with four planes or more, a tap or more, and as many weights and runs as those need.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn four_or_five<const V: usize>(&self, biases: &Biases, from: *const Pixel) -> [[int32x4_t; V]; 4] {
        let mut sums = MaybeUninit::<[[int32x4_t; V]; 4]>::uninit();
        // SAFETY: the caller's promise: taps, weights and runs are read once a channel, in their order, and `V` registers a channel are
        // written, which is all of `sums`.
        unsafe {
            if V == 4 {
                dense_loop!(self, biases, from, sums, four, out("v25") _, out("v26") _, out("v27") _,);
            } else {
                dense_loop!(
                    self, biases, from, sums, five,
                    out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                );
            }
            sums.assume_init()
        }
    }

    /// All planes under one tap, two at a time: two products always fit in 16 bits.
    ///
    /// # Safety
    /// Pixels at `from` and `plane` pixels apart are readable, `V` · 4 of them each, one set for each block.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn tap<const V: usize>(&self, sums: &mut Sums<V>, mut from: *const Pixel, blocks: &[[i8; 4]]) {
        let (twos, last) = blocks.as_chunks::<2>();
        for two in twos {
            // SAFETY: the caller's promise; a chunk is two planes.
            unsafe {
                let mut products = Products::<V>::new(from, two[0]);
                products.add(from.wrapping_add(self.plane), two[1]);
                products.flush(sums);
            }
            from = from.wrapping_add(2 * self.plane);
        }
        if let [block] = last {
            // SAFETY: the caller's promise.
            unsafe { Products::<V>::new(from, *block).flush(sums) };
        }
    }
}

/// A loop over a list of quads; `$middle` stands before the third block, whose operation is `$third`: a flush and a new beginning, or
/// nothing and an addition.
macro_rules! stream_loop {
    ($from:ident, $list:ident, $tile:ident, $middle:expr, $third:literal, $($operands:tt)*) => {
        asm!(
            "2:",
            "ldp {deltas:w}, {more:w}, [{quads}], #8",
            "ld4r {{v28.4s, v29.4s, v30.4s, v31.4s}}, [{quads}], #16",
            "add {from}, {from}, {deltas:w}, uxth #2",
            $tile!("smull", "v28", ""),
            "lsr {deltas:w}, {deltas:w}, #16",
            "add {from}, {from}, {deltas}, lsl #2",
            $tile!("smlal", "v29", ""),
            "add {from}, {from}, {more:w}, uxth #2",
            $middle,
            $tile!($third, "v30", ""),
            "lsr {more:w}, {more:w}, #16",
            "add {from}, {from}, {more}, lsl #2",
            $tile!("smlal", "v31", ""),
            "cmp {quads}, {end}",
            $tile!(),
            "b.ne 2b",
            from = inout(reg) $from => _,
            deltas = out(reg) _,
            more = out(reg) _,
            quads = inout(reg) $list.as_ptr() => _,
            end = in(reg) $list.as_ptr_range().end,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            $($operands)*
            options(readonly, nostack)
        )
    };
}

/// Adds a list of blocks to the sums of four or five vectors; by hand as [`Dense::four_or_five`]. `WIDE`: only two blocks may be
/// added in 16 bits.
///
/// # Safety
/// `V` · 4 pixels are readable at every block's distance from `from`. `V` is 4 or 5; `list` is not empty.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn quads<const V: usize, const WIDE: bool>(sums: &mut Sums<V>, from: *const Pixel, list: &[Quad]) {
    macro_rules! run {
        (4, $middle:expr, $third:literal) => {
            stream_loop!(
                from, list, four, $middle, $third,
                inout("v0") sums.pairs[0], inout("v1") sums.pairs[1], inout("v2") sums.pairs[2], inout("v3") sums.pairs[3],
                inout("v4") sums.more[0], inout("v5") sums.more[1], inout("v6") sums.more[2], inout("v7") sums.more[3],
                out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                out("v25") _, out("v26") _, out("v27") _,
            )
        };
        (5, $middle:expr, $third:literal) => {
            stream_loop!(
                from, list, five, $middle, $third,
                inout("v0") sums.pairs[0], inout("v1") sums.pairs[1], inout("v2") sums.pairs[2], inout("v3") sums.pairs[3],
                inout("v4") sums.pairs[4], inout("v5") sums.more[0], inout("v6") sums.more[1], inout("v7") sums.more[2],
                inout("v8") sums.more[3], inout("v9") sums.more[4],
                out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
                out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            )
        };
    }
    // SAFETY: the caller's promise; a quad is 24 bytes, distances first, and the loop runs once for each.
    unsafe {
        match (V, WIDE) {
            (4, false) => run!(4, "", "smlal"),
            (4, true) => run!(4, four!(), "smull"),
            (_, false) => run!(5, "", "smlal"),
            (_, true) => run!(5, five!(), "smull"),
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn weights(block: [i8; 4]) -> int8x16_t {
    vreinterpretq_s8_s32(vdupq_n_s32(word(block)))
}

/// `V` registers of pixels.
///
/// # Safety
/// `from` points to `V` · 4 readable pixels.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn pixels<const V: usize>(from: *const Pixel) -> [int8x16_t; V] {
    let mut pixels = [vdupq_n_s8(0); V];
    for (v, pixels) in pixels.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *pixels = unsafe { vld1q_s8(from.add(v * LANES).cast()) };
    }
    pixels
}

/// A list of blocks; `WIDE`: only two of them may be added in 16 bits.
///
/// # Safety
/// `V` · 4 pixels at every block's distance from `from` are readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn stream_list<const V: usize, const WIDE: bool>(sums: &mut Sums<V>, mut from: *const Pixel, list: &[Quad]) {
    if V >= 4 && !list.is_empty() {
        // SAFETY: the caller's promise.
        return unsafe { quads::<V, WIDE>(sums, from, list) };
    }
    for quad in list {
        let mut next = |j: usize| {
            from = from.wrapping_add(usize::from(quad.deltas[j]));
            from
        };
        // SAFETY: the caller's promise.
        unsafe {
            let mut products = Products::<V>::new(next(0), quad.weights[0]);
            products.add(next(1), quad.weights[1]);
            products.flush(sums);
            products = Products::new(next(2), quad.weights[2]);
            products.add(next(3), quad.weights[3]);
            products.flush(sums);
        }
    }
}
