//! From an address to connections, and to the end.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use taal_metrics::energy::{Grid, Meter};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::app::App;
use crate::connection::Connections;
use crate::conversations::Conversations;
use crate::energy::Ledger;
use crate::model::ServedModel;
use crate::router::{self, RequestRecord};
use crate::{Result, ServerError};

/// Threads for connections, and at most for what computes for long. Engines have their own.
const THREADS: (usize, usize) = (2, 16);

/// Connections that a semaphore can count.
const MAX_CONNECTIONS: u32 = 1 << 16;

/// How long what was cut off may take to notice it.
const PAUSE: Duration = Duration::from_millis(100);

/// Where and how a server listens.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// An address of this machine, or its name.
    pub host: String,
    /// 0 takes any free one.
    pub port: u16,
    /// The key that requests must carry; needed where others can reach the address.
    pub key: Option<String>,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Connections at the same time; others wait.
    pub max_connections: u32,
    /// How long a request may wait for its turn.
    pub queue_timeout: Duration,
    /// How long a client may take for the head of a request.
    pub head_timeout: Duration,
    /// How long a client may take for the body of a request.
    pub body_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long answers may take after the server was asked to stop.
    pub stop_timeout: Duration,
}

impl Default for ServerOptions {
    /// Port 8080 of this machine only, without a key.
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            key: None,
            max_body: 1 << 20,
            max_connections: 1024,
            queue_timeout: Duration::from_secs(60),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(60),
        }
    }
}

/// Stops a server from another thread.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// The server accepts no further connections, finishes the answers under way, and ends.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// A server that is bound to its address.
pub struct Server {
    app: App,
    listener: TcpListener,
    address: SocketAddr,
    options: ServerOptions,
    runtime: Runtime,
    stopper: Stopper,
}

impl Server {
    /// Whether the address and the key can be used: what [`bind`](Self::bind) would refuse, without a model.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn check(options: &ServerOptions) -> Result<()> {
        listener(options).map(|_| ())
    }

    /// Binds the address. From then on clients can connect; they are answered once the server [runs](Self::run).
    ///
    /// # Errors
    ///
    /// [`ServerError`], each for what it names.
    pub fn bind(models: Vec<ServedModel>, options: ServerOptions) -> Result<Self> {
        check_names(&models)?;
        let (listener, address) = listener(&options)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS.0)
            .max_blocking_threads(THREADS.1)
            .thread_name("taal-server")
            .enable_all()
            .build()
            .map_err(|source| ServerError::Threads { source })?;
        let listener = {
            let _inside = runtime.enter();
            let listener = listener
                .set_nonblocking(true)
                .and_then(|()| TcpListener::from_std(listener));
            listener.map_err(|source| ServerError::Listen { address, source })?
        };
        Ok(Self {
            app: App::new(models, &options, address.ip().is_loopback()),
            listener,
            address,
            options,
            runtime,
            stopper: Stopper(watch::Sender::new(false)),
        })
    }

    /// The address, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the server.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Calls `see` after each request; prompts and answers are not in the record.
    #[must_use]
    pub fn on_request(mut self, see: impl Fn(&RequestRecord) + Send + Sync + 'static) -> Self {
        self.app.on_request = Some(Box::new(see));
        self
    }

    /// Says in answers and figures how much energy they took, and the greenhouse gases of this electricity. `pue` is the power usage
    /// effectiveness, at least 1.
    #[must_use]
    pub fn metered(mut self, meter: Meter, grid: Grid, pue: f64) -> Self {
        self.app.energy = Some(Arc::new(Ledger::new(meter, grid, pue)));
        self
    }

    /// Lets the page keep its conversations in this folder, which is made where it does not exist. Several servers can share one.
    ///
    /// # Errors
    ///
    /// [`ServerError::Store`] where the folder or its file cannot be used.
    pub fn keep_conversations(&mut self, folder: &Path) -> Result<()> {
        self.app.conversations = Some(Conversations::open(folder)?);
        Ok(())
    }

    /// Lets the page show the runs of a folder, which need not exist yet.
    #[must_use]
    pub fn with_runs(mut self, folder: &Path) -> Self {
        self.app.runs = Some(folder.to_path_buf());
        self
    }

    /// Serves until the [`Stopper`] stops it; returns whether all answers under way were finished.
    pub fn run(self) -> bool {
        let Self {
            app,
            listener,
            options,
            runtime,
            stopper,
            ..
        } = self;
        let is_finished = runtime.block_on(serve(Arc::new(app), listener, &options, &stopper));
        // What was cut off computes something that nobody waits for.
        runtime.shutdown_timeout(PAUSE);
        is_finished
    }
}

/// Serves until the server is stopped, and ends the engines; returns whether all answers under way were finished.
async fn serve(app: Arc<App>, listener: TcpListener, options: &ServerOptions, stopper: &Stopper) -> bool {
    let count = options.max_connections.clamp(1, MAX_CONNECTIONS);
    let places = Arc::new(Semaphore::new(count as usize));
    let mut stopping = stopper.0.subscribe();
    let connections = Connections {
        router: router::router(&app),
        head_timeout: options.head_timeout,
        write_timeout: options.write_timeout,
        places: places.clone(),
        stopping: stopping.clone(),
    };
    let accepting = tokio::spawn(connections.accept(listener));
    if let Some(ledger) = &app.energy {
        tokio::spawn(sample(ledger.clone()));
    }
    // It fails only without a stopper, and there is one.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
    app.is_stopping.store(true, Ordering::Relaxed);
    accepting.abort();
    // The socket is closed once the task is gone.
    let _ = accepting.await;
    let all_end = async |limit| timeout(limit, places.acquire_many(count)).await.is_ok();
    let is_finished = all_end(options.stop_timeout).await;
    for engine in app.models.iter().filter_map(ServedModel::engine) {
        engine.stop();
    }
    // Answers that were cut off notice it at their next token.
    is_finished || {
        all_end(PAUSE).await;
        false
    }
}

/// Reads the sensors now and then, so that no counter goes around unseen while nobody asks.
async fn sample(ledger: Arc<Ledger>) {
    loop {
        tokio::time::sleep(ledger.period()).await;
        let ledger = ledger.clone();
        // It fails only where the meter panics, which the next answer reports.
        let _ = tokio::task::spawn_blocking(move || drop(ledger.reading())).await;
    }
}

/// A socket at the address, and the address with the port that was chosen.
fn listener(options: &ServerOptions) -> Result<(std::net::TcpListener, SocketAddr)> {
    check_key(options.key.as_deref())?;
    let address = address_of(options)?;
    if options.key.is_none() && !address.ip().is_loopback() {
        return Err(ServerError::KeyNeeded { address });
    }
    let listener = std::net::TcpListener::bind(address).map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => ServerError::PortInUse { address },
        std::io::ErrorKind::AddrNotAvailable => ServerError::Address {
            host: options.host.clone(),
        },
        _ => ServerError::Listen { address, source },
    })?;
    let bound = listener
        .local_addr()
        .map_err(|source| ServerError::Listen { address, source })?;
    Ok((listener, bound))
}

fn address_of(options: &ServerOptions) -> Result<SocketAddr> {
    let host = options.host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, options.port));
    }
    let found = (host, options.port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next());
    found.ok_or_else(|| ServerError::Address {
        host: options.host.clone(),
    })
}

fn check_key(key: Option<&str>) -> Result<()> {
    let is_good = |key: &str| (1..=512).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    match key.is_none_or(is_good) {
        true => Ok(()),
        false => Err(ServerError::BadKey),
    }
}

fn check_names(models: &[ServedModel]) -> Result<()> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
    let mut seen = std::collections::BTreeSet::new();
    for ServedModel { name, .. } in models {
        if !(1..=128).contains(&name.len()) || !name.bytes().all(is_fit) {
            return Err(ServerError::BadName { name: name.clone() });
        }
        if !seen.insert(name) {
            return Err(ServerError::SameName { name: name.clone() });
        }
    }
    match models.is_empty() {
        true => Err(ServerError::NoModel),
        false => Ok(()),
    }
}
