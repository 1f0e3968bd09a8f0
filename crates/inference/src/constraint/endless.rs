//! Grammars without any text that ends.

use std::collections::HashMap;

use llguidance::earley::{CGrammar, CSymIdx};

/// Whether no text of a grammar ever ends, as with an object that must contain an object of the same schema.
///
/// Which symbols have a text is computed from the terminals up, each rule once.
pub(super) fn is_endless(grammar: &CGrammar) -> bool {
    let mut rules: Vec<Rule> = Vec::new();
    let mut users: HashMap<CSymIdx, Vec<usize>> = HashMap::new();
    let mut ended: Vec<CSymIdx> = Vec::new();
    let mut has_end: HashMap<CSymIdx, bool> = HashMap::from([(grammar.start(), false)]);
    let mut found = vec![grammar.start()];
    while let Some(index) = found.pop() {
        let symbol = grammar.sym_data(index);
        let is_end = symbol.is_terminal || symbol.is_nullable || !symbol.cond_nullable.is_empty();
        if is_end {
            has_end.insert(index, true);
            ended.push(index);
            continue;
        }
        for &rule in &symbol.rules {
            let (parts, _, _) = grammar.rule_rhs(rule);
            for &part in parts {
                users.entry(part).or_default().push(rules.len());
                has_end.entry(part).or_insert_with(|| {
                    found.push(part);
                    false
                });
            }
            rules.push(Rule {
                of: index,
                missing: parts.len(),
            });
        }
    }
    while let Some(index) = ended.pop() {
        for &user in users.get(&index).into_iter().flatten() {
            let rule = &mut rules[user];
            rule.missing -= 1;
            if rule.missing == 0 && has_end.insert(rule.of, true) == Some(false) {
                ended.push(rule.of);
            }
        }
    }
    has_end.get(&grammar.start()) != Some(&true)
}

/// A rule of a grammar.
struct Rule {
    /// The symbol that it is a rule of.
    of: CSymIdx,
    /// How many of its parts have no text yet.
    missing: usize,
}
