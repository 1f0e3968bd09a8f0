//! The graph of all packages in `Cargo.lock`, including optional and development dependencies: a package that is not in
//! it cannot be built.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Package names to the names of their direct dependencies. Versions of one package count as one.
pub struct Lock {
    edges: BTreeMap<String, Vec<String>>,
}

impl Lock {
    pub fn parse(text: &str) -> Self {
        #[derive(Deserialize)]
        struct File {
            package: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            name: String,
            #[serde(default)]
            dependencies: Vec<String>,
        }
        let file: File = toml::from_str(text).expect("Cargo.lock has cargo's format");
        let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in file.package {
            // If there are several versions of a package, an entry is `name version`.
            let names = entry
                .dependencies
                .iter()
                .filter_map(|line| line.split(' ').next())
                .map(str::to_owned);
            edges.entry(entry.name).or_default().extend(names);
        }
        Self { edges }
    }

    pub fn contains(&self, package: &str) -> bool {
        self.edges.contains_key(package)
    }

    /// The shortest chain of packages from one to the first that `is_end` accepts.
    pub fn path(&self, from: &str, is_end: impl Fn(&str) -> bool) -> Option<Vec<&str>> {
        let (start, _) = self.edges.get_key_value(from)?;
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::from([(start.as_str(), "")]);
        let mut open = std::collections::VecDeque::from([start.as_str()]);
        while let Some(package) = open.pop_front() {
            if package != start && is_end(package) {
                let mut chain = vec![package];
                while let Some(before) = came_from
                    .get(chain[chain.len() - 1])
                    .filter(|before| !before.is_empty())
                {
                    chain.push(before);
                }
                chain.reverse();
                return Some(chain);
            }
            for next in self.edges.get(package).into_iter().flatten() {
                if !came_from.contains_key(next.as_str()) {
                    came_from.insert(next, package);
                    open.push_back(next);
                }
            }
        }
        None
    }
}

#[test]
fn a_chain_is_found_through_several_packages() {
    let lock = Lock::parse(
        "version = 4\n[[package]]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['b', 'c 1.0.0']\n\
         [[package]]\nname = 'b'\nversion = '1.0.0'\n\
         [[package]]\nname = 'c'\nversion = '1.0.0'\ndependencies = ['burn-core']\n\
         [[package]]\nname = 'c'\nversion = '2.0.0'\n[[package]]\nname = 'burn-core'\nversion = '1.0.0'\n",
    );
    assert_eq!(
        lock.path("a", |name| name.starts_with("burn")),
        Some(vec!["a", "c", "burn-core"])
    );
    assert_eq!(lock.path("b", |name| name.starts_with("burn")), None);
}
