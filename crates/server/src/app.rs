//! What all requests share: models, key, limits, figures.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::conversations::Conversations;
use crate::energy::Ledger;
use crate::failure::Refusal;
use crate::metrics::Metrics;
use crate::model::ServedModel;
use crate::router::RequestRecord;

/// Seconds since 1970.
pub(crate) fn seconds_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Called after each request.
type OnRequest = Box<dyn Fn(&RequestRecord) + Send + Sync>;

/// Everything behind the routes.
pub(crate) struct App {
    /// At least one; the first serves requests that name none.
    pub(crate) models: Vec<ServedModel>,
    pub(crate) key: Option<blake3::Hash>,
    /// Whether only this machine can reach the server.
    pub(crate) is_local: bool,
    pub(crate) max_body: usize,
    pub(crate) body_timeout: Duration,
    /// How long a request may wait for its first token's turn.
    pub(crate) queue_timeout: Duration,
    pub(crate) metrics: Metrics,
    /// The meter, where there is one.
    pub(crate) energy: Option<Arc<Ledger>>,
    /// What the page keeps on disk, where it does.
    pub(crate) conversations: Option<Conversations>,
    /// The folder of runs that the page shows.
    pub(crate) runs: Option<PathBuf>,
    /// Held by what needs much memory for a short time.
    turn: Mutex<()>,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) on_request: Option<OnRequest>,
    requests: AtomicU64,
    started: u64,
}

impl App {
    pub(crate) fn new(models: Vec<ServedModel>, options: &crate::ServerOptions, is_local: bool) -> Self {
        Self {
            models,
            key: options.key.as_ref().map(|key| blake3::hash(key.as_bytes())),
            is_local,
            max_body: options.max_body,
            body_timeout: options.body_timeout,
            queue_timeout: options.queue_timeout,
            metrics: Metrics::default(),
            energy: None,
            conversations: None,
            runs: None,
            turn: Mutex::new(()),
            is_stopping: AtomicBool::new(false),
            on_request: None,
            requests: AtomicU64::new(0),
            started: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_nanos() as u64,
        }
    }

    /// The model that a request names.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<&ServedModel, Refusal> {
        match name {
            None => Ok(&self.models[0]),
            Some(name) => self.models.iter().find(|model| model.name == name).ok_or_else(|| {
                let known: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
                Refusal::unknown_model(name, &known)
            }),
        }
    }

    /// Waits until nothing else needs much memory.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no other request of this or an earlier server has.
    pub(crate) fn request_number(&self) -> u64 {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        taal_kernels::random::key(self.started, number, "server/request")
    }
}
