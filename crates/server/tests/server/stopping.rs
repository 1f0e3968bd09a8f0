//! A server that is asked to stop finishes what it has begun.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use taal_inference::EngineOptions;
use taal_server::ServerOptions;

use crate::client::{connect, head_of_json, read, read_events};
use crate::tiny::{endless, options, serve, until};

pub fn ask(address: std::net::SocketAddr, max_tokens: usize) -> TcpStream {
    let mut stream = connect(address);
    let request = json!({"prompt": "a", "max_tokens": max_tokens, "stream": true, "ignore_eos": true,
        "stream_options": {"include_usage": true}})
    .to_string();
    let head = head_of_json("/v1/completions", request.len());
    stream
        .write_all(format!("{head}{request}").as_bytes())
        .expect("a request");
    stream
}

#[test]
fn answers_under_way_are_finished_and_no_others_begun() {
    let server = serve(&[("endless", endless())], EngineOptions::default(), options());
    let address = server.address;
    let mut stream = ask(address, 3000);
    let mut text = read_events(&mut stream, 1);
    // A client that keeps its connection without asking does not hold the server up.
    let _idle = connect(address);
    server.stopper.stop();
    until(|| TcpStream::connect(address).is_err());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stream, &mut rest).expect("the rest");
    text.push_str(&rest);
    assert!(text.contains("\"finish_reason\":\"length\"") && text.contains("[DONE]"));
    assert!(server.ended());
}

#[test]
fn an_answer_without_an_end_does_not_hold_the_server_up_for_ever() {
    let hasty = ServerOptions {
        stop_timeout: Duration::from_millis(200),
        ..options()
    };
    let server = serve(&[("endless", endless())], EngineOptions::default(), hasty);
    let mut stream = ask(server.address, 100_000_000);
    read_events(&mut stream, 1);
    server.stopper.stop();
    assert!(!server.ended());
    drop(stream);
}

#[test]
fn a_stream_that_is_cut_off_has_no_end_mark() {
    let server = serve(&[("endless", endless())], EngineOptions::default(), options());
    let stream = ask(server.address, 50);
    let whole = read(stream);
    assert!(whole.body.trim_end().ends_with("data: [DONE]"));
}
