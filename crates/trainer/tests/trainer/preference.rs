//! Preferences (DPO): the numbers of trl's formula, and runs on pairs.

use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use taal_data::{Batch, IGNORE_INDEX};
use taal_model::hugging_face;
use taal_model::{ParameterTable, Transformer};
use taal_trainer::{
    AdamW, Dpo, ExampleRow, Learner, MixedPrecision, Optimizer, Outcome, RecipeText, Silent, TrainError, Trainer,
    answer_log_probs, preview, resolve,
};

use crate::finished;
use crate::watchers::StopAfter;

/// Relative, in single precision.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    pairs: Vec<Pair>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Pair {
    prompt: Vec<i32>,
    chosen: Vec<i32>,
    rejected: Vec<i32>,
}

#[derive(Deserialize)]
struct Case {
    beta: f64,
    label_smoothing: f64,
    loss: f64,
    margins: Vec<f64>,
    gradient_norms: std::collections::BTreeMap<String, f64>,
    final_norm_gradient: Vec<f64>,
}

/// Chosen answers, then rejected ones, padded to the longest.
fn batch(pairs: &[Pair]) -> Batch {
    let rows = pairs.iter().map(|pair| (pair, &pair.chosen));
    let rows: Vec<(&Pair, &Vec<i32>)> = rows.chain(pairs.iter().map(|pair| (pair, &pair.rejected))).collect();
    let seq_len = rows
        .iter()
        .map(|(pair, answer)| pair.prompt.len() + answer.len())
        .max()
        .unwrap();
    let mut inputs = Vec::new();
    let mut targets = vec![IGNORE_INDEX; rows.len() * seq_len];
    for (row, (pair, answer)) in rows.iter().enumerate() {
        inputs.extend(pair.prompt.iter().chain(*answer));
        inputs.resize((row + 1) * seq_len, 0);
        for (index, token) in answer.iter().enumerate() {
            targets[row * seq_len + pair.prompt.len() - 1 + index] = *token;
        }
    }
    Batch {
        batch_size: rows.len(),
        seq_len,
        inputs,
        targets,
        text_starts: None,
        source: None,
    }
}

fn model(name: &str, device: &Device) -> Transformer {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../model/tests/golden")
        .join(name);
    hugging_face::open(&dir, device).unwrap()
}

/// The gradient of one parameter.
struct Find<'a> {
    table: ParameterTable,
    name: &'a str,
    gradients: &'a GradientsParams,
    found: Vec<f64>,
}

impl ModuleVisitor for Find<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.table.row(param.id).name == self.name {
            let gradient = self.gradients.get::<D>(param.id).expect("a gradient");
            self.found = gradient.into_data().iter::<f64>().collect();
        }
    }
}

fn near(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= TOLERANCE * largest,
            "{what}: {found} is not {expected}"
        );
    }
}

#[test]
fn loss_and_gradients_of_ten_pairs_equal_those_of_trl() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dpo.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let batch = batch(&golden.pairs);
    let pairs = golden.pairs.len();
    let device = Device::flex().autodiff();
    let (policy, reference) = (model("llama-untied", &device), model("llama-tied", &Device::flex()));
    for case in &golden.cases {
        let dpo = Dpo {
            beta: case.beta,
            label_smoothing: case.label_smoothing,
        };
        let margins = |model: &Transformer| {
            let log_probs = answer_log_probs(model, &batch, None).unwrap();
            log_probs.clone().narrow(0, 0, pairs) - log_probs.narrow(0, pairs, pairs)
        };
        let of_reference = Tensor::from_data(margins(&reference).into_data(), &device);
        let difference = margins(&policy) - of_reference.clone();
        let found: Vec<f64> = difference.clone().into_data().iter::<f64>().collect();
        near("margins", &found, &case.margins);
        let loss = dpo.loss(difference);
        near("loss", &[f64::from(loss.clone().into_scalar::<f32>())], &[case.loss]);
        let gradients = GradientsParams::from_grads(loss.backward(), &policy);
        let mut find = Find {
            table: ParameterTable::of(&policy),
            name: "final_norm.weight",
            gradients: &gradients,
            found: Vec::new(),
        };
        policy.visit(&mut find);
        near("gradient of the final norm", &find.found, &case.final_norm_gradient);

        let mut learner = Learner {
            model: policy.clone(),
            optimizer: Optimizer::new(AdamW::default(), None),
            clip_norm: None,
            precision: MixedPrecision::default(),
        };
        let loss = |model: &Transformer, _: &Batch, _: Option<u64>| -> Result<Tensor<1>, TrainError> {
            Ok(dpo.loss(margins(model) - of_reference.clone()))
        };
        let outcome = learner
            .step_if(std::slice::from_ref(&batch), &[], 1.0, &loss, &|_| false)
            .unwrap();
        let norm = case.gradient_norms.values().map(|norm| norm * norm).sum::<f64>().sqrt();
        near("norm of all gradients", &[outcome.grad_norm], &[norm]);
    }
}

const BASE: &str = r#"
seed = 3
[data]
files = ["TEXT"]
[tokenizer]
kind = "char"
vocab_size = 100
[model]
n_layers = 1
n_heads = 2
d_model = 16
max_seq_len = 48
[train]
steps = 20
batch_size = 4
block_size = 32
lr = 1e-2
"#;

const TUNED: &str = r#"
seed = 4
[data]
conversations = "PAIRS"
validation_fraction = 0.25
[model]
dropout = 0.1
[train]
init_from = "BASE"
objective = "preference"
steps = 12
batch_size = 3
block_size = 32
accumulation = 2
lr = 1e-2
[preference]
beta = 0.5
[eval]
every = 4
[checkpoint]
every = 4
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let text = "de kat zat op de mat en de hond zat op de kat; ".repeat(20);
        std::fs::write(place.path("text.txt"), text).unwrap();
        let rows = (0..16).map(|row| {
            let (good, bad) = if row % 2 == 0 {
                ("de mat", "de kat")
            } else {
                ("de hond", "op")
            };
            format!(
                "{{\"prompt\": \"{}zat \", \"chosen\": \"op {good}\", \"rejected\": \"{bad}\"}}\n",
                "de kat "[..row % 7].to_owned()
            )
        });
        std::fs::write(place.path("pairs.jsonl"), rows.collect::<String>()).unwrap();
        finished(place.trainer("base", BASE).run());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn trainer<'a>(&self, run: &str, recipe: &str) -> Trainer<'a> {
        let replaced = [("TEXT", "text.txt"), ("BASE", "base"), ("PAIRS", "pairs.jsonl")];
        let recipe = replaced.iter().fold(recipe.to_owned(), |text, (from, to)| {
            text.replace(from, &self.path(to).display().to_string())
        });
        Trainer::new(RecipeText::new("tiny", recipe), self.path(run))
    }
}

#[test]
fn a_run_on_preferences_learns_to_prefer_and_resumes_with_equal_bits_also_as_an_adapter() {
    let place = Place::new();
    for (name, sets, weights) in [
        ("full", &[][..], "model.safetensors"),
        (
            "adapter",
            &["lora.rank=4", "lora.dropout=0.1"][..],
            "adapter_model.safetensors",
        ),
    ] {
        let trainer = |run: &str| {
            sets.iter()
                .fold(place.trainer(run, TUNED), |trainer, set| trainer.set(*set))
        };
        let whole = finished(trainer(name).run());
        assert_eq!(whole.objective, "preference");
        let log = taal_metrics::read_log(&place.path(name).join("log.jsonl")).unwrap();
        // Before the first update the model is the reference, but for its dropout: near the logarithm of 2.
        assert!((log[0].loss - 2.0_f64.ln()).abs() < 0.2, "{}", log[0].loss);
        assert!(whole.val_loss.unwrap() < 0.68, "{name}: {:?}", whole.val_loss);
        assert!(
            log[11].val_accuracy.unwrap() > 0.7,
            "{name}: {:?}",
            log[11].val_accuracy
        );
        let stopped = format!("{name}-stopped");
        let mut stop = StopAfter::step(6);
        assert!(matches!(
            trainer(&stopped).progress(&mut stop).run().unwrap(),
            Outcome::Interrupted(_)
        ));
        finished(trainer(&stopped).resume().run());
        let last =
            |run: &str| std::fs::read(place.path(run).join("checkpoints/step-00000012/model").join(weights)).unwrap();
        assert!(last(&stopped) == last(name), "{name}");
    }
}

#[test]
fn preferences_without_pairs_or_a_model_to_begin_with_are_refused_and_a_changed_answer_is_noticed() {
    let place = Place::new();
    let error = place
        .trainer("refused", BASE)
        .set("train.objective=preference")
        .run()
        .unwrap_err();
    assert!(error.to_string().contains("set train.init_from"), "{error}");
    let next = TUNED.replace("objective = \"preference\"\n", "");
    let error = place.trainer("refused", &next).run().unwrap_err();
    assert!(
        error.to_string().contains("preference: it has no effect without"),
        "{error}"
    );
    let mut stop = StopAfter::step(6);
    assert!(matches!(
        place.trainer("changed", TUNED).progress(&mut stop).run().unwrap(),
        Outcome::Interrupted(_)
    ));
    let path = place.path("pairs.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"rejected\": \"op\"", "\"rejected\": \"mat\"", 1)).unwrap();
    let error = place.trainer("changed", TUNED).resume().run().unwrap_err();
    assert!(error.to_string().contains("rejected answer changed"), "{error}");
    std::fs::write(&path, "{\"prompt\": \"de\", \"completion\": \"kat\"}\n".repeat(8)).unwrap();
    let error = place.trainer("refused", TUNED).run().unwrap_err();
    assert!(
        error.to_string().contains("line 1") && error.to_string().contains("rejected"),
        "{error}"
    );
}

#[test]
fn a_preview_shows_both_answers_of_a_pair_and_refuses_what_training_refuses() {
    let place = Place::new();
    let replaced = [("BASE", "base"), ("PAIRS", "pairs.jsonl")];
    let recipe = replaced.iter().fold(TUNED.to_owned(), |text, (from, to)| {
        text.replace(from, &place.path(to).display().to_string())
    });
    let recipe = RecipeText::new("tiny", recipe);
    let shown = || preview(&resolve(&recipe, &[]).unwrap(), 2, &mut Silent);
    let learned = |row: &ExampleRow| -> String {
        let tokens = row.row.tokens.iter().filter(|token| token.is_learned);
        tokens.map(|token| token.text.as_str()).collect()
    };
    let rows = shown().unwrap().rows;
    let found: Vec<(Option<u64>, bool, String)> = rows
        .iter()
        .map(|row| (row.line, row.is_rejected, learned(row)))
        .collect();
    let expected = [
        (1, false, "op de mat"),
        (1, true, "de kat"),
        (2, false, "op de hond"),
        (2, true, "op"),
    ];
    assert_eq!(found.len(), expected.len());
    for (found, (line, is_rejected, text)) in found.iter().zip(expected) {
        assert_eq!((found.0, found.1), (Some(line), is_rejected));
        assert!(found.2.starts_with(text), "{found:?}");
    }
    std::fs::write(
        place.path("pairs.jsonl"),
        "{\"prompt\": \"de\", \"chosen\": \"kat\", \"rejected\": \"\"}\n".repeat(8),
    )
    .unwrap();
    let error = shown().unwrap_err().to_string();
    assert!(
        error.contains("line 1") && error.contains("`rejected` is empty"),
        "{error}"
    );
    // Answers that differ only in what a block has no room for.
    let long = "kat ".repeat(12);
    let same = format!("{{\"prompt\": \"de\", \"chosen\": \"{long}op\", \"rejected\": \"{long}mat\"}}\n");
    let good = "{\"prompt\": \"de\", \"chosen\": \"kat\", \"rejected\": \"mat\"}\n";
    std::fs::write(place.path("pairs.jsonl"), good.repeat(3) + &same + good).unwrap();
    for error in [
        shown().unwrap_err().to_string(),
        place.trainer("same", TUNED).run().unwrap_err().to_string(),
    ] {
        assert!(
            error.contains("pairs.jsonl, line 4") && error.contains("train.block_size larger"),
            "{error}"
        );
    }
}

#[test]
fn conversations_that_begin_alike_are_learned_as_that_prompt_with_two_answers() {
    let place = Place::new();
    let template = place.path("plain.jinja");
    std::fs::write(
        &template,
        "{% for message in messages %}{{ message.content }}{% endfor %}",
    )
    .unwrap();
    let said = |role: &str, content: &str| format!("{{\"role\": {role:?}, \"content\": {content:?}}}");
    let row = |row: usize, has_prompt: bool| {
        let asked = said("user", &format!("{}zat ", &"de kat "[..row % 7]));
        let [good, bad] = ["op de mat", "de kat"].map(|answer| said("assistant", answer));
        match has_prompt {
            true => format!("{{\"prompt\": [{asked}], \"chosen\": [{good}], \"rejected\": [{bad}]}}\n"),
            false => format!("{{\"chosen\": [{asked}, {good}], \"rejected\": [{asked}, {bad}]}}\n"),
        }
    };
    let [with, without] = [true, false].map(|has_prompt| {
        let rows: String = (0..16).map(|index| row(index, has_prompt)).collect();
        std::fs::write(place.path("pairs.jsonl"), rows).unwrap();
        let run = if has_prompt { "with" } else { "without" };
        let template = format!("data.chat_template={:?}", template.display().to_string());
        finished(place.trainer(run, TUNED).set(template).run());
        crate::weights_at(&place.path(run), 12)
    });
    assert!(with == without);
}
