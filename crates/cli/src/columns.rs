//! Text in the columns of a terminal: wide and combining characters counted as they are shown, invisible ones made visible.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A token as a table shows it: spaces, line ends and tabs as signs, and what steers a terminal spelled out.
pub fn visible(text: &str) -> String {
    text.chars().map(visible_character).collect()
}

fn visible_character(character: char) -> String {
    match character {
        ' ' => "␣".to_owned(),
        '\n' => "⏎".to_owned(),
        '\t' => "⇥".to_owned(),
        // Marks that turn the direction of a line have no width of their own and would disturb the table.
        '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => hexadecimal(character),
        _ if character.is_control() => hexadecimal(character),
        _ => character.to_string(),
    }
}

fn hexadecimal(character: char) -> String {
    format!("\\u{{{:X}}}", character as u32)
}

/// The beginning of a text that is shown in at most `columns`, with an ellipsis where something is missing.
pub fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    format!("{}…", head(text, columns.saturating_sub(1)))
}

/// The longest beginning of a text that is shown in at most `columns`, but at least one character.
fn head(text: &str, columns: usize) -> &str {
    let mut width = 0;
    for (index, character) in text.char_indices() {
        width += character.width().unwrap_or(0);
        if width > columns && index > 0 {
            return &text[..index];
        }
    }
    text
}

/// [`cut`], filled up with spaces.
pub fn fitted(text: &str, columns: usize) -> String {
    let cut = cut(text, columns);
    format!("{cut}{}", " ".repeat(columns.saturating_sub(cut.width())))
}

/// Words on lines of at most `columns`, a gap between them; a word that is longer than a line is broken.
pub fn folded<'a>(words: impl IntoIterator<Item = &'a str>, gap: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in words {
        let mut rest = word;
        if !line.is_empty() && line.width() + gap.width() + word.width() > columns {
            lines.push(std::mem::take(&mut line));
        }
        while rest.width() > columns {
            let part = head(rest, columns);
            lines.push(part.to_owned());
            rest = &rest[part.len()..];
        }
        if !line.is_empty() {
            line.push_str(gap);
        }
        line.push_str(rest);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// A bar of eighths of a column, for a share of `columns`.
pub fn bar(share: f64, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * columns as f64 * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// Rows of cells in columns as wide as their widest cell; from column `first_number` on, but for the last one, aligned to the right.
pub fn grid(rows: &[Vec<String>], first_number: usize) -> String {
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|it| it.width()).max();
    let widths: Vec<usize> = (0..n_columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[column].saturating_sub(cell.width()));
            let is_number = column >= first_number && column + 1 < n_columns;
            let separator = if column == 0 { "" } else { "  " };
            line += &match is_number {
                true => format!("{separator}{gap}{cell}"),
                false => format!("{separator}{cell}{gap}"),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_counted_as_they_are_shown() {
        // A composed and a decomposed é, and two characters that are two columns wide.
        assert_eq!(fitted("caf\u{e9}", 6).width(), 6);
        assert_eq!(fitted("cafe\u{301}", 6), "cafe\u{301}  ");
        assert_eq!(fitted("日本語", 5), "日本…");
        assert_eq!(cut("krullen", 4), "kru…");
        assert_eq!(visible(" de\n\t\x1b[31m\u{202E}"), "␣de⏎⇥\\u{1B}[31m\\u{202E}");
    }

    #[test]
    fn lines_hold_no_more_than_their_columns() {
        let lines = folded(["de", "kat", "krabtdekrullen", "van"], " ", 6);
        assert_eq!(lines, ["de kat", "krabtd", "ekrull", "en van"]);
        assert!(folded([""; 0], " ", 6).is_empty());
        assert_eq!(folded(["日本語"], " ", 1), ["日", "本", "語"]);
    }

    #[test]
    fn a_bar_is_a_share_of_its_columns() {
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(0.0, 4), "");
        assert_eq!(bar(0.53125, 4), "██▏");
        assert_eq!(bar(f64::NAN, 4), "");
    }
}
