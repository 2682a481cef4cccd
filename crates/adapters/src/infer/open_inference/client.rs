//! The way of one batch to a server and back: which server, what is sent, what is tried again.
//!
//! Runs as one task per request on the client's own runtime; a request on its way holds its tensor and its places in shared
//! memory, and no thread. Nothing is tried for longer than the batch's deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use crossbeam_channel::Sender;
use omma_engine::infer::backend::BackendError;
use omma_engine::report::{Level, Message};
use omma_engine::tensor::BatchTensor;
use omma_frame::DropReason;
use omma_protocol::wire::ModelInferRequest;
use omma_protocol::wire::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use omma_protocol::{SharedMemory, parameters};
use parking_lot::Mutex;

use super::answer::{self, Answered, Place, Places};
use super::describe::Described;
use super::failure::{Failure, Kind};
use super::limiter::Limiter;
use super::options::{OpenInferenceOptions, Send, SharedMemoryUse};
use super::segment::{Lease, Pool};
use super::server::{Server, choose};

/// Requests that nobody waits for any more and that a server may still write into shared memory for.
const ABANDONED_MAX: usize = 32;
/// How long such a request is waited for before its place in shared memory is given up for good.
const ABANDONED_FOR: Duration = Duration::from_secs(30);
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// How often a server may say that it has forgotten its regions before the batch is given up.
const FORGOTTEN_MAX: u32 = 4;
/// How long is waited for an answer to a question about health, and after how long a silence it is asked.
pub(super) const HEALTH_EVERY: Duration = Duration::from_secs(1);
const HEALTH_WITHIN: Duration = Duration::from_secs(2);

/// One batch on its way.
pub(super) struct Job {
    pub(super) tensor: Arc<BatchTensor>,
    /// Rows to send, and how many of them are pictures.
    pub(super) rows: usize,
    pub(super) frames: usize,
    pub(super) shape: [usize; 4],
    pub(super) parameters: Arc<[(String, String)]>,
    /// When it is given up.
    pub(super) until: Instant,
    /// Nobody waits for it any more.
    pub(super) abandoned: AtomicBool,
    /// What has become of it so far, for people.
    pub(super) tried: Mutex<Tried>,
}

/// The server that has the batch, or had it last, and what came of that before.
#[derive(Debug, Default)]
pub(super) struct Tried {
    server: usize,
    why: Option<String>,
}

pub(super) struct Client {
    pub(super) options: OpenInferenceOptions,
    pub(super) servers: Vec<Server>,
    pub(super) model: Described,
    pub(super) pool: Arc<Pool>,
    /// Tensors lie in shared memory.
    pub(super) shared: bool,
    pub(super) limiter: Mutex<Limiter>,
    pub(super) in_flight: AtomicUsize,
    pub(super) abandoned: AtomicUsize,
    pub(super) messages: Sender<Message>,
    /// Counted up each time a server falls silent, so that requests on their way to it can go elsewhere or be sent by its next
    /// connection, or is back, so that those that wait for it need not wait longer.
    pub(super) changes: tokio::sync::watch::Sender<u64>,
}

/// Taints the outputs' segment unless the server has answered: it may write there whenever it comes to it.
struct Unanswered<'a>(Option<&'a Places>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(places) = self.0 {
            places.lease.taint();
        }
    }
}

/// The bytes of the first rows of a tensor, kept alive by whoever still sends them.
struct Rows {
    tensor: Arc<BatchTensor>,
    rows: usize,
}

impl AsRef<[u8]> for Rows {
    fn as_ref(&self) -> &[u8] {
        self.tensor.bytes(self.rows)
    }
}

impl Client {
    pub(super) fn say(&self, level: Level, text: String) {
        say(&self.messages, &self.options.name, level, text);
    }

    /// Sees a batch through: to the answer, or to the reason why there is none.
    pub(super) async fn run(&self, job: &Job) -> Result<Vec<Answered>, BackendError> {
        let until = job.until;
        let (mut busy, mut forgotten, mut avoid) = (0, 0, None);
        // Which server has refused it, and why.
        let mut refused: Option<(usize, String)> = None;
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        let _counted = Counted(&self.in_flight);
        loop {
            let now = Instant::now();
            let (at, wait) = choose(&self.servers, avoid, now);
            if job.abandoned.load(Ordering::Acquire) || now >= until {
                return Err(self.late(job));
            }
            if let Some(wait) = wait {
                let mut changes = self.changes.subscribe();
                tokio::select! {
                    () = tokio::time::sleep_until(wait.min(until).into()) => {}
                    _ = changes.changed() => {}
                }
                // It may be hung still, or another server up.
                if choose(&self.servers, avoid, Instant::now()) != (at, None) {
                    continue;
                }
            }
            let server = &self.servers[at];
            job.tried.lock().server = at;
            let begun = Instant::now();
            let failure = match self.attempt(server, job).await {
                Ok(answer) => {
                    self.served(server);
                    if let Some((refuser, why)) = refused.filter(|(refuser, _)| *refuser != at) {
                        self.set_aside(&self.servers[refuser], &why);
                    }
                    self.limiter.lock().answered(job.frames, begun.elapsed(), in_flight);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let message = format!("{}: {}", server.url, failure.message);
            match failure.kind {
                Kind::Connection | Kind::Absent => {
                    self.lost(server, &failure.message);
                    avoid = Some(at);
                }
                Kind::Busy => {
                    self.limiter.lock().overloaded();
                    busy += 1;
                    if busy > self.options.retries_max {
                        return Err(BackendError::batch(message));
                    }
                    tokio::time::sleep(BUSY_PAUSE * (1 << busy.min(6))).await;
                    avoid = Some(at);
                }
                Kind::Region => {
                    server.forget_regions();
                    forgotten += 1;
                    if forgotten > FORGOTTEN_MAX {
                        return Err(BackendError::batch(message));
                    }
                }
                // Known of the server from now on.
                Kind::Inline => {}
                Kind::Refused => {
                    self.heard(server);
                    let now = Instant::now();
                    let mut others = self.servers.iter().enumerate().filter(|(other, _)| *other != at);
                    // The batch may be at fault, or this server: another one that takes it tells.
                    if refused.is_some() || !others.any(|(_, other)| other.down_until(now).is_none()) {
                        return Err(BackendError::batch(message));
                    }
                    refused = Some((at, failure.message));
                    avoid = Some(at);
                }
            }
            job.tried.lock().why = Some(message);
        }
    }

    /// The batch is given up: what was tried for it, and where it is now.
    pub(super) fn late(&self, job: &Job) -> BackendError {
        let tried = job.tried.lock();
        let silent = || format!("{}: it has not answered", self.servers[tried.server].url);
        let why = tried.why.clone().unwrap_or_else(silent);
        let message = format!("no answer within {} ms; {why}", self.options.deadline.as_millis());
        BackendError { reason: DropReason::DeadlineExceeded, message, reopen: false }
    }

    fn served(&self, server: &Server) {
        if server.serves(Instant::now()) {
            self.back(server);
        }
    }

    fn set_aside(&self, server: &Server, why: &str) {
        if server.is_aside(Instant::now()) {
            let text = format!("{} refuses what others take: {why}; it is set aside, and tried again", server.url);
            self.say(Level::Warning, text);
        }
    }

    fn heard(&self, server: &Server) {
        if server.is_up(Instant::now()) {
            self.back(server);
        }
    }

    fn back(&self, server: &Server) {
        self.say(Level::Info, format!("{} serves it again", server.url));
        self.changes.send_modify(|times| *times += 1);
    }

    fn lost(&self, server: &Server, why: &str) {
        self.missed(server, server.is_down(Instant::now()), why);
    }

    /// Nothing is sent to a server that hangs before it has been asked again how it is: what is sent would hang too.
    fn hung(&self, server: &Server) {
        let next_look = HEALTH_EVERY + HEALTH_WITHIN * (self.servers.len() as u32 + 1);
        self.missed(server, server.is_hung(Instant::now(), next_look), "it does not answer");
        self.changes.send_modify(|times| *times += 1);
    }

    fn missed(&self, server: &Server, newly: bool, why: &str) {
        self.limiter.lock().overloaded();
        if newly {
            let text = format!("{} does not serve it: {why}; it is asked again, with pauses", server.url);
            self.say(Level::Warning, text);
        }
    }

    /// Whether what the server has by the model's name is the model still: asked once after each time that it was missed.
    async fn check(&self, server: &Server) -> Result<(), Failure> {
        if server.is_checked() {
            return Ok(());
        }
        let _one_at_a_time = server.checking().await;
        if server.is_checked() {
            return Ok(());
        }
        let found = super::ask(&self.options, server).await.and_then(|found| found);
        let fits = found.and_then(|found| self.model.stands_in(&found).map_err(|why| Failure::new(Kind::Absent, why)));
        // A server that cannot say what it has does not have the model; the batch is not at fault.
        fits.map_err(|failure| match failure.kind {
            Kind::Refused => Failure { kind: Kind::Absent, ..failure },
            _ => failure,
        })?;
        server.has_it();
        Ok(())
    }

    /// Sees to it that the server knows these segments, or is known to take none.
    async fn register(&self, server: &Server, leases: impl Iterator<Item = &Lease>) -> Result<(), Failure> {
        for segment in leases.filter_map(Lease::segment) {
            let Err(failure) = server.register(segment).await else { continue };
            if matches!(failure.kind, Kind::Connection | Kind::Busy) {
                return Err(failure);
            }
            let why = format!("it takes no shared memory: {}", failure.message);
            if self.options.shared_memory == SharedMemoryUse::On {
                return Err(Failure::new(Kind::Absent, why));
            }
            if server.takes_inline() {
                self.say(Level::Info, format!("tensors travel in the requests to {}: {why}", server.url));
            }
            return Err(Failure::new(Kind::Inline, why));
        }
        Ok(())
    }

    /// One request to one server, and what it has answered as the model promises it.
    async fn attempt(&self, server: &Server, job: &Job) -> Result<Vec<Answered>, Failure> {
        let _on_its_way = server.on_its_way();
        let (connection, mut changes) = (server.connection(), self.changes.subscribe());
        let shared = self.shared && !server.is_inline();
        let input = job.tensor.brought().and_then(|memory| memory.downcast_ref::<Lease>()).filter(|_| shared);
        let places = if shared { self.places(job.rows) } else { None };
        let leases = input.into_iter().chain(places.as_ref().map(|places| &places.lease));
        let mut unanswered = Unanswered(places.as_ref());
        // A server may fall silent while it is told of the memory, too.
        let answer = async {
            self.check(server).await?;
            self.register(server, leases).await?;
            server.infer(self.request(job, input, places.as_ref())?).await
        };
        tokio::pin!(answer);
        let answer = loop {
            tokio::select! {
                answer = &mut answer => break answer,
                changed = changes.changed() => {
                    // Only if another one can do it, or by another connection: a server that comes back may yet answer.
                    let now = Instant::now();
                    let elsewhere = self.servers.iter().any(|other| other.down_until(now).is_none());
                    let given_up = server.connection() != connection;
                    if changed.is_err() || given_up || (server.is_missed(now) && elsewhere) {
                        return Err(Failure::new(Kind::Connection, "it does not answer"));
                    }
                }
            }
        };
        if !matches!(&answer, Err(failure) if failure.kind == Kind::Connection) {
            unanswered.0 = None;
        }
        answer::read(&answer?, &self.model.outputs, places.as_ref()).map_err(|why| Failure::new(Kind::Refused, why))
    }

    fn request(&self, job: &Job, input: Option<&Lease>, places: Option<&Places>) -> Result<ModelInferRequest, Failure> {
        let picture = self.options.send == Send::Picture;
        let bytes = job.tensor.bytes(job.rows).len();
        let shared = input.and_then(Lease::segment).filter(|_| !picture).map(|segment| SharedMemory {
            region: segment.name().to_owned(),
            offset: 0,
            byte_size: bytes,
        });
        let size = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        let (shape, content) = if picture {
            (vec![size(job.rows), 1], Some(pictures(&job.tensor, job.rows)?))
        } else {
            let inline = || Bytes::from_owner(Rows { tensor: Arc::clone(&job.tensor), rows: job.rows });
            (job.shape.map(size).to_vec(), shared.is_none().then(inline))
        };
        let tensor = InferInputTensor {
            name: self.model.input.clone(),
            datatype: self.model.input_type.name().to_owned(),
            shape,
            parameters: shared.map(|shared| shared.parameters()).unwrap_or_default(),
            contents: None,
        };
        let output = |(number, output): (usize, &super::describe::Output)| {
            let place = places.and_then(|places| Some((places.lease.segment()?, places.places.get(number)?)));
            let shared = place.map(|(segment, place)| SharedMemory {
                region: segment.name().to_owned(),
                offset: place.offset,
                byte_size: place.byte_size,
            });
            let parameters = shared.map(|shared| shared.parameters()).unwrap_or_default();
            InferRequestedOutputTensor { name: output.name.clone(), parameters }
        };
        Ok(ModelInferRequest {
            model_name: self.options.model.clone(),
            model_version: self.options.version.clone(),
            parameters: job
                .parameters
                .iter()
                .map(|(name, value)| (name.clone(), parameters::text(value.as_str())))
                .collect(),
            inputs: vec![tensor],
            outputs: self.model.outputs.iter().enumerate().map(output).collect(),
            raw_input_contents: content.into_iter().collect(),
            ..ModelInferRequest::default()
        })
    }

    /// Room in shared memory for all outputs of so many rows; `None` if their sizes may vary, or there is none to be had.
    fn places(&self, rows: usize) -> Option<Places> {
        let mut places = Vec::with_capacity(self.model.outputs.len());
        let mut end = 0_usize;
        for output in &self.model.outputs {
            let byte_size = output.row_bytes()?.checked_mul(rows)?;
            places.push(Place { offset: end, byte_size });
            end = end.checked_add(byte_size)?.checked_next_multiple_of(64)?;
        }
        // A few numbers travel faster in the answer itself.
        const WORTH_BYTES: usize = 16 << 10;
        if end < WORTH_BYTES {
            return None;
        }
        Some(Places { lease: self.pool.take(end).ok()?, places })
    }

    /// Waits for a request that nobody waits for any more, as long as its server may write into its shared memory.
    pub(super) async fn see_off(&self, job: &Job, run: impl Future<Output = Result<Vec<Answered>, BackendError>>) {
        job.abandoned.store(true, Ordering::Release);
        let others = self.abandoned.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.abandoned);
        if self.shared && others < ABANDONED_MAX {
            let _ = tokio::time::timeout(ABANDONED_FOR, run).await;
        }
    }

    /// One look at the servers: those that have been silent are asked how they are; what is gone is unregistered.
    pub(super) async fn look_after(&self) {
        let now = Instant::now();
        let silent: Vec<_> = self.servers.iter().filter(|server| server.silent(now, HEALTH_EVERY)).collect();
        for server in silent {
            let asked = async {
                if !server.ready(&self.options.model, &self.options.version).await? {
                    return Err(Failure::new(Kind::Absent, "the model is not ready"));
                }
                self.check(server).await
            };
            match tokio::time::timeout(HEALTH_WITHIN, asked).await {
                Ok(Ok(())) => self.heard(server),
                Ok(Err(failure)) => self.lost(server, &failure.message),
                Err(_) => self.hung(server),
            }
        }
        let gone = self.pool.gone();
        for server in &self.servers {
            server.condemn(&gone);
            // One that is down hears of them when it is back.
            if server.down_until(Instant::now()).is_none() {
                let _ = tokio::time::timeout(HEALTH_WITHIN, server.unregister_gone()).await;
            }
        }
    }
}

/// Says something of a model to people; what they do not come to read is lost, not waited for.
pub(super) fn say(messages: &Sender<Message>, model: &str, level: Level, text: String) {
    let _ = messages.try_send(Message { level, subject: format!("model {model}"), text, times: 1 });
}

/// Counts down when it is done with.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The encoded pictures in the front slots, each behind its length (`picture.rs`), as the content of a BYTES tensor.
fn pictures(tensor: &BatchTensor, rows: usize) -> Result<Bytes, Failure> {
    let all = tensor.bytes(rows);
    let mut content = BytesMut::new();
    for slot in all.chunks_exact((all.len() / rows.max(1)).max(1)) {
        let length = slot.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        let whole = slot.get(..4 + length).ok_or_else(|| Failure::new(Kind::Refused, "a slot without a picture"))?;
        content.put_slice(whole);
    }
    Ok(content.freeze())
}
