use taal_metrics::flops::{Shape, Training, count, exact_utilization, palm_per_token, utilization};

/// GPT-2 124M without biases, whose 124,337,664 parameters include 786,432 of learned positions.
const GPT2: Shape = Shape {
    n_layers: 12,
    n_heads: 12,
    n_kv_heads: 12,
    head_dim: 64,
    d_model: 768,
    d_ff: 3072,
    vocab_size: 50_257,
    seq_len: 1024,
    is_gated: false,
    is_recurrent: false,
    n_encoder_layers: 0,
    n_params: 124_337_664 - 786_432,
};

/// Small enough to count by hand: two query heads share one key and value head, and the feed-forward layer is gated.
const GROUPED_AND_GATED: Shape = Shape {
    n_layers: 2,
    n_heads: 2,
    n_kv_heads: 1,
    head_dim: 3,
    d_model: 5,
    d_ff: 7,
    vocab_size: 11,
    seq_len: 4,
    is_gated: true,
    is_recurrent: false,
    n_encoder_layers: 0,
    n_params: 100,
};

#[test]
fn gpt2_counts_as_in_nanogpts_sizing_notebook() {
    let counts = count(&GPT2);
    assert_eq!(counts.qkv, 3_623_878_656);
    assert_eq!(counts.scores, 1_610_612_736);
    assert_eq!(counts.reduce, 1_610_612_736);
    assert_eq!(counts.projection, 1_207_959_552);
    assert_eq!(counts.feed_forward_in, 4_831_838_208);
    assert_eq!(counts.feed_forward_out, 4_831_838_208);
    assert_eq!(counts.block, 17_716_740_096);
    assert_eq!(counts.transformer, 212_600_881_152);
    assert_eq!(counts.head, 79_047_426_048);
    assert_eq!(counts.forward, 291_648_307_200);
    assert_eq!(counts.forward_backward, 874_944_921_600);
}

#[test]
fn palms_formula_agrees_with_the_exact_count_to_a_ten_thousandth() {
    let per_sequence = palm_per_token(&GPT2) * GPT2.seq_len;
    assert_eq!(per_sequence, 875_062_886_400);
    let ratio = per_sequence as f64 / count(&GPT2).forward_backward as f64;
    assert_eq!(format!("{ratio:.4}"), "1.0001");
}

#[test]
fn gpt2_on_an_a100_reaches_the_utilisation_that_nanogpt_reports() {
    // 100 sequences of 1024 tokens in 0.755 s; 312 TFLOP/s in bf16.
    let tokens_per_s = 100.0 * 1024.0 / 0.755;
    let exact = exact_utilization(tokens_per_s, &GPT2, 312e12);
    assert_eq!(format!("{:.2}", exact * 100.0), "37.14");
    let palm = utilization(tokens_per_s, &GPT2, 312e12);
    assert_eq!(format!("{:.2}", palm * 100.0), "37.15");
}

#[test]
fn grouped_queries_and_gates_count_as_by_hand() {
    let counts = count(&GROUPED_AND_GATED);
    // 4 tokens, from width 5 to 2 query heads, 1 key head and 1 value head of width 3: 2 * 4 * 5 * 12.
    assert_eq!(counts.qkv, 480);
    // Each of the 2 query heads has its own scores: 2 * 2 * 4 * 4 * 3.
    assert_eq!(counts.scores, 192);
    assert_eq!(counts.reduce, 192);
    // From 2 * 3 back to 5: 2 * 4 * 6 * 5.
    assert_eq!(counts.projection, 240);
    assert_eq!(counts.attention, 480 + 192 + 192 + 240);
    // Two matrices from 5 to 7, one from 7 to 5, each 2 * 4 * 5 * 7 = 280.
    assert_eq!(counts.feed_forward_in, 560);
    assert_eq!(counts.feed_forward_out, 280);
    assert_eq!(counts.feed_forward, 840);
    assert_eq!(counts.block, 1944);
    assert_eq!(counts.transformer, 3888);
    // 2 * 4 * 5 * 11.
    assert_eq!(counts.head, 440);
    assert_eq!(counts.forward, 4328);
    assert_eq!(counts.forward_backward, 12_984);
    // 6 * 100 + 12 * 2 layers * 2 heads * 3 wide * 4 tokens.
    assert_eq!(palm_per_token(&GROUPED_AND_GATED), 1176);
}

#[test]
fn without_gate_and_groups_the_same_shape_costs_less_and_more() {
    let plain = Shape {
        is_gated: false,
        is_recurrent: false,
        n_kv_heads: 2,
        ..GROUPED_AND_GATED
    };
    let counts = count(&plain);
    // 2 * 4 * 5 * 18 and one matrix in.
    assert_eq!((counts.qkv, counts.feed_forward_in), (720, 280));
}

#[test]
fn a_recurrent_layer_is_its_gates_and_nothing_else() {
    let counts = count(&Shape {
        is_recurrent: true,
        n_layers: 2,
        d_model: 5,
        seq_len: 4,
        vocab_size: 11,
        n_params: 100,
        ..GROUPED_AND_GATED
    });
    // Four gates, two products of 5 x 5 each, an addition to each multiplication, 4 tokens.
    assert_eq!(
        (counts.recurrent, counts.attention, counts.feed_forward),
        (4 * 2 * 25 * 2 * 4, 0, 0)
    );
    assert_eq!(counts.forward, 2 * 1600 + 2 * 4 * 5 * 11);
    let shape = Shape {
        is_recurrent: true,
        n_params: 100,
        ..GROUPED_AND_GATED
    };
    assert_eq!(palm_per_token(&shape), 600);
}

#[test]
fn an_encoder_adds_its_blocks_and_attention_to_the_source_in_each_block_of_the_decoder() {
    let shape = Shape {
        n_encoder_layers: 3,
        ..GROUPED_AND_GATED
    };
    let counts = count(&shape);
    // Four projections of 5 by 6, of 4 tokens each; scores and their sum as in self-attention.
    assert_eq!(counts.cross, 4 * 2 * 4 * 5 * 6 + 2 * 192);
    assert_eq!(counts.encoder, 3 * 1944);
    assert_eq!(counts.block, 1944 + 1344);
    assert_eq!(counts.transformer, 2 * 3288 + 5832);
    // Two blocks that attend twice, three that attend once.
    assert_eq!(palm_per_token(&shape), 600 + 12 * 7 * 2 * 3 * 4);
}

#[test]
fn a_frozen_weight_has_no_gradient_and_an_adapter_has() {
    assert_eq!(Training::whole(GROUPED_AND_GATED).flops_per_token(), 1176);
    let training = |n_frozen, n_low_rank| Training {
        shape: GROUPED_AND_GATED,
        n_frozen,
        n_low_rank,
    };
    // 4 instead of 6 per frozen parameter, 6 per number of an adapter.
    assert_eq!(training(40, 0).flops_per_token(), 1176 - 80);
    assert_eq!(training(100, 10).flops_per_token(), 1176 - 200 + 60);
    assert_eq!(training(u64::MAX, 0).flops_per_token(), 1176 - 200);
}

#[test]
fn absurd_shapes_saturate_instead_of_wrapping() {
    let absurd = Shape {
        d_model: u64::MAX,
        n_params: u64::MAX,
        ..GPT2
    };
    assert_eq!(count(&absurd).forward_backward, u64::MAX);
    assert_eq!(palm_per_token(&absurd), u64::MAX);
}
