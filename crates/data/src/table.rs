//! Rows of CSV and TSV files as JSON objects of strings, each with the line on which it begins.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use crate::error::{DataError, Result};
use crate::input::Input;
use crate::text::{Object, Pieces};

/// The most columns of a table.
const MAX_FIELDS: usize = 1024;

/// A table whose first row names its columns.
pub(crate) struct Table {
    name: String,
    text: String,
    /// Bytes read so far.
    read: usize,
    reader: Reader,
    delimiter: u8,
    /// Whether a field may be in quotes; otherwise they are text.
    has_quotes: bool,
    columns: Vec<String>,
    line: u64,
    next_line: u64,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({:?}, {:?})", self.name, self.columns)
    }
}

impl Table {
    /// Reads the file and its header. Fields are separated by tabs in a `.tsv` file, otherwise by commas, or by tabs or semicolons if
    /// the header has these and no comma. Quotes are text in a `.tsv` file; elsewhere a field may be in quotes.
    ///
    /// # Errors
    /// [`DataError::Line`] for a header with an empty or repeated name; [`DataError::NotUtf8`], [`DataError::Binary`]; the store's.
    pub(crate) fn open(input: &Input<'_>, is_tabs: bool) -> Result<Self> {
        let mut text = String::new();
        let mut pieces = Pieces::unchanged(input)?;
        while pieces.read_into(&mut text)? {}
        let header = text.trim_start_matches(['\r', '\n']).lines().next().unwrap_or_default();
        let delimiter = match is_tabs {
            true => b'\t',
            false => *[b',', b'\t', b';']
                .iter()
                .find(|byte| header.as_bytes().contains(byte))
                .unwrap_or(&b','),
        };
        let mut table = Self {
            name: input.name.clone(),
            text,
            read: 0,
            reader: ReaderBuilder::new().delimiter(delimiter).quoting(!is_tabs).build(),
            delimiter,
            has_quotes: !is_tabs,
            columns: Vec::new(),
            line: 1,
            next_line: 1,
        };
        let columns = table.next_fields()?.unwrap_or_default();
        for (index, column) in columns.iter().enumerate() {
            if column.trim().is_empty() {
                return Err(table.bad(format!(
                    "column {} has no name: the first row must name every column",
                    index + 1
                )));
            }
            if columns[..index].iter().any(|other| other.trim() == column.trim()) {
                return Err(table.bad(format!(
                    "two columns are named {}: rename one",
                    taal_store::excerpt(column.trim())
                )));
            }
        }
        table.columns = columns.iter().map(|column| column.trim().to_owned()).collect();
        Ok(table)
    }

    /// The next row, and the line on which it begins, counted from 1.
    ///
    /// # Errors
    /// [`DataError::Line`] where it has more or fewer fields than the header, or a quote that is not closed where its field ends.
    pub(crate) fn next_row(&mut self) -> Result<Option<(u64, Object)>> {
        let Some(fields) = self.next_fields()? else {
            return Ok(None);
        };
        if fields.len() != self.columns.len() {
            let quotes = match self.has_quotes {
                true => ": a field with the delimiter, a quote or a line break in it needs quotes around it",
                false => ": a field cannot have a tab or a line break in it",
            };
            return Err(self.bad(format!(
                "expected {} fields, as the header has, found {}{quotes}",
                self.columns.len(),
                fields.len()
            )));
        }
        let values = fields.into_iter().map(serde_json::Value::String);
        Ok(Some((self.line, self.columns.iter().cloned().zip(values).collect())))
    }

    /// An error about the last row read.
    pub(crate) fn bad(&self, detail: String) -> DataError {
        DataError::Line {
            name: self.name.clone(),
            line: self.line,
            detail,
        }
    }

    fn next_fields(&mut self) -> Result<Option<Vec<String>>> {
        let rest = &self.text.as_bytes()[self.read..];
        // Empty lines are not rows, but they are counted.
        let empty = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        self.line = self.next_line + lines_in(&rest[..empty]);
        let mut start = self.read + empty;
        let (mut output, mut ends) = (vec![0; 1 << 12], vec![0; MAX_FIELDS]);
        let (mut written, mut counted) = (0, 0);
        loop {
            let rest = &self.text.as_bytes()[start..];
            let (result, read, wrote, ended) =
                self.reader
                    .read_record(rest, &mut output[written..], &mut ends[counted..]);
            start += read;
            written += wrote;
            counted += ended;
            match result {
                // An empty input, which is what is left now, signals the end of the text.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => output.resize(output.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => {
                    return Err(self.bad(format!("a row has more than {MAX_FIELDS} fields")));
                }
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::Record => break,
            }
        }
        let row = &self.text.as_bytes()[self.read + empty..start];
        if let Some(wrong) = taal_store::misquoted(row, self.delimiter).filter(|_| self.has_quotes) {
            return Err(self.bad(wrong.to_owned()));
        }
        self.next_line = self.line + lines_in(row);
        self.read = start;
        let starts = [0].into_iter().chain(ends[..counted].iter().copied());
        let parts = starts.zip(&ends[..counted]).map(|(start, end)| &output[start..*end]);
        // Fields are cut at delimiters and quotes, which are ASCII, so they stay UTF-8.
        Ok(Some(
            parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect(),
        ))
    }
}

fn lines_in(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}
