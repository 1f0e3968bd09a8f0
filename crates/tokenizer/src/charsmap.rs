//! SentencePiece's table of characters: a trie of texts, and the replacement of each.
//!
//! It consists of the length of the trie in bytes as a four-byte number, the trie, and the replacements, each followed by a NUL.
//! The library follows the trie without bounds checks, so damage is detected here.

use std::collections::HashSet;

use crate::base64;

type Checked<T> = Result<T, String>;

/// The largest trie; those of SentencePiece's own tables have about 180 KB.
const MAX_TRIE_BYTES: usize = 8 << 20;

/// A table whose parts exist.
pub(crate) struct Table {
    /// The nodes of the trie: a byte in the lowest bits, a flag if a text ends here, and the offset of the next.
    units: Vec<u32>,
    replacements: String,
}

impl Table {
    pub(crate) fn parse(base64: &str) -> Checked<Self> {
        let table = base64::decode(base64).ok_or("not base64")?;
        let (length, rest) = table.split_first_chunk::<4>().ok_or("shorter than 4 bytes")?;
        let trie_bytes = u32::from_le_bytes(*length) as usize;
        // The library reads the trie as words of 4 bytes, and allocates any length that is claimed.
        let parts = rest.split_at_checked(trie_bytes / 4 * 4);
        let (trie, replacements) = parts
            .filter(|_| trie_bytes > 0 && trie_bytes <= rest.len())
            .ok_or_else(|| format!("claims a trie of {trie_bytes} bytes, and {} follow", rest.len()))?;
        if trie_bytes > MAX_TRIE_BYTES {
            return Err(format!(
                "a trie of {trie_bytes} bytes, but at most {MAX_TRIE_BYTES} are accepted"
            ));
        }
        let replacements = std::str::from_utf8(replacements).map_err(|error| {
            let offset = error.valid_up_to();
            format!("its replacements are not UTF-8 from byte {offset} on: the table is damaged")
        })?;
        let words = trie.chunks_exact(4);
        let units = words.map(|word| word.iter().rev().fold(0, |unit, &byte| unit << 8 | u32::from(byte)));
        Ok(Self {
            units: units.collect(),
            replacements: replacements.to_owned(),
        })
    }

    /// The longest replacement, in bytes.
    pub(crate) fn longest_replacement(&self) -> usize {
        let texts = self.replacements.split('\0');
        texts.map(str::len).max().unwrap_or(0)
    }

    /// Follows every path through the trie.
    ///
    /// # Errors
    ///
    /// A sentence, when a text could lead out of the trie or to a missing replacement.
    pub(crate) fn check_paths(&self) -> Checked<()> {
        let unit = |at: usize| {
            let unit = self.units.get(at).copied();
            unit.ok_or_else(|| {
                format!(
                    "its trie leads to node {at}, and there are {}: the table is damaged",
                    self.units.len()
                )
            })
        };
        let first = offset(unit(0)?);
        let mut ways = vec![first];
        let mut seen = HashSet::from([first]);
        while let Some(way) = ways.pop() {
            for byte in bytes_of_texts() {
                let at = way ^ byte as usize;
                let node = unit(at)?;
                if node & LABEL != byte {
                    continue;
                }
                let next = at ^ offset(node);
                if node & LEAF != 0 {
                    let place = (unit(next)? & VALUE) as usize;
                    if !self.replacements.is_char_boundary(place) {
                        return Err(format!(
                            "its trie names a replacement at byte {place}, where none begins: the table is damaged"
                        ));
                    }
                }
                if seen.insert(next) {
                    ways.push(next);
                }
            }
        }
        Ok(())
    }
}

/// The byte of a node; nodes with a value have none.
const LABEL: u32 = 1 << 31 | 0xff;
const LEAF: u32 = 1 << 8;
const VALUE: u32 = (1 << 31) - 1;

/// The offset of the next nodes.
fn offset(unit: u32) -> usize {
    (unit as usize >> 10) << ((unit & 1 << 9) >> 6)
}

/// The bytes that occur in UTF-8, except NUL, at which the library stops.
fn bytes_of_texts() -> impl Iterator<Item = u32> {
    (1..=0xf4).filter(|byte| !matches!(byte, 0xc0 | 0xc1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_characters_has_the_trie_that_it_claims() {
        // A trie of 4 bytes, then `aa` and a NUL.
        let table = Table::parse("BAAAAAAAAABhYQA=").unwrap();
        assert_eq!(table.longest_replacement(), 2);
        let said = |text: &str| Table::parse(text).err().expect("this must be refused");
        // One of 0xF5F5F5F5 bytes.
        assert!(said("9fX19QAAAAA=").contains("4126537205"));
        for short in ["", "AAA=", "AAAAAA==", "BAAAAAAA"] {
            assert!(!said(short).is_empty(), "{short}");
        }
    }

    #[test]
    fn report_34_a_trie_that_leads_out_of_itself_is_damaged() {
        // One node, so that every byte leads outside.
        let table = Table::parse("BAAAAAAAAABhYQA=").unwrap();
        assert!(table.check_paths().unwrap_err().contains("there are 1"));
    }
}
