//! Experiments: what they measure, and which recipes they refuse.

mod paradigm;
mod transfer;
