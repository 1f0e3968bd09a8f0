//! From an address to connections, and to the end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::app::{App, ServedModel};
use crate::http::{Connection, NoHead, Reply, write_whole};
use crate::router::{self, RequestRecord};
use crate::{Result, ServerError};

/// Bytes of the stack of a connection's thread.
const STACK: usize = 1 << 20;

/// How long the server waits before it accepts again after the operating system refused.
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
    pub max_connections: usize,
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
pub struct Stopper {
    is_stopping: Arc<AtomicBool>,
    address: SocketAddr,
}

impl Stopper {
    /// The server accepts no further connections, finishes the answers under way, and ends.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        // The server waits for a connection; this one wakes it. If it fails, the server has ended already.
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let _ = TcpStream::connect_timeout(&SocketAddr::new(ip, self.address.port()), Duration::from_secs(1));
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }
}

/// A server that is bound to its address.
pub struct Server {
    app: App,
    listener: TcpListener,
    options: ServerOptions,
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
        let (listener, bound) = listener(&options)?;
        Ok(Self {
            app: App::new(models, &options, bound.ip().is_loopback()),
            listener,
            options,
            stopper: Stopper {
                is_stopping: Arc::default(),
                address: bound,
            },
        })
    }

    /// The address, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.stopper.address
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

    /// Serves until the [`Stopper`] stops it, a thread per connection; returns whether all answers under way were finished.
    pub fn run(self) -> bool {
        let Self {
            app,
            listener,
            options,
            stopper,
        } = self;
        let app = Arc::new(app);
        let places = Arc::new(Places::new(options.max_connections));
        while !stopper.is_stopping() {
            if !places.wait_for_one(PAUSE) {
                continue;
            }
            match listener.accept() {
                Ok((stream, _)) if !stopper.is_stopping() => begin(stream, &app, &places, &stopper),
                Ok(_) => (),
                // Such as too many open files: it passes when connections end.
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        app.is_stopping.store(true, Ordering::Relaxed);
        drop(listener);
        let is_finished = places.wait_for_all(options.stop_timeout);
        for engine in app.models.iter().filter_map(ServedModel::engine) {
            engine.stop();
        }
        // Answers that were cut off notice it at their next token.
        is_finished || {
            places.wait_for_all(PAUSE);
            false
        }
    }
}

/// Gives a connection its thread.
fn begin(stream: TcpStream, app: &Arc<App>, places: &Arc<Places>, stopper: &Stopper) {
    let (app, stopper) = (app.clone(), stopper.clone());
    let place = Place::taken(places);
    let thread = std::thread::Builder::new()
        .name("taal-connection".to_owned())
        .stack_size(STACK);
    let thread = thread.spawn(move || {
        if let Ok(connection) = Connection::new(stream, app.write_timeout) {
            serve(&app, connection, &stopper);
        }
        drop(place);
    });
    if thread.is_err() {
        // The connection is closed, and its place free again.
        std::thread::sleep(PAUSE);
    }
}

/// Answers the requests of a connection until its client leaves, is too slow, or the server stops.
fn serve(app: &App, mut connection: Connection, stopper: &Stopper) {
    loop {
        let is_stopping = || stopper.is_stopping();
        match connection.head(app.head_timeout, &is_stopping) {
            Ok(head) if router::answer(app, &mut connection, &head, is_stopping()) => (),
            Ok(_) => break,
            Err(NoHead::End) => return,
            Err(NoHead::Bad(refusal)) => {
                let reply = Reply::from(refusal);
                // The client may have left.
                let _ = write_whole(&mut connection, &reply, crate::http::Method::Other, false);
                break;
            }
        }
    }
    connection.end();
}

/// The places of connections.
struct Places {
    taken: Mutex<usize>,
    changed: Condvar,
    limit: usize,
}

impl Places {
    fn new(limit: usize) -> Self {
        Self {
            taken: Mutex::new(0),
            changed: Condvar::new(),
            limit: limit.max(1),
        }
    }

    fn change(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Whether there is a place, at the latest after `limit`. Only the caller takes places, so it stays free until then.
    fn wait_for_one(&self, limit: Duration) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |taken: &mut usize| *taken >= self.limit;
        let waited = self.changed.wait_timeout_while(taken, limit, is_full);
        *waited.unwrap_or_else(PoisonError::into_inner).0 < self.limit
    }

    /// Whether all became free within `limit`.
    fn wait_for_all(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(taken, left);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// One of the places, free again when it is dropped.
struct Place(Arc<Places>);

impl Place {
    fn taken(places: &Arc<Places>) -> Self {
        places.change(|taken| *taken += 1);
        Self(places.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.change(|taken| *taken -= 1);
    }
}

/// A socket at the address, and the address with the port that was chosen.
fn listener(options: &ServerOptions) -> Result<(TcpListener, SocketAddr)> {
    check_key(options.key.as_deref())?;
    let address = address_of(options)?;
    if options.key.is_none() && !address.ip().is_loopback() {
        return Err(ServerError::KeyNeeded { address });
    }
    let listener = TcpListener::bind(address).map_err(|source| match source.kind() {
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
