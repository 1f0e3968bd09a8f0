//! Streams of server-sent events that are written as their client takes them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::failure::Refusal;

/// Events that may wait for a client; the writer waits then too.
const WAITING: usize = 32;

/// The sending side of a stream.
pub(crate) struct Events(mpsc::Sender<Event>);

impl Events {
    /// Sends an object.
    ///
    /// # Errors
    ///
    /// 500 where it cannot be written as JSON.
    pub(crate) async fn send(&self, value: &impl Serialize) -> Result<(), Refusal> {
        self.event(Event::default().data(json(value)?)).await
    }

    /// Sends an object under a name.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub(crate) async fn send_named(&self, name: &str, value: &impl Serialize) -> Result<(), Refusal> {
        self.event(Event::default().event(name).data(json(value)?)).await
    }

    /// Sends the mark that ends OpenAI's streams.
    ///
    /// # Errors
    ///
    /// None; the same type as [`send`](Self::send).
    pub(crate) async fn done(&self) -> Result<(), Refusal> {
        self.event(Event::default().data("[DONE]")).await
    }

    async fn event(&self, event: Event) -> Result<(), Refusal> {
        // Without a receiver this future is dropped too.
        let _ = self.0.send(event).await;
        Ok(())
    }
}

/// JSON has no line breaks, so one line is one event.
fn json(value: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|error| Refusal::internal(error.to_string()))
}

/// An answer of events. `write` runs while the client reads, and is dropped when the client leaves; where it fails, the answer is cut
/// off without its end.
pub(crate) fn respond<F>(write: impl FnOnce(Events) -> F) -> Response
where
    F: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    let (sender, events) = mpsc::channel(WAITING);
    let written = Written {
        events,
        writer: Some(Box::pin(write(Events(sender)))),
        is_failed: false,
    };
    // Comments between events keep a connection open while a long prompt is read.
    Sse::new(written).keep_alive(KeepAlive::default()).into_response()
}

/// What writes the events.
type Writer = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// Events, and what writes them.
struct Written {
    events: mpsc::Receiver<Event>,
    writer: Option<Writer>,
    is_failed: bool,
}

impl Stream for Written {
    type Item = io::Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(writer) = &mut self.writer
            && let Poll::Ready(end) = writer.as_mut().poll(context)
        {
            self.writer = None;
            self.is_failed = end.is_err();
        }
        match ready!(self.events.poll_recv(context)) {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None if std::mem::take(&mut self.is_failed) => {
                Poll::Ready(Some(Err(io::Error::other("the answer was cut off"))))
            }
            None => Poll::Ready(None),
        }
    }
}
