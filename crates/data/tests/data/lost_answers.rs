//! Answers that a chat template loses, although their letters are somewhere in its text.

use super::assert_says;
use super::layouts::{shown, templated};

fn row(question: &str, answer: &str) -> String {
    format!(
        "{{\"messages\": [{{\"role\": \"user\", \"content\": {question:?}}}, {{\"role\": \"assistant\", \"content\": {answer:?}}}]}}\n"
    )
}

/// A question that has its answer in it.
fn yes() -> String {
    row("zeg ja of nee: is ja een woord?", "ja")
}

#[test]
fn an_answer_that_only_the_question_has_is_lost_and_refused_by_line() {
    let drops = "{% for m in messages %}{% if m.role == 'user' %}U: {{ m.content }}\n{% endif %}{% endfor %}\
                 {% if add_generation_prompt %}A:{% endif %}";
    let content = row("hoi?", "dag").repeat(2) + &yes();
    // The first row would be refused by a search of its text too.
    assert_says(
        templated(drops, &content),
        &["a.jsonl, line 1", "loses message 2", "dag"],
    );
    assert_says(templated(drops, &yes()), &["a.jsonl, line 1", "loses message 2", "ja"]);
}

#[test]
fn a_thought_that_an_answer_begins_with_when_the_model_is_asked_leaves_the_question_unlearned() {
    let thinks = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}\
                  {% if add_generation_prompt %}<|assistant|>\n<think>\n{% endif %}";
    assert_eq!(
        shown(&templated(thinks, &yes()).unwrap()),
        ["<|user|>\nzeg ja of nee: is ja een woord?<|end|>\n<|assistant|>\n{ja<|end|>$}"]
    );
    // A row that has its thought is learned from where the model is asked to continue.
    assert_eq!(
        shown(&templated(thinks, &row("ja?", "<think>\neen\n</think>\nja")).unwrap()),
        ["<|user|>\nja?<|end|>\n<|assistant|>\n<think>\n{een\n</think>\nja<|end|>$}"]
    );
}

#[test]
fn a_template_that_splits_an_answer_where_its_thought_ends_still_has_it() {
    // As Qwen3's: the last answer has a thought, an empty one if need be.
    let splits = "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}\
                  {% set thought = '' %}{% set said = m.content %}\
                  {% if '</think>' in m.content %}\
                  {% set thought = m.content.split('</think>')[0].split('<think>')[-1] %}\
                  {% set said = m.content.split('</think>')[-1] %}{% endif %}\
                  <think>{{ thought }}</think>{{ said }}{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}\
                  {% if add_generation_prompt %}<|assistant|>{% endif %}";
    assert_eq!(
        shown(&templated(splits, &row("ja?", "<think>een</think>ja")).unwrap()),
        ["<|user|>ja?<|end|><|assistant|>{<think>een</think>ja<|end|>$}"]
    );
    assert_eq!(
        shown(&templated(splits, &yes()).unwrap()),
        ["<|user|>zeg ja of nee: is ja een woord?<|end|><|assistant|>{<think></think>ja<|end|>$}"]
    );
}

#[test]
fn an_answer_whose_letters_are_in_the_markup_alone_is_lost() {
    let end = row("wat is het einde?", "end");
    let empty = "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'user' %}{{ m.content }}{% endif %}<|end|>\n{% endfor %}\
                 {% if add_generation_prompt %}<|assistant|>{% endif %}";
    assert_says(templated(empty, &end), &["a.jsonl, line 1", "loses message 2", "end"]);
    let marks = |written: &str| {
        format!(
            "{{% for m in messages %}}<|{{{{ m.role }}}}|>{{% if m.role == 'assistant' %}}{{% generation %}}{written}<|end|>\
             {{% endgeneration %}}{{% else %}}{{{{ m.content }}}}<|end|>{{% endif %}}{{% endfor %}}"
        )
    };
    assert_eq!(
        shown(&templated(&marks("{{ m.content }}"), &end).unwrap()),
        ["<|user|>wat is het einde?<|end|><|assistant|>{end<|end|>$}"]
    );
    // A key that no message has is nothing in Jinja.
    assert_says(
        templated(&marks("{{ m.contents }}"), &end),
        &["a.jsonl, line 1", "loses message 2", "generation"],
    );
    // What is written, but not where the marks are, is not learned.
    let outside = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}\
                   {% generation %}<|end|>{% endgeneration %}{% endif %}{% endfor %}";
    assert_says(templated(outside, &end), &["loses message 2", "generation"]);
}

#[test]
fn an_answer_that_is_one_of_the_stand_ins_is_found() {
    let plain = "{% for m in messages %}[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}[{% endif %}";
    for word in ["answer", "reply", "a", "y"] {
        assert_eq!(
            shown(&templated(plain, &row(word, word)).unwrap()),
            [format!("[{word}][{{{word}]$}}")]
        );
    }
}
