//! The questions of the Algoritmekader and of the AI Act, answered from facts.

use std::fmt::Write as _;

use serde::Deserialize;
use taal_draw::Language;

use super::Facts;
use super::sources::source_words;
use super::task::Task;
use super::text::{architecture, cell};

/// Questions of the Dutch government, taken over; see cards/README.md.
const ALGORITMEKADER: &str = include_str!("../../cards/algoritmekader.toml");

#[derive(Debug, Deserialize)]
struct Questions {
    question: Vec<Question>,
}

/// One question, in Dutch as it was published.
#[derive(Debug, Deserialize)]
struct Question {
    page: String,
    nl: String,
    en: String,
    answer: AnswerKind,
}

/// The facts that answer a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerKind {
    /// Not measured by a training.
    Open,
    Type,
    Code,
    Data,
    Outcome,
    Reliable,
    Licenses,
    Performance,
    Parameters,
    Version,
    Energy,
    Efficiency,
}

fn questions() -> Vec<Question> {
    // The file is embedded, and a test reads it.
    toml::from_str::<Questions>(ALGORITMEKADER).map_or_else(|_| Vec::new(), |found| found.question)
}

/// The section with the questions of the Algoritmekader.
pub(super) fn algoritmekader(facts: &Facts<'_>) -> String {
    let introduction = facts.say(
        "Questions of the [Algoritmekader](https://minbzk.github.io/Algoritmekader/) of the Dutch Ministry of the Interior \
         (EUPL 1.2, a selection, translated by Taal). Answers come from the training's files; the others are for whoever \
         uses the model.",
        "Vragen uit het [Algoritmekader](https://minbzk.github.io/Algoritmekader/) van het ministerie van BZK (EUPL 1.2, een \
         selectie). De antwoorden komen uit de bestanden van de training; de andere zijn aan wie het model gebruikt.",
    );
    let head = facts.say("| page | question | answer |", "| pagina | vraag | antwoord |");
    let mut text = format!("## Algoritmekader\n\n{introduction}\n\n{head}\n|---|---|---|\n");
    for question in questions() {
        let asked = facts.say(&question.en, &question.nl);
        let answer = answer(facts, question.answer);
        let answer = answer.unwrap_or_else(|| format!("**{}**", not_answered(facts)));
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            cell(&question.page),
            cell(asked),
            cell(&answer)
        );
    }
    text
}

fn not_answered(facts: &Facts<'_>) -> &'static str {
    match facts.language {
        Language::English => "not answered",
        Language::Dutch => "niet beantwoord",
    }
}

fn answer(facts: &Facts<'_>, kind: AnswerKind) -> Option<String> {
    match kind {
        AnswerKind::Open => None,
        AnswerKind::Type => {
            let config = facts.config?;
            let params = facts.grouped(config.n_params());
            Some(match facts.language {
                Language::English => format!(
                    "Generative AI, self-taught from text: {}, {params} parameters",
                    architecture(config, facts)
                ),
                Language::Dutch => format!(
                    "Generatieve AI, zelflerend uit tekst: {}, {params} parameters",
                    architecture(config, facts)
                ),
            })
        }
        AnswerKind::Code => {
            let version = known(&facts.last()?.taal_version)?;
            Some(match facts.language {
                Language::English => format!("Taal {version}, written in Rust on Burn"),
                Language::Dutch => format!("Taal {version}, geschreven in Rust op Burn"),
            })
        }
        AnswerKind::Data => sources(facts),
        AnswerKind::Outcome => {
            facts.config?;
            let words = match Task::of(facts) {
                Task::Continues => facts.say(
                    "For every next token the model computes a probability from the tokens before it, and one is drawn; \
                     `taal trace` shows the stages of one text",
                    "Voor elk volgend token berekent het model een kans uit de tokens ervoor, en er wordt een token getrokken; \
                     `taal trace` toont de stappen van een tekst",
                ),
                Task::Fills => facts.say(
                    "For every hidden token the model computes a probability from the tokens on both sides; `taal trace` shows \
                     the stages of one text",
                    "Voor elk verborgen token berekent het model een kans uit de tokens aan beide kanten; `taal trace` toont de \
                     stappen van een tekst",
                ),
                Task::Translates => facts.say(
                    "For every next token of the translation the model computes a probability from the text and the tokens before it; \
                     the most probable translations are followed",
                    "Voor elk volgend token van de vertaling berekent het model een kans uit de tekst en de tokens ervoor; de \
                     waarschijnlijkste vertalingen worden gevolgd",
                ),
            };
            Some(words.to_string())
        }
        AnswerKind::Reliable => known(&facts.last()?.recipe).map(|_| {
            facts
                .say(
                    "Yes on the same kind of processor: the same recipe gives the same weights, and the same seed the same text",
                    "Ja, op dezelfde soort processor: hetzelfde recept geeft dezelfde gewichten, en dezelfde seed dezelfde tekst",
                )
                .to_string()
        }),
        AnswerKind::Licenses => {
            let entries = facts.ledger.entries.iter();
            let is_known = entries.clone().all(|entry| !entry.data.is_empty());
            let mut sources = entries.flat_map(|entry| &entry.data);
            let is_licensed = is_known && sources.all(|source| source.license.is_some());
            is_licensed.then(|| self::sources(facts)).flatten()
        }
        AnswerKind::Performance => {
            let report = facts.report()?;
            let loss = report.best_val_loss.filter(|loss| loss.is_finite())?;
            let (loss, tokens) = (facts.decimals(loss, 4), facts.grouped(report.val_tokens.unwrap_or(0)));
            Some(match facts.language {
                Language::English => format!(
                    "Measured: a loss of {loss} nats per token on {tokens} tokens that it was not trained on. Whether that is enough \
                     for a task is not answered"
                ),
                Language::Dutch => format!(
                    "Gemeten: een verlies van {loss} nats per token op {tokens} tokens waarop het niet is getraind. Of dat genoeg is \
                     voor een taak, is niet beantwoord"
                ),
            })
        }
        AnswerKind::Parameters => {
            known(&facts.last()?.recipe)?;
            Some(
                facts
                    .say(
                        "Every value is in the recipe above; the reasons are not in it",
                        "Elke waarde staat in het recept hierboven; de redenen staan er niet in",
                    )
                    .to_string(),
            )
        }
        AnswerKind::Version => {
            let entry = facts.last()?;
            let hash: String = known(&entry.data_hash)?.chars().take(16).collect();
            let version = &entry.taal_version;
            Some(match facts.language {
                Language::English => format!("Yes: Taal {version}, token ids with BLAKE3 {hash}..., the recipe above"),
                Language::Dutch => format!("Ja: Taal {version}, token-ids met BLAKE3 {hash}..., het recept hierboven"),
            })
        }
        AnswerKind::Energy => energy(facts),
        AnswerKind::Efficiency => {
            let report = facts.report()?;
            let per_token = report.energy.as_ref()?.per_token?;
            let joules = facts.local(&taal_metrics::energy::Joule(per_token).to_string());
            let read = facts.say("per token read", "per gelezen token");
            // A run that was killed has no measured share.
            let share = (report.mfu > 0.0).then(|| facts.decimals(100.0 * report.mfu, 1));
            Some(match (facts.language, share) {
                (_, None) => format!("{joules} {read}"),
                (Language::English, Some(share)) => {
                    format!("{joules} {read}; {share} % of the processor's peak was used")
                }
                (Language::Dutch, Some(share)) => {
                    format!("{joules} {read}; {share} % van de piek van de processor werd gebruikt")
                }
            })
        }
    }
}

fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn sources(facts: &Facts<'_>) -> Option<String> {
    let is_known = facts.ledger.entries.iter().any(|entry| !entry.data.is_empty());
    let mut words: Vec<String> = Vec::new();
    for entry in &facts.ledger.entries {
        let of_entry: Vec<String> = match entry.data.is_empty() {
            true => vec![format!("{}: {}", entry.name, facts.unknown())],
            false => entry.data.iter().map(|source| source_words(facts, source)).collect(),
        };
        for source in of_entry {
            // Trainings on the same text name it once.
            if !words.contains(&source) {
                words.push(source);
            }
        }
    }
    is_known.then(|| words.join("; "))
}

/// The energy of all trainings, with what is missing.
fn energy(facts: &Facts<'_>) -> Option<String> {
    let totals = facts.ledger.totals();
    if totals.joules <= 0.0 {
        return None;
    }
    let source = facts.report().and_then(|report| report.energy.as_ref());
    let source = source.map_or("", |energy| energy.source.as_str());
    let (amount, low, high) = (
        facts.energy(totals.joules),
        facts.energy(totals.low),
        facts.energy(totals.high),
    );
    let gases = facts.gases(totals.co2e_g);
    let missing = match (totals.unknown, facts.language) {
        (0, _) => String::new(),
        (1, Language::English) => "; without 1 inherited training that is not known".to_string(),
        (1, Language::Dutch) => "; zonder 1 geërfde training die niet bekend is".to_string(),
        (count, Language::English) => format!("; without {count} inherited trainings that are not known"),
        (count, Language::Dutch) => format!("; zonder {count} geërfde trainingen die niet bekend zijn"),
    };
    Some(match facts.language {
        Language::English => {
            format!(
                "Training took {amount} ({low} to {high}; {source}), {gases} CO2e{missing}. Use was not measured here"
            )
        }
        Language::Dutch => {
            format!(
                "De training kostte {amount} ({low} tot {high}; {source}), {gases} CO2e{missing}. Het gebruik is hier niet gemeten"
            )
        }
    })
}

/// Fields of Annex XI that a training measures, and the others that the annex asks for.
pub(super) fn ai_act(facts: &Facts<'_>) -> String {
    let introduction = facts.say(
        "Annex XI of Regulation (EU) 2024/1689 says what the documentation of a general-purpose AI model contains. A model of this \
         size is hardly one; these are the fields that a training knows, with the energy of point 2(e).",
        "Bijlage XI van Verordening (EU) 2024/1689 zegt wat de documentatie van een AI-model voor algemene doeleinden bevat. Een model \
         van deze omvang is dat nauwelijks; dit zijn de velden die een training kent, met de energie van punt 2(e).",
    );
    let title = facts.say("AI Act, Annex XI", "AI-verordening, bijlage XI");
    let head = facts.say("| point | field | answer |", "| punt | veld | antwoord |");
    let mut text = format!("## {title}\n\n{introduction}\n\n{head}\n|---|---|---|\n");
    for (point, field, answer) in annex_xi(facts) {
        let answer = answer.unwrap_or_else(|| format!("**{}**", not_answered(facts)));
        let _ = writeln!(text, "| {point} | {field} | {} |", cell(&answer));
    }
    text
}

fn annex_xi<'a>(facts: &'a Facts<'a>) -> [(&'static str, &'a str, Option<String>); 11] {
    let config = facts.config;
    let architecture = config.map(|config| {
        let params = facts.grouped(config.n_params());
        format!("{}, {params} parameters", architecture(config, facts))
    });
    let modality = facts.say("text in, text out", "tekst erin, tekst eruit").to_string();
    let method = facts.report().map(|report| {
        let objective = match report.objective.as_str() {
            _ if Task::of(facts) == Task::Translates => facts.say(
                "predicting the next token of a translation",
                "het volgende token van een vertaling voorspellen",
            ),
            "masked" => facts.say("predicting hidden tokens", "verborgen tokens voorspellen"),
            _ => facts.say("predicting the next token", "het volgende token voorspellen"),
        };
        let steps = facts.grouped(report.steps);
        match facts.language {
            Language::English => format!("{objective}, {steps} steps; choices in the recipe above"),
            Language::Dutch => format!("{objective}, {steps} stappen; keuzes in het recept hierboven"),
        }
    });
    let totals = facts.ledger.totals();
    let seconds = facts.duration(totals.seconds);
    let compute = totals.flops.filter(|flops| *flops > 0.0).map(|flops| {
        let flops = facts.scientific(flops);
        match facts.language {
            Language::English => format!("{flops} floating-point operations (PaLM's formula), {seconds}"),
            Language::Dutch => format!("{flops} bewerkingen met drijvende komma (formule van PaLM), {seconds}"),
        }
    });
    [
        ("1(a)", facts.say("intended tasks", "beoogde taken"), None),
        ("1(b)", facts.say("acceptable use", "aanvaardbaar gebruik"), None),
        (
            "1(c)",
            facts.say("release and distribution", "uitgave en verspreiding"),
            None,
        ),
        (
            "1(d)",
            facts.say("architecture, parameters", "architectuur, parameters"),
            architecture,
        ),
        (
            "1(e)",
            facts.say("modality and format", "modaliteit en formaat"),
            Some(modality),
        ),
        (
            "1(f)",
            facts.say("license of the model", "licentie van het model"),
            None,
        ),
        (
            "2(a)",
            facts.say("means to integrate it", "middelen om het te integreren"),
            None,
        ),
        (
            "2(b)",
            facts.say("training method and choices", "trainingsmethode en keuzes"),
            method,
        ),
        (
            "2(c)",
            facts.say("data: type and provenance", "data: soort en herkomst"),
            sources(facts),
        ),
        (
            "2(d)",
            facts.say("computational resources, time", "rekenkracht, tijd"),
            compute,
        ),
        (
            "2(e)",
            facts.say("known or estimated energy", "bekend of geraamd energieverbruik"),
            energy(facts),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_questions_read_and_have_both_languages() {
        let questions = toml::from_str::<Questions>(ALGORITMEKADER).expect("questions").question;
        assert!(questions.len() >= 20);
        for question in &questions {
            assert!(!question.page.is_empty() && !question.nl.is_empty() && !question.en.is_empty());
        }
        let open = questions
            .iter()
            .filter(|question| question.answer == AnswerKind::Open)
            .count();
        assert!(open > 0 && open < questions.len());
    }
}
