//! HTTP/1.1 on one connection: heads and bodies with limits, answers whole and in pieces.

mod body;
mod head;
mod reply;

pub(crate) use self::head::{Head, Method};
pub(crate) use self::reply::{Pieces, Reply, write_pieces, write_whole};

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::failure::Refusal;

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;

/// How often a connection that waits for its next request looks whether the server stops.
const GLANCE: Duration = Duration::from_millis(100);

/// How long, and for how many bytes, a client may go on sending after its last answer.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 1 << 20);

/// A connection, and the bytes of it that were read and not used.
pub(crate) struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum NoHead {
    /// The client has left, was too slow, or the server stops: nothing is to be said.
    End,
    /// Something that is no request.
    Bad(Refusal),
}

impl Connection {
    /// # Errors
    ///
    /// The operating system's.
    pub(crate) fn new(stream: TcpStream, write_timeout: Duration) -> io::Result<Self> {
        // Tokens are small, and should leave at once.
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(write_timeout))?;
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// Waits for the head of the next request, at most `limit`.
    pub(crate) fn head(&mut self, limit: Duration, is_stopping: &dyn Fn() -> bool) -> Result<Head, NoHead> {
        let end = Instant::now() + limit;
        loop {
            if let Some((head, length)) = Head::parsed(&self.unread).map_err(NoHead::Bad)? {
                self.unread.drain(..length);
                return Ok(head);
            }
            if self.unread.len() >= MAX_HEAD {
                return Err(NoHead::Bad(head::too_large()));
            }
            let left = end.saturating_duration_since(Instant::now());
            // What has begun is finished; who has not begun need not begin.
            if left.is_zero() || (self.unread.is_empty() && is_stopping()) {
                return Err(NoHead::End);
            }
            match self.fill(left.min(GLANCE), MAX_HEAD - self.unread.len()) {
                Ok(0) => return Err(NoHead::End),
                Ok(_) => (),
                Err(error) if is_late(&error) => (),
                Err(_) => return Err(NoHead::End),
            }
        }
    }

    /// Reads up to `most` further bytes; returns how many came.
    fn fill(&mut self, limit: Duration, most: usize) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(limit))?;
        let mut bytes = [0; 8192];
        let most = most.min(bytes.len());
        let length = self.stream.read(&mut bytes[..most])?;
        self.unread.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    /// Whether the client has closed the connection.
    pub(crate) fn is_left(&self) -> bool {
        let mut byte = [0];
        let peeked = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.peek(&mut byte));
        let restored = self.stream.set_nonblocking(false);
        let is_open = match peeked {
            Ok(length) => length > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        restored.is_err() || !is_open
    }

    /// Writes everything.
    ///
    /// # Errors
    ///
    /// The operating system's, also where the client takes nothing for too long.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Ends a connection whose client may still be sending: closing it at once would take back the answer before it is read.
    pub(crate) fn end(mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        let end = Instant::now() + LINGER.0;
        let mut read = 0;
        while Instant::now() < end && read < LINGER.1 {
            self.unread.clear();
            match self.fill(GLANCE, usize::MAX) {
                Ok(0) => return,
                Ok(length) => read += length,
                Err(error) if is_late(&error) => (),
                Err(_) => return,
            }
        }
    }
}

/// Whether nothing came within the time limit.
fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
