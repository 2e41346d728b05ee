//! Convolution with 512-bit `vpdpbusd`: 16 pixels a register, four products of u8 · s8 added to each 32-bit sum, exact.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    clippy::manual_map,
    reason = "loops over registers are unrolled; closures would lose the target features"
)]

use std::arch::x86_64::*;

use super::{AHEAD, DenseOrder, Form, Packing, Pairs, Quad, Run, TAIL_GROUPS, Tail, TailPixel, tiles, word};
use crate::nn::kernels::Pixel;
use crate::nn::kernels::requant::avx512::{Finish, load, store};

pub(in crate::nn::kernels) const PACKING: Packing =
    Packing { dense: Some(DenseOrder::Groups), pairs: Pairs::Wide, sparse_below: [0.45, 0.36] };

const LANES: usize = 16;

/// See [`super::ConvFn`].
pub(in crate::nn::kernels) fn conv(run: &Run<'_>, output: &mut [Pixel]) {
    // SAFETY: the table hands this function out only after finding AVX-512 F, BW and VNNI (`kernels::has`).
    unsafe { dispatch(run, output) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dispatch(run: &Run<'_>, output: &mut [Pixel]) {
    let vectors = output.len() / LANES;
    match run.weights.form() {
        Form::Dense { weights, taps, planes, plane, .. } => {
            let dense = Dense::new(weights, taps, *planes, *plane, run.group);
            for (start, count) in tiles(vectors, 6) {
                by_vectors!(count, dense_tile(run, dense, start * LANES, output), 1 2 3 4 5 6);
            }
        }
        Form::Stream(stream) => {
            let lists = std::array::from_fn(|channel| stream.lists(run.group * 4 + channel)[1]);
            for (start, count) in tiles(vectors, 8) {
                by_vectors!(count, stream_tile(run, lists, start * LANES, output), 1 2 3 4 5 6 7 8);
            }
        }
    }
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

impl<'a> Dense<'a> {
    fn new(weights: &'a [[i8; 4]], taps: &'a [usize], planes: usize, plane: usize, group: usize) -> Self {
        let size = taps.len() * planes * 4;
        Self { weights: &weights[group * size..][..size], taps, planes, plane }
    }
}

/// Four channels of `V` vectors: 4 · V sums, each input vector loaded once for four channels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dense_tile<const V: usize>(run: &Run<'_>, dense: Dense<'_>, at: usize, output: &mut [Pixel]) {
    let bias = &run.requant.bias[run.group];
    let mut sums = [[_mm512_setzero_si512(); V]; 4];
    for c in 0..4 {
        sums[c] = [_mm512_set1_epi32(bias[c]); V];
    }
    let mut blocks = dense.weights.as_chunks::<4>().0.iter();
    for tap in dense.taps {
        for plane in 0..dense.planes {
            let Some(block) = blocks.next() else { unreachable!("as many blocks as taps and planes") };
            // SAFETY: `Run::check`: first + run + reach is within the input, reach being the largest tap + plane offset.
            let from = unsafe { run.input.as_ptr().add(run.first + at + tap + plane * dense.plane) };
            _mm_prefetch::<_MM_HINT_T1>(block.as_ptr().wrapping_byte_add(AHEAD).cast());
            let mut weights = [_mm512_setzero_si512(); 4];
            for c in 0..4 {
                weights[c] = _mm512_set1_epi32(word(block[c]));
            }
            for v in 0..V {
                // SAFETY: the tile's last vector ends within the run; see above.
                let pixels = unsafe { _mm512_loadu_si512(from.add(v * LANES).cast()) };
                for c in 0..4 {
                    sums[c][v] = _mm512_dpbusd_epi32(sums[c][v], pixels, weights[c]);
                }
            }
        }
    }
    // A copy: what a loop too large to unroll indexes lives in memory all along.
    let mut finished = [[_mm512_setzero_si512(); V]; 4];
    for c in 0..4 {
        for v in 0..V {
            finished[c][v] = sums[c][v];
        }
    }
    finish_dense(run, at, &finished, output);
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn finish_dense<const V: usize>(run: &Run<'_>, at: usize, sums: &[[__m512i; V]; 4], output: &mut [Pixel]) {
    let finish = Finish::new(run.requant);
    let multiplier = &run.requant.multiplier[run.group];
    for v in 0..V {
        let other = residual(run, at + v * LANES);
        let mut bytes = _mm512_setzero_si512();
        for c in 0..4 {
            bytes = _mm512_or_si512(bytes, finish.channel(c, sums[c][v], multiplier[c], other));
        }
        store(output, at + v * LANES, bytes);
    }
}

/// Four channels of `V` vectors, one channel after the other, blocks of zeros left out.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn stream_tile<const V: usize>(run: &Run<'_>, lists: [&[Quad]; 4], at: usize, output: &mut [Pixel]) {
    let finish = Finish::new(run.requant);
    let mut bytes = [_mm512_setzero_si512(); V];
    for c in 0..4 {
        // Two sets of sums: `vpdpbusd` takes four cycles, and a tile may have fewer vectors than that needs.
        let mut even = [_mm512_set1_epi32(run.requant.bias[run.group][c]); V];
        let mut odd = [_mm512_setzero_si512(); V];
        // SAFETY: `Run::check`: first + run lies within the input.
        let mut from = unsafe { run.input.as_ptr().add(run.first + at) };
        for quad in lists[c] {
            _mm_prefetch::<_MM_HINT_T1>((&raw const *quad).wrapping_byte_add(AHEAD).cast());
            for j in 0..4 {
                // SAFETY: the distances of a list add up to at most the weights' reach (`pack`), which `Run::check` allows for.
                from = unsafe { from.add(usize::from(quad.deltas[j])) };
                let weights = _mm512_set1_epi32(word(quad.weights[j]));
                let sums = if V > 4 || j % 2 == 0 { &mut even } else { &mut odd };
                for v in 0..V {
                    // SAFETY: the tile's last vector ends within the run; see above.
                    let pixels = unsafe { _mm512_loadu_si512(from.add(v * LANES).cast()) };
                    sums[v] = _mm512_dpbusd_epi32(sums[v], pixels, weights);
                }
            }
        }
        for v in 0..V {
            let other = residual(run, at + v * LANES);
            let sum = _mm512_add_epi32(even[v], odd[v]);
            bytes[v] = _mm512_or_si512(bytes[v], finish.channel(c, sum, run.requant.multiplier[run.group][c], other));
        }
    }
    for v in 0..V {
        store(output, at + v * LANES, bytes[v]);
    }
}

/// 16 pixels of the added tensor, if there is one.
#[inline]
#[target_feature(enable = "avx512f")]
fn residual(run: &Run<'_>, at: usize) -> Option<__m512i> {
    match run.residual {
        Some(pixels) => Some(load(pixels, at)),
        None => None,
    }
}

/// See [`super::TailFn`].
pub(in crate::nn::kernels) fn tail(tail: &Tail<'_>, output: &mut [TailPixel]) {
    // SAFETY: the table hands this function out only after finding AVX-512 F, BW and VNNI (`kernels::has`).
    unsafe { tail_dispatch(tail, output) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tail_dispatch(tail: &Tail<'_>, output: &mut [TailPixel]) {
    let Form::Dense { weights, taps, planes, plane, .. } = tail.weights.form() else {
        unreachable!("`Kernels::conv_tail` asks for dense weights")
    };
    // Where a layer ends before the fourth group, its last one is computed again in the lanes that nobody reads.
    let groups = std::array::from_fn(|g| (tail.group + g).min(tail.weights.groups() - 1));
    let dense = groups.map(|group| Dense::new(weights, taps, *planes, *plane, group));
    by_vectors!(output.len(), tail_tile(tail, groups, dense, output), 1 2 3 4 5 6 7 8);
}

/// Sixteen channels of `P` pixels: a register of weights, lane by lane four groups' block of one plane, serves all pixels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tail_tile<const P: usize>(
    tail: &Tail<'_>,
    groups: [usize; TAIL_GROUPS],
    dense: [Dense<'_>; TAIL_GROUPS],
    output: &mut [TailPixel],
) {
    // `vpdpbusd` takes four or five cycles: few pixels need several sets of sums.
    let sets = if P <= 2 { 4 } else { 8usize.div_ceil(P) };
    let mut sums = [[_mm512_setzero_si512(); P]; 4];
    let Dense { taps, planes, plane, .. } = dense[0];
    for (t, tap) in taps.iter().enumerate() {
        let blocks = dense.map(|d| d.weights[t * planes * 4..][..planes * 4].as_chunks::<4>().0);
        let [(a, a_rest), (b, b_rest), (c, c_rest), (d, d_rest)] = blocks.map(|blocks| blocks.as_chunks::<4>());
        // The address of a plane that is not there is computed, never read.
        let mut from = tail.input.as_ptr().wrapping_add(tail.first + tap);
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            let weights = four_planes([a, b, c, d]);
            for j in 0..4 {
                for p in 0..P {
                    // SAFETY: `Tail::check`: first + pixels + reach is within the input, reach being the largest tap + plane offset.
                    sums[j % sets][p] =
                        _mm512_dpbusd_epi32(sums[j % sets][p], unsafe { everywhere(from.wrapping_add(p)) }, weights[j]);
                }
                from = from.wrapping_add(plane);
            }
        }
        for (((a, b), c), d) in a_rest.iter().zip(b_rest).zip(c_rest).zip(d_rest) {
            let weights = one_plane([a, b, c, d]);
            for p in 0..P {
                // SAFETY: as above.
                sums[0][p] = _mm512_dpbusd_epi32(sums[0][p], unsafe { everywhere(from.wrapping_add(p)) }, weights);
            }
            from = from.wrapping_add(plane);
        }
    }
    let mut total = sums[0];
    for p in 0..P {
        for set in 1..sets {
            total[p] = _mm512_add_epi32(total[p], sums[set][p]);
        }
    }
    finish_tail(tail, groups, &total, output);
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn finish_tail(tail: &Tail<'_>, groups: [usize; TAIL_GROUPS], sums: &[__m512i], output: &mut [TailPixel]) {
    let finish = Finish::new(tail.requant);
    let bias = groups.map(|group| tail.requant.bias[group]);
    let multiplier = groups.map(|group| tail.requant.multiplier[group]);
    // SAFETY: both are sixteen values of 32 bits; the loads need no alignment.
    let (bias, multipliers) =
        unsafe { (_mm512_loadu_si512(bias.as_ptr().cast()), _mm512_loadu_ps(multiplier.as_ptr().cast())) };
    for (p, (sum, pixel)) in sums.iter().zip(output).enumerate() {
        let other = match tail.residual {
            Some(pixels) => Some(_mm512_cvtepu8_epi32(sixteen(&pixels[p]))),
            None => None,
        };
        let stored = finish.mixed(_mm512_add_epi32(*sum, bias), multipliers, other);
        // SAFETY: a `TailPixel` is 16 bytes; the store needs no alignment.
        unsafe { _mm_storeu_si128(pixel.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(stored)) };
    }
}

/// Of four groups four planes' blocks, as packed → of four planes four groups' blocks.
#[inline]
#[target_feature(enable = "avx512f")]
fn four_planes(groups: [&[[[i8; 4]; 4]; 4]; TAIL_GROUPS]) -> [__m512i; 4] {
    let mut loaded = [_mm512_setzero_si512(); TAIL_GROUPS];
    for g in 0..TAIL_GROUPS {
        // SAFETY: four planes of four blocks are 64 bytes; the load needs no alignment.
        loaded[g] = unsafe { _mm512_loadu_si512(groups[g].as_ptr().cast()) };
    }
    let [a, b, c, d] = loaded;
    let (ab, cd) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d));
    let (ab_high, cd_high) = (_mm512_shuffle_i32x4::<0xEE>(a, b), _mm512_shuffle_i32x4::<0xEE>(c, d));
    [
        _mm512_shuffle_i32x4::<0x88>(ab, cd),
        _mm512_shuffle_i32x4::<0xDD>(ab, cd),
        _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
        _mm512_shuffle_i32x4::<0xDD>(ab_high, cd_high),
    ]
}

/// Four groups' blocks of one plane.
#[inline]
#[target_feature(enable = "avx512f")]
fn one_plane(groups: [&[[i8; 4]; 4]; TAIL_GROUPS]) -> __m512i {
    let [a, b, c, d] = groups.map(|blocks| blocks.map(word));
    _mm512_setr_epi32(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3])
}

/// A pixel in every lane.
///
/// # Safety
/// `pixel` can be read.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn everywhere(pixel: *const Pixel) -> __m512i {
    // SAFETY: the caller's.
    _mm512_set1_epi32(i32::from_ne_bytes(unsafe { *pixel }))
}

/// A pixel of four groups.
#[inline]
#[target_feature(enable = "avx512f")]
fn sixteen(pixel: &TailPixel) -> __m128i {
    // SAFETY: a `TailPixel` is 16 bytes; the load needs no alignment.
    unsafe { _mm_loadu_si128(pixel.as_ptr().cast()) }
}
