//! The products of hidden states with the output matrix, and of the logits' gradient with both, in one of two precisions.

use half::bf16;

use super::cpu::OutputMatrix;
use crate::cpu::matmul::bf16::{self as in_bf16, Matrix, round_in_place, rounded};
use crate::cpu::matmul::{Operand, Sizes, Target, Write, matmul};

/// Hidden states, `width` numbers each, and what they are multiplied in.
pub(super) enum Hidden<'a> {
    Single(&'a [f32]),
    Half(Vec<bf16>),
}

/// Some rows of hidden states.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) width: usize,
    pub(super) vocab: usize,
}

impl<'a> Hidden<'a> {
    /// Rounded where `is_half`.
    pub(super) fn new(hidden: &'a [f32], is_half: bool) -> Self {
        match is_half {
            true => Self::Half(rounded(hidden)),
            false => Self::Single(hidden),
        }
    }

    /// What the logits of a row must go through before [`gradients`](Self::gradients), when they have become slopes.
    pub(super) fn prepare(&self, slopes: &mut [f32]) {
        if let Self::Half(_) = self {
            round_in_place(slopes);
        }
    }

    /// `hidden W` of some rows.
    pub(super) fn logits(&self, rows: Rows, matrix: OutputMatrix<'_>, logits: &mut [f32]) {
        let Rows {
            first,
            count: m,
            width: k,
            vocab: n,
        } = rows;
        let sizes = Sizes { m, n, k };
        let target = Target::row_major(logits, m, n);
        // SAFETY: all operands are made from slices of these sizes.
        unsafe {
            match self {
                Self::Single(hidden) => {
                    let input = Operand::row_major(&hidden[first * k..], m, k);
                    matmul(sizes, input, matrix.operand(k, n), target, Write::Replace);
                }
                Self::Half(hidden) => {
                    let input = Matrix::half(&hidden[first * k..], m, k);
                    in_bf16::matmul(sizes, input, matrix.matrix(k, n), target, Write::Replace);
                }
            }
        }
    }

    /// From the prepared slopes of the logits of some rows: those of the hidden states, and, where asked for, of the matrix, which `write`
    /// says whether to add.
    pub(super) fn gradients(
        &self,
        rows: Rows,
        matrix: OutputMatrix<'_>,
        slopes: &[f32],
        dhidden: &mut [f32],
        dweights: Option<&mut [f32]>,
        write: Write,
    ) {
        let Rows {
            first,
            count,
            width,
            vocab,
        } = rows;
        assert!(slopes.len() >= count * vocab, "slopes are shorter than their rows");
        let of_hidden = Sizes {
            m: count,
            n: width,
            k: vocab,
        };
        let of_weights = match matrix.is_transposed {
            true => Sizes {
                m: vocab,
                n: width,
                k: count,
            },
            false => Sizes {
                m: width,
                n: vocab,
                k: count,
            },
        };
        let hidden_target = Target::row_major(&mut dhidden[first * width..], count, width);
        let weight_target = dweights.map(|dweights| Target::row_major(dweights, of_weights.m, of_weights.n));
        // SAFETY: all operands are made from slices of these sizes; rounded slopes take the first half of each row.
        unsafe {
            match self {
                Self::Single(hidden) => {
                    let slopes = Operand::row_major(slopes, count, vocab);
                    let input = Operand::row_major(&hidden[first * width..], count, width);
                    let weights = matrix.operand(width, vocab).transposed();
                    matmul(of_hidden, slopes, weights, hidden_target, Write::Replace);
                    let (a, b) = match matrix.is_transposed {
                        true => (slopes.transposed(), input),
                        false => (input.transposed(), slopes),
                    };
                    if let Some(weight_target) = weight_target {
                        matmul(of_weights, a, b, weight_target, write);
                    }
                }
                Self::Half(hidden) => {
                    let slopes = Matrix::half_strided(slopes.as_ptr().cast(), 2 * vocab);
                    let input = Matrix::half(&hidden[first * width..], count, width);
                    let weights = matrix.matrix(width, vocab).transposed();
                    in_bf16::matmul(of_hidden, slopes, weights, hidden_target, Write::Replace);
                    let (a, b) = match matrix.is_transposed {
                        true => (slopes.transposed(), input),
                        false => (input.transposed(), slopes),
                    };
                    if let Some(weight_target) = weight_target {
                        in_bf16::matmul(of_weights, a, b, weight_target, write);
                    }
                }
            }
        }
    }
}

impl OutputMatrix<'_> {
    /// `[width, vocab]` in single precision.
    fn operand(&self, width: usize, vocab: usize) -> Operand {
        match self.is_transposed {
            true => Operand::row_major(self.values, vocab, width).transposed(),
            false => Operand::row_major(self.values, width, vocab),
        }
    }

    /// The same, to be rounded.
    fn matrix(&self, width: usize, vocab: usize) -> Matrix {
        match self.is_transposed {
            true => Matrix::single(self.values, vocab, width).transposed(),
            false => Matrix::single(self.values, width, vocab),
        }
    }
}
