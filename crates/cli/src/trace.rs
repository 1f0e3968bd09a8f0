//! `taal trace`: one text through every stage of a model, for a terminal of 80 columns, as a page, or as JSON.

use std::path::Path;

use taal_inference::Prompt;
use taal_insight::{Guess, PageOptions, Token, Trace, TraceOptions};
use taal_model::PositionKind;
use taal_trainer::Checkpoints;
use unicode_width::UnicodeWidthStr;

use crate::arguments::{TraceArguments, twice};
use crate::columns::{bar, cut, fitted, folded, visible};
use crate::failure::Failure;
use crate::terminal::{self, grouped};
use crate::{models, standard_input};

/// What a terminal has at least.
const COLUMNS: usize = 80;

/// The widest token in a table; a longer one is cut.
const TOKEN_COLUMNS: usize = 14;

/// Of more tokens than this only the first and the last are listed.
const LISTED: usize = 32;

/// The most heads of a layer that are listed.
const LISTED_HEADS: usize = 16;

/// Traces.
pub fn run(arguments: &TraceArguments) -> Result<(), Failure> {
    let options = TraceOptions { top: arguments.top };
    // A wrong setting should not cost the loading of a model.
    options.validate()?;
    let asked = arguments.asked.clone().or_model(arguments.checkpoints.as_deref());
    let (model, text) = asked.model_and_text("trace")?;
    let prompt = match (&arguments.ids, text) {
        (Some(ids), None) => Prompt::Ids(ids.clone()),
        (Some(_), Some(text)) => return Err(twice(text, "--ids")),
        (None, Some(text)) => Prompt::Text(standard_input::text_or_stdin(text, arguments.raw)?),
        (None, None) => return Err(asked.no_text("trace", model)),
    };
    let device = arguments.device.open()?;
    let lm = models::open_with(model, arguments.device.device, arguments.weights)?;
    let mut trace = match (&prompt, &arguments.target) {
        (Prompt::Text(source), Some(target)) => taal_insight::trace_pair(&lm, source, Some(target), &options)?,
        _ => taal_insight::trace(&lm, &prompt, &options)?,
    };
    if let Some(run_dir) = &arguments.checkpoints {
        let checkpoints = Checkpoints::of(run_dir);
        let dirs: Vec<_> = checkpoints
            .steps()?
            .into_iter()
            .map(|step| (step, checkpoints.path(step)))
            .collect();
        // Rounded as the traced model is, so that the newest of them answers alike.
        let weights = arguments.weights.weights;
        taal_insight::over_checkpoints(
            &mut trace,
            lm.tokenizer.as_ref(),
            run_dir,
            &dirs,
            weights,
            &device,
            &options,
        )?;
    }
    if let Some(path) = &arguments.html {
        let name = terminal::model_name(model);
        let options = PageOptions {
            model: Some(&name),
            language: arguments.lang.language(),
        };
        trace.save_html(path, options)?;
    }
    match arguments.json.as_deref() {
        Some(path) if path == Path::new("-") => return Ok(terminal::print_json(&trace)?),
        Some(path) => trace.save_json(path)?,
        None => {}
    }
    terminal::print_raw(&Page::of(&trace))?;
    for path in [&arguments.html, &arguments.json].into_iter().flatten() {
        terminal::message(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// The text form of a trace, section by section.
struct Page<'a> {
    trace: &'a Trace,
    /// The place that the sections from attention on are about.
    place: usize,
    text: String,
    has_color: bool,
}

impl<'a> Page<'a> {
    fn of(trace: &'a Trace) -> String {
        let mut page = Page {
            trace,
            place: trace.focus.first().copied().unwrap_or_default(),
            text: String::new(),
            has_color: terminal::has_color_on_stdout(),
        };
        page.text();
        page.tokens();
        page.embedding();
        page.attention();
        page.residual();
        page.lens();
        page.distribution();
        page.checkpoints();
        page.text
    }

    fn heading(&mut self, title: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        match self.has_color {
            true => self.text.push_str(&format!("\x1b[1;36m{title}\x1b[0m\n")),
            false => self.text.push_str(&format!("{title}\n{}\n", "-".repeat(title.width()))),
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(&terminal::shown(line.trim_end()));
        self.text.push('\n');
    }

    /// Words over as many lines as they need, each after the indent.
    fn wrapped<'b>(&mut self, indent: usize, words: impl IntoIterator<Item = &'b str>, gap: &str) {
        for line in folded(words, gap, COLUMNS - indent) {
            self.line(&format!("{:indent$}{line}", ""));
        }
    }

    /// A running text, its own line ends kept.
    fn paragraph(&mut self, text: &str) {
        for line in text.lines() {
            let words: Vec<String> = line.split(' ').map(visible).collect();
            self.wrapped(2, words.iter().map(String::as_str), " ");
        }
    }

    fn text(&mut self) {
        let model = &self.trace.model;
        let kind = match (&self.trace.source, model.is_causal) {
            (Some(_), _) => "translation",
            (None, true) => "causal",
            (None, false) => "masked",
        };
        let layers = match model.n_heads {
            0 => format!("{} recurrent layers", model.n_layers),
            heads => format!("{} layers of {heads} heads", model.n_layers),
        };
        let facts = format!(
            "{kind} model: {layers}, width {}, {} ids",
            grouped(model.d_model as u64),
            grouped(model.vocab_size as u64)
        );
        self.heading("1 Text");
        if let Some(source) = &self.trace.source {
            self.line("Source, which the encoder reads:");
            self.paragraph(&source.text);
            self.line("Translation, which the decoder reads:");
        }
        match self.trace.text.clone() {
            Some(text) => {
                self.paragraph(&text);
                let (characters, bytes) = (text.chars().count(), text.len());
                self.line(&format!(
                    "{}, {}, {}",
                    counted(characters, "character"),
                    counted(bytes, "byte"),
                    counted(self.trace.tokens.len(), "token")
                ));
            }
            None => self.line(&format!("none; {} by id", counted(self.trace.tokens.len(), "token"))),
        }
        self.line(&facts);
    }

    fn tokens(&mut self) {
        self.heading("2 Bytes, tokens and ids");
        let how = match self.trace.model.tokenizer.as_deref() {
            Some("BPE") => "merges, in their order",
            Some("WordPiece") => "longest pieces that match",
            Some("Unigram") => "likeliest pieces together",
            Some(_) => "",
            None => "the model has no tokenizer",
        };
        self.line(&format!(
            "  pos      id  {}  {:<20}  {how}",
            fitted("token", TOKEN_COLUMNS),
            "bytes"
        ));
        let trace = self.trace;
        self.each_place(|page, place| {
            let token: &Token = &trace.tokens[place];
            let mut bytes: Vec<String> = token.bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            if bytes.len() > 7 {
                bytes.truncate(6);
                bytes.push("..".to_owned());
            }
            let start = format!(
                "{place:>5} {:>7}  {}  {:<20}",
                token.id,
                fitted(&visible(&token.text), TOKEN_COLUMNS),
                bytes.join(" ")
            );
            let indent = start.width() + 2;
            let note = match token.is_special {
                true => "special".to_owned(),
                false => String::new(),
            };
            let merges: Vec<String> = token
                .merges
                .iter()
                .map(|merge| format!("{}+{}", visible(&merge.left), visible(&merge.right)))
                .collect();
            let merges = merges.iter().map(String::as_str);
            let mut lines = folded(merges, " ", COLUMNS.saturating_sub(indent)).into_iter();
            page.line(&format!("{start}  {}{note}", lines.next().unwrap_or_default()));
            for line in lines {
                page.line(&format!("{:indent$}{line}", ""));
            }
        });
    }

    /// Calls for the first and last places of a long text, and for all of a short one.
    fn each_place(&mut self, mut one: impl FnMut(&mut Self, usize)) {
        let count = self.trace.tokens.len();
        let left_out = match count > LISTED {
            true => LISTED / 2..count - LISTED / 2,
            false => count..count,
        };
        for place in 0..count {
            if place == left_out.start && !left_out.is_empty() {
                self.line(&format!("  ... {} more; --html and --json have all", left_out.len()));
            }
            if !left_out.contains(&place) {
                one(self, place);
            }
        }
    }

    fn embedding(&mut self) {
        let trace = self.trace;
        let embedding = &trace.embedding;
        self.heading("3 Embedding and position");
        let width = trace.model.d_model;
        let positions = match embedding.positions.kind {
            PositionKind::Learned => "a learned vector of its position is added".to_owned(),
            PositionKind::Sinusoidal => "fixed waves of its position are added".to_owned(),
            PositionKind::Alibi => "attention falls with distance (ALiBi)".to_owned(),
            PositionKind::Relative => "attention scores get a learned number per distance (T5)".to_owned(),
            PositionKind::None if trace.model.n_heads == 0 => "the state tells the order".to_owned(),
            PositionKind::None => "only the causal mask tells the order".to_owned(),
            PositionKind::Rotary => {
                let turns = &embedding.positions.wavelengths;
                let shortest = turns.iter().copied().fold(f64::INFINITY, f64::min);
                let longest = turns.iter().copied().fold(0.0, f64::max);
                match turns.is_empty() {
                    true => "attention rotates vectors by position (rotary)".to_owned(),
                    false => format!(
                        "attention rotates vectors by position (rotary):\na full turn every {shortest:.1} to {} positions",
                        grouped(longest.round() as u64)
                    ),
                }
            }
        };
        self.line(&format!("A token is {width} numbers; {positions}."));
        let has_places = !embedding.places.is_empty();
        let place_heading = if has_places { "   |pos|" } else { "" };
        self.line(&format!(
            "  pos  {}  |token|{place_heading}    |sum|  first numbers of the sum",
            fitted("token", TOKEN_COLUMNS)
        ));
        self.each_place(|page, place| {
            let length = |rows: &[Vec<f32>]| rows.get(place).map_or(0.0, |row| norm(row));
            let place_length = match has_places {
                true => format!(" {:>7.2}", length(&embedding.places)),
                false => String::new(),
            };
            let numbers: Vec<String> = embedding.sum[place]
                .iter()
                .take(4)
                .map(|value| format!("{value:>6.2}"))
                .collect();
            page.line(&format!(
                "{place:>5}  {}  {:>7.2}{place_length}  {:>7.2}  {} ...",
                fitted(&visible(&trace.tokens[place].text), TOKEN_COLUMNS),
                length(&embedding.tokens),
                length(&embedding.sum),
                numbers.join(" ")
            ));
        });
    }

    fn token_at(&self, place: usize) -> String {
        cut(&visible(&self.trace.tokens[place].text), TOKEN_COLUMNS)
    }

    fn attention(&mut self) {
        let trace = self.trace;
        let place = self.place;
        self.heading("4 Attention: which tokens each token attends to");
        if trace.attention.is_empty() {
            self.line("A recurrent network has none: what it knows of the tokens before is in its state,");
            self.line("as many numbers however long the text.");
            return;
        }
        self.line(&format!(
            "What position {place} ({}) attends to: the mean of a layer's heads, then the strongest",
            self.token_at(place)
        ));
        self.line("of each head. All positions are in --html and --json.");
        for (layer, heads) in trace.attention.iter().enumerate() {
            let mean = mean_of_heads(heads, place);
            let mut words: Vec<String> = strongest(&mean, 4)
                .into_iter()
                .map(|key| format!("{}:{} {:.0} %", key, self.token_at(key), 100.0 * mean[key]))
                .collect();
            words.insert(0, format!("layer {}:", layer + 1));
            self.wrapped(0, words.iter().map(String::as_str), "  ");
            let cell = |(head, rows): (usize, &Vec<Vec<f32>>)| {
                let weights: Vec<f64> = rows[place].iter().map(|weight| f64::from(*weight)).collect();
                let key = strongest(&weights, 1)[0];
                let label = cut(&visible(&trace.tokens[key].text), 9);
                let label = fitted(&format!("{key}:{label}"), 13);
                format!("h{:<2} {label} {:>3.0} %", head + 1, 100.0 * weights[key])
            };
            let cells: Vec<String> = heads.iter().take(LISTED_HEADS).enumerate().map(cell).collect();
            self.wrapped(2, cells.iter().map(String::as_str), "   ");
            if heads.len() > LISTED_HEADS {
                self.line(&format!("  ... {} more heads", heads.len() - LISTED_HEADS));
            }
        }
        self.cross_attention();
    }

    /// What the position attends to in the source of a translation.
    fn cross_attention(&mut self) {
        let Some(source) = &self.trace.source else { return };
        let place = self.place;
        self.line(&format!(
            "What position {place} ({}) attends to in the source, the mean of a layer's heads:",
            self.token_at(place)
        ));
        for (layer, heads) in source.attention.iter().enumerate() {
            let mean = mean_of_heads(heads, place);
            let mut words: Vec<String> = strongest(&mean, 4)
                .into_iter()
                .map(|key| {
                    let token = cut(&visible(&source.tokens[key].text), TOKEN_COLUMNS);
                    format!("{key}:{token} {:.0} %", 100.0 * mean[key])
                })
                .collect();
            words.insert(0, format!("layer {}:", layer + 1));
            self.wrapped(0, words.iter().map(String::as_str), "  ");
        }
    }

    fn residual(&mut self) {
        let trace = self.trace;
        let place = self.place;
        self.heading("5 Residual stream");
        self.line(&format!(
            "Length of the vector at position {place}, and the mean over all positions."
        ));
        let here = |state: &Vec<f64>| state[place];
        let longest = trace.residual_norms.iter().map(here).fold(f64::MIN_POSITIVE, f64::max);
        for (state, norms) in trace.residual_norms.iter().enumerate() {
            let mean = norms.iter().sum::<f64>() / norms.len() as f64;
            self.line(&format!(
                "{:<9} {:>9.2} {mean:>9.2}  {}",
                state_name(state),
                norms[place],
                bar(norms[place] / longest, 40)
            ));
        }
    }

    fn lens(&mut self) {
        let trace = self.trace;
        let place = self.place;
        self.heading("6 Guess after every layer");
        let last = trace.lens.last().and_then(|row| row[place].guesses.first());
        let choice = last.map_or_else(String::new, |guess| cut(&visible(&guess.text), TOKEN_COLUMNS));
        self.line("What the output matrix reads from each layer (logit lens), and the rank of the");
        self.line(&format!(
            "model's own choice, \"{choice}\". The last row is the model's output."
        ));
        for (state, row) in trace.lens.iter().enumerate() {
            let cell = &row[place];
            let start = format!("{:<9} {:>7}", state_name(state), grouped(cell.final_rank as u64));
            let mut words = Vec::new();
            let mut width = start.width();
            for guess in &cell.guesses {
                let word = format!(
                    "  {} {}",
                    cut(&visible(&guess.text), TOKEN_COLUMNS),
                    percent(guess.probability)
                );
                width += word.width();
                if width > COLUMNS {
                    break;
                }
                words.push(word);
            }
            self.line(&format!("{start}{}", words.concat()));
        }
    }

    fn distribution(&mut self) {
        let trace = self.trace;
        let title = match trace.model.is_causal {
            true => "7 What comes next",
            false => "7 What is there",
        };
        self.heading(title);
        for prediction in &trace.predictions {
            self.line(&format!(
                "position {} ({}): {:.2} bits of entropy",
                prediction.place,
                self.token_at(prediction.place),
                prediction.entropy_bits
            ));
            self.guesses(&prediction.guesses);
        }
        if let Some(filled) = &trace.filled {
            self.line("filled, with whole words:");
            self.paragraph(filled);
        }
    }

    fn guesses(&mut self, guesses: &[Guess]) {
        for (index, guess) in guesses.iter().enumerate() {
            self.line(&format!(
                "{:>3} {} {:>9}  {}",
                index + 1,
                fitted(&visible(&guess.text), 20),
                percent(guess.probability),
                bar(guess.probability, 40)
            ));
        }
    }

    fn checkpoints(&mut self) {
        let trace = self.trace;
        if trace.checkpoints.is_empty() {
            return;
        }
        self.heading("8 Over the checkpoints of the run");
        let choice = trace
            .predictions
            .first()
            .and_then(|prediction| prediction.guesses.first());
        let choice = choice.map_or_else(String::new, |guess| cut(&visible(&guess.text), TOKEN_COLUMNS));
        self.line(&format!(
            "At position {}; rank and probability are those of \"{choice}\".",
            self.place
        ));
        self.line(&format!(
            "{:>8} {:>7} {:>7}  {:>7} {:>9}  best guess",
            "step", "loss", "val", "rank", "chance"
        ));
        for checkpoint in &trace.checkpoints {
            let loss = |loss: Option<f64>| loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.3}"));
            let best = checkpoint.guesses.first().map_or_else(String::new, |guess| {
                format!(
                    "{} {}",
                    cut(&visible(&guess.text), TOKEN_COLUMNS),
                    percent(guess.probability)
                )
            });
            self.line(&format!(
                "{:>8} {:>7} {:>7}  {:>7} {:>9}  {best}",
                grouped(checkpoint.step),
                loss(checkpoint.train_loss),
                loss(checkpoint.val_loss),
                grouped(checkpoint.final_rank as u64),
                percent(checkpoint.final_probability)
            ));
        }
    }
}

/// The name of a state of the residual stream.
fn state_name(state: usize) -> String {
    match state {
        0 => "embedding".to_owned(),
        layer => format!("layer {layer}"),
    }
}

/// `1 token`, `2 tokens`.
fn counted(count: usize, what: &str) -> String {
    let number = grouped(count as u64);
    match count {
        1 => format!("{number} {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// A probability for people.
fn percent(probability: f64) -> String {
    format!("{:.2} %", 100.0 * probability)
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// The attention of a place, `[head][query][key]`, as the mean of the heads.
fn mean_of_heads(heads: &[Vec<Vec<f32>>], place: usize) -> Vec<f64> {
    let mut mean = vec![0.0; heads.first().map_or(0, |head| head[place].len())];
    for head in heads {
        for (sum, weight) in mean.iter_mut().zip(&head[place]) {
            *sum += f64::from(*weight) / heads.len() as f64;
        }
    }
    mean
}

/// The places of the largest weights, the largest first; those of exactly 0 are left out, but for one.
fn strongest(weights: &[f64], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..weights.len()).collect();
    places.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
    let seen = weights.iter().filter(|weight| **weight > 0.0).count();
    places.truncate(count.min(seen).max(1));
    places
}
