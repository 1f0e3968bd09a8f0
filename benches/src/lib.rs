//! Shared set-up of the benchmarks: the program's allocator, criterion's settings, devices, recipes, models and text.
//!
//! A benchmark's name is `stage/operation/device/size`. A failing set-up stops the benchmark.

use std::time::Duration;

use burn::tensor::Device;
use criterion::Criterion;
use taal_data::{BatchPlan, Dataset, Order, TokenizeOptions};
use taal_kernels::{DeviceSpec, available};
use taal_model::{Initialization, ModelSize, Transformer, TransformerConfig};
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};
use taal_trainer::{Learner, MixedPrecision, ModelRecipe, Optimizer, OrderKind, Recipe, RecipeText, resolve};

/// The program's settings of jemalloc, which let it keep its pages; crates/cli/src/allocator.rs explains why. They are
/// read before `main`, so they can only be set here.
// SAFETY: this is jemalloc's name with the prefix that the crate builds it with. It is a weak symbol, meant to be
// replaced like this.
#[cfg(not(target_env = "msvc"))]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 57] = b"narenas:1,dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always\0";

#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Ten samples in two seconds per benchmark: the whole suite takes minutes, and changes of a few percent are visible.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .nresamples(10_000)
}

/// Writes the machine's measured peaks for `cargo xtask bench`, which states rates as shares of them.
pub fn write_machine() {
    let Some(home) = std::env::var_os("CRITERION_HOME") else {
        return;
    };
    let text = format!(
        "{{\"flops_per_s\": {:.0}, \"bytes_per_s\": {:.0}}}\n",
        taal_kernels::measured_peak_flops_per_s(),
        taal_kernels::measured_bandwidth_bytes_per_s()
    );
    let home = std::path::PathBuf::from(home);
    std::fs::create_dir_all(&home).expect("criterion's folder can be made");
    std::fs::write(home.join("machine.json"), text).expect("criterion's folder can be written");
}

/// The CPU devices of this build: flex, and ndarray if its feature is on. A GPU returns before it has finished
/// computing, so it would need another way to measure time.
pub fn devices() -> Vec<(DeviceSpec, Device)> {
    available()
        .into_iter()
        .filter(|info| info.is_compiled && !matches!(info.spec, DeviceSpec::Wgpu(_) | DeviceSpec::Cuda(_)))
        .map(|info| (info.spec, info.spec.open().expect("a compiled CPU device opens")))
        .collect()
}

/// An embedded recipe.
pub fn recipe(name: &str) -> Recipe {
    let source = RecipeText::find(name).expect("an embedded recipe");
    resolve(&source, &[]).expect("an embedded recipe is valid").recipe
}

/// The model of a recipe before its first step.
pub fn model(recipe: &Recipe, vocab_size: usize, device: &Device) -> Transformer {
    let ModelRecipe::New { config, init } = &recipe.model else {
        panic!("the recipe {} draws no new model", recipe.name);
    };
    let config = TransformerConfig {
        vocab_size,
        ..config.as_ref().clone()
    };
    draw(&config, *init, recipe.seed, device)
}

/// A model of about 4 M parameters with a context of 512: large enough that matrix products, not call overhead, dominate.
pub fn larger_model(device: &Device) -> Transformer {
    draw(
        &TransformerConfig::llama(ModelSize {
            vocab_size: 4096,
            max_seq_len: 512,
            n_layers: 4,
            n_heads: 8,
            d_model: 256,
        }),
        Initialization::default(),
        1337,
        device,
    )
}

fn draw(config: &TransformerConfig, init: Initialization, seed: u64, device: &Device) -> Transformer {
    config.init_with(seed, init, device).expect("a valid shape")
}

/// The model and optimizer of a recipe, on a device with autodiff.
pub fn learner(recipe: &Recipe, vocab_size: usize, device: &Device) -> Learner {
    let model = model(recipe, vocab_size, &device.clone().autodiff());
    let optimizer = Optimizer::new(recipe.train.adamw, recipe.train.muon);
    Learner {
        model,
        optimizer,
        clip_norm: recipe.train.clip_norm,
        precision: MixedPrecision::default(),
    }
}

/// The windows of a recipe's steps.
pub fn batch_plan(recipe: &Recipe) -> BatchPlan {
    let order = match recipe.data.order {
        OrderKind::Random => Order::Random,
        OrderKind::Shuffled => Order::Shuffled,
    };
    BatchPlan::new(recipe.seed, recipe.train.batch_size, recipe.train.block_size).with_order(order)
}

/// Tiny Shakespeare, 1.1 MB of plain text.
pub fn shakespeare() -> &'static str {
    taal_data::corpus("tinyshakespeare").expect("an embedded corpus").text()
}

/// A tokenizer of tiny Shakespeare's 65 characters.
pub fn characters() -> Tokenizer {
    TrainerConfig::new(Kind::Char, 65)
        .train([shakespeare()])
        .expect("the text has 65 characters")
}

/// Tiny Shakespeare in characters, held in memory.
pub fn shakespeare_characters() -> Dataset {
    let texts = [("tinyshakespeare", shakespeare())];
    Dataset::from_texts(&characters(), &texts, &TokenizeOptions::default()).expect("an embedded text is encoded")
}
