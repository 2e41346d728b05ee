//! Packing weights: once, at load.

use super::{DenseOrder, Packing, Pairs};

/// A layer's weights and where its input lies.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Output channels.
    pub outputs: usize,
    /// Input channels.
    pub inputs: usize,
    /// Offset of each tap in a staged plane, in the order of the kernel's rows and columns; \[0\] for 1×1.
    pub taps: &'a [usize],
    /// Pixels from one plane of four input channels to the next.
    pub plane: usize,
}

impl Shape<'_> {
    fn planes(&self) -> usize {
        self.inputs.div_ceil(4)
    }

    /// The four weights of an output channel under a tap for a plane; zeros beyond the last input channel. `weights` is
    /// `[outputs][inputs][taps]`, as ONNX has it.
    fn block(&self, weights: &[i8], output: usize, plane: usize, tap: usize) -> [i8; 4] {
        let taps = self.taps.len();
        std::array::from_fn(|k| {
            let input = plane * 4 + k;
            if output < self.outputs && input < self.inputs { weights[(output * self.inputs + input) * taps + tap] } else { 0 }
        })
    }
}

/// A layer's weights as a set of kernels wants them.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    packing: Packing,
    form: Form,
    groups: usize,
    /// The furthest pixel that a block reads, from the run's own pixel.
    reach: usize,
}

/// Dense or streamed.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// All blocks; see [`DenseOrder`].
    Dense {
        /// The weights.
        weights: Vec<[i8; 4]>,
        /// Offsets of the taps in pixels.
        taps: Vec<usize>,
        /// Planes of four input channels.
        planes: usize,
        /// Pixels between planes.
        plane: usize,
        /// [`DenseOrder::Channels`] only.
        runs: Runs,
    },
    /// The blocks that are not zero.
    Stream(Stream),
}

/// Where the products of four planes add up in 16 bits: for each channel and tap the number of such fours (from the first plane on;
/// what is left after the last four does not count), then, as long as fours are left, one that does not fit, and so on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Runs {
    lengths: Vec<u16>,
    /// Of each group of four channels; then the end.
    starts: Vec<u32>,
}

impl Runs {
    /// Those of a group.
    pub fn group(&self, group: usize) -> &[u16] {
        &self.lengths[self.starts[group] as usize..self.starts[group + 1] as usize]
    }

    /// Appends a channel's tap.
    fn push(&mut self, blocks: &[[i8; 4]]) {
        let mut length = 0;
        let fours = blocks.as_chunks::<4>().0;
        for (i, four) in fours.iter().enumerate() {
            if fits_in_fours(four) {
                length += 1;
            } else {
                self.lengths.push(length);
                length = 0;
                if i + 1 == fours.len() {
                    return;
                }
            }
        }
        self.lengths.push(length);
    }
}

/// Blocks of one output channel after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    quads: Vec<Quad>,
    /// For each channel the first quad whose blocks add up by fours in 16 bits, and the first that does not; then the end.
    /// Both lists start at the run's pixel. Without [`Pairs::Consecutive`] all quads are in the second list.
    starts: Vec<u32>,
}

/// Four blocks of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Quad {
    /// Pixels from the block before to this one.
    pub deltas: [u16; 4],
    /// Four weights each.
    pub weights: [[i8; 4]; 4],
}

impl Stream {
    /// The two lists of a channel: quads whose four blocks may be added in 16 bits, and the others.
    pub fn lists(&self, channel: usize) -> [&[Quad]; 2] {
        let at = |i: usize| self.starts[channel * 2 + i] as usize;
        [&self.quads[at(0)..at(1)], &self.quads[at(1)..at(2)]]
    }
}

impl Packed {
    /// Packs `weights`, `[outputs][inputs][taps]`.
    ///
    /// # Panics
    /// When `weights` does not have the shape, or holds −128 ([`Pairs`] counts on that).
    pub fn new(weights: &[i8], shape: Shape<'_>, packing: Packing) -> Self {
        assert_eq!(weights.len(), shape.outputs * shape.inputs * shape.taps.len(), "weights of {shape:?}");
        assert!(!weights.contains(&i8::MIN), "weights are in -127..=127");
        let groups = shape.outputs.div_ceil(4);
        let furthest = shape.taps.iter().max().expect("a kernel has a tap");
        let reach = (shape.planes() - 1) * shape.plane + furthest;
        let dense_blocks = groups * 4 * shape.planes() * shape.taps.len();
        let limit = packing.sparse_below[usize::from(shape.taps.len() > 1)];
        let form = match packing.dense {
            // By channels, products of four planes are added: with fewer, a stream adds those of several taps. Runs of fours are
            // counted in 16 bits.
            Some(DenseOrder::Channels) if !(4..1 << 18).contains(&shape.planes()) => {
                Form::Stream(stream(weights, &shape, groups, packing.pairs))
            }
            None => Form::Stream(stream(weights, &shape, groups, packing.pairs)),
            Some(order) => {
                let zeros = shape_blocks(&shape, groups).filter(|&(o, p, t)| shape.block(weights, o, p, t) == [0; 4]).count();
                // Filling up the last quad of a channel costs a block and a half on average.
                let streamed = dense_blocks - zeros + groups * 6;
                if (streamed as f32) < limit * dense_blocks as f32 {
                    Form::Stream(stream(weights, &shape, groups, packing.pairs))
                } else {
                    dense(weights, &shape, groups, order)
                }
            }
        };
        Self { packing, form, groups, reach }
    }

    /// What it was packed for.
    pub fn packing(&self) -> &Packing {
        &self.packing
    }

    /// Dense or streamed.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Groups of four output channels.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The furthest pixel that any block reads, counted from the run's own.
    pub fn reach(&self) -> usize {
        self.reach
    }

    /// Bytes of packed weights.
    pub fn bytes(&self) -> usize {
        match &self.form {
            Form::Dense { weights, runs, .. } => weights.len() * 4 + runs.lengths.len() * 2 + runs.starts.len() * 4,
            Form::Stream(stream) => std::mem::size_of_val(&stream.quads[..]) + stream.starts.len() * 4,
        }
    }
}

fn shape_blocks(shape: &Shape<'_>, groups: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let (planes, taps) = (shape.planes(), shape.taps.len());
    (0..groups * 4).flat_map(move |o| (0..planes).flat_map(move |p| (0..taps).map(move |t| (o, p, t))))
}

fn dense(weights: &[i8], shape: &Shape<'_>, groups: usize, order: DenseOrder) -> Form {
    let (planes, taps) = (shape.planes(), shape.taps.len());
    let mut packed = Vec::with_capacity(groups * 4 * planes * taps);
    let mut runs = Runs::default();
    match order {
        DenseOrder::Groups => {
            for (group, tap, plane) in
                (0..groups).flat_map(|g| (0..taps).flat_map(move |t| (0..planes).map(move |p| (g, t, p))))
            {
                packed.extend((0..4).map(|c| shape.block(weights, group * 4 + c, plane, tap)));
            }
        }
        DenseOrder::Channels => {
            for (output, tap) in (0..groups * 4).flat_map(|o| (0..taps).map(move |t| (o, t))) {
                if tap == 0 && output % 4 == 0 {
                    runs.starts.push(runs.lengths.len() as u32);
                }
                let start = packed.len();
                packed.extend((0..planes).map(|plane| shape.block(weights, output, plane, tap)));
                runs.push(&packed[start..]);
            }
            runs.starts.push(runs.lengths.len() as u32);
            runs.lengths.shrink_to_fit();
        }
    }
    Form::Dense { weights: packed, taps: shape.taps.to_vec(), planes, plane: shape.plane, runs }
}

/// Whether the products of the same lane of four blocks with i8 add up in 16 bits: 128 · 255 = 32,640.
fn fits_in_fours(blocks: &[[i8; 4]; 4]) -> bool {
    (0..4).all(|k| blocks.iter().map(|b| u32::from(b[k].unsigned_abs())).sum::<u32>() <= 255)
}

/// Whether both pairs of neighbouring products with u8 add up in 16 bits, whichever of them are zero: 255 · 128 = 32,640.
fn fits_in_pairs(block: [i8; 4]) -> bool {
    let fits = |a: i8, b: i8| {
        let (a, b) = (i32::from(a), i32::from(b));
        a.max(0) + b.max(0) <= 128 && a.min(0) + b.min(0) >= -128
    };
    fits(block[0], block[1]) && fits(block[2], block[3])
}

fn stream(weights: &[i8], shape: &Shape<'_>, groups: usize, pairs: Pairs) -> Stream {
    let mut taps: Vec<(usize, usize)> = shape.taps.iter().copied().enumerate().collect();
    taps.sort_by_key(|&(_, offset)| offset);
    let mut stream = Stream { quads: vec![], starts: Vec::with_capacity(groups * 8 + 1) };
    let mut blocks: Vec<(usize, [i8; 4])> = vec![];
    for output in 0..groups * 4 {
        blocks.clear();
        for plane in 0..shape.planes() {
            for &(tap, offset) in &taps {
                let block = shape.block(weights, output, plane, tap);
                let at = plane * shape.plane + offset;
                if block == [0; 4] {
                    continue;
                }
                if pairs == Pairs::Neighbours && !fits_in_pairs(block) {
                    let half = block.map(|w| w / 2);
                    blocks.push((at, half));
                    blocks.push((at, std::array::from_fn(|k| block[k] - half[k])));
                } else {
                    blocks.push((at, block));
                }
            }
        }
        stream.push(&mut blocks, pairs);
    }
    stream.starts.push(stream.quads.len() as u32);
    stream.quads.shrink_to_fit();
    stream
}

impl Stream {
    /// Appends a channel; `blocks` are offsets and weights, in any order.
    fn push(&mut self, blocks: &mut [(usize, [i8; 4])], pairs: Pairs) {
        // Taps of different phases may lie in another order than their planes' offsets.
        if !blocks.is_sorted_by_key(|b| b.0) {
            blocks.sort_by_key(|b| b.0);
        }
        let safe = |quad: &[(usize, [i8; 4])]| {
            pairs == Pairs::Consecutive && quad.as_array::<4>().is_some_and(|q| fits_in_fours(&q.map(|b| b.1)))
        };
        for list in [true, false] {
            self.starts.push(self.quads.len() as u32);
            let mut writer = Writer { quads: &mut self.quads, at: 0, filled: 0 };
            for quad in blocks.chunks(4).filter(|quad| safe(quad) == list) {
                quad.iter().for_each(|&(offset, block)| writer.block(offset, block));
            }
        }
    }
}

/// Writes blocks of one list into quads; distances too long for 16 bits are bridged by blocks of zeros.
struct Writer<'a> {
    quads: &'a mut Vec<Quad>,
    at: usize,
    filled: usize,
}

impl Writer<'_> {
    fn block(&mut self, offset: usize, block: [i8; 4]) {
        const FURTHEST: usize = u16::MAX as usize;
        while offset - self.at > FURTHEST {
            self.at += FURTHEST;
            self.put(u16::MAX, [0; 4]);
        }
        let delta = (offset - self.at) as u16;
        self.at = offset;
        self.put(delta, block);
    }

    fn put(&mut self, delta: u16, block: [i8; 4]) {
        let lane = self.filled % 4;
        if lane == 0 {
            self.quads.push(Quad::default());
        }
        let quad = self.quads.last_mut().expect("just pushed");
        (quad.deltas[lane], quad.weights[lane]) = (delta, block);
        self.filled += 1;
    }
}
