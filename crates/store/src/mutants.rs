//! Guarantees that are broken on purpose, to prove that their tests can fail.
//!
//! With the feature `mutants`, the environment variable `TAAL_MUTANT` names the guarantee that this process breaks. `cargo xtask
//! crash --mutants` breaks one after the other and expects the crash harness to notice each; its list has all names; a test there
//! compares it with the code.

/// Whether this process breaks a guarantee.
#[cfg(feature = "mutants")]
pub fn is_broken(promise: &str) -> bool {
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("TAAL_MUTANT").ok());
    CHOSEN.as_deref() == Some(promise)
}

/// Whether this process breaks a guarantee: never without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn is_broken(_promise: &str) -> bool {
    false
}
