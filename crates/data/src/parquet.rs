//! Rows of Parquet files as JSON objects, row group after row group.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::errors::Result as Decoded;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use crate::dialogue::{Columns, NOT_TEXT, READ_COLUMNS};
use crate::error::{DataError, Result};
use crate::in_order;
use crate::input::Input;
use crate::text::Object;

/// The rows of a file, in order. Only the columns that a layout may need are decoded, a page at a time.
pub(crate) struct ParquetRows {
    name: String,
    path: PathBuf,
    rows: RowIter<'static>,
    /// The columns that are decoded.
    read: Vec<TypePtr>,
    /// Names of the others, which rows have as `null`.
    others: Vec<String>,
    row: u64,
}

impl ParquetRows {
    /// # Errors
    /// [`DataError::Parquet`] for a file that is not Parquet, is cut off or is encrypted, and for a column with a compression other
    /// than none, Snappy and zstd; the store's.
    pub(crate) fn open(input: &Input<'_>, columns: &Columns) -> Result<Self> {
        let path = input.path();
        // A file that is missing or may not be read is told in the store's words.
        drop(taal_store::Reader::open(&path)?);
        let bad = |detail: String| DataError::Parquet {
            name: input.name.clone(),
            detail,
        };
        let opened = decoded(|| SerializedFileReader::try_from(path.as_path()));
        let reader = opened.map_err(|detail| bad(format!("is not a whole Parquet file ({detail}); write it again")))?;
        let schema = reader.metadata().file_metadata().schema_descr().root_schema_ptr();
        let is_read = |field: &TypePtr| {
            let mapped = [
                &columns.prompt,
                &columns.input,
                &columns.completion,
                &columns.rejected,
                &columns.messages,
            ];
            READ_COLUMNS.contains(&field.name()) || mapped.into_iter().flatten().any(|name| name == field.name())
        };
        let fields = schema.get_fields();
        let is_twice =
            |(index, field): &(usize, &TypePtr)| fields[..*index].iter().any(|other| other.name() == field.name());
        if let Some((_, field)) = fields.iter().enumerate().find(is_twice) {
            let name = taal_store::excerpt(field.name());
            return Err(bad(format!("has two columns that are named {name}: rename one")));
        }
        let (read, others): (Vec<TypePtr>, Vec<TypePtr>) = schema.get_fields().iter().cloned().partition(is_read);
        if let Some((column, compression)) = unsupported(reader.metadata(), &read) {
            return Err(bad(format!(
                "has the compression {compression} in column `{column}`, and none, Snappy and zstd are read: write it again with one \
                 of these"
            )));
        }
        let rows = decoded(|| RowIter::from_file_into(Box::new(reader)).project(Some(part(&schema, &read)?)));
        Ok(Self {
            name: input.name.clone(),
            rows: rows.map_err(|detail| bad(format!("has columns that cannot be read ({detail})")))?,
            path,
            read,
            others: others.iter().map(|field| field.name().to_owned()).collect(),
            row: 0,
        })
    }

    /// The next row and its number, counted from 1.
    ///
    /// # Errors
    /// [`DataError::Row`] naming the column that is damaged.
    pub(crate) fn next_row(&mut self) -> Result<Option<(u64, Object)>> {
        self.row += 1;
        let rows = &mut self.rows;
        match decoded(|| rows.next().transpose()) {
            Ok(None) => Ok(None),
            Ok(Some(row)) => {
                let mut object = object(&row);
                object.extend(self.others.iter().map(|name| (name.clone(), Value::Null)));
                Ok(Some((self.row, object)))
            }
            Err(detail) => {
                let column = self.damaged_column().unwrap_or_default();
                Err(self.bad(format!(
                    "column `{column}` cannot be read from here on ({detail}): write the file again"
                )))
            }
        }
    }

    /// Names of the columns that are not decoded.
    pub(crate) fn others(&self) -> &[String] {
        &self.others
    }

    /// An error about the last row read.
    pub(crate) fn bad(&self, detail: String) -> DataError {
        DataError::Row {
            name: self.name.clone(),
            row: self.row,
            detail,
        }
    }

    /// The first column that cannot be read up to the last row, each decoded alone.
    fn damaged_column(&self) -> Option<String> {
        let is_damaged = |field: &&TypePtr| decoded(|| read_alone(&self.path, field, self.row)).is_err();
        Some(self.read.iter().find(is_damaged)?.name().to_owned())
    }
}

/// Decodes the first rows of one column.
fn read_alone(path: &Path, field: &TypePtr, rows: u64) -> Decoded<()> {
    let reader = SerializedFileReader::try_from(path)?;
    let schema = reader.metadata().file_metadata().schema_descr().root_schema_ptr();
    let found = RowIter::from_file_into(Box::new(reader)).project(Some(part(&schema, std::slice::from_ref(field))?))?;
    for row in found.take(usize::try_from(rows).unwrap_or(usize::MAX)) {
        row?;
    }
    Ok(())
}

/// A schema with some of its columns.
fn part(schema: &Arc<Type>, fields: &[TypePtr]) -> Decoded<Type> {
    Type::group_type_builder(schema.name())
        .with_fields(fields.to_vec())
        .build()
}

/// A column that is decoded and has a compression that is not.
fn unsupported(file: &ParquetMetaData, read: &[TypePtr]) -> Option<(String, String)> {
    let is_read = |column: &str| read.iter().any(|field| field.name() == column);
    let mut columns = file.row_groups().iter().flat_map(|group| group.columns());
    let column = columns.find(|column| {
        let is_known = matches!(
            column.compression(),
            Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_)
        );
        !is_known && column.column_path().parts().first().is_some_and(|name| is_read(name))
    })?;
    Some((column.column_path().string(), column.compression().to_string()))
}

/// The library returns errors for most damage, and panics for some.
fn decoded<T>(read: impl FnOnce() -> Decoded<T>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(taal_store::shorten(&error.to_string())),
        Err(_) => Err("the file is damaged".to_owned()),
    }
}

fn object(row: &Row) -> Object {
    let columns = row.get_column_iter();
    let columns = columns.map(|(name, field)| match in_order::is_kept(name) {
        true => (name.clone(), in_order::standing_for(json(field))),
        false => (name.clone(), value(field)),
    });
    columns.collect()
}

/// The JSON of a field in the order of its schema. A list of structs has all keys of all its items, `null` where an item has none: these
/// are left out, as trl does.
fn json(field: &Field) -> String {
    match field {
        Field::Group(row) => {
            let columns = row.get_column_iter();
            let known = columns.filter(|(_, field)| !matches!(field, Field::Null));
            in_order::object_of(known.map(|(name, field)| (name.clone(), json(field))))
        }
        Field::ListInternal(list) => {
            let items: Vec<String> = list.elements().iter().map(json).collect();
            in_order::list_of(&items)
        }
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            in_order::object_of(entries.map(|(name, entry)| (key(name), json(entry))))
        }
        other => value(other).to_string(),
    }
}

/// The key of an entry of a map.
fn key(field: &Field) -> String {
    match value(field) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// What a field is in JSON; kinds that JSON does not have become texts.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float(value) => (*value).into(),
        Field::Double(value) => (*value).into(),
        Field::Str(text) => text.as_str().into(),
        // Writers without a logical type mark texts as bytes. Other bytes are nothing that a layout reads.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or_else(|_| not_text(), Value::from),
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            Value::Object(entries.map(|(name, entry)| (key(name), value(entry))).collect())
        }
        other => other.to_string().into(),
    }
}

/// The value of bytes that are no text, which a layout that reads them refuses.
fn not_text() -> Value {
    Value::Object([(NOT_TEXT.to_owned(), Value::Null)].into_iter().collect())
}
