//! Where templates run: on threads with enough stack for what they can build.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::thread::{self, Builder};

use crate::tokenizer::caught;
use crate::{Error, Result};

/// Stack for each unit of fuel. A list within a list takes one and a half of them, and stack when it is compared with another one (at most
/// 520 bytes for a level of both in an optimized build) and when it is dropped (75 bytes).
const BYTES_PER_FUEL: u64 = 512;
/// Stack of a rendering for all else.
const BYTES: u64 = 2 << 20;
/// Stack for the work around many renderings: as much as main threads have.
const WORK_BYTES: u64 = 8 << 20;
/// The fuel of the renderings that share a thread: that of 100 messages with 400 kB of text. The system gives memory only for the part of a
/// stack that is used.
const SHARED_FUEL: u64 = 400_000;

thread_local! {
    /// The fuel that this thread has stack for.
    static ROOM: Cell<u64> = const { Cell::new(0) };
}

/// Does work in which many conversations are rendered, such as the rows of a file. It runs on one thread that has enough stack for most
/// renderings, which otherwise start a thread each. Very long conversations still have a thread of their own, and so do renderings on
/// threads that the work starts.
///
/// ```
/// use taal_tokenizer::chat::{self, ChatFiles, ChatInput, Message};
///
/// let template = ChatFiles::new("{{ messages[0].content }}").template()?;
/// let input = ChatInput { messages: vec![Message::new("user", "Dag!")], ..ChatInput::default() };
/// let texts = chat::on_rendering_thread(|| (0..1000).map(|_| template.render(&input)).collect::<Result<Vec<_>, _>>())?;
/// assert_eq!(texts.len(), 1000);
/// # Ok::<(), taal_tokenizer::Error>(())
/// ```
pub fn on_rendering_thread<T: Send>(work: impl Fn() -> T + Sync) -> T {
    if ROOM.get() > 0 {
        return work();
    }
    let stack = usize::try_from(WORK_BYTES + bytes_for(SHARED_FUEL)).unwrap_or(usize::MAX);
    let done = thread::scope(|scope| {
        let thread = Builder::new().name("chat-templates".to_owned()).stack_size(stack);
        let thread = thread.spawn_scoped(scope, || {
            ROOM.set(SHARED_FUEL);
            work()
        });
        Some(thread.ok()?.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    // Where no such thread starts, each rendering asks for a smaller one.
    done.unwrap_or_else(work)
}

/// Runs a rendering that has this much fuel: on this thread if it has enough stack, or else on its own, because values within values take
/// stack where they are compared and dropped. A panic of the library is an error.
pub(super) fn with_stack<T: Send>(fuel: u64, render: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let render = || {
        caught(render).unwrap_or_else(|| {
            Err(Error::Template {
                detail: "minijinja, the library that runs it, fails on it; correct the template, or use another one"
                    .to_owned(),
            })
        })
    };
    if fuel <= ROOM.get() {
        return render();
    }
    let stack = usize::try_from(bytes_for(fuel)).unwrap_or(usize::MAX);
    thread::scope(|scope| {
        let thread = Builder::new().name("chat-template".to_owned()).stack_size(stack);
        let thread = thread.spawn_scoped(scope, render);
        let thread = thread.map_err(|source| Error::Template {
            detail: format!("no thread with {} MiB of stack starts for it: {source}", stack >> 20),
        })?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn bytes_for(fuel: u64) -> u64 {
    BYTES + fuel * BYTES_PER_FUEL
}
