//! Saves a checkpoint under a lock, publishes it, and detects that it was changed.
//!
//! `cargo run -p taal-store --example checkpoint`

use std::error::Error;

use taal_store::{AtomicDir, Manifest, RunLock, create_dir_all, publish_link, remove_temporaries};

fn main() -> Result<(), Box<dyn Error>> {
    let run = tempfile::tempdir()?;
    let checkpoints = run.path().join("checkpoints");
    create_dir_all(&checkpoints)?;

    let _lock = RunLock::acquire(run.path())?;
    match RunLock::acquire(run.path()) {
        Ok(_) => println!("two processes share the run directory"),
        Err(error) => println!("a second trainer is told: {error}"),
    }

    remove_temporaries(&checkpoints)?;
    let step = AtomicDir::create(&checkpoints.join("step-00000010"))?;
    step.write("model/model.safetensors", &[0; 1024])?;
    step.write("train_state.json", b"{\"step\":10}")?;
    Manifest::write(step.path(), serde_json::json!({ "step": 10 }))?;
    step.commit()?;
    let saved = checkpoints.join("step-00000010");
    publish_link(&saved.join("model"), &run.path().join("model"))?;

    let manifest = Manifest::verify(&saved)?;
    for file in &manifest.files {
        println!("{:>6} bytes  {}  {}", file.bytes, &file.blake3[..16], file.path);
    }

    std::fs::write(saved.join("train_state.json"), b"{\"step\":11}")?;
    if let Err(error) = Manifest::verify(&saved) {
        println!("after a change: {error}");
    }
    Ok(())
}
