//! Where a text may be split without changing its tokens.
//!
//! Every pre-tokenizer that this crate trains with starts a new word where whitespace follows something else, and none looks
//! further back, so the two halves of a text split there encode to the halves of its ids.

/// The last position at or before `limit_bytes` where whitespace follows another character.
pub(crate) fn last_safe_cut(text: &str, limit_bytes: usize) -> Option<usize> {
    let limit = text.ceil_char_boundary(limit_bytes.saturating_add(1));
    let mut following: Option<(usize, char)> = None;
    for (position, character) in text[..limit].char_indices().rev() {
        if let Some((cut, next)) = following
            && next.is_whitespace()
            && !character.is_whitespace()
            && cut <= limit_bytes
        {
            return Some(cut);
        }
        following = Some((position, character));
    }
    None
}

/// The first position after `from_bytes` where whitespace follows another character.
fn next_safe_cut(text: &str, from_bytes: usize) -> Option<usize> {
    let from = text.floor_char_boundary(from_bytes);
    let mut is_after_word = false;
    for (position, character) in text[from..].char_indices() {
        if character.is_whitespace() && is_after_word {
            return Some(from + position);
        }
        is_after_word = !character.is_whitespace();
    }
    None
}

/// Splits a text into parts of about `target_bytes` whose concatenated tokens are the text's tokens.
///
/// A part is longer than the target only where there is no safe cut.
pub(crate) fn safe_parts(text: &str, target_bytes: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > target_bytes {
        let cut = last_safe_cut(rest, target_bytes).or_else(|| next_safe_cut(rest, target_bytes));
        let Some(cut) = cut else { break };
        let (part, tail) = rest.split_at(cut);
        parts.push(part);
        rest = tail;
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

/// The longest prefix of at most `limit_bytes` that ends at a safe cut, else at a character boundary.
///
/// For counting words, where memory must stay bounded even in a line without whitespace.
pub(crate) fn bounded_prefix(text: &str, limit_bytes: usize) -> &str {
    if text.len() <= limit_bytes {
        return text;
    }
    let cut = last_safe_cut(text, limit_bytes).unwrap_or_else(|| text.floor_char_boundary(limit_bytes));
    &text[..cut]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_before_whitespace_that_follows_a_word() {
        assert_eq!(last_safe_cut("een twee  drie", 9), Some(8));
        assert_eq!(last_safe_cut("een twee  drie", 8), Some(8));
        assert_eq!(last_safe_cut("een twee  drie", 7), Some(3));
        assert_eq!(last_safe_cut("   een", 6), None);
        assert_eq!(next_safe_cut("een twee drie", 4), Some(8));
        assert_eq!(next_safe_cut("één", 1), None);
    }

    #[test]
    fn concatenated_safe_parts_are_the_text() {
        let text = "ongelijk lange woorden\n\n  met \t witruimte, élk eigen\u{2003}maat ".repeat(7);
        for target in 1..text.len() {
            let parts = safe_parts(&text, target);
            assert_eq!(parts.concat(), text);
            for pair in parts.windows(2) {
                assert!(pair[1].starts_with(char::is_whitespace) && !pair[0].ends_with(char::is_whitespace));
            }
        }
    }

    #[test]
    fn a_line_without_whitespace_is_cut_between_characters() {
        assert_eq!(bounded_prefix("ééééé", 5), "éé");
        assert_eq!(bounded_prefix("één woord", 6), "één");
    }
}
