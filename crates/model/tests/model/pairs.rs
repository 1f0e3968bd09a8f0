//! Encoder-decoders of every kind against themselves: with and without a cache, padded and not, written and read.

use taal_model::hugging_face::Lora;
use taal_model::{Cache, CacheType, EncoderConfig, Memory, RelativePositions, Site, WeightFormat};

use super::super::*;
use super::pair_configs::many_pairs;

pub fn capture() -> Capture {
    Capture {
        attention_weights: true,
        ..Capture::default()
    }
}

/// A batch of two sources and two targets for a model.
pub struct Pair<'a> {
    model: &'a Transformer,
    sources: Tensor<2, Int>,
    targets: Tensor<2, Int>,
}

/// The second source is shorter.
const LENGTHS: [usize; 2] = [9, 6];

impl<'a> Pair<'a> {
    pub fn of(model: &'a Transformer) -> Self {
        let vocab = model.config().vocab_size;
        Self {
            model,
            sources: some_ids(2, 9, vocab),
            targets: some_ids(2, 13, vocab.min(41)),
        }
    }

    fn memory(&self) -> Memory {
        self.model.encode(self.sources.clone(), &LENGTHS, None).unwrap()
    }

    fn logits_of(&self, memory: &Memory) -> Tensor<3> {
        let options = ForwardOptions {
            memory: Some(memory),
            ..ForwardOptions::default()
        };
        let output = self.model.forward_with(self.targets.clone(), options).unwrap();
        self.model.logits(output.hidden)
    }

    pub fn logits(&self) -> Tensor<3> {
        self.logits_of(&self.memory())
    }

    /// The logits of some tokens of the targets, of rows of the batch, continued in a cache.
    fn continued(&self, cache: &mut Cache, rows: &[usize], from: usize, count: usize) -> Tensor<3> {
        let ids = rows.iter().map(|row| self.targets.clone().narrow(0, *row, 1)).collect();
        let ids = Tensor::cat(ids, 0).narrow(1, from, count);
        let options = ForwardOptions {
            cache: Some(cache),
            ..ForwardOptions::default()
        };
        self.model.logits(self.model.forward_with(ids, options).unwrap().hidden)
    }
}

fn rows_of(x: &Tensor<3>, rows: &[usize], from: usize, count: usize) -> Tensor<3> {
    let rows = rows.iter().map(|row| x.clone().narrow(0, *row, 1)).collect();
    Tensor::cat(rows, 0).narrow(1, from, count)
}

#[test]
fn a_saved_directory_opens_as_the_same_model_and_its_parameters_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    for (name, config) in many_pairs() {
        let model = random_weights(&config);
        let dir = folder.path().join(name);
        hugging_face::save(&model, &dir, Companions::default()).unwrap();
        let opened = hugging_face::open(&dir, &Device::flex()).unwrap();
        assert_eq!(opened.config(), model.config(), "{name}");
        let difference = largest_difference(Pair::of(&opened).logits(), Pair::of(&model).logits());
        assert_eq!(difference, 0.0, "{name}");
        let listed = parameters::list(&model);
        let counted: usize = listed.iter().map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(config.n_params(), counted as u64, "{name}");
    }
}

#[test]
fn families_of_encoder_decoders_are_told_from_the_configuration() {
    let family_of = |wanted: &str| {
        let (_, config) = many_pairs().into_iter().find(|(name, _)| *name == wanted).unwrap();
        (Family::of(&config), Family::obstacle(&config))
    };
    assert_eq!(family_of("marian"), (Family::Marian, None));
    assert_eq!(family_of("marian without biases"), (Family::Marian, None));
    assert_eq!(family_of("t5"), (Family::T5, None));
    assert_eq!(family_of("t5 tied"), (Family::T5, None));
    assert_eq!(
        family_of("t5 tied without a scale, as transformers 5 may have it"),
        (Family::T5, None)
    );
    assert_eq!(
        family_of("t5 with scaled attention"),
        (Family::Taal, Some("attention_scale"))
    );
    assert_eq!(
        family_of("marian with a norm of the embeddings"),
        (Family::Taal, Some("embedding_norm"))
    );
    assert_eq!(family_of("llama with an encoder"), (Family::Taal, Some("position")));
    let one_sided = TransformerConfig {
        scale_embeddings: true,
        ..TransformerConfig::gpt2(size(50, 16, 1, 4, 32))
    };
    assert_eq!(Family::obstacle(&one_sided), Some("scale_embeddings"));
}

#[test]
fn decoding_with_a_cache_equals_one_whole_forward() {
    for (name, config) in many_pairs() {
        let model = random_weights(&config);
        let pair = Pair::of(&model);
        let whole = pair.logits();
        let mut cache = model.new_cache_for(&pair.memory(), 40).unwrap();
        let mut from = 0;
        for count in [4, 1, 1, 7] {
            let found = pair.continued(&mut cache, &[0, 1], from, count);
            let difference = largest_difference(found, whole.clone().narrow(1, from, count));
            assert!(difference < 10.0 * SELF_TOLERANCE, "{name}, token {from}: {difference}");
            from += count;
        }
        // In half precision keys and values are rounded.
        let rounded = model.clone().with_cache(CacheType::F16).unwrap();
        let mut cache = rounded.new_cache_for(&pair.memory(), 40).unwrap();
        let pair = Pair::of(&rounded);
        let found = pair.continued(&mut cache, &[0, 1], 0, 13);
        let largest: f32 = whole.clone().abs().max().into_scalar();
        let difference = largest_difference(found, whole) / largest;
        assert!(0.0 < difference && difference < 2e-2, "{name}: {difference}");
    }
}

#[test]
fn rows_that_share_a_source_move_and_continue_as_alone() {
    for (name, config) in many_pairs() {
        let model = random_weights(&config);
        let pair = Pair::of(&model);
        let whole = pair.logits();
        let mut cache = model.new_cache_for_beams(&pair.memory(), 3, 40).unwrap();
        assert_eq!(cache.lens(), [0; 6]);
        let near = |cache: &mut Cache, rows: &[usize], from: usize| {
            let found = pair.continued(cache, rows, from, 1);
            let difference = largest_difference(found, rows_of(&whole, rows, from, 1));
            assert!(difference < 10.0 * SELF_TOLERANCE, "{name}, token {from}: {difference}");
        };
        let rows = [0, 0, 0, 1, 1, 1];
        near(&mut cache, &rows, 0);
        cache.reorder(&[2, 2, 0, 4, 3, 3]);
        near(&mut cache, &rows, 1);
        // The second source takes the place of the first.
        cache.reorder(&[3, 4, 5, 0, 1, 2]);
        near(&mut cache, &[1, 1, 1, 0, 0, 0], 2);
        for (a, b) in [(0, 3), (1, 4), (2, 5)] {
            cache.swap_rows(a, b);
        }
        near(&mut cache, &rows, 3);
        for row in 0..3 {
            assert_eq!(cache.copy_within(3 + row, row, 4), 4);
        }
        near(&mut cache, &[1; 6], 4);
        // Some of the rows only, and a row of another cache.
        let mut alone = model.new_cache_for(&pair.memory(), 40).unwrap();
        pair.continued(&mut alone, &[0, 1], 0, 5);
        for row in 3..6 {
            cache.copy_row(row, &alone, 0).unwrap();
        }
        let options = ForwardOptions {
            cache: Some(&mut cache),
            rows: Some(3..6),
            ..ForwardOptions::default()
        };
        let ids = Tensor::cat(vec![pair.targets.clone().slice([0..1, 5..6]); 3], 0);
        let found = model.logits(model.forward_with(ids, options).unwrap().hidden);
        let difference = largest_difference(found, rows_of(&whole, &[0; 3], 5, 1));
        assert!(difference < 10.0 * SELF_TOLERANCE, "{name}: {difference}");
    }
}

#[test]
fn weights_of_attention_to_the_source_are_the_same_with_a_cache_and_change_nothing() {
    let model = random_weights(&many_pairs()[0].1);
    let pair = Pair::of(&model);
    let memory = pair.memory();
    let run = |capture: Capture| {
        let options = ForwardOptions {
            memory: Some(&memory),
            capture,
            ..ForwardOptions::default()
        };
        model.forward_with(pair.targets.clone(), options).unwrap()
    };
    let (plain, looked) = (run(Capture::default()), run(capture()));
    assert_eq!(largest_difference(plain.hidden, looked.hidden), 0.0);
    assert!(plain.cross_weights.is_empty());
    let mut cache = model.new_cache_for_beams(&memory, 2, 40).unwrap();
    let options = ForwardOptions {
        cache: Some(&mut cache),
        capture: capture(),
        ..ForwardOptions::default()
    };
    let ids = Tensor::cat(
        [0, 0, 1, 1].map(|row| pair.targets.clone().narrow(0, row, 1)).to_vec(),
        0,
    );
    let cached = model.forward_with(ids, options).unwrap();
    for (whole, cached) in looked.cross_weights.iter().zip(&cached.cross_weights) {
        assert_eq!(cached.dims(), [4, 4, 13, 9]);
        let whole = Tensor::cat([0, 0, 1, 1].map(|row| whole.clone().narrow(0, row, 1)).to_vec(), 0);
        assert!(largest_difference(whole, cached.clone()) < SELF_TOLERANCE);
        let padding: f32 = cached.clone().narrow(0, 2, 2).narrow(3, 6, 3).abs().max().into_scalar();
        assert_eq!(padding, 0.0);
    }
}

#[test]
fn every_token_of_the_source_counts_and_its_padding_does_not() {
    for (name, config) in many_pairs() {
        let model = random_weights(&config);
        let pair = Pair::of(&model);
        let logits = pair.logits();
        let with = |row: usize, place: usize| {
            let sources = pair.sources.clone();
            let other = Tensor::<2, Int>::from_ints([[49]], &Device::flex());
            let changed = Pair {
                sources: sources.slice_assign([row..row + 1, place..place + 1], other),
                targets: pair.targets.clone(),
                model: &model,
            };
            changed.logits()
        };
        for place in 6..9 {
            assert_eq!(
                largest_difference(with(1, place), logits.clone()),
                0.0,
                "{name}: padding {place}"
            );
        }
        for place in [0, 5] {
            assert!(
                largest_difference(with(1, place), logits.clone()) > 1e-4,
                "{name}: token {place}"
            );
        }
        // Alone and without padding a source gives the same.
        let alone = Pair {
            sources: pair.sources.clone().slice([1..2, 0..6]),
            targets: pair.targets.clone().narrow(0, 1, 1),
            model: &model,
        };
        let memory = model.encode(alone.sources.clone(), &[6], None).unwrap();
        let difference = largest_difference(alone.logits_of(&memory), logits.narrow(0, 1, 1));
        assert!(difference < SELF_TOLERANCE, "{name}: {difference}");
    }
}

#[test]
fn every_parameter_of_both_sides_has_a_gradient_and_the_loss_is_that_of_the_logits() {
    let device = Device::flex().autodiff();
    for (name, config) in many_pairs() {
        let model = random_weights_on(&config, &device);
        let targets: Vec<i32> = (0..26).map(|i| if i % 3 == 0 { -100 } else { i * 7 % 50 }).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [26]), &device);
        let hidden = || {
            let on = |ids: Tensor<2, Int>| ids.to_device(&device);
            let memory = model.encode(on(some_ids(2, 9, 50)), &LENGTHS, None).unwrap();
            let options = ForwardOptions {
                memory: Some(&memory),
                ..ForwardOptions::default()
            };
            model.forward_with(on(some_ids(2, 13, 41)), options).unwrap().hidden
        };
        let fused = model.loss_smoothed(hidden(), targets.clone(), -100, 0.1);
        let logits = model.logits(hidden()).reshape([26, 50]);
        let plain = taal_kernels::reference::cross_entropy_smoothed(logits, targets.clone(), -100, 0.1);
        let difference = largest_difference(fused.clone().inner(), plain.clone().inner());
        assert!(difference < SELF_TOLERANCE, "{name}: {difference}");
        let unsmoothed = [
            model.loss(hidden(), targets.clone(), -100),
            model.loss_smoothed(hidden(), targets, -100, 0.0),
        ];
        let [loss, zero] = unsmoothed.map(|loss| -> f32 { loss.inner().into_scalar() });
        assert_eq!(loss.to_bits(), zero.to_bits(), "{name}");
        let [fused, plain] = [fused, plain].map(|loss| loss.backward());
        let mut gradients = Gradients {
            table: ParameterTable::of(&model),
            of: [&fused, &plain],
            largest_difference: 0.0,
            largest: 0.0,
        };
        model.visit(&mut gradients);
        assert!(
            gradients.largest_difference <= SELF_TOLERANCE * gradients.largest.max(1.0),
            "{name}: {}",
            gradients.largest_difference
        );
    }
}

#[test]
fn losses_in_bf16_are_near_those_in_single_precision() {
    let device = Device::flex().autodiff();
    for (name, config) in many_pairs() {
        let model = config.init(3, &device).unwrap();
        let targets: Vec<i32> = (0..26).map(|i| i * 7 % 50).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [26]), &device);
        let loss = |precision| {
            taal_kernels::with_precision(precision, || {
                let on = |ids: Tensor<2, Int>| ids.to_device(&device);
                let memory = model.encode(on(some_ids(2, 9, 50)), &LENGTHS, None).unwrap();
                let options = ForwardOptions {
                    memory: Some(&memory),
                    ..ForwardOptions::default()
                };
                let output = model.forward_with(on(some_ids(2, 13, 41)), options).unwrap();
                model.loss_smoothed(output.hidden, targets.clone(), -100, 0.1)
            })
        };
        let [single, half] = [taal_kernels::Precision::Fp32, taal_kernels::Precision::Bf16].map(loss);
        let gradients = half.clone().backward();
        let query = match &model.stack {
            taal_model::Stack::Blocks(blocks) => &blocks.blocks[0].cross.as_ref().unwrap().attention.query,
            _ => panic!("{name} has no blocks"),
        };
        let gradient = query.weight.val().grad(&gradients).unwrap();
        let largest: f32 = gradient.abs().max().into_scalar();
        assert!(largest > 0.0 && largest.is_finite(), "{name}: {largest}");
        let [single, half] = [single, half].map(|loss| -> f32 { loss.inner().into_scalar() });
        assert!(single != half, "{name} was computed in single precision");
        assert!((single - half).abs() < 1e-2 * single, "{name}: {half} is not {single}");
    }
}

#[test]
fn dropout_of_both_sides_is_a_function_of_its_key() {
    let (_, config) = many_pairs().swap_remove(0);
    let config = TransformerConfig { dropout: 0.5, ..config };
    let model = random_weights(&config);
    let pair = Pair::of(&model);
    let run = |of_encoder: Option<u64>, of_decoder: Option<u64>| {
        let memory = model.encode(pair.sources.clone(), &LENGTHS, of_encoder).unwrap();
        let options = ForwardOptions {
            memory: Some(&memory),
            dropout_key: of_decoder,
            ..ForwardOptions::default()
        };
        parameters::to_vec(model.forward_with(pair.targets.clone(), options).unwrap().hidden)
    };
    assert_eq!(run(Some(1), Some(1)), run(Some(1), Some(1)));
    let different = [
        run(None, None),
        run(Some(1), None),
        run(None, Some(1)),
        run(Some(1), Some(1)),
        run(Some(2), Some(1)),
    ];
    for (index, one) in different.iter().enumerate() {
        assert!(different[..index].iter().all(|other| other != one), "{index}");
    }
}

#[test]
fn hooks_read_and_replace_the_heads_that_attend_to_the_source() {
    let model = random_weights(&many_pairs()[0].1);
    let pair = Pair::of(&model);
    let memory = pair.memory();
    let run = |memory: &Memory, hook: &mut dyn FnMut(Site, Tensor<3>) -> Tensor<3>| {
        let options = ForwardOptions {
            memory: Some(memory),
            hook: Some(hook),
            ..ForwardOptions::default()
        };
        model.forward_with(pair.targets.clone(), options).unwrap().hidden
    };
    let mut seen = Vec::new();
    run(&memory, &mut |site, x| {
        seen.push(site);
        x
    });
    let expected = [0, 1].map(|layer| {
        [
            Site::BeforeBlock(layer),
            Site::Heads(layer),
            Site::CrossHeads(layer),
            Site::AfterBlock(layer),
        ]
    });
    assert_eq!(seen, expected.concat());
    // Without what the heads bring from the source, the source does not matter.
    let without = |memory: &Memory| {
        run(memory, &mut |site, x| match site {
            Site::CrossHeads(_) => x.zeros_like(),
            _ => x,
        })
    };
    let other = model.encode(some_ids(2, 5, 7), &[5, 2], None).unwrap();
    assert_eq!(largest_difference(without(&memory), without(&other)), 0.0);
}

#[test]
fn rounded_weights_and_adapters_are_in_every_matrix_of_both_sides() {
    for (name, config) in many_pairs() {
        let model = random_weights(&config);
        let logits = Pair::of(&model).logits();
        let rounded = model.clone().with_weights(WeightFormat::F16).unwrap();
        let matrices = parameters::list(&model);
        let matrices = matrices.iter().filter(|info| taal_model::can_be_quantized(&info.name));
        assert_eq!(rounded.quantized().len(), matrices.clone().count(), "{name}");
        assert!(
            matrices
                .clone()
                .any(|info| info.name == "encoder.blocks.0.feed_forward.up.weight")
        );
        assert!(
            matrices
                .clone()
                .any(|info| info.name == "blocks.1.cross.key_value.weight")
        );
        let largest: f32 = logits.clone().abs().max().into_scalar();
        let difference = largest_difference(Pair::of(&rounded).logits(), logits.clone()) / largest;
        // Half floats keep 11 bits; large weights and unscaled attention make more of the difference.
        assert!(0.0 < difference && difference < 5e-2, "{name}: {difference}");

        let lora = Lora {
            rank: 2,
            alpha: 4.0,
            is_rslora: false,
            dropout: 0.0,
            targets: Vec::new(),
            modules_to_save: Vec::new(),
        };
        let family = Family::of(&config);
        let fresh = model.clone().with_lora(&lora, family, 1).unwrap();
        let with_adapter: Vec<String> = parameters::list(&fresh)
            .into_iter()
            .filter_map(|info| Some(info.name.strip_suffix(".lora_a")?.to_owned()))
            .collect();
        let layers = matrices.filter(|info| !["token_embedding.weight", "head.weight"].contains(&&*info.name));
        let layers: Vec<String> = layers
            .map(|info| info.name.trim_end_matches(".weight").to_owned())
            .collect();
        assert_eq!(with_adapter, layers, "{name}");
        assert_eq!(largest_difference(Pair::of(&fresh).logits(), logits), 0.0, "{name}");
    }
}

#[test]
fn initialization_scales_the_projections_of_each_side_by_its_depth() {
    let config = TransformerConfig {
        encoder: Some(EncoderConfig { n_layers: 8 }),
        ..TransformerConfig::llama(size(50, 16, 2, 4, 64))
    };
    let mut seen = 0;
    parameters::read(&config.init(1, &Device::flex()).unwrap(), |name, _, values| {
        let std = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        let expected = match name {
            "encoder.blocks.7.attention.output.weight" | "encoder.blocks.0.feed_forward.down.weight" => 0.02 / 4.0,
            "blocks.1.cross.output.weight" | "blocks.0.attention.output.weight" => 0.02 / 6.0_f32.sqrt(),
            "blocks.0.cross.query.weight" | "encoder.blocks.0.attention.qkv.weight" => 0.02,
            "encoder.final_norm.weight" | "blocks.0.cross_norm.weight" => 1.0,
            _ => return,
        };
        seen += 1;
        assert!((std / expected - 1.0).abs() < 0.1, "{name}: {std}");
    });
    assert_eq!(seen, 8);
}

#[test]
fn what_an_encoder_decoder_cannot_do_is_said() {
    let good = many_pairs().swap_remove(0).1;
    let bad = [
        (
            "model.encoder.n_layers",
            TransformerConfig {
                encoder: Some(EncoderConfig { n_layers: 0 }),
                ..good.clone()
            },
        ),
        (
            "model.decoder_start",
            TransformerConfig {
                decoder_start: Some(50),
                ..good.clone()
            },
        ),
        (
            "model.decoder_start",
            TransformerConfig {
                encoder: None,
                ..good.clone()
            },
        ),
        (
            "model.is_causal",
            TransformerConfig {
                is_causal: false,
                ..good.clone()
            },
        ),
        (
            "model.head_transform",
            TransformerConfig {
                head_transform: true,
                ..good.clone()
            },
        ),
        (
            "model.sinusoidal_halves",
            TransformerConfig {
                sinusoidal_halves: true,
                ..good.clone()
            },
        ),
        (
            "model.relative",
            TransformerConfig {
                relative: Some(RelativePositions::default()),
                ..good.clone()
            },
        ),
        (
            "model.relative.buckets",
            TransformerConfig {
                position: PositionKind::Relative,
                relative: Some(RelativePositions {
                    buckets: 6,
                    max_distance: 20,
                }),
                ..good.clone()
            },
        ),
        (
            "model.relative.max_distance",
            TransformerConfig {
                position: PositionKind::Relative,
                relative: Some(RelativePositions {
                    buckets: 8,
                    max_distance: 4,
                }),
                ..good.clone()
            },
        ),
        (
            "model.attention_scale",
            TransformerConfig {
                attention_scale: Some(0.0),
                ..good.clone()
            },
        ),
        (
            "model.encoder",
            TransformerConfig {
                encoder: Some(EncoderConfig { n_layers: 1 }),
                ..TransformerConfig::lstm(size(50, 16, 1, 1, 32))
            },
        ),
    ];
    for (field, config) in bad {
        let message = config.init(1, &Device::flex()).unwrap_err().to_string();
        assert!(message.starts_with(field), "{message} is not about {field}");
    }
    let model = random_weights(&good);
    let pair = Pair::of(&model);
    let memory = pair.memory();
    let ids = || pair.targets.clone();
    let refused = |options: ForwardOptions<'_>| model.forward_with(ids(), options).unwrap_err().to_string();
    assert!(refused(ForwardOptions::default()).contains("needs a source"));
    let mut without = model.new_cache(2, 20);
    let options = ForwardOptions {
        cache: Some(&mut without),
        ..ForwardOptions::default()
    };
    assert!(refused(options).contains("needs a source"));
    let mut cache = model.new_cache_for(&memory, 20).unwrap();
    let options = ForwardOptions {
        cache: Some(&mut cache),
        memory: Some(&memory),
        ..ForwardOptions::default()
    };
    assert!(refused(options).contains("leave the memory out"));
    let one = model.encode(some_ids(1, 4, 50), &[4], None).unwrap();
    let options = ForwardOptions {
        memory: Some(&one),
        ..ForwardOptions::default()
    };
    assert!(refused(options).contains("of 1 sources, the ids of 2 rows"));
    let mut beams = model.new_cache_for_beams(&memory, 2, 20).unwrap();
    let options = ForwardOptions {
        cache: Some(&mut beams),
        rows: Some(1..3),
        ..ForwardOptions::default()
    };
    assert!(refused(options).contains("share a source"));
    for (lengths, said) in [
        (&[9][..], "expected 2 numbers"),
        (&[9, 10], "of 1..=9"),
        (&[0, 9], "of 1..=9"),
    ] {
        let message = model
            .encode(pair.sources.clone(), lengths, None)
            .unwrap_err()
            .to_string();
        assert!(message.contains(said), "{message}");
    }
    let message = model.encode(some_ids(1, 41, 50), &[41], None).unwrap_err().to_string();
    assert!(message.contains("41") && message.contains("40"), "{message}");
    let alone = random_weights(&TransformerConfig::llama(size(50, 16, 1, 4, 32)));
    assert!(
        alone
            .encode(some_ids(1, 4, 50), &[4], None)
            .unwrap_err()
            .to_string()
            .contains("no encoder")
    );
    assert!(
        alone
            .new_cache_for(&memory, 20)
            .unwrap_err()
            .to_string()
            .contains("no encoder")
    );
    let options = ForwardOptions {
        memory: Some(&memory),
        ..ForwardOptions::default()
    };
    assert!(
        alone
            .forward_with(some_ids(2, 4, 50), options)
            .unwrap_err()
            .to_string()
            .contains("no encoder")
    );
}
