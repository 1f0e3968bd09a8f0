//! The fused products against the reference ones, and both against llama.cpp's numbers.

use super::cpu::{Instructions, product_with};
use super::*;

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

fn matrix(kind: WeightType, rows: usize, columns: usize, seed: u32) -> QuantizedMatrix {
    QuantizedMatrix::quantize(&drawn(rows * columns, seed), kind, [rows, columns]).expect("fits")
}

fn product_of(instructions: Instructions, x: &[f32], weight: &QuantizedMatrix, with: bool) -> Vec<f32> {
    let rows = x.len() / weight.columns;
    let bias = drawn(weight.rows, 5);
    let residual = drawn(rows * weight.rows, 6);
    let epilogue = Epilogue {
        bias: with.then_some(&*bias),
        residual: with.then_some(&*residual),
        columns: weight.rows,
    };
    let mut fused = vec![f32::NAN; rows * weight.rows];
    product_with(instructions, x, weight.matrix(), epilogue, &mut fused);
    let mut plain = vec![f32::NAN; rows * weight.rows];
    reference::product(x, weight.matrix(), epilogue, &mut plain);
    // Of what is not a number only that it is none is defined.
    let bits = |y: &[f32]| -> Vec<u32> {
        let numbers = y.iter().map(|y| if y.is_nan() { f32::NAN } else { *y });
        numbers.map(f32::to_bits).collect()
    };
    assert_eq!(bits(&fused), bits(&plain), "{instructions:?}, {weight:?}, {rows} rows");
    fused
}

#[test]
fn the_widest_instructions_of_the_cpu_are_chosen() {
    assert_eq!(Instructions::all().last(), Some(&Instructions::of_this_cpu()));
}

#[test]
fn fused_products_equal_the_reference_bit_for_bit_on_all_instructions() {
    for instructions in Instructions::all() {
        for kind in WeightType::ALL {
            let (block, _) = kind.block();
            for (rows, columns) in [
                (1, block),
                (3, 3 * block),
                (9, 2 * block),
                (64, block.max(96).next_multiple_of(block)),
            ] {
                let weight = matrix(kind, rows, columns, 7);
                for m in [1, 2, 5, 8, 9, 33] {
                    product_of(instructions, &drawn(m * columns, 11), &weight, m % 2 == 1);
                }
            }
            let weight = matrix(kind, 3, block, 7);
            for m in [1_037, 4_096] {
                product_of(instructions, &drawn(m * block, 11), &weight, true);
            }
        }
        // Widths that are no multiple of a vector.
        for kind in [WeightType::F32, WeightType::F16, WeightType::Bf16] {
            for columns in [1, 3, 17, 40] {
                product_of(
                    instructions,
                    &drawn(5 * columns, 11),
                    &matrix(kind, 6, columns, 7),
                    true,
                );
            }
        }
    }
}

/// Where the halves of a block are: scales, and minima where the type has them.
fn halves_of(kind: WeightType) -> &'static [usize] {
    match kind {
        WeightType::Q4K | WeightType::Q5K => &[0, 2],
        WeightType::Q6K => &[208],
        _ => &[0],
    }
}

/// Files may hold integers that rounding never gives, such as -128.
#[test]
fn all_integers_that_a_block_can_hold_are_multiplied_exactly() {
    for kind in WeightType::ALL.into_iter().filter(|kind| kind.is_integer()) {
        let (values, block) = kind.block();
        let columns = 2 * values.max(96).next_multiple_of(values);
        for (rows, fill) in [(19, None), (9, Some(0x00)), (9, Some(0x80)), (9, Some(0xff))] {
            let of_drawn = |x: f32| (x * 1e6) as i32 as u8;
            let mut bytes: Vec<u8> = drawn(rows * columns / values * block, 9)
                .into_iter()
                .map(|x| fill.unwrap_or_else(|| of_drawn(x)))
                .collect();
            for block in bytes.chunks_exact_mut(block) {
                for at in halves_of(kind) {
                    block[*at..at + 2].copy_from_slice(&half::f16::from_f32(0.01).to_le_bytes());
                }
            }
            let weight = QuantizedMatrix::from_bytes(Arc::new(bytes), kind, [rows, columns]).expect("fits");
            for instructions in Instructions::all() {
                for activation in [1.0, -1.0] {
                    // The largest activations, of one sign.
                    product_of(instructions, &vec![activation; 3 * columns], &weight, false);
                }
                product_of(instructions, &drawn(5 * columns, 12), &weight, false);
            }
        }
    }
}

#[test]
fn a_row_of_a_batch_equals_the_row_alone() {
    for kind in WeightType::ALL {
        let weight = matrix(kind, 301, 512, 3);
        let x = drawn(200 * 512, 4);
        let alone: Vec<f32> = x
            .chunks_exact(512)
            .flat_map(|x| product_of(Instructions::of_this_cpu(), x, &weight, false))
            .collect();
        for rows in [2, 4, 5, 8, 9, 33, 200] {
            let batch = product_of(Instructions::of_this_cpu(), &x[..rows * 512], &weight, false);
            assert_eq!(batch, alone[..rows * 301], "{kind}, {rows} rows");
        }
    }
}

#[test]
fn products_are_those_of_the_dequantized_weights() {
    for kind in WeightType::ALL {
        let weight = matrix(kind, 40, 512, 3);
        let x = drawn(3 * 512, 4);
        let product = product_of(Instructions::of_this_cpu(), &x, &weight, false);
        let values = weight.dequantize();
        let exact = |row: usize, column: usize| -> f64 {
            let terms = x[row * 512..][..512].iter().zip(&values[column * 512..]);
            terms.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum()
        };
        let all: Vec<f64> = (0..product.len()).map(|i| exact(i / 40, i % 40)).collect();
        let largest = all.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let difference = all
            .iter()
            .zip(&product)
            .map(|(a, b)| (a - f64::from(*b)).abs())
            .fold(0.0, f64::max);
        // Activations in eight bits cost up to a 254th of a block's largest, and errors average out.
        let tolerance = if kind.is_integer() { 1e-2 } else { 1e-6 };
        assert!(difference <= tolerance * largest, "{kind}: {difference} of {largest}");
    }
}

#[test]
fn blocks_are_llama_cpps() {
    // quantize_row_q8_0 and quantize_row_q4_0 of ggml for the values -16, -15, .., 15.
    let values: Vec<f32> = (-16..16).map(|x| x as f32).collect();
    let q8 = WeightType::Q8_0.encode(&values).expect("fits");
    assert_eq!(q8[..2], half::f16::from_f32(16.0 / 127.0).to_le_bytes());
    assert_eq!(
        q8[2..6].iter().map(|b| *b as i8).collect::<Vec<_>>(),
        [-127, -119, -111, -103]
    );
    let q4 = WeightType::Q4_0.encode(&values).expect("fits");
    assert_eq!(q4[..2], half::f16::from_f32(2.0).to_le_bytes());
    // The lower nibble is of the first half of the block: (-16 / 2 + 8.5) = 0 and (0 / 2 + 8.5) = 8.
    assert_eq!(q4[2], 0x80);
    assert_eq!(q4[17], 0x0f & ((-1.0_f32 / 2.0 + 8.5) as u8) | 15 << 4);
    let mut back = vec![0.0; 32];
    WeightType::Q4_0.decode(&q4, &mut back);
    assert!(
        back.iter().zip(&values).all(|(a, b)| (a - b).abs() <= 1.0 + 1.0),
        "{back:?}"
    );
}

#[test]
fn a_value_that_is_not_finite_is_seen_in_its_row_only() {
    for instructions in Instructions::all() {
        for kind in WeightType::ALL {
            let columns = 2 * kind.block().0.max(32);
            let weight = matrix(kind, 8, columns, 1);
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = drawn(2 * columns, 2);
                x[3] = value;
                let y = product_of(instructions, &x, &weight, false);
                let (first, second) = y.split_at(8);
                assert!(
                    first.iter().all(|y| !y.is_finite()) && second.iter().all(|y| y.is_finite()),
                    "{instructions:?}, {kind}, {value}: {y:?}"
                );
            }
        }
    }
}

/// Of a block whose largest value is so small, the inverse scale is beyond all floats.
#[test]
fn tiny_activations_are_zero_in_eight_bits() {
    let weight = matrix(WeightType::Q8_0, 8, 64, 1);
    for tiny in [1e-37, 2e-38, f32::MIN_POSITIVE / 4.0] {
        let y = product_of(Instructions::of_this_cpu(), &[tiny; 64], &weight, false);
        assert!(y.iter().all(|y| *y == 0.0), "{tiny}: {y:?}");
    }
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let message = |result: Result<QuantizedMatrix, KernelError>| result.expect_err("refused").to_string();
    let narrow = message(QuantizedMatrix::quantize(&[1.0; 40], WeightType::Q8_0, [1, 40]));
    assert!(narrow.contains("a width of 40 is not divisible by 32"), "{narrow}");
    let large = message(QuantizedMatrix::quantize(&[1e30; 32], WeightType::Q4_0, [1, 32]));
    assert!(large.contains("too large for Q4_0"), "{large}");
    let nan = message(QuantizedMatrix::quantize(&[f32::NAN; 32], WeightType::Q8_0, [1, 32]));
    assert!(nan.contains("not a number"), "{nan}");
    let short = message(QuantizedMatrix::from_bytes(
        Arc::new(vec![0; 33]),
        WeightType::Q8_0,
        [1, 32],
    ));
    assert!(short.contains("does not have 33 bytes"), "{short}");
}

#[test]
fn values_of_blocks_are_those_that_the_package_gguf_reads() {
    let mut seen = Vec::new();
    for line in include_str!("../../tests/golden/blocks.txt").lines() {
        let mut words = line.split(' ');
        let (name, hex) = (words.next().expect("a name"), words.next().expect("bytes"));
        let byte = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).expect("two digits");
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let expected: Vec<f32> = words.map(|word| word.parse().expect("a number")).collect();
        let kind = WeightType::ALL.into_iter().find(|kind| kind.to_string() == name);
        let kind = kind.expect("a type of ours");
        let mut values = vec![0.0; expected.len()];
        kind.decode(&bytes, &mut values);
        for (i, (value, expected)) in values.iter().zip(&expected).enumerate() {
            // The minimum is subtracted from a rounded product there too.
            assert!(
                (value - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                "{name}, {i}: {value} and {expected}"
            );
        }
        seen.push(kind);
    }
    assert_eq!(
        seen,
        [
            WeightType::Q8_0,
            WeightType::Q4_0,
            WeightType::Q4K,
            WeightType::Q5K,
            WeightType::Q6K
        ]
    );
}

/// FNV-1a of 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The checksums are those of the bytes that `quantize_row_*_ref` of llama.cpp (llama-cpp-python 0.3.36, compiled without fused
/// multiply-add, as `ggml-base` is) makes of the same numbers.
#[test]
fn rounded_blocks_have_the_bytes_of_llama_cpp() {
    let mut values = drawn(256 * 40, 17);
    values[256..512].iter_mut().for_each(|x| *x *= 1e-3);
    values[512..768].iter_mut().for_each(|x| *x = x.abs());
    values[768..1024].fill(0.0);
    values[1024] = 30.0;
    values[1280..1536].iter_mut().for_each(|x| *x *= 1e-8);
    values[1536..1568].fill(0.25);
    values[1792..2048].iter_mut().for_each(|x| *x = -x.abs());
    for (kind, expected) in [
        (WeightType::Q8_0, 0x07c3_2dfb_eeef_10fc),
        (WeightType::Q4_0, 0x59e8_4456_87d5_b616),
        (WeightType::Q4K, 0x6c58_24b2_3e25_6ef3),
        (WeightType::Q5K, 0x2da7_39f1_b11f_91c8),
        (WeightType::Q6K, 0x883d_333a_6de7_3251),
    ] {
        let bytes = kind.encode(&values).expect("fits");
        assert_eq!(checksum(&bytes), expected, "{kind}: {:02x?}", &bytes[..16]);
    }
    let bytes = encode_q5_0(&values).expect("fits");
    assert_eq!(checksum(&bytes), 0x0bcd_1607_f191_d88c, "Q5_0: {:02x?}", &bytes[..16]);
    // The same values in blocks that are multiplied.
    let stored = q8_0_of_q5_0(&bytes);
    let mut decoded = vec![0.0; values.len()];
    WeightType::Q8_0.decode(&stored, &mut decoded);
    let (blocks, _) = bytes.as_chunks::<22>();
    for (block, decoded) in blocks.iter().zip(decoded.chunks_exact(32)) {
        let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
        for (i, value) in decoded.iter().enumerate() {
            let fifth = block[2 + i / 8] >> (i % 8) & 1;
            let integer = (block[6 + i % 16] >> (i / 16 * 4) & 0x0f | fifth << 4) as i8 - 16;
            assert_eq!(*value, f32::from(integer) * scale);
        }
    }
}

#[test]
fn k_types_lose_less_than_types_of_as_many_bits() {
    let values: Vec<f32> = drawn(256 * 64, 3).iter().map(|x| x * x * x).collect();
    let error = |kind: WeightType| {
        let mut decoded = vec![0.0; values.len()];
        kind.decode(&kind.encode(&values).expect("fits"), &mut decoded);
        let squares = values.iter().zip(&decoded).map(|(a, b)| f64::from(a - b).powi(2));
        squares.sum::<f64>()
    };
    let [q4_0, q4_k, q5_k, q6_k, q8_0] = [
        WeightType::Q4_0,
        WeightType::Q4K,
        WeightType::Q5K,
        WeightType::Q6K,
        WeightType::Q8_0,
    ]
    .map(error);
    assert!(
        q8_0 < q6_k && q6_k < q5_k && q5_k < q4_k && q4_k < q4_0,
        "{q8_0} {q6_k} {q5_k} {q4_k} {q4_0}"
    );
    assert!(WeightType::Q6K.encode(&[1e30; 256]).is_none());
    assert!(WeightType::Q4K.encode(&[f32::NAN; 256]).is_none());
}
