//! Adapters of a linear layer that is two of ours, such as ModernBERT's `Wi`: its gate and what it multiplies.
//!
//! In PEFT such a layer has one A, and ours have one each. Where they are equal, as in an adapter that PEFT trained, they are written as one.
//! Otherwise the layer has twice the rank, by `rank_pattern` and `alpha_pattern`: A has ours below each other, and B has each half's columns
//! in its own rows and zeros elsewhere.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::lora::Lora;
use super::peft::Reader;
use super::shown;
use crate::ModelError;

/// The last part of the name of such a layer.
const FUSED: &str = "Wi";

/// A `[rank, d_input]` and B `[d_output, rank]` of one half.
pub(super) struct Half {
    pub(super) index: usize,
    pub(super) a: Vec<f32>,
    pub(super) b: Vec<f32>,
}

/// The rank, A `[rank, d_input]` and B `[2 * d_output, rank]` of a whole layer.
pub(super) struct Whole {
    pub(super) rank: usize,
    pub(super) a: Vec<f32>,
    pub(super) b: Vec<f32>,
}

/// The halves of a layer as PEFT has them; a half that is missing changes nothing.
pub(super) fn joined(mut halves: Vec<Half>, rank: usize) -> Whole {
    halves.sort_by_key(|half| half.index);
    let is_shared = halves.windows(2).all(|pair| pair[0].a == pair[1].a);
    let (ranks, a) = match is_shared {
        true => (rank, halves.first().map_or(Vec::new(), |half| half.a.clone())),
        false => (
            2 * rank,
            halves.iter().flat_map(|half| half.a.iter().copied()).collect(),
        ),
    };
    let rows = halves.first().map_or(0, |half| half.b.len() / rank);
    let mut b = vec![0.0; 2 * rows * ranks];
    for half in &halves {
        let first = if is_shared { 0 } else { half.index * rank };
        let own = b.chunks_exact_mut(ranks).skip(half.index * rows);
        for (to, from) in own.zip(half.b.chunks_exact(rank)) {
            to[first..first + rank].copy_from_slice(from);
        }
    }
    Whole { rank: ranks, a, b }
}

/// `rank_pattern` and `alpha_pattern` for layers of twice the rank, by their names within a block.
pub(super) fn patterns(lora: &Lora, doubled: &BTreeSet<String>) -> [Map<String, Value>; 2] {
    let of = |value: Value| doubled.iter().map(|name| (name.clone(), value.clone())).collect();
    [of((2 * lora.rank).into()), of(doubled_alpha(lora).into())]
}

/// The alpha with which twice the rank has the scale of the rank.
fn doubled_alpha(lora: &Lora) -> f64 {
    let ranks = 2.0 * lora.rank as f64;
    match lora.is_rslora {
        true => lora.scale() * ranks.sqrt(),
        false => lora.scale() * ranks,
    }
}

/// Whether the patterns of a file are those of [`patterns`], or there are none.
pub(super) fn are_patterns(lora: &Lora, [ranks, alphas]: [&Value; 2]) -> bool {
    let none = Map::new();
    let object = |value: &Value| match value {
        Value::Null => Some(none.clone()),
        Value::Array(items) if items.is_empty() => Some(none.clone()),
        Value::Object(items) => Some(items.clone()),
        _ => None,
    };
    let (Some(ranks), Some(alphas)) = (object(ranks), object(alphas)) else {
        return false;
    };
    let alpha = doubled_alpha(lora);
    let is_alpha = |value: &Value| {
        value
            .as_f64()
            .is_some_and(|found| (found - alpha).abs() <= 1e-9 * alpha.abs())
    };
    ranks.len() == alphas.len()
        && ranks.iter().all(|(name, rank)| {
            let is_fused = name.rsplit('.').next() == Some(FUSED);
            is_fused && rank.as_u64() == Some(2 * lora.rank as u64) && alphas.get(name).is_some_and(is_alpha)
        })
}

impl Reader<'_> {
    /// A and B of one half, from tensors of these names.
    pub(super) fn half(
        &self,
        index: usize,
        [a, b]: &[String; 2],
        [d_input, d_output]: [usize; 2],
    ) -> Result<[Vec<f32>; 2], ModelError> {
        let rank = self.lora.rank;
        let ranks = match self.tensors.tensor(a) {
            Ok(view) if view.shape().first() == Some(&(2 * rank)) => 2 * rank,
            _ => rank,
        };
        let whole_a = self.matrix(a, [ranks, d_input])?;
        let whole_b = self.matrix(b, [2 * d_output, ranks])?;
        let rows = &whole_b[index * d_output * ranks..][..d_output * ranks];
        if ranks == rank {
            return Ok([whole_a, rows.to_vec()]);
        }
        let own = index * rank..(index + 1) * rank;
        let is_apart = |row: &[f32]| {
            row.iter()
                .enumerate()
                .all(|(column, value)| own.contains(&column) || *value == 0.0)
        };
        if !rows.chunks_exact(ranks).all(is_apart) {
            let detail = format!(
                "tensor `{}` mixes the two matrices of its layer, which have a rank of {rank} each; merge it with PEFT's merge_and_unload",
                shown(b)
            );
            return Err(ModelError::file(self.path, detail));
        }
        let of_b = rows
            .chunks_exact(ranks)
            .flat_map(|row| row[own.clone()].iter().copied());
        let of_a = &whole_a[own.start * d_input..own.end * d_input];
        Ok([of_a.to_vec(), of_b.collect()])
    }
}
