//! Tests on golden files and on tiny models with random weights.

#[path = "evaluation/choices.rs"]
mod choices;
#[path = "evaluation/pairs.rs"]
mod pairs;
#[path = "evaluation/reports_encoders.rs"]
mod reports_encoders;
#[path = "evaluation/scoring.rs"]
mod scoring;
#[path = "../../inference/tests/inference/tiny.rs"]
#[allow(dead_code)]
mod tiny;
#[path = "evaluation/words.rs"]
mod words;
