//! Trains a transformer and an LSTM on the embedded recipe `names`, each for a second, and prints their losses. `cargo
//! run -p taal-experiments --example compare_networks`

use taal_experiments::paradigm::{ParadigmOptions, compare};
use taal_trainer::{DeviceSpec, RecipeText, Silent, resolve};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let resolved = resolve(&RecipeText::find("names")?, &[])?;
    let options = ParadigmOptions {
        seconds: 1.0,
        rates: vec![1.0],
        lengths: vec![16],
        copy_steps: 10,
        ..ParadigmOptions::default()
    };
    let figures = compare(&resolved.recipe, DeviceSpec::Flex, &options, &mut Silent)?;
    for network in &figures.networks {
        let trained = network.after_equal_tokens;
        println!(
            "{:<12} {} parameters, {} steps: {:.3} nats per token",
            network.name, network.params, trained.steps, trained.val_loss
        );
    }
    Ok(())
}
