//! Token shards: one file of token ids with a header about their origin, and checksums.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use taal_store::{AtomicFile, DirFile, Map, blake3_hex};

use crate::error::{DataError, Result};

const MAGIC: &[u8; 8] = b"TAALSHRD";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 128;
const HASH_BYTES: usize = 32;

/// The part of the header that its checksum covers.
const CHECKED_BYTES: usize = 72;

/// Ids are checked in blocks of this size, so that damage can be located.
const BLOCK_BYTES: usize = 1 << 20;

/// The largest vocabulary whose ids fit two bytes.
const MAX_NARROW_VOCABULARY: u64 = 1 << 16;

/// Ids go to the model as `i32`.
const MAX_VOCABULARY: u64 = 1 << 31;

/// The tokenizer of a shard's ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardOrigin {
    /// BLAKE3 of the `tokenizer.json`, as 64 hexadecimal digits.
    pub tokenizer_hash: String,
    /// Number of ids in its vocabulary; every id of the shard is below.
    pub vocab_size: usize,
}

impl ShardOrigin {
    /// The origin of shards that `tokenizer` makes.
    pub fn of(tokenizer: &taal_tokenizer::Tokenizer) -> Self {
        Self {
            tokenizer_hash: tokenizer.hash().to_owned(),
            vocab_size: tokenizer.vocab_size(),
        }
    }

    fn id_bytes(&self) -> usize {
        if self.vocab_size as u64 <= MAX_NARROW_VOCABULARY {
            2
        } else {
            4
        }
    }
}

/// A file for streaming ids whose header is filled in at the end.
trait Output: Write + Seek {
    fn complete(self: Box<Self>) -> taal_store::Result<()>;
}

impl Output for AtomicFile {
    fn complete(self: Box<Self>) -> taal_store::Result<()> {
        self.commit()
    }
}

impl Output for DirFile {
    fn complete(self: Box<Self>) -> taal_store::Result<()> {
        self.finish()
    }
}

/// Writes one shard as a stream; it needs one block of memory, independent of the shard's size.
pub struct ShardWriter {
    path: PathBuf,
    output: Box<dyn Output>,
    origin: ShardOrigin,
    tokenizer_hash: [u8; HASH_BYTES],
    block: Vec<u8>,
    table: Vec<u8>,
    tokens: u64,
    text_bytes: u64,
}

impl ShardWriter {
    /// Starts a shard that appears at `path` when it is finished.
    ///
    /// # Errors
    /// [`DataError::Setting`] for a vocabulary over 2^31 or a hash that is not BLAKE3's; the store's.
    pub fn create(path: &Path, origin: &ShardOrigin) -> Result<Self> {
        Self::over(Box::new(AtomicFile::create(path)?), path, origin)
    }

    /// Starts a shard in a folder that is being written.
    pub(crate) fn in_dir(dir: &taal_store::AtomicDir, name: &str, origin: &ShardOrigin) -> Result<Self> {
        Self::over(Box::new(dir.create_file(name)?), &dir.path().join(name), origin)
    }

    fn over(output: Box<dyn Output>, path: &Path, origin: &ShardOrigin) -> Result<Self> {
        if origin.vocab_size as u64 > MAX_VOCABULARY {
            let detail = format!("expected at most 2^31 ids, got {}", origin.vocab_size);
            return Err(DataError::Setting {
                key: "tokenizer.vocab_size",
                detail,
            });
        }
        let tokenizer_hash = parse_hash(&origin.tokenizer_hash).ok_or_else(|| DataError::Setting {
            key: "tokenizer hash",
            detail: format!("expected 64 hexadecimal digits, got `{}`", origin.tokenizer_hash),
        })?;
        let mut writer = Self {
            path: path.to_owned(),
            output,
            origin: origin.clone(),
            tokenizer_hash,
            block: Vec::with_capacity(BLOCK_BYTES),
            table: Vec::new(),
            tokens: 0,
            text_bytes: 0,
        };
        // Filled in at the end; until then the file does not carry the magic bytes of a shard.
        writer.write(&[0; HEADER_BYTES])?;
        Ok(writer)
    }

    /// Number of ids so far.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Appends the ids of `text_bytes` bytes of text.
    ///
    /// # Errors
    /// [`DataError::IdOutsideVocabulary`]; the store's, a full disk among them.
    pub fn push(&mut self, ids: &[u32], text_bytes: u64) -> Result<()> {
        let is_narrow = self.origin.id_bytes() == 2;
        for &id in ids {
            if id as usize >= self.origin.vocab_size {
                let (name, vocab_size) = (self.path.display().to_string(), self.origin.vocab_size);
                return Err(DataError::IdOutsideVocabulary { name, id, vocab_size });
            }
            if is_narrow {
                self.block.extend_from_slice(&(id as u16).to_le_bytes());
            } else {
                self.block.extend_from_slice(&id.to_le_bytes());
            }
            if self.block.len() == BLOCK_BYTES {
                self.write_block()?;
            }
        }
        self.tokens += ids.len() as u64;
        self.text_bytes += text_bytes;
        Ok(())
    }

    /// Completes the file and puts it in place.
    ///
    /// # Errors
    /// The store's.
    pub fn finish(mut self) -> Result<()> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        let table = std::mem::take(&mut self.table);
        self.write(&table)?;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&(self.origin.id_bytes() as u32).to_le_bytes());
        header.extend_from_slice(&self.tokens.to_le_bytes());
        header.extend_from_slice(&self.text_bytes.to_le_bytes());
        header.extend_from_slice(&(self.origin.vocab_size as u64).to_le_bytes());
        header.extend_from_slice(&self.tokenizer_hash);
        let checksum = hash(&[&header, &table[..]].concat());
        header.extend_from_slice(&checksum);
        header.resize(HEADER_BYTES, 0);
        self.output
            .seek(SeekFrom::Start(0))
            .map_err(|source| write_error(&self.path, source))?;
        self.write(&header)?;
        Ok(self.output.complete()?)
    }

    fn write_block(&mut self) -> Result<()> {
        let block = std::mem::take(&mut self.block);
        self.table.extend_from_slice(&hash(&block));
        self.write(&block)?;
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.output
            .write_all(bytes)
            .map_err(|source| write_error(&self.path, source))
    }
}

impl std::fmt::Debug for ShardWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardWriter")
            .field("path", &self.path)
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

fn write_error(path: &Path, source: std::io::Error) -> DataError {
    DataError::Store(taal_store::Error::io("write", path, source))
}

/// A token shard, memory-mapped.
///
/// # Format
/// Little-endian throughout.
///
/// | bytes | content |
/// |---|---|
/// | 0..8 | `TAALSHRD` |
/// | 8..12 | format version, 1 |
/// | 12..16 | bytes per id: 2 for a vocabulary of at most 65 536, otherwise 4 |
/// | 16..24 | number of ids |
/// | 24..32 | bytes of text that the ids encode |
/// | 32..40 | vocabulary size |
/// | 40..72 | BLAKE3 of the tokenizer's `tokenizer.json` |
/// | 72..104 | BLAKE3 of bytes 0..72 and the table of checksums |
/// | 104..128 | zero |
/// | 128.. | the ids |
/// | after the ids | the table: the BLAKE3 of every MiB of ids, 32 bytes each, the last MiB possibly short |
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    map: Map,
    origin: ShardOrigin,
    id_bytes: usize,
    tokens: u64,
    text_bytes: u64,
}

impl Shard {
    /// Maps a shard and checks its header and size, but not yet the ids: see [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`DataError::Shard`] for a file that is damaged, truncated or not a shard; [`DataError::WrongTokenizer`] where
    /// `tokenizer_hash` is given and another tokenizer made the shard; the store's.
    pub fn open(path: &Path, tokenizer_hash: Option<&str>) -> Result<Self> {
        let bad = |detail: String| DataError::Shard {
            path: path.to_owned(),
            detail,
        };
        let map = Map::open(path)?;
        if map.len() < HEADER_BYTES {
            return Err(bad(format!(
                "is cut off: {} bytes, a shard has at least {HEADER_BYTES}",
                map.len()
            )));
        }
        let header = Header(&map[..HEADER_BYTES]);
        if &map[..8] != MAGIC {
            return Err(bad("is not a token shard: it does not start with `TAALSHRD`".to_owned()));
        }
        if header.u32(8) != VERSION {
            return Err(bad(format!(
                "is of format version {}, this program reads {VERSION}",
                header.u32(8)
            )));
        }
        let (id_bytes, tokens) = (header.u32(12) as usize, header.u64(16));
        let damaged = || bad("has a damaged header (bytes 0 to 128)".to_owned());
        if !matches!(id_bytes, 2 | 4) {
            return Err(damaged());
        }
        let (ids_end, table_end) = layout(tokens, id_bytes).ok_or_else(damaged)?;
        if (map.len() as u64) < table_end {
            return Err(bad(format!("is cut off at byte {} of {table_end}", map.len())));
        }
        if map.len() as u64 > table_end {
            return Err(bad(format!("has {} bytes, its header says {table_end}", map.len())));
        }
        let table = &map[ids_end as usize..];
        if hash(&[&map[..CHECKED_BYTES], table].concat()) != map[CHECKED_BYTES..CHECKED_BYTES + HASH_BYTES] {
            return Err(bad(
                "has a damaged header (bytes 0 to 128) or table of checksums".to_owned()
            ));
        }
        let vocab_size = header.u64(32);
        if vocab_size > MAX_VOCABULARY
            || map[CHECKED_BYTES + HASH_BYTES..HEADER_BYTES]
                .iter()
                .any(|&byte| byte != 0)
        {
            return Err(damaged());
        }
        let origin = ShardOrigin {
            tokenizer_hash: hex(&map[40..72]),
            vocab_size: usize::try_from(vocab_size).map_err(|_| damaged())?,
        };
        if origin.id_bytes() != id_bytes {
            return Err(damaged());
        }
        if let Some(expected) = tokenizer_hash.filter(|&expected| expected != origin.tokenizer_hash) {
            let (path, expected, found) = (path.to_owned(), expected.to_owned(), origin.tokenizer_hash);
            return Err(DataError::WrongTokenizer { path, expected, found });
        }
        Ok(Self {
            path: path.to_owned(),
            origin,
            id_bytes,
            tokens,
            text_bytes: header.u64(24),
            map,
        })
    }

    /// Checks every block of ids against its checksum, and every id against the vocabulary, on all cores.
    ///
    /// # Errors
    /// [`DataError::Shard`] naming the first bad block and its bytes, or the first id outside the vocabulary.
    pub fn verify(&self) -> Result<()> {
        let table = &self.map[HEADER_BYTES + self.id_slice().len()..];
        let blocks = self
            .id_slice()
            .par_chunks(BLOCK_BYTES)
            .zip(table.par_chunks(HASH_BYTES));
        let first_bad = blocks
            .enumerate()
            .filter_map(|(index, (block, checksum))| self.block_fault(index, block, checksum))
            .min_by_key(|(index, _)| *index);
        match first_bad {
            Some((_, detail)) => Err(DataError::Shard {
                path: self.path.clone(),
                detail,
            }),
            None => Ok(()),
        }
    }

    fn block_fault(&self, index: usize, block: &[u8], checksum: &[u8]) -> Option<(usize, String)> {
        let start = HEADER_BYTES + index * BLOCK_BYTES;
        if hash(block) != checksum && !taal_store::is_broken("shard-check") {
            let end = start + block.len();
            return Some((index, format!("is damaged in block {index} (bytes {start} to {end})")));
        }
        let position = ids_in(block, self.id_bytes).position(|id| id as usize >= self.origin.vocab_size)?;
        let byte = start + position * self.id_bytes;
        let vocab_size = self.origin.vocab_size;
        Some((
            index,
            format!("has an id at byte {byte} outside its vocabulary of {vocab_size}"),
        ))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokenizer of the ids.
    pub fn origin(&self) -> &ShardOrigin {
        &self.origin
    }

    /// The checksum in the header, over the header's numbers and the checksums of all ids, as 64 hexadecimal digits.
    pub fn checksum(&self) -> String {
        hex(&self.map[CHECKED_BYTES..CHECKED_BYTES + HASH_BYTES])
    }

    /// Number of ids.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Bytes of text that the ids encode.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Bytes an id takes on disk: 2 or 4.
    pub fn id_bytes(&self) -> usize {
        self.id_bytes
    }

    /// All ids in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        ids_in(self.id_slice(), self.id_bytes)
    }

    /// The ids `start..start + count`, which must be inside the shard.
    pub(crate) fn ids_from(&self, start: u64, count: usize) -> impl ExactSizeIterator<Item = u32> + '_ {
        let first = start as usize * self.id_bytes;
        ids_in(&self.id_slice()[first..first + count * self.id_bytes], self.id_bytes)
    }

    fn id_slice(&self) -> &[u8] {
        &self.map[HEADER_BYTES..HEADER_BYTES + self.tokens as usize * self.id_bytes]
    }
}

fn ids_in(bytes: &[u8], id_bytes: usize) -> impl ExactSizeIterator<Item = u32> + '_ {
    bytes.chunks_exact(id_bytes).map(|bytes| match *bytes {
        [a, b] => u32::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => unreachable!("a shard's ids have 2 or 4 bytes, checked when it was opened"),
    })
}

/// Where the ids and the table of a shard end, in bytes; `None` where the header's numbers are impossible.
fn layout(tokens: u64, id_bytes: usize) -> Option<(u64, u64)> {
    let id_slice_bytes = tokens.checked_mul(id_bytes as u64)?;
    let ids_end = id_slice_bytes.checked_add(HEADER_BYTES as u64)?;
    let table_bytes = id_slice_bytes.div_ceil(BLOCK_BYTES as u64) * HASH_BYTES as u64;
    Some((ids_end, ids_end.checked_add(table_bytes)?))
}

/// Numbers in a header of [`HEADER_BYTES`] bytes.
struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn u32(&self, at: usize) -> u32 {
        self.0[at..at + 4]
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u32::from(byte))
    }

    fn u64(&self, at: usize) -> u64 {
        self.0[at..at + 8]
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte))
    }
}

fn hash(bytes: &[u8]) -> [u8; HASH_BYTES] {
    // The store's hexadecimal form is always valid, so the default is never used.
    parse_hash(&blake3_hex(bytes)).unwrap_or_default()
}

fn parse_hash(text: &str) -> Option<[u8; HASH_BYTES]> {
    let mut hash = [0; HASH_BYTES];
    if text.len() != 2 * HASH_BYTES || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
