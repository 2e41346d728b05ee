//! What the operators of one network share: kernels, threads, and memory that is used again from one inference to the next.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tract_core::prelude::{DatumType, Tensor, TractResult};

use super::NetworkError;
use super::kernels::{Isa, Kernels, Pixel, Storage};

/// How a network is to be run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Instruction set; the fastest that this CPU has by default.
    pub isa: Option<Isa>,
    /// Threads of one inference; all cores by default. Results do not depend on it.
    pub threads: Option<usize>,
    /// Leaves a quantised network to tract's own operators, which compute it in floats on one thread: what the integers are
    /// measured against.
    pub floats: bool,
}

impl Options {
    /// One thread: for callers that run many pictures side by side.
    pub const SINGLE_THREADED: Self = Self { isa: None, threads: Some(1), floats: false };

    /// As the environment says: `PAWGATE_ISA` and `PAWGATE_THREADS`, where they are set.
    ///
    /// # Errors
    /// A sentence that names the variable, what is wrong with it, and what would do.
    pub fn from_env() -> Result<Self, String> {
        let read = |name: &str| match std::env::var(name) {
            Ok(value) if !value.is_empty() => Some(value),
            _ => None,
        };
        let isa = read("PAWGATE_ISA").map(|v| v.parse::<Isa>().map_err(|e| format!("PAWGATE_ISA: {e}"))).transpose()?;
        let threads =
            read("PAWGATE_THREADS").map(|v| parse_threads(&v).map_err(|e| format!("PAWGATE_THREADS: {e}"))).transpose()?;
        Ok(Self { isa, threads, floats: false })
    }
}

/// A number of threads as people write it.
///
/// # Errors
/// A sentence that says what would do.
pub fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=256) => Ok(threads),
        _ => Err(format!("`{text}` is no number of threads; expected 1 to 256")),
    }
}

/// Kernels, pool and memory of a network. Shared by its operators and by clones of the network.
#[derive(Debug)]
pub struct Runtime {
    kernels: &'static Kernels,
    threads: usize,
    /// None with one thread: then everything runs where it is called.
    pool: Option<ThreadPool>,
    /// Tensors that operators gave out; one whose only owner is this list is free.
    tensors: Mutex<Vec<Arc<Tensor>>>,
    scratch: Mutex<Vec<Scratch>>,
}

/// Working memory of one operator's evaluation.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The staged input.
    pub(super) staged: Pixels,
    /// Runs that have gaps between rows, one after the other for each thread.
    pub(super) runs: Pixels,
}

/// Pixels that begin with a cache line: a tensor only because tract allocates those so.
#[derive(Debug, Default)]
pub(super) struct Pixels(Tensor);

/// Bytes, and alignment, of a cache line and of the widest vector register.
pub(super) const LINE: usize = 64;

impl Pixels {
    fn reserve(&mut self, pixels: usize) -> TractResult<()> {
        if self.len() < pixels {
            self.0 = Tensor::zero_aligned_dt(DatumType::U8, &[pixels, 4], LINE)?;
        }
        Ok(())
    }
}

impl std::ops::Deref for Pixels {
    type Target = [Pixel];

    fn deref(&self) -> &[Pixel] {
        self.0.as_bytes().as_chunks().0
    }
}

impl std::ops::DerefMut for Pixels {
    fn deref_mut(&mut self) -> &mut [Pixel] {
        self.0.as_bytes_mut().as_chunks_mut().0
    }
}

impl Runtime {
    /// Starts the pool.
    ///
    /// # Errors
    /// [`NetworkError::Runtime`] when the CPU lacks the instruction set or threads cannot be started.
    pub fn new(options: Options) -> Result<Arc<Self>, NetworkError> {
        let kernels = match options.isa {
            Some(isa) => Kernels::of(isa).map_err(|e| NetworkError::Runtime(e.to_string()))?,
            None => Kernels::detect(),
        };
        let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let pool = (threads > 1)
            .then(|| ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("pawgate-nn-{i}")).build())
            .transpose()
            .map_err(|e| NetworkError::Runtime(format!("cannot start {threads} threads: {e}")))?;
        Ok(Arc::new(Self { kernels, threads, pool, tensors: Mutex::default(), scratch: Mutex::default() }))
    }

    /// The kernels in use.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// Threads of one inference.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// How activations are stored.
    pub(super) fn storage(&self) -> Storage {
        self.kernels.storage()
    }

    /// The type of stored activations.
    pub(super) fn datum_type(&self) -> DatumType {
        match self.storage() {
            Storage::U8 => DatumType::U8,
            Storage::I8 => DatumType::I8,
        }
    }

    /// Runs `work` in the pool, so that what it starts is split without waking the pool each time.
    pub(super) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Splits `items`, `size` pixels each, into as many parts as there are threads, and calls `work` with the index of a part's
    /// first item and the part. `runs` pixels of working memory are handed to each part.
    pub(super) fn split(
        &self,
        items: &mut [Pixel],
        size: usize,
        memory: (&mut [Pixel], usize),
        work: impl Fn(usize, &mut [Pixel], &mut [Pixel]) + Sync,
    ) {
        let (memory, share) = memory;
        let count = items.len() / size;
        if self.threads == 1 || count == 1 {
            return work(0, items, &mut memory[..share]);
        }
        // Equal to one item: the first `count % threads` parts get one more.
        let parts = self.threads.min(count);
        let (each, more) = (count / parts, count % parts);
        let mut rest = items;
        let mut memories = &mut memory[..];
        let mut first = 0;
        self.install(|| {
            rayon::scope(|scope| {
                for part in 0..parts {
                    let items_here = each + usize::from(part < more);
                    let (mine, others) = std::mem::take(&mut rest).split_at_mut(items_here * size);
                    let (my_memory, other_memories) = std::mem::take(&mut memories).split_at_mut(share);
                    (rest, memories) = (others, other_memories);
                    let work = &work;
                    if part + 1 == parts {
                        work(first, mine, my_memory);
                    } else {
                        scope.spawn(move |_| work(first, mine, my_memory));
                    }
                    first += items_here;
                }
            });
        });
    }

    /// Working memory of the sizes the largest operator asked for; give it back with [`Self::put_scratch`].
    pub(super) fn take_scratch(&self, staged: usize, runs: usize) -> TractResult<Scratch> {
        let mut scratch = lock(&self.scratch).pop().unwrap_or_default();
        scratch.staged.reserve(staged)?;
        scratch.runs.reserve(runs)?;
        Ok(scratch)
    }

    /// Takes working memory back.
    pub(super) fn put_scratch(&self, scratch: Scratch) {
        lock(&self.scratch).push(scratch);
    }

    /// An output tensor: one that is no longer in use, or a new one. Its contents are whatever they were.
    pub(super) fn tensor(&self, datum_type: DatumType, shape: &[usize]) -> TractResult<Arc<Tensor>> {
        let mut tensors = lock(&self.tensors);
        let fits = |t: &Arc<Tensor>| Arc::strong_count(t) == 1 && t.datum_type() == datum_type && t.shape() == shape;
        match tensors.iter().position(fits) {
            Some(index) => Ok(tensors.swap_remove(index)),
            None => Ok(Arc::new(Tensor::zero_aligned_dt(datum_type, shape, LINE)?)),
        }
    }

    /// Remembers a tensor that [`Self::tensor`] gave out, so that it can be used again when nobody else holds it.
    pub(super) fn recycle(&self, tensor: &Arc<Tensor>) {
        lock(&self.tensors).push(Arc::clone(tensor));
    }
}

/// The lists hold nothing that a panic could leave half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
