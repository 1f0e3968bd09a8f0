//! `taal fill`: a masked model's guesses for the gaps of a text.

use taal_inference::FillOptions;

use crate::arguments::FillArguments;
use crate::failure::Failure;
use crate::{columns, models, standard_input, terminal};

/// Fills.
pub fn run(arguments: &FillArguments) -> Result<(), Failure> {
    let (model, text) = arguments.asked.model_and_one_text("fill")?;
    let text = standard_input::text_or_stdin(text, arguments.raw)?;
    let options = FillOptions {
        top: arguments.top,
        whole_words: !arguments.pieces,
        rank: arguments.rank.clone(),
    };
    let lm = models::open_adapted_with(model, arguments.device.device, &arguments.adapter, arguments.weights)?;
    let found = taal_inference::fill(&lm, &text, &options)?;
    if *arguments.json {
        return Ok(terminal::print_json(&found)?);
    }
    let mut lines = format!("{}\n", found.filled);
    let is_one = found.gaps.len() == 1;
    for (index, gap) in found.gaps.iter().enumerate() {
        if !is_one {
            lines.push_str(&format!("gap {}:\n", index + 1));
        }
        for guess in &gap.guesses {
            lines.push_str(&format!(
                "{:6.2} %  {}\n",
                100.0 * guess.probability,
                columns::visible(&guess.text)
            ));
        }
    }
    for rank in &found.ranks {
        lines.push_str(&match (rank.rank, rank.probability) {
            (Some(place), Some(probability)) => {
                format!(
                    "rank of {}: {} ({:.2} %)\n",
                    rank.word,
                    terminal::grouped(place as u64),
                    100.0 * probability
                )
            }
            _ => format!("rank of {}: none, it is more than one token of this model\n", rank.word),
        });
    }
    Ok(terminal::print(&lines)?)
}
