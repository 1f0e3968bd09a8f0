//! Tests the architecture of the workspace: what each crate may depend on and contain, and what it must document.
//!
//! The rules are pure functions in `layers/rules.rs` and `layers/sources.rs` that return complaints, one sentence each.
//! This file runs them on this workspace; the unit tests next to the rules run them on made-up workspaces that break
//! them. Nothing is downloaded: manifests come from `cargo metadata --no-deps`, indirect dependencies from
//! `Cargo.lock`.

#[path = "layers/lockfile.rs"]
mod lockfile;
#[path = "layers/metadata.rs"]
mod metadata;
#[path = "layers/rules.rs"]
mod rules;
#[path = "layers/sources.rs"]
mod sources;

use metadata::Workspace;

#[track_caller]
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

#[test]
fn every_package_declares_its_layer_and_its_edges() {
    assert_none(rules::undeclared_places(&Workspace::load().packages));
}

#[test]
fn declared_edges_are_the_real_ones_and_point_down() {
    assert_none(rules::wrong_edges(&Workspace::load().packages));
}

#[test]
fn test_dependencies_do_not_point_up() {
    assert_none(rules::test_edges_up(&Workspace::load().packages));
}

#[test]
fn xtask_depends_on_no_product_crate() {
    assert_none(rules::tools_on_product(&Workspace::load().packages));
}

#[test]
fn tokenizer_metrics_draw_data_and_store_build_without_burn() {
    assert_none(rules::burn_dependents(
        &Workspace::load().lock,
        &["taal-tokenizer", "taal-metrics", "taal-draw", "taal-data", "taal-store"],
    ));
}

#[test]
fn nothing_reads_pickles() {
    let workspace = Workspace::load();
    assert_none(rules::pickle_readers(&workspace.packages, &workspace.lock));
}

#[test]
fn no_crate_is_a_drawer_for_everything() {
    assert_none(rules::vague_names(&Workspace::load().packages));
}

#[test]
fn library_crates_have_error_types_of_their_own() {
    assert_none(rules::anyhow_in_libraries(&Workspace::load().packages));
}

#[test]
fn library_crates_say_what_they_are_for() {
    assert_none(rules::missing_descriptions(&Workspace::load().packages));
}

#[test]
fn library_crates_have_an_example_to_run() {
    assert_none(rules::missing_examples(&Workspace::load().packages));
}

#[test]
fn library_crates_open_with_a_page_and_an_example() {
    let workspace = Workspace::load();
    assert_none(rules::each_library(&workspace.packages, |package| {
        sources::missing_page(&package.root_source())
    }));
}

#[test]
fn only_store_touches_files() {
    let workspace = Workspace::load();
    assert_none(rules::each_library(&workspace.packages, |package| {
        if package.name == "taal-store" {
            Vec::new()
        } else {
            sources::file_access(&package.sources())
        }
    }));
}

#[test]
fn only_binaries_and_benchmarks_choose_the_allocator() {
    let workspace = Workspace::load();
    let others = workspace
        .packages
        .iter()
        .filter(|package| !["taal-cli", "taal-benches", "taal-fuzz"].contains(&package.name.as_str()));
    assert_none(
        others
            .flat_map(|package| sources::allocators(&package.sources()))
            .collect(),
    );
}
