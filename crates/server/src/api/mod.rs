//! Direct requests: what is asked over HTTP and gRPC, checked against the models, brought to the engine and answered.
//!
//! Both transports come here with the same message. A request waits in the engine's direct lane; nothing here queues. Its
//! caller's task sleeps meanwhile; if that is dropped (the connection has closed, the time is over), the engine skips
//! what has not run yet.

pub mod budget;
pub mod error;
pub mod exchange;
pub mod memory;
pub mod models;
pub mod predict;
pub mod request;
pub mod statistics;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use omma_engine::infer::work::Caller;
use omma_engine::lifecycle::Phase;
use omma_engine::pipeline::{ChangeError, Shared};
use omma_frame::{FrameResult, Outcome};
use omma_protocol::quoted;
use omma_protocol::wire::{ModelInferRequest, ModelInferResponse};
use tokio::sync::{Semaphore, oneshot};

use budget::Budget;
use error::{ApiError, Kind};
use exchange::{Output, Room};
use memory::Regions;
use request::Checked;
use statistics::Statistics;

use crate::watched::Watched;

/// Changes of models at once; each holds a thread.
const CHANGES_MAX: usize = 4;

/// How long a caller waits for one. A model in Python may take ten minutes to load, an engine of TensorRT longer to be built.
pub const CHANGE_MAX: Duration = Duration::from_secs(1800);

/// Writes a result as JSON.
pub type Encode = Arc<dyn Fn(&FrameResult, &mut Vec<u8>) + Send + Sync>;

/// What direct requests may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiLimits {
    /// Bytes of one request.
    pub request_bytes_max: usize,
    /// Bytes of all requests under way together.
    pub requests_bytes_max: usize,
    /// From a request's last byte to its answer.
    pub timeout: Duration,
    /// Whether clients may name shared memory of this host.
    pub client_shared_memory: bool,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            request_bytes_max: 64 << 20,
            requests_bytes_max: 512 << 20,
            timeout: Duration::from_secs(30),
            client_shared_memory: false,
        }
    }
}

/// What all connections share.
pub struct Api {
    watched: Watched,
    pub limits: ApiLimits,
    pub budget: Arc<Budget>,
    pub regions: Regions,
    statistics: OnceLock<Vec<Statistics>>,
    encode: Encode,
    changes: Arc<Semaphore>,
}

impl Api {
    pub fn new(watched: Watched, limits: ApiLimits, encode: Encode) -> Arc<Self> {
        Arc::new(Self {
            watched,
            limits,
            budget: Budget::new(limits.requests_bytes_max),
            regions: Regions::new(limits.client_shared_memory),
            statistics: OnceLock::new(),
            encode,
            changes: Arc::new(Semaphore::new(CHANGES_MAX)),
        })
    }

    /// Whether requests can be served.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.watched.unready().is_none()
    }

    /// The process lives; what it does is another question.
    #[must_use]
    pub fn live(&self) -> bool {
        self.watched.phase() != Phase::Stopped
    }

    /// # Errors
    /// The models still load, or the engine stops.
    pub fn engine(&self) -> Result<&Arc<Shared>, ApiError> {
        let loading = || ApiError::new(Kind::Unavailable, "models load and warm up");
        self.watched.shared().ok_or_else(loading)
    }

    #[must_use]
    pub fn statistics(&self, shared: &Shared, number: usize) -> Option<&Statistics> {
        let all = self.statistics.get_or_init(|| shared.plan.models.iter().map(|_| Statistics::default()).collect());
        all.get(number)
    }

    /// What this server does beyond the protocol's core.
    #[must_use]
    pub fn extensions(&self) -> Vec<&'static str> {
        let mut extensions = vec!["binary_tensor_data", "model_configuration", "model_repository", "statistics"];
        if self.limits.client_shared_memory {
            extensions.push("system_shared_memory");
        }
        extensions
    }

    /// What is counted of one model, or of all for the empty name.
    ///
    /// # Errors
    /// There is no such model.
    pub fn told(&self, name: &str, version: &str) -> Result<Vec<Told<'_>>, ApiError> {
        let shared = self.engine()?;
        let names = match name {
            "" => models::list(shared)
                .into_iter()
                .filter(|listed| listed.state == models::READY)
                .map(|l| l.name)
                .collect(),
            name => vec![name.to_owned()],
        };
        let mut told = Vec::new();
        for name in names {
            let model = models::find(shared, &name, version)?;
            let (Some(statistics), Some(counters)) =
                (self.statistics(shared, model.number), shared.metrics.models.get(model.number))
            else {
                continue;
            };
            told.push(Told {
                name: model.name,
                version: model.version,
                statistics,
                inferences: counters.frames.load(Ordering::Relaxed),
                executions: counters.batches.load(Ordering::Relaxed),
            });
        }
        Ok(told)
    }

    /// Loads the model, or its newest version in the place of the one that serves.
    ///
    /// # Errors
    /// There is no such model, or why it does not serve.
    pub async fn load(&self, name: &str) -> Result<(), ApiError> {
        self.change(name, |shared, name| shared.load(name, None).map(|_| ())).await
    }

    /// # Errors
    /// There is no such model, or it cannot be unloaded.
    pub async fn unload(&self, name: &str) -> Result<(), ApiError> {
        self.change(name, |shared, name| shared.unload(name)).await
    }

    /// A change blocks for as long as a model takes to load: on a thread of its own, few at a time.
    async fn change(
        &self,
        name: &str,
        change: impl FnOnce(&Arc<Shared>, &str) -> Result<(), ChangeError> + Send + 'static,
    ) -> Result<(), ApiError> {
        let shared = Arc::clone(self.engine()?);
        let Ok(place) = Arc::clone(&self.changes).try_acquire_owned() else {
            return Err(ApiError::new(Kind::Unavailable, "other models are being changed, try again later"));
        };
        let name = name.to_owned();
        let changed = tokio::task::spawn_blocking(move || {
            let changed = change(&shared, &name);
            drop(place);
            changed
        });
        let Ok(changed) = tokio::time::timeout(CHANGE_MAX, changed).await else {
            let message = format!(
                "the change was not over within {} s and goes on: the index says how it ends",
                CHANGE_MAX.as_secs()
            );
            return Err(ApiError::new(Kind::Late, message));
        };
        match changed {
            Ok(changed) => changed.map_err(|error| {
                let kind = match &error {
                    ChangeError::UnknownModel(_) => Kind::NotFound,
                    ChangeError::NoStore | ChangeError::Refused(_) => Kind::Refused,
                    ChangeError::NotRunning(_) | ChangeError::Busy => Kind::Unavailable,
                };
                ApiError::new(kind, error.to_string())
            }),
            Err(error) => Err(ApiError::new(Kind::Failed, format!("the change did not end well: {error}"))),
        }
    }

    /// Answers one inference, in the room that there is for its outputs.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn infer(&self, mut request: ModelInferRequest, room: Room) -> Result<ModelInferResponse, ApiError> {
        let shared = self.engine()?;
        let since = Instant::now();
        let mut checked = request::check(self, shared, &mut request, room.clone())?;
        let statistics = self.statistics(shared, checked.model.number);
        let mut answered = self.asked(shared, &checked, since).await;
        if let Ok(None) = answered {
            // Another version has taken over since it was looked at: it has to fit that one, and is asked once more.
            checked = request::check(self, shared, &mut request, room)?;
            answered = self.asked(shared, &checked, since).await;
        }
        let answered = answered.and_then(|answered| {
            let name = quoted(&checked.model.name);
            let message = format!("versions of model {name} take over from one another, try again later");
            answered.ok_or_else(|| ApiError::new(Kind::Unavailable, message))
        });
        let Checked { model, items, tensors, .. } = checked;
        match answered {
            Ok((outputs, result)) => {
                if let Some(statistics) = statistics {
                    statistics.succeeded(items, &result.timing, since.elapsed());
                }
                Ok(request::response(&model, items, request.id, outputs, &tensors))
            }
            Err(error) => {
                if let Some(statistics) = statistics {
                    statistics.failed(since.elapsed());
                }
                Err(error)
            }
        }
    }

    /// Asks for the outputs of a request that was begun then. `None`: they are not, or not all, of the version that it was
    /// held against.
    async fn asked(
        &self,
        shared: &Arc<Shared>,
        checked: &Checked,
        since: Instant,
    ) -> Result<Option<(Vec<Output>, FrameResult)>, ApiError> {
        let Checked { model, items, tensors, timeout } = checked;
        let exchange = Arc::clone(tensors) as Arc<dyn omma_engine::infer::direct::Exchange>;
        let timeout = timeout.unwrap_or(self.limits.timeout).min(self.limits.timeout);
        let answered = self
            .answer(shared, since, timeout, |caller| shared.ask_tensors(model.number, *items, &exchange, caller))
            .await;
        // Whatever comes late comes to nothing.
        let outputs = tensors.finish();
        let result = answered.map_err(|error| match error.kind {
            Kind::Late if !tensors.begun() => {
                let message =
                    format!("{}: the request waited for the model all the time, try again later", error.message);
                ApiError::new(Kind::Unavailable, message)
            }
            _ => error,
        })?;
        let ran = result.served_by.version > 0;
        if ran && !model.gave(&result) {
            return Ok(None);
        }
        let outputs = outputs?;
        match &result.outcome {
            Outcome::Inferred(_) => Ok(Some((outputs, result))),
            Outcome::Dropped { reason, detail } => Err(ApiError::dropped(*reason, detail.as_deref())),
        }
    }

    /// Asks, and waits for the answer, which may take its time from then on.
    async fn answer(
        &self,
        shared: &Shared,
        since: Instant,
        timeout: Duration,
        ask: impl FnOnce(Box<dyn Caller>) -> Result<(), Box<dyn Caller>>,
    ) -> Result<FrameResult, ApiError> {
        let (sender, answer) = oneshot::channel();
        if ask(Box::new(Waiting(sender))).is_err() {
            let why = match shared.lifecycle.phase() {
                Phase::Running => "too many requests wait for the model, try again later",
                Phase::Starting => "models load and warm up",
                _ => "the engine stops",
            };
            return Err(ApiError::new(Kind::Unavailable, why));
        }
        match tokio::time::timeout(timeout.saturating_sub(since.elapsed()), answer).await {
            Ok(Ok(result)) => Ok(result),
            // Let go without an answer, which only an engine that has stopped does.
            Ok(Err(_)) => Err(ApiError::new(Kind::Unavailable, "the engine stops")),
            Err(_) => Err(ApiError::new(Kind::Late, format!("no answer within {} ms", timeout.as_millis()))),
        }
    }
}

/// What is counted of a model.
pub struct Told<'a> {
    pub name: String,
    pub version: String,
    /// Of direct requests.
    pub statistics: &'a Statistics,
    /// Frames and items of direct requests, and the batches that they ran in: both share them.
    pub inferences: u64,
    pub executions: u64,
}

/// A task that waits for its answer.
struct Waiting(oneshot::Sender<FrameResult>);

impl Caller for Waiting {
    fn waits(&self) -> bool {
        !self.0.is_closed()
    }

    fn answer(self: Box<Self>, result: FrameResult) {
        // A task that has left needs none.
        let _ = self.0.send(result);
    }
}
