//! `taal serve`: models over HTTP, until a signal comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use taal_inference::EngineOptions;
use taal_server::{ServedModel, Server, ServerOptions, Stopper};

use crate::arguments::ServeArguments;
use crate::failure::Failure;
use crate::{models, terminal};

/// The variable with the key, where no file is named.
const KEY: &str = "TAAL_API_KEY";

/// Bytes of a file with a key.
const MAX_KEY_BYTES: u64 = 4096;

/// Serves.
pub fn run(arguments: &ServeArguments) -> Result<(), Failure> {
    let options = ServerOptions {
        host: arguments.host.clone(),
        port: arguments.port,
        key: key(arguments)?,
        queue_timeout: Duration::from_secs(arguments.queue_seconds),
        stop_timeout: Duration::from_secs(arguments.stop_seconds),
        ..ServerOptions::default()
    };
    // Loading models takes longer than finding out that the address is taken.
    Server::check(&options)?;
    let mut models = Vec::new();
    for model in &arguments.model {
        let lm = models::open_with(&model.dir, arguments.device.device, arguments.weights)?;
        let lm = models::with_cache(lm, arguments.cache)?;
        let engine = EngineOptions {
            slots: arguments.slots,
            context: arguments.context,
            queue: arguments.queue,
            ..EngineOptions::default()
        };
        models.push(ServedModel::start(&model.request_name(), Arc::new(lm), engine)?);
    }
    let names: Vec<String> = arguments.model.iter().map(|model| model.request_name()).collect();
    let mut server = Server::bind(models, options)?;
    if arguments.log {
        server = server.on_request(|record| {
            if let Ok(line) = serde_json::to_string(record) {
                terminal::message(&line);
            }
        });
    }
    listen(server.stopper())?;
    // On standard output, so that a program that starts the server can read the address.
    terminal::print(&format!(
        "serving {} at http://{}\n",
        names.join(", "),
        server.address()
    ))?;
    if !server.run() {
        terminal::message("some answers were cut off: they took longer than --stop-seconds");
    }
    Ok(())
}

/// The first signal stops the server once its answers are finished, the second at once.
fn listen(stopper: Stopper) -> Result<(), Failure> {
    let is_asked = AtomicBool::new(false);
    Ok(ctrlc::set_handler(move || {
        if is_asked.swap(true, Ordering::SeqCst) {
            std::process::exit(0);
        }
        terminal::message("stopping after the answers under way; once more stops at once");
        stopper.stop();
    })?)
}

fn key(arguments: &ServeArguments) -> Result<Option<String>, Failure> {
    match &arguments.api_key_file {
        Some(path) => {
            let text = taal_store::read_text(path, MAX_KEY_BYTES)?;
            Ok(Some(text.trim().to_owned()))
        }
        None => Ok(std::env::var(KEY).ok().filter(|key| !key.is_empty())),
    }
}
