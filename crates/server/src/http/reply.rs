//! Answers, whole or in pieces.

use std::fmt::Write as _;
use std::io;
use std::time::SystemTime;

use super::{Connection, Head, Method};
use crate::failure::Status;

/// Fields of every answer. Only files of the server itself may be loaded by its page, and no other page may show it.
const FIELDS: &str = "content-security-policy: default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
                      x-content-type-options: nosniff\r\n\
                      referrer-policy: no-referrer\r\n\
                      cross-origin-resource-policy: same-origin\r\n\
                      cross-origin-opener-policy: same-origin\r\n";

/// An answer as a whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: Status,
    /// The type of the body.
    pub(crate) kind: &'static str,
    /// Further fields, each with its line end.
    pub(crate) fields: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn new(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: Status::Ok,
            kind,
            fields: "cache-control: no-store\r\n".to_owned(),
            body: body.into(),
        }
    }
}

fn beginning(status: Status, kind: &str, fields: &str, keeps_alive: bool) -> String {
    let (code, reason) = status.line();
    let date = httpdate::fmt_http_date(SystemTime::now());
    let connection = if keeps_alive { "" } else { "connection: close\r\n" };
    format!("HTTP/1.1 {code} {reason}\r\ndate: {date}\r\ncontent-type: {kind}\r\n{FIELDS}{fields}{connection}")
}

/// Sends a whole answer.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn write_whole(
    connection: &mut Connection,
    reply: &Reply,
    method: Method,
    keeps_alive: bool,
) -> io::Result<()> {
    let mut text = beginning(reply.status, reply.kind, &reply.fields, keeps_alive);
    let _ = write!(text, "content-length: {}\r\n\r\n", reply.body.len());
    let mut bytes = text.into_bytes();
    if method != Method::Head {
        bytes.extend_from_slice(&reply.body);
    }
    connection.write(&bytes)
}

/// An answer in pieces, each sent as soon as it is there.
pub(crate) struct Pieces<'a> {
    connection: &'a mut Connection,
    is_chunked: bool,
}

/// Sends the beginning of an answer in pieces. A client of HTTP/1.0 gets them without lengths, up to the end of the connection.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn write_pieces<'a>(
    connection: &'a mut Connection,
    head: &Head,
    kind: &str,
    keeps_alive: bool,
) -> io::Result<Pieces<'a>> {
    let is_chunked = head.is_new;
    let mut text = beginning(
        Status::Ok,
        kind,
        "cache-control: no-store\r\n",
        keeps_alive && is_chunked,
    );
    if is_chunked {
        text.push_str("transfer-encoding: chunked\r\n");
    }
    text.push_str("\r\n");
    connection.write(text.as_bytes())?;
    Ok(Pieces { connection, is_chunked })
}

impl Pieces<'_> {
    /// Sends a piece, which must not be empty.
    ///
    /// # Errors
    ///
    /// The operating system's, also where the client takes nothing for too long.
    pub(crate) fn send(&mut self, piece: &str) -> io::Result<()> {
        match self.is_chunked {
            true => self
                .connection
                .write(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()),
            false => self.connection.write(piece.as_bytes()),
        }
    }

    /// Ends the answer.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub(crate) fn finish(self) -> io::Result<()> {
        match self.is_chunked {
            true => self.connection.write(b"0\r\n\r\n"),
            false => Ok(()),
        }
    }

    /// Whether the client has closed the connection.
    pub(crate) fn is_left(&self) -> bool {
        self.connection.is_left()
    }
}
