//! Work over all threads, cut the same way whatever their number.

use burn::tensor::Device;
use rayon::prelude::*;

use crate::{Precision, with_precision};

/// Runs a piece of work on a thread of the pool, where the device computes with it. Calling operations from outside
/// the pool costs a hand-over for each one; a whole training step or the prediction of a token is handed over once. The
/// caller's [precision](crate::with_precision) goes with it: the thread's own belongs to other work, in the middle of which this may run.
///
/// Work for a GPU stays on its thread: each thread has a queue of its own there, and would wait for the others'.
///
/// ```
/// # use taal_kernels::{DeviceSpec, on_pool};
/// let device = DeviceSpec::Flex.open()?;
/// assert_eq!(on_pool(&device, || 6 * 7), 42);
/// # Ok::<(), taal_kernels::KernelError>(())
/// ```
pub fn on_pool<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    if crate::is_gpu(device) {
        work()
    } else {
        let precision = Precision::current();
        rayon::scope(|_| with_precision(precision, work))
    }
}

/// How many numbers an element-wise operation must touch before it is worth a second thread.
const PARALLEL_NUMBERS: usize = 1 << 14;

/// How many numbers of an element-wise operation are one task; even, because dropout's factors come in pairs.
const CHUNK: usize = 1 << 14;

/// Runs `work` for each of `tasks` on the threads of the pool.
pub(crate) fn for_each(tasks: usize, work: impl Fn(usize) + Sync + Send) {
    if tasks <= 1 {
        (0..tasks).for_each(work);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(work);
    }
}

/// A slice that tasks write in disjoint parts.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a, T> {
    ptr: *mut T,
    len: usize,
    lifetime: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: parts are handed out by `part`, whose callers guarantee that they are disjoint.
unsafe impl<T: Send> Send for Parts<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn new(values: &'a mut [T]) -> Self {
        Self {
            ptr: values.as_mut_ptr(),
            len: values.len(),
            lifetime: std::marker::PhantomData,
        }
    }

    /// `len` numbers from `start`.
    ///
    /// # Safety
    ///
    /// No two parts that exist at the same time may overlap.
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start + len <= self.len, "part reaches past the end");
        // SAFETY: within the slice by the assertion, disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }

    /// The first element, for code that strides.
    pub(crate) fn as_mut_ptr(&self) -> *mut T {
        self.ptr
    }
}

/// Calls `work` with the start and the part of `out` for fixed chunks of an element-wise operation.
pub(crate) fn elementwise(out: &mut [f32], work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if out.len() <= PARALLEL_NUMBERS {
        work(0, out);
    } else {
        out.par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(chunk, out)| work(chunk * CHUNK, out));
    }
}

/// How many rows of `width` numbers are one task: a function of the shape, so that partial sums over rows are the
/// same whatever the number of threads.
pub(crate) fn rows_per_task(rows: usize, width: usize) -> usize {
    const NUMBERS: usize = 1 << 13;
    // At most 64 tasks, so that the partial sums stay few.
    (NUMBERS / width.max(1)).max(rows.div_ceil(64)).max(1)
}

/// Adds rows of `width` numbers in order.
pub(crate) fn sum_rows(partial: &[f32], width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    for row in partial.chunks_exact(width) {
        for (total, x) in total.iter_mut().zip(row) {
            *total += x;
        }
    }
    total
}

/// Calls `work` with the first row and the rows of `out`, `width` numbers each, for every task.
pub(crate) fn rows(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    let per_task = rows_per_task(out.len() / width, width);
    out.par_chunks_mut(per_task * width)
        .enumerate()
        .for_each(|(task, out)| work(task * per_task, out));
}

/// The sum of each column of rows of `width` numbers: within tasks first, then over tasks in order.
pub(crate) fn column_sums(x: &[f32], width: usize) -> Vec<f32> {
    let per_task = rows_per_task(x.len() / width, width);
    let partial: Vec<Vec<f32>> = x
        .par_chunks(per_task * width)
        .map(|rows| sum_rows(rows, width))
        .collect();
    sum_rows(&partial.concat(), width)
}
