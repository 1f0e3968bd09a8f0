//! Chat templates: equal to transformers' `apply_chat_template`, and bounded.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use taal_store::ErrorKind;
use taal_tokenizer::chat::{self, ChatFiles, ChatInput, Json, Message};
use taal_tokenizer::{Error, Kind, Tokenizer, TrainerConfig};

use crate::golden;

#[derive(Deserialize)]
struct Expected {
    now: u64,
    conversations: BTreeMap<String, Vec<Message>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    options: Options,
    text: Option<String>,
    #[serde(default)]
    ids: Vec<u32>,
    #[serde(default)]
    generated: Vec<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    tools: Vec<Json>,
    add_generation_prompt: Option<bool>,
    #[serde(default)]
    continue_final_message: bool,
    #[serde(flatten)]
    variables: BTreeMap<String, Json>,
}

fn template(name: &str) -> ChatFiles {
    let source = std::fs::read_to_string(golden(&format!("chat/{name}.jinja"))).expect("a template");
    ChatFiles::new(&source)
        .with_token("bos_token", "<s>")
        .with_token("eos_token", "</s>")
}

fn user(text: &str) -> ChatInput {
    ChatInput {
        messages: vec![Message::new("user", text)],
        ..ChatInput::default()
    }
}

#[test]
fn texts_and_ids_equal_those_of_transformers_on_the_templates_of_six_families() {
    let text = std::fs::read_to_string(golden("chat/expected.json")).expect("a file");
    let expected: Expected = serde_json::from_str(&text).expect("cases");
    let tokenizer = Tokenizer::open(&golden("chat/tokenizer.json")).expect("a tokenizer");
    assert!(expected.cases.len() >= 40);
    for case in expected.cases {
        let name = format!("{} {}", case.template, case.conversation);
        let input = ChatInput {
            messages: expected.conversations[&case.conversation].clone(),
            tools: case.options.tools,
            add_generation_prompt: case
                .options
                .add_generation_prompt
                .unwrap_or(!case.options.continue_final_message),
            continue_final_message: case.options.continue_final_message,
            variables: case.options.variables,
            now: UNIX_EPOCH + Duration::from_secs(expected.now),
        };
        let rendered = template(&case.template).template().expect(&name).render(&input);
        match (rendered, case.text) {
            (Ok(rendered), Some(text)) => {
                assert_eq!(rendered.text, text, "{name}");
                assert_eq!(tokenizer.encode(&rendered.text).expect("ids"), case.ids, "{name}");
                let generated: Vec<&str> = rendered
                    .generated
                    .into_iter()
                    .map(|range| &rendered.text[range])
                    .collect();
                assert_eq!(generated, case.generated, "{name}");
            }
            (Err(Error::Refused { detail }), None) => assert_eq!(Some(detail), case.error, "{name}"),
            (Err(Error::Template { .. }), None) => {
                assert!(
                    case.error.is_some_and(|error| error.contains("has no attribute")),
                    "{name}"
                );
            }
            (found, text) => panic!("{name}: {found:?} instead of {text:?} {:?}", case.error),
        }
    }
}

#[test]
fn a_template_that_does_not_end_or_grows_without_limit_is_an_error() {
    let deep_loops = "{% for i in range(9999) %}".repeat(9) + "x" + &"{% endfor %}".repeat(9);
    let deep_nest = "{% if true %}".repeat(6000) + "x" + &"{% endif %}".repeat(6000);
    let deep_value = format!("{{{{ {}1{} }}}}", "[".repeat(6000), "]".repeat(6000));
    // Without the limits, these take minutes or all memory.
    let bombs = [
        "{% for i in range(9999) %}{% for j in range(9999) %}{{ messages[0].content }}{% endfor %}{% endfor %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ 'x' * 90000000 }}",
        "{% set ns = namespace(t='xxxxxxxx') %}{% for i in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}",
        "{{ messages[0].content.replace('', messages[0].content) }}",
        "{{ '%100000000s' | format('x') }}",
        "{{ '%100000000s' % 'x' }}",
        "{{ '{:>999999999}'.format('x') | length }}",
        "{{ '{:.99999999999999999999999f}'.format(1.5) }}",
        "{{ ['x'] * 90000000 }}",
        "{{ (['x' * 1000000] * 1000000) | string | length }}",
        "{{ (['x' * 1000000] * 1000000) | tojson }}",
        "{{ (['x' * 1000000] * 1000000) | join | length }}",
        "{{ ''.join(['x' * 1000000] * 1000000) | length }}",
        "{{ ((['x' * 1000000] * 1000000) ~ '') | length }}",
        "{{ ('' ~ ['x' * 1000000] * 1000000) | length }}",
        "{% if 1 is number ~ (['x' * 1000000] * 1000000) %}{% endif %}",
        "{% if ['x' * 1000000] * 1000000 in 'x' %}{% endif %}",
        "{{ (['x' * 1000000] * 1000000) is in('x') }}",
        "{{ (['x' * 1000000] * 1000000) | upper | length }}",
        "{{ [['x' * 1000000] * 1000000] | map('upper') | list | length }}",
        "{{ (['x' * 1000000] * 1000000) | pprint | length }}",
        "{{ '%s' | format(['x' * 1000000] * 1000000) | length }}",
        "{{ '%s' % (['x' * 1000000] * 1000000) }}",
        "{{ '{}'.format(['x' * 1000000] * 1000000) | length }}",
        "{{ '{a}'.format(a=['x' * 1000000] * 1000000) | length }}",
        "{{ raise_exception(['x' * 1000000] * 1000000) }}",
        "{{ strftime_now('%A' * 3000000) | length }}",
        "{{ ('a' * 5000) | replace('', 'b' * 100000) | length }}",
        "{{ ('a\\n' * 100000) | indent(100000) | length }}",
        "{{ (['x'] * 20000) | tojson(separators=('y' * 500000, ':')) | length }}",
        "{% set ns = namespace(l=['x']) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ (ns.l ~ '') | length }}",
        "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}",
        deep_loops.as_str(),
        deep_nest.as_str(),
        deep_value.as_str(),
    ];
    for bomb in bombs {
        let found = ChatFiles::new(bomb)
            .template()
            .and_then(|template| template.render(&user(&"a".repeat(5000))));
        let error = found.expect_err(bomb);
        assert!(matches!(error, Error::Template { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().len() < 500, "{error}");
    }
}

/// A text is copied many times before it is written.
#[test]
fn a_long_message_is_not_taken_for_a_loop() {
    let source =
        "{% for m in messages %}{% set text = '<' ~ m.content | trim ~ '>' ~ '\\n' %}{{ text + '' }}{% endfor %}";
    let template = ChatFiles::new(source).template().expect("a template");
    let rendered = template.render(&user(&"a".repeat(900_000))).expect("a text");
    assert_eq!(rendered.text.len(), 900_003);
}

/// What jinja2 3.1.6 writes.
#[test]
fn filters_and_functions_of_jinja_that_published_templates_lack_are_there_too() {
    for (source, expected) in [
        ("{{ 'a\\n\\nb\\n' | indent }}", "a\n\n    b\n"),
        ("{{ 'a\\nb' | indent('> ', true) }}", "> a\n> b"),
        ("{{ 'a\\r\\n\\nb' | indent(2, blank=true) }}", "a\n  \n  b"),
        ("{{ '<b>a &amp; b</b>  c' | striptags }}", "a & b c"),
        ("{{ 'een twee_drie, 4!' | wordcount }}", "3"),
        ("{{ 'a b/é&' | urlencode }}", "a%20b/%C3%A9%26"),
        (
            "{{ 1500000 | filesizeformat }} {{ 999 | filesizeformat }}",
            "1.5 MB 999 Bytes",
        ),
        ("{{ 2048 | filesizeformat(true) }}", "2.0 KiB"),
        ("{% set j = joiner(', ') %}{{ j() }}a{{ j() }}b", "a, b"),
        (
            "{% set c = cycler('x', 'y') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}",
            "xyx",
        ),
        ("{{ 'een twee drie vier' | truncate(length=12) }}", "een twee..."),
        ("{{ 'aXbXc'.split('X', maxsplit=1) | join('|') }}", "a|bXc"),
        ("{{ 'a b  c'.split(maxsplit=1) | join('|') }}", "a|b  c"),
        (
            "{{ 'ab' | replace('', '-') }} {{ 'aaa' | replace('a', 'b', 2) }}",
            "-a-b- bba",
        ),
        ("{{ 'aaa' | replace('a', 'bb', count=1) }}", "bbaa"),
        ("{{ {'a': [1]} | tojson(indent='- ') }}", "{\n- \"a\": [\n- - 1\n- ]\n}"),
        ("{{ ['é'] | tojson(true, 0) }}", "[\n\"\\u00e9\"\n]"),
        ("{{ 'a' ~ 1 ~ [1, 'b'] ~ none }} {{ 2 ~ 3 * 2 }}", "a1[1, 'b']None 26"),
        ("{{ 'b' in 'abc' and 1 not in [2] }} {{ 2 is in([1, 2]) }}", "True True"),
        ("{{ 'a' ~ 'b' if 'x' is in 'xyz' else 'c' }}", "ab"),
    ] {
        let template = ChatFiles::new(source).template().expect(source);
        assert_eq!(template.render(&user("x")).expect(source).text, expected, "{source}");
    }
    // What is drawn anew each time, and what minijinja has alone, is not there.
    for source in [
        "{{ [1, 2] | random }}",
        "{{ debug() }}",
        "{{ 'a' is startingwith('a') }}",
        "{{ [1] | zip([2]) }}",
        "{{ [1] | chain([2]) }}",
    ] {
        let found = ChatFiles::new(source).template();
        let found = found.and_then(|template| template.render(&user("x")));
        assert!(matches!(found, Err(Error::Template { .. })), "{source}: {found:?}");
    }
}

/// What jinja2 3.1.6 writes with Python 3.11.
#[test]
fn lines_are_wrapped_where_python_wraps_them() {
    for (source, expected) in [
        ("{{ 'een twee drie vier' | wordwrap(9) }}", "een twee\ndrie vier"),
        (
            "{{ 'een  twee drie' | wordwrap(5) }}|{{ '  een twee' | wordwrap(5) }}|{{ 'een   ' | wordwrap(3) }}|{{ '   ' | wordwrap }}",
            "een\ntwee\ndrie|  een\ntwee|een|",
        ),
        (
            "{{ 'een\\n\\ntwee drie\\r\\nvier\\n' | wordwrap(4) }}",
            "een\n\ntwee\ndrie\nvier",
        ),
        (
            "{{ 'hottentottententententoonstelling' | wordwrap(10) }}",
            "hottentott\nententente\nntoonstell\ning",
        ),
        (
            "{{ 'a hottentottententen b' | wordwrap(8, false) }}",
            "a\nhottentottententen\nb",
        ),
        (
            "{{ 'aa bbbbbbbb' | wordwrap(3) }}|{{ 'aaa bbbbbbbb' | wordwrap(4) }}|{{ 'ééé ééééé' | wordwrap(4) }}",
            "aa \nbbb\nbbb\nbb|aaa \nbbbb\nbbbb|ééé \néééé\né",
        ),
        (
            "{{ 'een twee' | wordwrap(4, wrapstring='<br>') }}|{{ 'een\\ntwee drie' | wordwrap(5, true, '; ') }}",
            "een<br>twee|een; twee; drie",
        ),
        (
            "{{ 'well-known goof-ball e-mail x-y-z' | wordwrap(7) }}",
            "well-\nknown\ngoof-\nball\ne-mail\nx-y-z",
        ),
        (
            "{{ 'well-known goof-ball e-mail x-y-z' | wordwrap(7, break_on_hyphens=false) }}",
            "well-kn\nown goo\nf-ball\ne-mail\nx-y-z",
        ),
        (
            "{{ 'use the -b option -- or--else -- 2-3 ab-2cd' | wordwrap(5) }}",
            "use\nthe\n-b op\ntion\n-- or\n--\nelse\n--\n2-3 a\nb-2cd",
        ),
        (
            "{{ 'use the -b option -- or--else -- 2-3 ab-2cd' | wordwrap(3, break_long_words=false) }}",
            "use\nthe\n-b\noption\n--\nor\n--\nelse\n--\n2-3\nab-2cd",
        ),
        (
            "{{ 'noord-oost-zuid-west aa-bb--cc-dd' | wordwrap(1) }}",
            "n\no\no\nr\nd\n-\no\no\ns\nt\n-\nz\nu\ni\nd\n-\nw\ne\ns\nt\na\na\n-\nb\nb\n-\n-\nc\nc\n-\nd\nd",
        ),
        (
            "{{ 'aaaa-bbbbbbb ----- -a- --b' | wordwrap(6) }}",
            "aaaa-b\nbbbbbb\n-----\n-a-\n--b",
        ),
        (
            "{{ 'a\\tb\\u000bc d\\u00a0e' | wordwrap(2) }}|{{ '' | wordwrap }}|{{ 12345 | string | wordwrap(2) }}",
            "a\nb\nc \nd\u{a0}\ne||12\n34\n5",
        ),
        (
            "{{ 'a  \\u00a0 b' | wordwrap(2) }}|{{ 'aa\\u00a0' | wordwrap(1) }}|{{ 'a \\u2003 b' | wordwrap(2) }}",
            "a\n\u{a0}\nb|a\na|a\n b",
        ),
        (
            "{{ '(a-b) \"cc-dd\" e_f-g_h ij-k.l mn-o-p' | wordwrap(4) }}",
            "(a-\nb)\n\"cc-\ndd\"\ne_f-\ng_h \nij-\nk.l\nmn-\no-p",
        ),
        ("{{ ('woord ' * 30) | wordwrap | length }}", "179"),
    ] {
        let template = ChatFiles::new(source).template().expect(source);
        assert_eq!(template.render(&user("x")).expect(source).text, expected, "{source}");
    }
    let long = "{{ (messages[0].content * 100) | wordwrap(1, wrapstring='-' * 1000) | length }}";
    for source in ["{{ 'a' | wordwrap(0) }}", "{{ 'a' | wordwrap(widht=3) }}", long] {
        let found = ChatFiles::new(source).template();
        let found = found.and_then(|template| template.render(&user(&"a".repeat(1000))));
        assert!(matches!(found, Err(Error::Template { .. })), "{source}: {found:?}");
    }
}

#[test]
fn a_namespace_holds_texts_numbers_and_lists_and_dictionaries_of_them() {
    for (source, expected) in [
        (
            "{% set ns.l = [1, (2, {'a': [3.5, none]})][0:] + ['b'] -%}\n{{ ns.l }}",
            "[1, (2, {'a': [3.5, None]}), 'b']",
        ),
        ("{% set ns.a, b = 'x', [1] %}{{ ns.a }}{{ b }}", "x[1]"),
        ("{% set ns.a %}een{% endset %}{{ ns.a }}", "een"),
        (
            "{% set ns.a | upper | list %}een{% endset %}{{ ns.a }}",
            "['E', 'E', 'N']",
        ),
        ("{% set ns.a = range(3) %}{{ ns.a }} {{ ns.a | length }}", "[0, 1, 2] 3"),
        ("{% set ns.a = missing %}{{ ns.a is defined }}", "False"),
        ("{% set ns.a = 1 if true else 2 %}{{ ns.a + 1 }}", "2"),
        (
            "{% set ns.a = messages %}{{ ns.a[0].content }}{{ ns.a == messages }}",
            "xTrue",
        ),
    ] {
        let source = "{% set ns = namespace() %}".to_owned() + source;
        let template = ChatFiles::new(&source).template().expect(&source);
        assert_eq!(template.render(&user("x")).expect(&source).text, expected, "{source}");
    }
    for value in [
        "ns",
        "[ns]",
        "{'a': (ns,)}",
        "cycler(ns)",
        "cycler",
        "ns | items | list",
    ] {
        let source = format!("{{% set ns = namespace(a=namespace()) %}}{{% set ns.b = {value} %}}");
        let found = ChatFiles::new(&source).template();
        let error = found.and_then(|template| template.render(&user("x")));
        let error = error.expect_err(&source).to_string();
        assert!(
            error.contains("can hold texts, numbers, lists and dictionaries only"),
            "{error}"
        );
    }
}

/// A loop that kept itself would keep the conversation in memory after the rendering.
#[test]
fn a_loop_compares_texts_numbers_and_lists_and_dictionaries_of_them() {
    for (source, expected) in [
        (
            "{% for i in [1, 1, 2] %}{{ loop.changed(i) }} {% endfor %}",
            "True False True ",
        ),
        (
            "{% for i in ['a', 'a', 'b'] %}{% if loop . changed(i, [{'a': (i,)}]) %}{{ i }}{% endif %}{% endfor %}",
            "ab",
        ),
        (
            "{% for i in [1, 2] %}{{ loop.changed() }} {{ loop.changed(*[messages, missing]) }} {% endfor %}",
            "True True True True ",
        ),
        (
            "{% for i in [1, 2] %}{% set outer = loop %}{% for j in [1, 2] %}{{ outer.changed(i) }} {% endfor %}{% endfor %}",
            "True False True False ",
        ),
        (
            "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ {'changed': m}.changed(1) }}",
            "<1>",
        ),
    ] {
        let template = ChatFiles::new(source).template().expect(source);
        assert_eq!(template.render(&user("x")).expect(source).text, expected, "{source}");
    }
    for call in [
        "{{ loop.changed(loop) }}",
        "{{ loop.changed(1, [{'a': loop}]) }}",
        "{{ loop.changed(a=1) }}",
        "{% set l = loop %}{{ l.changed(l) }}",
        "{% set x = loop\n.changed\n(*[loop]) %}",
        "{{ loop.changed(namespace(a=loop)) }}",
        "{{ loop.changed(cycler(loop)) }}",
        "{% call loop.changed() %}{{ loop }}{% endcall %}",
        "{% macro m(l) %}{{ [1, (l.changed(l))][1] }}{% endmacro %}{{ m(loop) }}",
    ] {
        let source = format!("{{% for m in messages %}}{call}{{% endfor %}}");
        let found = ChatFiles::new(&source).template();
        let error = found.and_then(|template| template.render(&user("x")));
        let error = error.expect_err(&source).to_string();
        assert!(
            error.contains("loop.changed can compare texts, numbers, lists and dictionaries only"),
            "{source}: {error}"
        );
    }
}

/// minijinja panics on a cycle of nothing.
#[test]
fn a_template_on_which_the_library_panics_is_an_error_on_every_thread() {
    let source = "{% if messages[0].content == 'x' %}{% for i in [1] %}{{ loop.cycle() }}{% endfor %}{% endif %}end";
    let template = ChatFiles::new(source).template().expect("a template");
    let render = |text: &str| template.render(&user(text)).map(|rendered| rendered.text);
    let check = || {
        for _ in 0..3 {
            let error = render("x").expect_err("a panic").to_string();
            assert!(error.contains("cannot be used: minijinja"), "{error}");
            assert_eq!(render("y").expect("a text"), "end");
        }
    };
    check();
    chat::on_rendering_thread(check);
}

#[test]
fn many_renderings_share_a_thread_that_has_stack_for_them() {
    // What the template builds has 40,000 levels, which overflow the stack of a test's thread where they are dropped.
    let (open, close) = ("[".repeat(40), "]".repeat(40));
    let deep = format!("{{% set x = {open}x{close} %}}").repeat(1000) + "{{ messages[0].content | length }}";
    let template = ChatFiles::new(&deep).template().expect("a template");
    // The longest one has more fuel than the thread has stack for.
    let texts = ["x".to_owned(), "x".repeat(2000), "x".repeat(1_500_000)];
    let found = chat::on_rendering_thread(|| {
        let inner = chat::on_rendering_thread(|| std::thread::current().id());
        assert_eq!(inner, std::thread::current().id());
        let rendered = texts.iter().map(|text| template.render(&user(text)));
        let rendered = rendered.collect::<taal_tokenizer::Result<Vec<_>>>();
        (inner, rendered)
    });
    assert_ne!(found.0, std::thread::current().id());
    let lengths: Vec<String> = found.1.expect("texts").into_iter().map(|text| text.text).collect();
    assert_eq!(lengths, ["1", "2000", "1500000"]);
    let panicked = std::panic::catch_unwind(|| chat::on_rendering_thread(|| assert!(texts.is_empty(), "it is told")));
    let panic = panicked.expect_err("a panic");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"it is told"));
}

/// A server renders on threads with 2 MiB of stack. An overflow of one ends the whole process, and these tests with it.
#[test]
fn values_within_values_and_long_expressions_do_not_overflow_the_stack() {
    let nested = |name: &str, times: usize| {
        let (open, close) = ("[".repeat(40), "]".repeat(40));
        format!("{{% set {name} = {open}{name}{close} %}}").repeat(times)
    };
    let both = nested("x", 500) + &nested("y", 500);
    let namespaces = "{% set x = namespace(a=namespace(a=namespace(a=x))) %}".repeat(4000);
    // Of 20,000 levels and more.
    for source in [
        nested("x", 1000) + "end",
        both.clone() + "{{ 'end' if x != y or x == y }}",
        both + "{{ 'end' if x < y or x >= y }}",
        nested("x", 1000) + "{% set d = {x: 1} %}end",
        namespaces + "end",
    ] {
        let template = ChatFiles::new(&source).template().expect("a template");
        let text = template.render(&user("x")).expect("a text").text;
        assert_eq!(text, "end", "{}", &source[..40]);
    }
    let repeated = |begin: &str, part: &str, end: &str| begin.to_owned() + &part.repeat(200_000 / part.len()) + end;
    let sources = [
        "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}".to_owned(),
        "{% set a = namespace() %}{% set b = namespace() %}{% set a.x = [a] %}{% set b.x = [b] %}{{ a == b }}"
            .to_owned(),
        "{% macro m(x) %}{{ m([[[[[x]]]]]) }}{% endmacro %}{{ m(1) }}".to_owned(),
        repeated("{{ range(9000)", "[0:]", " | length }}"),
        repeated("{{ range(9000) | list ", "* 1", " | length }}"),
        repeated("{{ range(9000) ", "|reverse", " | length }}"),
        repeated("{{ 1", "+1", " }}"),
        repeated("{{ 1", "**1", " }}"),
        repeated("{{ 1", " and 1", " }}"),
        repeated("{{ ", "1 if 0 else ", "1 }}"),
        repeated("{{ ", "not ", "1 }}"),
        repeated("{{ ", "-", "1 }}"),
        repeated("{{ 'a'", "~1", " }}"),
        repeated("{{ messages", ".a", " }}"),
        repeated("{{ messages", "()", " }}"),
        repeated("{{ 1", " is odd", " }}"),
        repeated("{{ messages", "|list", ""),
        repeated("{% if 0 %}", "{% elif 0 %}", "{% endif %}"),
    ];
    for source in sources {
        let found = ChatFiles::new(&source).template();
        let found = found.and_then(|template| template.render(&user("x")));
        let start = &source[..source.len().min(80)];
        assert!(matches!(found, Err(Error::Template { .. })), "{start}: {found:?}");
    }
}

#[test]
fn the_developer_is_the_system_to_a_template_that_does_not_name_it() {
    for (source, expected) in [
        ("{{ messages[0].role }}", "system"),
        (
            "{% if messages[0].role in ['system', \"developer\"] %}{{ messages[0].role }}{% endif %}",
            "developer",
        ),
    ] {
        let template = ChatFiles::new(source).template().expect("a template");
        let plain = Message::new("developer", "be brief").into_plain(&template);
        let input = ChatInput {
            messages: vec![plain.expect("a message")],
            ..ChatInput::default()
        };
        assert_eq!(template.render(&input).expect("a text").text, expected);
    }
}

#[test]
fn line_ends_of_other_systems_mean_the_same() {
    let source = std::fs::read_to_string(golden("chat/python.jinja")).expect("a template");
    let text = |source: &str| {
        let template = ChatFiles::new(source).template().expect("a template");
        template.render(&user("een\r\ntwee")).expect("a text").text
    };
    let expected = text(&source);
    assert!(expected.contains("een\r\ntwee"), "{expected}");
    for line_end in ["\r\n", "\r"] {
        assert_eq!(text(&source.replace('\n', line_end)), expected);
    }
}

#[test]
fn missing_faulty_and_refusing_templates_are_one_clear_error_each() {
    assert!(matches!(ChatFiles::default().template(), Err(Error::NoTemplate)));
    let error_of = |source: &str| {
        let found = ChatFiles::new(source).template();
        let found = found.and_then(|template| template.render(&user("x")));
        found.expect_err(source).to_string()
    };
    let broken = error_of("a\n{% if %}");
    assert!(broken.contains("cannot be used: line 2: syntax error"), "{broken}");
    let unknown = error_of("\n\n{{ open('/etc/passwd') }}");
    assert!(unknown.contains("line 3: unknown function"), "{unknown}");
    let raised = error_of("{{ raise_exception('geen gesprek') }}");
    assert_eq!(
        raised,
        "the model's chat template refuses this conversation: geen gesprek"
    );
    let long = error_of(&" ".repeat(300_000));
    assert!(long.contains("300000 bytes, and at most 262144"), "{long}");
    assert!(error_of("{% include 'x' %}").contains("cannot be used"));
    let none = ChatFiles::new("x")
        .template()
        .expect("a template")
        .render(&ChatInput::default());
    assert!(matches!(none, Err(Error::Refused { .. })), "{none:?}");
}

#[test]
fn messages_without_a_role_are_refused_and_null_entries_are_left_out() {
    let parse = |text: &str| serde_json::from_str::<Message>(text);
    for wrong in ["[]", "3", "\"user\"", "{}", r#"{"role": 3}"#, r#"{"content": "x"}"#] {
        parse(wrong).expect_err(wrong);
    }
    let message = parse(r#"{"role": "assistant", "content": null, "b": 1, "a": 2}"#).expect("a message");
    let text = ChatFiles::new("{{ messages[0] }}").template().expect("a template");
    let input = ChatInput {
        messages: vec![message.clone()],
        ..ChatInput::default()
    };
    assert_eq!(
        text.render(&input).expect("a text").text,
        "{'role': 'assistant', 'b': 1, 'a': 2}"
    );
    assert_eq!((message.role().as_str(), message.text()), ("assistant", None));
    let parts =
        parse(r#"{"role": "user", "content": [{"type": "text", "text": "een"}, {"type": "text", "text": " kat"}]}"#);
    assert_eq!(parts.expect("a message").text().as_deref(), Some("een kat"));
    assert_eq!(Message::new("user", "dag").text().as_deref(), Some("dag"));
}

#[test]
fn the_templates_of_a_directory_are_read_from_either_file_and_written_again() {
    let place = tempfile::tempdir().expect("a folder");
    let dir = place.path();
    assert!(ChatFiles::open(dir).is_empty());
    let config = r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": null, "chat_template":
        [{"name": "default", "template": "een{{ bos_token }}"}, {"name": "tool_use", "template": "twee{{ eos_token }}"}]}"#;
    std::fs::write(dir.join("tokenizer_config.json"), config).expect("written");
    let listed = ChatFiles::open(dir);
    let text = |files: &ChatFiles, tools: Vec<Json>| {
        let input = ChatInput { tools, ..user("x") };
        files
            .template()
            .expect("a template")
            .render(&input)
            .expect("a text")
            .text
    };
    assert_eq!(text(&listed, vec![]), "een<s>");
    assert_eq!(text(&listed, vec![Json::from("tool")]), "twee</s>");

    let copy = place.path().join("copy");
    let tokenizer = TrainerConfig::new(Kind::WordPiece, 30)
        .train(["een twee"])
        .expect("a tokenizer");
    for (name, bytes) in listed.files(&tokenizer) {
        let path = copy.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("written");
    }
    let open = ChatFiles::open(&copy);
    assert_eq!(open.templates(), listed.templates());
    assert_eq!(text(&open, vec![]), "een<s>");
    let config = std::fs::read(copy.join("tokenizer_config.json")).expect("written");
    let config: serde_json::Value = serde_json::from_slice(&config).expect("an object");
    assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
    let roles = [
        "bos_token",
        "unk_token",
        "pad_token",
        "mask_token",
        "cls_token",
        "sep_token",
    ];
    let tokens = roles.map(|role| config[role].as_str().expect("a token"));
    // The model's files say how texts begin.
    assert_eq!(tokens, ["<s>", "[UNK]", "[PAD]", "[MASK]", "[CLS]", "[SEP]"]);

    // The newer file counts, as in transformers.
    std::fs::write(dir.join("chat_template.jinja"), "drie").expect("written");
    assert_eq!(text(&ChatFiles::open(dir), vec![Json::from("tool")]), "drie");
}

#[test]
fn files_of_templates_that_cannot_be_read_are_an_error_only_for_those_who_chat() {
    for (config, said) in [
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object"),
        (r#"{"chat_template": 3}"#, "expected a template or a list"),
        (
            r#"{"chat_template": [{"name": "default"}]}"#,
            "expected a template or a list",
        ),
        (
            r#"{"chat_template": [{"name": "../x", "template": "x"}]}"#,
            "is not a name of a template",
        ),
    ] {
        let place = tempfile::tempdir().expect("a folder");
        std::fs::write(place.path().join("tokenizer_config.json"), config).expect("written");
        let files = ChatFiles::open(place.path());
        assert!(!files.is_empty());
        let error = files.template().expect_err(config).to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn the_order_of_keys_survives_from_the_request_to_the_text() {
    let tools = r#"[{"z": 1, "a": {"y": 2, "b": [3.0, "é"]}}]"#;
    let input = ChatInput {
        tools: serde_json::from_str(tools).expect("tools"),
        ..user("x")
    };
    let template = ChatFiles::new("{{ tools | tojson }}").template().expect("a template");
    assert_eq!(template.render(&input).expect("a text").text, tools);
}
