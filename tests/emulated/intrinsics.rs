//! The AVX-512 instructions that the kernels use, in portable Rust: what `tests/emulated/avx512` puts in the place of
//! `std::arch::x86_64` to run the kernels' own code on a CPU that lacks them. Registers are arrays of 32-bit lanes.
#![allow(non_camel_case_types, missing_docs, unsafe_code, clippy::missing_safety_doc, clippy::too_many_arguments)]

pub const _MM_FROUND_TO_NEAREST_INT: i32 = 0;
pub const _MM_FROUND_NO_EXC: i32 = 8;

#[derive(Clone, Copy)]
pub struct __m512i([i32; 16]);
#[derive(Clone, Copy)]
pub struct __m512([f32; 16]);
#[derive(Clone, Copy)]
pub struct __m128i([i32; 4]);
#[derive(Clone, Copy)]
pub struct __m128([f32; 4]);

type Lane = [u8; 16];

fn ints(lane: impl Fn(usize) -> i32) -> __m512i {
    __m512i(std::array::from_fn(lane))
}

fn floats(lane: impl Fn(usize) -> f32) -> __m512 {
    __m512(std::array::from_fn(lane))
}

/// Works on the four 128-bit lanes as bytes.
fn lanes(a: __m512i, b: __m512i, lane: impl Fn(Lane, Lane) -> Lane) -> __m512i {
    let bytes = |r: __m512i, l: usize| -> Lane { std::array::from_fn(|i| r.0[l * 4 + i / 4].to_le_bytes()[i % 4]) };
    let results: [Lane; 4] = std::array::from_fn(|l| lane(bytes(a, l), bytes(b, l)));
    ints(|i| i32::from_le_bytes(std::array::from_fn(|k| results[i / 4][i % 4 * 4 + k])))
}

/// Interleaves elements of `size` bytes of one half of each lane.
fn unpack(a: __m512i, b: __m512i, size: usize, high: usize) -> __m512i {
    lanes(a, b, |a, b| {
        std::array::from_fn(|i| {
            let (element, byte) = (i / size, i % size);
            let source = if element % 2 == 0 { a } else { b };
            source[high * 8 + element / 2 * size + byte]
        })
    })
}

pub fn _mm512_unpacklo_epi8(a: __m512i, b: __m512i) -> __m512i {
    unpack(a, b, 1, 0)
}
pub fn _mm512_unpackhi_epi8(a: __m512i, b: __m512i) -> __m512i {
    unpack(a, b, 1, 1)
}
pub fn _mm512_unpacklo_epi16(a: __m512i, b: __m512i) -> __m512i {
    unpack(a, b, 2, 0)
}
pub fn _mm512_unpackhi_epi16(a: __m512i, b: __m512i) -> __m512i {
    unpack(a, b, 2, 1)
}
pub fn _mm512_packs_epi32(a: __m512i, b: __m512i) -> __m512i {
    lanes(a, b, |a, b| {
        let source = [a, b].concat();
        let value = |e: usize| i32::from_le_bytes(std::array::from_fn(|k| source[e * 4 + k]));
        std::array::from_fn(|i| (value(i / 2).clamp(-32_768, 32_767) as i16).to_le_bytes()[i % 2])
    })
}
pub fn _mm512_packus_epi16(a: __m512i, b: __m512i) -> __m512i {
    lanes(a, b, |a, b| {
        let source = [a, b].concat();
        std::array::from_fn(|i| i16::from_le_bytes([source[i * 2], source[i * 2 + 1]]).clamp(0, 255) as u8)
    })
}
pub fn _mm512_shuffle_i32x4<const SELECT: i32>(a: __m512i, b: __m512i) -> __m512i {
    ints(|i| {
        let lane = (SELECT >> (i / 4 * 2) & 3) as usize;
        let source = if i < 8 { a } else { b };
        source.0[lane * 4 + i % 4]
    })
}
pub fn _mm512_shuffle_epi8(a: __m512i, places: __m512i) -> __m512i {
    lanes(a, places, |a, places| places.map(|place| if place < 128 { a[usize::from(place % 16)] } else { 0 }))
}
/// Unsigned bytes of `a` times signed ones of `b`.
pub fn _mm512_dpbusd_epi32(sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
    ints(|i| {
        let (a, b) = (a.0[i].to_le_bytes(), b.0[i].to_le_bytes());
        (0..4).fold(sums.0[i], |sum, k| sum.wrapping_add(i32::from(a[k]) * i32::from(b[k] as i8)))
    })
}

pub fn _mm512_setzero_si512() -> __m512i {
    __m512i([0; 16])
}
pub fn _mm512_set1_epi32(a: i32) -> __m512i {
    __m512i([a; 16])
}
pub fn _mm512_set1_ps(a: f32) -> __m512 {
    __m512([a; 16])
}
pub fn _mm512_broadcast_i32x4(a: __m128i) -> __m512i {
    ints(|i| a.0[i % 4])
}
pub fn _mm512_broadcast_f32x4(a: __m128) -> __m512 {
    floats(|i| a.0[i % 4])
}
pub fn _mm_setr_epi32(a: i32, b: i32, c: i32, d: i32) -> __m128i {
    __m128i([a, b, c, d])
}
pub fn _mm_setr_ps(a: f32, b: f32, c: f32, d: f32) -> __m128 {
    __m128([a, b, c, d])
}
pub fn _mm512_setr_epi32(
    a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32, h: i32,
    i: i32, j: i32, k: i32, l: i32, m: i32, n: i32, o: i32, p: i32,
) -> __m512i {
    __m512i([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

pub fn _mm512_add_epi32(a: __m512i, b: __m512i) -> __m512i {
    ints(|i| a.0[i].wrapping_add(b.0[i]))
}
pub fn _mm512_and_si512(a: __m512i, b: __m512i) -> __m512i {
    ints(|i| a.0[i] & b.0[i])
}
pub fn _mm512_or_si512(a: __m512i, b: __m512i) -> __m512i {
    ints(|i| a.0[i] | b.0[i])
}
pub fn _mm512_sllv_epi32(a: __m512i, by: __m512i) -> __m512i {
    ints(|i| (a.0[i] as u32).checked_shl(by.0[i] as u32).unwrap_or(0) as i32)
}
pub fn _mm512_srlv_epi32(a: __m512i, by: __m512i) -> __m512i {
    ints(|i| (a.0[i] as u32).checked_shr(by.0[i] as u32).unwrap_or(0) as i32)
}

pub fn _mm512_add_ps(a: __m512, b: __m512) -> __m512 {
    floats(|i| a.0[i] + b.0[i])
}
pub fn _mm512_mul_ps(a: __m512, b: __m512) -> __m512 {
    floats(|i| a.0[i] * b.0[i])
}
pub fn _mm512_fmadd_ps(a: __m512, b: __m512, c: __m512) -> __m512 {
    floats(|i| a.0[i].mul_add(b.0[i], c.0[i]))
}
pub fn _mm512_max_ps(a: __m512, b: __m512) -> __m512 {
    floats(|i| if a.0[i] > b.0[i] { a.0[i] } else { b.0[i] })
}
pub fn _mm512_min_ps(a: __m512, b: __m512) -> __m512 {
    floats(|i| if a.0[i] < b.0[i] { a.0[i] } else { b.0[i] })
}

pub fn _mm512_cvtepi32_ps(a: __m512i) -> __m512 {
    floats(|i| a.0[i] as f32)
}
/// The kernels round to the nearest, ties to even, and clamp before.
pub fn _mm512_cvt_roundps_epi32<const ROUNDING: i32>(a: __m512) -> __m512i {
    assert_eq!(ROUNDING, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    ints(|i| a.0[i].round_ties_even() as i32)
}
pub fn _mm512_cvtepi32_epi8(a: __m512i) -> __m128i {
    __m128i(std::array::from_fn(|i| i32::from_le_bytes(std::array::from_fn(|k| a.0[i * 4 + k] as u8))))
}
pub fn _mm512_cvtepu8_epi32(a: __m128i) -> __m512i {
    ints(|i| i32::from(a.0[i / 4].to_le_bytes()[i % 4]))
}

pub unsafe fn _mm512_loadu_si512(from: *const __m512i) -> __m512i {
    // SAFETY: the caller's.
    unsafe { from.read_unaligned() }
}
pub unsafe fn _mm512_loadu_ps(from: *const f32) -> __m512 {
    // SAFETY: the caller's.
    unsafe { from.cast::<__m512>().read_unaligned() }
}
pub unsafe fn _mm512_storeu_si512(to: *mut __m512i, value: __m512i) {
    // SAFETY: the caller's.
    unsafe { to.write_unaligned(value) }
}
pub unsafe fn _mm_loadu_si128(from: *const __m128i) -> __m128i {
    // SAFETY: the caller's.
    unsafe { from.read_unaligned() }
}
pub unsafe fn _mm_storeu_si128(to: *mut __m128i, value: __m128i) {
    // SAFETY: the caller's.
    unsafe { to.write_unaligned(value) }
}
