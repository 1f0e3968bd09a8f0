//! From a listening socket to connections, and the end of each.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::socket::Socket;

/// How long the server waits before it accepts again after the operating system refused.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes and fields of a head beyond which hyper itself refuses it. The router refuses smaller ones first; the socket gives hyper's
/// refusals their reason.
const MAX_HEAD: (usize, usize) = (32 * 1024, 256);

/// How long a client may be silent after its last answer before the connection is closed, ...
const SILENCE: Duration = Duration::from_secs(1);
/// ... and how long and for how many bytes it may go on sending. Many clients send all of a body that is too large before they read why.
const LINGER: (Duration, usize) = (Duration::from_secs(10), 128 << 20);

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) router: Router,
    /// How long a client may take for the head of a request.
    pub(crate) head_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub(crate) write_timeout: Duration,
    /// One permit per connection.
    pub(crate) places: Arc<Semaphore>,
    /// Whether the server is stopping.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Connections {
    /// Accepts connections until the future is dropped; each gets a task.
    pub(crate) async fn accept(self, listener: TcpListener) {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().serve(stream, place))),
                // Such as too many open files: it passes when connections end.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Answers the requests of a connection until its client leaves, is too slow, or the server stops.
    async fn serve(self, stream: TcpStream, _place: OwnedSemaphorePermit) {
        // Tokens are small, and should leave at once.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let is_begun = Arc::new(AtomicBool::new(false));
        let socket = Socket::new(stream, self.write_timeout, is_begun.clone());
        let mut stopping = self.stopping;
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_buf_size(MAX_HEAD.0)
            .max_headers(MAX_HEAD.1)
            .serve_connection(TokioIo::new(socket), TowerToHyperService::new(self.router));
        let mut stopped = pin!(stopping.wait_for(|is_stopping| *is_stopping));
        let mut is_told = false;
        // An error is a client that left or was too slow; what could be said to it, hyper has said.
        let _ = poll_fn(|context| {
            if !is_told && stopped.as_mut().poll(context).is_ready() {
                is_told = true;
                // What has begun is finished; a client that has not begun need not begin.
                if !is_begun.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                Pin::new(&mut connection).graceful_shutdown();
            }
            connection.poll_without_shutdown(context)
        })
        .await;
        let socket = connection.into_parts().io.into_inner();
        // The client may take its time, or have left.
        let _ = tokio::time::timeout(LINGER.0, end(socket)).await;
    }
}

/// Ends a connection whose client may still be sending: closing it at once would take back the answer before it is read.
async fn end(mut socket: Socket) -> io::Result<()> {
    poll_fn(|context| Pin::new(&mut socket).poll_shutdown(context)).await?;
    let mut bytes = [0; 8192];
    let mut read = 0;
    while read < LINGER.1 {
        let mut buffer = ReadBuf::new(&mut bytes);
        let reading = poll_fn(|context| Pin::new(&mut socket).poll_read(context, &mut buffer));
        tokio::time::timeout(SILENCE, reading).await??;
        match buffer.filled().len() {
            0 => break,
            length => read += length,
        }
    }
    Ok(())
}
