//! Whether the numbers of a quantized matrix are finite, found without decoding it: the integers of a block always are, so its scales decide.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{QuantizedMatrix, WeightType};
use crate::cpu::parallel;

/// Bytes that a thread looks through at a time, rounded down to whole blocks.
const TASK_BYTES: usize = 1 << 20;

/// The bits of a half's exponent; all of them are set in infinities and in what is not a number.
const HALF_EXPONENT: u16 = 0x7c00;

/// The same of bf16.
const BF16_EXPONENT: u16 = 0x7f80;

impl QuantizedMatrix {
    /// The index of the first block, in the order of the bytes, with a value that is not finite.
    pub fn first_not_finite(&self) -> Option<usize> {
        first_not_finite(self.kind, self.bytes())
    }
}

fn first_not_finite(kind: WeightType, bytes: &[u8]) -> Option<usize> {
    let (_, block) = kind.block();
    let blocks = (TASK_BYTES / block).max(1);
    let first = AtomicUsize::new(usize::MAX);
    parallel::for_each(bytes.len().div_ceil(blocks * block), |task| {
        let from = task * blocks * block;
        let part = &bytes[from..(from + blocks * block).min(bytes.len())];
        // Without an early exit, so that the loop is vectorized; what is found is looked for again.
        if !is_finite(kind, part) {
            let found = part.chunks_exact(block).position(|block| !is_finite(kind, block));
            first.fetch_min(task * blocks + found.unwrap_or(0), Ordering::Relaxed);
        }
    });
    Some(first.into_inner()).filter(|first| *first != usize::MAX)
}

/// Whether all values of whole blocks are finite.
fn is_finite(kind: WeightType, bytes: &[u8]) -> bool {
    match kind {
        WeightType::F32 => all::<4>(bytes, |bytes| f32::from_le_bytes(*bytes).is_finite()),
        WeightType::F16 => all::<2>(bytes, |bytes| has_finite_half(*bytes)),
        WeightType::Bf16 => all::<2>(bytes, |bytes| {
            u16::from_le_bytes(*bytes) & BF16_EXPONENT != BF16_EXPONENT
        }),
        WeightType::Q8_0 => all::<34>(bytes, |block| has_finite_half([block[0], block[1]])),
        WeightType::Q4_0 => all::<18>(bytes, |block| has_finite_half([block[0], block[1]])),
        WeightType::Q4K => all::<144>(bytes, |block| has_finite_halves(block)),
        WeightType::Q5K => all::<176>(bytes, |block| has_finite_halves(block)),
        WeightType::Q6K => all::<210>(bytes, |block| has_finite_half([block[208], block[209]])),
    }
}

fn all<const N: usize>(bytes: &[u8], is_finite: impl Fn(&[u8; N]) -> bool) -> bool {
    let (blocks, _) = bytes.as_chunks::<N>();
    blocks.iter().fold(true, |all, block| all & is_finite(block))
}

fn has_finite_half(bytes: [u8; 2]) -> bool {
    u16::from_le_bytes(bytes) & HALF_EXPONENT != HALF_EXPONENT
}

/// A scale and a minimum.
fn has_finite_halves(block: &[u8]) -> bool {
    has_finite_half([block[0], block[1]]) & has_finite_half([block[2], block[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_finite_is_found_in_every_type() {
        for kind in WeightType::ALL {
            let (values, block) = kind.block();
            let blocks = 3 * TASK_BYTES / block / 2;
            for at in [0, 1, blocks - 1] {
                let mut bytes = vec![0; blocks * block];
                assert_eq!(first_not_finite(kind, &bytes), None, "{kind}");
                // The last byte of each half is set, so that whichever is a scale is not a number.
                let damaged = &mut bytes[at * block..][..block];
                damaged.iter_mut().for_each(|byte| *byte = 0xff);
                let mut decoded = vec![0.0; values];
                kind.decode(damaged, &mut decoded);
                assert!(decoded.iter().any(|value| !value.is_finite()), "{kind}");
                assert_eq!(first_not_finite(kind, &bytes), Some(at), "{kind}");
            }
        }
    }

    #[test]
    fn largest_scales_are_finite() {
        for (kind, at) in [
            (WeightType::Q8_0, vec![0]),
            (WeightType::Q4_0, vec![0]),
            (WeightType::Q4K, vec![0, 2]),
            (WeightType::Q5K, vec![0, 2]),
            (WeightType::Q6K, vec![208]),
        ] {
            let (values, block) = kind.block();
            let mut bytes = vec![0xff; block];
            for at in at {
                bytes[at..at + 2].copy_from_slice(&0x7bff_u16.to_le_bytes());
            }
            assert_eq!(first_not_finite(kind, &bytes), None, "{kind}");
            let mut decoded = vec![0.0; values];
            kind.decode(&bytes, &mut decoded);
            assert!(decoded.iter().all(|value| value.is_finite()), "{kind}");
        }
    }
}
