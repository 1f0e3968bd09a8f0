//! What people and scripts see: standard output for data, standard error for messages, and numbers in words.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub use taal_metrics::short;

use crate::usage;

/// Writes data to standard output at once; on a terminal, [`shown`].
pub fn print(text: &str) -> io::Result<()> {
    match io::stdout().is_terminal() {
        true => print_raw(&shown(text)),
        false => print_raw(text),
    }
}

/// Writes text to standard output with colors of its own; all that comes from a model or a file is [`shown`] already.
pub fn print_raw(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a value to standard output as one line of JSON.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(value)?;
    if io::stdout().is_terminal() {
        // The escapes of JSON, so that what is copied from the terminal is JSON still.
        line = spelled(&line, |character| format!("\\u{:04x}", character as u32)).into_owned();
    }
    line.push('\n');
    Ok(print_raw(&line)?)
}

/// What people call a model: the name of its directory, or of the run whose `model` it is.
pub fn model_name(path: &Path) -> String {
    let resolved = taal_store::resolve(path).unwrap_or_else(|_| path.to_path_buf());
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    match (name(path).or_else(|| name(&resolved)), path.parent()) {
        (Some(own), Some(parent)) if own == "model" => name(parent).unwrap_or(own),
        (Some(own), _) => own,
        (None, _) => path.display().to_string(),
    }
}

/// Text as a terminal may get it: what would steer it, or turn the direction of a line, is spelled out, as `\u{1b}`. Line ends and tabs
/// stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    spelled(text, |character| format!("\\u{{{:x}}}", character as u32))
}

fn spelled(text: &str, spell: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut spelled = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match steers(character) {
            true => spelled.push_str(&spell(character)),
            false => spelled.push(character),
        }
    }
    Cow::Owned(spelled)
}

/// Whether a character is an order to the terminal rather than something to see.
fn steers(character: char) -> bool {
    let turns_line = matches!(character, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    let is_control = character.is_control() && character != '\n' && character != '\t';
    is_control || turns_line
}

/// Writes a line to standard error; on a terminal, [`shown`].
pub fn message(text: &str) {
    match is_watched() {
        true => message_raw(&shown(text)),
        false => message_raw(text),
    }
}

/// Unlike `eprintln!` it does not panic without a reader.
fn message_raw(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes `error: ...` or `hint: ...`, the word in color if color is welcome.
pub fn error(word: &str, text: &str) {
    let code = if word == "error" { "1;31" } else { "1;36" };
    match has_color() {
        true => message_raw(&format!("\x1b[{code}m{word}:\x1b[0m {}", shown(text))),
        false => message(&format!("{word}: {text}")),
    }
}

/// Says what is wrong with the command line, or the help that was asked for.
pub fn explain(error: &clap::Error, command: clap::Command) -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let steered = arguments.iter().any(|argument| argument.contains(steers));
    // The message quotes arguments, and clap's colors cannot be told from control characters in them: the message is made again from escaped arguments.
    let said = match steered && is_watched() {
        true => match command.try_get_matches_from(arguments.iter().map(|argument| shown(argument).into_owned())) {
            Err(again) => again.print(),
            Ok(_) => {
                message(&error.to_string());
                Ok(())
            }
        },
        false => error.print(),
    };
    // Without a reader nothing can be said.
    drop(said);
    if let Some(hint) = usage::of_usage(error, &arguments) {
        self::error("hint", &hint);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

/// Whether standard error is a terminal.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

fn has_color() -> bool {
    is_watched() && is_color_welcome()
}

/// Whether data on standard output may be colored.
pub fn has_color_on_stdout() -> bool {
    io::stdout().is_terminal() && is_color_welcome()
}

/// <https://no-color.org>: any value but an empty one means no.
fn is_color_welcome() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !is_refused && !is_dumb
}

/// Names and values in two columns.
pub fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter()
        .map(|(name, value)| format!("{name:<width$}  {value}\n"))
        .collect()
}

/// 1234567 as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How often something was gone through, as `2.4 times`.
pub fn times(epochs: f64) -> String {
    match epochs {
        few if few < 10.0 => format!("{few:.2} times"),
        many => format!("{} times", grouped(many.round() as u64)),
    }
}

/// A size in binary units.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 100.0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A time such as `2 min 05 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) if seconds < 10 => format!("{:.1} s", time.as_secs_f64()),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// A word of a command line, quoted where a shell would read it as something else.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:,=+@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_string();
    }
    if text.contains(char::is_control) {
        // ANSI-C quoting, as bash, zsh and ksh have it.
        let escaped: String = text.chars().map(escaped).collect();
        return format!("$'{escaped}'");
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn escaped(character: char) -> String {
    match character {
        '\n' => r"\n".to_string(),
        '\t' => r"\t".to_string(),
        '\'' => r"\'".to_string(),
        '\\' => r"\\".to_string(),
        c if c.is_control() && c.is_ascii() => format!(r"\x{:02x}", c as u32),
        c => c.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_33_orders_to_a_terminal_are_spelled_out_and_text_stays() {
        let orders = "\x1b]0;title\x07 \x1b[31mred\u{9b}31m \u{202e}abc\u{2066} \r\x08\x7f\0";
        let expected = r"\u{1b}]0;title\u{7} \u{1b}[31mred\u{9b}31m \u{202e}abc\u{2066} \u{d}\u{8}\u{7f}\u{0}";
        assert_eq!(shown(orders), expected);
        let text = "een kat\n\tcafé 👩\u{200d}💻 ▁x \u{a0}";
        assert_eq!(shown(text), text);
        let json = spelled("\"\u{9b}\u{7f}\"", |character| format!("\\u{:04x}", character as u32));
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), "\u{9b}\u{7f}");
    }
}
