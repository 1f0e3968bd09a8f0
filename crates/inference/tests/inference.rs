//! What the crate promises, on tiny models with drawn weights.

#[path = "inference/choices.rs"]
mod choices;
#[path = "inference/decoding.rs"]
mod decoding;
#[path = "inference/embedding.rs"]
mod embedding;
#[path = "inference/exchange.rs"]
mod exchange;
#[path = "inference/generation.rs"]
mod generation;
#[path = "inference/opening.rs"]
mod opening;
#[path = "inference/pairs.rs"]
mod pairs;
#[path = "inference/reports_encoders.rs"]
mod reports_encoders;
#[path = "inference/reports_generate.rs"]
mod reports_generate;
#[path = "inference/reports_import.rs"]
mod reports_import;
#[path = "inference/reports_words.rs"]
mod reports_words;
#[path = "inference/sampling.rs"]
mod sampling;
#[path = "inference/scoring.rs"]
mod scoring;
#[path = "inference/scripted.rs"]
mod scripted;
#[path = "inference/stopping.rs"]
mod stopping;
#[path = "inference/tiny.rs"]
mod tiny;
#[path = "inference/together.rs"]
mod together;
#[path = "inference/words.rs"]
mod words;
