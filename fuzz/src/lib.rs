//! Hostile inputs for every parser of Taal: a seeded mutator, one target per parser, crash inputs kept as tests.
//!
//! An execution is a function of (seed, target, index): [`mutate::input`] makes its bytes, [`run::execute`] gives them to the
//! target and reports panics and peak memory. The program `taal-fuzz` runs targets in child processes, so that aborts and stack
//! overflows are also findings, and writes each input that breaks something to `regressions/TARGET/`; `tests/fuzz.rs` replays
//! them.

pub mod allocation;
pub mod mutate;
pub mod run;
pub mod scratch;
mod seeds;
mod targets;
mod words;

pub use targets::{Target, targets};

/// The target with a name.
pub fn target(name: &str) -> Option<&'static Target> {
    targets().iter().find(|target| target.name == name)
}

/// Runs the named target on an input. For libFuzzer, which catches panics and limits memory itself.
///
/// # Panics
///
/// If the target panics, or does not exist.
pub fn run_named(name: &str, input: &[u8]) {
    let target = target(name).unwrap_or_else(|| panic!("no target {name}"));
    (target.run)(input);
}
