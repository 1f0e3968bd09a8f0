//! `taal serve`: models over HTTP, until a signal comes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use taal_inference::{Draft, EngineOptions, LanguageModel, SpeculativeOptions};
use taal_kernels::DeviceSpec;
use taal_metrics::energy::{Meter, MeterOptions, SystemClock, nvidia_gpus};
use taal_server::{ServedModel, Server, ServerOptions, Stopper};
use taal_store::layout::MODEL_DIR;
use taal_trainer::Checkpoints;

use crate::arguments::{
    CacheArgument, NamedAdapter, NamedModel, Priority, ServeArguments, WeightsArgument, open_draft, validate_draft,
};
use crate::energy::{Kept, Place};
use crate::failure::Failure;
use crate::{models, terminal};

/// The nice level of a server that lets a training go first: what is left of the processors is its share.
const NICE: i32 = 19;

/// The variable with the key, where no file is named.
const KEY: &str = "TAAL_API_KEY";

/// Where a folder is expected: none.
const NONE: &str = "none";

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
    if arguments.run.is_some() && arguments.priority == Priority::Train {
        let_others_first();
    }
    #[cfg(not(target_env = "msvc"))]
    crate::allocator::give_back();
    let engine = EngineOptions {
        slots: arguments.slots,
        context: arguments.context,
        queue: arguments.queue,
        ..EngineOptions::default()
    };
    let opener = Opener {
        device: arguments.device.device,
        weights: arguments.weights,
        cache: arguments.cache,
    };
    check_adapters(arguments)?;
    let drafts = Drafts::of(arguments)?;
    let mut models = Vec::new();
    for (index, model) in arguments.model.iter().enumerate() {
        let name = model.request_name();
        let of_model = |adapter: &&NamedAdapter| adapter.model.as_ref().map_or(index == 0, |wanted| *wanted == name);
        let adapters = arguments.adapter.iter().filter(of_model);
        let lm = opener.open_with_adapters(&model.dir, adapters)?;
        note_context(&name, &lm, arguments.context);
        let engine = EngineOptions {
            speculation: drafts.speculation(&name, &lm, &model.dir)?,
            ..engine.clone()
        };
        let served = ServedModel::start(&name, lm, engine)?;
        let adapters = served.adapters();
        models.push(served);
        models.extend(adapters);
    }
    if let Some(run) = &arguments.run {
        let (run_dir, name) = (run.dir.clone(), run.request_name());
        let newest = Newest::new(opener, run_dir);
        let lm = newest.first()?;
        note_context(&name, &lm, arguments.context);
        let engine = EngineOptions {
            speculation: drafts.speculation(&name, &lm, &run.dir)?,
            ..engine
        };
        models.push(ServedModel::start(&name, lm, engine)?.renewed_by(move || newest.newer()));
    }
    #[cfg(target_os = "linux")]
    crate::allocator::end_huge_pages();
    let names: Vec<String> = models.iter().map(|model| model.name().to_owned()).collect();
    let mut server = keeping(
        metered(Server::bind(models, options)?, arguments.device.device),
        arguments.conversations.as_deref(),
    )?;
    if arguments.runs != Path::new(NONE) {
        server = server.with_runs(&arguments.runs);
    }
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

/// Says where `--context` asks for more than a model has.
fn note_context(name: &str, lm: &LanguageModel, wanted: Option<usize>) {
    let limit = lm.model.config().context_limit();
    if let (Some(wanted), Some(limit)) = (wanted, limit)
        && wanted > limit
    {
        terminal::message(&format!(
            "note: --context {wanted} is more than {name} has: it reads {limit} tokens"
        ));
    }
}

/// How models are opened.
#[derive(Clone, Copy)]
struct Opener {
    device: taal_kernels::DeviceSpec,
    weights: WeightsArgument,
    cache: CacheArgument,
}

impl Opener {
    fn open(&self, dir: &Path) -> Result<Arc<LanguageModel>, Failure> {
        self.open_with_adapters(dir, [])
    }

    fn open_with_adapters<'a>(
        &self,
        dir: &Path,
        adapters: impl IntoIterator<Item = &'a NamedAdapter>,
    ) -> Result<Arc<LanguageModel>, Failure> {
        let lm = models::open_with(dir, self.device, self.weights)?;
        let mut lm = models::with_cache(lm, self.cache)?;
        for NamedAdapter { name, dir: adapter, .. } in adapters {
            lm = lm.with_served_adapter(name, dir, adapter)?;
        }
        Ok(Arc::new(lm))
    }
}

/// Whether each adapter names a model that is served.
fn check_adapters(arguments: &ServeArguments) -> Result<(), Failure> {
    let names: Vec<String> = arguments.model.iter().map(NamedModel::request_name).collect();
    let unknown = |adapter: &&NamedAdapter| adapter.model.as_ref().is_some_and(|model| !names.contains(model));
    match arguments.adapter.iter().find(unknown) {
        Some(NamedAdapter { model, name, .. }) => Err(Failure::from(anyhow!(
            "--adapter {}:{name}: no model has this name; there are {}",
            model.as_deref().unwrap_or_default(),
            names.join(", ")
        ))),
        None => Ok(()),
    }
}

/// What guesses the next tokens of the models.
struct Drafts<'a> {
    arguments: &'a ServeArguments,
    /// The directory of a draft, by the name of its model.
    dirs: BTreeMap<String, &'a Path>,
}

impl<'a> Drafts<'a> {
    /// Checks that each draft names a model that is served, and that no model has two.
    fn of(arguments: &'a ServeArguments) -> Result<Self, Failure> {
        validate_draft(arguments.draft_ngram, arguments.draft_tokens)?;
        let names = arguments.model.iter().chain(&arguments.run);
        let names: Vec<String> = names.map(NamedModel::request_name).collect();
        let mut dirs = BTreeMap::new();
        for NamedModel { name, dir } in &arguments.draft {
            let first = names.first().cloned().unwrap_or_default();
            let name = name.clone().unwrap_or(first);
            if !names.contains(&name) {
                let detail = format!("no model has this name; there are {}", names.join(", "));
                return Err(anyhow!("--draft {name}={}: {detail}", dir.display()).into());
            }
            if let Some(other) = dirs.insert(name.clone(), dir.as_path()) {
                let (dir, other) = (dir.display(), other.display());
                return Err(anyhow!("--draft: {other} and {dir} are both for {name}; leave one of them out").into());
            }
        }
        Ok(Self { arguments, dirs })
    }

    /// What guesses for the model `lm` of `dir`.
    fn speculation(&self, name: &str, lm: &LanguageModel, dir: &Path) -> Result<Option<SpeculativeOptions>, Failure> {
        let (tokens, device) = (self.arguments.draft_tokens, self.arguments.device.device);
        if let Some(draft) = self.dirs.get(name) {
            return open_draft(draft, tokens, device, lm, dir).map(Some);
        }
        let lookup = self.arguments.draft_ngram.map(|ngram| SpeculativeOptions {
            draft: Draft::PromptLookup { ngram },
            tokens,
        });
        // A recurrent network cannot take back a guess, and a model that fills gaps makes no text to guess.
        Ok(lookup.filter(|lookup| lookup.check_for(lm).is_ok()))
    }
}

/// The server with the folder where the page keeps conversations. One that was named must be usable; without the default one, the page
/// keeps them in the browser.
fn keeping(mut server: Server, folder: Option<&Path>) -> Result<Server, Failure> {
    match folder {
        Some(folder) if folder == Path::new(NONE) => {}
        Some(folder) => server.keep_conversations(folder)?,
        None => {
            let kept = match data_dir() {
                Some(folder) => server.keep_conversations(&folder).map_err(|error| error.to_string()),
                None => Err("this user has no folder for data".to_owned()),
            };
            if let Err(why) = kept {
                terminal::message(&format!(
                    "note: {why}; the page keeps conversations in the browser (--conversations DIR keeps them elsewhere)"
                ));
            }
        }
    }
    Ok(server)
}

/// The directory of the user's data, by the rules of the system.
fn data_dir() -> Option<PathBuf> {
    let of_variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = if cfg!(windows) {
        of_variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        of_variable("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        of_variable("XDG_DATA_HOME").or_else(|| Some(of_variable("HOME")?.join(".local/share")))
    };
    Some(base?.join("taal"))
}

/// The newest checkpoint of a run.
struct Newest {
    opener: Opener,
    dir: PathBuf,
    checkpoints: Checkpoints,
    /// The step that is served.
    step: AtomicU64,
}

impl Newest {
    fn new(opener: Opener, dir: PathBuf) -> Self {
        Self {
            checkpoints: Checkpoints::of(&dir),
            opener,
            dir,
            step: AtomicU64::new(0),
        }
    }

    /// The newest step that is not served yet, and its model.
    fn find(&self) -> Option<(u64, Result<Arc<LanguageModel>, Failure>)> {
        let step = self.checkpoints.steps().ok()?.pop()?;
        if step <= self.step.load(Ordering::Relaxed) {
            return None;
        }
        let dir = self.checkpoints.path(step).join(MODEL_DIR);
        Some((step, self.opener.open(&dir)))
    }

    /// The model to begin with; without a checkpoint an error says so.
    fn first(&self) -> Result<Arc<LanguageModel>, Failure> {
        while let Some((step, lm)) = self.find() {
            self.step.store(step, Ordering::Relaxed);
            // A run removes its older checkpoints; one that cannot be opened may have a successor.
            if lm.is_ok() || self.find().is_none() {
                return lm;
            }
        }
        self.opener.open(&self.dir)
    }

    /// A model that is newer than the one that is served. One that cannot be opened is passed over; the next one has another chance.
    fn newer(&self) -> Option<Arc<LanguageModel>> {
        let (step, lm) = self.find()?;
        self.step.store(step, Ordering::Relaxed);
        match lm {
            Ok(lm) => {
                terminal::message(&format!("serving the checkpoint of step {step}"));
                Some(lm)
            }
            Err(failure) => {
                terminal::message(&format!(
                    "note: the checkpoint of step {step} is passed over: {}",
                    failure.words()
                ));
                None
            }
        }
    }
}

/// The server with this machine's meter, electricity and PUE.
fn metered(server: Server, device: DeviceSpec) -> Server {
    let place = Place::find();
    let Kept { options, grid, pue } = place.kept(terminal::message);
    let options = MeterOptions {
        uses_gpu: device.is_gpu(),
        ..options
    };
    let gpus = if options.uses_gpu { nvidia_gpus() } else { None };
    let clock = Box::new(SystemClock::default());
    let meter = Meter::new(Box::new(place.files), clock, gpus, options);
    server.metered(meter, grid, pue)
}

/// Gives the processors to other programs first. Threads that start later, which are all that compute, inherit it.
#[cfg(unix)]
fn let_others_first() {
    // SAFETY: the call takes a number and touches no memory.
    if unsafe { libc::nice(NICE) } == -1 {
        // Raising the level needs no right, so this is a system without levels: training and answers share the processors.
        terminal::message("note: this system has no priorities; use --priority serve to leave this out");
    }
}

#[cfg(not(unix))]
fn let_others_first() {
    terminal::message(&format!(
        "note: this system has no nice level {NICE}: training and answers share the processors"
    ));
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
