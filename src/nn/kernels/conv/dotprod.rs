//! Convolution with `sdot` (ARMv8.2): 4 pixels a register, four products of i8 · i8 added to each 32-bit sum, exact.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "loops over registers are unrolled")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::{DenseOrder, Form, Packing, Pairs, Quad, Run, fours_and_fives, full_tiles};
use crate::nn::kernels::Pixel;
use crate::nn::kernels::requant::neon::{Finish, load, store};

pub(in crate::nn::kernels) const PACKING: Packing =
    Packing { dense: Some(DenseOrder::Groups), pairs: Pairs::Wide, sparse_below: [0.65, 0.65] };

const LANES: usize = 4;

/// See [`super::ConvFn`].
pub(in crate::nn::kernels) fn conv(run: &Run<'_>, output: &mut [Pixel]) {
    // SAFETY: the table hands this function out only after finding dotprod (`kernels::has`).
    unsafe { dispatch(run, output) }
}

#[target_feature(enable = "neon,dotprod")]
fn dispatch(run: &Run<'_>, output: &mut [Pixel]) {
    let vectors = output.len() / LANES;
    let finish = &Finish::new(run.requant);
    match run.weights.form() {
        Form::Dense { weights, taps, planes, plane, .. } => {
            let size = taps.len() * planes * 4;
            let dense = Dense { weights: &weights[run.group * size..][..size], taps, planes: *planes, plane: *plane };
            let (fours, fives, last) = fours_and_fives(vectors);
            for i in 0..fours {
                dense_tile::<4>(run, dense, finish, i * 4 * LANES, output);
            }
            for i in 0..fives {
                dense_tile::<5>(run, dense, finish, (fours * 4 + i * 5) * LANES, output);
            }
            if last > 0 {
                by_vectors!(last, dense_tile(run, dense, finish, fours * 4 * LANES, output), 1 2 3);
            }
        }
        Form::Stream(stream) => {
            let lists = std::array::from_fn(|channel| stream.lists(run.group * 4 + channel)[1]);
            for (start, count) in full_tiles(vectors, 8, 8) {
                by_vectors!(count, stream_tile(run, lists, finish, start * LANES, output), 1 2 3 4 5 6 7 8);
            }
        }
    }
}

/// `sums` + the products of four bytes a lane of `pixels` with the four bytes `LANE` of `weights`. The intrinsic is unstable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const LANE: u32>(mut sums: int32x4_t, pixels: int8x16_t, weights: int8x16_t) -> int32x4_t {
    // SAFETY: registers in, a register out; dotprod is enabled for this function.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {pixels:v}.16b, {weights:v}.4b[{lane}]",
            sums = inout(vreg) sums,
            pixels = in(vreg) pixels,
            weights = in(vreg) weights,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// For each lane of `weights`, `sdot` into sums from registers of pixels.
macro_rules! products {
    ($weights:literal, $($lane:literal: $($sum:literal $pixels:literal),+;)+) => {
        concat!($($("sdot ", $sum, ".4s, ", $pixels, ".16b, ", $weights, ".4b[", $lane, "]\n"),+),+)
    };
}

/// Four registers of pixels with the four channels of a register of weights. Sum v0…v15: channel · 4 + register.
macro_rules! sixteen {
    ($a:literal, $b:literal, $c:literal, $d:literal, $weights:literal) => {
        products!($weights,
            "0": "v0" $a, "v1" $b, "v2" $c, "v3" $d;
            "1": "v4" $a, "v5" $b, "v6" $c, "v7" $d;
            "2": "v8" $a, "v9" $b, "v10" $c, "v11" $d;
            "3": "v12" $a, "v13" $b, "v14" $c, "v15" $d;
        )
    };
}

/// Five registers of pixels, v24…v28, with the four channels of a register of weights. Sum v0…v19: channel · 5 + register.
macro_rules! twenty {
    ($weights:literal) => {
        products!($weights,
            "0": "v0" "v24", "v1" "v25", "v2" "v26", "v3" "v27", "v4" "v28";
            "1": "v5" "v24", "v6" "v25", "v7" "v26", "v8" "v27", "v9" "v28";
            "2": "v10" "v24", "v11" "v25", "v12" "v26", "v13" "v27", "v14" "v28";
            "3": "v15" "v24", "v16" "v25", "v17" "v26", "v18" "v27", "v19" "v28";
        )
    };
}

/// Loads five registers of pixels and moves on to the next plane.
macro_rules! next_five {
    () => {
        concat!("ldr q28, [{from}, #64]\n", "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{from}], {plane}\n")
    };
}

/// Adds `chunks` of four planes to the sums of four channels and four vectors; returns the pointer to the plane after them. By
/// hand because the compiler loads pixels with three instructions where one does: this loop is most of an inference.
///
/// # Safety
/// `from` and the planes after it, `plane` pixels apart, four for each chunk, have 16 readable pixels each. `sums` has four
/// vectors a channel; `chunks` is not empty.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn four_planes<const V: usize>(
    sums: &mut [[int32x4_t; V]; 4],
    mut from: *const Pixel,
    plane: usize,
    chunks: &[[[i8; 4]; 16]],
) -> *const Pixel {
    let [a, b, c, d] = sums;
    // SAFETY: the caller's promise; a chunk of weights is 64 bytes, and the loop runs once for each.
    unsafe {
        asm!(
            "2:",
            "ld1 {{v24.16b, v25.16b, v26.16b, v27.16b}}, [{weights}], #64",
            "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{from}], {plane}",
            "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{from}], {plane}",
            sixteen!("v16", "v17", "v18", "v19", "v24"),
            "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{from}], {plane}",
            sixteen!("v20", "v21", "v22", "v23", "v25"),
            "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{from}], {plane}",
            sixteen!("v16", "v17", "v18", "v19", "v26"),
            "subs {count}, {count}, #1",
            sixteen!("v20", "v21", "v22", "v23", "v27"),
            "b.ne 2b",
            from = inout(reg) from,
            plane = in(reg) plane * size_of::<Pixel>(),
            weights = inout(reg) chunks.as_ptr() => _,
            count = inout(reg) chunks.len() => _,
            inout("v0") a[0], inout("v1") a[1], inout("v2") a[2], inout("v3") a[3],
            inout("v4") b[0], inout("v5") b[1], inout("v6") b[2], inout("v7") b[3],
            inout("v8") c[0], inout("v9") c[1], inout("v10") c[2], inout("v11") c[3],
            inout("v12") d[0], inout("v13") d[1], inout("v14") d[2], inout("v15") d[3],
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            options(readonly, nostack)
        );
    }
    from
}

/// As [`four_planes`], for five vectors.
///
/// # Safety
/// As for [`four_planes`], with 20 pixels and five vectors.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn four_planes_of_five<const V: usize>(
    sums: &mut [[int32x4_t; V]; 4],
    mut from: *const Pixel,
    plane: usize,
    chunks: &[[[i8; 4]; 16]],
) -> *const Pixel {
    let [a, b, c, d] = sums;
    // SAFETY: the caller's promise; a chunk of weights is 64 bytes, and the loop runs once for each.
    unsafe {
        asm!(
            "2:",
            "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{weights}], #64",
            next_five!(),
            twenty!("v20"),
            next_five!(),
            twenty!("v21"),
            next_five!(),
            twenty!("v22"),
            next_five!(),
            "subs {count}, {count}, #1",
            twenty!("v23"),
            "b.ne 2b",
            from = inout(reg) from,
            plane = in(reg) plane * size_of::<Pixel>(),
            weights = inout(reg) chunks.as_ptr() => _,
            count = inout(reg) chunks.len() => _,
            inout("v0") a[0], inout("v1") a[1], inout("v2") a[2], inout("v3") a[3], inout("v4") a[4],
            inout("v5") b[0], inout("v6") b[1], inout("v7") b[2], inout("v8") b[3], inout("v9") b[4],
            inout("v10") c[0], inout("v11") c[1], inout("v12") c[2], inout("v13") c[3], inout("v14") c[4],
            inout("v15") d[0], inout("v16") d[1], inout("v17") d[2], inout("v18") d[3], inout("v19") d[4],
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _,
            options(readonly, nostack)
        );
    }
    from
}

/// v16…v23 with one block of v24, into v0…v7.
macro_rules! eight {
    ($lane:literal) => {
        products!("v24", $lane: "v0" "v16", "v1" "v17", "v2" "v18", "v3" "v19", "v4" "v20", "v5" "v21", "v6" "v22", "v7" "v23";)
    };
}

/// Moves on by the lowest distance left and loads 32 pixels from there.
macro_rules! next_block {
    () => {
        concat!(
            "add {from}, {from}, {deltas:w}, uxth #2\n",
            "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{from}]\n",
            "add {second}, {from}, #64\n",
            "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{second}]\n",
        )
    };
}

/// Adds a list of blocks to the sums of one channel and eight vectors; by hand for the same reason as [`four_planes`].
///
/// # Safety
/// 32 pixels are readable at every block's distance from `from`. `sums` has eight vectors; `list` is not empty.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn eight_vectors<const V: usize>(sums: &mut [int32x4_t; V], from: *const Pixel, list: &[Quad]) {
    // SAFETY: the caller's promise; a quad is 24 bytes, distances first, and the loop runs once for each.
    unsafe {
        asm!(
            "2:",
            "ldr {deltas}, [{quads}], #24",
            "ldr q24, [{quads}, #-16]",
            next_block!(),
            eight!("0"),
            "lsr {deltas}, {deltas}, #16",
            next_block!(),
            eight!("1"),
            "lsr {deltas}, {deltas}, #16",
            next_block!(),
            eight!("2"),
            "lsr {deltas}, {deltas}, #16",
            next_block!(),
            "cmp {quads}, {end}",
            eight!("3"),
            "b.ne 2b",
            from = inout(reg) from => _,
            second = out(reg) _,
            deltas = out(reg) _,
            quads = inout(reg) list.as_ptr() => _,
            end = in(reg) list.as_ptr_range().end,
            inout("v0") sums[0], inout("v1") sums[1], inout("v2") sums[2], inout("v3") sums[3],
            inout("v4") sums[4], inout("v5") sums[5], inout("v6") sums[6], inout("v7") sums[7],
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _,
            options(readonly, nostack)
        );
    }
}

/// Products with one block for all vectors of a tile.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add<const V: usize, const LANE: u32>(sums: &mut [int32x4_t; V], pixels: [int8x16_t; V], weights: int8x16_t) {
    for v in 0..V {
        sums[v] = sdot::<LANE>(sums[v], pixels[v], weights);
    }
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

/// A group's dense weights.
#[derive(Clone, Copy)]
struct Dense<'a> {
    /// `[taps][planes][4]`.
    weights: &'a [[i8; 4]],
    taps: &'a [usize],
    planes: usize,
    plane: usize,
}

/// Four channels of `V` vectors: 4 · V sums; a register of weights serves four channels.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dense_tile<const V: usize>(run: &Run<'_>, dense: Dense<'_>, finish: &Finish, at: usize, output: &mut [Pixel]) {
    let bias = &run.requant.bias[run.group];
    let mut sums: [[int32x4_t; V]; 4] = std::array::from_fn(|c| [vdupq_n_s32(bias[c]); V]);
    for (tap, blocks) in dense.taps.iter().zip(dense.weights.chunks_exact(dense.planes * 4)) {
        // SAFETY: `Run::check`: first + run + reach is within the input, reach being the largest tap + plane offset.
        let mut from = unsafe { run.input.as_ptr().add(run.first + at + tap) };
        let (fours, _) = blocks.as_chunks::<16>();
        let by_hand = matches!(V, 4 | 5) && !fours.is_empty();
        if by_hand {
            // SAFETY: as above, for the four planes of each chunk.
            from = unsafe {
                match V {
                    4 => four_planes(&mut sums, from, dense.plane, fours),
                    _ => four_planes_of_five(&mut sums, from, dense.plane, fours),
                }
            };
        }
        let done = if by_hand { fours.len() * 16 } else { 0 };
        for block in blocks[done..].as_chunks::<4>().0 {
            // SAFETY: four blocks are 16 bytes; the tile's last vector ends within the run, as above.
            let (weights, pixels) = unsafe { (vld1q_s8(block.as_ptr().cast()), pixels::<V>(from)) };
            from = from.wrapping_add(dense.plane);
            for v in 0..V {
                sums[0][v] = sdot::<0>(sums[0][v], pixels[v], weights);
                sums[1][v] = sdot::<1>(sums[1][v], pixels[v], weights);
                sums[2][v] = sdot::<2>(sums[2][v], pixels[v], weights);
                sums[3][v] = sdot::<3>(sums[3][v], pixels[v], weights);
            }
        }
    }
    let multiplier = &run.requant.multiplier[run.group];
    for v in 0..V {
        let other = run.residual.map(|r| vreinterpretq_s32_s8(load(r, at + v * LANES)));
        let mut bytes = vdupq_n_s32(0);
        for c in 0..4 {
            bytes = finish.channel(c, bytes, sums[c][v], multiplier[c], other);
        }
        store(output, at + v * LANES, finish.stored(bytes));
    }
}

/// Four channels of `V` vectors, one channel after the other, blocks of zeros left out.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn stream_tile<const V: usize>(run: &Run<'_>, lists: [&[Quad]; 4], finish: &Finish, at: usize, output: &mut [Pixel]) {
    let mut bytes = [vdupq_n_s32(0); V];
    for c in 0..4 {
        let mut sums = [vdupq_n_s32(run.requant.bias[run.group][c]); V];
        // SAFETY: `Run::check`: first + run lies within the input.
        let mut from = unsafe { run.input.as_ptr().add(run.first + at) };
        if V == 8 && !lists[c].is_empty() {
            // SAFETY: the distances of a list add up to at most the weights' reach (`pack`), which `Run::check` allows for.
            unsafe { eight_vectors(&mut sums, from, lists[c]) };
        }
        for quad in if V == 8 { &[] } else { lists[c] } {
            // SAFETY: four blocks are 16 bytes.
            let weights = unsafe { vld1q_s8(quad.weights.as_ptr().cast()) };
            // SAFETY: the distances of a list add up to at most the weights' reach (`pack`), which `Run::check` allows for, so `V`
            // vectors from each block lie within the input.
            unsafe {
                from = from.add(usize::from(quad.deltas[0]));
                add::<V, 0>(&mut sums, pixels::<V>(from), weights);
                from = from.add(usize::from(quad.deltas[1]));
                add::<V, 1>(&mut sums, pixels::<V>(from), weights);
                from = from.add(usize::from(quad.deltas[2]));
                add::<V, 2>(&mut sums, pixels::<V>(from), weights);
                from = from.add(usize::from(quad.deltas[3]));
                add::<V, 3>(&mut sums, pixels::<V>(from), weights);
            }
        }
        for v in 0..V {
            let other = run.residual.map(|r| vreinterpretq_s32_s8(load(r, at + v * LANES)));
            bytes[v] = finish.channel(c, bytes[v], sums[v], run.requant.multiplier[run.group][c], other);
        }
    }
    for v in 0..V {
        store(output, at + v * LANES, finish.stored(bytes[v]));
    }
}
