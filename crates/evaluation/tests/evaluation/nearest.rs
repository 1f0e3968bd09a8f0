//! Looking up the answer of the nearest known question.

use taal_evaluation::Nearest;

fn known(pairs: &[(&str, &str)]) -> Nearest {
    Nearest::new(pairs.iter().map(|(question, answer)| (*question, (*answer).to_owned())))
}

#[test]
fn rare_words_count_more_than_common_ones_and_order_and_capitals_not_at_all() {
    let known = known(&[
        ("User: extract a zip archive", "unzip a"),
        ("User: extract a tar archive", "tar xf a"),
        ("User: list all files of a folder", "ls a"),
    ]);
    assert_eq!(known.answer("TAR archive, extract!"), Some("tar xf a"));
    assert_eq!(known.answer("User: a tar file of a user"), Some("tar xf a"));
    assert_eq!(known.answer("files"), Some("ls a"));
    assert_eq!(known.answer("wat?"), None, "no word is known");
}

#[test]
fn of_equally_near_questions_the_first_answers() {
    let known = known(&[("een kat", "a"), ("een hond", "b"), ("een kat", "c"), ("een mat", "d")]);
    assert_eq!(known.answer("een kat"), Some("a"));
    assert_eq!(known.answer("kat kat kat"), Some("a"));
    // A question that says more is farther away than one that says the same.
    let lengths = self::known(&[
        ("kat hond paard", "long"),
        ("kat", "short"),
        ("koe", "other"),
        ("mug", "another"),
    ]);
    assert_eq!(lengths.answer("kat"), Some("short"));
}

#[test]
fn without_questions_nothing_is_found() {
    assert_eq!(known(&[]).answer("kat"), None);
}
