//! A model on one or more servers that speak the Open Inference Protocol (Triton, KServe runtimes, another omma), as an
//! [`AsyncBackend`].
//!
//! Owns a runtime of one thread for the network; the engine's threads never touch a connection. A request on its way
//! costs a task and its tensor, no thread. Where a server is on this machine, tensors lie in shared memory from the
//! moment a picture is decoded into them (`segment.rs`): pooled, registered with each server once, and again when it has
//! forgotten them. Everything a server says is checked before it is believed (`describe.rs`, `answer.rs`).

mod answer;
mod client;
mod describe;
mod failure;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod grpc;
mod http;
mod limiter;
mod options;
mod picture;
mod segment;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use omma_engine::infer::backend::{Answer, AsyncBackend, BackendError, Device, LoadedModel, Opener, OwnedBatch, Reply};
use omma_engine::tensor::{BatchTensor, TensorAllocator, TensorMemory};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

pub use options::{OpenInferenceOptions, Send, ServerUrl, SharedMemoryUse, Transport};
pub use picture::{passing_on, slot_spec};

use super::fit::PictureInput;
use answer::Answered;
use client::{Client, HEALTH_EVERY, Job};
use describe::{Described, describe};
use failure::{Failure, Kind};
use limiter::Limiter;
use segment::Pool;
use server::Server;

/// Messages that may wait for somebody to read them.
const MESSAGES_MAX: usize = 64;
/// Pause between two looks at a server that is waited for at start.
const START_PAUSE: Duration = Duration::from_millis(200);
/// How long a question at start may take beyond the time to connect.
const START_ANSWER: Duration = Duration::from_secs(5);
/// A batch is given up a twentieth of its time before the engine does so itself, at most this much, so that people are told
/// what was tried.
const EARLIER_MAX: Duration = Duration::from_millis(100);
/// What the end of a client may take: telling the servers that its memory is gone.
const END_MAX: Duration = Duration::from_millis(500);

/// A model ready for the engine.
pub struct OpenInferenceModel {
    pub model: LoadedModel,
    /// Copies of the model that the servers run at the same time.
    pub instances: usize,
    /// What was chosen, for people.
    pub notes: Vec<String>,
}

/// Asks the servers about the model and hands over what the engine needs to use it.
///
/// # Errors
/// No server has it (within the time that is waited for one), or it is none that batches of pictures can be sent to.
pub fn open(options: OpenInferenceOptions) -> Result<OpenInferenceModel, String> {
    check(&options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("omma-net")
        .enable_all()
        .build()
        .map_err(|error| format!("no thread for the network: {error}"))?;
    let (messages, said) = crossbeam_channel::bounded(MESSAGES_MAX);
    let opened = runtime.block_on(async {
        let servers = options
            .servers
            .iter()
            .map(|url| Server::new(url.clone(), options.connect_timeout).map_err(|error| format!("{url}: {error}")));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        let (first, model) = find(&options, &servers).await?;
        let mut notes = Vec::new();
        let there = compare(&options, &servers, first, &model, &mut notes).await?;
        let pool = Arc::new(Pool::default());
        let shared = shared_memory(&options, &servers, &there, &pool, &mut notes).await?;
        let client = Client {
            limiter: Mutex::new(Limiter::new(options.requests_max)),
            shared,
            pool,
            model,
            servers,
            messages,
            in_flight: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            changes: tokio::sync::watch::channel(0).0,
            options,
        };
        let at = client.servers[first].url.to_string();
        let others = client.servers.len() - 1;
        let more = if others > 0 { format!(" and {others} more") } else { String::new() };
        notes.insert(0, format!("{:?} on {at}{more}", client.options.model));
        Ok::<_, String>((client, notes))
    });
    let (client, notes) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let client = Arc::new(client);
    let watched = Arc::downgrade(&client);
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(HEALTH_EVERY).await;
            let Some(client) = watched.upgrade() else { return };
            client.look_after().await;
        }
    });
    let mut info = client.model.info.clone();
    info.runtime = format!("{} on {}", info.runtime, client.servers[0].url);
    let input = match client.options.send {
        Send::Tensor => Some(PictureInput::of(&info)?),
        Send::Picture => None,
    };
    let instances = client.model.instances * client.servers.len();
    let memory = client.shared.then(|| allocator(&client.pool));
    let remote = Remote { client, input, memory: memory.clone(), runtime: Some(runtime) };
    let mut model = LoadedModel::new(info, Device::Remote, Opener::Async(Arc::new(remote)));
    model.memory = memory;
    model.messages = Some(said);
    Ok(OpenInferenceModel { model, instances, notes })
}

fn check(options: &OpenInferenceOptions) -> Result<(), String> {
    let fits = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if options.servers.is_empty() {
        return Err("no server is given".to_owned());
    }
    if options.model.is_empty() || !fits(&options.model) || !fits(&options.version) {
        return Err(format!(
            "the model is {:?}, version {:?}, expected letters, digits, \"-\", \"_\" and \".\"",
            options.model, options.version
        ));
    }
    Ok(())
}

/// The first server that has the model, and the model; waits for one as long as it is told to.
async fn find(options: &OpenInferenceOptions, servers: &[Server]) -> Result<(usize, Described), String> {
    let until = Instant::now() + options.start_timeout;
    loop {
        let mut problems = Vec::new();
        for (number, server) in servers.iter().enumerate() {
            match tokio::time::timeout(options.connect_timeout + START_ANSWER, ask(options, server)).await {
                Ok(Ok(described)) => {
                    let described = described.map_err(|failure| unfit(options, server, &failure.message))?;
                    server.has_it();
                    return Ok((number, described));
                }
                Ok(Err(failure)) => problems.push((server, failure)),
                Err(_) => problems.push((server, Failure::new(Kind::Connection, "it does not answer"))),
            }
        }
        if Instant::now() >= until {
            let waited = match options.start_timeout.as_millis() {
                0 => "; start_timeout_ms says how long to wait for one".to_owned(),
                waited => format!(" within {waited} ms"),
            };
            let said: Vec<_> =
                problems.iter().map(|(server, why)| format!("{}: {}", server.url, why.message)).collect();
            return Err(format!("no server has {:?} ({}){waited}", options.model, said.join("; ")));
        }
        tokio::time::sleep(START_PAUSE).await;
    }
}

fn unfit(options: &OpenInferenceOptions, server: &Server, why: &str) -> String {
    format!("{:?} on {}: {why}", options.model, server.url)
}

/// The servers that are there, all of which have the model that the first one has.
async fn compare<'a>(
    options: &OpenInferenceOptions,
    servers: &'a [Server],
    first: usize,
    model: &Described,
    notes: &mut Vec<String>,
) -> Result<Vec<&'a Server>, String> {
    let mut there = vec![&servers[first]];
    for server in servers.iter().enumerate().filter(|(number, _)| *number != first).map(|(_, server)| server) {
        let why = match tokio::time::timeout(options.connect_timeout + START_ANSWER, ask(options, server)).await {
            Ok(Ok(described)) => {
                let fits = described.map_err(|failure| failure.message).and_then(|found| model.stands_in(&found));
                fits.map_err(|why| unfit(options, server, &why))?;
                server.has_it();
                there.push(server);
                continue;
            }
            Ok(Err(failure)) => failure.message,
            Err(_) => "it does not answer".to_owned(),
        };
        server.is_down(Instant::now());
        notes.push(format!("{} does not serve it yet: {why}; it is asked again", server.url));
    }
    Ok(there)
}

/// What a server has by the model's name. The inner error: it has one that batches of pictures cannot be sent to.
async fn ask(options: &OpenInferenceOptions, server: &Server) -> Result<Result<Described, Failure>, Failure> {
    let (model, version) = (options.model.as_str(), options.version.as_str());
    if !server.ready(model, version).await? {
        return Err(Failure::new(Kind::Absent, "the model is not there or not ready"));
    }
    let metadata = server.metadata(model, version).await?;
    let config = server.config(model, version).await?;
    Ok(describe(&metadata, config.as_ref(), options.send).map_err(|why| Failure::new(Kind::Absent, why)))
}

/// Whether tensors are to lie in shared memory: asked of each server that is there, with a segment to try.
async fn shared_memory(
    options: &OpenInferenceOptions,
    servers: &[Server],
    there: &[&Server],
    pool: &Arc<Pool>,
    notes: &mut Vec<String>,
) -> Result<bool, String> {
    let local = servers.iter().all(|server| server.url.is_local());
    // Encoded pictures are small, and their tensor is put together when it is sent.
    let use_it = match (options.shared_memory, options.send) {
        (SharedMemoryUse::Off, _) => return Ok(false),
        (SharedMemoryUse::On, Send::Picture) => {
            return Err("shared_memory = \"on\" with send = \"picture\", expected \"auto\" or \"off\"".to_owned());
        }
        (SharedMemoryUse::On, Send::Tensor) => true,
        (SharedMemoryUse::Auto, send) => local && send == Send::Tensor,
    };
    if !use_it {
        notes.push("tensors travel in the requests".to_owned());
        return Ok(false);
    }
    let swept = segment::sweep();
    if swept > 0 {
        notes.push(format!("{swept} segment(s) of shared memory that an earlier process left behind are removed"));
    }
    let lease = pool.take(1).map_err(|error| format!("/dev/shm: {error}"));
    let mut refused = Vec::new();
    for server in there {
        let segment = lease
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|lease| lease.segment().ok_or_else(|| "no segment".to_owned()));
        let tried = match segment {
            Ok(segment) => server.register(segment).await.map_err(|failure| failure.message),
            Err(why) => Err(why),
        };
        let Err(why) = tried else { continue };
        if options.shared_memory == SharedMemoryUse::On {
            return Err(format!("shared_memory = \"on\", but {} does not take it: {why}", server.url));
        }
        server.takes_inline();
        refused.push(format!("{} takes no shared memory ({why})", server.url));
    }
    if !refused.is_empty() {
        notes.push(format!("tensors travel in the requests: {}", refused.join(", ")));
    }
    let shared = refused.len() < there.len();
    if shared {
        let with = if there.len() > refused.len() + 1 { "the servers" } else { "the server" };
        let others = if refused.is_empty() { with } else { "the others" };
        notes.push(format!("tensors lie in memory shared with {others}"));
    }
    Ok(shared)
}

fn allocator(pool: &Arc<Pool>) -> TensorAllocator {
    let pool = Arc::clone(pool);
    Arc::new(move |bytes| {
        let lease = pool.take(bytes).ok()?;
        lease.segment()?;
        Some(Box::new(lease) as Box<dyn TensorMemory>)
    })
}

/// The engine's end of the client.
struct Remote {
    client: Arc<Client>,
    /// What a batch must look like; `None`: encoded pictures, which the model judges itself.
    input: Option<PictureInput>,
    /// Where batch tensors lie, if not on the heap.
    memory: Option<TensorAllocator>,
    /// `None` only at the end.
    runtime: Option<Runtime>,
}

type Done = Result<Vec<Answered>, BackendError>;

impl Remote {
    /// What is to be sent, or why the batch cannot be.
    fn job(&self, batch: &OwnedBatch) -> Result<(usize, [usize; 4]), BackendError> {
        let input = batch.input();
        match &self.input {
            Some(fits) => fits.request(&input).map(|request| (request.shape[0], request.shape)),
            None if input.is_empty() || input.len() > batch.tensor.slots() => {
                Err(BackendError::batch(format!("a batch of {} pictures", input.len())))
            }
            None => Ok((input.len(), [input.len(), 1, 1, 1])),
        }
    }
}

impl AsyncBackend for Remote {
    fn infer<'a>(&'a self, batch: OwnedBatch, reply: &'a mut (dyn Reply + std::marker::Send)) -> Answer<'a> {
        Box::pin(async move {
            let (rows, shape) = match self.job(&batch) {
                Ok(job) => job,
                Err(refused) => return (batch, Err(refused)),
            };
            let Some(runtime) = &self.runtime else {
                return (batch, Err(BackendError::batch("the client has ended")));
            };
            let OwnedBatch { tensor, spec, origins, parameters } = batch;
            let slots = tensor.slots();
            let deadline = self.client.options.deadline;
            let job = Job {
                tensor: Arc::new(tensor),
                rows,
                frames: origins.len(),
                shape,
                parameters: Arc::clone(&parameters),
                until: Instant::now() + deadline - (deadline / 20).min(EARLIER_MAX),
                abandoned: AtomicBool::new(false),
                tried: Mutex::default(),
            };
            let (to, from) = oneshot::channel();
            runtime.spawn(see_through(Arc::clone(&self.client), job, to));
            let (tensor, done) = match from.await {
                Ok((tensor, done)) => (tensor, done),
                Err(_) => (None, Err(BackendError::batch("the client has ended"))),
            };
            // Still held where the last bytes of a request that failed half-way wait to be thrown away, or by one that was
            // given up.
            let tensor = tensor.and_then(|tensor| Arc::try_unwrap(tensor).ok());
            let tensor = tensor.unwrap_or_else(|| BatchTensor::within(self.memory.as_ref(), slots, spec.slot_bytes()));
            let ended = done.map(|answered| {
                let views: Vec<_> = answered.iter().map(Answered::view).collect();
                reply.outputs(&views);
            });
            (OwnedBatch { tensor, spec, origins, parameters }, ended)
        })
    }

    fn requests_max(&self) -> usize {
        self.client.limiter.lock().limit()
    }
}

/// What becomes of a batch, and its tensor, unless a server may still read it.
type Ended = (Option<Arc<BatchTensor>>, Done);

/// Runs the job and hands over what comes of it in time; what nobody waits for any more it sees off.
async fn see_through(client: Arc<Client>, job: Job, mut to: oneshot::Sender<Ended>) {
    let done = {
        let run = client.run(&job);
        tokio::pin!(run);
        tokio::select! {
            done = &mut run => Some(done),
            () = to.closed() => {
                client.see_off(&job, run).await;
                None
            }
            () = tokio::time::sleep_until(job.until.into()) => {
                let _ = to.send((None, Err(client.late(&job))));
                client.see_off(&job, run).await;
                return;
            }
        }
    };
    if let Some(done) = done {
        // Whoever has left in this moment needs no answer.
        let _ = to.send((Some(job.tensor), done));
    }
}

impl Drop for Remote {
    /// Tells the servers that the memory they share is gone, on a thread of its own: the engine may let go of the client
    /// on a thread that must not run another runtime.
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let client = Arc::clone(&self.client);
        let end = std::thread::Builder::new().name("omma-net-end".to_owned()).spawn(move || {
            runtime.block_on(async {
                let tell = async {
                    for server in &client.servers {
                        server.unregister_all().await;
                    }
                };
                let _ = tokio::time::timeout(END_MAX, tell).await;
            });
            runtime.shutdown_background();
        });
        if let Ok(end) = end {
            let _ = end.join();
        }
    }
}
