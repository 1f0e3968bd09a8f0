//! The body of a request, of a known length or in chunks.

use std::time::{Duration, Instant};

use super::head::Length;
use super::{Connection, Head, is_late};
use crate::failure::{Refusal, Status};

/// Bytes of the line before a chunk, and of all lines after the last one.
const MAX_LINE: usize = 1024;

impl Connection {
    /// The whole body of a request.
    ///
    /// # Errors
    ///
    /// 413 beyond `most` bytes, 408 beyond `limit`, 400 where it ends early.
    pub(crate) fn body(&mut self, head: &Head, most: usize, limit: Duration) -> Result<Vec<u8>, Refusal> {
        let too_large = || Refusal::status(Status::TooLarge, format!("the body is larger than {most} bytes"));
        if matches!(head.length, Length::Known(length) if length > most as u64) {
            return Err(too_large());
        }
        if head
            .text("expect")
            .is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue"))
        {
            let go_on = self.write(b"HTTP/1.1 100 Continue\r\n\r\n");
            go_on.map_err(|_| ended_early())?;
        }
        let end = Instant::now() + limit;
        match head.length {
            Length::Known(length) => self.exactly(length as usize, end),
            Length::Chunked => {
                let mut body = Vec::new();
                loop {
                    let length = self.chunk_length(end)?;
                    if length > (most - body.len()) as u64 {
                        return Err(too_large());
                    }
                    if length == 0 {
                        self.trailer(end)?;
                        return Ok(body);
                    }
                    body.extend(self.exactly(length as usize, end)?);
                    if self.exactly(2, end)? != b"\r\n" {
                        return Err(Refusal::bad("a chunk of the body does not end where it should"));
                    }
                }
            }
        }
    }

    fn exactly(&mut self, length: usize, end: Instant) -> Result<Vec<u8>, Refusal> {
        while self.unread.len() < length {
            self.more(length - self.unread.len(), end)?;
        }
        let rest = self.unread.split_off(length);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    fn chunk_length(&mut self, end: Instant) -> Result<u64, Refusal> {
        loop {
            match httparse::parse_chunk_size(&self.unread) {
                Ok(httparse::Status::Complete((used, length))) => {
                    self.unread.drain(..used);
                    return Ok(length);
                }
                Ok(httparse::Status::Partial) if self.unread.len() < MAX_LINE => self.more(MAX_LINE, end)?,
                _ => return Err(Refusal::bad("the length of a chunk of the body is not a number")),
            }
        }
    }

    /// Reads the fields after the last chunk, which mean nothing here.
    fn trailer(&mut self, end: Instant) -> Result<(), Refusal> {
        let mut read = 0;
        loop {
            match self.unread.windows(2).position(|two| two == b"\r\n") {
                Some(0) => {
                    self.unread.drain(..2);
                    return Ok(());
                }
                Some(length) if read + length < MAX_LINE => {
                    read += length;
                    self.unread.drain(..length + 2);
                }
                None if self.unread.len() < MAX_LINE => self.more(MAX_LINE, end)?,
                _ => return Err(Refusal::bad("too much follows the body")),
            }
        }
    }

    fn more(&mut self, most: usize, end: Instant) -> Result<(), Refusal> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Refusal::status(Status::Late, "the body took too long"));
        }
        match self.fill(left, most) {
            Ok(0) => Err(ended_early()),
            Ok(_) => Ok(()),
            Err(error) if is_late(&error) => Ok(()),
            Err(_) => Err(ended_early()),
        }
    }
}

fn ended_early() -> Refusal {
    Refusal::bad("the body ended early")
}
