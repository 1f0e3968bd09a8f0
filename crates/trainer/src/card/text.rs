//! The sections of a card.

use std::fmt::Write as _;

use taal_draw::Language;
use taal_metrics::energy::{EnergyFigures, GramCo2e, Joule};
use taal_metrics::{LedgerEntry, LedgerTotals, Report, RunNote, perplexity};
use taal_model::{Mixer, NormKind, PositionKind, TransformerConfig};
use toml::{Table, Value};

use super::sources::source_words;
use super::task::Task;
use super::{Facts, questions};

/// The card below its front matter.
pub(super) fn of(facts: &Facts<'_>) -> String {
    let mut text = format!("# {}\n\n", facts.name.replace('\n', " "));
    for section in [
        introduction(facts),
        model(facts),
        data(facts),
        training(facts),
        energy(facts),
        reproduction(facts),
        limits(facts),
        questions::algoritmekader(facts),
        questions::ai_act(facts),
    ] {
        text.push_str(section.trim_end());
        text.push_str("\n\n");
    }
    text
}

/// Numbers and amounts as the card's language writes them.
impl Facts<'_> {
    /// A text with English numbers.
    pub(super) fn local(&self, text: &str) -> String {
        match self.language {
            Language::English => text.to_string(),
            Language::Dutch => text
                .chars()
                .map(|character| match character {
                    '.' => ',',
                    ',' => '.',
                    other => other,
                })
                .collect(),
        }
    }

    pub(super) fn grouped(&self, number: u64) -> String {
        let digits = number.to_string();
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        self.local(&text)
    }

    pub(super) fn decimals(&self, number: f64, decimals: usize) -> String {
        self.local(&format!("{number:.decimals$}"))
    }

    pub(super) fn energy(&self, joules: f64) -> String {
        self.local(&Joule(joules).watt_hours().to_string())
    }

    pub(super) fn gases(&self, grams: f64) -> String {
        self.local(&GramCo2e(grams).to_string())
    }

    pub(super) fn duration(&self, seconds: f64) -> String {
        match seconds {
            seconds if seconds < 120.0 => format!("{} s", self.decimals(seconds, 1)),
            seconds if seconds < 7200.0 => format!("{} min", self.decimals(seconds / 60.0, 1)),
            seconds => format!("{} h", self.decimals(seconds / 3600.0, 1)),
        }
    }

    /// Powers of ten as `1.23e15`.
    pub(super) fn scientific(&self, number: f64) -> String {
        self.local(&format!("{number:.2e}"))
    }

    /// The figures of the last training.
    pub(super) fn report(&self) -> Option<&Report> {
        self.last()?.report.as_ref()
    }

    /// What is said where a fact is missing.
    pub(super) fn unknown(&self) -> &'static str {
        match self.language {
            Language::English => "not known",
            Language::Dutch => "niet bekend",
        }
    }
}

/// A table with a row per fact.
fn table(facts: &Facts<'_>, rows: &[(&str, Option<String>)]) -> String {
    let mut text = format!(
        "| {} | {} |\n|---|---|\n",
        facts.say("what", "wat"),
        facts.say("figure", "waarde")
    );
    for (name, value) in rows {
        let value = value.as_deref().unwrap_or(facts.unknown());
        let _ = writeln!(text, "| {name} | {} |", cell(value));
    }
    text
}

/// Text that stays in its cell of a table.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn introduction(facts: &Facts<'_>) -> String {
    let kind = match Task::of(facts) {
        Task::Continues => facts.say("continues a text token by token", "een tekst token voor token aanvult"),
        Task::Fills => facts.say(
            "fills in hidden tokens of a text",
            "verborgen tokens van een tekst invult",
        ),
        Task::Translates => facts.say("translates a text", "een tekst vertaalt"),
    };
    let version = facts.last().map(|entry| entry.taal_version.as_str());
    match (facts.language, version.filter(|version| !version.is_empty())) {
        (Language::English, Some(version)) => format!(
            "A language model that {kind}, trained with Taal {version}. This card was written by `taal card` from what the \
             training measured. It answers what was measured, and says what was not.\n"
        ),
        (Language::Dutch, Some(version)) => format!(
            "Een taalmodel dat {kind}, getraind met Taal {version}. Deze kaart is geschreven door `taal card` uit wat de \
             training heeft gemeten. Ze beantwoordt wat gemeten is, en zegt wat niet gemeten is.\n"
        ),
        (Language::English, None) => format!(
            "A language model that {kind}. How it was trained is not known. This card was written by `taal card` from the files \
             of the model, and says what they do not tell.\n"
        ),
        (Language::Dutch, None) => format!(
            "Een taalmodel dat {kind}. Hoe het is getraind, is niet bekend. Deze kaart is geschreven door `taal card` uit de \
             bestanden van het model, en zegt wat daar niet in staat.\n"
        ),
    }
}

/// The shape in a line.
pub(super) fn architecture(config: &TransformerConfig, facts: &Facts<'_>) -> String {
    let (layers, width) = (config.n_layers, config.d_model);
    if config.mixer == Mixer::Lstm {
        return match facts.language {
            Language::English => format!("recurrent network: {layers} LSTM layers, width {width}"),
            Language::Dutch => format!("recurrent netwerk: {layers} LSTM-lagen, breedte {width}"),
        };
    }
    let position = match config.position {
        PositionKind::Learned => facts.say("learned positions", "geleerde posities"),
        PositionKind::Sinusoidal => facts.say("sinusoidal positions", "posities als sinussen"),
        PositionKind::Rotary => facts.say("rotary positions", "draaiende posities (RoPE)"),
        PositionKind::Alibi => "ALiBi",
        PositionKind::Relative => facts.say("relative positions", "relatieve posities"),
        PositionKind::None => facts.say("no positions", "geen posities"),
    };
    let norm = match config.norm {
        NormKind::LayerNorm => "LayerNorm",
        NormKind::RmsNorm => "RMSNorm",
    };
    let heads = config.n_heads;
    if let Some(encoder) = &config.encoder {
        let encoder = encoder.n_layers;
        return match facts.language {
            Language::English => format!(
                "transformer, encoder and decoder: {encoder} encoder layers, {layers} decoder layers, {heads} heads, width {width}, \
                 {position}, {norm}"
            ),
            Language::Dutch => format!(
                "transformer, encoder en decoder: {encoder} encoderlagen, {layers} decoderlagen, {heads} koppen, breedte {width}, \
                 {position}, {norm}"
            ),
        };
    }
    let direction = match config.is_causal {
        true => facts.say("causal", "causaal"),
        false => facts.say("bidirectional", "twee richtingen op"),
    };
    match facts.language {
        Language::English => {
            format!("transformer, {direction}: {layers} layers, {heads} heads, width {width}, {position}, {norm}")
        }
        Language::Dutch => {
            format!("transformer, {direction}: {layers} lagen, {heads} koppen, breedte {width}, {position}, {norm}")
        }
    }
}

fn model(facts: &Facts<'_>) -> String {
    let config = facts.config;
    let tokenizer = facts.report().map(|report| tokenizer_words(facts, &report.tokenizer));
    let tokenizer = tokenizer.filter(|words| !words.is_empty());
    let rows = [
        (
            facts.say("architecture", "architectuur"),
            config.map(|config| architecture(config, facts)),
        ),
        (
            facts.say("parameters", "parameters"),
            config.map(|config| facts.grouped(config.n_params())),
        ),
        (
            facts.say("vocabulary", "woordenschat"),
            config.map(|config| facts.grouped(config.vocab_size as u64)),
        ),
        ("tokenizer", tokenizer),
        (
            facts.say("context, tokens", "context, tokens"),
            config.map(|config| facts.grouped(config.max_seq_len as u64)),
        ),
    ];
    format!("## Model\n\n{}", table(facts, &rows))
}

/// The tokenizer's kind, or where it is from, without folders.
fn tokenizer_words(facts: &Facts<'_>, words: &str) -> String {
    let (of, name) = match words.strip_prefix("of ") {
        Some(name) => (facts.say("of ", "van "), name),
        None => ("", words),
    };
    let name = match name {
        "the shards" => facts.say("the shards", "de shards"),
        "the program" => facts.say("the program", "het programma"),
        path => path
            .trim_end_matches(['/', '\\'])
            .rsplit(['/', '\\'])
            .next()
            .unwrap_or_default(),
    };
    format!("{of}{name}")
}

/// The machine in words.
fn machine_words(facts: &Facts<'_>, machine: &str) -> String {
    match facts.language {
        Language::English => machine.to_string(),
        Language::Dutch => machine
            .replace("virtual machine, ", "virtuele machine, ")
            .replace("unknown processor", "onbekende processor"),
    }
}

fn data(facts: &Facts<'_>) -> String {
    let mut text = String::from("## Data\n\n");
    let entries = &facts.ledger.entries;
    for entry in entries {
        let name = cell(&entry.name);
        if entry.data.is_empty() {
            let _ = writeln!(text, "- {name}: {}", facts.unknown());
        }
        for source in &entry.data {
            let _ = writeln!(text, "- {name}: {}", source_words(facts, source));
        }
    }
    let last = facts.last();
    if let Some([train, validation]) = last.and_then(|entry| entry.split_tokens) {
        let (train, validation) = (facts.grouped(train), facts.grouped(validation));
        let sentence = match facts.language {
            Language::English => {
                format!("The last training had {train} tokens to learn from and {validation} held out to validate.")
            }
            Language::Dutch => {
                format!("De laatste training had {train} tokens om van te leren en {validation} apart om te valideren.")
            }
        };
        let _ = writeln!(text, "\n{sentence}");
    }
    if let Some(hash) = last
        .map(|entry| entry.data_hash.as_str())
        .filter(|hash| !hash.is_empty())
    {
        let _ = writeln!(
            text,
            "\n{}: `{hash}`",
            facts.say("BLAKE3 of all token ids", "BLAKE3 van alle token-ids")
        );
    }
    text
}

fn training(facts: &Facts<'_>) -> String {
    let Some(report) = facts.report() else {
        let sentence = facts.say(
            "The training is not known: the model is of another program, or its ledger is missing.",
            "De training is niet bekend: het model komt uit een ander programma, of het grootboek ontbreekt.",
        );
        return format!("## {}\n\n{sentence}\n", facts.say("Training", "Training"));
    };
    let loss = |loss: Option<f64>| loss.filter(|loss| loss.is_finite()).map(|loss| facts.decimals(loss, 4));
    let best = loss(report.best_val_loss).map(|best| {
        let at = report.best_step.map_or(String::new(), |step| {
            format!(" ({} {})", facts.say("step", "stap"), facts.grouped(step))
        });
        format!("{best} nats {}{at}", facts.say("per token", "per token"))
    });
    let planned = match report.planned_steps {
        0 => String::new(),
        planned => format!(" {} {}", facts.say("of", "van"), facts.grouped(planned)),
    };
    let steps = format!("{}{planned}", facts.grouped(report.steps));
    let positive = |value: f64, words: String| (value > 0.0).then_some(words);
    let entry = facts.last();
    let machine = entry
        .map(|entry| machine_words(facts, &entry.machine))
        .filter(|words| !words.is_empty());
    let rows = [
        (facts.say("steps", "stappen"), Some(steps)),
        (
            facts.say("tokens read", "gelezen tokens"),
            Some(format!(
                "{} ({}x)",
                facts.grouped(report.tokens),
                facts.decimals(report.epochs, 2)
            )),
        ),
        (facts.say("best validation loss", "beste validatieverlies"), best),
        (
            facts.say("last validation loss", "laatste validatieverlies"),
            loss(report.val_loss),
        ),
        (
            facts.say("perplexity (best)", "perplexiteit (beste)"),
            loss(report.best_val_loss.map(perplexity)),
        ),
        (
            facts.say("bits per byte", "bits per byte"),
            loss(report.val_bits_per_byte),
        ),
        (
            facts.say("last training loss", "laatste trainingsverlies"),
            loss(Some(report.train_loss)),
        ),
        (facts.say("time", "tijd"), Some(facts.duration(report.wall_s))),
        (
            facts.say("tokens per second", "tokens per seconde"),
            positive(report.tokens_per_s, facts.grouped(report.tokens_per_s.round() as u64)),
        ),
        (
            facts.say("FLOPs of the training", "FLOPs van de training"),
            entry.and_then(|entry| entry.flops).map(|flops| facts.scientific(flops)),
        ),
        (
            facts.say("utilization of the processor (MFU)", "benutting van de processor (MFU)"),
            positive(report.mfu, format!("{} %", facts.decimals(100.0 * report.mfu, 1))),
        ),
        (
            facts.say("peak memory", "piekgeheugen"),
            positive(
                report.peak_rss_bytes as f64,
                format!("{} MiB", facts.grouped(report.peak_rss_bytes >> 20)),
            ),
        ),
        (
            facts.say("device", "apparaat"),
            Some(report.device.clone()).filter(|device| !device.is_empty()),
        ),
        (facts.say("machine", "machine"), machine),
    ];
    format!("## {}\n\n{}", facts.say("Training", "Training"), table(facts, &rows))
}

fn energy(facts: &Facts<'_>) -> String {
    let title = facts.say("Energy and carbon", "Energie en CO2");
    let mut text = format!("## {title}\n\n");
    match facts.report().and_then(|report| report.energy.as_ref()) {
        Some(figures) => text.push_str(&measured(facts, figures)),
        None => {
            let sentence = facts.say(
                "The energy of the last training was not measured.",
                "De energie van de laatste training is niet gemeten.",
            );
            let _ = writeln!(text, "{sentence}");
        }
    }
    if facts.ledger.entries.len() > 1 {
        text.push_str(&in_all(facts));
    }
    text
}

fn measured(facts: &Facts<'_>, figures: &EnergyFigures) -> String {
    let bounds = format!(
        "{} ({} {} {})",
        facts.energy(figures.joules),
        facts.energy(figures.low),
        facts.say("to", "tot"),
        facts.energy(figures.high)
    );
    let year = figures.year.map_or(String::new(), |year| format!(" ({year})"));
    let grid = format!(
        "{}{year}, {} g CO2e/kWh, PUE {}",
        figures.grid,
        facts.decimals(figures.g_per_kwh, 0),
        facts.decimals(figures.pue, 2)
    );
    let per_token = figures.per_token.map(|joules| facts.local(&Joule(joules).to_string()));
    let before = figures.preparation.as_ref().map(|part| facts.energy(part.joules));
    let mut text = table(
        facts,
        &[
            (facts.say("energy", "energie"), Some(bounds)),
            (facts.say("source", "bron"), Some(figures.source.clone())),
            (
                facts.say("of it before the first step", "daarvan voor de eerste stap"),
                before,
            ),
            (facts.say("per token read", "per gelezen token"), per_token),
            ("CO2e", Some(facts.gases(figures.co2e_g))),
            (
                facts.say("of it dynamic", "daarvan dynamisch"),
                Some(facts.gases(figures.co2e_dynamic_g)),
            ),
            (
                facts.say("of it the machine at rest", "daarvan de machine in rust"),
                Some(facts.gases(figures.co2e_idle_g)),
            ),
            (
                facts.say("making the machine, on top", "het maken van de machine, erbovenop"),
                Some(facts.gases(figures.co2e_embodied_g)),
            ),
            (facts.say("electricity", "elektriciteit"), Some(grid)),
        ],
    );
    for note in &figures.notes {
        // A sentence of another version has no translation.
        let note = facts.language.meter_sentence(note).unwrap_or_else(|| note.clone());
        let _ = writeln!(text, "\n{}: {note}", facts.say("Note", "Let op"));
    }
    let parts: Vec<&str> = figures.source.split('+').collect();
    let sentence = match (parts.contains(&"estimated"), parts.len()) {
        (false, _) => return text,
        (true, 1) => facts.say(
            "Estimated means that this machine has no sensor that a program may read: the bounds are those of its processor model.",
            "Estimated betekent dat deze machine geen sensor heeft die een programma mag lezen: de grenzen zijn die van het \
             processormodel.",
        ),
        (true, _) => facts.say(
            "The part that is estimated is what no sensor of this machine measures or what one failed to: the bounds of that part are \
             those of a model.",
            "Het deel dat estimated is, is wat geen sensor van deze machine meet of wat er een niet kon meten: de grenzen van dat deel \
             zijn die van een model.",
        ),
    };
    let _ = writeln!(text, "\n{sentence}");
    text
}

/// The trainings that the model inherits and its own, with their sum.
fn in_all(facts: &Facts<'_>) -> String {
    let sentence = facts.say(
        "The model started from the weights of earlier trainings. All of them together:",
        "Het model is begonnen met de gewichten van eerdere trainingen. Allemaal samen:",
    );
    let head = facts.say(
        "| training | tokens | time | energy | CO2e |",
        "| training | tokens | tijd | energie | CO2e |",
    );
    let mut text = format!("\n{sentence}\n\n{head}\n|---|---|---|---|---|\n");
    for entry in &facts.ledger.entries {
        let _ = writeln!(text, "{}", ledger_row(facts, entry));
    }
    let totals = facts.ledger.totals();
    let _ = writeln!(
        text,
        "| **{}** | {} | {} | {} ({} {} {}) | {} |",
        facts.say("in all", "samen"),
        facts.grouped(totals.tokens),
        facts.duration(totals.seconds),
        facts.energy(totals.joules),
        facts.energy(totals.low),
        facts.say("to", "tot"),
        facts.energy(totals.high),
        facts.gases(totals.co2e_g)
    );
    text.push_str(&unknown_part(facts, &totals));
    text
}

fn ledger_row(facts: &Facts<'_>, entry: &LedgerEntry) -> String {
    let unknown = facts.unknown();
    let report = entry.report.as_ref();
    let energy = report.and_then(|report| report.energy.as_ref());
    let or_unknown = |text: Option<String>| text.unwrap_or(unknown.to_string());
    format!(
        "| {} | {} | {} | {} | {} |",
        cell(&entry.name),
        or_unknown(report.map(|report| facts.grouped(report.tokens))),
        or_unknown(report.map(|report| facts.duration(report.wall_s))),
        or_unknown(energy.map(|energy| facts.energy(energy.joules))),
        or_unknown(energy.map(|energy| facts.gases(energy.co2e_g))),
    )
}

fn unknown_part(facts: &Facts<'_>, totals: &LedgerTotals) -> String {
    match (totals.unknown, facts.language) {
        (0, _) => String::new(),
        (count, Language::English) => {
            format!("\nThe energy of {count} of these trainings is not known and is missing in the sum.\n")
        }
        (count, Language::Dutch) => {
            format!("\nVan {count} van deze trainingen is de energie niet bekend; die ontbreekt in de som.\n")
        }
    }
}

/// Keys of a recipe whose values are paths.
const PATH_KEYS: [&str; 5] = ["files", "shards", "conversations", "file", "init_from"];

/// The recipe without comments, and without the folders of its paths.
fn recipe_text(recipe: &str) -> Option<String> {
    let mut table: Table = recipe.parse().ok().filter(|table: &Table| !table.is_empty())?;
    for (_, section) in table.iter_mut() {
        let Value::Table(section) = section else {
            continue;
        };
        for (key, value) in section.iter_mut() {
            if PATH_KEYS.contains(&key.as_str()) {
                shorten_paths(value);
            }
        }
    }
    toml::to_string(&table).ok()
}

fn shorten_paths(value: &mut Value) {
    match value {
        Value::String(path) => {
            let name = path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next();
            *path = name.unwrap_or_default().to_string();
        }
        Value::Array(paths) => paths.iter_mut().for_each(shorten_paths),
        _ => {}
    }
}

fn reproduction(facts: &Facts<'_>) -> String {
    let mut text = format!("## {}\n\n", facts.say("How to reproduce", "Hoe te herhalen"));
    let entry = facts.last();
    let recipe = entry.and_then(|entry| recipe_text(&entry.recipe));
    let (Some(entry), Some(recipe)) = (entry, recipe) else {
        let sentence = facts.say("The recipe is not known.", "Het recept is niet bekend.");
        let _ = writeln!(text, "{sentence}");
        return text;
    };
    let version = &entry.taal_version;
    let sentence = match facts.language {
        Language::English => format!(
            "Save this as `recipe.toml`, with the data next to it, and run `taal train recipe.toml` with Taal {version}. On the \
             same kind of processor the weights are the same bytes. Folders are left out of the paths."
        ),
        Language::Dutch => format!(
            "Bewaar dit als `recipe.toml`, met de data ernaast, en start `taal train recipe.toml` met Taal {version}. Op dezelfde \
             soort processor zijn de gewichten dezelfde bytes. Mappen zijn uit de paden weggelaten."
        ),
    };
    let _ = writeln!(text, "{sentence}\n\n```toml\n{}\n```", recipe.trim_end());
    text
}

fn limits(facts: &Facts<'_>) -> String {
    let mut text = format!("## {}\n\n", facts.say("Limits", "Grenzen"));
    let mut item = |sentence: String| {
        let _ = writeln!(text, "- {sentence}");
    };
    for note in facts.report().map_or(&[] as &[RunNote], |report| &report.notes) {
        item(note_words(facts, note));
    }
    if let Some(config) = facts.config {
        let (params, context) = (
            facts.grouped(config.n_params()),
            facts.grouped(config.max_seq_len as u64),
        );
        item(match facts.language {
            Language::English => {
                format!(
                    "It has {params} parameters and looks at {context} tokens at most; what it says is not checked for truth."
                )
            }
            Language::Dutch => format!(
                "Het heeft {params} parameters en kijkt naar hoogstens {context} tokens; wat het zegt wordt niet op waarheid gecontroleerd."
            ),
        });
    }
    item(
        facts
            .say(
                "Bias, toxicity, personal data in the text and memorized passages were not measured by this training.",
                "Vooroordelen, kwetsende taal, persoonsgegevens in de tekst en uit het hoofd geleerde passages zijn door deze training \
                 niet gemeten.",
            )
            .to_string(),
    );
    if facts.report().is_none() {
        return text;
    }
    item(
        facts
            .say(
                "The losses are those of the validation split of the same source; other texts may be harder.",
                "De verliezen zijn die van de validatiesplitsing van dezelfde bron; andere teksten kunnen moeilijker zijn.",
            )
            .to_string(),
    );
    text
}

fn note_words(facts: &Facts<'_>, note: &RunNote) -> String {
    match (note, facts.language) {
        (RunNote::LittleText { train_tokens, params }, Language::English) => format!(
            "The training text has {} tokens, fewer than the {} parameters of the model.",
            facts.grouped(*train_tokens),
            facts.grouped(*params)
        ),
        (RunNote::LittleText { train_tokens, params }, Language::Dutch) => format!(
            "De trainingstekst heeft {} tokens, minder dan de {} parameters van het model.",
            facts.grouped(*train_tokens),
            facts.grouped(*params)
        ),
        (RunNote::WorseThanGuessing { val_loss, .. }, Language::English) => format!(
            "The last validation loss, {}, is worse than guessing every token with the same probability.",
            facts.decimals(*val_loss, 4)
        ),
        (RunNote::WorseThanGuessing { val_loss, .. }, Language::Dutch) => format!(
            "Het laatste validatieverlies, {}, is slechter dan elk token met dezelfde kans raden.",
            facts.decimals(*val_loss, 4)
        ),
        (RunNote::LeftOutPairs { left_out, row_tokens }, Language::English) => format!(
            "{} pairs have a side of more than {} tokens and were left out.",
            facts.grouped(*left_out),
            facts.grouped(*row_tokens)
        ),
        (RunNote::LeftOutPairs { left_out, row_tokens }, Language::Dutch) => format!(
            "{} paren hebben een kant van meer dan {} tokens en zijn weggelaten.",
            facts.grouped(*left_out),
            facts.grouped(*row_tokens)
        ),
        (
            RunNote::Averaged {
                checkpoints,
                val_loss,
                best_val_loss,
            },
            language,
        ) => averaged_words(facts, language, *checkpoints, [*val_loss, *best_val_loss]),
        (RunNote::CutExamples { cut, row_tokens }, Language::English) => format!(
            "{} training examples were longer than {} tokens and were cut.",
            facts.grouped(*cut),
            facts.grouped(*row_tokens)
        ),
        (RunNote::CutExamples { cut, row_tokens }, Language::Dutch) => format!(
            "{} trainingsvoorbeelden waren langer dan {} tokens en zijn afgekapt.",
            facts.grouped(*cut),
            facts.grouped(*row_tokens)
        ),
    }
}

/// What was averaged, and whether the mean is the model.
fn averaged_words(facts: &Facts<'_>, language: Language, checkpoints: u64, losses: [Option<f64>; 2]) -> String {
    let count = facts.grouped(checkpoints);
    let [Some(mean), Some(best)] = losses else {
        return match language {
            Language::English => format!("The weights are the mean of those of the last {count} checkpoints."),
            Language::Dutch => format!("De gewichten zijn het gemiddelde van die van de laatste {count} checkpoints."),
        };
    };
    let (loss, best_loss) = (facts.decimals(mean, 4), facts.decimals(best, 4));
    match (mean <= best, language) {
        (true, Language::English) => format!(
            "The weights are the mean of those of the last {count} checkpoints: validation loss {loss}, that of the best one {best_loss}."
        ),
        (true, Language::Dutch) => format!(
            "De gewichten zijn het gemiddelde van die van de laatste {count} checkpoints: validatieverlies {loss}, dat van het beste \
             {best_loss}."
        ),
        (false, Language::English) => format!(
            "The mean of the weights of the last {count} checkpoints has a higher validation loss, {loss}, than this one, {best_loss}."
        ),
        (false, Language::Dutch) => format!(
            "Het gemiddelde van de gewichten van de laatste {count} checkpoints heeft een hoger validatieverlies, {loss}, dan dit, \
             {best_loss}."
        ),
    }
}
