//! The product on all instructions of this CPU against sums in double precision of the same rounded numbers.

use super::round::{round, round_all};
use super::*;

/// Sums of exact products in single precision, in any order, against double precision: over the sum of the terms' sizes.
const TOLERANCE: f64 = 2e-6;

/// Numbers that look drawn, between -1 and 1.
fn drawn(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// An operand of `rows x columns` as it may be in memory.
struct Given {
    single: Vec<f32>,
    half: Vec<bf16>,
    rows: usize,
    columns: usize,
}

impl Given {
    fn new(rows: usize, columns: usize, seed: u32) -> Self {
        let single = drawn(rows * columns, seed);
        let half = single.iter().map(|x| round(*x)).collect();
        Self {
            single,
            half,
            rows,
            columns,
        }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        f64::from(self.half[row * self.columns + column].to_f32())
    }

    /// The same matrix in memory that holds its transpose.
    fn transposed(&self) -> Self {
        let (rows, columns) = (self.columns, self.rows);
        let place = |i: usize| i % columns * self.columns + i / columns;
        Self {
            single: (0..rows * columns).map(|i| self.single[place(i)]).collect(),
            half: (0..rows * columns).map(|i| self.half[place(i)]).collect(),
            rows,
            columns,
        }
    }

    /// Rounded where `is_half`.
    fn matrix(&self, is_half: bool) -> Matrix {
        match is_half {
            true => Matrix::half(&self.half, self.rows, self.columns),
            false => Matrix::single(&self.single, self.rows, self.columns),
        }
    }
}

/// Which of the ways into a product is taken.
#[derive(Debug, Clone, Copy)]
struct Way {
    is_half: [bool; 2],
    is_transposed: [bool; 2],
    addend: usize,
}

fn ways() -> Vec<Way> {
    let bit = |i: usize, at: usize| i >> at & 1 == 1;
    (0..48)
        .map(|i| Way {
            is_half: [bit(i, 0), bit(i, 1)],
            is_transposed: [bit(i, 2), bit(i, 3)],
            addend: i / 16,
        })
        .collect()
}

fn product(instructions: Instructions, sizes: Sizes, a: &Given, b: &Given, way: Way) -> Vec<f32> {
    let Sizes { m, n, .. } = sizes;
    let mut c = drawn(m * n, 3);
    let bias = drawn(n, 4);
    let turned = [a.transposed(), b.transposed()];
    let matrix = |i: usize, given: &Given| match way.is_transposed[i] {
        true => turned[i].matrix(way.is_half[i]).transposed(),
        false => given.matrix(way.is_half[i]),
    };
    let write = match way.addend {
        0 => Write::Replace,
        1 => Write::Add,
        // SAFETY: a distance of 0 between rows stays within the bias.
        _ => Write::Onto(unsafe { Operand::strided(bias.as_ptr(), 0, 1) }),
    };
    let target = Target::row_major(&mut c, m, n);
    // SAFETY: all were made of these sizes.
    unsafe { matmul_with(instructions, sizes, matrix(0, a), matrix(1, b), target, write) };
    c
}

/// The result and the sum of the terms' sizes.
fn expected(sizes: Sizes, a: &Given, b: &Given, addend: usize) -> Vec<(f64, f64)> {
    let Sizes { m, n, k } = sizes;
    let added = match addend {
        0 => vec![0.0; m * n],
        1 => drawn(m * n, 3),
        _ => drawn(n, 4).repeat(m),
    };
    (0..m * n)
        .map(|i| {
            let (row, column) = (i / n, i % n);
            let added = f64::from(added[i]);
            (0..k).fold((added, added.abs()), |(sum, size), at| {
                let term = a.at(row, at) * b.at(at, column);
                (sum + term, size + term.abs())
            })
        })
        .collect()
}

const SIZES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [3, 5, 2],
    [16, 16, 32],
    [17, 33, 31],
    [32, 32, 64],
    [40, 65, 96],
    [33, 130, 257],
    [64, 96, 544],
    [70, 31, 1040],
];

#[test]
fn products_of_all_sizes_layouts_and_instructions_are_sums_of_rounded_numbers() {
    for [m, n, k] in SIZES {
        let sizes = Sizes { m, n, k };
        let (a, b) = (Given::new(m, k, 1), Given::new(k, n, 2));
        let expected: Vec<_> = (0..3).map(|addend| expected(sizes, &a, &b, addend)).collect();
        for instructions in Instructions::all() {
            for way in ways() {
                let found = product(instructions, sizes, &a, &b, way);
                for (i, (found, (sum, terms))) in found.iter().zip(&expected[way.addend]).enumerate() {
                    let error = (f64::from(*found) - sum).abs();
                    assert!(
                        error <= TOLERANCE * terms,
                        "{instructions:?}, {sizes:?}, {way:?}, number {i}: {found} is not {sum}"
                    );
                }
            }
        }
    }
}

/// So the plain loops are what to test against on machines without AMX.
#[cfg(target_arch = "x86_64")]
#[test]
fn amx_and_the_plain_loops_give_equal_bits() {
    if !Instructions::all().contains(&Instructions::Amx) {
        return;
    }
    for [m, n, k] in SIZES {
        let sizes = Sizes { m, n, k };
        let (a, b) = (Given::new(m, k, 1), Given::new(k, n, 2));
        for way in ways() {
            let bits = |instructions| product(instructions, sizes, &a, &b, way).into_iter().map(f32::to_bits);
            assert!(
                bits(Instructions::Amx).eq(bits(Instructions::Portable)),
                "{sizes:?}, {way:?}"
            );
        }
    }
}

#[test]
fn results_are_equal_bits_for_any_number_of_threads_and_rows() {
    for [m, n, k] in [[200, 40, 100], [40, 200, 100], [1100, 65, 40]] {
        let sizes = Sizes { m, n, k };
        let (a, b) = (Given::new(m, k, 1), Given::new(k, n, 2));
        for instructions in Instructions::all() {
            let way = Way {
                is_half: [true, false],
                is_transposed: [false, false],
                addend: 0,
            };
            let with = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .expect("a pool");
                pool.install(|| product(instructions, sizes, &a, &b, way))
            };
            let one = with(1);
            assert!(one == with(2) && one == with(4), "{instructions:?}, {sizes:?}");
            // A row alone, which is not a whole tile, equals the row in the batch.
            let row = Given {
                single: a.single[k..2 * k].to_vec(),
                half: a.half[k..2 * k].to_vec(),
                rows: 1,
                columns: k,
            };
            let alone = product(instructions, Sizes { m: 1, ..sizes }, &row, &b, way);
            assert!(alone == one[n..2 * n], "{instructions:?}, {sizes:?}");
        }
    }
}

#[test]
fn what_is_not_a_number_makes_its_own_row_or_column_so_and_no_other() {
    let sizes = Sizes { m: 35, n: 37, k: 39 };
    for instructions in Instructions::all() {
        for way in ways().into_iter().filter(|way| way.addend == 0) {
            let (mut a, mut b) = (Given::new(35, 39, 1), Given::new(39, 37, 2));
            for (given, at) in [(&mut a, 34 * 39 + 38), (&mut b, 38 * 37 + 36)] {
                given.single[at] = f32::NAN;
                given.half[at] = bf16::NAN;
            }
            let found = product(instructions, sizes, &a, &b, way);
            for (i, found) in found.iter().enumerate() {
                let expected = i / 37 == 34 || i % 37 == 36;
                assert_eq!(found.is_nan(), expected, "{instructions:?}, {way:?}, number {i}");
            }
        }
    }
}

#[test]
fn a_product_without_terms_is_what_is_added_to_it() {
    let sizes = Sizes { m: 3, n: 5, k: 0 };
    let (a, b) = (Given::new(3, 0, 1), Given::new(0, 5, 2));
    for instructions in Instructions::all() {
        for way in ways() {
            let expected = [vec![0.0; 15], drawn(15, 3), drawn(5, 4).repeat(3)];
            assert_eq!(
                product(instructions, sizes, &a, &b, way),
                expected[way.addend],
                "{way:?}"
            );
        }
    }
}

#[test]
fn all_instructions_round_alike_to_the_nearest_and_of_two_to_the_even() {
    let half = |x: f32, bits: u32| f32::from_bits(x.to_bits() + bits);
    let mut numbers = vec![
        (1.0, 1.0),
        (half(1.0, 0x7fff), 1.0),
        (half(1.0, 0x8000), 1.0),
        (half(1.0, 0x8001), 1.007_812_5),
        (half(1.007_812_5, 0x8000), 1.015_625),
        (-half(1.0, 0x8001), -1.007_812_5),
        (f32::MAX, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
        (1e-40, 0.0),
        (-1e-40, -0.0),
        (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
    ];
    // More than one vector, and a rest.
    numbers.extend(drawn(60, 9).into_iter().map(|x| (x, round(x).to_f32())));
    let x: Vec<f32> = numbers.iter().map(|(x, _)| *x).chain([f32::NAN]).collect();
    for instructions in Instructions::all() {
        let mut out = vec![bf16::ONE; x.len() + 1];
        // SAFETY: as many numbers are there.
        unsafe { round_all(instructions, x.as_ptr(), out.as_mut_ptr(), x.len()) };
        for (found, (x, expected)) in out.iter().zip(&numbers) {
            assert_eq!(found.to_f32().to_bits(), expected.to_bits(), "{instructions:?}, {x}");
        }
        assert!(
            out[numbers.len()].is_nan() && out[x.len()] == bf16::ONE,
            "{instructions:?}"
        );
    }
    let mut in_place = x.clone();
    round_in_place(&mut in_place);
    let expected: Vec<u16> = rounded(&x).into_iter().map(bf16::to_bits).collect();
    let found: Vec<u16> = in_place
        .iter()
        .flat_map(|x| [x.to_bits() as u16, (x.to_bits() >> 16) as u16])
        .take(x.len())
        .collect();
    assert_eq!(found, expected);
}
