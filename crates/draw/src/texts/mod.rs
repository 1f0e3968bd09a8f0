//! The texts of pages: one table per language, all with the same entries.
//!
//! `{name}` in a text is replaced by [`fill`]. Texts of the trace page are also read by `trace.html` (`{{entry}}`) and by `trace.js` (`say.entry`).

mod en;
mod meter;
mod nl;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::numbers::Numbers;

/// The language of a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Dutch.
    Dutch,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::Dutch];

    /// Its code (ISO 639-1): `en` or `nl`.
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Dutch => "nl",
        }
    }

    /// The language of a POSIX locale, such as `nl_NL.UTF-8`; none if there are no pages in it.
    pub fn of_locale(locale: &str) -> Option<Self> {
        let code = locale.split(['_', '-', '.', '@']).next().unwrap_or_default();
        Self::ALL
            .into_iter()
            .find(|language| code.eq_ignore_ascii_case(language.code()))
    }

    /// Its texts.
    pub(crate) fn texts(self) -> &'static Texts {
        match self {
            Self::English => &en::TEXTS,
            Self::Dutch => &nl::TEXTS,
        }
    }

    /// How it writes numbers.
    pub(crate) fn numbers(self) -> Numbers {
        self.texts().numbers
    }
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(code: &str) -> Result<Self, UnknownLanguage> {
        let known = |language: &Self| language.code() == code;
        Self::ALL
            .into_iter()
            .find(known)
            .ok_or_else(|| UnknownLanguage { code: code.to_owned() })
    }
}

/// A language without pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLanguage {
    /// What was asked for.
    pub code: String,
}

impl fmt::Display for UnknownLanguage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Language::ALL.map(Language::code).join(", ");
        write!(formatter, "expected one of {known}, got {:?}", self.code)
    }
}

impl std::error::Error for UnknownLanguage {}

/// Declares groups of texts, of which a language must give every entry.
macro_rules! tables {
    ($($(#[$about:meta])* $name:ident { $($entry:ident),* $(,)? })*) => {
        $(
            $(#[$about])*
            #[derive(Debug, Serialize)]
            pub(crate) struct $name { $(pub(crate) $entry: &'static str),* }
        )*
    };
}

/// Every text of a language.
#[derive(Debug, Serialize)]
pub(crate) struct Texts {
    #[serde(skip)]
    pub(crate) numbers: Numbers,
    pub(crate) page: PageTexts,
    pub(crate) report: ReportTexts,
    pub(crate) live: LiveTexts,
    pub(crate) map: MapTexts,
    pub(crate) trace: TraceTexts,
    /// Name of a figure of a step, the title of its chart, and what its vertical axis shows.
    pub(crate) charts: &'static [(&'static str, [&'static str; 2])],
}

tables! {
    /// What all pages have.
    PageTexts { written_by }

    /// The page of a run.
    ReportTexts {
        a_run, device, tokenizer, vocabulary, tokenizer_of, tokenizer_of_shards, tokenizer_of_program, cpu, resumed_from,
        interrupted, stopped_early, failed,
        val_loss, val_of_source, over_tokens, per_token, perplexity, on_validation, best_val_loss, at_step, bits_per_byte,
        answers, answers_note, nearest, nearest_note, old_loss, old_before, old_rise, hidden_tokens, hidden_note, train_loss, last_step, parameters, steps, of_steps, tokens_seen, times_over, time, speed, per_second,
        utilization, utilization_note, utilization_at_most, peak_memory, energy, energy_note, energy_preparation, energy_missing, co2e_note, inherited, inherited_note, inherited_without,
        forecast, forecast_after, forecast_part, forecast_inside, forecast_outside,
        loss, no_steps, no_finite_loss, legend_steps, legend_average, legend_validation, loss_title, step_axis, loss_axis,
        one_not_finite, some_not_finite, one_beyond, some_beyond,
        samples, samples_filled, samples_note, sample_prompt, sample_filled, sample_failed, rank_of, rank_value, rank_none,
        little_text, worse_than_guessing, one_cut, some_cut, left_out_pairs, averaged, averaged_in_vain, recipe,
    }

    /// The page of a run that is under way.
    LiveTexts { title, at_step, left, reload, stale, no_script }

    /// A map of texts.
    MapTexts {
        words_by, texts_by, projected, pooling, component, coordinates, text, across, upwards, description, has_table, without_room, numbered,
    }

    /// The page of a trace.
    TraceTexts {
        title, title_of, skip, no_script, nav, follow, follow_how,
        s_text, s_bytes, s_tokens, s_embedding, s_position, s_attention, s_residual, s_lens, s_distribution, s_checkpoints,
        about_bytes, all_tokens, tokens_table, all_lengths, lengths_table, no_attention, about_attention, layer, head, grid,
        attention_as_table, attention_table, s_cross, about_cross, cross_title, cross_as_table, cross_table, about_residual, all_states, residual_table, all_guesses, guesses_table, checkpoints_table,
        causal, masked, facts, facts_recurrent, given_ids, counts, cut_bpe, cut_wordpiece, cut_unigram, cut_words, no_tokenizer,
        about_embedding, learned, sinusoidal, rotary, rotary_turns, alibi, relative, recurrent, no_position,
        about_lens, after_token, at_token, undecided, filled, none,
        place, token, special, id, bytes, merges, length_token, length_place, length_input, first_numbers, strip, strip_below, strip_above,
        strip_note, sum, ahead, layer_of, all_heads, one_head, arcs_title, arcs_label, attends_to, attends, grid_label,
        embedding, layer_n, start, output, rank, residual_label,
        about_checkpoints, checkpoints_label, step, train_loss, val_loss, chance, best_guess,
        live, asked_here, all_heads_mean,
    }
}

/// A text with a value for each `{name}`; a name without a value stays as it is.
pub(crate) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let value = after.split_once('}').and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((value, after))
        });
        match value {
            Some((value, after)) => {
                filled.push_str(value);
                rest = after;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Entries whose words are the same in both languages.
    const SAME: [&str; 14] = [
        "a_run",
        "ahead",
        "bits_per_byte",
        "bytes",
        "embedding",
        "id",
        "over_tokens",
        "parameters",
        "per_token",
        "s_embedding",
        "s_tokens",
        "sample_prompt",
        "token",
        "tokenizer",
    ];

    fn entries() -> Vec<(String, String, String)> {
        let [english, dutch] = Language::ALL.map(|language| serde_json::to_value(language.texts()).expect("JSON"));
        let mut entries = Vec::new();
        for (group, texts) in english.as_object().expect("groups") {
            let Value::Object(texts) = texts else { continue };
            for (name, text) in texts {
                let other = &dutch[group][name];
                entries.push((
                    format!("{group}.{name}"),
                    text.as_str().expect("a text").to_owned(),
                    other.as_str().expect("a text").to_owned(),
                ));
            }
        }
        entries
    }

    fn names(text: &str) -> Vec<String> {
        let mut names: Vec<String> = text
            .split('{')
            .skip(1)
            .map(|rest| rest.split('}').next().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn each_text_has_the_same_names_in_both_languages_and_is_translated() {
        let entries = entries();
        assert!(entries.len() > 150, "{}", entries.len());
        for (entry, english, dutch) in entries {
            assert_eq!(names(&english), names(&dutch), "{entry}: {english} / {dutch}");
            let name = entry.rsplit('.').next().unwrap_or_default();
            assert!(
                english != dutch || SAME.contains(&name),
                "{entry} is not translated: {english}"
            );
        }
        let named = |language: Language| {
            let charts = language.texts().charts.iter();
            charts.map(|(name, _)| *name).collect::<Vec<_>>()
        };
        assert_eq!(named(Language::English), named(Language::Dutch));
    }

    #[test]
    fn a_value_that_looks_like_a_name_is_not_filled_again() {
        let filled = fill("{a} of {b}, {c}", &[("a", "{b}"), ("b", "2")]);
        assert_eq!(filled, "{b} of 2, {c}");
    }

    #[test]
    fn a_locale_says_its_language() {
        for (locale, language) in [
            ("nl_NL.UTF-8", Some(Language::Dutch)),
            ("nl", Some(Language::Dutch)),
            ("en_US", Some(Language::English)),
            ("C.UTF-8", None),
            ("", None),
        ] {
            assert_eq!(Language::of_locale(locale), language, "{locale}");
        }
        assert_eq!("nl".parse(), Ok(Language::Dutch));
        assert!("NL_nl".parse::<Language>().is_err());
    }
}
