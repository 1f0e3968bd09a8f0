//! A server with a tiny model of random weights, and one question to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use burn::tensor::Device;
use taal_inference::{EngineOptions, LanguageModel};
use taal_model::{ModelSize, TransformerConfig};
use taal_server::{ServedModel, Server, ServerOptions};
use taal_tokenizer::{Kind, TrainerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tokenizer = TrainerConfig::new(Kind::Char, 100).train(["the cat sat on the mat"])?;
    let model = TransformerConfig::llama(ModelSize {
        vocab_size: tokenizer.vocab_size(),
        max_seq_len: 64,
        n_layers: 2,
        n_heads: 4,
        d_model: 32,
    });
    let lm = LanguageModel::new(model.init(42, &Device::flex())?, Some(tokenizer));
    let model = ServedModel::start("tiny", Arc::new(lm), EngineOptions::default())?;
    let options = ServerOptions {
        port: 0,
        ..ServerOptions::default()
    };
    let server = Server::bind(vec![model], options)?;
    let (address, stopper) = (server.address(), server.stopper());
    let running = std::thread::spawn(move || server.run());

    let body = r#"{"prompt": "the cat", "max_tokens": 20, "seed": 1}"#;
    let mut client = TcpStream::connect(address)?;
    write!(
        client,
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    println!("{answer}");

    stopper.stop();
    running.join().map_err(|_| "the server ended badly")?;
    Ok(())
}
