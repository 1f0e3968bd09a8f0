//! Hooks, vectors instead of ids, and the table of parameters.

use taal_model::{Hook, Role, Site};

use super::super::*;
use super::pair_configs::many_pairs;
use crate::size;

fn run(model: &Transformer, ids: Tensor<2, Int>, hook: Option<Hook<'_>>) -> Tensor<3> {
    let options = ForwardOptions {
        hook,
        ..ForwardOptions::default()
    };
    model.forward_with(ids, options).unwrap().hidden
}

fn assert_same(name: &str, a: Tensor<3>, b: Tensor<3>) {
    assert_eq!(a.into_data(), b.into_data(), "{name}");
}

#[test]
fn a_hook_that_only_reads_sees_every_site_in_order_and_changes_no_bit() {
    for (name, config) in many_configs() {
        let model = random_weights(&config);
        let ids = || some_ids(2, 7, 50);
        let mut sites = Vec::new();
        let mut streams = Vec::new();
        let mut hook = |site, x: Tensor<3>| {
            sites.push(site);
            if let Site::BeforeBlock(_) = site {
                streams.push(x.clone());
            }
            x
        };
        let watched = run(&model, ids(), Some(&mut hook));
        assert_same(name, watched, run(&model, ids(), None));
        let has_heads = config.mixer == taal_model::Mixer::Attention;
        let expected: Vec<Site> = (0..config.n_layers)
            .flat_map(|layer| {
                let heads = has_heads.then_some(Site::Heads(layer));
                [Some(Site::BeforeBlock(layer)), heads, Some(Site::AfterBlock(layer))]
            })
            .flatten()
            .collect();
        assert_eq!(sites, expected, "{name}");
        let capture = Capture {
            hidden_states: true,
            ..Capture::default()
        };
        let options = ForwardOptions {
            capture,
            ..ForwardOptions::default()
        };
        let captured = model.forward_with(ids(), options).unwrap().hidden_states;
        for (seen, captured) in streams.into_iter().zip(captured) {
            assert_same(name, seen, captured);
        }
    }
}

/// The rest of the model computes from a replaced stream as if it had produced it.
#[test]
fn the_pass_continues_with_what_a_hook_returns() {
    for (name, config) in many_configs() {
        let model = random_weights(&config);
        let (ids, others) = (
            some_ids(2, 7, 50),
            some_ids(2, 7, 50).add_scalar(1).remainder_scalar(50),
        );
        // The stream of other ids, put in after the last layer, gives the hidden states of those ids.
        let last = config.n_layers - 1;
        let mut stream = None;
        let mut keep = |site, x: Tensor<3>| {
            if site == Site::AfterBlock(last) {
                stream = Some(x.clone());
            }
            x
        };
        let expected = run(&model, others, Some(&mut keep));
        let stream = stream.expect("the last layer was reached");
        let mut patch = |site, x: Tensor<3>| {
            if site == Site::AfterBlock(last) {
                stream.clone()
            } else {
                x
            }
        };
        assert_same(name, run(&model, ids.clone(), Some(&mut patch)), expected);
        let mut silence = |site, x: Tensor<3>| if site == Site::Heads(0) { x.zeros_like() } else { x };
        let silenced = run(&model, ids.clone(), Some(&mut silence));
        let is_same = silenced.into_data() == run(&model, ids, None).into_data();
        assert_eq!(is_same, config.mixer == taal_model::Mixer::Lstm, "{name}");
    }
}

#[test]
fn a_token_s_own_vectors_in_place_of_its_id_change_no_bit_and_have_gradients() {
    for (name, config) in many_configs() {
        let model = random_weights(&config);
        let vectors = model.embeddings.tokens.forward(some_ids(2, 7, 50));
        let hidden = model
            .forward_embedded(vectors, ForwardOptions::default())
            .unwrap()
            .hidden;
        assert_same(name, hidden, run(&model, some_ids(2, 7, 50), None));

        let model = config.init(3, &Device::flex().autodiff()).unwrap();
        let ids = Tensor::from_inner(some_ids(2, 7, 50));
        let vectors = model.embeddings.tokens.forward(ids).detach().require_grad();
        let hidden = model
            .forward_embedded(vectors.clone(), ForwardOptions::default())
            .unwrap()
            .hidden;
        let gradients = (hidden.clone() * hidden).sum().backward();
        let gradient = vectors.grad(&gradients).expect("vectors have a gradient");
        assert!(gradient.abs().max().into_scalar::<f32>() > 0.0, "{name}");
    }
    let model = TransformerConfig::llama(size(50, 8, 1, 2, 16))
        .init(1, &Device::flex())
        .unwrap();
    let narrow = Tensor::zeros([1, 2, 15], &Device::flex());
    let error = model
        .forward_embedded(narrow, ForwardOptions::default())
        .expect_err("too narrow");
    assert!(
        error.to_string().contains("15") && error.to_string().contains("16"),
        "{error}"
    );
}

/// Collects the identity and shape of every parameter that Burn finds.
#[derive(Default)]
struct Walk(Vec<(burn::module::ParamId, Vec<usize>)>);

impl ModuleVisitor for Walk {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push((param.id, param.lazy_shape().to_vec()));
    }
}

#[test]
fn the_table_has_a_row_for_every_parameter_in_the_order_of_the_walk() {
    for (name, config) in many_configs().into_iter().chain(many_pairs()) {
        let model = config.init(1, &Device::flex()).unwrap();
        let table = ParameterTable::of(&model);
        let mut walk = Walk::default();
        model.visit(&mut walk);
        assert_eq!(walk.0.len(), table.rows().len(), "{name}");
        let mut names = std::collections::BTreeSet::new();
        for ((id, shape), row) in walk.0.iter().zip(table.rows()) {
            assert_eq!((table.row(*id), shape), (row, &row.shape), "{name}");
            assert!(names.insert(&row.name), "{name}: {} twice", row.name);
            // Vectors do not decay, and the parts are the whole.
            assert_eq!(row.role.is_decayed(), shape.len() == 2, "{name}: {}", row.name);
            assert_eq!(
                row.parts.iter().sum::<usize>(),
                shape[shape.len() - 1],
                "{name}: {}",
                row.name
            );
            let of_side = row.name.trim_start_matches("encoder.");
            let is_inner = of_side.starts_with("blocks.") || of_side.starts_with("recurrent.");
            assert_eq!(
                row.role.is_hidden_matrix(),
                is_inner && shape.len() == 2,
                "{name}: {}",
                row.name
            );
            assert_eq!(
                row.role == Role::Embedding,
                row.name.contains("_embedding.") || of_side.starts_with("relative_bias."),
                "{name}: {}",
                row.name
            );
        }
    }
}
