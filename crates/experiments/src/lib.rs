//! Experiments that train several models in the same way and compare what they learn.
//!
//! [`paradigm`] trains a recurrent network and a transformer on one recipe, with equal time and with equal tokens.
//! [`transfer`] trains a task from new weights and from a pre-trained model, with equal compute. [`green`] compares what
//! variants of a recipe take in time and energy, and [`forecasts`] says whether forecasts of many short runs came true.
//! Each experiment is one module: options in, figures out. Drawing the figures is left to the caller.
//!
//! ```no_run
//! use taal_experiments::paradigm::{ParadigmOptions, compare};
//! use taal_trainer::{DeviceSpec, RecipeText, Silent, resolve};
//!
//! let resolved = resolve(&RecipeText::find("names")?, &[])?;
//! let figures = compare(&resolved.recipe, DeviceSpec::Flex, &ParadigmOptions::default(), &mut Silent)?;
//! for network in &figures.networks {
//!     println!("{}: {:.3} nats per token", network.name, network.after_equal_tokens.val_loss);
//! }
//! # Ok::<(), taal_trainer::TrainError>(())
//! ```

pub mod forecasts;
pub mod green;
pub mod paradigm;
pub mod transfer;
