//! A run of token ids to draw batches from, in memory or in shards on disk.

use std::sync::Arc;

use crate::shard::Shard;

/// A run of token ids with the number of bytes of text they encode.
///
/// Cloning is cheap: the ids are shared.
#[derive(Debug, Clone)]
pub struct TokenSource {
    name: String,
    storage: Arc<Storage>,
    start: u64,
    len: u64,
    text_bytes: u64,
}

#[derive(Debug)]
pub(crate) enum Storage {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
    Shards(ShardRun),
}

/// Consecutive shards as one run of ids.
#[derive(Debug, Default)]
pub(crate) struct ShardRun {
    shards: Vec<Shard>,
    /// Index of each shard's first id.
    starts: Vec<u64>,
    len: u64,
}

impl ShardRun {
    pub(crate) fn push(&mut self, shard: Shard) {
        self.starts.push(self.len);
        self.len += shard.tokens();
        self.shards.push(shard);
    }
}

impl Storage {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Narrow(ids) => ids.len() as u64,
            Self::Wide(ids) => ids.len() as u64,
            Self::Shards(run) => run.len,
        }
    }
}

impl TokenSource {
    /// A source of ids in memory; `name` is its name in messages.
    pub fn from_ids(name: &str, ids: Vec<u32>, text_bytes: u64) -> Self {
        let len = ids.len() as u64;
        Self::part(name.to_owned(), &Arc::new(Storage::Wide(ids)), 0, len, text_bytes)
    }

    /// The ids `start..start + len` of a storage.
    pub(crate) fn part(name: String, storage: &Arc<Storage>, start: u64, len: u64, text_bytes: u64) -> Self {
        debug_assert!(
            start + len <= storage.len(),
            "{name}: a part must be inside its storage"
        );
        Self {
            name,
            storage: Arc::clone(storage),
            start,
            len,
            text_bytes,
        }
    }

    /// The ids `start..start + len` of this source, with another name and their bytes of text.
    pub(crate) fn slice(&self, name: String, start: u64, len: u64, text_bytes: u64) -> Self {
        Self::part(name, &self.storage, self.start + start, len, text_bytes)
    }

    /// The name of the source in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of tokens.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of text that the tokens encode, for bits per byte.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// The first `len` tokens, or all if there are fewer; the caller gives the number of bytes that they encode.
    pub fn head(&self, len: u64, text_bytes: u64) -> Self {
        if len >= self.len {
            return self.clone();
        }
        Self::part(self.name.clone(), &self.storage, self.start, len, text_bytes)
    }

    /// The same tokens with another number of bytes, where not all of them are scored.
    #[must_use]
    pub fn with_text_bytes(mut self, text_bytes: u64) -> Self {
        self.text_bytes = text_bytes;
        self
    }

    /// The tokens `start..start + count`, or fewer at the end of the source.
    pub fn read(&self, start: u64, count: usize) -> Vec<u32> {
        let mut ids = Vec::with_capacity(count.min(usize::try_from(self.len).unwrap_or(usize::MAX)));
        self.for_each(start, count, |id| ids.push(id));
        ids
    }

    /// A hash of the source's ids. For shards it is the hash of their checksums, which were verified when the folder was opened;
    /// so the same ids have different fingerprints in memory and in shards.
    pub fn fingerprint(&self) -> String {
        /// Ids converted to bytes at a time.
        const AT_ONCE: usize = 1 << 16;
        if let Storage::Shards(run) = &*self.storage {
            let place = format!("{}+{}", self.start, self.len);
            let checksums = run.shards.iter().map(Shard::checksum);
            return taal_store::blake3_hex_of(checksums.chain([place]));
        }
        let parts = (0..self.len).step_by(AT_ONCE).map(|start| {
            let ids = self.read(start, AT_ONCE);
            ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>()
        });
        taal_store::blake3_hex_of(parts)
    }

    /// Calls `take` with each of the tokens `start..start + count` that exist.
    pub(crate) fn for_each(&self, start: u64, count: usize, mut take: impl FnMut(u32)) {
        let start = start.min(self.len);
        let mut left = (self.len - start).min(count as u64) as usize;
        let mut position = self.start + start;
        match &*self.storage {
            Storage::Narrow(ids) => {
                let first = position as usize;
                ids[first..first + left].iter().for_each(|&id| take(u32::from(id)));
            }
            Storage::Wide(ids) => {
                let first = position as usize;
                ids[first..first + left].iter().for_each(|&id| take(id));
            }
            Storage::Shards(run) => {
                let mut index = run.starts.partition_point(|&first| first <= position).saturating_sub(1);
                while left > 0 {
                    let (shard, first) = (&run.shards[index], run.starts[index]);
                    let available = (shard.tokens() - (position - first)).min(left as u64) as usize;
                    shard.ids_from(position - first, available).for_each(&mut take);
                    position += available as u64;
                    left -= available;
                    index += 1;
                }
            }
        }
    }
}
