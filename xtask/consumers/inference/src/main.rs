//! A user of the crate: serves three prompts of different lengths in one batch, from a thread that owns the model, and
//! stops one of them early.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use burn::tensor::Device;
use taal_inference::{FinishReason, GenerateOptions, Generation, Generator, LanguageModel, Prompt, SequenceId};
use taal_model::{ModelSize, TransformerConfig};
use taal_tokenizer::{Kind, TrainerConfig};

/// A request to the server.
enum Act {
    Ask(usize, String),
    /// Stops a request.
    Stop(usize),
}

/// A reply of the server.
enum Reply {
    Text(usize, String),
    End(usize, Generation),
}

fn serve(
    mut generator: Generator,
    acts: &Receiver<Act>,
    replies: &Sender<Reply>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut clients = BTreeMap::<SequenceId, usize>::new();
    let mut is_open = true;
    while is_open || generator.is_running() {
        // Waits only if there is nothing to do.
        let act = match generator.is_running() {
            true => acts.try_recv(),
            false => acts.recv().map_err(|_| TryRecvError::Disconnected),
        };
        match act {
            Ok(Act::Ask(client, text)) => {
                let options = GenerateOptions {
                    max_tokens: 24,
                    ..GenerateOptions::default()
                };
                clients.insert(generator.add(&Prompt::Text(text), options)?, client);
                continue;
            }
            Ok(Act::Stop(client)) => {
                if let Some((&id, _)) = clients.iter().find(|(_, of)| **of == client)
                    && let Some(generation) = generator.cancel(id)?
                {
                    replies.send(Reply::End(client, generation))?;
                }
            }
            Err(TryRecvError::Empty) => (),
            Err(TryRecvError::Disconnected) => is_open = false,
        }
        for progress in generator.step()? {
            let client = clients[&progress.id];
            replies.send(Reply::Text(client, progress.text))?;
            if let Some(generation) = progress.finished {
                replies.send(Reply::End(client, generation))?;
            }
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let tokenizer = TrainerConfig::new(Kind::Char, 100).train(["the cat sat on the mat; how are you?"])?;
    let model = TransformerConfig::llama(ModelSize {
        vocab_size: tokenizer.vocab_size(),
        max_seq_len: 64,
        n_layers: 2,
        n_heads: 4,
        d_model: 32,
    })
    .init(42, &Device::flex())?;
    let generator = Generator::new(Arc::new(LanguageModel::new(model, Some(tokenizer))), 3)?;
    let (act, acts) = channel();
    let (reply, replies) = channel();
    let server = thread::spawn(move || serve(generator, &acts, &reply));

    for (client, prompt) in ["the cat sat on", "how are you?", "a"].into_iter().enumerate() {
        act.send(Act::Ask(client, prompt.to_owned()))?;
    }
    let mut texts = vec![String::new(); 3];
    let mut ends = BTreeMap::new();
    let mut act = Some(act);
    for reply in replies {
        match reply {
            Reply::Text(client, text) => texts[client].push_str(&text),
            Reply::End(client, generation) => {
                ends.insert(client, generation);
            }
        }
        // The second client stops.
        if texts[1].len() >= 5
            && let Some(act) = act.take()
        {
            act.send(Act::Stop(1))?;
        }
    }
    server
        .join()
        .map_err(|_| "the server's thread ended badly")?
        .map_err(|error| error.to_string())?;

    assert_eq!(ends[&1].finish_reason, FinishReason::Cancelled);
    assert!(ends[&1].token_ids.len() < 24);
    for (client, text) in texts.iter().enumerate() {
        assert_eq!(ends[&client].text.as_deref(), Some(text.as_str()));
    }
    assert_eq!([ends[&0].token_ids.len(), ends[&2].token_ids.len()], [24, 24]);
    println!(
        "inference: three texts in one batch, the second stopped after {} tokens",
        ends[&1].token_ids.len()
    );
    Ok(())
}
