//! Convolution with ARMv8.0 Advanced SIMD: 4 pixels a register. `smull` and `smlal` add two or four products of i8 · i8 in 16 bits,
//! as many as the weights allow ([`super::Pairs::Consecutive`]), and `sadalp` adds pairs of those in 32.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "loops over registers are unrolled")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::{DenseOrder, Form, Packing, Pairs, Quad, Run, full_tiles, word};
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
    for (start, count) in full_tiles(output.len() / LANES, 4, 5) {
        by_vectors!(count, tile(run, start * LANES, output), 1 2 3 4 5);
    }
}

/// Four channels of `V` vectors, one channel after the other.
#[inline]
#[target_feature(enable = "neon")]
fn tile<const V: usize>(run: &Run<'_>, at: usize, output: &mut [Pixel]) {
    let finish = Finish::new(run.requant);
    let mut bytes = [vdupq_n_s32(0); V];
    for c in 0..4 {
        let mut sums = Sums::<V> { pairs: [vdupq_n_s32(0); V], more: [vdupq_n_s32(0); V] };
        // SAFETY: `Run::check`: first + run lies within the input.
        let from = unsafe { run.input.as_ptr().add(run.first + at) };
        match run.weights.form() {
            Form::Dense { weights, taps, planes, plane, wide, .. } => {
                let size = taps.len() * planes;
                let channel = run.group * 4 + c;
                let wide_size = taps.len() * (planes / 4 + 1);
                let weights = &weights[channel * size..][..size];
                let mut wide = wide[channel * wide_size..][..wide_size].chunks_exact(planes / 4 + 1);
                for (tap, blocks) in taps.iter().zip(weights.chunks_exact(*planes)) {
                    let Some(wide) = wide.next() else { unreachable!("as many as taps") };
                    // SAFETY: `Run::check`: first + run + reach is within the input, reach being the largest tap + plane offset.
                    unsafe { dense_tap(&mut sums, from.wrapping_add(*tap), *plane, blocks, wide) };
                }
            }
            Form::Stream(stream) => {
                let [fours, twos] = stream.lists(run.group * 4 + c);
                // SAFETY: the distances of a list add up to at most the weights' reach (`pack`), which `Run::check` allows for.
                unsafe {
                    stream_list::<V, false>(&mut sums, from, fours);
                    stream_list::<V, true>(&mut sums, from, twos);
                }
            }
        }
        let bias = vdupq_n_s32(run.requant.bias[run.group][c]);
        for v in 0..V {
            let other = run.residual.map(|r| vreinterpretq_s32_s8(load(r, at + v * LANES)));
            let sum = vaddq_s32(vpaddq_s32(sums.pairs[v], sums.more[v]), bias);
            bytes[v] = finish.channel(c, bytes[v], sum, run.requant.multiplier[run.group][c], other);
        }
    }
    for v in 0..V {
        store(output, at + v * LANES, finish.stored(bytes[v]));
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

/// Products of the pixels in some registers with the weights in v28. `smull` begins and `smlal` adds to 16-bit sums: for each
/// register of pixels one for its low and one for its high half.
macro_rules! products {
    ($op:literal, $($low:literal $high:literal $pixels:literal),*) => {
        concat!($($op, " ", $low, ".8h, ", $pixels, ".8b, v28.8b\n", $op, "2 ", $high, ".8h, ", $pixels, ".16b, v28.16b\n",)*)
    };
}

/// Adds pairs of 16-bit sums to the 32-bit ones.
macro_rules! flush {
    ($($sum:literal $products:literal),*) => {
        concat!($("sadalp ", $sum, ".4s, ", $products, ".8h\n",)*)
    };
}

/// Four vectors: pixels in v24…v27, 16-bit sums in v16…v23, [`Sums::pairs`] in v0…v3, [`Sums::more`] in v4…v7.
macro_rules! four {
    ($op:literal) => {
        products!($op, "v16" "v20" "v24", "v17" "v21" "v25", "v18" "v22" "v26", "v19" "v23" "v27")
    };
    () => {
        flush!("v0" "v16", "v4" "v20", "v1" "v17", "v5" "v21", "v2" "v18", "v6" "v22", "v3" "v19", "v7" "v23")
    };
}

/// Five vectors: pixels in v24…v27 and v29, 16-bit sums in v10…v19, [`Sums::pairs`] in v0…v4, [`Sums::more`] in v5…v9.
macro_rules! five {
    ($op:literal) => {
        products!($op, "v10" "v15" "v24", "v11" "v16" "v25", "v12" "v17" "v26", "v13" "v18" "v27", "v14" "v19" "v29")
    };
    () => {
        flush!("v0" "v10", "v5" "v15", "v1" "v11", "v6" "v16", "v2" "v12", "v7" "v17", "v3" "v13", "v8" "v18", "v4" "v14", "v9" "v19")
    };
}

/// A loop over chunks of four planes. `$middle` stands before the third plane's products, which are `$third`: either a flush and
/// a new beginning, or nothing and an addition. `$load` loads what the four registers do not hold.
macro_rules! dense_loop {
    ($from:ident, $plane:ident, $chunks:ident, $wide:ident, $load:literal, $begin:expr, $add:expr, $flush:expr, $middle:expr, $third:expr, $($operands:tt)*) => {
        asm!(
            "2:",
            dense_loop!(@ $load),
            $begin,
            dense_loop!(@ $load),
            $add,
            dense_loop!(@ $load),
            $middle,
            $third,
            dense_loop!(@ $load),
            $add,
            "subs {count}, {count}, #1",
            $flush,
            "b.ne 2b",
            from = inout(reg) $from,
            plane = in(reg) $plane * size_of::<Pixel>(),
            weights = inout(reg) $chunks.as_ptr() => _,
            count = inout(reg) $chunks.len() => _,
            wide = inout(reg) $wide.as_ptr() => _,
            is_wide = out(reg) _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
            $($operands)*
            options(readonly, nostack)
        )
    };
    (@ $load:literal) => {
        concat!($load, "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{from}], {plane}\n", "ld1r {{v28.4s}}, [{weights}], #4\n")
    };
}

/// What stands before the third plane's addition where that may be too much for 16 bits; label 4 stands after it.
macro_rules! unless_wide {
    ($flush:expr, $begin:expr) => {
        concat!("ldrb {is_wide:w}, [{wide}], #1\n", "cbz {is_wide:w}, 3f\n", $flush, $begin, "b 4f\n", "3:\n")
    };
}

/// Adds chunks of four planes to the sums of four or five vectors; returns the pointer to the plane after them. `WIDE`: `wide` says
/// for each chunk whether only two products may be added in 16 bits; otherwise all four may, everywhere. By hand because the compiler loads pixels with three instructions where one does: this loop
/// is most of an inference.
///
/// # Safety
/// `from` and the planes after it, `plane` pixels apart, four for each chunk, have `V` · 4 readable pixels each. `V` is 4 or 5;
/// `chunks` is not empty, and `wide` as long.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn four_planes<const V: usize, const WIDE: bool>(
    sums: &mut Sums<V>,
    mut from: *const Pixel,
    plane: usize,
    chunks: &[[[i8; 4]; 4]],
    wide: &[u8],
) -> *const Pixel {
    macro_rules! run {
        (4, $middle:expr, $third:expr) => {
            dense_loop!(
                from, plane, chunks, wide, "", four!("smull"), four!("smlal"), four!(), $middle, $third,
                inout("v0") sums.pairs[0], inout("v1") sums.pairs[1], inout("v2") sums.pairs[2], inout("v3") sums.pairs[3],
                inout("v4") sums.more[0], inout("v5") sums.more[1], inout("v6") sums.more[2], inout("v7") sums.more[3],
                out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            )
        };
        (5, $middle:expr, $third:expr) => {
            dense_loop!(
                from, plane, chunks, wide, "ldr q29, [{from}, #64]\n", five!("smull"), five!("smlal"), five!(), $middle, $third,
                inout("v0") sums.pairs[0], inout("v1") sums.pairs[1], inout("v2") sums.pairs[2], inout("v3") sums.pairs[3],
                inout("v4") sums.pairs[4], inout("v5") sums.more[0], inout("v6") sums.more[1], inout("v7") sums.more[2],
                inout("v8") sums.more[3], inout("v9") sums.more[4],
                out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
                out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            )
        };
    }
    // SAFETY: the caller's promise; a chunk of weights is 16 bytes, its flag one, and the loop runs once for each.
    unsafe {
        match (V, WIDE) {
            (4, false) => run!(4, "// {wide} {is_wide} are not needed", four!("smlal")),
            (4, true) => run!(4, unless_wide!(four!(), four!("smull")), concat!(four!("smlal"), "4:\n")),
            (_, false) => run!(5, "// {wide} {is_wide} are not needed", five!("smlal")),
            (_, true) => run!(5, unless_wide!(five!(), five!("smull")), concat!(five!("smlal"), "4:\n")),
        }
    }
    from
}

/// A loop over a list of quads; see [`dense_loop`].
macro_rules! stream_loop {
    ($from:ident, $list:ident, $load:literal, $begin:expr, $add:expr, $flush:expr, $middle:expr, $third:expr, $($operands:tt)*) => {
        asm!(
            "2:",
            "ldr {deltas}, [{quads}], #24",
            "ldr q30, [{quads}, #-16]",
            stream_loop!(@ "0", $load),
            $begin,
            "lsr {deltas}, {deltas}, #16",
            stream_loop!(@ "1", $load),
            $add,
            "lsr {deltas}, {deltas}, #16",
            stream_loop!(@ "2", $load),
            $middle,
            $third,
            "lsr {deltas}, {deltas}, #16",
            stream_loop!(@ "3", $load),
            $add,
            "cmp {quads}, {end}",
            $flush,
            "b.ne 2b",
            from = inout(reg) $from => _,
            deltas = out(reg) _,
            quads = inout(reg) $list.as_ptr() => _,
            end = in(reg) $list.as_ptr_range().end,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _,
            $($operands)*
            options(readonly, nostack)
        )
    };
    (@ $lane:literal, $load:literal) => {
        concat!(
            "add {from}, {from}, {deltas:w}, uxth #2\n",
            "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{from}]\n", $load,
            "dup v28.4s, v30.s[", $lane, "]\n",
        )
    };
}

/// Adds a list of blocks to the sums of four or five vectors; as [`four_planes`].
///
/// # Safety
/// `V` · 4 pixels are readable at every block's distance from `from`. `V` is 4 or 5; `list` is not empty.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn quads<const V: usize, const WIDE: bool>(sums: &mut Sums<V>, from: *const Pixel, list: &[Quad]) {
    macro_rules! run {
        (4, $middle:expr, $third:expr) => {
            stream_loop!(
                from, list, "", four!("smull"), four!("smlal"), four!(), $middle, $third,
                inout("v0") sums.pairs[0], inout("v1") sums.pairs[1], inout("v2") sums.pairs[2], inout("v3") sums.pairs[3],
                inout("v4") sums.more[0], inout("v5") sums.more[1], inout("v6") sums.more[2], inout("v7") sums.more[3],
                out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            )
        };
        (5, $middle:expr, $third:expr) => {
            stream_loop!(
                from, list, "ldr q29, [{from}, #64]\n", five!("smull"), five!("smlal"), five!(), $middle, $third,
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
            (4, false) => run!(4, "", four!("smlal")),
            (4, true) => run!(4, four!(), four!("smull")),
            (_, false) => run!(5, "", five!("smlal")),
            (_, true) => run!(5, five!(), five!("smull")),
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

/// All planes under one tap.
///
/// # Safety
/// Pixels at `from` and `plane` pixels apart are readable, `V` · 4 of them each, one set for each block.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dense_tap<const V: usize>(sums: &mut Sums<V>, mut from: *const Pixel, plane: usize, blocks: &[[i8; 4]], wide: &[u8]) {
    let (fours, rest) = blocks.as_chunks::<4>();
    assert_eq!(fours.len() + 1, wide.len(), "`Packed` says of all and of each four planes whether they are wide");
    if V >= 4 && !fours.is_empty() {
        // SAFETY: the caller's promise; a chunk is four planes.
        from = unsafe {
            match wide {
                [] => from,
                [0, wide @ ..] => four_planes::<V, false>(sums, from, plane, fours, wide),
                [_, wide @ ..] => four_planes::<V, true>(sums, from, plane, fours, wide),
            }
        };
    }
    // Two products always fit in 16 bits.
    let rest = if V >= 4 { rest } else { blocks };
    let (twos, last) = rest.as_chunks::<2>();
    for two in twos {
        // SAFETY: the caller's promise; a chunk is two planes.
        unsafe {
            let mut products = Products::<V>::new(from, two[0]);
            products.add(from.wrapping_add(plane), two[1]);
            products.flush(sums);
        }
        from = from.wrapping_add(2 * plane);
    }
    if let [block] = last {
        // SAFETY: the caller's promise.
        unsafe { Products::<V>::new(from, *block).flush(sums) };
    }
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
