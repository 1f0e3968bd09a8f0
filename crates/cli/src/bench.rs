//! `taal bench`: how fast this machine trains and generates.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use taal_experiments::paradigm::{self, NetworkFigures, ParadigmFigures, ParadigmOptions, TrainedFigures};
use taal_inference::bench::{
    BenchFigures as GenerateFigures, BenchOptions, DecodeEnergy, SpeculativeFigures, measure_metered,
    measure_speculation, spread_ids,
};
use taal_inference::load::{LoadFigures, LoadOptions};
use taal_inference::{EngineOptions, GenerateOptions, LanguageModel, Prompt, Sampling, Speculated, SpeculativeOptions};
use taal_metrics::energy::{Energy, Joule};
use taal_model::{ModelSize, TransformerConfig, WeightFormat};
use taal_trainer::bench::BenchFigures;
use taal_trainer::{Progress, RecipeText, resolve};

use crate::arguments::{BenchGenerateArguments, BenchParadigmArguments, BenchServeArguments, BenchTrainArguments};
use crate::energy::Work;
use crate::failure::Failure;
use crate::{models, terminal};

/// The name of a model that is not opened.
const RANDOM: &str = "random weights";

/// `taal bench train`
pub fn train(arguments: &BenchTrainArguments) -> Result<(), Failure> {
    let options = taal_trainer::bench::BenchOptions {
        steps: arguments.steps,
        batch_size: arguments.batch_size,
        precision: arguments.precision,
        lora_rank: arguments.lora,
    };
    let figures = taal_trainer::bench::measure(arguments.shape, arguments.device.device, options)?;
    match *arguments.json {
        true => terminal::print_json(&figures)?,
        false => terminal::print(&train_table(&figures))?,
    }
    Ok(())
}

fn train_table(figures: &BenchFigures) -> String {
    let mut rows = vec![
        (
            "shape",
            format!("{} on {}, {}", figures.shape, figures.device, figures.precision),
        ),
        ("parameters", terminal::grouped(figures.params)),
        (
            "trained",
            format!(
                "{}, with {} of moments",
                terminal::grouped(figures.trained_params),
                terminal::size(figures.moment_bytes)
            ),
        ),
        ("tokens/s", terminal::grouped(figures.tokens_per_s.round() as u64)),
        (
            "step",
            format!("{:.1} ms, the median of {}", figures.step_time_ms, figures.steps),
        ),
    ];
    if figures.peak_flops_per_s > 0.0 && figures.trained_params == figures.params {
        let peak = terminal::short(figures.peak_flops_per_s);
        rows.push(("MFU", format!("{:.1} % of {peak}FLOP/s", 100.0 * figures.mfu)));
    }
    rows.push(("peak memory", terminal::size(figures.peak_rss_bytes)));
    if let Some(bytes) = figures.device_memory_bytes {
        rows.push(("of the GPU", terminal::size(bytes)));
    }
    rows.push(("loss", format!("{:.4} -> {:.4}", figures.losses[0], figures.losses[1])));
    for share in &figures.time_shares {
        rows.push(("", format!("{:5.1} %  {}", 100.0 * share.share, share.operation)));
    }
    terminal::table(&rows)
}

/// `taal bench generate`
pub fn generate(arguments: &BenchGenerateArguments) -> Result<(), Failure> {
    arguments.draft.validate()?;
    let device = arguments.device.open()?;
    let lm = match &arguments.model {
        Some(dir) => models::open_with(dir, arguments.device.device, arguments.weights)?,
        None => {
            let config = TransformerConfig::gpt2(ModelSize {
                vocab_size: 50_257,
                max_seq_len: 1024,
                n_layers: 12,
                n_heads: 12,
                d_model: 768,
            });
            let model = config.init(1337, &device)?;
            let model = model.with_weights(arguments.weights.weights.unwrap_or(WeightFormat::F32))?;
            LanguageModel::new(model, None)
        }
    };
    let lm = models::with_cache(lm, arguments.cache)?;
    let options = BenchOptions {
        prompt_len: arguments.prompt_tokens,
        decode_len: arguments.max_tokens,
    };
    let name = arguments.model.as_deref().unwrap_or(Path::new(RANDOM));
    let speculation = arguments.draft.open(arguments.device.device, &lm, name)?;
    let mut work = Work::begin(arguments.device.device);
    let mut metering = || {
        let Energy { joules, low, high } = work.lap()?;
        Some(DecodeEnergy {
            joules: joules.0,
            low: low.0,
            high: high.0,
        })
    };
    let figures = measure_metered(&lm.model, &arguments.batch, options, &mut metering)?;
    let source = work.source();
    for note in work.notes() {
        terminal::message(&format!("note: {note}"));
    }
    let speculative = match speculation {
        Some(speculation) => Some(speculative(arguments, &lm, &speculation)?),
        None => None,
    };
    match *arguments.json {
        true => terminal::print_json(&GeneratePrinted {
            figures,
            energy_source: source,
            speculative,
        })?,
        false => terminal::print(&generate_table(&figures, &source, speculative.as_ref()))?,
    }
    Ok(())
}

/// What `taal bench generate --json` prints.
#[derive(Serialize)]
struct GeneratePrinted {
    #[serde(flatten)]
    figures: GenerateFigures,
    /// Where the joules come from.
    energy_source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    speculative: Option<SpeculativeFigures>,
}

/// One text, greedily, with and without a draft.
fn speculative(
    arguments: &BenchGenerateArguments,
    lm: &LanguageModel,
    speculation: &SpeculativeOptions,
) -> Result<SpeculativeFigures, Failure> {
    let prompt = match &arguments.prompt {
        Some(text) => Prompt::Text(text.clone()),
        None => Prompt::Ids(spread_ids(arguments.prompt_tokens.max(1), lm.vocab_size())),
    };
    let options = GenerateOptions {
        max_tokens: arguments.max_tokens.max(1),
        sampling: Sampling::greedy(),
        stop_at_eos: false,
        ..GenerateOptions::default()
    };
    Ok(measure_speculation(lm, &prompt, &options, speculation)?)
}

fn generate_table(figures: &GenerateFigures, source: &str, speculative: Option<&SpeculativeFigures>) -> String {
    let mut rows = vec![
        ("parameters", terminal::grouped(figures.params)),
        (
            "bandwidth",
            format!("{}B/s, measured", terminal::short(figures.bandwidth_bytes_per_s)),
        ),
    ];
    for batch in &figures.batches {
        rows.push((
            "batch",
            format!(
                "{:<3} prefill {:>8.1} tok/s   decode {:>7.1} tok/s   {:>5.1} % of the bandwidth",
                batch.batch_size,
                batch.prefill_tokens_per_s,
                batch.decode_tokens_per_s,
                100.0 * batch.decode_bandwidth_share
            ),
        ));
        if let Some(energy) = &batch.decode_energy_per_1000 {
            let [joules, low, high] = [energy.joules, energy.low, energy.high].map(|it| Joule(it).to_string());
            rows.push((
                "",
                format!("    {joules} ({low} to {high}) per thousand decoded tokens, {source}"),
            ));
        }
    }
    if let Some(figures) = speculative {
        rows.push((
            "one text",
            format!(
                "{:.1} tok/s   with the draft {:.1} tok/s, {:.2} times as fast",
                figures.plain_tokens_per_s, figures.speculative_tokens_per_s, figures.ratio
            ),
        ));
        rows.push(("draft", right(&figures.speculated)));
        let passes = figures.speculated.passes;
        rows.push((
            "",
            format!(
                "{passes} passes of the model for {} tokens, {:.2} tokens per pass",
                figures.tokens,
                figures.tokens as f64 / passes.max(1) as f64
            ),
        ));
        if !figures.is_same_text {
            rows.push(("", "the texts differ: this device rounds in another order".to_owned()));
        }
    }
    terminal::table(&rows)
}

/// How many guesses were right.
fn right(speculated: &Speculated) -> String {
    let Speculated { accepted, drafted, .. } = *speculated;
    let share = 100.0 * accepted as f64 / drafted.max(1) as f64;
    format!("{accepted} of {drafted} guessed tokens were right, {share:.1} %")
}

/// `taal bench serve`
pub fn serve(arguments: &BenchServeArguments) -> Result<(), Failure> {
    arguments.draft.validate()?;
    let device = arguments.device.open()?;
    let lm = match &arguments.model {
        Some(dir) => models::open_with(dir, arguments.device.device, arguments.weights)?,
        None => {
            let config = TransformerConfig::llama(ModelSize {
                vocab_size: 4096,
                max_seq_len: 1024,
                n_layers: 6,
                n_heads: 6,
                d_model: 384,
            });
            let model = config.init(1337, &device)?;
            let model = model.with_weights(arguments.weights.weights.unwrap_or(WeightFormat::F32))?;
            LanguageModel::new(model, None)
        }
    };
    let lm = models::with_cache(lm, arguments.cache)?;
    let name = arguments.model.as_deref().unwrap_or(Path::new(RANDOM));
    let speculation = arguments.draft.open(arguments.device.device, &lm, name)?;
    let options = LoadOptions {
        clients: arguments.clients,
        requests: arguments.requests,
        alone: arguments.alone,
        prompt_tokens: arguments.prompt_tokens,
        max_tokens: arguments.max_tokens,
        engine: EngineOptions {
            slots: arguments.slots,
            speculation,
            ..EngineOptions::default()
        },
    };
    let figures = taal_inference::load::measure(Arc::new(lm), &options)?;
    match *arguments.json {
        true => terminal::print_json(&figures)?,
        false => terminal::print(&serve_table(&figures, &options))?,
    }
    Ok(())
}

fn serve_table(figures: &LoadFigures, options: &LoadOptions) -> String {
    let mut rows = vec![
        ("parameters", terminal::grouped(figures.params)),
        (
            "requests",
            format!("prompt {} tokens, answer {}", options.prompt_tokens, options.max_tokens),
        ),
    ];
    let times = |times: [f64; 3]| times.map(|time| format!("{time:>8.1}")).join(" ");
    for (name, clients, pace) in [
        ("alone", 1, &figures.alone),
        ("together", options.clients, &figures.together),
    ] {
        let speed = terminal::grouped(pace.tokens_per_s.round() as u64);
        rows.push((
            name,
            format!("{} requests of {clients} clients: {speed} tokens/s", pace.requests),
        ));
        rows.push((
            "",
            format!("first token, ms p50 p95 p99 {}", times(pace.first_token_ms)),
        ));
        rows.push(("", format!("next token, ms p50 p95 p99  {}", times(pace.next_token_ms))));
        if let Some(speculated) = &pace.speculative {
            rows.push(("", format!("{}; {} steps", right(speculated), speculated.passes)));
        }
    }
    rows.push(("ratio", format!("{:.2}", figures.ratio)));
    terminal::table(&rows)
}

/// What is being measured, on standard error.
struct Notes;

impl Progress for Notes {
    fn note(&mut self, message: &str) {
        terminal::message(message);
    }
}

/// `taal bench paradigm`
pub fn paradigm(arguments: &BenchParadigmArguments) -> Result<(), Failure> {
    let resolved = resolve(&RecipeText::find(&arguments.recipe)?, &arguments.set)?;
    let options = ParadigmOptions {
        seconds: arguments.seconds,
        lengths: arguments.lengths.iter().map(|&length| length as usize).collect(),
        copy_steps: arguments.copy_steps,
        ..ParadigmOptions::default()
    };
    let figures = paradigm::compare(&resolved.recipe, arguments.device.device, &options, &mut Notes)?;
    if let Some(path) = &arguments.svg {
        taal_store::write_atomic(path, position_chart(&figures).as_bytes())?;
    }
    match *arguments.json {
        true => terminal::print_json(&figures)?,
        false => terminal::print(&paradigm_table(&figures))?,
    }
    if let Some(path) = &arguments.svg {
        terminal::message(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// A row a measurement, a column a network.
fn paradigm_table(figures: &ParadigmFigures) -> String {
    let mut text = format!(
        "{} on {}: {} ids, rows of {} tokens, {} rows a batch\n\n",
        figures.recipe, figures.device, figures.vocab_size, figures.block_size, figures.batch_size
    );
    let mut row = |name: &str, cells: Vec<String>| {
        text.push_str(&format!("{name:<34}"));
        for cell in cells {
            text.push_str(&format!("{cell:>15}"));
        }
        text.push('\n');
    };
    let networks = &figures.networks;
    let of_each = |cell: &dyn Fn(&NetworkFigures) -> String| networks.iter().map(cell).collect::<Vec<_>>();
    row("", of_each(&|network| network.name.to_string()));
    row(
        "layers x width",
        of_each(&|network| format!("{} x {}", network.layers, network.width)),
    );
    row("parameters", of_each(&|network| terminal::grouped(network.params)));
    for index in 0..networks.first().map_or(0, |network| network.speed.len()) {
        let length = networks[0].speed[index].length;
        row(
            &format!("us per token, rows of {}", terminal::grouped(length as u64)),
            of_each(&|network| format!("{:.1}", network.speed[index].microseconds_per_token)),
        );
    }
    let trained = |name: &str, of: &dyn Fn(&NetworkFigures) -> TrainedFigures| {
        [
            (
                format!("{name}: tokens"),
                of_each(&|network| terminal::grouped(of(network).tokens)),
            ),
            (
                "  times the recipe's rates".to_string(),
                of_each(&|network| of(network).rate.to_string()),
            ),
            (
                "  seconds".to_string(),
                of_each(&|network| format!("{:.1}", of(network).seconds)),
            ),
            (
                "  validation loss".to_string(),
                of_each(&|network| format!("{:.4}", of(network).val_loss)),
            ),
        ]
    };
    for (name, cells) in trained("equal time", &|network| network.after_equal_time) {
        row(&name, cells);
    }
    for (name, cells) in trained("equal tokens", &|network| network.after_equal_tokens) {
        row(&name, cells);
    }
    for index in 0..networks.first().map_or(0, |network| network.by_position.len()) {
        let at = networks[0].by_position[index];
        let name = match at.first == at.last {
            true => format!("  loss at place {}", at.first),
            false => format!("  loss at places {} to {}", at.first, at.last),
        };
        row(
            &name,
            of_each(&|network| format!("{:.4}", network.by_position[index].loss)),
        );
    }
    for index in 0..networks.first().map_or(0, |network| network.copy.len()) {
        if index == 0 {
            row(
                "copying: times the recipe's rates",
                of_each(&|network| network.copy_rate.to_string()),
            );
        }
        let length = networks[0].copy[index].length;
        row(
            &format!("  copied right, {length} symbols"),
            of_each(&|network| format!("{:.1} %", 100.0 * network.copy[index].accuracy)),
        );
    }
    text
}

/// The loss over the number of tokens that are known, its middle for places that are taken together, in powers of two.
fn position_chart(figures: &ParadigmFigures) -> String {
    let curve = |network: &NetworkFigures| {
        let point = |at: &paradigm::PositionLoss| {
            let middle = (at.first as f64 * at.last as f64).sqrt();
            (middle.log2(), at.loss)
        };
        network.by_position.iter().map(point).collect()
    };
    let [first, second] = [0, 1].map(|index| figures.networks.get(index));
    let named = |network: Option<&NetworkFigures>| network.map_or(Vec::new(), curve);
    let lines = taal_draw::Lines {
        title: "Loss of the next token by the number of tokens before it",
        x_label: "known tokens, powers of 2",
        y_label: "loss (nats per token)",
        curves: [
            (first.map_or("", |network| network.name), named(first)),
            (second.map_or("", |network| network.name), named(second)),
        ],
    };
    lines.to_svg()
}
