//! Conversations with the same roles are rendered once each, and are trained as if each was alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use taal_data::{ChatFormat, Marked, Message};
use taal_tokenizer::chat::{ChatTemplate, Json};

use super::assert_says;
use super::layouts::{formatted, shown, template, templated};

const TURNS: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}\
                     {% if add_generation_prompt %}<|assistant|>{% endif %}";

const MARKED: &str = "{% for m in messages %}{% if m.role == 'assistant' %}>{% generation %}{{ m.content | trim }}/{% endgeneration %}\
                      {% else %}[{{ m.content }}]{% endif %}{% endfor %}";

/// Takes a thought out of an answer, as templates of reasoning models do.
const SPLITS: &str =
    "{% for m in messages %}[{{ m.content.split('</t>')[-1] }}]{% endfor %}{% if add_generation_prompt %}[{% endif %}";

fn row(said: &[&str]) -> String {
    let messages: Vec<String> = said
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let role = ["user", "assistant"][index % 2];
            format!("{{\"role\": \"{role}\", \"content\": {text:?}}}")
        })
        .collect();
    format!("{{\"messages\": [{}]}}\n", messages.join(", "))
}

/// Counts how often a template is rendered.
#[derive(Debug)]
struct Counting(ChatTemplate, Arc<AtomicUsize>);

impl ChatFormat for Counting {
    fn render(&self, messages: &[Message], tools: &[Json], with_answer_start: bool) -> Result<String, String> {
        self.1.fetch_add(1, Ordering::Relaxed);
        ChatFormat::render(&self.0, messages, tools, with_answer_start)
    }

    fn marked(&self, messages: &[Message], tools: &[Json]) -> Result<Marked, String> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.marked(messages, tools)
    }
}

#[test]
fn of_many_conversations_with_the_same_roles_all_but_two_are_rendered_once() {
    for source in [TURNS, MARKED] {
        let rows: Vec<String> = (0..100)
            .map(|index| row(&[&format!("vraag {index}?"), &format!("zeg {index}")]))
            .collect();
        let renders = Arc::new(AtomicUsize::new(0));
        let counting = Counting(template(source), renders.clone());
        formatted(counting, "a.jsonl", &rows.concat(), 256).unwrap();
        let count = renders.load(Ordering::Relaxed);
        assert!((100..=110).contains(&count), "{count} renderings");
    }
}

#[test]
fn a_conversation_among_others_with_its_roles_is_trained_as_alone() {
    let rows = [
        row(&["hoi?", "ja"]),
        row(&["en?", "nee"]),
        row(&["zeg ja of nee: is ja een woord?", "ja"]),
        row(&["een", "twee", "drie", "vier"]),
        row(&["vier", "vier", "vier", "vier"]),
        row(&[" hoi? ", "ja"]),
        row(&["hoi?", " ja\n"]),
        row(&["", "ja"]),
        row(&["wat is het einde?", "end"]),
        row(&["hoi?", "eerst</t>ja"]),
        row(&["a</t>b", "ja"]),
        row(&[" en?\n", " b ", "c ", "d"]),
    ];
    let all = [rows.clone(), rows.clone(), rows].concat();
    for source in [TURNS, MARKED, SPLITS] {
        let alone: Vec<String> = all
            .iter()
            .flat_map(|row| match templated(source, row) {
                Ok(found) => shown(&found),
                Err(_) => Vec::new(),
            })
            .collect();
        let read: Vec<String> = all
            .iter()
            .filter(|row| templated(source, row).is_ok())
            .cloned()
            .collect();
        assert_eq!(shown(&templated(source, &read.concat()).unwrap()), alone, "{source}");
        assert!(alone.len() >= 30, "{source}");
    }
}

#[test]
fn an_answer_that_is_lost_after_many_with_its_roles_that_are_not_is_refused_by_its_line() {
    let forgets = "{% for m in messages %}[{{ 'a lot' if 'lot' in m.content else m.content }}]{% endfor %}";
    let good = row(&["hoi?", "ja"]).repeat(9);
    assert_eq!(templated(forgets, &good).unwrap().counts.examples, 9);
    assert_says(
        templated(forgets, &(good.clone() + &row(&["hoi?", "een lot"]))),
        &["a.jsonl, line 10", "loses message 2"],
    );
    let refuses = "{% for m in messages %}{% if 'niet' in m.content %}{{ raise_exception('niet') }}{% endif %}\
                   [{{ m.content }}]{% endfor %}";
    assert_says(
        templated(refuses, &(good + &row(&["niet?", "ja"]))),
        &["a.jsonl, line 10", "niet"],
    );
}
