//! A socket whose client must take what it asked for, and learns why hyper refuses its request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::failure::Refusal;
use crate::router::{self, FIELDS};

/// Bytes of the head of a refusal of hyper's, which is shorter.
const MAX_REFUSAL: usize = 512;

/// A socket whose writes fail when the client takes nothing for too long. hyper has a time limit for heads only.
pub(crate) struct Socket {
    stream: TcpStream,
    limit: Duration,
    /// When the write that waits is late.
    late: Option<Pin<Box<Sleep>>>,
    /// What is sent instead of a refusal of hyper's, and how many bytes of it were.
    instead: Option<(Vec<u8>, usize)>,
    /// Whether the client has sent anything.
    is_begun: Arc<AtomicBool>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, limit: Duration, is_begun: Arc<AtomicBool>) -> Self {
        Self {
            stream,
            limit,
            late: None,
            instead: None,
            is_begun,
        }
    }

    /// Writes these bytes, or all of what is sent instead of them.
    fn write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.instead.is_none() {
            self.instead = explained(bytes).map(|refusal| (refusal, 0));
        }
        while let Some((refusal, sent)) = &mut self.instead {
            match Pin::new(&mut self.stream).poll_write(context, &refusal[*sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(length)) => *sent += length,
                other => return other,
            }
            if *sent == refusal.len() {
                self.instead = None;
                return Poll::Ready(Ok(bytes.len()));
            }
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// The outcome of a write, or its failure when nothing could be written for the time limit.
    fn in_time(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if outcome.is_ready() {
            self.late = None;
            return outcome;
        }
        let limit = self.limit;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(limit)));
        late.as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.is_begun.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = self.write(context, bytes);
        self.in_time(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = match slices {
            [bytes] => self.write(context, bytes),
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, slices),
        };
        self.in_time(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The answer with a reason for one of hyper's to a request that it cannot read. It has a head only, without any of the fields that
/// the router gives every answer.
fn explained(bytes: &[u8]) -> Option<Vec<u8>> {
    const EMPTY: &str = "content-length: 0\r\n";
    // Most writes are pieces of answers.
    if bytes.len() > MAX_REFUSAL || !bytes.starts_with(b"HTTP/1.") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?;
    let lines = head.strip_suffix("\r\n")?;
    let status = lines.strip_prefix("HTTP/1.")?.get(2..5)?;
    let is_whole = lines.ends_with("\r\n") && lines.contains(EMPTY) && !lines.contains(FIELDS[0].0);
    let message = router::unreadable(status.parse().ok()?).filter(|_| is_whole)?;
    let body = serde_json::to_string(&Refusal::bad(message).json()).ok()?;
    let more: String = FIELDS
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = format!(
        "content-type: application/json\r\n{more}content-length: {}\r\n",
        body.len()
    );
    Some(format!("{}\r\n{body}", lines.replace(EMPTY, &length)).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_refusal_of_a_request_that_cannot_be_read_is_explained() {
        let refusal = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let answer = String::from_utf8(explained(refusal.as_bytes()).expect("an answer")).expect("a text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        assert!(head.ends_with(&format!("\r\ncontent-length: {}", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert!(
            body["error"]["message"]
                .as_str()
                .is_some_and(|message| message.contains("fields")),
            "{body}"
        );
        for other in [
            refusal.replace("431 ", "200 "),
            refusal.replace("content-length: 0", "content-length: 5"),
            refusal.replace("connection: close", "content-security-policy: x"),
            format!("{refusal}x"),
            refusal.trim_end().to_owned(),
            String::new(),
        ] {
            assert_eq!(explained(other.as_bytes()), None, "{other}");
        }
    }
}
