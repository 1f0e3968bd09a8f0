//! Switches that break this product on purpose, one promise each: the proof that the tests of its promises can fail.
//!
//! Without the feature `mutants` every switch is off and costs nothing. With it, the environment variable `TAAL_MUTANT` names the one
//! that is on. `cargo xtask crash --mutants` turns on one after the other and expects the crash harness to notice each.

/// A promise that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutant {
    /// A replaced file is renamed into place without being synced.
    FileFsync,
    /// After that rename the directory is not synced.
    FileDirFsync,
    /// The files of a new directory are not synced.
    TreeFileFsync,
    /// The directories inside a new directory are not synced.
    TreeDirFsync,
    /// After a new directory was renamed into place, the directory that holds it is not synced.
    TreeParentFsync,
    /// A directory that was made along a path is not synced into its parent.
    CreateDirFsync,
    /// The log of steps is not synced before a checkpoint counts on it.
    LogFsync,
    /// After the link to the best model was replaced, its directory is not synced.
    LinkFsync,
    /// A checkpoint that is to be removed is emptied before its disappearance is durable.
    RetireFsync,
    /// A new directory is written under its final name.
    NoTemporary,
    /// Files are taken for what the manifest says without being compared with it.
    ManifestCheck,
    /// Blocks of a shard are taken for what its table says without being compared with it.
    ShardCheck,
    /// The lock of a run directory is not taken.
    Lock,
    /// Old checkpoints are removed before the new one is durable.
    PruneFirst,
    /// A step whose gradient is not finite is multiplied by zero instead of left out.
    MultiplyBadStep,
    /// Weights and moments are saved without a look at whether they are finite.
    SaveNonFinite,
    /// A resumed run does not compare its data with those it began with.
    DataCheck,
    /// A full disk ends the run at the first failed save.
    NoSecondSave,
    /// The random stream of a resumed run begins anew.
    RestartData,
}

impl Mutant {
    /// Every mutant with its name.
    pub const ALL: [(&'static str, Self); 19] = [
        ("file-fsync", Self::FileFsync),
        ("file-dir-fsync", Self::FileDirFsync),
        ("tree-file-fsync", Self::TreeFileFsync),
        ("tree-dir-fsync", Self::TreeDirFsync),
        ("tree-parent-fsync", Self::TreeParentFsync),
        ("create-dir-fsync", Self::CreateDirFsync),
        ("log-fsync", Self::LogFsync),
        ("link-fsync", Self::LinkFsync),
        ("retire-fsync", Self::RetireFsync),
        ("no-temporary", Self::NoTemporary),
        ("manifest-check", Self::ManifestCheck),
        ("shard-check", Self::ShardCheck),
        ("lock", Self::Lock),
        ("prune-first", Self::PruneFirst),
        ("multiply-bad-step", Self::MultiplyBadStep),
        ("save-non-finite", Self::SaveNonFinite),
        ("data-check", Self::DataCheck),
        ("no-second-save", Self::NoSecondSave),
        ("restart-data", Self::RestartData),
    ];

    /// Whether this promise is broken in this process.
    #[cfg(feature = "mutants")]
    pub fn is_on(self) -> bool {
        use std::sync::OnceLock;
        static CHOSEN: OnceLock<Option<Mutant>> = OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| {
            let name = std::env::var("TAAL_MUTANT").ok().filter(|name| !name.is_empty())?;
            let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
            // A switch that does nothing would prove nothing.
            Some(
                found
                    .unwrap_or_else(|| panic!("TAAL_MUTANT={name}: there is no such mutant"))
                    .1,
            )
        });
        *chosen == Some(self)
    }

    /// Whether this promise is broken in this process: never, without the feature `mutants`.
    #[cfg(not(feature = "mutants"))]
    #[inline]
    pub const fn is_on(self) -> bool {
        false
    }
}
