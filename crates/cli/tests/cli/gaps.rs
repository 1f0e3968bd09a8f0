//! `taal eval --gaps`.

use crate::{Place, done, fails, json};

fn trained() -> Place {
    let place = Place::new();
    let train = [
        "train",
        "--recipe",
        "tiny.toml",
        "--run-dir",
        "run",
        "--set",
        "train.block_size=40",
    ];
    done(place.taal(&train));
    place.write(
        "gaps.tsv",
        "# one word each\nde kat krabt de [MASK]\tkrullen\nen de [MASK] ziet het.\trat\n",
    );
    place
}

#[test]
fn gaps_are_ranked_among_the_words_of_the_runs_text_next_to_counting() {
    let place = trained();
    let words = done(place.taal(&["eval", "run", "--gaps", "gaps.tsv"]));
    for part in [
        "  rank  counting\n",
        "de kat krabt de [MASK] krullen (first: ",
        "gaps         2 of gaps.tsv",
        "a causal model, which reads only what is before the gap",
        // The ten words of the text, and the one that the split cut in two.
        "candidates   11 words",
        "by counting neighbors 1 (1 to 1)",
        "first 10     ",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let found = json(place.taal(&["eval", "run", "--gaps", "gaps.tsv", "--json"]));
    assert_eq!((&found["reading"], &found["candidates"]), (&"left".into(), &11.into()));
    assert_eq!(found["gaps"][1]["neighbors_rank"], 1);

    // A model directory does not say what it was trained on.
    let found = json(place.taal(&["eval", "run/model", "--gaps", "gaps.tsv", "--json"]));
    assert!(found["neighbors"].is_null(), "{found}");
    let named = [
        "eval",
        "run/model",
        "--gaps",
        "gaps.tsv",
        "--training",
        "text.txt",
        "--json",
    ];
    assert_eq!(json(place.taal(&named))["candidates"], 10);
}

#[test]
fn bad_gaps_are_refused_by_their_line() {
    let place = trained();
    place.write("bad.tsv", "de kat krabt de krullen\tkrullen\n");
    fails(
        place.taal(&["eval", "run", "--gaps", "bad.tsv"]),
        65,
        &["bad.tsv", "line 1", "expected one [MASK]"],
    );
    fails(place.taal(&["eval", "run", "--gaps", "none.tsv"]), 2, &["none.tsv"]);
    fails(
        place.taal(&["eval", "run", "--gaps", "gaps.tsv", "--text", "text.txt"]),
        2,
        &["cannot be used with"],
    );
    // A sentence that is longer than the context is named; the others are ranked.
    place.write(
        "long.tsv",
        format!("{} [MASK]\trat\nde [MASK]\trat\n", "de kat ".repeat(9)),
    );
    fails(
        place.taal(&["eval", "run", "--gaps", "long.tsv"]),
        65,
        &["1 of 2", "long.tsv, line 1", "40 tokens"],
    );
}
