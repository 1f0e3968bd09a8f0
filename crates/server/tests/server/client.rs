//! HTTP/1.1 by hand: tests need to send what no client library sends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The message of an error, its field and its code.
    pub fn error(&self) -> (String, Value, Value) {
        let error = self.json()["error"].clone();
        let message = error["message"]
            .as_str()
            .unwrap_or_else(|| panic!("{self:?}"))
            .to_owned();
        (message, error["param"].clone(), error["code"].clone())
    }

    /// The objects of a stream, which must have ended properly.
    pub fn events(&self) -> Vec<Value> {
        let mut lines: Vec<&str> = self
            .body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect();
        assert_eq!(lines.pop(), Some("[DONE]"), "{}", self.body);
        lines
            .iter()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a socket");
    stream
}

/// The head of a request, and more lines for it.
pub fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n")
}

pub fn head_of_json(path: &str, length: usize) -> String {
    let more = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    head("POST", path, &more)
}

/// Sends bytes and reads the answer to its end.
pub fn send(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = connect(address);
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes);
    read(stream)
}

pub fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, head("GET", path, "").as_bytes())
}

pub fn post(address: SocketAddr, path: &str, body: &Value) -> Reply {
    let body = body.to_string();
    send(address, format!("{}{body}", head_of_json(path, body.len())).as_bytes())
}

pub fn read(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A reset after the answer is an end like any other.
    let _ = stream.read_to_end(&mut bytes);
    parsed(&bytes)
}

fn parsed(bytes: &[u8]) -> Reply {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
    let head = std::str::from_utf8(&bytes[..end]).expect("a head of ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let body = &bytes[end + 4..];
    let is_chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = match is_chunked {
        true => unchunked(body),
        false => body.to_vec(),
    };
    Reply {
        status: status.parse().expect("a number"),
        headers,
        body: String::from_utf8(body).expect("UTF-8"),
    }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = bytes.windows(2).position(|window| window == b"\r\n") {
        let length = std::str::from_utf8(&bytes[..line]).expect("a length");
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            break;
        }
        body.extend_from_slice(&bytes[line + 2..line + 2 + length]);
        bytes = &bytes[line + 4 + length..];
    }
    body
}

/// Reads a stream until it has sent this many events.
pub fn read_events(stream: &mut TcpStream, count: usize) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while text.matches("data: ").count() < count {
        let length = stream.read(&mut buffer).expect("more");
        assert!(length > 0, "it ended after {text}");
        text.push_str(std::str::from_utf8(&buffer[..length]).expect("ASCII"));
    }
    text
}
