//! Bringing an input into the form in which a convolution reads it with unit stride: borders padded, strides split into phases.
//!
//! A k×k or strided convolution reads, for the output pixel (y, x) and the tap (ky, kx), the input pixel
//! (y · s + ky − top, x · s + kx − left). Staging copies each plane into s × s *phases* (phase (ky mod s, kx mod s) holds the pixels
//! of that remainder, border included), all rows of a phase [`Staging::row`] pixels apart. Then a tap is one offset, the same for
//! all output pixels, counted through rows and columns alike: pixel y · row + x. Between two rows the border is shared: the
//! pixels after a row's end are those before the next one's start, as both mean padding. 1×1 convolutions without stride need no staging.

use super::Pixel;

/// Kernel size, stride and padding of a window over a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Height and width in pixels.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Padding: top, left, bottom, right.
    pub pads: [usize; 4],
}

impl Window {
    /// Output height and width for an input of `size`, or nothing when the window does not fit into it.
    pub fn output(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let along = |i: usize| {
            let room = (size[i] + self.pads[i] + self.pads[i + 2]).checked_sub(self.kernel[i])?;
            room.checked_div(self.stride[i]).map(|steps| steps + 1)
        };
        Some([along(0)?, along(1)?])
    }

    /// Whether the input can be read as it is.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pads == [0; 4]
    }
}

/// One axis of a staged phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    /// Which phase this is.
    phase: usize,
    /// Padding before the first pixel that comes from the input.
    before: usize,
    /// The first input coordinate.
    first: usize,
    /// Pixels that come from the input.
    count: usize,
    /// Pixels that taps of this phase read: `before`, `count`, and padding after it.
    length: usize,
}

impl Axis {
    fn new(phase: usize, kernel: usize, stride: usize, pad: usize, size: usize, output: usize) -> Self {
        let taps = (kernel - phase).div_ceil(stride);
        let length = output + taps - 1;
        let before = pad.saturating_sub(phase).div_ceil(stride);
        let first = before * stride + phase - pad;
        let count = size.saturating_sub(first).div_ceil(stride).min(length.saturating_sub(before));
        Self { phase, before: before.min(length), first, count, length }
    }

    fn after(&self) -> usize {
        self.length.saturating_sub(self.before + self.count)
    }
}

/// How one layer's input is staged, and how its output comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staging {
    window: Window,
    input: [usize; 2],
    output: [usize; 2],
    row: usize,
    plane: usize,
    phases: Vec<(Axis, Axis)>,
    taps: Vec<usize>,
}

impl Staging {
    /// Plans the staging of a picture of `input` height and width.
    ///
    /// # Panics
    /// When the window does not fit into the input; check [`Window::output`] first.
    pub fn new(window: Window, input: [usize; 2]) -> Self {
        let output = window.output(input).expect("the window fits");
        let ([kh, kw], [sh, sw]) = (window.kernel, window.stride);
        let rows = (0..kh.min(sh)).map(|p| Axis::new(p, kh, sh, window.pads[0], input[0], output[0]));
        let columns: Vec<Axis> = (0..kw.min(sw)).map(|p| Axis::new(p, kw, sw, window.pads[1], input[1], output[1])).collect();
        let row = columns.iter().map(|c| c.length - c.before.min(c.after())).max().expect("at least one column phase");
        let height = (0..kh.min(sh)).map(|p| output[0] + (kh - p).div_ceil(sh) - 1).max().expect("at least one row phase");
        let width = columns.iter().map(|c| c.length).max().expect("at least one column phase");
        let plane = (height - 1) * row + width;
        let phases: Vec<_> = rows.flat_map(|r| columns.iter().map(move |&c| (r, c))).collect();
        let offset = |ky: usize, kx: usize| {
            let phase =
                phases.iter().position(|(r, c)| (r.phase, c.phase) == (ky % sh, kx % sw)).expect("every tap has a phase");
            phase * plane + (ky / sh) * row + kx / sw
        };
        let taps = (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))).map(|(ky, kx)| offset(ky, kx)).collect();
        Self { window, input, output, row, plane, phases, taps }
    }

    /// Output height and width.
    pub fn output(&self) -> [usize; 2] {
        self.output
    }

    /// Pixels between the starts of two output rows as kernels count them.
    pub fn row(&self) -> usize {
        self.row
    }

    /// Staged pixels of one plane of four channels.
    pub fn stride(&self) -> usize {
        self.plane * self.phases.len()
    }

    /// Offset of each tap within a staged plane, in the order of the kernel's rows and columns.
    pub fn taps(&self) -> &[usize] {
        &self.taps
    }

    /// Output pixels as kernels count them: from the first of the first row to the last of the last row.
    pub fn run(&self) -> usize {
        (self.output[0] - 1) * self.row + self.output[1]
    }

    /// Pixels to allocate for `planes` staged planes, when runs are rounded up to `lanes`.
    pub fn scratch(&self, planes: usize, lanes: usize) -> usize {
        let last = self.taps.iter().max().expect("at least one tap");
        (planes * self.stride()).max((planes - 1) * self.stride() + last + self.run().next_multiple_of(lanes))
    }

    /// Copies one plane. `staged` holds [`Self::stride`] pixels.
    pub fn fill(&self, plane: &[Pixel], padding: Pixel, staged: &mut [Pixel]) {
        let [_, width] = self.input;
        let [sh, sw] = self.window.stride;
        for ((rows, columns), staged) in self.phases.iter().zip(staged.chunks_exact_mut(self.plane)) {
            let (above, rest) = staged.split_at_mut(rows.before * self.row);
            above.fill(padding);
            let (lines, below) = rest.split_at_mut((rows.count * self.row).min(rest.len()));
            below.fill(padding);
            for (y, line) in lines.chunks_mut(self.row).enumerate() {
                // A phase of a narrow picture may hold nothing but padding.
                let source = plane[(rows.first + y * sh) * width..][..width].get(columns.first..).unwrap_or(&[]);
                let (before, line) = line.split_at_mut(columns.before);
                let (target, after) = line.split_at_mut(columns.count);
                before.fill(padding);
                after.fill(padding);
                pick(source, sw, target);
            }
        }
    }

    /// Copies a run that begins at `first` (as kernels count) into a plane of output pixels without gaps.
    pub fn scatter(&self, first: usize, run: &[Pixel], plane: &mut [Pixel]) {
        self.segments(first, run.len(), |at, dense, length| {
            plane[dense..][..length].copy_from_slice(&run[at..][..length]);
        });
    }

    /// The reverse of [`Self::scatter`]: brings a plane without gaps under a run. Pixels between rows keep what they hold.
    pub fn gather(&self, first: usize, plane: &[Pixel], run: &mut [Pixel]) {
        self.segments(first, run.len(), |at, dense, length| {
            run[at..][..length].copy_from_slice(&plane[dense..][..length]);
        });
    }

    /// Calls with (index in the run, index in the plane, length) for every piece of a row.
    fn segments(&self, first: usize, length: usize, mut piece: impl FnMut(usize, usize, usize)) {
        let [height, width] = self.output;
        for y in first / self.row..height {
            let start = y * self.row;
            if start >= first + length {
                break;
            }
            let (from, to) = (start.max(first), (start + width).min(first + length));
            if from < to {
                piece(from - first, y * width + from - start, to - from);
            }
        }
    }
}

/// Every `stride`-th pixel of `source`.
fn pick(source: &[Pixel], stride: usize, target: &mut [Pixel]) {
    match stride {
        1 => target.copy_from_slice(&source[..target.len()]),
        2 => {
            // In pairs, which compilers turn into shuffles; the last pixel may have no other after it.
            let (pairs, rest) = source.as_chunks::<2>();
            let last = target.len().min(pairs.len());
            target.iter_mut().zip(pairs).for_each(|(t, pair)| *t = pair[0]);
            target[last..].iter_mut().zip(rest).for_each(|(t, s)| *t = *s);
        }
        _ => target.iter_mut().zip(source.iter().step_by(stride)).for_each(|(t, s)| *t = *s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every tap of every output pixel, straight from the definition.
    fn check(window: Window, input: [usize; 2]) {
        let pixel = |y: usize, x: usize| [y as u8, x as u8, 1, 2];
        let plane: Vec<Pixel> = (0..input[0]).flat_map(|y| (0..input[1]).map(move |x| pixel(y, x))).collect();
        let staging = Staging::new(window, input);
        let mut staged = vec![[77; 4]; staging.scratch(1, 16)];
        staging.fill(&plane, [255; 4], &mut staged[..staging.stride()]);
        let [kh, kw] = window.kernel;
        for (y, x) in (0..staging.output()[0]).flat_map(|y| (0..staging.output()[1]).map(move |x| (y, x))) {
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                let source = |i: usize, o: usize, k: usize| (o * window.stride[i] + k).checked_sub(window.pads[i]);
                let expected = match (source(0, y, ky), source(1, x, kx)) {
                    (Some(y), Some(x)) if y < input[0] && x < input[1] => pixel(y, x),
                    _ => [255; 4],
                };
                let found = staged[staging.taps()[ky * kw + kx] + y * staging.row() + x];
                assert_eq!(found, expected, "{window:?} on {input:?}: output ({y}, {x}), tap ({ky}, {kx})");
            }
        }
    }

    #[test]
    fn taps_find_their_pixels() {
        let windows = [
            ([3, 3], [1, 1], [1, 1, 1, 1]),
            ([3, 3], [2, 2], [1, 1, 1, 1]),
            ([3, 3], [2, 2], [0, 0, 1, 1]),
            ([7, 7], [2, 2], [3, 3, 3, 3]),
            ([1, 1], [2, 2], [0, 0, 0, 0]),
            ([5, 3], [1, 2], [2, 0, 1, 2]),
            ([3, 3], [3, 1], [0, 1, 0, 0]),
            ([2, 2], [2, 2], [0, 0, 0, 0]),
            ([1, 3], [1, 1], [0, 2, 0, 0]),
            ([3, 3], [1, 1], [2, 2, 2, 2]),
            ([2, 5], [3, 4], [1, 4, 2, 1]),
            ([4, 4], [3, 3], [3, 3, 3, 3]),
        ];
        for (kernel, stride, pads) in windows {
            for input in [[7, 7], [8, 9], [14, 5], [5, 6], [3, 3], [1, 1], [2, 1]] {
                let window = Window { kernel, stride, pads };
                if window.output(input).is_some() {
                    check(window, input);
                }
            }
        }
    }

    #[test]
    fn borders_between_rows_are_shared() {
        let same = Window { kernel: [3, 3], stride: [1, 1], pads: [1; 4] };
        assert_eq!(Staging::new(same, [14, 14]).row(), 15);
        let end = Window { kernel: [3, 3], stride: [2, 2], pads: [0, 0, 1, 1] };
        assert_eq!(Staging::new(end, [112, 112]).output(), [56, 56]);
    }

    #[test]
    fn runs_come_back_without_gaps() {
        let staging = Staging::new(Window { kernel: [3, 3], stride: [1, 1], pads: [1; 4] }, [4, 5]);
        let run: Vec<Pixel> = (0..staging.run()).map(|i| [i as u8; 4]).collect();
        let mut plane = vec![[99; 4]; 20];
        // In pieces that begin and end anywhere.
        for (first, end) in [(0, 3), (3, 5), (5, 6), (6, 17), (17, run.len())] {
            staging.scatter(first, &run[first..end], &mut plane);
        }
        let expected: Vec<Pixel> = (0..4).flat_map(|y| (0..5).map(move |x| [(y * staging_row() + x) as u8; 4])).collect();
        assert_eq!(plane, expected);
        let mut back = vec![[99; 4]; run.len()];
        staging.gather(0, &plane, &mut back);
        for (i, pixel) in back.iter().enumerate() {
            assert_eq!(*pixel, if i % 6 < 5 { run[i] } else { [99; 4] });
        }
    }

    fn staging_row() -> usize {
        6
    }
}
