//! Some columns of a matrix, unpacked once for all rows that they are multiplied with.

/// A vector's worth of numbers, one or four per column.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; super::COLUMNS]);

/// Lines per block of 32: eight of four neighboring integers per column, then its numbers below.
pub(super) const STRIDE: usize = 11;

/// The scales of a block.
pub(super) const SCALE: usize = 8;

/// The scales of its last 16 integers, in types where they have their own.
pub(super) const SECOND_SCALE: usize = 9;

/// Its minima, in types that have them.
pub(super) const MINIMUM: usize = 10;
