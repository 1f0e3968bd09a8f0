//! The global allocator: jemalloc that keeps its pages, and exit code 71 when memory runs out.
//!
//! Training allocates the same large tensors in every step. By default an allocator gives such memory back to the
//! system as soon as it is free and gets it again a moment later, zeroed page by page, which takes a large part of the
//! time of a step. So jemalloc is told otherwise:
//!
//! - `dirty_decay_ms:-1,muzzy_decay_ms:-1`: it keeps what it once got;
//! - `thp:always`: it asks for huge pages, and then zeroes memory that it reuses by writing zeros. Without it, it
//!   gives large memory back even so whenever zeroed memory is asked for, because fresh pages are zero.
//!
//! One arena serves all threads: a step may run on any thread of the pool, and pages that one arena keeps are lost to
//! the others (the baby shape of `taal bench train` held 1.1 GiB with several, 0.85 GiB with one).
//!
//! Twelve steps of nanogpt-cpu with 32 x 128 tokens had 1.9 million page faults with jemalloc's own settings,
//! 1.1 million with the decay times and 3 thousand with all three, for a tenth more memory; the time inside the
//! kernel fell from 4 s to 2 s to 0.8 s. `perf stat -e page-faults taal train ...` shows it.
//!
//! A server is idle most of the time, so it gives free memory back after a while: [`give_back`], and takes no more huge
//! pages: [`end_huge_pages`].
#![cfg(not(target_env = "msvc"))]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{CStr, CString};
use std::io::Write;
use std::ptr::null_mut;
use std::time::Duration;

use tikv_jemalloc_sys::mallctl;
use tikv_jemallocator::Jemalloc;

/// jemalloc reads its settings from this pointer to a C string before `main`, so they can be said only here. A
/// reference to an array is thin, which is the layout of C's `const char *`. `_RJEM_MALLOC_CONF` in the environment
/// overrides it.
// SAFETY: the name is jemalloc's own, prefixed as the crate builds it, declared there as a weak symbol to be replaced
// in just this way.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 57] = b"narenas:1,dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always\0";

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// jemalloc, but when it has nothing to give, the program ends with the exit code that says so. Rust would abort it,
/// which a script cannot tell from a crash; nothing is lost, because files appear only when they are complete.
struct Allocator;

// SAFETY: every call is handed on to jemalloc unchanged; a null pointer never comes back.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that jemalloc's method asks for.
        given(unsafe { Jemalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { Jemalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { Jemalloc.realloc(pointer, layout, new_size) }, new_size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { Jemalloc.dealloc(pointer, layout) }
    }
}

/// How long memory stays free before it is given back, longer than a pass of a model takes.
const KEPT_MS: isize = 1000;

/// How often memory is given back where nothing is allocated, which is when jemalloc would do it by itself.
const BETWEEN: Duration = Duration::from_secs(1);

/// From now on, free memory goes back to the system after [`KEPT_MS`]. Where jemalloc refuses, memory is kept as before.
pub fn give_back() {
    let mut arenas: u32 = 0;
    let mut size = size_of::<u32>();
    // SAFETY: jemalloc writes a number of this size; both places live until the call returns.
    let read = unsafe {
        mallctl(
            c"arenas.narenas".as_ptr(),
            (&raw mut arenas).cast(),
            &raw mut size,
            null_mut(),
            0,
        )
    };
    if read != 0 {
        return;
    }
    // Those that exist, and those that are made later.
    let names = (0..arenas).map(|arena| format!("arena.{arena}."));
    for name in names.chain(["arenas.".to_owned()]) {
        for kind in ["dirty_decay_ms", "muzzy_decay_ms"] {
            if let Ok(name) = CString::new(format!("{name}{kind}")) {
                set(&name, KEPT_MS);
            }
        }
    }
    let purger = std::thread::Builder::new().name("taal-memory".to_owned());
    // Without a thread memory is given back only while something is allocated.
    let _ = purger.spawn(|| {
        loop {
            std::thread::sleep(BETWEEN);
            // SAFETY: the call takes no value; 4096 is jemalloc's number for all arenas.
            unsafe { mallctl(c"arena.4096.decay".as_ptr(), null_mut(), null_mut(), null_mut(), 0) };
        }
    });
}

/// From now on, new memory has small pages; what has huge pages by now, such as weights, keeps them. Of a huge page of which most
/// was given back, Linux otherwise makes a whole one again, so a server would hold more after every request.
#[cfg(target_os = "linux")]
pub fn end_huge_pages() {
    // SAFETY: the call takes numbers only. A kernel that does not know it refuses, and memory is as before.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1_usize, 0_usize, 0_usize, 0_usize) };
}

fn set(name: &CStr, mut value: isize) {
    // SAFETY: jemalloc reads a number of this size, which lives until the call returns. A name that it does not know is an error code.
    unsafe {
        mallctl(
            name.as_ptr(),
            null_mut(),
            null_mut(),
            (&raw mut value).cast(),
            size_of::<isize>(),
        )
    };
}

fn given(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        out_of_memory(bytes);
    }
    pointer
}

#[cold]
fn out_of_memory(bytes: usize) -> ! {
    // Standard error is not buffered, and formatting numbers into it allocates nothing.
    let mut stderr = std::io::stderr();
    let _ = writeln!(
        stderr,
        "error: out of memory: the system has no further {bytes} bytes to give"
    );
    let _ = writeln!(
        stderr,
        "hint: make train.batch_size (train.accumulation makes up for it), train.block_size or the model smaller"
    );
    std::process::exit(i32::from(crate::failure::OUT_OF_MEMORY))
}
