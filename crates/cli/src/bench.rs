//! `taal bench`: how fast this machine trains and generates.

use taal_inference::bench::{BenchFigures as GenerateFigures, BenchOptions};
use taal_model::TransformerConfig;
use taal_trainer::bench::BenchFigures;

use crate::arguments::{BenchGenerateArguments, BenchTrainArguments};
use crate::failure::Failure;
use crate::terminal;

/// `taal bench train`
pub fn train(arguments: &BenchTrainArguments) -> Result<(), Failure> {
    let options = taal_trainer::bench::BenchOptions {
        steps: arguments.steps,
        batch_size: arguments.batch_size,
    };
    let figures = taal_trainer::bench::measure(arguments.shape, arguments.device, options)?;
    match arguments.json {
        true => terminal::print_json(&figures)?,
        false => terminal::print(&train_table(&figures))?,
    }
    Ok(())
}

fn train_table(figures: &BenchFigures) -> String {
    let mut rows = vec![
        ("shape", format!("{} on {}", figures.shape, figures.device)),
        ("parameters", terminal::grouped(figures.params)),
        ("tokens/s", terminal::grouped(figures.tokens_per_s.round() as u64)),
        (
            "step",
            format!("{:.1} ms, the median of {}", figures.step_time_ms, figures.steps),
        ),
    ];
    if figures.peak_flops_per_s > 0.0 {
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
    let device = arguments.device.open()?;
    let model = match &arguments.model {
        Some(dir) => taal_inference::LanguageModel::open(dir, &device)?.model,
        None => TransformerConfig::gpt2(50_257, 1024, 12, 12, 768).init(1337, &device)?,
    };
    let options = BenchOptions {
        prompt_len: arguments.prompt_tokens,
        decode_len: arguments.max_tokens,
    };
    let figures = taal_inference::bench::measure(&model, &arguments.batch, options)?;
    match arguments.json {
        true => terminal::print_json(&figures)?,
        false => terminal::print(&generate_table(&figures))?,
    }
    Ok(())
}

fn generate_table(figures: &GenerateFigures) -> String {
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
    }
    terminal::table(&rows)
}
