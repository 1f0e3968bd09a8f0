//! Training: against PyTorch, against itself after an interruption, and against bad recipes.

mod against_pytorch;
mod recipes;
mod runs;
