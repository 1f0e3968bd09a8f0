//! `taal chat`: a conversation in the terminal, or a text that goes on.

mod command;
mod input;
mod talk;

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use taal_inference::{InferenceError, check_causal};

use self::command::{HELP, Typed};
use self::input::{Input, Next};
use self::talk::Talk;
use crate::arguments::ChatArguments;
use crate::failure::{Failure, INTERRUPTED};
use crate::{models, terminal};

static IS_ANSWERING: AtomicBool = AtomicBool::new(false);
static IS_STOPPED: AtomicBool = AtomicBool::new(false);

/// Talks until the input ends.
pub fn run(arguments: &ChatArguments) -> Result<(), Failure> {
    arguments.sampling.sampling().validate()?;
    arguments.draft.validate()?;
    let lm = models::open_adapted_with(
        &arguments.model,
        arguments.device.device,
        &arguments.adapter,
        arguments.weights,
    )?;
    let lm = models::with_cache(lm, arguments.cache)?;
    check_causal(&lm.model, "a chat")?;
    if lm.tokenizer.is_none() {
        return Err(InferenceError::NoTokenizer { purpose: "a chat" }.into());
    }
    let speculation = arguments.draft.open(arguments.device.device, &lm, &arguments.model)?;
    ctrlc::set_handler(|| {
        // Ctrl-C stops the answer under way; without one, or a second time, the program.
        if !IS_ANSWERING.load(Ordering::SeqCst) || IS_STOPPED.swap(true, Ordering::SeqCst) {
            exit(i32::from(INTERRUPTED));
        }
    })?;
    let mut input = Input::open()?;
    let mut talk = Talk::new(&lm, arguments, speculation)?;
    talk.greet(&terminal::model_name(&arguments.model), input.is_terminal());
    loop {
        let said = match input.next("> ")? {
            Next::End => break,
            Next::Interrupted => {
                terminal::message("/quit or Ctrl-D ends the chat");
                continue;
            }
            Next::Message(said) => said,
        };
        let done = match Typed::of(&said) {
            Ok(Typed::Quit) => break,
            Ok(typed) => act(&mut talk, typed),
            Err(sentence) => Err(anyhow::anyhow!(sentence).into()),
        };
        match done {
            // A script must see that something went wrong; a person reads it and tries again.
            Err(failure) if input.is_terminal() && !failure.is_broken_pipe() => {
                failure.report();
            }
            done => done?,
        }
    }
    Ok(())
}

fn act(talk: &mut Talk<'_>, typed: Typed) -> Result<(), Failure> {
    match typed {
        Typed::Text(text) => talk.say(text),
        Typed::System(text) => talk.system(text),
        Typed::Regenerate => talk.regenerate(),
        Typed::New => {
            talk.begin_again();
            Ok(())
        }
        Typed::Save(path) => talk.save(&path),
        Typed::Stats => Ok(terminal::print(&talk.stats())?),
        Typed::Help => Ok(terminal::print(HELP)?),
        Typed::Quit => Ok(()),
    }
}

/// Runs an answer that Ctrl-C may stop.
fn answering<T>(answer: impl FnOnce() -> T) -> T {
    IS_STOPPED.store(false, Ordering::SeqCst);
    IS_ANSWERING.store(true, Ordering::SeqCst);
    let answered = answer();
    IS_ANSWERING.store(false, Ordering::SeqCst);
    answered
}

/// Whether Ctrl-C has stopped the answer.
fn is_stopped() -> bool {
    IS_STOPPED.load(Ordering::SeqCst)
}
