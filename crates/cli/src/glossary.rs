//! `taal glossary`: the words that training, reports and traces use, explained in English and Dutch. `docs/glossary.md` is made from
//! the same table.

use taal_draw::Language;

use crate::arguments::GlossaryArguments;
use crate::failure::Failure;
use crate::{columns, terminal};

/// Columns of an explanation on a terminal.
const COLUMNS: usize = 76;

/// How alike two words must be, from 0 to 1, to mean the same term: a plural, a slip.
const ALIKE: f64 = 0.9;

/// A word of the field.
struct Term {
    /// In English, then in Dutch, where people say both.
    names: [&'static str; 2],
    /// Other spellings and related words under which it is found.
    also: &'static [&'static str],
    /// In English, then in Dutch.
    meanings: [&'static str; 2],
}

impl Term {
    fn name(&self, language: Language) -> &'static str {
        self.names[index(language)]
    }

    fn meaning(&self, language: Language) -> &'static str {
        self.meanings[index(language)]
    }

    fn is_called(&self, word: &str) -> bool {
        let mut names = self.names.iter().chain(self.also);
        names.any(|name| name.to_lowercase() == word)
    }
}

fn index(language: Language) -> usize {
    match language {
        Language::English => 0,
        Language::Dutch => 1,
    }
}

/// Prints one word or all of them.
pub fn run(arguments: &GlossaryArguments) -> Result<(), Failure> {
    let language = arguments.language.language();
    if arguments.words.is_empty() {
        let all: Vec<String> = TERMS.iter().map(|term| entry(term, language)).collect();
        return Ok(terminal::print(&all.join("\n"))?);
    }
    let word = arguments.words.join(" ").to_lowercase();
    let found = TERMS.iter().find(|term| term.is_called(&word));
    let Some(term) = found.or_else(|| nearest(&word)) else {
        return Err(unknown(&word, language));
    };
    Ok(terminal::print(&entry(term, language))?)
}

/// The term with the most similar name.
fn nearest(word: &str) -> Option<&'static Term> {
    // Comparing long texts takes long, and no term is one.
    if word.len() > 64 {
        return None;
    }
    let alike = |term: &Term| {
        let names = term.names.iter().chain(term.also);
        names
            .map(|name| strsim::jaro_winkler(&name.to_lowercase(), word))
            .fold(0.0, f64::max)
    };
    let best = TERMS
        .iter()
        .max_by(|left, right| alike(left).total_cmp(&alike(right)))?;
    (alike(best) >= ALIKE).then_some(best)
}

fn unknown(word: &str, language: Language) -> Failure {
    let names: Vec<&str> = TERMS.iter().map(|term| term.name(language)).collect();
    let error = anyhow::anyhow!("the glossary has no {}", taal_store::excerpt(word));
    Failure::from(error).with_hint(format!("it has: {}", names.join(", ")))
}

fn entry(term: &Term, language: Language) -> String {
    let words = term.meaning(language).split(' ');
    let lines = columns::folded(words, " ", COLUMNS);
    let mut text = format!("{}\n", term.name(language));
    for line in lines {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

/// In alphabetical order of the English names.
const TERMS: [Term; 34] = [
    Term {
        names: ["attention", "aandacht (attention)"],
        also: &["aandacht", "self-attention", "zelfaandacht"],
        meanings: [
            "The part of a layer in which each token looks at other tokens and takes over information from those that matter to it. How much it takes from each are the attention weights; together they are 1.",
            "Het deel van een laag waarin elk token naar andere tokens kijkt en informatie overneemt van de tokens die ertoe doen. Hoeveel het van elk overneemt, zijn de aandachtsgewichten; samen zijn die 1.",
        ],
    },
    Term {
        names: ["attention head", "aandachtskop (attention head)"],
        also: &["head", "heads", "aandachtskop", "kop"],
        meanings: [
            "Attention is computed several times side by side, each time with weights of its own. Each of these is a head, so that one can follow grammar, say, while another looks at the previous token.",
            "Aandacht wordt meerdere keren naast elkaar berekend, telkens met eigen gewichten. Elk daarvan is een kop: zo kan de ene bijvoorbeeld de grammatica volgen terwijl een andere naar het vorige token kijkt.",
        ],
    },
    Term {
        names: ["batch", "batch"],
        also: &["batch size", "batch_size"],
        meanings: [
            "The rows of text that a model sees in one training step. Larger batches give steadier gradients and need more memory.",
            "De rijen tekst die een model in één trainingsstap ziet. Grotere batches geven rustigere gradiënten en vragen meer geheugen.",
        ],
    },
    Term {
        names: ["beam search", "beam search"],
        also: &["beam", "beams", "beam width"],
        meanings: [
            "A way to find a probable text: in each step the few most probable beginnings are continued with every token, and of all these the most probable are kept. Their number is the width of the beam; with a width of 1 it is the most likely token each time. `taal translate --beam` sets it.",
            "Een manier om een waarschijnlijke tekst te vinden: in elke stap worden de paar waarschijnlijkste beginstukken met elk token verlengd, en daarvan blijven weer de waarschijnlijkste over. Hun aantal is de breedte van de bundel (beam); bij een breedte van 1 is het telkens het waarschijnlijkste token. `taal translate --beam` stelt die in.",
        ],
    },
    Term {
        names: ["bits per byte", "bits per byte"],
        also: &["bits/byte", "bpb", "bits"],
        meanings: [
            "The loss per byte of text, in bits. Unlike loss per token it can be compared between models with different tokenizers. Lower is better; 8 is knowing nothing, and good models reach less than 1 on English.",
            "Het verlies per byte tekst, in bits. Anders dan het verlies per token is het te vergelijken tussen modellen met verschillende tokenizers. Lager is beter: 8 is niets weten, en goede modellen komen bij Engels onder de 1.",
        ],
    },
    Term {
        names: ["BLEU", "BLEU"],
        also: &["sacrebleu"],
        meanings: [
            "A measure of translations, from 0 to 100: how many runs of one to four words they share with translations by people, over a whole text, and less where they are too short. Higher is better. Figures can only be compared for the same texts and the same settings, which the signature names.",
            "Een maat voor vertalingen, van 0 tot 100: hoeveel reeksen van één tot vier woorden ze delen met vertalingen door mensen, over een hele tekst, en minder als ze te kort zijn. Hoger is beter. Cijfers zijn alleen te vergelijken bij dezelfde teksten en dezelfde instellingen, die in de signatuur staan.",
        ],
    },
    Term {
        names: ["checkpoint", "checkpoint"],
        also: &["checkpoints"],
        meanings: [
            "A copy of the model on disk, saved during training, with everything that is needed to continue from there. `taal train --resume` starts from the last one.",
            "Een kopie van het model op schijf, bewaard tijdens het trainen, met alles wat nodig is om vandaar verder te gaan. `taal train --resume` begint bij de laatste.",
        ],
    },
    Term {
        names: ["chrF", "chrF"],
        also: &["chrf2", "chrf++"],
        meanings: [
            "A measure of translations, from 0 to 100: how many runs of one to six characters they share with translations by people. Unlike BLEU it also counts what is right in a word with a wrong ending. Higher is better; chrF++ counts single words and pairs of words as well.",
            "Een maat voor vertalingen, van 0 tot 100: hoeveel reeksen van één tot zes tekens ze delen met vertalingen door mensen. Anders dan bij BLEU telt ook mee wat er goed is aan een woord met een verkeerde uitgang. Hoger is beter; chrF++ telt daarnaast losse woorden en woordparen.",
        ],
    },
    Term {
        names: ["context", "context"],
        also: &[
            "context length",
            "contextlengte",
            "block size",
            "block_size",
            "max_seq_len",
        ],
        meanings: [
            "The tokens that a model can look back on when it predicts the next one. Their largest number, the context length, is a property of the model.",
            "De tokens waarop een model kan terugkijken als het het volgende voorspelt. Het grootste aantal, de contextlengte, is een eigenschap van het model.",
        ],
    },
    Term {
        names: ["cross-attention", "kruisaandacht (cross-attention)"],
        also: &["cross attention", "kruisaandacht"],
        meanings: [
            "Attention from one text to another: in an encoder-decoder, each token of the translation takes over information from the tokens of the source. `taal trace --target` shows which.",
            "Aandacht van de ene tekst naar de andere: in een encoder-decoder neemt elk token van de vertaling informatie over van de tokens van de bron. `taal trace --target` laat zien welke.",
        ],
    },
    Term {
        names: ["embedding", "embedding"],
        also: &["embeddings", "vector", "word vector", "woordvector"],
        meanings: [
            "The list of numbers (vector) that stands for a token or a text inside the model. Tokens that are used alike get vectors that are near each other.",
            "De rij getallen (vector) die binnen het model voor een token of tekst staat. Tokens die op dezelfde manier worden gebruikt, krijgen vectoren die bij elkaar in de buurt liggen.",
        ],
    },
    Term {
        names: ["encoder-decoder", "encoder-decoder"],
        also: &["encoder", "decoder", "encoder_layers", "seq2seq"],
        meanings: [
            "A model of two stacks of layers, for translating: the encoder reads the whole source, and the decoder writes the translation token by token and attends to what the encoder made of it. `model.encoder_layers` in a recipe gives a model an encoder.",
            "Een model van twee stapels lagen, om mee te vertalen: de encoder leest de hele bron, en de decoder schrijft de vertaling token voor token, met aandacht voor wat de encoder ervan heeft gemaakt. `model.encoder_layers` in een recept geeft een model een encoder.",
        ],
    },
    Term {
        names: ["epoch", "epoch"],
        also: &["epochs", "pass", "passes", "keer door de tekst"],
        meanings: [
            "One pass over the whole training text. A few passes over a small text are fine; after many, a model learns it by heart instead of learning the language.",
            "Eén keer door de hele trainingstekst. Een paar keer door een kleine tekst kan geen kwaad; na vele keren leert een model de tekst uit zijn hoofd in plaats van de taal.",
        ],
    },
    Term {
        names: ["feed-forward network", "feed-forward-netwerk"],
        also: &["feed-forward", "ffn", "mlp"],
        meanings: [
            "The part of a layer that works on each token alone, after attention has brought information together. Most of a model's parameters are here.",
            "Het deel van een laag dat elk token apart bewerkt, nadat de aandacht informatie bij elkaar heeft gebracht. Hier zitten de meeste parameters van een model.",
        ],
    },
    Term {
        names: ["FLOPs", "FLOPs"],
        also: &["flop"],
        meanings: [
            "Floating-point operations: additions and multiplications. They measure the work of a model, whatever the machine; FLOP/s is how many a machine does per second.",
            "Bewerkingen met kommagetallen: optellen en vermenigvuldigen. Ze geven aan hoeveel rekenwerk een model is, op welke machine ook; FLOP/s is hoeveel een machine er per seconde doet.",
        ],
    },
    Term {
        names: ["gradient", "gradiënt"],
        also: &["gradients", "gradienten", "gradient norm", "grad_norm"],
        meanings: [
            "For each parameter, in which direction and how strongly the loss changes with it. The optimizer moves every parameter a little against it. The gradient norm is the size of all of it as one number.",
            "Voor elke parameter: in welke richting en hoe sterk het verlies ermee verandert. De optimizer schuift elke parameter er een stukje tegenin. De gradiëntnorm is de grootte van het geheel als één getal.",
        ],
    },
    Term {
        names: ["label smoothing", "label smoothing"],
        also: &["label_smoothing", "smoothing"],
        meanings: [
            "In training, a share of each target's probability is spread over the whole vocabulary, so that a model does not learn to be completely sure. Translations often get better and the train loss higher; the validation loss is without it. `train.label_smoothing` sets the share.",
            "Bij het trainen wordt een deel van de kans van elk doeltoken over de hele woordenlijst verdeeld, zodat een model niet leert om volkomen zeker te zijn. Vertalingen worden er vaak beter van en het trainingsverlies hoger; het validatieverlies is zonder. `train.label_smoothing` stelt het deel in.",
        ],
    },
    Term {
        names: ["layer", "laag"],
        also: &["layers", "lagen", "block", "blok"],
        meanings: [
            "One of the equal blocks of which a model is stacked, each with attention and a feed-forward network. What comes out of one goes into the next.",
            "Een van de gelijke blokken waaruit een model is opgestapeld, elk met aandacht en een feed-forward-netwerk. Wat uit de ene komt, gaat de volgende in.",
        ],
    },
    Term {
        names: ["learning rate", "leersnelheid (learning rate)"],
        also: &["lr", "leersnelheid", "warm-up", "warmup", "schedule"],
        meanings: [
            "How far the parameters move in each step. Too high, and training diverges; too low, and it takes forever. A schedule raises it at the start (warm-up) and lowers it toward the end.",
            "Hoe ver de parameters per stap opschuiven. Te hoog en het trainen ontspoort; te laag en het duurt eindeloos. Een schema laat de snelheid eerst oplopen (warm-up) en naar het einde toe dalen.",
        ],
    },
    Term {
        names: ["logit", "logit"],
        also: &["logits", "softmax"],
        meanings: [
            "The score that a model gives each token of its vocabulary as the next one. Softmax turns the scores into probabilities.",
            "De score die een model elk token van zijn woordenlijst geeft als het volgende. Softmax maakt van die scores kansen.",
        ],
    },
    Term {
        names: ["loss", "verlies (loss)"],
        also: &["verlies", "train loss", "cross-entropy"],
        meanings: [
            "How surprised the model is by the token that really came next: minus the logarithm of the probability it gave it, on average. Training makes it smaller. Guessing blindly among V tokens has a loss of ln V.",
            "Hoe verrast het model is door het token dat echt volgde: min de logaritme van de kans die het eraan gaf, gemiddeld. Trainen maakt het kleiner. Blind gokken tussen V tokens geeft een verlies van ln V.",
        ],
    },
    Term {
        names: ["masked language model", "gemaskeerd taalmodel"],
        also: &["masked", "mlm", "mask", "[mask]"],
        meanings: [
            "A model that guesses hidden tokens, written [MASK], from the text on both sides, as BERT does. It fills gaps (`taal fill`) and cannot continue a text.",
            "Een model dat verborgen tokens, geschreven als [MASK], raadt uit de tekst aan beide kanten, zoals BERT. Het vult gaten (`taal fill`) en kan een tekst niet voortzetten.",
        ],
    },
    Term {
        names: ["MFU", "MFU"],
        also: &["utilization", "utilisation", "benutting", "model flops utilization"],
        meanings: [
            "Model FLOPs utilization: the share of the machine's measured computing speed that goes into the model. 40 % is good for training; small models reach less.",
            "Model FLOPs utilization: het deel van de gemeten rekensnelheid van de machine dat in het model gaat zitten. 40 % is goed bij trainen; kleine modellen halen minder.",
        ],
    },
    Term {
        names: ["nats", "nats"],
        also: &["nat", "nats/token"],
        meanings: [
            "The unit of loss with the natural logarithm, as bits are with the logarithm to base 2: 1 nat is 1.44 bits. A loss of 2 nats per token is as uncertain as a fair choice among e^2 = 7.4 tokens.",
            "De eenheid van verlies bij de natuurlijke logaritme, zoals bits dat zijn bij de logaritme met grondtal 2: 1 nat is 1,44 bit. Een verlies van 2 nats per token is even onzeker als een eerlijke keuze uit e^2 = 7,4 tokens.",
        ],
    },
    Term {
        names: ["optimizer", "optimizer"],
        also: &["adamw", "muon"],
        meanings: [
            "The rule by which gradients change the parameters, such as AdamW or Muon. It keeps one or two numbers of its own per parameter, which checkpoints save too.",
            "De regel waarmee gradiënten de parameters veranderen, zoals AdamW of Muon. Hij houdt per parameter een of twee eigen getallen bij, die checkpoints ook bewaren.",
        ],
    },
    Term {
        names: ["overfitting", "overfitting"],
        also: &["overfit", "overaanpassing"],
        meanings: [
            "Learning the training text by heart: train loss still falls while validation loss rises. More text, fewer passes, a smaller model or dropout help.",
            "De trainingstekst uit het hoofd leren: het trainingsverlies daalt nog, terwijl het validatieverlies stijgt. Meer tekst, minder keren erdoor, een kleiner model of dropout helpen.",
        ],
    },
    Term {
        names: ["parameter", "parameter"],
        also: &["parameters", "weight", "weights", "gewicht", "gewichten"],
        meanings: [
            "One of the numbers that training changes, also called a weight. A model of 1 M parameters takes 4 MB in 32-bit numbers.",
            "Een van de getallen die het trainen verandert, ook wel gewicht genoemd. Een model van 1 M parameters is 4 MB in getallen van 32 bits.",
        ],
    },
    Term {
        names: ["perplexity", "perplexiteit"],
        also: &["ppl"],
        meanings: [
            "e to the power of the loss: among how many equally likely tokens the model is choosing, as it were. Lower is better. It can only be compared between models with the same tokenizer.",
            "e tot de macht van het verlies: uit hoeveel even waarschijnlijke tokens het model als het ware kiest. Lager is beter. Het is alleen te vergelijken tussen modellen met dezelfde tokenizer.",
        ],
    },
    Term {
        names: ["recipe", "recept"],
        also: &["recipes", "preset"],
        meanings: [
            "A TOML file that says all about a training run: text, tokenizer, model, steps and rates. `taal recipes` lists those that come along, `taal recipes keys` what can be set.",
            "Een TOML-bestand dat alles zegt over een training: tekst, tokenizer, model, stappen en snelheden. `taal recipes` noemt de meegeleverde, `taal recipes keys` wat je kunt instellen.",
        ],
    },
    Term {
        names: ["residual stream", "residuele stroom (residual stream)"],
        also: &["residual", "residuele stroom", "hidden state", "hidden states"],
        meanings: [
            "The vector per token that runs through all layers. Each layer reads it and adds its result to it; the last one is turned into logits.",
            "De vector per token die door alle lagen loopt. Elke laag leest hem en telt er zijn resultaat bij op; uit de laatste komen de logits.",
        ],
    },
    Term {
        names: ["step", "stap"],
        also: &["steps", "stappen", "iteration"],
        meanings: [
            "One update of the parameters: forward through the model, loss, gradients backward, and a small move by the optimizer.",
            "Eén keer bijwerken van de parameters: vooruit door het model, verlies, gradiënten terug, en een kleine verschuiving door de optimizer.",
        ],
    },
    Term {
        names: ["temperature", "temperatuur"],
        also: &["top-k", "top-p", "sampling"],
        meanings: [
            "How freely a text is drawn from the model's probabilities: 0 always takes the most likely token, 1 follows the probabilities as they are, more makes rare tokens more frequent.",
            "Hoe vrij een tekst uit de kansen van het model wordt getrokken: 0 neemt altijd het waarschijnlijkste token, 1 volgt de kansen zoals ze zijn, en meer maakt zeldzame tokens gewoner.",
        ],
    },
    Term {
        names: ["token", "token"],
        also: &["tokens", "tokenizer", "vocabulary", "woordenlijst", "vocab", "bpe"],
        meanings: [
            "The piece of text that a model reads and writes at a time: a character, part of a word, or a word. The tokenizer cuts text into tokens and numbers them; all tokens it knows are the vocabulary. `taal tokenizer encode --text` shows them.",
            "Het stukje tekst dat een model per keer leest en schrijft: een letter, een deel van een woord of een woord. De tokenizer knipt tekst in tokens en nummert ze; alle tokens die hij kent vormen de woordenlijst. `taal tokenizer encode --text` laat ze zien.",
        ],
    },
    Term {
        names: ["validation loss", "validatieverlies"],
        also: &["validation", "val", "val loss", "validatie"],
        meanings: [
            "The loss on text that was held out of training. It shows whether a model has learned the language or only its training text.",
            "Het verlies op tekst die buiten het trainen is gehouden. Het laat zien of een model de taal heeft geleerd of alleen zijn trainingstekst.",
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/glossary.md`.
    fn page() -> String {
        let mut text = String::from("# Glossary\n\nMade from the table of `taal glossary`, which prints it too.\n");
        for (heading, language) in [("English", Language::English), ("Nederlands", Language::Dutch)] {
            text.push_str(&format!("\n## {heading}\n"));
            for term in &TERMS {
                text.push_str(&format!("\n### {}\n\n", term.name(language)));
                for line in columns::folded(term.meaning(language).split(' '), " ", 116) {
                    text.push_str(&format!("{line}\n"));
                }
            }
        }
        text
    }

    /// `UPDATE=1` rewrites the page.
    #[test]
    fn the_page_of_the_docs_is_the_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/glossary.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, page()).expect("a page");
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
        assert_eq!(stored, page(), "UPDATE=1 renews docs/glossary.md");
    }

    #[test]
    fn every_word_leads_to_one_term_only_and_terms_are_in_order() {
        let mut seen = std::collections::HashMap::new();
        for term in &TERMS {
            let names: std::collections::HashSet<String> = term
                .names
                .iter()
                .chain(term.also)
                .map(|name| name.to_lowercase())
                .collect();
            for name in names {
                let other = seen.insert(name.clone(), term.names[0]);
                assert_eq!(other, None, "{name} leads to {} too", term.names[0]);
            }
        }
        let names: Vec<String> = TERMS.iter().map(|term| term.names[0].to_lowercase()).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn every_meaning_is_one_to_four_sentences() {
        for (term, meaning) in TERMS
            .iter()
            .flat_map(|term| term.meanings.map(|meaning| (term, meaning)))
        {
            let sentences = meaning.matches(". ").count() + 1;
            assert!(
                (1..=4).contains(&sentences) && meaning.ends_with('.'),
                "{}: {meaning}",
                term.names[0]
            );
        }
    }
}
