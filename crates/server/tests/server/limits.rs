//! What is too large, too slow, too much, or broken.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taal_inference::EngineOptions;
use taal_server::{RequestRecord, ServedModel, Server, ServerError, ServerOptions};

use crate::client::{connect, get, head, head_of_json, post, read, read_events, send};
use crate::tiny::{causal, endless, options, serve, server, until};

const PATH: &str = "/v1/completions";

fn endless_request() -> Value {
    json!({"prompt": "a", "max_tokens": 100_000_000, "stream": true, "ignore_eos": true})
}

/// Starts an endless answer and waits for its first pieces.
fn occupy(address: std::net::SocketAddr) -> std::net::TcpStream {
    let mut stream = connect(address);
    let body = endless_request().to_string();
    stream
        .write_all(format!("{}{body}", head_of_json(PATH, body.len())).as_bytes())
        .expect("a request");
    read_events(&mut stream, 2);
    stream
}

#[test]
fn bodies_that_are_no_request_are_refused() {
    let server = server();
    let deep = format!("{{\"prompt\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "",
        "{",
        "{\"prompt\": \"a\"",
        "nonsense",
        "[]",
        "7",
        "\"a\"",
        "{} {}",
        "{\"prompt\": \"\\ud800\"}",
        &deep,
    ] {
        let reply = send(
            server.address,
            format!("{}{body}", head_of_json(PATH, body.len())).as_bytes(),
        );
        assert_eq!(reply.status, 400, "{:.60}", body);
        assert!(reply.error().0.contains("body"), "{:.60}: {reply:?}", body);
    }
    let mut invalid = head_of_json(PATH, 14).into_bytes();
    invalid.extend(b"{\"prompt\":\"\xff\"}");
    assert_eq!(send(server.address, &invalid).status, 400);
    // Also in a field that nobody reads.
    let mut unread = head_of_json(PATH, 41).into_bytes();
    unread.extend(b"{\"prompt\":\"a\",\"max_tokens\":1,\"other\":\"\xff\"}");
    let reply = send(server.address, &unread);
    assert!(reply.status == 400 && reply.error().0.contains("UTF-8"), "{reply:?}");
    // A name that is missing or there twice is the field.
    for body in ["{\"max_tokens\": 1, \"max_tokens\": 2}", "{\"seed\": 1, \"seed\": 1}"] {
        let request = format!("{}{body}", head_of_json(PATH, body.len()));
        let (message, param, _) = send(server.address, request.as_bytes()).error();
        assert!(body.contains(param.as_str().expect("a field")), "{body}: {message}");
    }
    let (message, param, _) = post(server.address, "/v1/embeddings", &json!({"model": "tiny"})).error();
    assert_eq!(param, "input", "{message}");
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
    ] {
        let request = format!("{}{{}}", head("POST", PATH, &format!("{kind}Content-Length: 2\r\n")));
        assert_eq!(send(server.address, request.as_bytes()).status, 415, "{kind}");
    }
    let request = head(
        "POST",
        PATH,
        "Content-Type: Application/JSON; charset=utf-8\r\nContent-Length: 2\r\n",
    );
    assert_ne!(send(server.address, format!("{request}{{}}").as_bytes()).status, 415);
    assert_eq!(get(server.address, "/health").status, 200);
}

#[test]
fn a_body_of_100_megabytes_is_refused_before_it_is_read() {
    let server = server();
    let mut stream = connect(server.address);
    stream
        .write_all(head_of_json(PATH, 100_000_000).as_bytes())
        .expect("a head");
    let reply = read(stream);
    assert_eq!(reply.status, 413, "{reply:?}");
    reply.error();
    // One that does not say how long it is.
    let mut stream = connect(server.address);
    let head = head(
        "POST",
        PATH,
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
    );
    stream.write_all(head.as_bytes()).expect("a head");
    let piece = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let mut sent = 0;
    while sent < 16_000 && stream.write_all(piece.as_bytes()).is_ok() {
        sent += 1;
    }
    assert!(sent < 16_000, "the server read a gigabyte");
    // A client that sends all of a body before it reads learns why too.
    let mut stream = connect(server.address);
    let head = head_of_json(PATH, 20_000_000);
    stream.write_all(head.as_bytes()).expect("a head");
    for _ in 0..20 {
        stream.write_all(&[b' '; 1_000_000]).expect("the body is taken");
    }
    assert_eq!(read(stream).status, 413);
    // At the edge.
    for (length, status) in [(1 << 20, 200), ((1 << 20) + 1, 413)] {
        let mut body = json!({"prompt": "a", "max_tokens": 1}).to_string();
        body.push_str(&" ".repeat(length - body.len()));
        let reply = send(
            server.address,
            format!("{}{body}", head_of_json(PATH, length)).as_bytes(),
        );
        assert_eq!(reply.status, status, "{length}");
    }
}

#[test]
fn heads_are_bounded() {
    let server = server();
    let long = format!("X-Long: {}\r\n", "x".repeat(20_000));
    assert_eq!(
        send(server.address, head("GET", "/health", &long).as_bytes()).status,
        431
    );
    let many = "X-Many: 1\r\n".repeat(100);
    assert_eq!(
        send(server.address, head("GET", "/health", &many).as_bytes()).status,
        431
    );
    let path = format!("/health?{}", "x".repeat(5000));
    assert_eq!(get(server.address, &path).status, 414);
    // Beyond what the router sees: hyper refuses it, and the socket says why.
    let longer = format!("X-Long: {}\r\n", "x".repeat(100_000));
    let more = "X-Many: 1\r\n".repeat(1000);
    for (bytes, status, said) in [
        (head("GET", "/health", &longer).into_bytes(), 431, "16384 bytes"),
        (head("GET", "/health", &more).into_bytes(), 431, "64 fields"),
        (b"nonsense\r\n\r\n".to_vec(), 400, "HTTP/1.1"),
    ] {
        let reply = send(server.address, &bytes);
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(reply.error().0.contains(said), "{reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn a_client_that_leaves_frees_its_place_whether_it_reads_or_waits() {
    let one = EngineOptions {
        slots: 1,
        ..EngineOptions::default()
    };
    let server = serve(&[("endless", endless())], one, options());
    let streaming = occupy(server.address);
    // One that waits for the whole answer, and one that streams, both behind the first.
    let waiting: Vec<_> = [false, true]
        .map(|stream| {
            let mut request = endless_request();
            request["stream"] = json!(stream);
            let body = request.to_string();
            let mut connection = connect(server.address);
            let head = head_of_json(PATH, body.len());
            connection
                .write_all(format!("{head}{body}").as_bytes())
                .expect("a request");
            connection
        })
        .into();
    until(|| server.stats().waiting == 2);
    drop(waiting);
    until(|| server.stats().waiting == 0 && server.stats().cancelled == 2);
    assert_eq!(server.stats().running, 1);
    drop(streaming);
    until(|| server.stats().running == 0);
    assert_eq!(server.stats().cancelled, 3);
    let short = json!({"prompt": "a", "max_tokens": 3});
    assert_eq!(post(server.address, PATH, &short).status, 200);
}

#[test]
fn a_full_queue_is_429_and_a_wait_that_is_too_long_503() {
    let small = EngineOptions {
        slots: 1,
        queue: 1,
        ..EngineOptions::default()
    };
    let impatient = ServerOptions {
        queue_timeout: Duration::from_millis(300),
        ..options()
    };
    let server = serve(&[("endless", endless())], small, impatient);
    let streaming = occupy(server.address);
    let address = server.address;
    let waits = std::thread::spawn(move || post(address, PATH, &json!({"prompt": "a", "stream": true})));
    until(|| server.stats().waiting == 1);
    let refused = post(address, PATH, &json!({"prompt": "a"}));
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("1")),
        "{refused:?}"
    );
    assert_eq!(refused.error().2, "overloaded");
    let late = waits.join().expect("no panic");
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")), "{late:?}");
    drop(streaming);
    until(|| server.stats().running == 0);
    assert_eq!(post(address, PATH, &json!({"prompt": "a"})).status, 200);
}

/// All answers of a request are one request in the queue.
#[test]
fn a_request_for_many_answers_is_served_by_an_idle_server_whatever_its_queue() {
    let small = EngineOptions {
        slots: 2,
        queue: 1,
        ..EngineOptions::default()
    };
    let server = serve(&[("tiny", causal())], small, options());
    let request = json!({"prompt": vec!["a"; 20], "n": 3, "max_tokens": 2});
    let reply = post(server.address, PATH, &request);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["choices"].as_array().map(Vec::len), Some(60));
}

#[test]
fn slow_clients_are_dropped_and_honest_ones_served() {
    let impatient = ServerOptions {
        head_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        write_timeout: Duration::from_millis(300),
        ..options()
    };
    let server = serve(&[("endless", endless())], EngineOptions::default(), impatient);
    let slow = |text: &str| {
        let mut stream = connect(server.address);
        stream.write_all(text.as_bytes()).expect("a beginning");
        stream
    };
    let heads: Vec<_> = (0..20).map(|_| slow("GET /health HT")).collect();
    let body = slow(&format!("{}{{\"prompt\"", head_of_json(PATH, 100)));
    // Never reads its endless answer.
    let request = endless_request().to_string();
    let _deaf = slow(&format!("{}{request}", head_of_json(PATH, request.len())));
    until(|| server.stats().accepted == 1);
    assert_eq!(get(server.address, "/health").status, 200);
    assert_eq!(read(body).status, 408);
    for mut stream in heads {
        let begin = Instant::now();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(begin.elapsed() < Duration::from_secs(20), "it was closed");
    }
    until(|| server.stats().cancelled == 1 && server.stats().running == 0);
}

#[test]
fn a_server_without_a_key_answers_to_this_machines_names_only() {
    let server = server();
    let from = |host: &str| {
        let head = format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        send(server.address, head.as_bytes()).status
    };
    for host in [
        "localhost",
        "localhost:8080",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]:8080",
        "LOCALHOST",
    ] {
        assert_eq!(from(host), 200, "{host}");
    }
    for host in [
        "example.com",
        "evil.example:8080",
        "127.0.0.1.example.com",
        "localhost.example.com",
        "10.0.0.1",
    ] {
        assert_eq!(from(host), 403, "{host}");
    }
}

#[test]
fn a_record_of_a_request_is_one_line_whatever_the_client_sent() {
    let records = Arc::new(Mutex::new(Vec::<RequestRecord>::new()));
    let seen = records.clone();
    let model = ServedModel::start("tiny", causal(), EngineOptions::default()).expect("a model");
    let server = Server::bind(vec![model], options()).expect("an address");
    let server = server.on_request(move |record| seen.lock().unwrap().push(record.clone()));
    let (address, stopper) = (server.address(), server.stopper());
    let running = std::thread::spawn(move || server.run());
    get(address, "/v1/models?secret=1");
    get(address, "/%0a%1b[31m/%00");
    post(
        address,
        PATH,
        &json!({"prompt": "a secret", "max_tokens": 1, "model": "\u{1b}[31m\n"}),
    );
    stopper.stop();
    running.join().expect("no panic");
    let records = records.lock().unwrap();
    assert_eq!(records.len(), 3);
    for record in records.iter() {
        let line = serde_json::to_string(record).expect("JSON");
        assert!(!line.contains(|character: char| character.is_control()), "{line:?}");
        assert!(!line.contains("secret"), "{line}");
    }
}

#[test]
fn addresses_names_and_keys_that_cannot_be_served_are_refused() {
    let model = |name: &str| ServedModel::start(name, causal(), EngineOptions::default()).expect("a model");
    let bind = |models: Vec<ServedModel>, options: ServerOptions| match Server::bind(models, options) {
        Ok(_) => panic!("it was bound"),
        Err(error) => error,
    };
    let running = server();
    let taken = ServerOptions {
        port: running.address.port(),
        ..options()
    };
    let error = bind(vec![model("a")], taken);
    assert!(matches!(error, ServerError::PortInUse { .. }), "{error}");
    assert!(error.to_string().contains(&running.address.to_string()), "{error}");
    let host = |host: &str| ServerOptions {
        host: host.to_owned(),
        ..options()
    };
    assert!(matches!(
        bind(vec![model("a")], host("0.0.0.0")),
        ServerError::KeyNeeded { .. }
    ));
    for name in ["203.0.113.7", "not a host"] {
        let with_key = ServerOptions {
            key: Some("k".to_owned()),
            ..host(name)
        };
        assert!(
            matches!(bind(vec![model("a")], with_key), ServerError::Address { .. }),
            "{name}"
        );
    }
    for key in ["", "two words", "line\nbreak", "clé"] {
        let with_key = ServerOptions {
            key: Some(key.to_owned()),
            ..options()
        };
        assert!(
            matches!(bind(vec![model("a")], with_key), ServerError::BadKey),
            "{key:?}"
        );
    }
    assert!(matches!(bind(Vec::new(), options()), ServerError::NoModel));
    assert!(matches!(
        bind(vec![model("a"), model("a")], options()),
        ServerError::SameName { .. }
    ));
    for name in ["", "a b", "a\"b", "a\nb"] {
        assert!(
            matches!(bind(vec![model(name)], options()), ServerError::BadName { .. }),
            "{name:?}"
        );
    }
}
