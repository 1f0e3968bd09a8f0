//! An HTTP server in front of language models, with the addresses and the shapes of OpenAI's interface, so that existing clients work.
//!
//! A [`Server`] is bound to an address with some [`ServedModel`]s, and then runs until its [`Stopper`] says so. Each causal model has an
//! [`Engine`](taal_inference::Engine), a thread of its own: requests share its passes, and each answer is the one that the request
//! would get alone. Connections are tasks of tokio with time limits for slow clients; axum routes their requests.
//!
//! What is refused: prompts that do not fit (nothing is cut in silence), bodies beyond a limit, fields of a wrong type or value, by
//! name. No request names a file, and the server connects to nowhere.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use std::sync::Arc;
//! use burn::tensor::Device;
//! use taal_inference::{EngineOptions, LanguageModel};
//! use taal_model::{ModelSize, TransformerConfig};
//! use taal_server::{ServedModel, Server, ServerOptions};
//!
//! let size = ModelSize { vocab_size: 50, max_seq_len: 16, n_layers: 2, n_heads: 4, d_model: 32 };
//! let model = TransformerConfig::llama(size).init(42, &Device::flex())?;
//! let model = ServedModel::start("tiny", Arc::new(LanguageModel::new(model, None)), EngineOptions::default())?;
//! let options = ServerOptions { port: 0, ..ServerOptions::default() };
//! let server = Server::bind(vec![model], options)?;
//! let (address, stopper) = (server.address(), server.stopper());
//! let running = std::thread::spawn(move || server.run());
//!
//! let mut client = TcpStream::connect(address)?;
//! client.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert!(answer.starts_with("HTTP/1.1 200"));
//! stopper.stop();
//! assert!(running.join().expect("no panic"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answering;
mod api;
mod app;
mod body;
mod connection;
mod conversations;
mod energy;
mod error;
mod failure;
mod form;
mod metrics;
mod model;
mod page;
mod parse;
mod router;
mod server;
mod shapes;
mod socket;
mod sse;

pub use error::{Result, ServerError};
pub use model::ServedModel;
pub use router::RequestRecord;
pub use server::{Server, ServerOptions, Stopper};
