//! One model, two devices: what flex computes on the CPU, the GPU computes too. Single operations are compared in
//! `crates/kernels/tests/kernels/gpu.rs`.
//!
//! `cargo xtask parity` runs it, which the whole suite does not; `TAAL_PARITY_DEVICE` names the device, `wgpu` unless set,
//! `TAAL_PARITY_SMALL` leaves out most lengths, and `TAAL_PARITY_STEPS` says over how many steps memory must stay flat.
#![cfg(any(feature = "wgpu", feature = "cuda"))]

use std::fs;
use std::path::Path;
use std::process::Command;

use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_data::{Batch, IGNORE_INDEX, SourceBatch};
use taal_inference::{LanguageModel, TranslateOptions, translate};
use taal_kernels::{DeviceSpec, Precision, random};
use taal_model::{ForwardOptions, Initialization, ModelSize, Transformer, TransformerConfig, parameters};
use taal_tokenizer::{Kind, TrainerConfig};
use taal_trainer::{AdamW, Learner, MixedPrecision, Optimizer};

/// Lengths at which other programs have gone wrong: one token, odd ones, one above a power of two.
const LENGTHS: [usize; 7] = [1, 3, 17, 40, 48, 96, 257];
/// Two of them for a device that compiles each kernel for a second.
const FEW_LENGTHS: [usize; 2] = [3, 48];

/// The largest difference between two numbers, over the largest number of the reference and 1. Both devices compute in
/// single precision and add in another order.
const LOGITS: f64 = 1e-4;
const LOSS: f64 = 1e-5;
const GRADIENT: f64 = 2e-4;
const STEP: f64 = 1e-4;
/// Between the losses of two runs of 50 steps.
const CURVE: f64 = 1e-3;

fn spec() -> DeviceSpec {
    let name = std::env::var("TAAL_PARITY_DEVICE").unwrap_or_else(|_| "wgpu".to_owned());
    name.parse().expect("TAAL_PARITY_DEVICE names a device")
}

fn is_small() -> bool {
    std::env::var_os("TAAL_PARITY_SMALL").is_some()
}

fn lengths() -> &'static [usize] {
    if is_small() { &FEW_LENGTHS } else { &LENGTHS }
}

/// All families, or the one that has most of what the others have.
fn few_families() -> Vec<(&'static str, TransformerConfig)> {
    let mut families = families();
    families.retain(|(name, _)| !is_small() || *name == "llama");
    families
}

fn gpu() -> Device {
    spec().open().expect("the device opens")
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// The largest difference, over the largest number of the reference and a floor.
fn difference(found: &[f32], expected: &[f32], floor: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(floor, |max, x| max.max(f64::from(x.abs())));
    let pairs = found.iter().zip(expected);
    let worst = pairs
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
        .fold(0.0, |max: f64, x| if x.is_nan() { f64::INFINITY } else { max.max(x) });
    worst / largest
}

#[track_caller]
fn assert_alike(what: &str, found: &[f32], expected: &[f32], tolerance: f64) {
    let difference = difference(found, expected, 1.0);
    assert!(
        difference <= tolerance,
        "{what}: differs by {difference:.2e}, allowed {tolerance:.0e}"
    );
}

/// Every way in which the families differ: positions, norms, activation, head, groups, QK norm, window.
fn families() -> Vec<(&'static str, TransformerConfig)> {
    let sizes = (67, 260, 2, 4, 32);
    let (vocab, len, layers, heads, width) = sizes;
    vec![
        ("gpt2", TransformerConfig::gpt2(size(vocab, len, layers, heads, width))),
        (
            "llama",
            TransformerConfig {
                n_kv_heads: 2,
                ..TransformerConfig::llama(size(vocab, len, layers, heads, width))
            },
        ),
        ("bert", TransformerConfig::bert(size(vocab, len, layers, heads, width))),
    ]
}

fn ids(batch: usize, len: usize, vocab: usize) -> Vec<i32> {
    (0..batch * len)
        .map(|i| ((i * 31 + i * i % 7) % vocab) as i32)
        .collect()
}

fn ids_tensor(ids: &[i32], shape: [usize; 2], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(ids.to_vec(), shape), device)
}

/// A batch in which some targets do not count.
fn batch(rows: usize, len: usize, vocab: usize) -> Batch {
    let inputs = ids(rows, len, vocab);
    let targets = inputs
        .iter()
        .enumerate()
        .map(|(i, id)| {
            if i % 5 == 4 {
                IGNORE_INDEX
            } else {
                (id + 3) % vocab as i32
            }
        })
        .collect();
    Batch {
        batch_size: rows,
        seq_len: len,
        inputs,
        targets,
        text_starts: None,
        source: None,
    }
}

fn logits(model: &Transformer, len: usize) -> Vec<f32> {
    let vocab = model.config().vocab_size;
    let input = ids_tensor(&ids(2, len, vocab), [2, len], &model.device());
    numbers(model.forward(input).expect("the text fits"))
}

fn learner(config: &TransformerConfig, device: &Device) -> Learner {
    Learner {
        model: config.init(7, &device.clone().autodiff()).expect("a valid shape"),
        optimizer: Optimizer::new(AdamW::default(), None),
        clip_norm: Some(1.0),
        precision: MixedPrecision::default(),
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn logits_are_alike_at_every_length() {
    let (cpu, gpu) = (Device::flex(), gpu());
    for (family, config) in families() {
        let [on_cpu, on_gpu] = [&cpu, &gpu].map(|device| config.init(7, device).expect("a valid shape"));
        for &len in lengths() {
            assert_alike(
                &format!("{family}, {len} tokens"),
                &logits(&on_gpu, len),
                &logits(&on_cpu, len),
                LOGITS,
            );
        }
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn losses_and_every_gradient_are_alike_at_every_length() {
    let (cpu, gpu) = (Device::flex(), gpu());
    for (family, config) in families() {
        let [on_cpu, on_gpu] = [&cpu, &gpu].map(|device| learner(&config, device));
        for &len in lengths() {
            let batch = batch(2, len, config.vocab_size);
            let [expected, found] = [&on_cpu, &on_gpu].map(|learner| {
                let loss = taal_trainer::loss(&learner.model, &batch, None).expect("the batch fits");
                let gradients = learner.gradients(&batch).expect("the batch fits");
                (loss.into_scalar::<f32>(), gradients)
            });
            assert_alike(
                &format!("loss of {family}, {len} tokens"),
                &[found.0],
                &[expected.0],
                LOSS,
            );
            assert_eq!(found.1.len(), expected.1.len());
            for (found, expected) in found.1.iter().zip(&expected.1) {
                assert_eq!(found.name, expected.name);
                let difference = difference(&found.values, &expected.values, 1e-2);
                let name = &found.name;
                assert!(
                    difference <= GRADIENT,
                    "gradient of {name} of {family}, {len} tokens: differs by {difference:.2e}, allowed {GRADIENT:.0e}"
                );
            }
        }
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn one_optimizer_step_changes_every_parameter_alike() {
    let (cpu, gpu) = (Device::flex(), gpu());
    for (family, config) in few_families() {
        let batches = [batch(2, 40, config.vocab_size), batch(2, 40, config.vocab_size)];
        let [expected, found] = [&cpu, &gpu].map(|device| {
            let mut learner = learner(&config, device);
            // With a large epsilon the update is a smooth function of the gradient, also where that is nearly zero.
            learner.optimizer = Optimizer::new(
                AdamW {
                    eps: 1e-3,
                    ..AdamW::default()
                },
                None,
            );
            let outcome = learner.step(&batches, &[], 1.0).expect("the batch fits");
            let mut values = Vec::new();
            parameters::read(&learner.model, |name, _, numbers| {
                values.push((name.to_owned(), numbers))
            });
            (outcome, values)
        });
        let norm = (found.0.grad_norm - expected.0.grad_norm).abs() / expected.0.grad_norm;
        assert!(norm < 1e-4, "gradient norm of {family}: differs by {norm:.2e}");
        for ((name, found), (_, expected)) in found.1.iter().zip(&expected.1) {
            assert_alike(&format!("{name} of {family} after a step"), found, expected, STEP);
        }
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn prefill_and_decode_give_the_logits_of_a_full_forward() {
    let gpu = gpu();
    for (family, config) in few_families().into_iter().filter(|(_, config)| config.is_causal) {
        let [on_cpu, on_gpu] = [&Device::flex(), &gpu].map(|device| config.init(7, device).expect("a valid shape"));
        let lengths: &[usize] = if is_small() { &[17] } else { &[3, 17, 48, 257] };
        for &len in lengths {
            let text = ids(1, len, config.vocab_size);
            let full = numbers(
                on_cpu
                    .forward(ids_tensor(&text, [1, len], &on_cpu.device()))
                    .expect("fits"),
            );
            let mut cache = on_gpu.new_cache(1, len);
            let mut found = Vec::new();
            // Most at once, the rest one by one.
            let mut start = 0;
            let first = len - len.min(6) / 2;
            for count in std::iter::once(first).chain(std::iter::repeat_n(1, len - first)) {
                let part = ids_tensor(&text[start..start + count], [1, count], &gpu);
                let options = ForwardOptions {
                    cache: Some(&mut cache),
                    ..ForwardOptions::default()
                };
                let hidden = on_gpu.forward_with(part, options).expect("fits").hidden;
                found.extend(numbers(on_gpu.logits(hidden)));
                start += count;
            }
            assert_alike(&format!("{family}, {len} tokens, with a cache"), &found, &full, LOGITS);
        }
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn fifty_steps_give_one_loss_curve() {
    let (cpu, gpu) = (Device::flex(), gpu());
    for (family, config) in few_families() {
        let config = TransformerConfig { dropout: 0.1, ..config };
        let [expected, found] = [&cpu, &gpu].map(|device| {
            let mut learner = learner(&config, device);
            (0..50)
                .map(|step| {
                    let batch = batch(4, 24 + step % 3, config.vocab_size);
                    let key = random::key(1, step as u64, "dropout");
                    let outcome = learner.step(std::slice::from_ref(&batch), &[key], 1.0).expect("fits");
                    outcome.loss
                })
                .collect::<Vec<f64>>()
        });
        assert!(
            expected[49] < expected[0] - 0.5,
            "{family} learns: {} -> {}",
            expected[0],
            expected[49]
        );
        for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let difference = (found - expected).abs();
            assert!(
                difference <= CURVE,
                "loss of {family} at step {step}: {found} instead of {expected}"
            );
        }
    }
}

/// Models with an encoder; one of them where kernels are slow to compile.
fn translators() -> Vec<(&'static str, TransformerConfig)> {
    let sizes = size(67, 64, 2, 4, 32);
    let mut found = vec![
        ("marian", TransformerConfig::marian(sizes)),
        ("t5", TransformerConfig::t5(sizes)),
    ];
    for (_, config) in &mut found {
        // A tied matrix with random weights repeats the last token.
        config.tie_embeddings = false;
    }
    found.truncate(if is_small() { 1 } else { 2 });
    found
}

/// Weights that are larger than fresh ones, so that predictions differ.
fn random_translator(config: &TransformerConfig, device: &Device) -> Transformer {
    let wide = Initialization {
        std: 0.1,
        residual_std: Some(0.1),
    };
    config.init_with(7, wide, device).expect("a valid shape")
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn losses_and_gradients_of_sentence_pairs_are_alike() {
    let (cpu, gpu) = (Device::flex(), gpu());
    for (family, config) in translators() {
        let source = SourceBatch {
            ids: ids(2, 13, config.vocab_size),
            lengths: vec![13, 6],
            seq_len: 13,
        };
        let pair = Batch {
            source: Some(source),
            ..batch(2, 9, config.vocab_size)
        };
        let [expected, found] = [&cpu, &gpu].map(|device| {
            let learner = Learner {
                model: random_translator(&config, &device.clone().autodiff()),
                ..learner(&config, device)
            };
            let loss = taal_trainer::loss(&learner.model, &pair, None).expect("the pair fits");
            let gradients = learner.gradients(&pair).expect("the pair fits");
            (loss.into_scalar::<f32>(), gradients)
        });
        assert_alike(&format!("loss of {family}"), &[found.0], &[expected.0], LOSS);
        assert_eq!(found.1.len(), expected.1.len());
        for (found, expected) in found.1.iter().zip(&expected.1) {
            let difference = difference(&found.values, &expected.values, 1e-2);
            let name = &found.name;
            assert!(
                difference <= GRADIENT,
                "gradient of {name} of {family}: differs by {difference:.2e}"
            );
        }
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn translations_are_alike_with_one_candidate_and_with_several() {
    let tokenizer = TrainerConfig::new(Kind::Char, 100)
        .train(["abcdefgh .\n"])
        .expect("characters");
    let end = tokenizer.token_to_id(".").expect("a period");
    for (family, config) in translators() {
        let [on_cpu, on_gpu] = [&Device::flex(), &gpu()].map(|device| {
            let config = TransformerConfig {
                vocab_size: tokenizer.vocab_size(),
                decoder_start: Some(0),
                ..config.clone()
            };
            let mut lm = LanguageModel::new(random_translator(&config, device), Some(tokenizer.clone()));
            lm.end_ids = vec![end];
            lm
        });
        for width in [1, 3] {
            let options = TranslateOptions {
                max_tokens: Some(8),
                ..TranslateOptions::default().with_width(width)
            };
            let sources = ["a bad cab", "he", "dead beef had a cage"];
            let [expected, found] =
                [&on_cpu, &on_gpu].map(|lm| translate(lm, &sources, &options).expect("translations"));
            for (found, expected) in found.iter().zip(&expected) {
                let what = format!("{family}, {width} candidates, {}", found.source);
                assert_eq!(found.token_ids, expected.token_ids, "{what}");
                let [found, expected] = [found, expected].map(|translation| translation.logprob as f32);
                assert_alike(&what, &[found], &[expected], 8.0 * LOGITS);
            }
        }
    }
}

/// Memory grows with nothing: what the allocator holds after 200 steps is what it held after 40.
#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn memory_stays_flat() {
    let gpu = gpu();
    let (_, config) = families().remove(0);
    let mut learner = learner(&config, &gpu);
    let batch = batch(2, 48, config.vocab_size);
    let mut steps = |count: usize| {
        for _ in 0..count {
            learner.step(std::slice::from_ref(&batch), &[], 1.0).expect("fits");
        }
        gpu.sync().expect("the device answers");
        gpu.memory_pool_usage()
            .expect("the device reports its memory")
            .bytes_reserved
    };
    let count = std::env::var("TAAL_PARITY_STEPS").map_or(200, |count| count.parse().expect("a number of steps"));
    let early = steps(40);
    let late = steps(count);
    assert!(
        late <= early + early / 20,
        "{early} bytes after 40 steps, {late} after {count} more"
    );
}

const RECIPE: &str = r#"
seed = 7

[data]
files = ["text.txt"]
validation_fraction = 0.2

[tokenizer]
kind = "char"

[model]
n_layers = 2
n_heads = 2
d_model = 16
dropout = 0.1

[train]
steps = 12
warmup_steps = 0
schedule = "constant"
batch_size = 4
block_size = 17
clip_norm = 1.0

[eval]
every = 6

[checkpoint]
every = 6

[sample]
max_tokens = 20
"#;

fn taal(place: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_taal"))
        .args(args)
        .current_dir(place)
        .output()
        .expect("taal starts");
    assert!(
        output.status.success(),
        "taal {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn losses(place: &Path, run: &str) -> Vec<f64> {
    let text = fs::read_to_string(place.join(run).join("log.jsonl")).expect("a log");
    let record = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("a record");
    text.lines().filter_map(|line| record(line)["loss"].as_f64()).collect()
}

/// A folder with `tiny.toml` and the text that it trains on.
fn place_with_recipe() -> tempfile::TempDir {
    let place = tempfile::TempDir::new().expect("a temporary folder");
    let text = "de kat krabt de krullen van de trap.\n".repeat(12);
    fs::write(place.path().join("text.txt"), text).expect("a file");
    fs::write(place.path().join("tiny.toml"), RECIPE).expect("a file");
    place
}

/// The program itself: training, generating, and a run that moves from one device to the other in the middle.
#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn a_run_moves_between_devices() {
    let place = place_with_recipe();
    let place = place.path();
    let device = spec().to_string();
    let train = |device: &str, run: &str, steps: &str, more: &[&str]| {
        let mut args = vec!["train", "--recipe", "tiny.toml", "--device", device, "--run-dir", run];
        let set = format!("train.steps={steps}");
        args.extend(["--set", &set]);
        args.extend(more);
        taal(place, &args);
    };
    train("flex", "cpu", "12", &[]);
    let expected = losses(place, "cpu");
    assert_eq!(expected.len(), 12);
    let compare = |run: &str| {
        let found = losses(place, run);
        assert_eq!(found.len(), expected.len(), "{run}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < CURVE, "{run}: {found} instead of {expected}");
        }
    };
    let moves = |first: &str, second: &str, run: &str| {
        train(first, run, "6", &[]);
        train(second, run, "12", &["--resume"]);
        compare(run);
    };
    moves("flex", &device, "to-gpu");
    if !is_small() {
        moves(&device, "flex", "from-gpu");
        train(&device, "gpu", "12", &[]);
        compare("gpu");
    }
    let generate = |device: &str| {
        let prompt = [
            "generate", "--model", "to-gpu", "--device", device, "--prompt", "de kat",
        ];
        let greedy = ["--temperature", "0", "--max-tokens", "12"];
        taal(place, &[&prompt[..], &greedy].concat())
    };
    assert_eq!(generate(&device), generate("flex"));
}

/// Between the losses of ten steps with f16 products on the GPU and fp32 ones on flex: 11 bits a product.
const HALF_CURVE: f64 = 2e-2;

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn f16_follows_fp32_or_is_refused() {
    let place = place_with_recipe();
    let place = place.path();
    let device = spec().to_string();
    let arguments = |device: &str, run: &str, precision: &str| {
        let set = format!("train.precision={precision}");
        let fixed = [
            "train",
            "--recipe",
            "tiny.toml",
            "--set",
            "train.steps=10",
            "--set",
            &set,
        ];
        let all = [&fixed[..], &["--device", device, "--run-dir", run]].concat();
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let f16 = arguments(&device, "gpu", "f16");
    if !Precision::F16.is_supported(&gpu()) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taal"));
        let output = command.args(f16).current_dir(place).output().expect("taal starts");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(
            message.contains("train.precision") && message.contains("fp32"),
            "{message}"
        );
        return;
    }
    let run = |args: &[String]| taal(place, &args.iter().map(String::as_str).collect::<Vec<_>>());
    run(&f16);
    run(&arguments("flex", "cpu", "fp32"));
    let (found, expected) = (losses(place, "gpu"), losses(place, "cpu"));
    assert_eq!((found.len(), expected.len()), (10, 10));
    assert_ne!(found, expected);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < HALF_CURVE, "{found} instead of {expected}");
    }
}

/// [`ModelSize`] in one line: vocabulary, context, layers, heads, width.
fn size(vocab_size: usize, max_seq_len: usize, n_layers: usize, n_heads: usize, d_model: usize) -> ModelSize {
    ModelSize {
        vocab_size,
        max_seq_len,
        n_layers,
        n_heads,
        d_model,
    }
}
