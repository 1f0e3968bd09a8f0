//! Tests of the faulty file system itself: what a crash leaves, and what fails when.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use taal_store::{Fate, Fault, FaultVfs, Vfs, current_vfs, with_vfs};

fn content(disk: &FaultVfs, path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    disk.open(Path::new(path)).ok()?.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A file of one sector of `a`, durable, with a second sector of `b` and a new name that are not.
fn half_synced() -> FaultVfs {
    let disk = FaultVfs::new();
    let mut file = disk.create_new(Path::new("/old")).unwrap();
    file.write_all(&[b'a'; 512]).unwrap();
    file.fsync().unwrap();
    disk.fsync_dir(Path::new("/")).unwrap();
    file.write_all(&[b'b'; 512]).unwrap();
    disk.rename(Path::new("/old"), Path::new("/new")).unwrap();
    disk
}

#[test]
fn unsynced_changes_are_kept_or_dropped_whole() {
    let disk = half_synced();
    let kept = disk.after_crash(Fate::Kept, 0);
    assert_eq!(
        (content(&kept, "/old"), content(&kept, "/new").unwrap().len()),
        (None, 1024)
    );
    let dropped = disk.after_crash(Fate::Dropped, 0);
    assert_eq!(content(&dropped, "/old"), Some(vec![b'a'; 512]));
    assert_eq!(content(&dropped, "/new"), None);
}

#[test]
fn a_torn_file_keeps_what_was_durable_and_a_torn_directory_one_of_two_names() {
    let disk = half_synced();
    let mut seconds = std::collections::BTreeSet::new();
    let mut names = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let torn = disk.after_crash(Fate::Torn, seed);
        let (old, new) = (content(&torn, "/old"), content(&torn, "/new"));
        assert!(old.is_some() != new.is_some(), "a rename is never half done");
        names.insert(old.is_some());
        let bytes = old.or(new).unwrap();
        assert!(
            bytes.len() >= 512 && bytes[..512] == [b'a'; 512],
            "durable bytes are gone"
        );
        seconds.extend(bytes.get(600).copied());
    }
    assert_eq!(names.len(), 2);
    assert_eq!(seconds.into_iter().collect::<Vec<_>>(), [0, b'b']);
}

#[test]
fn faults_happen_where_requested() {
    for (fault, lengths) in [
        (Fault::Full, [0, 10, 20]),
        (Fault::FullForGood, [0, 0, 0]),
        (Fault::Broken, [0, 10, 20]),
        (Fault::ShortWrite, [5, 5, 15]),
        (Fault::Crash, [5, 5, 5]),
    ] {
        let disk = FaultVfs::new();
        let mut file = disk.create_new(Path::new("/file")).unwrap();
        disk.fail_at(1, fault);
        for expected in lengths {
            let _ = file.write(&[1; 10]);
            let survived = disk.after_crash(Fate::Kept, 0);
            assert_eq!(content(&survived, "/file").unwrap().len(), expected, "{fault:?}");
        }
        assert_eq!(disk.is_crashed(), fault == Fault::Crash);
    }
}

#[test]
fn a_crash_frees_locks_and_a_thread_has_its_file_system_for_a_time_only() {
    let disk = FaultVfs::new();
    let root = Path::new("/");
    let on = |disk: &FaultVfs, work: &dyn Fn()| with_vfs(Some(Arc::new(disk.clone())), work);
    on(&disk, &|| {
        let lock = taal_store::RunLock::acquire(root).unwrap();
        assert!(taal_store::RunLock::acquire(root).is_err());
        on(&disk.after_crash(Fate::Kept, 0), &|| {
            drop(taal_store::RunLock::acquire(root).unwrap())
        });
        drop(lock);
        taal_store::RunLock::acquire(root).unwrap();
    });
    assert!(current_vfs().is_none());
}

#[test]
fn links_are_followed() {
    let disk = FaultVfs::new();
    with_vfs(Some(Arc::new(disk.clone())), || {
        taal_store::create_dir_all(Path::new("/run/checkpoints/a/model")).unwrap();
        taal_store::write_atomic(Path::new("/run/checkpoints/a/model/x"), b"1").unwrap();
        taal_store::publish_link(Path::new("/run/checkpoints/a/model"), Path::new("/run/model")).unwrap();
        assert_eq!(taal_store::read(Path::new("/run/model/x"), 9).unwrap(), b"1");
        assert_eq!(taal_store::list_dir(Path::new("/run/model")).unwrap(), ["x"]);
    });
    let canonical = disk.canonicalize(Path::new("/run/model/x")).unwrap();
    assert_eq!(canonical, Path::new("/run/checkpoints/a/model/x"));
}
