//! Servers with tiny models.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use taal_inference::{Engine, EngineOptions, EngineStats, LanguageModel};
use taal_model::hugging_face::TranslationFacts;
use taal_model::{EncoderConfig, Initialization, ModelSize, TransformerConfig};
use taal_server::{ServedModel, Server, ServerOptions, Stopper};
use taal_tokenizer::{Kind, TrainerConfig};

/// Tokens that fit the model `tiny`.
pub const CONTEXT: usize = 96;

fn size(vocab_size: usize, max_seq_len: usize) -> ModelSize {
    ModelSize {
        vocab_size,
        max_seq_len,
        n_layers: 2,
        n_heads: 4,
        d_model: 32,
    }
}

fn lm(config: &TransformerConfig, tokenizer: taal_tokenizer::Tokenizer) -> Arc<LanguageModel> {
    let wide = Initialization {
        std: 0.2,
        residual_std: Some(0.2),
    };
    let model = config.init_with(7, wide, &Device::flex()).expect("a model");
    Arc::new(LanguageModel::new(model, Some(tokenizer)))
}

/// Bytes, and merges of a few words.
pub fn causal() -> Arc<LanguageModel> {
    let words = ["the cat sat on the mat and the cat ran to the hat; the rat sat on the cat"];
    let tokenizer = TrainerConfig::new(Kind::Bpe, 280).train(words).expect("a tokenizer");
    let config = TransformerConfig {
        tie_embeddings: false,
        ..TransformerConfig::llama(size(tokenizer.vocab_size(), CONTEXT))
    };
    lm(&config, tokenizer)
}

/// An encoder and a decoder on the tokens of [`causal`].
pub fn translator() -> Arc<LanguageModel> {
    let words = ["the cat sat on the mat and the cat ran to the hat; the rat sat on the cat"];
    let tokenizer = TrainerConfig::new(Kind::Bpe, 280).train(words).expect("a tokenizer");
    let config = TransformerConfig {
        tie_embeddings: false,
        encoder: Some(EncoderConfig { n_layers: 1 }),
        decoder_start: tokenizer.bos_id(),
        ..TransformerConfig::llama(size(tokenizer.vocab_size(), CONTEXT))
    };
    let facts = TranslationFacts {
        from: "en".to_owned(),
        to: "nl".to_owned(),
        prompt: None,
        own_loss: None,
    };
    let wide = Initialization {
        std: 0.2,
        residual_std: Some(0.2),
    };
    let model = config.init_with(9, wide, &Device::flex()).expect("a model");
    Arc::new(LanguageModel::new(model, Some(tokenizer)).with_translation(facts))
}

/// A network without a limit of tokens, whose answers never end by themselves.
pub fn endless() -> Arc<LanguageModel> {
    let tokenizer = TrainerConfig::new(Kind::Char, 100)
        .train(["abcdefgh "])
        .expect("a tokenizer");
    lm(&TransformerConfig::lstm(size(tokenizer.vocab_size(), 16)), tokenizer)
}

pub fn masked() -> Arc<LanguageModel> {
    let words = "the cat sat on the mat and the dog ran to the hat; ".repeat(9);
    let mut trainer = TrainerConfig::new(Kind::WordPiece, 80);
    trainer.special_tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .map(str::to_owned)
        .to_vec();
    let tokenizer = trainer.train([words]).expect("a tokenizer");
    lm(&TransformerConfig::bert(size(tokenizer.vocab_size(), 32)), tokenizer)
}

/// A server that runs until it is dropped.
pub struct Running {
    pub address: SocketAddr,
    pub stopper: Stopper,
    engines: Vec<Arc<Engine>>,
    thread: Option<JoinHandle<bool>>,
}

impl Running {
    /// The figures of the first causal model's engine.
    pub fn stats(&self) -> EngineStats {
        self.engines[0].stats()
    }

    /// Waits for the end; whether all answers were finished.
    pub fn ended(mut self) -> bool {
        self.thread.take().expect("it runs").join().expect("no panic")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn options() -> ServerOptions {
    ServerOptions {
        port: 0,
        stop_timeout: Duration::from_secs(10),
        ..ServerOptions::default()
    }
}

pub fn serve(models: &[(&str, Arc<LanguageModel>)], engine: EngineOptions, options: ServerOptions) -> Running {
    let start = |(name, lm): &(&str, Arc<LanguageModel>)| ServedModel::start(name, lm.clone(), engine.clone());
    let models: Vec<ServedModel> = models.iter().map(|model| start(model).expect("a model")).collect();
    let engines = models.iter().filter_map(ServedModel::engine).collect();
    run(Server::bind(models, options).expect("an address"), engines)
}

/// Runs a server on a thread of its own.
pub fn run(server: Server, engines: Vec<Arc<Engine>>) -> Running {
    Running {
        address: server.address(),
        stopper: server.stopper(),
        engines,
        thread: Some(std::thread::spawn(move || server.run())),
    }
}

/// The model `tiny`, with default settings.
pub fn server() -> Running {
    serve(&[("tiny", causal())], EngineOptions::default(), options())
}

pub fn until(is_met: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !is_met() {
        assert!(Instant::now() < limit, "it does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}
