//! Rules on source files, which are read as tokens: comments, strings and items under `#[cfg(test)]` do not count.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

use crate::metadata::Source;

/// Complains if a library's root file does not begin with a page that has an example.
pub fn missing_page(source: &Source) -> Vec<String> {
    let page: Vec<&str> = source.text.lines().map_while(|line| line.strip_prefix("//!")).collect();
    let path = source.path.display();
    if page.is_empty() {
        vec![format!(
            "{path} does not begin with a `//!` page that says what the crate does"
        )]
    } else if !page.iter().any(|line| line.trim_start().starts_with("```")) {
        vec![format!("{path}: the page of the crate has no example")]
    } else {
        Vec::new()
    }
}

/// Uses of `std::fs` outside of tests: as a path, in a `use`, or in a group of a `use`.
pub fn file_access(sources: &[Source]) -> Vec<String> {
    complaints(sources, "uses the file system itself instead of taal-store", std_fs_at)
}

/// Choices of a global allocator.
pub fn allocators(sources: &[Source]) -> Vec<String> {
    complaints(
        sources,
        "chooses the allocator, which is up to the program",
        |window| match window {
            [TokenTree::Ident(name), ..] if name == "global_allocator" => Some(name.span().start().line),
            _ => None,
        },
    )
}

fn complaints(sources: &[Source], complaint: &str, find: impl Fn(&[TokenTree]) -> Option<usize> + Copy) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let path = source.path.display();
        let tokens: TokenStream = source.text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut lines = Vec::new();
        visit(&product_code(tokens), find, &mut lines);
        found.extend(lines.iter().map(|line| format!("{path}:{line} {complaint}")));
    }
    found
}

/// Applies `find` at every token, groups included.
fn visit(tokens: &[TokenTree], find: impl Fn(&[TokenTree]) -> Option<usize> + Copy, lines: &mut Vec<usize>) {
    for (index, token) in tokens.iter().enumerate() {
        lines.extend(find(&tokens[index..]));
        if let TokenTree::Group(group) = token {
            visit(&product_code(group.stream()), find, lines);
        }
    }
}

/// The tokens without the items under `#[cfg(test)]`.
fn product_code(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_attribute_of_tests = is_punct(&token, '#') && tokens.peek().is_some_and(is_cfg_test);
        if !is_attribute_of_tests {
            kept.push(token);
            continue;
        }
        // An item ends with its block or with a semicolon.
        for token in tokens.by_ref() {
            let is_block = matches!(&token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
            if is_block || is_punct(&token, ';') {
                break;
            }
        }
    }
    kept
}

fn is_cfg_test(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// The line of a `std::fs` or `std::{.. fs ..}` that starts here.
fn std_fs_at(window: &[TokenTree]) -> Option<usize> {
    let [TokenTree::Ident(root), first, second, next, ..] = window else {
        return None;
    };
    let is_path = is_joined_colon(first) && is_punct(second, ':');
    if root != "std" || !is_path {
        return None;
    }
    let is_fs = match next {
        TokenTree::Ident(module) => module == "fs",
        TokenTree::Group(group) => names_fs(group.stream()),
        _ => false,
    };
    is_fs.then(|| root.span().start().line)
}

/// Whether a group of a `use` has `fs` as a direct member: `{fs, io}`, not `{my::fs}`.
fn names_fs(group: TokenStream) -> bool {
    let mut is_start = true;
    for token in group {
        if is_start && matches!(&token, TokenTree::Ident(name) if name == "fs") {
            return true;
        }
        is_start = is_punct(&token, ',');
    }
    false
}

fn is_joined_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint)
}

fn is_punct(token: &TokenTree, expected: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == expected)
}

mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            path: "lib.rs".into(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn file_access_is_found_however_it_is_written() {
        for text in [
            "use std::fs;",
            "use std::fs::File;",
            "use std::{fs, io};",
            "use std::{io::{self, Read}, fs::{File}};",
            "fn f() { if true { ::std::fs::read(p); } }",
            "fn f() { log!(\"{}\", std::fs::exists(p)); }",
            "#[cfg(not(test))] use std::fs;",
            "#[cfg(test)] mod tests; use std::fs;",
        ] {
            let complaints = file_access(&[source(text)]);
            assert_eq!(
                complaints,
                ["lib.rs:1 uses the file system itself instead of taal-store"],
                "{text}"
            );
        }
    }

    #[test]
    fn comments_strings_tests_and_other_names_are_not_file_access() {
        let text = "//! std::fs is for store alone\n\
            use std::{io, path::Path};\nuse crate::fs;\nuse std::{collections::fs as other};\n\
            const HINT: &str = \"use std::fs\";\n\
            #[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(file_access(&[source(text)]), Vec::<String>::new());
    }

    #[test]
    fn an_allocator_is_found_with_its_line() {
        let complaints = allocators(&[source(
            "// #[global_allocator]\n\n#[global_allocator]\nstatic A: B = B;",
        )]);
        assert_eq!(
            complaints,
            ["lib.rs:3 chooses the allocator, which is up to the program"]
        );
    }

    #[test]
    fn a_page_with_an_example_is_required() {
        assert_eq!(
            missing_page(&source(
                "//! Does it.\n//!\n//! ```\n//! assert!(true);\n//! ```\npub mod a;"
            ))
            .len(),
            0
        );
        assert_eq!(
            missing_page(&source("//! Does it.\npub mod a;")),
            ["lib.rs: the page of the crate has no example"]
        );
        assert_eq!(missing_page(&source("pub mod a;\n//! late")).len(), 1);
    }
}
