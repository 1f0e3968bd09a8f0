//! The filter `wordwrap`: paragraphs in lines of at most so many characters, broken where Python's `textwrap` breaks them.

use std::borrow::Cow;

use minijinja::value::{Kwargs, Rest, ValueOrKwargs, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::bounds::{charge_all, charge_bytes, lines_of};

/// Characters of a line unless the template says otherwise.
const WIDTH: i64 = 79;
/// Bytes of the text for one unit of fuel: each character is looked at several times.
const BYTES_PER_FUEL: usize = 16;

/// The text, and the arguments by their places.
type Arguments<'a> = (
    Cow<'a, str>,
    Option<i64>,
    Option<bool>,
    Option<Cow<'a, str>>,
    Option<bool>,
);

/// `text | wordwrap(width=79, break_long_words=True, wrapstring="\n", break_on_hyphens=True)`
pub(super) fn wordwrap(state: &State, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut args = args.into_values();
    charge_all(state, &args)?;
    let named = args.pop_if(|last| last.is_kwargs()).unwrap_or_default();
    let named = Kwargs::try_from(named)?;
    let (text, width, breaks_words, between, breaks_at_hyphens): Arguments = from_args(&args)?;
    let width = width.or(named.get("width")?).unwrap_or(WIDTH);
    let breaks_words = breaks_words.or(named.get("break_long_words")?);
    let between = between.or(named.get("wrapstring")?);
    let breaks_at_hyphens = breaks_at_hyphens.or(named.get("break_on_hyphens")?);
    named.assert_all_used()?;
    let wrap = Wrap {
        width: usize::try_from(width).unwrap_or(0),
        breaks_words: breaks_words.unwrap_or(true),
        breaks_at_hyphens: breaks_at_hyphens.unwrap_or(true),
    };
    if wrap.width == 0 {
        let message = format!("wordwrap: expected a width of at least 1, got {width}");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    state.consume_fuel((text.len() / BYTES_PER_FUEL) as u64)?;
    let between = between.as_deref().unwrap_or("\n");
    let mut out = String::with_capacity(text.len());
    let push_between = |out: &mut String| -> Result<(), Error> {
        state.consume_fuel(1)?;
        charge_bytes(state, between.len())?;
        out.push_str(between);
        Ok(())
    };
    for (index, paragraph) in lines_of(&text).enumerate() {
        if index > 0 {
            push_between(&mut out)?;
        }
        let mut is_first = true;
        wrap.lines(paragraph, |line| {
            if !is_first {
                push_between(&mut out)?;
            }
            is_first = false;
            out.push_str(line);
            Ok(())
        })?;
    }
    Ok(Value::from(out))
}

/// How a paragraph is broken.
struct Wrap {
    width: usize,
    breaks_words: bool,
    breaks_at_hyphens: bool,
}

/// A piece of a paragraph that is not broken unless it is longer than a line.
#[derive(Clone, Copy)]
struct Piece<'t> {
    /// The byte at which it begins.
    start: usize,
    text: &'t str,
    /// Its characters.
    length: usize,
}

impl Wrap {
    /// Gives the lines of a paragraph to `push`, from the first to the last.
    fn lines<'t>(&self, paragraph: &'t str, mut push: impl FnMut(&'t str) -> Result<(), Error>) -> Result<(), Error> {
        let mut at = 0;
        let mut pieces = std::iter::from_fn(|| {
            let end = self.end_of_piece(paragraph, at)?;
            let (start, text) = (at, &paragraph[at..end]);
            at = end;
            Some(Piece {
                start,
                text,
                length: text.chars().count(),
            })
        });
        let mut next = pieces.next();
        let mut is_first = true;
        while let Some(piece) = next {
            // White space at the beginning of the paragraph stays, and that at the beginning of other lines goes.
            if !is_first && is_blank(piece.text) {
                next = pieces.next();
            }
            let (mut begin, mut length) = (None, 0);
            let mut last = 0..0;
            let mut take = |start: usize, end: usize| {
                begin.get_or_insert(start);
                last = start..end;
            };
            while let Some(piece) = next.filter(|piece| length + piece.length <= self.width) {
                take(piece.start, piece.start + piece.text.len());
                length += piece.length;
                next = pieces.next();
            }
            if let Some(piece) = next.filter(|piece| piece.length > self.width) {
                if self.breaks_words {
                    let (end, cut) = self.cut(&piece, self.width - length);
                    take(piece.start, piece.start + end);
                    next = Some(Piece {
                        start: piece.start + end,
                        text: &piece.text[end..],
                        length: piece.length - cut,
                    });
                } else if length == 0 {
                    take(piece.start, piece.start + piece.text.len());
                    next = pieces.next();
                }
            }
            let Some(begin) = begin else { continue };
            // Python drops the last piece of a line if it is white space, and so one of no characters.
            let end = if is_blank(&paragraph[last.clone()]) {
                last.start
            } else {
                last.end
            };
            if end > begin {
                push(&paragraph[begin..end])?;
                is_first = false;
            }
        }
        Ok(())
    }

    /// Where a piece is cut that is longer than a line with room for this many characters: the byte and the characters before it.
    fn cut(&self, piece: &Piece, room: usize) -> (usize, usize) {
        let mut end = piece.text.len();
        let mut after_hyphen = None;
        let mut has_word = false;
        for (index, (at, character)) in piece.text.char_indices().enumerate() {
            if index == room {
                end = at;
                break;
            }
            if character != '-' {
                has_word = true;
            } else if has_word {
                after_hyphen = Some((at + 1, index + 1));
            }
        }
        match after_hyphen.filter(|_| self.breaks_at_hyphens) {
            Some(cut) => cut,
            None => (end, room),
        }
    }

    /// The end of the piece that begins at a byte; none at the end of the paragraph.
    fn end_of_piece(&self, paragraph: &str, at: usize) -> Option<usize> {
        let rest = &paragraph[at..];
        let first = rest.chars().next()?;
        if is_space(first) {
            return Some(at + rest.find(|character| !is_space(character)).unwrap_or(rest.len()));
        }
        if !self.breaks_at_hyphens {
            return Some(at + rest.find(is_space).unwrap_or(rest.len()));
        }
        let before = paragraph[..at].chars().next_back();
        if let Some(dash) = dash(rest).filter(|_| before.is_some_and(is_before_dash)) {
            return Some(at + dash);
        }
        let mut places = rest.char_indices().skip(1);
        let end = places.find_map(|(place, character)| {
            let (done, left) = paragraph.split_at(at + place);
            if character == '-' && is_within_word(done, left) {
                return Some(place + 1);
            }
            let ends = is_space(character) || (done.ends_with(is_before_dash) && dash(left).is_some());
            ends.then_some(place)
        });
        Some(at + end.unwrap_or(rest.len()))
    }
}

/// The length of a dash of two or more hyphens that a text begins with, where a word follows.
fn dash(text: &str) -> Option<usize> {
    let word = text.trim_start_matches('-');
    let length = text.len() - word.len();
    (length >= 2 && word.starts_with(is_of_word)).then_some(length)
}

/// Whether the hyphen that `left` begins with is one within a word: after two letters, or a letter between hyphens, and before two
/// letters, perhaps with a hyphen between them.
fn is_within_word(done: &str, left: &str) -> bool {
    let mut before = done.chars().rev();
    let is_after = before.next().is_some_and(is_letter)
        && match before.next() {
            Some('-') => before.next().is_some_and(is_letter),
            other => other.is_some_and(is_letter),
        };
    let mut after = left.chars().skip(1);
    is_after
        && after.next().is_some_and(is_letter)
        && match after.next() {
            Some('-') => after.next().is_some_and(is_letter),
            other => other.is_some_and(is_letter),
        }
}

/// White space that separates pieces.
fn is_space(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Whether nothing is left of a text that Python strips.
fn is_blank(text: &str) -> bool {
    text.chars()
        .all(|character| character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character))
}

fn is_of_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn is_letter(character: char) -> bool {
    is_of_word(character) && !character.is_numeric()
}

/// What may stand before a dash.
fn is_before_dash(character: char) -> bool {
    is_of_word(character) || matches!(character, '!' | '"' | '\'' | '&' | '.' | ',' | '?')
}
