//! Rules on packages and the edges between them. Each returns its complaints.

use std::collections::{BTreeMap, BTreeSet};

use crate::lockfile::Lock;
use crate::metadata::{Package, Place};

/// Packages without a readable `[package.metadata.taal]`.
pub fn undeclared_places(packages: &[Package]) -> Vec<String> {
    packages.iter().filter_map(|package| package.place().err()).collect()
}

/// Edges that are not declared, declared edges that do not exist, and edges that do not point to a lower layer.
pub fn wrong_edges(packages: &[Package]) -> Vec<String> {
    let places = places(packages);
    let mut complaints = Vec::new();
    for package in packages {
        let Some(place) = places.get(package.name.as_str()) else {
            continue;
        };
        let real = edges(package, packages, |kind| kind != Some("dev"));
        let declared: BTreeSet<&str> = place.depends.iter().map(String::as_str).collect();
        for target in &real {
            if !declared.contains(target.short_name()) {
                complaints.push(format!(
                    "{} depends on {}: declare it in `depends`, or remove it",
                    package.name, target.name
                ));
            }
            if let Some(below) = places.get(target.name.as_str())
                && below.layer >= place.layer
            {
                let (from, to) = (place.layer, below.layer);
                complaints.push(format!(
                    "{} (layer {from}) depends on {} (layer {to}), which is not lower",
                    package.name, target.name
                ));
            }
        }
        for name in declared {
            if !real.iter().any(|target| target.short_name() == name) {
                complaints.push(format!(
                    "{} declares an edge to {name} that it does not have",
                    package.name
                ));
            }
        }
    }
    complaints
}

/// Development dependencies on a higher layer.
pub fn test_edges_up(packages: &[Package]) -> Vec<String> {
    let places = places(packages);
    let mut complaints = Vec::new();
    for package in packages {
        for target in edges(package, packages, |kind| kind == Some("dev")) {
            if let (Some(place), Some(above)) = (places.get(package.name.as_str()), places.get(target.name.as_str()))
                && above.layer > place.layer
            {
                let (from, to) = (place.layer, above.layer);
                complaints.push(format!(
                    "the tests of {} (layer {from}) depend on {} (layer {to})",
                    package.name, target.name
                ));
            }
        }
    }
    complaints
}

/// Edges of xtask to anything in this workspace.
pub fn tools_on_product(packages: &[Package]) -> Vec<String> {
    let xtask = packages.iter().filter(|package| package.name == "xtask");
    let edges = xtask.flat_map(|package| edges(package, packages, |_| true));
    edges
        .map(|target| format!("xtask depends on {}", target.name))
        .collect()
}

/// Packages of `names` that depend on Burn or its GPU compiler, directly or indirectly.
pub fn burn_dependents(lock: &Lock, names: &[&str]) -> Vec<String> {
    let is_burn = |name: &str| name == "burn" || name.starts_with("burn-") || name.starts_with("cubecl");
    let mut complaints = Vec::new();
    for name in names {
        if !lock.contains(name) {
            complaints.push(format!("there is no package {name}"));
        } else if let Some(chain) = lock.path(name, is_burn) {
            complaints.push(format!("{name} reaches Burn: {}", chain.join(" -> ")));
        }
    }
    complaints
}

/// Packages that read pickles.
const PICKLE_READERS: [&str; 6] = [
    "pytorch-reader",
    "serde-pickle",
    "serde_pickle",
    "repugnant-pickle",
    "pickled",
    "candle-core",
];

/// Dependencies on a reader of pickles, including Burn's for PyTorch: reading a pickle can execute code that it
/// contains.
pub fn pickle_readers(packages: &[Package], lock: &Lock) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages {
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.name == "burn-store")
        {
            if dependency.uses_default_features || dependency.features.iter().any(|feature| feature == "pytorch") {
                complaints.push(format!("{} turns on the feature `pytorch` of burn-store", package.name));
            }
        }
        if let Some(chain) = lock.path(&package.name, |name| PICKLE_READERS.contains(&name)) {
            complaints.push(format!(
                "{} reaches a pickle reader: {}",
                package.name,
                chain.join(" -> ")
            ));
        }
    }
    complaints
}

/// Crates with a name that has no meaning.
pub fn vague_names(packages: &[Package]) -> Vec<String> {
    let is_vague = |package: &&Package| ["common", "core", "types", "util", "utils"].contains(&package.short_name());
    packages
        .iter()
        .filter(is_vague)
        .map(|package| format!("{}: name it after what it does", package.name))
        .collect()
}

/// Library crates that pass errors on without a type.
pub fn anyhow_in_libraries(packages: &[Package]) -> Vec<String> {
    each_library(packages, |package| {
        let untyped = package
            .dependencies
            .iter()
            .filter(|dependency| ["anyhow", "eyre"].contains(&dependency.name.as_str()));
        untyped
            .map(|dependency| format!("{} depends on {}", package.name, dependency.name))
            .collect()
    })
}

/// Library crates without description, license or keywords.
pub fn missing_descriptions(packages: &[Package]) -> Vec<String> {
    each_library(packages, |package| {
        let is_said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
        let said = [
            ("description", is_said(&package.description)),
            ("license", is_said(&package.license)),
            ("keywords", !package.keywords.is_empty()),
        ];
        let unsaid = said.iter().filter(|(_, is_said)| !is_said);
        unsaid
            .map(|(key, _)| format!("{} has no `{key}` in its manifest", package.name))
            .collect()
    })
}

/// Library crates without a file in `examples`.
pub fn missing_examples(packages: &[Package]) -> Vec<String> {
    each_library(packages, |package| {
        if package.has_target("example") {
            Vec::new()
        } else {
            vec![format!("{} has no file in examples/", package.name)]
        }
    })
}

/// The complaints of a rule on every library of the product: those below the binary.
pub fn each_library(packages: &[Package], rule: impl Fn(&Package) -> Vec<String>) -> Vec<String> {
    let is_program = |name: &str| ["taal-cli", "taal-benches", "taal-fuzz"].contains(&name);
    let is_product = |package: &&Package| package.name.starts_with("taal-") && !is_program(&package.name);
    packages
        .iter()
        .filter(|package| package.has_target("lib"))
        .filter(is_product)
        .flat_map(rule)
        .collect()
}

fn places(packages: &[Package]) -> BTreeMap<&str, Place> {
    let place = |package: &'_ Package| package.place().ok();
    packages
        .iter()
        .filter_map(|package| Some((package.name.as_str(), place(package)?)))
        .collect()
}

/// The packages of the workspace that one depends on with the accepted kinds of dependency.
fn edges<'a>(package: &Package, packages: &'a [Package], is_wanted: impl Fn(Option<&str>) -> bool) -> Vec<&'a Package> {
    let names: BTreeSet<&str> = package
        .dependencies
        .iter()
        .filter(|dependency| is_wanted(dependency.kind.as_deref()))
        .map(|dependency| dependency.name.as_str())
        .collect();
    packages
        .iter()
        .filter(|target| names.contains(target.name.as_str()))
        .collect()
}

mod tests {
    use serde_json::json;

    use super::*;
    use crate::metadata::{Dependency, Target};

    fn crate_at(name: &str, layer: u32, declared: &[&str], real: &[&str]) -> Package {
        let dependency = |name: &&str| Dependency {
            name: (*name).to_owned(),
            ..Dependency::default()
        };
        Package {
            name: name.to_owned(),
            dependencies: real.iter().map(dependency).collect(),
            metadata: json!({ "taal": { "layer": layer, "depends": declared } }),
            ..Package::default()
        }
    }

    fn example_package(name: &str) -> Package {
        let target = |kind: &str| Target {
            kind: vec![kind.to_owned()],
            src_path: Default::default(),
        };
        Package {
            description: Some("What it does".to_owned()),
            license: Some("MIT".to_owned()),
            keywords: vec!["nlp".to_owned()],
            targets: vec![target("lib"), target("example")],
            ..crate_at(name, 0, &[], &[])
        }
    }

    #[test]
    fn a_sound_workspace_has_no_complaints() {
        let packages = [
            crate_at("taal-store", 0, &[], &[]),
            crate_at("taal-data", 1, &["store"], &["taal-store", "serde"]),
        ];
        assert!(undeclared_places(&packages).is_empty());
        assert!(wrong_edges(&packages).is_empty());
        assert!(missing_descriptions(&[example_package("taal-store")]).is_empty());
        assert!(missing_examples(&[example_package("taal-store")]).is_empty());
    }

    #[test]
    fn a_package_without_a_place_is_named() {
        let silent = Package {
            name: "taal-model".to_owned(),
            ..Package::default()
        };
        assert_eq!(
            undeclared_places(&[silent]),
            ["taal-model has no [package.metadata.taal]"]
        );
        let half = Package {
            metadata: json!({ "taal": { "layer": 1 } }),
            ..crate_at("taal-model", 1, &[], &[])
        };
        assert_eq!(undeclared_places(&[half]).len(), 1);
    }

    #[test]
    fn an_undeclared_edge_is_named() {
        let packages = [
            crate_at("taal-store", 0, &[], &[]),
            crate_at("taal-data", 1, &[], &["taal-store"]),
        ];
        assert_eq!(
            wrong_edges(&packages),
            ["taal-data depends on taal-store: declare it in `depends`, or remove it"]
        );
    }

    #[test]
    fn a_declared_edge_that_does_not_exist_is_named() {
        let packages = [
            crate_at("taal-store", 0, &[], &[]),
            crate_at("taal-data", 1, &["store"], &[]),
        ];
        assert_eq!(
            wrong_edges(&packages),
            ["taal-data declares an edge to store that it does not have"]
        );
    }

    #[test]
    fn an_edge_that_does_not_point_down_is_named() {
        for layer in [1, 2] {
            let packages = [
                crate_at("taal-model", layer, &[], &[]),
                crate_at("taal-data", 1, &["model"], &["taal-model"]),
            ];
            let complaint = format!("taal-data (layer 1) depends on taal-model (layer {layer}), which is not lower");
            assert_eq!(wrong_edges(&packages), [complaint]);
        }
    }

    #[test]
    fn a_test_dependency_may_point_sideways_and_not_up() {
        let with_tests_on = |target: &str, layer: u32| {
            let mut data = crate_at("taal-data", 1, &[], &[target]);
            data.dependencies[0].kind = Some("dev".to_owned());
            [crate_at(target, layer, &[], &[]), data]
        };
        let up = with_tests_on("taal-model", 2);
        assert_eq!(
            test_edges_up(&up),
            ["the tests of taal-data (layer 1) depend on taal-model (layer 2)"]
        );
        assert!(
            wrong_edges(&up).is_empty(),
            "a development dependency is not an edge of the product"
        );
        assert!(test_edges_up(&with_tests_on("taal-metrics", 1)).is_empty());
    }

    #[test]
    fn xtask_on_a_product_crate_is_named() {
        let packages = [
            crate_at("taal-store", 0, &[], &[]),
            crate_at("xtask", 10, &["store"], &["taal-store"]),
        ];
        assert_eq!(tools_on_product(&packages), ["xtask depends on taal-store"]);
    }

    #[test]
    fn a_light_crate_that_depends_on_burn_is_named_with_the_path() {
        let lock = Lock::parse(
            "[[package]]\nname = 'taal-data'\ndependencies = ['loader']\n[[package]]\nname = 'loader'\ndependencies = ['burn-core']\n\
             [[package]]\nname = 'burn-core'\n[[package]]\nname = 'taal-store'\n",
        );
        let complaints = burn_dependents(&lock, &["taal-store", "taal-data", "taal-metrics"]);
        assert_eq!(
            complaints,
            [
                "taal-data reaches Burn: taal-data -> loader -> burn-core",
                "there is no package taal-metrics"
            ]
        );
    }

    #[test]
    fn a_pickle_reader_is_named() {
        let lock = Lock::parse(
            "[[package]]\nname = 'taal-model'\ndependencies = ['pytorch-reader']\n[[package]]\nname = 'pytorch-reader'\n",
        );
        let mut model = crate_at("taal-model", 4, &[], &["burn-store"]);
        assert_eq!(
            pickle_readers(&[model.clone()], &lock),
            ["taal-model reaches a pickle reader: taal-model -> pytorch-reader"]
        );
        model.dependencies[0].uses_default_features = true;
        assert_eq!(pickle_readers(&[model.clone()], &lock).len(), 2);
        model.dependencies[0].uses_default_features = false;
        model.dependencies[0].features = vec!["pytorch".to_owned()];
        assert_eq!(pickle_readers(&[model], &lock).len(), 2);
    }

    #[test]
    fn vague_names_are_reported() {
        let complaints = vague_names(&[
            crate_at("taal-core", 0, &[], &[]),
            crate_at("util", 0, &[], &[]),
            crate_at("taal-model", 0, &[], &[]),
        ]);
        assert_eq!(
            complaints,
            [
                "taal-core: name it after what it does",
                "util: name it after what it does"
            ]
        );
    }

    #[test]
    fn a_library_with_untyped_errors_is_named() {
        let mut model = example_package("taal-model");
        model.dependencies.push(Dependency {
            name: "anyhow".to_owned(),
            ..Dependency::default()
        });
        assert_eq!(anyhow_in_libraries(&[model.clone()]), ["taal-model depends on anyhow"]);
        model.targets.clear();
        assert!(
            anyhow_in_libraries(&[model]).is_empty(),
            "a package without a library may do so"
        );
    }

    #[test]
    fn missing_fields_of_a_library_are_named() {
        let silent = Package {
            description: Some(" ".to_owned()),
            license: None,
            keywords: Vec::new(),
            ..example_package("taal-model")
        };
        assert_eq!(
            missing_descriptions(&[silent]),
            ["description", "license", "keywords"].map(|key| format!("taal-model has no `{key}` in its manifest"))
        );
    }

    #[test]
    fn a_library_without_an_example_is_named() {
        let mut model = example_package("taal-model");
        model.targets.truncate(1);
        assert_eq!(missing_examples(&[model]), ["taal-model has no file in examples/"]);
    }
}
