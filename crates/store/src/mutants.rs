//! Promises that are broken on purpose: the proof that the tests of promises can fail.
//!
//! With the feature `mutants`, the environment variable `TAAL_MUTANT` names the one that this process breaks. `cargo xtask crash --mutants`
//! breaks one after the other and expects the crash harness to notice each; its list has all names, which a test there compares with the code.

/// Whether this process breaks a promise.
#[cfg(feature = "mutants")]
pub fn is_broken(promise: &str) -> bool {
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("TAAL_MUTANT").ok());
    CHOSEN.as_deref() == Some(promise)
}

/// Whether this process breaks a promise: never, without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn is_broken(_promise: &str) -> bool {
    false
}
