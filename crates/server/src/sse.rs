//! Streams of server-sent events.

use std::io;

use serde_json::Value;

use crate::http::Pieces;

/// The sending side of a stream.
pub(crate) struct Events<'a>(Pieces<'a>);

impl<'a> Events<'a> {
    pub(crate) fn new(pieces: Pieces<'a>) -> Self {
        Self(pieces)
    }

    /// Sends an object. JSON has no line breaks, so one line is one event.
    ///
    /// # Errors
    ///
    /// Where the client has left, or takes nothing.
    pub(crate) fn send(&mut self, value: &Value) -> io::Result<()> {
        self.0.send(&format!("data: {value}\n\n"))
    }

    /// Sends the mark that ends OpenAI's streams.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub(crate) fn done(&mut self) -> io::Result<()> {
        self.0.send("data: [DONE]\n\n")
    }

    /// Whether the client has left.
    pub(crate) fn is_left(&self) -> bool {
        self.0.is_left()
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        self.0.finish()
    }
}
