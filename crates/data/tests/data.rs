//! From texts to batches, through the public interface.

mod data {
    mod batches;
    mod conversations;
    mod corpora;
    mod examples;
    mod hostile;
    mod inputs;
    mod layouts;
    mod lost_answers;
    mod masking;
    mod mixture;
    mod odd_rows;
    mod pairs;
    mod parquet_rows;
    mod reports_txt;
    mod shards;
    mod skeletons;
    mod tokenizing;
    mod tools;

    use std::path::{Path, PathBuf};

    use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};

    /// A tokenizer trained on `text`.
    pub fn train(kind: Kind, vocab_size: usize, text: &str) -> Tokenizer {
        TrainerConfig::new(kind, vocab_size)
            .train([text])
            .expect("a tokenizer from good text")
    }

    /// A tokenizer with one token per character, and an end-of-text token.
    pub fn characters(text: &str) -> Tokenizer {
        let mut config = TrainerConfig::new(Kind::Char, 300);
        config.special_tokens = vec!["<|endoftext|>".to_owned()];
        config.train([text]).expect("a tokenizer from good text")
    }

    pub fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a writable folder");
        std::fs::write(&path, content).expect("a writable folder");
        path
    }

    /// The message of an error, which must hold all of `parts`.
    #[track_caller]
    pub fn assert_says<T: std::fmt::Debug>(result: taal_data::Result<T>, parts: &[&str]) {
        let message = result.expect_err("this input must be refused").to_string();
        for part in parts {
            assert!(message.contains(part), "`{message}` does not say `{part}`");
        }
    }
}
