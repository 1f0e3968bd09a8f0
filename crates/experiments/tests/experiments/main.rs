//! Experiments: what they measure, and which recipes they refuse.

mod forecasts;
mod green;
mod paradigm;
mod transfer;
