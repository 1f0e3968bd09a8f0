//! Training a word tokenizer: the words, runs of whitespace and punctuation marks of the text, most frequent first.

use tokenizers::utils::SysRegex;

use super::word_table::{WordCost, WordTable};
use super::{Plan, Trained};
use crate::file::{Decoder, File, Model, PreTokenizer, Vocabulary};
use crate::{Error, Result, Unknown, patterns};

/// Only counting takes memory; the vector of words is smaller than the table it is made from.
const COST: WordCost = WordCost {
    per_word: 64,
    per_byte: 1,
    per_long_byte: 0,
};

pub(super) fn train(plan: &Plan, chunks: impl Iterator<Item = Result<String>>, origin: &str) -> Result<Trained> {
    let pattern = compile(patterns::WORDS)?;
    let mut table = WordTable::new(plan.word_memory_bytes, COST);
    table.count(plan, chunks, |text, add| for_each_match(&pattern, text, add))?;
    let (mut counts, report) = table.finish(origin)?;
    let room = if plan.unknown == Unknown::Error {
        if report.forgotten_occurrences > 0 {
            let expected = "enough to count every word, or `unknown = token`";
            return Err(Error::setting("memory_limit_bytes", expected, plan.word_memory_bytes));
        }
        let reason = format!("{} distinct words; or set `unknown = token`", counts.len());
        plan.room(counts.len(), &reason)?
    } else {
        counts.retain(|&(_, count)| count >= plan.min_frequency);
        plan.room(1, "at least one word")?
    };
    let mut tokens = plan.special_tokens.clone();
    let words = counts.into_iter().map(|(word, _)| word.into_string());
    // A special token of one character already has an id.
    tokens.extend(words.filter(|word| !plan.special_tokens.contains(word)).take(room));
    let model = Model::WordLevel {
        vocab: Vocabulary(tokens),
        unk_token: plan.unknown_token(),
    };
    let pre_tokenizer = PreTokenizer::split(patterns::WORDS);
    Ok((
        File::new(&plan.special_tokens, pre_tokenizer, None, Decoder::Fuse, model),
        report,
    ))
}

pub(super) fn compile(pattern: &str) -> Result<SysRegex> {
    SysRegex::new(pattern).map_err(|error| Error::Library {
        action: "compile its pattern",
        detail: error.to_string(),
    })
}

/// Calls `visit` with every match and with the text between two matches, as the library's `Split` with `Isolated` does.
pub(super) fn for_each_match(pattern: &SysRegex, text: &str, visit: &mut dyn FnMut(&str)) {
    let mut end_of_last = 0;
    for (start, end) in pattern.find_iter(text) {
        if start > end_of_last {
            visit(&text[end_of_last..start]);
        }
        visit(&text[start..end]);
        end_of_last = end;
    }
    if end_of_last < text.len() {
        visit(&text[end_of_last..]);
    }
}
