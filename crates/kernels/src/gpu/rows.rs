//! What kernels that give each row to a cube have in common: how they are launched, and sums and maxima over a cube.
//!
//! Sums go through shared memory in a fixed order, so that two runs give equal bits, and need no subgroups, which some
//! adapters lack.

use burn_cubecl::tensor::CubeTensor;
use cubecl::CubeDim;
use cubecl::prelude::*;
use cubecl::server::CubeCountSelection;

/// The most threads that work on one row.
const MAX_UNITS: u32 = 256;

/// How a kernel with one cube per row is launched.
pub(crate) struct Rows {
    /// At least one for each row; those after the last row do nothing.
    pub(crate) cubes: CubeCount,
    pub(crate) cube: CubeDim,
    /// Threads of a cube, a power of two.
    pub(crate) units: u32,
}

/// One cube for each of `rows` rows of `width` numbers, over several dimensions where one has not enough room.
pub(crate) fn rows(rows: usize, width: usize, like: &CubeTensor) -> Rows {
    let hardware = &like.client.properties().hardware;
    let most = MAX_UNITS.min(hardware.max_units_per_cube).min(hardware.max_cube_dim.0);
    // A thread with fewer than four numbers is not worth its part of the sum.
    let wanted = (width.div_ceil(4) as u32).next_power_of_two().clamp(16, MAX_UNITS);
    let units = wanted.min(1 << most.ilog2());
    Rows {
        cubes: CubeCountSelection::new(&like.client, rows as u32).cube_count(),
        cube: CubeDim::new_1d(units),
        units,
    }
}

/// The sum of one number of each thread, for all threads.
#[cube]
pub(crate) fn sum_of_cube(value: f32, shared: &mut Shared<[f32]>, #[comptime] units: u32) -> f32 {
    // Another thread may still be reading what was there.
    sync_cube();
    shared[UNIT_POS as usize] = value;
    sync_cube();
    #[unroll]
    for level in 0..comptime!(units.ilog2()) {
        let half = comptime!(units >> (level + 1));
        if UNIT_POS < half {
            shared[UNIT_POS as usize] += shared[(UNIT_POS + half) as usize];
        }
        sync_cube();
    }
    shared[0]
}

/// The largest of one number of each thread, for all threads.
#[cube]
pub(crate) fn max_of_cube(value: f32, shared: &mut Shared<[f32]>, #[comptime] units: u32) -> f32 {
    sync_cube();
    shared[UNIT_POS as usize] = value;
    sync_cube();
    #[unroll]
    for level in 0..comptime!(units.ilog2()) {
        let half = comptime!(units >> (level + 1));
        if UNIT_POS < half {
            let mine = shared[UNIT_POS as usize];
            let other = shared[(UNIT_POS + half) as usize];
            if other > mine {
                shared[UNIT_POS as usize] = other;
            }
        }
        sync_cube();
    }
    shared[0]
}
