//! `taal`: train, generate, evaluate and look inside language models from the command line.
//!
//! Each verb is a module that parses nothing and decides little: it takes what [`arguments`] parsed, calls one library
//! function and prints. Data goes to standard output, progress and messages to standard error.

// Comments on arguments are the help on a terminal, where `[MASK]` and `<recipe>` are text.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]

mod adapter;
mod allocator;
mod arguments;
mod bench;
mod card;
mod chat;
mod columns;
mod data;
mod doctor;
mod dry_run;
mod embed;
mod embeddings;
mod energy;
mod evaluate;
mod exchange;
mod failure;
mod fill;
mod gaps;
mod generate;
mod glossary;
mod hints;
mod inspect;
mod models;
mod preview;
mod progress;
mod recipes;
mod replay;
mod runs;
mod serve;
mod shell;
mod signals;
mod standard_input;
mod terminal;
mod tokenizer;
mod trace;
mod train;
mod transfer;
mod translate;
mod usage;

use std::process::ExitCode;

use clap::FromArgMatches;

use crate::arguments::{
    AdapterCommand, Arguments, BenchCommand, Command, DataCommand, EmbeddingsCommand, EnergyCommand, TokenizerCommand,
};
use crate::failure::Failure;

fn main() -> ExitCode {
    let matches = arguments::command().try_get_matches();
    let arguments = match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => return terminal::explain(&error, arguments::command()),
    };
    match run(arguments.command) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    let done = match command {
        // Training, and a program that is watched, can end in a way that is neither done nor failed.
        Command::Train(arguments) => return train::run(&arguments),
        Command::Finetune(arguments) => {
            arguments.check_budgets()?;
            return train::run(&arguments.into());
        }
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Chat(arguments) => chat::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Translate(arguments) => translate::run(&arguments),
        Command::Fill(arguments) => fill::run(&arguments),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Embed(arguments) => embed::run(&arguments),
        Command::Similar(arguments) => embed::similar(&arguments),
        Command::Embeddings(arguments) => match arguments.command {
            EmbeddingsCommand::Score(arguments) => embeddings::score(&arguments),
            EmbeddingsCommand::Plot(arguments) => embeddings::plot(&arguments),
        },
        Command::Eval(arguments) => evaluate::run(&arguments),
        Command::Adapter(arguments) => match arguments.command {
            AdapterCommand::List(arguments) => adapter::list(&arguments),
            AdapterCommand::Merge(arguments) => adapter::merge(&arguments),
            AdapterCommand::Diff(arguments) => adapter::diff(&arguments),
        },
        Command::Card(arguments) => card::run(&arguments),
        Command::Import(arguments) => exchange::import(&arguments),
        Command::Export(arguments) => exchange::export(&arguments),
        Command::Tokenizer(arguments) => match arguments.command {
            TokenizerCommand::Train(arguments) => tokenizer::train(&arguments),
            TokenizerCommand::Encode(arguments) => tokenizer::encode(&arguments),
            TokenizerCommand::Decode(arguments) => tokenizer::decode(&arguments),
            TokenizerCommand::Import(arguments) => tokenizer::import(&arguments),
            TokenizerCommand::Compounds(arguments) => tokenizer::compounds(&arguments),
        },
        Command::Data(arguments) => match arguments.command {
            DataCommand::Build(arguments) => data::build(&arguments),
            DataCommand::Preview(arguments) => preview::run(&arguments),
        },
        Command::Recipes(arguments) => recipes::run(&arguments),
        Command::Runs(arguments) => runs::run(&arguments),
        Command::Bench(arguments) => match arguments.command {
            BenchCommand::Train(arguments) => bench::train(&arguments),
            BenchCommand::Generate(arguments) => bench::generate(&arguments),
            BenchCommand::Serve(arguments) => bench::serve(&arguments),
            BenchCommand::Paradigm(arguments) => bench::paradigm(&arguments),
            BenchCommand::Transfer(arguments) => transfer::run(&arguments),
            BenchCommand::Meter(arguments) => energy::bench_meter(&arguments),
            BenchCommand::Forecast(arguments) => energy::bench_forecast(&arguments),
            BenchCommand::Speedrun(arguments) => energy::bench_speedrun(&arguments),
            BenchCommand::Green(arguments) => energy::bench_green(&arguments),
        },
        Command::Energy(arguments) => match arguments.command {
            EnergyCommand::Watch(arguments) => return energy::watch(&arguments),
            EnergyCommand::Estimate(arguments) => energy::estimate(&arguments),
            EnergyCommand::Calibrate(arguments) => energy::calibrate(&arguments),
            EnergyCommand::Selftest(arguments) => energy::selftest(&arguments),
        },
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Glossary(arguments) => glossary::run(&arguments),
        Command::Completions(arguments) => shell::completions(&arguments),
        Command::Man(arguments) => shell::man(&arguments),
        Command::Version => terminal::print(&format!("taal {}\n", env!("CARGO_PKG_VERSION"))).map_err(Failure::from),
    };
    done.map(|()| ExitCode::SUCCESS)
}
