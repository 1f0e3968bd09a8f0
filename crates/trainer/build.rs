//! Tells the crate which versions of its dependencies it is built with: a hash of `Cargo.lock`, if there is one.

use std::hash::{DefaultHasher, Hash, Hasher};

fn main() {
    let path = "../../Cargo.lock";
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={path}");
    let hash = std::fs::read(path).map_or(String::new(), |bytes| {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    });
    println!("cargo::rustc-env=TAAL_LOCK_HASH={hash}");
}
