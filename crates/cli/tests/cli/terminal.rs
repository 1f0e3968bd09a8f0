//! What a terminal gets that a pipe does not.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use crate::{Place, done};

/// A text that would set a window's title, and one that would make it red.
const TITLE: &str = "\x1b]0;title\x07";
const RED: &str = "\u{9b}31m";

/// A vocabulary of one-character words and the two texts.
fn tokenizer() -> String {
    let vocab = serde_json::json!({"a": 0, TITLE: 1, RED: 2, "\u{202e}b": 3, "[UNK]": 4});
    let file = serde_json::json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}});
    file.to_string()
}

/// What a command writes, both streams, where both are a terminal.
fn on_terminal(mut command: Command) -> String {
    let pair = nix::pty::openpty(None, None).expect("a terminal");
    let end = || Stdio::from(pair.slave.try_clone().expect("a second handle"));
    let mut child = command
        .env("NO_COLOR", "1")
        .stdout(end())
        .stderr(end())
        .spawn()
        .expect("taal starts");
    // Reading ends once nobody has the other end open.
    drop((command, pair.slave));
    let mut bytes = Vec::new();
    let mut screen = File::from(pair.master);
    let mut block = [0; 4096];
    while let Ok(read @ 1..) = screen.read(&mut block) {
        bytes.extend_from_slice(&block[..read]);
    }
    child.wait().expect("an exit code");
    String::from_utf8(bytes).expect("text")
}

fn steers(screen: &str) -> bool {
    screen
        .chars()
        .any(|character| character.is_control() && !"\r\n\t".contains(character) || character == '\u{202e}')
}

#[test]
fn report_33_a_terminal_gets_control_characters_spelled_out_and_a_pipe_as_they_are() {
    let place = Place::new();
    place.write("tokenizer.json", tokenizer());
    place.write("bad.toml", format!("[train]\n\"{}\" = 1\n", r"\u001b]0;title\u0007"));
    let file = format!("no{TITLE}file");
    let decode = ["tokenizer", "decode", "--tokenizer", "tokenizer.json", "0,1,2,3"];
    let encode = ["tokenizer", "encode", "--tokenizer", "tokenizer.json", "--json", RED];
    let cases: [(&[&str], &str); 5] = [
        (&decode, r"a\u{1b}]0;title\u{7}\u{9b}31m\u{202e}b"),
        (&encode, r#""tokens":["\u009b31m"]"#),
        (&["train", "--recipe", "bad.toml"], "title"),
        (
            &["tokenizer", "decode", "--tokenizer", &file, "0"],
            r"no\u{1b}]0;title\u{7}file",
        ),
        (&["inspect", "run", &file], r"no\u{1b}]0;title\u{7}file"),
    ];
    for (arguments, expected) in cases {
        let screen = on_terminal(place.command(arguments));
        assert!(screen.contains(expected), "{arguments:?}: {screen:?}");
        assert!(!steers(&screen), "{arguments:?}: {screen:?}");
    }
    assert_eq!(done(place.taal(&decode)), format!("a{TITLE}{RED}\u{202e}b\n"));
    assert!(done(place.taal(&encode)).contains(RED));
}
