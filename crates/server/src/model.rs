//! Models under the names that requests use.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use taal_inference::{Engine, EngineOptions, LanguageModel, check_causal};

use crate::Result;
use crate::app::seconds_now;

/// Time between two looks for a newer model.
const BETWEEN: Duration = Duration::from_secs(1);

/// A model under the name that requests use.
pub struct ServedModel {
    pub(crate) name: String,
    /// The model that this one is an adapter of.
    pub(crate) parent: Option<String>,
    current: RwLock<Arc<Current>>,
    options: EngineOptions,
    source: Option<Source>,
}

/// What returns a model that takes the place of the current one, if there is one.
type Newer = Box<dyn Fn() -> Option<Arc<LanguageModel>> + Send + Sync>;

/// Where newer models come from.
struct Source {
    newer: Newer,
    /// When it was last asked; the lock is held while a model is loaded.
    asked: Mutex<Option<Instant>>,
}

/// What answers requests to a model now. Requests under way keep theirs when another one takes its place.
pub(crate) struct Current {
    pub(crate) lm: Arc<LanguageModel>,
    /// A causal model without an encoder has one.
    pub(crate) engine: Option<Arc<Engine>>,
    /// The engine's adapter that answers; none for the model itself.
    pub(crate) adapter: Option<usize>,
    pub(crate) created: u64,
}

impl Current {
    fn start(lm: Arc<LanguageModel>, options: EngineOptions) -> Result<Self> {
        let engine = match check_causal(&lm.model, "generating text") {
            Ok(()) => Some(Arc::new(Engine::start(lm.clone(), options)?)),
            Err(_) => None,
        };
        Ok(Self {
            lm,
            engine,
            adapter: None,
            created: seconds_now(),
        })
    }
}

impl ServedModel {
    /// Starts the engine of a causal model; a masked model needs none.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn start(name: &str, lm: Arc<LanguageModel>, options: EngineOptions) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            parent: None,
            current: RwLock::new(Arc::new(Current::start(lm, options.clone())?)),
            options,
            source: None,
        })
    }

    /// The adapters of the model ([`LanguageModel::adapters`]) as models of their own, named `MODEL:ADAPTER`. Requests to them share the
    /// batches of the model's engine.
    pub fn adapters(&self) -> Vec<Self> {
        let base = self.current();
        let names = base.lm.adapters().into_iter().enumerate();
        let one = |(index, name): (usize, &str)| {
            let current = Current {
                lm: base.lm.adapted(index)?.clone(),
                engine: base.engine.clone(),
                adapter: Some(index),
                created: base.created,
            };
            Some(Self {
                name: format!("{}:{name}", self.name),
                parent: Some(self.name.clone()),
                current: RwLock::new(Arc::new(current)),
                options: self.options.clone(),
                source: None,
            })
        };
        names.filter_map(one).collect()
    }

    /// Asks `newer` before requests, at most once per second, for a model that answers them and all later ones. Requests under way keep
    /// the model that they began with.
    #[must_use]
    pub fn renewed_by(mut self, newer: impl Fn() -> Option<Arc<LanguageModel>> + Send + Sync + 'static) -> Self {
        self.source = Some(Source {
            newer: Box::new(newer),
            asked: Mutex::new(None),
        });
        self
    }

    /// The name that requests use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The engine of a causal model.
    pub fn engine(&self) -> Option<Arc<Engine>> {
        self.current().engine.clone()
    }

    /// What answers a request that begins now. Loading a model takes a while; other requests are answered by the earlier one meanwhile.
    pub(crate) fn newest(&self) -> Arc<Current> {
        if let Some(source) = &self.source
            && let Ok(mut asked) = source.asked.try_lock()
            && asked.is_none_or(|asked| asked.elapsed() >= BETWEEN)
        {
            // Without a thread for its engine the newer model waits; the current one still answers.
            if let Some(Ok(newer)) = (source.newer)().map(|lm| Current::start(lm, self.options.clone())) {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
            }
            *asked = Some(Instant::now());
        }
        self.current()
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
