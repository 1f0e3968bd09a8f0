//! Ways out that only the command line can name: which flag or verb helps after an error of a library.

use std::path::{Path, PathBuf};

use taal_data::DataError;
use taal_exchange::{ExchangeError, is_gguf_file};
use taal_inference::{InferenceError, MissingModel};
use taal_kernels::KernelError;
use taal_trainer::TrainError;

use crate::terminal;

/// No more models than this are listed.
const MAX_LISTED: usize = 8;

/// What to type after an error of a library, where the command line has something to add.
pub fn of_error(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(of_cause)
}

fn of_cause(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    // Errors that show their inner one as themselves are not in the chain of causes twice, so each is looked into.
    let found = error.downcast_ref().and_then(of_train);
    let found = found.or_else(|| error.downcast_ref().and_then(of_exchange));
    let found = found.or_else(|| error.downcast_ref().and_then(of_inference));
    let found = found.or_else(|| error.downcast_ref().and_then(of_data));
    found.or_else(|| error.downcast_ref().and_then(of_kernel))
}

fn of_train(error: &TrainError) -> Option<String> {
    match error {
        TrainError::UnknownKey { .. } => Some("`taal recipes keys` lists every key with its meaning".to_string()),
        TrainError::NoSuchRecipe { .. } => Some("`taal recipes` lists the recipes that come along".to_string()),
        TrainError::Occupied { is_run: true, .. } => {
            Some("add --resume to continue it, or choose another --run-dir".to_string())
        }
        TrainError::Occupied { is_run: false, .. } => Some("choose another --run-dir".to_string()),
        TrainError::NothingToResume { .. } => {
            Some("name a run with --run-dir, or leave --resume out to start a new run".to_string())
        }
        TrainError::Inference(error) => of_inference(error),
        TrainError::Kernel(error) => of_kernel(error),
        TrainError::Data(error) => of_data(error),
        _ => None,
    }
}

fn of_exchange(error: &ExchangeError) -> Option<String> {
    match error {
        ExchangeError::ForeignTokenizer { .. } => {
            Some("--tokenizer FILE names another tokenizer, --without-tokenizer imports the model alone".to_string())
        }
        ExchangeError::Inference(error) => of_inference(error),
        _ => None,
    }
}

fn of_data(error: &DataError) -> Option<String> {
    match error {
        DataError::Shard { .. } | DataError::Index { .. } => {
            Some("`taal data build` makes shards from the texts".to_string())
        }
        _ => None,
    }
}

fn of_inference(error: &InferenceError) -> Option<String> {
    match error {
        InferenceError::NoModel { dir } => models_near(Some(dir)),
        InferenceError::NoModelYet { dir, why } => match why {
            MissingModel::DanglingLink { .. } => Some("`taal export --to hf` writes a model without links".to_string()),
            MissingModel::NotSaved => Some(format!(
                "unless it is training now, continue it with: taal train --resume --run-dir {}",
                terminal::shell_word(&dir.display().to_string())
            )),
            MissingModel::NotBegun => Some("start it again with `taal train`".to_string()),
            MissingModel::IsFile => of_file(dir),
            MissingModel::NoSuchPath => models_near(Some(dir)),
        },
        InferenceError::EmptyPrompt { .. } => {
            Some("a new text can begin with a line break: --prompt $'\\n' (in PowerShell, --prompt \"`n\")".to_string())
        }
        InferenceError::Device { .. } => Some("--device flex computes on the CPU".to_string()),
        _ => None,
    }
}

/// What becomes of a file that was named where a model directory is needed.
fn of_file(path: &Path) -> Option<String> {
    let name = terminal::shell_word(&path.display().to_string());
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gguf") if !is_gguf_file(path).unwrap_or(false) => Some(
            "a GGUF file begins with the letters GGUF, and this one does not: it is empty, cut off or another file; copy it again"
                .to_string(),
        ),
        // Verbs that ask a model open a GGUF file; training needs a directory with weights that are not rounded.
        Some("gguf") => Some(format!(
            "`taal import --from {name} --weights f32 --out DIR` turns it into a model directory"
        )),
        Some("safetensors" | "bin") => Some(format!(
            "`taal import --from {name} --out DIR` turns another program's model into a model directory"
        )),
        _ => models_near(Some(path)),
    }
}

fn of_kernel(error: &KernelError) -> Option<String> {
    Some(match error {
        KernelError::NotCompiled { device, feature } => format!(
            "build it with `cargo xtask train --device {device}` or `cargo build --release -p taal-cli --features {feature}`, or use \
             --device flex"
        ),
        KernelError::NoAdapter => "--device flex computes on the CPU".to_string(),
        KernelError::NoSuchAdapter { .. } => {
            "`taal doctor` lists the devices of this machine; --device flex computes on the CPU".to_string()
        }
        KernelError::UnknownDevice { .. } => "`taal doctor` lists the devices of this machine".to_string(),
        KernelError::UnknownPrecision { .. } => "--precision fp32 works everywhere".to_string(),
        KernelError::Quantize { .. } => return None,
    })
}

/// The models that are there: in `runs`, in `models`, and one level below the directory that was named, or the current one.
pub fn models_near(named: Option<&Path>) -> Option<String> {
    let mut found: Vec<PathBuf> = Vec::new();
    let here = Path::new("");
    for place in [named.unwrap_or(here), Path::new("runs"), Path::new("models"), here] {
        for path in entries(place) {
            if !found.contains(&path) && has_model(&path) {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        return None;
    }
    let names = found.iter().take(MAX_LISTED);
    let names: Vec<String> = names
        .map(|path| terminal::shell_word(&path.display().to_string()))
        .collect();
    let more = match found.len().checked_sub(MAX_LISTED) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {more} more"),
    };
    Some(format!("models that are there: {}{more}", names.join(", ")))
}

/// What is in a directory, by paths that begin as its own; the current one by names alone.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let listed = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    let names = taal_store::list_paths(listed).unwrap_or_default();
    names
        .iter()
        .filter_map(|path| Some(dir.join(path.file_name()?)))
        .collect()
}

/// Whether a directory has a model, as a run or as a model directory.
pub fn has_model(dir: &Path) -> bool {
    let config = Path::new("config.json");
    taal_store::exists(&dir.join(config)) || taal_store::exists(&dir.join("model").join(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_libraries_are_followed_by_flags() {
        let path = PathBuf::from("model.gguf");
        let tokenizer = ExchangeError::ForeignTokenizer {
            path: path.clone(),
            detail: String::new(),
        };
        let shard = DataError::Shard {
            path: path.clone(),
            detail: String::new(),
        };
        let occupied = TrainError::Occupied {
            path: path.clone(),
            detail: String::new(),
            is_run: true,
        };
        let device = TrainError::Kernel(KernelError::NoAdapter);
        let model = TrainError::Inference(InferenceError::NoModelYet {
            dir: path,
            why: MissingModel::NotSaved,
        });
        for (error, flag) in [
            (anyhow::Error::from(tokenizer), "--without-tokenizer"),
            (shard.into(), "taal data build"),
            (occupied.into(), "--resume"),
            (device.into(), "--device flex"),
            (model.into(), "taal train --resume --run-dir model.gguf"),
        ] {
            let hint = of_error(&error);
            assert!(
                hint.as_ref().is_some_and(|hint| hint.contains(flag)),
                "{error}: {hint:?}"
            );
        }
    }
}
