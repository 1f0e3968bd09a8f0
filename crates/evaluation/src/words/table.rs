//! Columns of a CSV file by their names.

use std::path::Path;

use csv_core::{ReadRecordResult, ReaderBuilder};

use crate::lines::{TEST_LIMITS, whole_text};
use crate::{EvaluationError, Result};

/// The longest row, and the most fields of one.
const MAX_ROW_BYTES: usize = 1 << 20;
const MAX_FIELDS: usize = 1024;

/// The rows of a file with a header, each with its line number and the wanted columns; other columns are ignored, as are rows in
/// which the wanted ones are empty. Columns are separated by commas, or by tabs or semicolons if the header has these; in a `.tsv` file
/// quotes are text.
///
/// `wanted` lists the possible names of each column, in lower case.
///
/// # Errors
///
/// [`EvaluationError::Line`] for a missing column, a row with more or fewer fields than the header or with a quote that is not closed, and
/// a file without rows; the store's.
pub(crate) fn read_columns<const N: usize>(path: &Path, wanted: [&[&str]; N]) -> Result<Vec<(usize, [String; N])>> {
    let bad = |line: usize, detail: String| EvaluationError::Line {
        path: path.to_path_buf(),
        line,
        detail,
    };
    let text = whole_text(path, TEST_LIMITS)?;
    let names = wanted.map(|names| names[0]).join(", ");
    let header = text.lines().next().unwrap_or_default();
    if header.trim().is_empty() {
        return Err(bad(
            1,
            format!("expected a header with the columns {names}, got nothing"),
        ));
    }
    let delimiter = [b'\t', b';'].into_iter().find(|byte| header.as_bytes().contains(byte));
    let has_quotes = !path.extension().is_some_and(|end| end.eq_ignore_ascii_case("tsv"));
    let mut rows = records(&text, delimiter.unwrap_or(b','), has_quotes)
        .map_err(|(line, detail)| bad(line, detail))?
        .into_iter();
    let (_, header) = rows.next().unwrap_or_default();
    let mut places = [0; N];
    for (place, names) in places.iter_mut().zip(wanted) {
        let is_wanted = |field: &String| names.contains(&field.to_lowercase().as_str());
        *place = header.iter().position(is_wanted).ok_or_else(|| {
            bad(
                1,
                format!(
                    "no column {:?} in the header, which has {}",
                    names[0],
                    taal_store::excerpt(&header.join(", "))
                ),
            )
        })?;
    }
    let mut found = Vec::new();
    for (line, fields) in rows {
        if fields.len() != header.len() {
            let detail = format!(
                "expected {} fields, as the header has, got {}",
                header.len(),
                fields.len()
            );
            return Err(bad(line, detail));
        }
        let row = places.map(|place| fields[place].clone());
        // WordSim-353's files end in a row that only has a number.
        if row.iter().any(|field| !field.is_empty()) {
            found.push((line, row));
        }
    }
    if found.is_empty() {
        return Err(bad(1, "no row follows the header".to_owned()));
    }
    Ok(found)
}

/// The line on which a record begins, and its fields.
type Record = (usize, Vec<String>);

/// The records of a text, each with the line on which it begins, with trimmed fields.
fn records(text: &str, delimiter: u8, has_quotes: bool) -> std::result::Result<Vec<Record>, (usize, String)> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).quoting(has_quotes).build();
    let (mut fields, mut ends) = (vec![0; MAX_ROW_BYTES], vec![0; MAX_FIELDS]);
    let mut rest = text.as_bytes();
    let (mut line, mut records) = (1, Vec::new());
    loop {
        // Empty lines are not records, but they are counted.
        let n_empty = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        line += lines_in(&rest[..n_empty]);
        rest = &rest[n_empty..];
        let (mut result, mut read, written, mut counted) = reader.read_record(rest, &mut fields, &mut ends);
        if result == ReadRecordResult::InputEmpty {
            // An empty input signals the end of the text.
            let ended;
            (result, _, _, ended) = reader.read_record(&[], &mut fields[written..], &mut ends[counted..]);
            (read, counted) = (rest.len(), counted + ended);
        }
        match result {
            ReadRecordResult::OutputFull => return Err((line, format!("a row has more than {MAX_ROW_BYTES} bytes"))),
            ReadRecordResult::OutputEndsFull => return Err((line, format!("a row has more than {MAX_FIELDS} fields"))),
            ReadRecordResult::InputEmpty | ReadRecordResult::End => return Ok(records),
            ReadRecordResult::Record => {
                if let Some(wrong) = taal_store::misquoted(&rest[..read], delimiter).filter(|_| has_quotes) {
                    return Err((line, wrong.to_owned()));
                }
                let starts = [0].into_iter().chain(ends[..counted].iter().copied());
                let parts = starts.zip(&ends[..counted]).map(|(start, end)| &fields[start..*end]);
                let parts = parts.map(|part| String::from_utf8_lossy(part).trim().to_owned());
                records.push((line, parts.collect()));
            }
        }
        line += lines_in(&rest[..read]);
        rest = &rest[read..];
    }
}

fn lines_in(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}
