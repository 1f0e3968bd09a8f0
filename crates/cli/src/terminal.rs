//! What people and scripts see: standard output for data, standard error for messages, and numbers in words.

use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

/// Writes data to standard output at once.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a value to standard output as one line of JSON.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    Ok(print(&line)?)
}

/// Writes a line to standard error.
///
/// Unlike `eprintln!` it does not panic where nobody reads.
pub fn message(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes `error: ...` or `hint: ...`, the word in colour where that is welcome.
pub fn error(word: &str, text: &str) {
    let code = if word == "error" { "1;31" } else { "1;36" };
    match has_colour() {
        true => message(&format!("\x1b[{code}m{word}:\x1b[0m {text}")),
        false => message(&format!("{word}: {text}")),
    }
}

/// Whether somebody is watching standard error.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

fn has_colour() -> bool {
    is_watched() && is_colour_welcome()
}

/// Whether data on standard output may be coloured.
pub fn has_colour_on_stdout() -> bool {
    io::stdout().is_terminal() && is_colour_welcome()
}

/// <https://no-color.org>: any value but an empty one means no.
fn is_colour_welcome() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !is_refused && !is_dumb
}

/// The text itself, or all of standard input where it is `-`.
pub fn text_or_stdin(text: &str) -> anyhow::Result<String> {
    if text != "-" {
        return Ok(text.to_string());
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to() as u64;
        taal_store::Error::NotUtf8 {
            path: "standard input".into(),
            offset,
        }
        .into()
    })
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

/// 1234567 as `1.23 M`: three digits, for people.
pub fn short(number: f64) -> String {
    let (value, unit) = match number {
        n if n >= 1e12 => (n / 1e12, " T"),
        n if n >= 1e9 => (n / 1e9, " G"),
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e3 => (n / 1e3, " k"),
        n => (n, ""),
    };
    let decimals = match value {
        _ if unit.is_empty() => 0,
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}{unit}")
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
