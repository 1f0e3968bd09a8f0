//! The table of keys: what it says about a key is what a recipe accepts, and what the docs page says.

use std::path::Path;

use taal_trainer::{KEYS, Key, Recipe, resolve};

use crate::typed;

/// The base for every setting: a minimal recipe, with Muon and masking so that their keys have an effect.
const SMALL: [&str; 5] = [
    "data.corpus=\"names\"",
    "tokenizer.kind=\"char\"",
    "tokenizer.vocab_size=100",
    "train.optimizer=\"muon\"",
    "train.objective=\"masked\"",
];

fn resolved(setting: Option<&str>) -> Result<Recipe, String> {
    let source = typed("test", "");
    let sets: Vec<String> = SMALL.into_iter().chain(setting).map(str::to_string).collect();
    let resolved = resolve(&source, &sets).map_err(|error| error.to_string())?;
    Ok(resolved.recipe)
}

/// The words in backticks, if there is nothing else.
fn choices(key: &Key) -> Option<Vec<String>> {
    let range = key.range_words();
    let words: Vec<String> = range
        .split(", ")
        .map(|word| word.trim_matches('`').to_string())
        .collect();
    let is_list = range
        == words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ");
    is_list.then_some(words)
}

/// A section's table as it is on the page.
fn markdown(section: &str) -> String {
    let mut table = "| key | type | range | default | meaning, source |\n|---|---|---|---|---|\n".to_string();
    for key in KEYS.iter().filter(|key| key.section == section) {
        let name = format!("`{}`", key.name);
        let cells = [
            &name,
            key.type_words(),
            &key.range_words(),
            &key.default_words(),
            key.meaning(),
        ];
        for cell in cells {
            table += &format!("| {cell}{}", if cell.is_empty() { "" } else { " " });
        }
        table += "|\n";
    }
    table
}

#[test]
fn the_tables_of_the_page_are_the_table_of_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes.md");
    let page = std::fs::read_to_string(&path).expect("the page").replace("\r\n", "\n");
    let mut sections: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    let mut renewed = page.clone();
    for section in sections {
        let heading = match section {
            "" => "\n## Top\n".to_string(),
            section => format!("\n## `[{section}]`\n"),
        };
        let from = renewed.find(&heading).unwrap_or_else(|| panic!("no heading {heading}"));
        let start = from + renewed[from..].find("\n| key |").expect("a table of keys") + 1;
        let end = start + renewed[start..].find("\n\n").expect("an end of the table") + 1;
        renewed.replace_range(start..end, &markdown(section));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &renewed).expect("the page");
        return;
    }
    for (line, (page, renewed)) in page.lines().zip(renewed.lines()).enumerate() {
        assert_eq!(
            page,
            renewed,
            "line {} of docs/recipes.md; UPDATE=1 rewrites it",
            line + 1
        );
    }
    assert_eq!(
        page.lines().count(),
        renewed.lines().count(),
        "UPDATE=1 rewrites docs/recipes.md"
    );
}

#[test]
fn the_choices_of_a_key_are_those_that_its_error_names() {
    let mut checked = 0;
    for key in KEYS {
        let Some(choices) = choices(key) else { continue };
        let path = key.path();
        let message = resolved(Some(&format!("{path}=\"zzz\""))).expect_err(&path);
        let named = message
            .split_once("expected ")
            .map(|(_, rest)| rest.trim_start_matches("one of "));
        let (named, _) = named.and_then(|rest| rest.split_once(", got")).unwrap_or_default();
        assert_eq!(named.replace(" or ", ", "), choices.join(", "), "{path}: {message}");
        checked += 1;
    }
    assert!(checked >= 15, "{checked} keys with choices");
}

#[test]
fn a_key_set_to_its_default_changes_nothing() {
    let silent = resolved(None).expect("a recipe");
    let mut checked = 0;
    for key in KEYS {
        let default = key.default_words();
        let word = default.trim_matches('`');
        // The other defaults are described in words, follow from other keys, or are set by SMALL.
        let is_set = SMALL
            .iter()
            .any(|setting| setting.split_once('=').is_some_and(|(set, _)| set == key.path()));
        let value = match key.type_words() {
            "string" if default.starts_with('`') => format!("\"{word}\""),
            "integer" | "number" | "boolean" if word.parse::<toml::Value>().is_ok() => word.to_string(),
            _ => continue,
        };
        // Without a rank or an objective that has them, the keys of these sections are refused.
        let is_of_another_recipe = ["lora", "preference"].contains(&key.section);
        if is_set || is_of_another_recipe {
            continue;
        }
        let setting = format!("{}={value}", key.path());
        assert_eq!(resolved(Some(&setting)).as_ref(), Ok(&silent), "{setting}");
        checked += 1;
    }
    assert!(checked > 35, "{checked} keys with a default");
}

#[test]
fn a_number_outside_the_range_that_the_table_says_is_refused() {
    let mut checked = 0;
    for key in KEYS {
        let words = key.range_words().replace(',', "");
        let numbers: Vec<f64> = words.split(' ').filter_map(|word| word.parse().ok()).collect();
        let is_open = |word: &str| words.contains(word);
        let step = match key.type_words() {
            "integer" => 1.0,
            "number" => 0.001,
            _ => continue,
        };
        let mut outside = Vec::new();
        match numbers[..] {
            [least] => outside.push(if is_open("above") { least } else { least - step }),
            [least, most] => {
                outside.push(if is_open("above") { least } else { least - step });
                outside.push(if is_open("below") { most } else { most + step });
            }
            _ => continue,
        }
        for value in outside.into_iter().filter(|value| step < 1.0 || *value >= 0.0) {
            let setting = format!("{}={value}", key.path());
            let message = resolved(Some(&setting)).expect_err(&setting);
            assert!(message.contains(&key.path()), "{setting}: {message}");
            checked += 1;
        }
    }
    assert!(checked > 55, "{checked} numbers outside a range");
}
