//! What the sets of instructions share: the types as constants of their functions, and the scales of a block.

use super::COLUMNS;
use crate::quantized::blocks::WeightType;

/// Columns of a panel of the narrower sets, half of those that a line has room for.
pub(super) const HALF: usize = COLUMNS / 2;

/// The types as constants of functions.
pub(super) const Q8_0: u8 = 0;
pub(super) const Q4_0: u8 = 1;
pub(super) const Q4K: u8 = 2;
pub(super) const Q5K: u8 = 3;
pub(super) const Q6K: u8 = 4;

pub(super) const fn kind(kind: u8) -> WeightType {
    match kind {
        Q8_0 => WeightType::Q8_0,
        Q4_0 => WeightType::Q4_0,
        Q4K => WeightType::Q4K,
        Q5K => WeightType::Q5K,
        _ => WeightType::Q6K,
    }
}

/// Whether blocks of a type have a minimum that is subtracted.
pub(super) const fn has_minimum(kind: u8) -> bool {
    matches!(kind, Q4K | Q5K)
}

/// Calls a function for a type as a constant, and for another constant where one is given.
macro_rules! for_kind {
    ($function:ident $(::$constant:ident)?, $kind:expr, $arguments:tt) => {
        match $kind {
            WeightType::Q8_0 => $function::<{ Q8_0 } $(, $constant)?> $arguments,
            WeightType::Q4_0 => $function::<{ Q4_0 } $(, $constant)?> $arguments,
            WeightType::Q4K => $function::<{ Q4K } $(, $constant)?> $arguments,
            WeightType::Q5K => $function::<{ Q5K } $(, $constant)?> $arguments,
            WeightType::Q6K => $function::<{ Q6K } $(, $constant)?> $arguments,
            other => unreachable!("{other} has no integers"),
        }
    };
}

/// Defines `scales` by the function `half` of the module, with its instructions. A macro, because a function that another one is
/// given is not compiled into it with its instructions.
macro_rules! scales {
    ($instructions:tt) => {
        /// The scales and minima of one block of one column, for all its parts.
        ///
        /// # Safety
        ///
        /// `block` is a whole block of the type, and `out` has the lines of its parts.
        #[inline]
        #[target_feature(enable = $instructions)]
        pub(super) unsafe fn scales<const KIND: u8>(block: *const u8, out: *mut Line, column: usize) {
            // SAFETY: the caller's promise; the offsets are those of the layouts.
            unsafe {
                match KIND {
                    Q8_0 | Q4_0 => (*out.add(SCALE)).0[column] = half(block).to_bits(),
                    Q4K | Q5K => {
                        let (scale, least) = (half(block), half(block.add(2)));
                        let packed = std::slice::from_raw_parts(block.add(4), 12);
                        for index in 0..8 {
                            let (part_scale, part_least) = q4k_scales(packed, index);
                            let out = out.add(index * STRIDE);
                            (*out.add(SCALE)).0[column] = (scale * f32::from(part_scale)).to_bits();
                            (*out.add(MINIMUM)).0[column] = (least * f32::from(part_least)).to_bits();
                        }
                    }
                    _ => {
                        let scale = half(block.add(208));
                        for index in 0..8 {
                            let parts = block.add(192 + index / 4 * 8 + index % 4 * 2).cast::<i8>();
                            let out = out.add(index * STRIDE);
                            (*out.add(SCALE)).0[column] = (scale * f32::from(*parts)).to_bits();
                            (*out.add(SECOND_SCALE)).0[column] = (scale * f32::from(*parts.add(1))).to_bits();
                        }
                    }
                }
            }
        }
    };
}

pub(super) use {for_kind, scales};
