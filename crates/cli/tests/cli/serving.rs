//! `taal serve --run`: a run is served while it trains.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::runs::endless;
use crate::{Place, fails};

/// A program that ends with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on any free port, its address, and its messages.
fn serve(place: &Place, arguments: &[&str]) -> (Ending, String, Receiver<String>) {
    let mut child = place
        .command(&[&["serve", "--port", "0"], arguments].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("taal starts");
    let messages = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let (send, received) = channel();
    std::thread::spawn(move || messages.map_while(Result::ok).try_for_each(|line| send.send(line)));
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let child = Ending(child);
    let line = lines.next().and_then(Result::ok);
    let line = line.unwrap_or_else(|| panic!("no address; {:?}", received.try_iter().collect::<Vec<_>>()));
    let address = line.split("http://").nth(1).expect("an address").to_owned();
    (child, address, received)
}

/// The answer to a request without its head.
fn asked(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.split("\r\n\r\n").nth(1).expect("a body").to_owned()
}

#[test]
fn the_newest_checkpoint_of_a_run_under_way_answers() {
    let place = Place::new();
    let _training = Ending(endless(&place, "runs/live"));
    let (_server, address, messages) = serve(&place, &["--run", "runs/live", "--context", "8"]);
    let models = asked(
        &address,
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert!(models.contains("\"id\":\"live\""), "{models}");
    let body = "{\"prompt\": \"de kat\", \"max_tokens\": 1, \"temperature\": 0}";
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = asked(&address, &request);
        assert!(answer.contains("\"carbon\":{\"joules\":"), "{answer}");
        // A checkpoint that the run has removed in the meantime is passed over.
        if messages
            .try_iter()
            .any(|line| line.starts_with("serving the checkpoint of step "))
        {
            break;
        }
        assert!(Instant::now() < limit, "no newer checkpoint was served");
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn a_run_without_a_checkpoint_and_a_priority_without_a_run_are_refused() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("runs/new")).expect("a folder");
    place.write("runs/new/recipe.toml", "");
    fails(
        place.taal(&["serve", "--port", "0", "--run", "runs/new"]),
        2,
        &["runs/new"],
    );
    let without_run = ["serve", "--port", "0", "--model", "runs/new", "--priority", "serve"];
    fails(place.taal(&without_run), 2, &["--run"]);
}
