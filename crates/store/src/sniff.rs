//! Recognizes file formats by their first bytes, so that the wrong file is refused by name and with specific advice.
//!
//! It knows only formats that are often given instead of a text, a tokenizer or a model. `None` means "none of these", not "text".

use std::io::Read;
use std::path::Path;

use crate::disk::{self, Kind};
use crate::{Error, Result, reading};

/// The most bytes that [`FileFormat::of`] uses.
pub const SNIFFED_BYTES: usize = 4096;

/// Code units checked to detect UTF-16 and UTF-32 without a byte order mark.
const TRIED_UNITS: usize = 512;

/// A file format recognized by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileFormat {
    /// The three lines that git-lfs stores instead of a large file.
    GitLfsPointer,
    /// A web page.
    Html,
    /// Text of two bytes per unit, with or without a byte order mark.
    Utf16,
    /// Text of four bytes per character, with or without a byte order mark.
    Utf32,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
    /// 7-Zip.
    SevenZip,
    /// A tar archive.
    Tar,
    /// A zip archive of another kind than those below.
    Zip,
    /// A Word document: .docx.
    Docx,
    /// An Excel sheet: .xlsx.
    Xlsx,
    /// A PowerPoint presentation: .pptx.
    Pptx,
    /// An OpenDocument text, sheet or presentation.
    OpenDocument,
    /// An electronic book.
    Epub,
    /// Arrays of NumPy: .npz.
    Npz,
    /// One array of NumPy: .npy.
    Npy,
    /// Weights of PyTorch in a zip archive.
    PyTorch,
    /// PDF.
    Pdf,
    /// Rich Text Format.
    Rtf,
    /// A document of Office before 2007: .doc, .xls, .ppt.
    OldOffice,
    /// Parquet.
    Parquet,
    /// Apache Arrow's file format, Feather included.
    Arrow,
    /// HDF5, as Keras writes it.
    Hdf5,
    /// A SQLite database.
    Sqlite,
    /// A Python pickle, including PyTorch's files before 1.6.
    Pickle,
    /// safetensors.
    Safetensors,
    /// GGUF.
    Gguf,
    /// llama.cpp's formats before GGUF.
    OldGgml,
    /// A JSON object or list.
    Json,
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
}

/// Formats that begin with fixed bytes.
const MAGIC: [(&[u8], FileFormat); 24] = [
    (b"version https://git-lfs.github.com/spec/", FileFormat::GitLfsPointer),
    // Before UTF-16: the mark of UTF-32 begins with that of UTF-16.
    (b"\xff\xfe\0\0", FileFormat::Utf32),
    (b"\0\0\xfe\xff", FileFormat::Utf32),
    (b"\xff\xfe", FileFormat::Utf16),
    (b"\xfe\xff", FileFormat::Utf16),
    (b"\x1f\x8b", FileFormat::Gzip),
    (b"\x28\xb5\x2f\xfd", FileFormat::Zstd),
    (b"\xfd7zXZ\0", FileFormat::Xz),
    (b"BZh", FileFormat::Bzip2),
    (b"7z\xbc\xaf\x27\x1c", FileFormat::SevenZip),
    (b"%PDF-", FileFormat::Pdf),
    (b"{\\rtf", FileFormat::Rtf),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileFormat::OldOffice),
    (b"PAR1", FileFormat::Parquet),
    (b"ARROW1\0\0", FileFormat::Arrow),
    (b"\x89HDF\r\n\x1a\n", FileFormat::Hdf5),
    (b"SQLite format 3\0", FileFormat::Sqlite),
    (b"GGUF", FileFormat::Gguf),
    (b"tjgg", FileFormat::OldGgml),
    (b"fmgg", FileFormat::OldGgml),
    (b"lmgg", FileFormat::OldGgml),
    (b"\x93NUMPY", FileFormat::Npy),
    (b"\x89PNG\r\n\x1a\n", FileFormat::Png),
    (b"\xff\xd8\xff", FileFormat::Jpeg),
];

impl FileFormat {
    /// The format of a file whose first bytes are `first`; [`SNIFFED_BYTES`] of them are enough, and fewer are allowed.
    ///
    /// # Example
    ///
    /// ```
    /// use taal_store::FileFormat;
    ///
    /// assert_eq!(FileFormat::of(b"version https://git-lfs.github.com/spec/v1\n"), Some(FileFormat::GitLfsPointer));
    /// assert_eq!(FileFormat::of("\u{feff}Een tekst.".as_bytes()), None);
    /// ```
    pub fn of(first: &[u8]) -> Option<Self> {
        let first = &first[..first.len().min(SNIFFED_BYTES)];
        // Checked first: the length before its header can look like the beginning of most others.
        if is_safetensors(first) {
            return Some(Self::Safetensors);
        }
        let magic = MAGIC.iter().find(|(magic, _)| first.starts_with(magic));
        match magic {
            // The next character is the block size.
            Some((_, Self::Bzip2)) => first
                .get(3)
                .filter(|size| (b'1'..=b'9').contains(size))
                .map(|_| Self::Bzip2),
            Some((_, format)) => Some(*format),
            None => structured(first).or_else(|| wide(first)).or_else(|| marked_up(first)),
        }
    }

    /// The format of an existing file; pipes are not read, because their bytes would be lost.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn of_file(path: &Path) -> Result<Option<Self>> {
        let resolved = disk::canonicalize(path).and_then(|path| disk::kind(&path));
        if resolved.is_ok_and(|kind| kind != Kind::File) {
            return Ok(None);
        }
        let mut first = Vec::new();
        reading::open(path)?
            .take(SNIFFED_BYTES as u64)
            .read_to_end(&mut first)
            .map_err(|source| Error::io("read", path, source))?;
        Ok(Self::of(&first))
    }

    /// A description with its article: "a PDF document".
    pub fn name(self) -> &'static str {
        match self {
            Self::GitLfsPointer => "a git-lfs pointer",
            Self::Html => "an HTML page",
            Self::Utf16 => "text in UTF-16",
            Self::Utf32 => "text in UTF-32",
            Self::Gzip => "compressed with gzip",
            Self::Zstd => "compressed with zstd",
            Self::Xz => "compressed with xz",
            Self::Bzip2 => "compressed with bzip2",
            Self::SevenZip => "a 7-Zip archive",
            Self::Tar => "a tar archive",
            Self::Zip => "a zip archive",
            Self::Docx => "a Word document (.docx)",
            Self::Xlsx => "an Excel sheet (.xlsx)",
            Self::Pptx => "a PowerPoint presentation (.pptx)",
            Self::OpenDocument => "an OpenDocument file",
            Self::Epub => "an electronic book (EPUB)",
            Self::Npz => "a NumPy archive (.npz)",
            Self::Npy => "a NumPy array (.npy)",
            Self::PyTorch => "a PyTorch file, which is a pickle",
            Self::Pdf => "a PDF document",
            Self::Rtf => "a Rich Text document (.rtf)",
            Self::OldOffice => "an Office document from before 2007 (.doc, .xls or .ppt)",
            Self::Parquet => "a Parquet file",
            Self::Arrow => "an Arrow file",
            Self::Hdf5 => "an HDF5 file",
            Self::Sqlite => "a SQLite database",
            Self::Pickle => "a Python pickle",
            Self::Safetensors => "a safetensors file of weights",
            Self::Gguf => "a GGUF model file",
            Self::OldGgml => "a model file in a format of llama.cpp before GGUF",
            Self::Json => "a JSON file",
            Self::Png => "a PNG picture",
            Self::Jpeg => "a JPEG picture",
        }
    }

    /// Advice, as a clause that can follow a semicolon or a colon.
    pub fn advice(self) -> &'static str {
        match self {
            Self::GitLfsPointer => "`git lfs pull` in its repository fetches the file",
            Self::Html => "download the file itself, not the page that shows it",
            Self::Utf16 => "convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`",
            Self::Utf32 => "convert it to UTF-8, for example with `iconv -f UTF-32 -t UTF-8`",
            Self::Gzip => "unpack it first, with `gunzip`",
            Self::Zstd => "unpack it first, with `unzstd`",
            Self::Xz => "unpack it first, with `unxz`",
            Self::Bzip2 => "unpack it first, with `bunzip2`",
            Self::SevenZip => "unpack it first, with `7z x`",
            Self::Tar => "unpack it first, with `tar -xf`",
            Self::Zip => "unpack it first, with `unzip`",
            Self::Docx | Self::Rtf | Self::OldOffice | Self::OpenDocument => {
                "save it as plain text in UTF-8 from the program that made it"
            }
            Self::Xlsx => "save it as CSV in UTF-8 from the program that made it",
            Self::Pptx => "save its text as plain text in UTF-8",
            Self::Epub => "convert it to plain text, for example with `pandoc -t plain`",
            Self::Npz | Self::Npy => "write what it holds in the expected format with Python's numpy",
            Self::PyTorch | Self::Pickle => {
                "a pickle can run any code, so it is never opened; convert weights to safetensors with Python's torch"
            }
            Self::Pdf => "extract its text first, for example with `pdftotext`",
            Self::Parquet => "write its texts as JSON Lines first, for example with `duckdb` or Python's pandas",
            Self::Arrow => "write its texts as JSON Lines first, for example with Python's pyarrow",
            Self::Hdf5 => "convert it with Python's h5py",
            Self::Sqlite => "write its texts as JSON Lines first, for example with `sqlite3 -json`",
            Self::Safetensors | Self::Gguf => "it holds the weights of a model; name it where a model is expected",
            Self::OldGgml => "convert the original model again with llama.cpp's convert_hf_to_gguf.py",
            Self::Json => "name it where JSON is expected",
            Self::Png | Self::Jpeg => "name another file",
        }
    }

    /// The rest of a sentence that begins with the file's path: "is an HTML page in place of the model: download the file itself, ...".
    /// `expected` has its article.
    pub fn in_place_of(self, expected: &str) -> String {
        let advice = self.advice();
        match self {
            Self::GitLfsPointer => format!("is a git-lfs pointer, not the file itself: {advice}"),
            Self::Gzip | Self::Zstd | Self::Xz | Self::Bzip2 => format!("is {}: {advice}", self.name()),
            _ => format!("is {} in place of {expected}: {advice}", self.name()),
        }
    }
}

/// Formats that are recognized by structure.
fn structured(first: &[u8]) -> Option<FileFormat> {
    if first.starts_with(b"PK\x03\x04") || first.starts_with(b"PK\x05\x06") {
        return Some(zip(first));
    }
    if first.get(257..262) == Some(b"ustar") {
        return Some(FileFormat::Tar);
    }
    // Pickle protocols 2 to 5 begin with their number.
    matches!(first, [0x80, 2..=5, ..]).then_some(FileFormat::Pickle)
}

/// The length of a header of at most 100 MB, the most that the format allows, and the header's brace.
fn is_safetensors(first: &[u8]) -> bool {
    let Some((length, rest)) = first.split_first_chunk::<8>() else {
        return false;
    };
    u64::from_le_bytes(*length) <= 100_000_000 && rest.first() == Some(&b'{')
}

/// The kind of a zip archive, by the names of its first files.
fn zip(first: &[u8]) -> FileFormat {
    let holds = |text: &[u8]| first.windows(text.len()).any(|window| window == text);
    if holds(b"data.pkl") {
        FileFormat::PyTorch
    } else if holds(b"application/vnd.oasis.opendocument") {
        FileFormat::OpenDocument
    } else if holds(b"application/epub+zip") {
        FileFormat::Epub
    } else if first_name(first).ends_with(b".npy") {
        FileFormat::Npz
    } else if holds(b"[Content_Types].xml") || holds(b"_rels/.rels") {
        match [b"xl/" as &[u8], b"ppt/"].map(holds) {
            [true, _] if !holds(b"word/") => FileFormat::Xlsx,
            [_, true] if !holds(b"word/") => FileFormat::Pptx,
            _ => FileFormat::Docx,
        }
    } else {
        FileFormat::Zip
    }
}

/// The name of the first file of a zip archive.
fn first_name(first: &[u8]) -> &[u8] {
    let length = first
        .get(26..28)
        .map_or(0, |bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
    first.get(30..30 + length).unwrap_or_default()
}

/// UTF-16 and UTF-32 without a byte order mark: text of Latin letters has zero bytes at fixed offsets, and no control characters.
fn wide(first: &[u8]) -> Option<FileFormat> {
    let is_text = |units: &mut dyn Iterator<Item = u32>| {
        let (mut all, mut latin) = (0_usize, 0_usize);
        for unit in units.take(TRIED_UNITS) {
            if unit < 0x20 && !matches!(unit, 0x09 | 0x0a | 0x0d) || (0x7f..0xa0).contains(&unit) || unit > 0x0010_ffff
            {
                return false;
            }
            all += 1;
            latin += usize::from(unit < 0x100);
        }
        all >= 2 && latin * 10 >= all * 7
    };
    let (quads, _) = first.as_chunks::<4>();
    let (pairs, _) = first.as_chunks::<2>();
    let is_utf32 = is_text(&mut quads.iter().map(|bytes| u32::from_le_bytes(*bytes)))
        || is_text(&mut quads.iter().map(|bytes| u32::from_be_bytes(*bytes)));
    if is_utf32 {
        return Some(FileFormat::Utf32);
    }
    let is_utf16 = is_text(&mut pairs.iter().map(|bytes| u32::from(u16::from_le_bytes(*bytes))))
        || is_text(&mut pairs.iter().map(|bytes| u32::from(u16::from_be_bytes(*bytes))));
    is_utf16.then_some(FileFormat::Utf16)
}

/// HTML and JSON, after a byte order mark and white space.
fn marked_up(first: &[u8]) -> Option<FileFormat> {
    let text = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first).trim_ascii_start();
    let begins = |tag: &str| {
        text.get(..tag.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes()))
    };
    if ["<!doctype html", "<html", "<head>", "<body"].into_iter().any(begins) {
        return Some(FileFormat::Html);
    }
    let is_xhtml = begins("<?xml") && text.to_ascii_lowercase().windows(5).any(|window| window == b"<html");
    if is_xhtml {
        return Some(FileFormat::Html);
    }
    let (open, rest) = text.split_first()?;
    let next = rest.trim_ascii_start().first();
    match (open, next) {
        (b'{', Some(b'"' | b'}')) | (b'[', Some(b'{' | b'"')) => Some(FileFormat::Json),
        _ => None,
    }
}
