//! `taal translate`: lines to lines of another language, as they come.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use taal_inference::{Cut, Doubts, Line, Translation, Translator, check_languages, check_translator};
use taal_store::TextReader;

use crate::arguments::TranslateArguments;
use crate::failure::Failure;
use crate::{models, standard_input, terminal};

/// A file at most so large.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Batches that are translated before their lines are printed, at most.
const MAX_BATCHES: usize = 8;

/// Lines of standard input that may wait.
const MAX_WAITING: usize = 4096;

/// Lines longer than the model reads that are named; the others are counted.
const MAX_NAMED: usize = 10;

/// Translates.
pub fn run(arguments: &TranslateArguments) -> Result<(), Failure> {
    let options = arguments.options();
    // A wrong setting should not cost the loading of a model.
    options.validate()?;
    let (model, text) = arguments.asked.model_and_text("translate")?;
    let lm = models::open_adapted_with(model, arguments.device.device, &arguments.adapter, arguments.weights)?;
    let lm = models::with_cache(lm, arguments.cache)?;
    check_translator(&lm)?;
    let (from, to) = (arguments.from.as_deref(), arguments.to.as_deref());
    let is_known = check_languages(lm.translation.as_ref(), from, to)?;
    if !is_known && (from.is_some() || to.is_some()) {
        terminal::message(
            "note: the model's files do not say which languages it translates, so --from and --to are not checked",
        );
    }
    let translator = Translator::new(&lm, options)?;
    let mut source = Lines::open(&translator, text.unwrap_or("-"))?;
    let mut notes = Notes::default();
    let mut most = options.batch_size;
    loop {
        let lines = source.next(&translator, most)?;
        if lines.is_empty() {
            break;
        }
        notes.see_lines(&lines);
        let found = translator.translate_lines(lines)?;
        let written = found.iter().try_for_each(|translation| {
            notes.see(translation);
            print(translation, arguments)
        });
        match written {
            // Nobody reads on, as with `| head`.
            Err(failure) if failure.is_broken_pipe() => return Ok(()),
            written => written?,
        }
        most = (2 * most).min(MAX_BATCHES * options.batch_size);
    }
    notes.say(&translator);
    Ok(())
}

fn print(translation: &Translation, arguments: &TranslateArguments) -> Result<(), Failure> {
    if *arguments.json {
        return Ok(terminal::print_json(translation)?);
    }
    let mut lines = format!("{}\n", one_line(&translation.translation));
    for other in &translation.alternatives {
        lines.push_str(&format!("{:9.4}  {}\n", other.score, one_line(&other.translation)));
    }
    Ok(terminal::print(&lines)?)
}

/// A translation without line breaks, so that there is one line per line.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// The lines to translate.
enum Lines {
    /// All of them, read already, so that a sentence that is too long is refused before anything is printed.
    Read(std::vec::IntoIter<Line>),
    /// Those of standard input, as they come.
    Stream(Stream),
}

/// Lines of standard input.
struct Stream {
    lines: Receiver<taal_store::Result<String>>,
    /// How many have come.
    count: usize,
    /// What is wrong with a line, until those before it are printed.
    failed: Option<Failure>,
}

impl Lines {
    /// A file of this name, standard input for `-`, or else the text itself.
    fn open(translator: &Translator<'_>, text: &str) -> Result<Self, Failure> {
        if ["-", "/dev/stdin", "/dev/fd/0"].contains(&text) {
            return Ok(Self::Stream(Stream {
                lines: listen(),
                count: 0,
                failed: None,
            }));
        }
        let path = Path::new(text);
        let is_file = taal_store::exists(path);
        let text = match is_file {
            // A directory and a pipe are refused by their names.
            true => TextReader::open(path, MAX_FILE_BYTES)?.read_all()?,
            false if looks_like_file(text) => {
                let error = anyhow::anyhow!("{text}: no such file");
                let word = terminal::shell_word(text);
                let hint = format!("to translate this as text: echo {word} | taal translate ... -");
                return Err(Failure::from(error).with_hint(hint));
            }
            false => text.to_owned(),
        };
        let count = text.lines().count();
        let line = |(index, line): (usize, &str)| read(translator, line, index + 1, count > 1);
        let mut lines: Vec<Line> = text.lines().enumerate().map(line).collect::<Result<_, _>>()?;
        if count == 0 && !is_file {
            // An empty text is an empty line; an empty file has none.
            lines.push(translator.read("")?);
        }
        Ok(Self::Read(lines.into_iter()))
    }

    /// The next lines, at most `most`; of standard input those that are there, at least one. Empty after the last.
    fn next(&mut self, translator: &Translator<'_>, most: usize) -> Result<Vec<Line>, Failure> {
        match self {
            Self::Read(lines) => Ok(lines.take(most).collect()),
            Self::Stream(stream) => stream.next(translator, most),
        }
    }
}

impl Stream {
    fn next(&mut self, translator: &Translator<'_>, most: usize) -> Result<Vec<Line>, Failure> {
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        let mut found = Vec::new();
        let Ok(first) = self.lines.recv() else {
            return Ok(found);
        };
        for line in std::iter::once(first).chain(self.lines.try_iter()).take(most) {
            self.count += 1;
            let line = line.map_err(Failure::from);
            match line.and_then(|line| read(translator, &line, self.count, true)) {
                Ok(line) => found.push(line),
                Err(failure) if found.is_empty() => return Err(failure),
                Err(failure) => {
                    self.failed = Some(failure);
                    break;
                }
            }
        }
        Ok(found)
    }
}

fn read(translator: &Translator<'_>, line: &str, number: usize, is_one_of_many: bool) -> Result<Line, Failure> {
    let found = translator.read(line);
    Ok(found.map_err(|error| match is_one_of_many {
        true => error.of_text(&format!("line {number}")),
        false => error,
    })?)
}

/// A name that is hardly a text: a word with a slash or with the ending of a file.
fn looks_like_file(text: &str) -> bool {
    let has_ending = || {
        let ending = Path::new(text).extension().and_then(OsStr::to_str);
        ending.is_some_and(|ending| {
            ending.len() <= 5
                && ending.starts_with(|letter: char| letter.is_ascii_alphabetic())
                && ending.chars().all(|letter| letter.is_ascii_alphanumeric())
        })
    };
    !text.contains(char::is_whitespace) && (text.contains('/') || has_ending())
}

/// The lines of standard input, read on a thread of their own, so that those that have come are translated together and none waits for the
/// next.
fn listen() -> Receiver<taal_store::Result<String>> {
    let (send, receive) = sync_channel(MAX_WAITING);
    if io::stdin().is_terminal() {
        terminal::message("reading standard input until its end (Ctrl-D)");
    }
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut number = 0;
        while let Some(line) = standard_input::next_line(&mut stdin, &mut number).transpose() {
            let is_last = line.is_err();
            // Without a receiver the translation has ended.
            if send.send(line).is_err() || is_last {
                break;
            }
        }
    });
    receive
}

/// What is said about the lines on standard error.
#[derive(Default)]
struct Notes {
    seen: usize,
    in_parts: usize,
    /// Cut off at their most tokens, and at the model's context.
    cut: [usize; 2],
    doubts: Doubts,
}

impl Notes {
    fn see_lines(&mut self, lines: &[Line]) {
        for line in lines {
            self.seen += 1;
            if !line.is_longer_than_context() {
                continue;
            }
            self.in_parts += 1;
            if self.in_parts <= MAX_NAMED {
                terminal::message(&format!(
                    "note: line {} is longer than the model reads: it is translated in {} parts that end where sentences do",
                    self.seen,
                    line.n_parts()
                ));
            }
        }
    }

    fn see(&mut self, translation: &Translation) {
        for (count, by) in self.cut.iter_mut().zip([Cut::MaxTokens, Cut::Context]) {
            *count += usize::from(translation.cut_by == Some(by));
        }
        self.doubts.add(translation);
    }

    fn say(&self, translator: &Translator<'_>) {
        if self.in_parts > MAX_NAMED {
            terminal::message(&format!(
                "note: {} lines were translated in parts; only the first {MAX_NAMED} were named",
                terminal::grouped(self.in_parts as u64)
            ));
        }
        let context = translator.context().unwrap_or_default();
        let limits = [
            "their most tokens (--max-tokens)".to_owned(),
            format!("the model's context of {context} tokens; shorter sentences leave room"),
        ];
        for (count, limit) in self.cut.into_iter().zip(limits).filter(|(count, _)| *count > 0) {
            terminal::message(&format!(
                "note: {} of {} translations were cut off at {limit}",
                terminal::grouped(count as u64),
                terminal::grouped(self.seen as u64)
            ));
        }
        if let Some(doubt) = self.doubts.verdict(translator.facts()) {
            terminal::message(&format!("warning: {}", doubt.sentence(translator.facts())));
        }
    }
}
