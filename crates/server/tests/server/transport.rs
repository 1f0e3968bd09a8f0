//! HTTP/1.1 as clients and proxies speak it: connections that stay, bodies of unclear length, streams for old clients.

use std::io::{Read, Write};
use std::net::Shutdown;

use serde_json::json;

use crate::client::{connect, get, head, head_of_json, post, read, send};
use crate::tiny::{server, until};

const PATH: &str = "/v1/completions";

/// Reads one answer with a known length.
fn one(stream: &mut std::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_eq!(
            stream.read(&mut byte).expect("more"),
            1,
            "it ended after {}",
            text(&bytes)
        );
        bytes.push(byte[0]);
    }
    let head = text(&bytes);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.parse().ok()).expect("a length");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    head + &text(&body)
}

#[test]
fn a_connection_serves_one_request_after_another_also_after_a_refusal() {
    let server = server();
    let mut stream = connect(server.address);
    for (body, status) in [
        ("{\"prompt\": \"a\", \"max_tokens\": 1}", 200),
        ("{\"n\": 0}", 400),
        ("{}", 200),
    ] {
        write!(
            stream,
            "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("a request");
        let answer = one(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    // In chunks, after the server said that it wants them.
    stream
        .write_all(
            format!(
                "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\
                 Transfer-Encoding: chunked\r\n\r\n"
            )
            .as_bytes(),
        )
        .expect("a head");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).expect("100");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
        .write_all(b"8;x=y\r\n{\"prompt\r\n10\r\n\":\"a\",\"stop\":[]}\r\n0\r\nTrailer: 1\r\n\r\n")
        .expect("chunks");
    let answer = one(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn bodies_of_unclear_length_and_broken_chunks_are_refused() {
    let server = server();
    for fields in [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 1, 2\r\n",
    ] {
        let fields = format!("Content-Type: application/json\r\n{fields}");
        let reply = send(server.address, head("POST", PATH, &fields).as_bytes());
        assert_eq!(reply.status, 400, "{fields}");
    }
    let chunked = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    for chunks in ["zz\r\n{}\r\n0\r\n\r\n", "2\r\n{}5\r\n", "-2\r\n{}\r\n0\r\n\r\n"] {
        let request = format!("{}{chunks}", head("POST", PATH, chunked));
        let reply = send(server.address, request.as_bytes());
        assert_eq!(reply.status, 400, "{chunks:?}");
        assert!(reply.error().0.contains("body"), "{reply:?}");
    }
}

#[test]
fn a_body_that_is_cut_off_begins_no_answer() {
    let server = server();
    let mut stream = connect(server.address);
    let request = format!("{}{{\"prompt\": \"a\"", head_of_json(PATH, 100));
    stream.write_all(request.as_bytes()).expect("a part");
    stream.shutdown(Shutdown::Write).expect("a socket");
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest);
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400 "), "{rest}");
    assert_eq!(server.stats().accepted, 0);
    let in_flight = || {
        get(server.address, "/metrics")
            .body
            .contains("taal_requests_in_flight 1\n")
    };
    until(in_flight);
}

#[test]
fn an_old_client_gets_a_stream_up_to_the_end_of_its_connection() {
    let server = server();
    let mut request = json!({"prompt": "the cat", "max_tokens": 9, "seed": 1});
    let whole = post(server.address, PATH, &request).json();
    request["stream"] = json!(true);
    let body = request.to_string();
    let head = head_of_json(PATH, body.len()).replace("HTTP/1.1", "HTTP/1.0");
    let mut stream = connect(server.address);
    stream.write_all(format!("{head}{body}").as_bytes()).expect("a request");
    let reply = read(stream);
    assert_eq!(reply.header("transfer-encoding"), None, "{reply:?}");
    let text: String = reply
        .events()
        .iter()
        .map(|event| event["choices"][0]["text"].as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(whole["choices"][0]["text"], text);
}

#[test]
fn a_head_has_no_body_and_a_wrong_method_says_which_is_right() {
    let server = server();
    let reply = send(server.address, head("HEAD", "/health", "").as_bytes());
    let full = get(server.address, "/health");
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    assert_eq!(reply.header("content-length"), full.header("content-length"));
    for (method, path, allowed) in [
        ("DELETE", PATH, "POST"),
        ("PUT", "/v1/models/tiny", "GET,HEAD"),
        ("BREW", "/", "GET,HEAD"),
    ] {
        let reply = send(server.address, head(method, path, "").as_bytes());
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, Some(allowed)),
            "{method} {path}"
        );
        assert!(reply.error().0.contains(method), "{reply:?}");
    }
}

#[test]
fn addresses_that_are_no_text_are_refused() {
    let server = server();
    for path in ["/v1/models/%ff%fe", "/page/%80"] {
        let reply = get(server.address, path);
        assert_eq!(reply.status, 400, "{path}");
        reply.error();
    }
    // The name of a host in the address counts too.
    let reply = send(
        server.address,
        head("GET", "http://example.com/v1/models", "").as_bytes(),
    );
    assert_eq!(reply.status, 403, "{reply:?}");
    assert_eq!(send(server.address, head("OPTIONS", "*", "").as_bytes()).status, 404);
}
