//! Training: against PyTorch, against itself after an interruption, and against bad recipes.

mod against_pytorch;
mod bad_recipes;
#[cfg(feature = "faults")]
mod faults;
mod from_rust;
mod keys;
mod masked;
mod old_runs;
mod pages;
mod precision;
mod recipes;
mod reports_data;
mod reports_run;
mod run_list;
mod runs;
mod watchers;
