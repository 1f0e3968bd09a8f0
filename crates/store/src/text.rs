//! The only reader of text: UTF-8 in pieces or lines, under a limit, without the byte order mark; other formats are refused by name.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, FileFormat, Reader, Result, SNIFFED_BYTES};

/// Bytes read from a file at a time.
const READ_BYTES: usize = 64 << 10;

/// The most characters of an input that a message shows.
pub const EXCERPT_CHARACTERS: usize = 80;

/// U+FEFF at the start of a text, which is not part of the text.
const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// The treatment of line ends other than a line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineEnds {
    /// A carriage return, with or without a following line feed, becomes a line feed.
    Lf,
    /// They are unchanged.
    #[default]
    Keep,
}

impl fmt::Display for LineEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lf => "lf",
            Self::Keep => "keep",
        })
    }
}

impl FromStr for LineEnds {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "lf" => Ok(Self::Lf),
            "keep" => Ok(Self::Keep),
            other => Err(format!("unknown line ends {}: expected lf or keep", excerpt(other))),
        }
    }
}

impl LineEnds {
    /// The text with these line ends.
    pub fn apply(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Lf if text.contains('\r') => Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")),
            Self::Lf | Self::Keep => Cow::Borrowed(text),
        }
    }
}

/// The beginning of an input in quotes for a message: at most [`EXCERPT_CHARACTERS`] characters, control characters escaped.
///
/// ```
/// assert_eq!(taal_store::excerpt("a\tb"), r#""a\tb""#);
/// assert_eq!(taal_store::excerpt(&"x".repeat(100)).chars().count(), 80);
/// ```
pub fn excerpt(text: &str) -> String {
    // An escaped character takes up to ten.
    let whole = format!("{:?}", text.chars().take(EXCERPT_CHARACTERS).collect::<String>());
    let is_whole = text.chars().nth(EXCERPT_CHARACTERS).is_none();
    if is_whole && whole.chars().count() <= EXCERPT_CHARACTERS {
        return whole;
    }
    let mut shown = String::from("\"");
    let mut room = EXCERPT_CHARACTERS - 5;
    for escaped in text.chars().map(|character| character.escape_debug()) {
        let Some(left) = room.checked_sub(escaped.len()) else {
            break;
        };
        room = left;
        shown.extend(escaped);
    }
    shown.push_str("\"...");
    shown
}

/// Shortens a message of another library, which may repeat a whole input, to at most [`EXCERPT_CHARACTERS`] characters by cutting
/// its middle.
///
/// ```
/// let long = format!("unknown field `{}`, expected `text`", "x".repeat(1000));
/// let short = taal_store::shorten(&long);
/// assert!(short.starts_with("unknown field `xxx") && short.ends_with("`, expected `text`"));
/// assert!(short.chars().count() < 120);
/// ```
pub fn shorten(message: &str) -> String {
    /// The longest message that is not shortened.
    const SHORT: usize = 400;
    const BEGINNING: usize = 50;
    const END: usize = EXCERPT_CHARACTERS - BEGINNING;
    let count = message.chars().count();
    let longest = message.split(['`', '"']).map(str::len).max().unwrap_or(0);
    if count <= EXCERPT_CHARACTERS || (count <= SHORT && longest <= EXCERPT_CHARACTERS) {
        return message.to_owned();
    }
    // The input is in the middle, the library's words around it.
    let mut shown: String = message.chars().take(BEGINNING).collect();
    shown.push_str("...");
    shown.extend(message.chars().skip(count - END));
    shown
}

/// Decodes a text piece by piece, so that it need not fit in memory.
#[derive(Debug)]
pub struct TextReader<R = Reader> {
    name: PathBuf,
    reader: R,
    line_ends: LineEnds,
    limit_bytes: u64,
    /// Bytes read but not yet decoded: the beginning of a character or of a line end that continues in the next piece.
    carry: Vec<u8>,
    /// Position of the first byte of `carry` in the stream.
    offset: u64,
    is_at_start: bool,
    other_line_ends: u64,
}

impl TextReader<Reader> {
    /// Opens a file of at most `limit_bytes`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::NotAFile`], [`Error::Stream`], [`Error::Io`].
    pub fn open(path: &Path, limit_bytes: u64) -> Result<Self> {
        Ok(Self::new(path, Reader::open(path)?, limit_bytes))
    }
}

impl<R: Read> TextReader<R> {
    /// Reads at most `limit_bytes` from a stream, which errors call `name`.
    pub fn new(name: &Path, reader: R, limit_bytes: u64) -> Self {
        Self {
            name: name.to_path_buf(),
            reader,
            line_ends: LineEnds::Keep,
            limit_bytes,
            carry: Vec::new(),
            offset: 0,
            is_at_start: true,
            other_line_ends: 0,
        }
    }

    /// Normalizes line ends.
    #[must_use]
    pub fn with_line_ends(mut self, line_ends: LineEnds) -> Self {
        self.line_ends = line_ends;
        self
    }

    /// Carriage returns read so far.
    pub fn other_line_ends(&self) -> u64 {
        self.other_line_ends
    }

    /// Appends the next piece to `text`; false at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`Error::NotUtf8`], [`Error::Binary`], [`Error::TooLarge`], [`Error::Corrupt`] for a file of another format, and [`Error::Io`].
    pub fn read_into(&mut self, text: &mut String) -> Result<bool> {
        let mut bytes = std::mem::take(&mut self.carry);
        let carried = bytes.len();
        // With too short a first piece, the format of a slow pipe would not be recognized.
        let least = if self.is_at_start { SNIFFED_BYTES } else { 1 };
        let count = self.fill(&mut bytes, least)?;
        if self.is_at_start {
            refuse_other_formats(&self.name, &bytes)?;
        }
        if self.offset + bytes.len() as u64 > self.limit_bytes {
            return Err(Error::TooLarge {
                path: self.name.clone(),
                limit_bytes: self.limit_bytes,
                actual_bytes: self.offset + bytes.len() as u64,
            });
        }
        let is_end = count == 0;
        let mut valid_bytes = match std::str::from_utf8(&bytes) {
            Ok(_) => bytes.len(),
            Err(error) if error.error_len().is_none() && !is_end => error.valid_up_to(),
            Err(error) => return Err(self.not_utf8(error.valid_up_to())),
        };
        // Its line feed may come with the next piece.
        let is_split = self.line_ends == LineEnds::Lf && !is_end && bytes[..valid_bytes].ends_with(b"\r");
        valid_bytes -= usize::from(is_split);
        self.carry = bytes.split_off(valid_bytes);
        if let Some(position) = bytes.iter().position(|&byte| byte == 0) {
            return Err(Error::Binary {
                path: self.name.clone(),
                offset: self.offset + position as u64,
            });
        }
        self.other_line_ends += bytes.iter().filter(|&&byte| byte == b'\r').count() as u64;
        self.offset += valid_bytes as u64;
        let piece = String::from_utf8(bytes).map_err(|error| self.not_utf8(error.utf8_error().valid_up_to()))?;
        let mut piece = piece.as_str();
        if self.is_at_start && !piece.is_empty() {
            self.is_at_start = false;
            piece = piece.strip_prefix(BYTE_ORDER_MARK).unwrap_or(piece);
        }
        text.push_str(&self.line_ends.apply(piece));
        Ok(count > 0 || carried > self.carry.len())
    }

    /// The rest as one text.
    ///
    /// # Errors
    ///
    /// As [`read_into`](Self::read_into).
    pub fn read_all(&mut self) -> Result<String> {
        let mut text = String::new();
        while self.read_into(&mut text)? {}
        Ok(text)
    }

    /// Reads until there are `least` new bytes or the stream ends; returns their number.
    fn fill(&mut self, bytes: &mut Vec<u8>, least: usize) -> Result<usize> {
        let start = bytes.len();
        bytes.resize(start + READ_BYTES, 0);
        let mut count = 0;
        while count < least {
            match self.reader.read(&mut bytes[start + count..]) {
                Ok(0) => break,
                Ok(read) => count += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::io("read", &self.name, source)),
            }
        }
        bytes.truncate(start + count);
        Ok(count)
    }

    fn not_utf8(&self, position: usize) -> Error {
        Error::NotUtf8 {
            path: self.name.clone(),
            offset: self.offset + position as u64,
        }
    }
}

/// The lines of a text, none longer than a limit.
#[derive(Debug)]
pub struct TextLines<R = Reader> {
    text: TextReader<R>,
    /// Decoded text; the lines before `start` have been returned.
    pending: String,
    start: usize,
    line: u64,
    line_limit_bytes: u64,
    is_ended: bool,
}

impl<R: Read> TextLines<R> {
    /// The lines of a text, each of at most `line_limit_bytes`.
    pub fn new(text: TextReader<R>, line_limit_bytes: u64) -> Self {
        Self {
            text,
            pending: String::new(),
            start: 0,
            line: 0,
            line_limit_bytes,
            is_ended: false,
        }
    }

    /// The number of the last line read, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Carriage returns read so far.
    pub fn other_line_ends(&self) -> u64 {
        self.text.other_line_ends()
    }

    /// The next line without its line end, or `None` after the last.
    ///
    /// # Errors
    ///
    /// [`Error::LongLine`], and as [`TextReader::read_into`].
    pub fn next_line(&mut self) -> Result<Option<&str>> {
        let mut searched = self.start;
        let end = loop {
            if let Some(length) = self.pending[searched..].find('\n') {
                break searched + length;
            }
            if self.pending.len() as u64 - self.start as u64 > self.line_limit_bytes {
                return Err(self.long_line());
            }
            if self.is_ended {
                if self.start == self.pending.len() {
                    return Ok(None);
                }
                break self.pending.len();
            }
            self.pending.drain(..self.start);
            self.start = 0;
            searched = self.pending.len();
            self.is_ended = !self.text.read_into(&mut self.pending)?;
        };
        if (end - self.start) as u64 > self.line_limit_bytes {
            return Err(self.long_line());
        }
        self.line += 1;
        let line = self.start..end;
        self.start = (end + 1).min(self.pending.len());
        let line = &self.pending[line];
        Ok(Some(line.strip_suffix('\r').unwrap_or(line)))
    }

    fn long_line(&self) -> Error {
        Error::LongLine {
            path: self.text.name.clone(),
            line: self.line + 1,
            limit_bytes: self.line_limit_bytes,
        }
    }
}

/// Refuses a file whose first bytes belong to another format, with its name and advice.
fn refuse_other_formats(name: &Path, first: &[u8]) -> Result<()> {
    let first = &first[..first.len().min(SNIFFED_BYTES)];
    let Some(format) = FileFormat::of(first) else {
        return Ok(());
    };
    let is_text = match std::str::from_utf8(first) {
        Ok(_) => !first.contains(&0),
        Err(error) => error.error_len().is_none() && !first.contains(&0),
    };
    // A text may begin with the letters of another format, such as GGUF; these three are readable but not the text.
    let is_other = matches!(format, FileFormat::Pdf | FileFormat::Rtf | FileFormat::GitLfsPointer);
    // JSON is text, of which a damaged byte is told by its place.
    if is_text && !is_other || format == FileFormat::Json {
        return Ok(());
    }
    Err(Error::corrupt(name, format.in_place_of("text in UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one byte per call, the hardest case for characters of several bytes.
    struct Dripping<'a>(&'a [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn reader(bytes: &[u8]) -> TextReader<Dripping<'_>> {
        TextReader::new(Path::new("x.txt"), Dripping(bytes), 1 << 20)
    }

    #[test]
    fn characters_split_by_a_read_are_joined_again() {
        let text = "ĳs € 5 🎉 één".repeat(SNIFFED_BYTES / 10);
        assert_eq!(reader(text.as_bytes()).read_all().unwrap(), text);
    }

    #[test]
    fn report_12_a_byte_order_mark_is_dropped_at_the_start_only() {
        assert_eq!(
            reader("\u{FEFF}a\u{FEFF}b".as_bytes()).read_all().unwrap(),
            "a\u{FEFF}b"
        );
        assert_eq!(reader("\u{FEFF}".as_bytes()).read_all().unwrap(), "");
        let mut lines = TextLines::new(reader("\u{FEFF}a\r\n\r\nb".as_bytes()), 10);
        assert_eq!(lines.next_line().unwrap(), Some("a"));
        assert_eq!(lines.next_line().unwrap(), Some(""));
        assert_eq!(lines.next_line().unwrap(), Some("b"));
        assert_eq!(lines.next_line().unwrap(), None);
        assert_eq!((lines.line(), lines.other_line_ends()), (3, 2));
    }

    #[test]
    fn report_27_every_line_end_becomes_a_line_feed_wherever_a_piece_ends() {
        let text = "een\r\ntwee\rdrie\n\r\n".repeat(SNIFFED_BYTES / 8) + "\r";
        let mut lf = reader(text.as_bytes()).with_line_ends(LineEnds::Lf);
        let expected = "een\ntwee\ndrie\n\n".repeat(SNIFFED_BYTES / 8) + "\n";
        assert_eq!(lf.read_all().unwrap(), expected);
        assert_eq!(lf.other_line_ends(), 3 * (SNIFFED_BYTES as u64 / 8) + 1);
        assert_eq!(reader(text.as_bytes()).read_all().unwrap(), text);
    }

    #[test]
    fn an_invalid_byte_is_reported_with_its_offset_even_at_the_very_end() {
        let offset = |bytes: &[u8]| match reader(bytes).read_all() {
            Err(Error::NotUtf8 { offset, .. }) => offset,
            other => panic!("{other:?}"),
        };
        assert_eq!(offset(b"caf\xe9 noir"), 3);
        assert_eq!(offset(b"euro \xe2\x82"), 5);
        assert_eq!(offset(b"{\"a\": \"caf\xe9\"}\n"), 10);
    }

    #[test]
    fn report_12_other_formats_are_refused_by_name_and_a_text_about_them_is_not() {
        let refused = |bytes: &[u8]| reader(bytes).read_all().unwrap_err().to_string();
        assert!(refused(b"\xff\xfeh\0i\0").contains("UTF-16"));
        assert!(refused(b"h\0i\0 \0t\0h\0e\0r\0e\0").contains("iconv -f UTF-16"));
        assert!(refused(b"\x1f\x8b\x08\0\0\0\0\0\0\x03").contains("gunzip"));
        assert!(refused(b"%PDF-1.7\n1 0 obj\n").contains("pdftotext"));
        assert!(refused(b"PK\x03\x04\x14\0\x06\0[Content_Types].xml").contains("Word document"));
        assert_eq!(
            reader(b"GGUF is a file format.").read_all().unwrap(),
            "GGUF is a file format."
        );
    }

    #[test]
    fn report_32_an_endless_text_or_line_ends_at_its_limit() {
        let mut endless = TextReader::new(Path::new("-"), io::repeat(b'y'), 1 << 20);
        assert!(matches!(
            endless.read_all(),
            Err(Error::TooLarge {
                limit_bytes: 1_048_576,
                ..
            })
        ));
        let mut zeros = TextReader::new(Path::new("-"), io::repeat(0), u64::MAX);
        assert!(matches!(zeros.read_all(), Err(Error::Binary { offset: 0, .. })));
        let mut lines = TextLines::new(TextReader::new(Path::new("-"), io::repeat(b'y'), u64::MAX), 1 << 20);
        assert!(matches!(lines.next_line(), Err(Error::LongLine { line: 1, .. })));
    }

    #[test]
    fn report_32_an_excerpt_has_at_most_eighty_characters() {
        for text in ["x", "\u{1b}", "é", "\"", "\u{202e}"] {
            for count in [0, 1, 20, 76, 77, 78, 79, 80, 81, 1_000_000] {
                let shown = excerpt(&text.repeat(count));
                assert!(shown.chars().count() <= EXCERPT_CHARACTERS, "{shown}");
                assert!(!shown.contains(char::is_control));
            }
        }
        assert_eq!(excerpt("kort"), "\"kort\"");
        assert!(excerpt(&"lang ".repeat(50)).ends_with("\"..."));
    }
}
