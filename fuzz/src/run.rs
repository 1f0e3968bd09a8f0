//! One monitored execution of a target.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::Target;
use crate::allocation::peak_bytes_of;

/// Memory that any input may take in addition to its size.
pub const FREE_BYTES: usize = 64 << 20;

/// The result of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Whether the target accepted the input.
    pub is_accepted: bool,
    /// What is wrong: a panic, or too much memory.
    pub fault: Option<String>,
    /// Memory at the peak.
    pub peak_bytes: usize,
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic of this thread is recorded and not printed. Parsers that turn panics of a library into errors
/// would print many.
fn watched<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_WATCHED.get() {
                LAST_PANIC.set(panic.to_string().replace('\n', " "));
            } else {
                usual(panic);
            }
        }));
    });
    IS_WATCHED.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_WATCHED.set(false);
    result.map_err(|_| LAST_PANIC.take())
}

/// Runs a target on an input.
pub fn execute(target: &Target, input: &[u8]) -> Execution {
    let (result, peak_bytes) = peak_bytes_of(|| watched(|| (target.run)(input)));
    let limit_bytes = input.len() + FREE_BYTES;
    let fault = match result {
        Err(ref panic) => Some(panic.clone()),
        Ok(_) if peak_bytes > limit_bytes => Some(format!(
            "{peak_bytes} bytes of memory for an input of {} bytes; at most {limit_bytes} are allowed",
            input.len()
        )),
        Ok(_) => None,
    };
    Execution {
        is_accepted: result.unwrap_or(false),
        fault,
        peak_bytes,
    }
}

/// Runs every seed once, so that one-time initialization is not counted as memory.
pub fn warm_up(target: &Target) {
    for seed in target.seeds() {
        // Errors of a seed are reported by its execution.
        let _ = watched(|| (target.run)(seed));
    }
}
