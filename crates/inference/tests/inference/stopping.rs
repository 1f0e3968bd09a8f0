//! Stop strings in a stream of text, independent of its pieces.

use taal_inference::{Passed, StopFilter};

/// What passes when `text` comes in pieces of `size` characters, and whether a stop string ended it.
fn filter(stops: &[&str], text: &str, size: usize) -> (String, bool) {
    let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
    let mut filter = StopFilter::new(&stops);
    let mut passed = String::new();
    let characters: Vec<char> = text.chars().collect();
    for piece in characters.chunks(size) {
        match filter.push(&piece.iter().collect::<String>()) {
            Passed::Text(text) => passed.push_str(&text),
            Passed::Stopped(text) => return (passed + &text, true),
        }
    }
    (passed + &filter.finish(), false)
}

#[test]
fn where_the_text_stops_does_not_depend_on_the_pieces() {
    let cases: [(&[&str], &str, &str, bool); 8] = [
        (&[], "as it is", "as it is", false),
        (&["\n\n"], "one\ntwo\n\nthree", "one\ntwo", true),
        (&["\n\n"], "one\ntwo\n", "one\ntwo\n", false),
        (&["abcd", "c"], "xabcd", "xab", true),
        (&["bc", "abc"], "xabcd", "x", true),
        (&["aab"], "aaab", "a", true),
        (&["één"], "geen één", "geen ", true),
        (&["stop"], "stop", "", true),
    ];
    for (stops, text, expected, is_stopped) in cases {
        for size in 1..=text.chars().count() {
            assert_eq!(
                filter(stops, text, size),
                (expected.to_owned(), is_stopped),
                "{stops:?} {text:?} by {size}"
            );
        }
    }
}

#[test]
fn text_is_held_back_only_while_it_may_become_a_stop_string() {
    let stops = ["END".to_owned()];
    let mut filter = StopFilter::new(&stops);
    assert_eq!(filter.push("a E"), Passed::Text("a ".to_owned()));
    assert_eq!(filter.push("N"), Passed::Text(String::new()));
    assert_eq!(filter.push("E"), Passed::Text("EN".to_owned()));
    assert_eq!(filter.push("x"), Passed::Text("Ex".to_owned()));
    assert_eq!(filter.finish(), "");
}
