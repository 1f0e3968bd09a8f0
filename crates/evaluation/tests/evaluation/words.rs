//! Word vectors against human judgments, analogies and categories.

use std::path::{Path, PathBuf};

use taal_evaluation::{Analogies, Categories, SectionScore, WordPairs, WordVectors};
use taal_inference::{LanguageModel, Pooling, embed};
use taal_store::ErrorKind;

use crate::size;
use crate::tiny::{byte_model, char_model, char_tokenizer, model};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/words")
        .join(name)
}

fn expected() -> serde_json::Value {
    let text = std::fs::read_to_string(golden("expected.json")).expect("a golden file");
    serde_json::from_str(&text).expect("JSON")
}

fn counts(sections: &[SectionScore]) -> serde_json::Value {
    let count = |section: &SectionScore| serde_json::json!([section.name, section.correct, section.scored]);
    sections.iter().map(count).collect()
}

#[test]
fn spearman_of_cosines_and_judgments_equals_scipy() {
    let vectors = WordVectors::read(&golden("vectors.txt")).unwrap();
    let score = WordPairs::read(&golden("similarity.csv"), false)
        .unwrap()
        .score(&vectors, 200, 1);
    let wanted = expected()["spearman"].as_f64().unwrap();
    assert!((score.spearman.unwrap() - wanted).abs() < 1e-12, "{score:?}");
    assert_eq!((score.scored, score.total, score.unknown.count), (54, 60, 6));
    assert_eq!(score.unknown.first[0], "unknown19");
    let [low, high] = score.interval.unwrap();
    assert!(low < wanted && wanted < high && low > -1.0 && high < 1.0, "{score:?}");
}

#[test]
fn answers_to_analogies_equal_gensim() {
    let vectors = WordVectors::read(&golden("vectors.txt")).unwrap();
    for (file, key) in [("analogies.txt", "analogies"), ("pairs.json", "pairs")] {
        let words = vectors.words().iter().map(String::as_str);
        let score = Analogies::read(&golden(file), false).unwrap().score(&vectors, words);
        assert_eq!(counts(&score.sections), expected()[key], "{file}");
        assert_eq!(score.candidates, 48);
        let is_sum =
            |count: fn(&SectionScore) -> u64| count(&score.all) == score.sections.iter().map(count).sum::<u64>();
        assert!(is_sum(|it| it.correct) && is_sum(|it| it.total) && is_sum(|it| it.without_vector));
        assert!(score.all.interval[0] < score.all.accuracy.unwrap());
    }
}

#[test]
fn cluster_purity_equals_scipy() {
    let vectors = WordVectors::read(&golden("vectors.txt")).unwrap();
    let score = Categories::read(&golden("categories.csv"), false)
        .unwrap()
        .score(&vectors);
    assert!((score.purity.unwrap() - expected()["purity"].as_f64().unwrap()).abs() < 1e-12);
    assert_eq!((score.baseline, score.categories, score.scored), (Some(0.25), 4, 48));
}

#[test]
fn a_given_word_is_never_an_answer_and_a_question_for_one_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // b - a + c is nearest to c itself.
    std::fs::write(path("v.txt"), "a 1 0\nb 1 0.1\nc 0 1\nd 0.2 1\n").unwrap();
    std::fs::write(path("q.txt"), "a b c d\na b c c\n: more\na b c x\n").unwrap();
    let vectors = WordVectors::read(&path("v.txt")).unwrap();
    let score = Analogies::read(&path("q.txt"), false)
        .unwrap()
        .score(&vectors, ["c", "a", "d", "b", "c"]);
    let all = &score.all;
    assert_eq!(
        (all.correct, all.scored, all.unanswerable, all.without_vector),
        (1, 1, 1, 1)
    );
    assert_eq!((score.candidates, score.sections.len()), (4, 2));
    assert_eq!(score.sections[1].accuracy, None);
}

#[test]
fn parts_of_speech_are_removed_where_every_word_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("men.csv"), ",word1,word2,similarity\n0,sun-n,Shine-v,5\n").unwrap();
    // A row without the wanted columns is ignored.
    std::fs::write(path("other.csv"), "n;similarity;word2;word1\n0;1;x-n;bare\n1;;;\n").unwrap();
    let men = WordPairs::read(&path("men.csv"), true).unwrap();
    assert_eq!(men.words().collect::<Vec<_>>(), ["sun", "shine"]);
    let other = WordPairs::read(&path("other.csv"), false).unwrap();
    assert_eq!(other.words().collect::<Vec<_>>(), ["bare", "x-n"]);
}

#[test]
fn a_models_word_is_its_text_with_a_space_where_that_costs_no_token() {
    let lm = char_model();
    let vectors = WordVectors::of_model(&lm, ["cab", "Cab", "cab", "abba"], Pooling::Mean).unwrap();
    // A capital is not among the 23 characters.
    assert_eq!(vectors.words(), ["cab", "abba"]);
    assert_eq!(
        vectors.vector("cab"),
        Some(&embed(&lm, "cab", Pooling::Mean).unwrap()[..])
    );
    // Every byte is a token, so the space needs one too.
    let lm = byte_model();
    let vectors = WordVectors::of_model(&lm, ["é"], Pooling::Input).unwrap();
    assert_eq!(vectors.vector("é"), Some(&embed(&lm, "é", Pooling::Input).unwrap()[..]));
    // A token for the word with its space is preferred.
    let tokenizer = taal_tokenizer::TrainerConfig::new(taal_tokenizer::Kind::Bpe, 300)
        .train(["the cat the cat the cat the cat".repeat(9)])
        .unwrap();
    let config = taal_model::TransformerConfig::nanogpt(size(tokenizer.vocab_size(), 12, 1, 2, 16));
    let lm = LanguageModel::new(model(&config, 3), Some(tokenizer));
    let vectors = WordVectors::of_model(&lm, ["cat"], Pooling::Input).unwrap();
    assert_eq!(
        vectors.vector("cat"),
        Some(&embed(&lm, " cat", Pooling::Input).unwrap()[..])
    );
}

#[test]
fn the_nearest_words_come_first_and_ties_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.txt");
    std::fs::write(&path, "far -1 0\nnone 0 0\ntwice 4 0\nonce 2 0\nside 1 1\n").unwrap();
    let vectors = WordVectors::read(&path).unwrap();
    let found = vectors.nearest(&[3.0, 0.0], 4);
    assert_eq!(
        found.iter().map(|(word, _)| *word).collect::<Vec<_>>(),
        ["twice", "once", "side", "none"]
    );
    assert!((found[2].1 - 0.5_f64.sqrt()).abs() < 1e-12 && found[3].1 == 0.0);
    assert!(vectors.nearest(&[0.0, 0.0], 9).iter().all(|(_, cosine)| *cosine == 0.0));
}

#[test]
fn the_words_of_a_vocabulary_are_whole_ones() {
    let text = "the cats' ice-cream 12 ... singing the ";
    for kind in [taal_tokenizer::Kind::Bpe, taal_tokenizer::Kind::WordPiece] {
        let tokenizer = taal_tokenizer::TrainerConfig::new(kind, 320)
            .train([text.repeat(9)])
            .unwrap();
        let words = taal_evaluation::vocabulary_words(&tokenizer, tokenizer.vocab_size());
        let count = |wanted: &str| words.iter().filter(|word| *word == wanted).count();
        assert_eq!(count("the"), 1, "{words:?}");
        for wrong in ["12", "...", "[MASK]", "<|endoftext|>", "he", ""] {
            assert_eq!(count(wrong), 0, "{wrong}: {words:?}");
        }
        assert!(words.iter().all(|word| !word.starts_with("##") && word.trim() == word));
    }
}

#[test]
fn an_input_vector_is_the_mean_of_the_tokens_rows() {
    let lm = char_model();
    let ids = char_tokenizer().encode("fed").unwrap();
    let table = taal_model::parameters::to_vec(lm.model.embeddings.tokens.weight.val());
    let width = lm.model.config().d_model;
    let row = |id: &u32| &table[*id as usize * width..][..width];
    let sum: Vec<f32> = (0..width).map(|at| ids.iter().map(|id| row(id)[at]).sum()).collect();
    let norm = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    let found = embed(&lm, "fed", Pooling::Input).unwrap();
    assert!(
        found
            .iter()
            .zip(&sum)
            .all(|(found, sum)| (found - sum / norm).abs() < 1e-6)
    );
    // No layer is used, so the context length does not apply.
    assert_eq!(embed(&lm, &"fed".repeat(9), Pooling::Input).unwrap().len(), width);
}

#[test]
fn bad_files_are_named_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let pairs: fn(&Path) -> Option<taal_evaluation::EvaluationError> = |path| WordPairs::read(path, false).err();
    let analogies: fn(&Path) -> Option<taal_evaluation::EvaluationError> = |path| Analogies::read(path, false).err();
    let categories: fn(&Path) -> Option<taal_evaluation::EvaluationError> = |path| Categories::read(path, false).err();
    let vectors: fn(&Path) -> Option<taal_evaluation::EvaluationError> = |path| WordVectors::read(path).err();
    let cases = [
        (pairs, "a.csv", "word1,word2\na,b\n", "line 1: no column \"similarity\""),
        (
            pairs,
            "b.csv",
            "word1,word2,similarity\na,b,1\na,b\n",
            "line 3: expected 3 fields",
        ),
        (
            pairs,
            "c.csv",
            "word1,word2,similarity\na,b,high\n",
            "line 2: expected a number",
        ),
        (
            pairs,
            "d.csv",
            "word1,word2,similarity\na,,1\n",
            "line 2: expected two words",
        ),
        (pairs, "e.csv", "", "line 1: expected a header"),
        (pairs, "f.csv", "word1,word2,similarity\n", "line 1: no row"),
        (
            pairs,
            "g.csv",
            "word1,word2,similarity\na,b,NaN\n",
            "line 2: expected a number",
        ),
        (
            pairs,
            "g1.csv",
            "word1,similarity,word2\na,1,b\nc,1,\"d\ne,1,f\n",
            "line 3: a field begins with a quote that is not closed",
        ),
        // A quoted field may hold a line end; an empty line is not a row.
        (
            pairs,
            "g2.csv",
            "word1,word2,similarity\r\n\"a\r\nb\",\"c,d\",1\r\n\r\na,b\r\n",
            "line 5: expected 3 fields, as the header has, got 2",
        ),
        (
            categories,
            "h.csv",
            "word,kind\na,b\n",
            "line 1: no column \"category\"",
        ),
        (categories, "i.csv", "word,category\n\"a,b\n", "line 2"),
        (
            categories,
            "i2.csv",
            "word,category\n,b\na,\n",
            "line 3: expected a category",
        ),
        (
            analogies,
            "j.txt",
            ": s\na b c d\na b c\n",
            "line 3: expected four words, got 3",
        ),
        (analogies, "k.txt", ": s\n", "line 1: expected at least one question"),
        (analogies, "l.json", "{\"s\": [[\"a\", \"b\"],\n [\"c\"]]}", "line 2"),
        (analogies, "m.json", "[]", "line 1"),
        (
            vectors,
            "n.txt",
            "a 1 2\nb 1\n",
            "line 2: expected a word and 2 numbers, got 1",
        ),
        (
            vectors,
            "o.txt",
            "a 1 2\nb 1 2 3\n",
            "line 2: expected a word and 2 numbers, got more",
        ),
        (
            vectors,
            "p.txt",
            "3 2\na 1 2\n",
            "promises 3 vectors, but the file has 1",
        ),
        (
            vectors,
            "q.txt",
            "a 1 inf\n",
            "line 1: expected a word and 2 numbers, got \"inf\"",
        ),
        (vectors, "r.txt", "alone\n", "line 1: expected a word and its numbers"),
        (vectors, "s.txt", "", "line 1"),
        (vectors, "t.txt", "9 99999999999999\na 1\n", "line 2: expected a word"),
    ];
    for (read, name, content, expected) in cases {
        std::fs::write(path(name), content).unwrap();
        let error = read(&path(name)).unwrap_or_else(|| panic!("{name} is bad"));
        let words = error.to_string();
        assert!(words.contains(name) && words.contains(expected), "{words}");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{words}");
    }
    std::fs::write(path("u.txt"), [b'a', b' ', 0xff, b'\n']).unwrap();
    let words = vectors(&path("u.txt")).unwrap().to_string();
    assert!(words.contains("u.txt") && words.contains("offset 2"), "{words}");
}

#[test]
fn report_32_pairs_that_make_too_many_questions_are_refused_with_the_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    let pairs: Vec<[String; 2]> = (0..1025).map(|i| [format!("a{i}"), format!("b{i}")]).collect();
    let write = |count: usize| {
        let section = std::collections::BTreeMap::from([("all", &pairs[..count])]);
        std::fs::write(&path, serde_json::to_string(&section).unwrap()).unwrap();
        Analogies::read(&path, false)
    };
    let said = write(1025).unwrap_err().to_string();
    assert!(
        said.contains("make 1049600 questions") && said.contains("1048576"),
        "{said}"
    );
    assert!(write(50).is_ok());
}

#[test]
fn report_32_tests_of_words_are_refused_at_the_line_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    let read = |lines: usize| {
        std::fs::write(&path, ["word1,word2,similarity\n", &"a,b,1\n".repeat(lines)].concat()).unwrap();
        WordPairs::read(&path, false)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let said = read(1 << 20).unwrap_err();
    assert!(said.contains("a.csv: line 1048577: more than 1048576 lines"), "{said}");
    std::fs::write(&path, "a b c d\n".repeat((1 << 20) + 1)).unwrap();
    let said = Analogies::read(&path, false).unwrap_err().to_string();
    assert!(said.contains("more than 1048576 lines"), "{said}");
}
