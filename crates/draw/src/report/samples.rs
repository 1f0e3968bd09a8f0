//! What the trained model makes of the recipe's prompts.

use taal_metrics::{Sample, WordRank};

use super::RunPage;
use crate::escape;
use crate::texts::fill;

impl RunPage<'_> {
    pub(super) fn samples(&self) -> String {
        let texts = &self.language.texts().report;
        if self.report.samples.is_empty() {
            return String::new();
        }
        let is_masked = self.report.objective == "masked";
        let of_sample = |sample: &Sample| {
            let prompt = escape(&sample.prompt);
            let text = escape(&sample.text);
            let result = match (&sample.error, is_masked) {
                // The span keeps a line break at the start, which <pre> would swallow.
                (None, false) => return format!("<pre><b>{prompt}</b><span>{text}</span></pre>\n"),
                (None, true) => format!(
                    "<dt>{}</dt><dd><span>{text}</span></dd>{}",
                    texts.sample_filled,
                    self.ranks(sample)
                ),
                (Some(error), _) => {
                    format!(
                        "<dt>{}</dt><dd><span>{}</span></dd>",
                        texts.sample_failed,
                        escape(error)
                    )
                }
            };
            format!(
                "<dl class=\"sample\">\n<dt>{}</dt><dd><b>{prompt}</b></dd>\n{result}\n</dl>\n",
                texts.sample_prompt
            )
        };
        let samples: String = self.report.samples.iter().map(of_sample).collect();
        match is_masked {
            true => format!("<h2>{}</h2>\n{samples}", texts.samples_filled),
            false => format!(
                "<h2>{}</h2>\n<p class=\"quiet\">{}</p>\n{samples}",
                texts.samples, texts.samples_note
            ),
        }
    }

    /// Where the recipe's words come among the guesses.
    fn ranks(&self, sample: &Sample) -> String {
        let texts = &self.language.texts().report;
        let of_word = |rank: &WordRank| {
            let word = escape(&rank.word);
            let value = match (rank.rank, rank.probability) {
                (Some(place), Some(probability)) => {
                    let percent = self.language.numbers().decimals(100.0 * probability, 2);
                    let values = [("rank", self.grouped(place)), ("percent", percent)];
                    fill(
                        texts.rank_value,
                        &values.each_ref().map(|(name, value)| (*name, value.as_str())),
                    )
                }
                _ => texts.rank_none.to_owned(),
            };
            format!("\n<dt>{}</dt><dd>{value}</dd>", fill(texts.rank_of, &[("word", &word)]))
        };
        sample.ranks.iter().map(of_word).collect()
    }
}
