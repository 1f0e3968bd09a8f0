//! Hostile inputs for every parser of Taal: a seeded mutator, one target a parser, crash inputs kept as tests.
//!
//! An execution is a function of (seed, target, index): [`mutate::input`] makes its bytes, [`run::execute`] gives them to the target and
//! tells whether it panicked and how much memory it took at its peak. The program `taal-fuzz` runs targets in child processes, so that
//! an abort or a full stack is a finding too, and writes each input that breaks something into `regressions/TARGET/`, from where
//! `tests/fuzz.rs` replays it for ever.

pub mod allocation;
pub mod mutate;
pub mod run;
pub mod scratch;
mod seeds;
mod targets;

pub use targets::{Target, targets};

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    targets().iter().find(|target| target.name == name)
}

/// Gives an input to the target of a name; for libFuzzer, which sees panics itself and has its own limit on memory.
///
/// # Panics
///
/// Where the target does, and where there is none of that name.
pub fn run_named(name: &str, input: &[u8]) {
    let target = target(name).unwrap_or_else(|| panic!("no target {name}"));
    (target.run)(input);
}
