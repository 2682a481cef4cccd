//! What runs a model. The spec's model interface: a batch goes in with its parameters, and for every input one
//! result comes out with its own success; what fails, fails by name.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crossbeam_channel::Receiver;
use omma_frame::{CameraIndex, DropReason};

use crate::picture::PictureSpec;
use crate::report::Message;
pub use crate::tensor::TensorInfo;
use crate::tensor::{BatchTensor, TensorAllocator, TensorView};

/// Which batch sizes a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchLimit {
    /// Any number up to this one.
    UpTo(usize),
    /// Exactly this many: a smaller batch is filled up with whatever the unused slots hold, whose outputs are ignored.
    Exactly(usize),
}

/// What is known of a model once it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// For people: runtime, version, device.
    pub runtime: String,
    pub inputs: Vec<TensorInfo>,
    pub outputs: Vec<TensorInfo>,
    pub batch: BatchLimit,
}

/// Which frame a slot of the batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub camera: CameraIndex,
    pub sequence: u64,
}

/// A batch as a backend sees it: `origins.len()` pictures at the front of `tensor`.
#[derive(Clone, Copy)]
pub struct BatchInput<'a> {
    pub tensor: &'a BatchTensor,
    pub spec: &'a PictureSpec,
    pub origins: &'a [Origin],
    /// The model's parameters from the configuration, by name.
    pub parameters: &'a [(String, String)],
}

impl BatchInput<'_> {
    #[must_use]
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }
}

/// Takes a backend's answer. The engine implements it; a backend calls it while its outputs are alive, so that they
/// are never copied on their way to the output decoder.
pub trait Reply {
    /// The outputs of the whole batch, first dimension the batch. A first dimension other than the number of inputs
    /// (or the fixed batch) fails every frame of the batch as `wrong_count`.
    fn outputs(&mut self, tensors: &[TensorView<'_>]);
    /// Input `index` failed alone; call before or after [`Reply::outputs`], whose part for it is then ignored.
    fn fail(&mut self, index: usize, message: &str);
}

/// A model that failed a batch. Every frame of the batch is dropped as `backend_failed`, or by the reason given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendError {
    pub reason: DropReason,
    pub message: String,
    /// The instance itself is broken: open a new one before the next batch.
    pub reopen: bool,
}

impl BackendError {
    /// This batch failed; the next may succeed on the same instance.
    #[must_use]
    pub fn batch(message: impl Into<String>) -> Self {
        Self { reason: DropReason::BackendFailed, message: message.into(), reopen: false }
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BackendError {}

/// One running copy of a model that blocks while it computes. Lives on one thread.
pub trait Backend: Send {
    /// Runs the batch and calls [`Reply::outputs`] once.
    ///
    /// # Errors
    /// The whole batch failed. Returning `Ok` without having called [`Reply::outputs`] fails it as `wrong_count`.
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError>;
}

/// A batch that an asynchronous backend may keep while the request is on its way.
pub struct OwnedBatch {
    pub tensor: BatchTensor,
    pub spec: std::sync::Arc<PictureSpec>,
    pub origins: Vec<Origin>,
    pub parameters: std::sync::Arc<[(String, String)]>,
}

impl OwnedBatch {
    #[must_use]
    pub fn input(&self) -> BatchInput<'_> {
        BatchInput { tensor: &self.tensor, spec: &self.spec, origins: &self.origins, parameters: &self.parameters }
    }
}

/// What an asynchronous call resolves to: the batch back (its tensor is reused) and whether it succeeded.
pub type Answer<'a> = Pin<Box<dyn Future<Output = (OwnedBatch, Result<(), BackendError>)> + Send + 'a>>;

/// A model somewhere else (a server, an accelerator's queue): a request in flight costs no thread.
pub trait AsyncBackend: Send + Sync {
    /// Runs the batch and calls [`Reply::outputs`] once, as [`Backend::infer`] does.
    fn infer<'a>(&'a self, batch: OwnedBatch, reply: &'a mut (dyn Reply + Send)) -> Answer<'a>;

    /// How many batches are worth having on their way now; more wait at the desk, where overtaken frames are still
    /// dropped. Asked before each batch; an answer that grows is noticed when a batch comes back.
    fn requests_max(&self) -> usize {
        usize::MAX
    }
}

/// Where a model computes, as far as choosing a mode is concerned (the spec's section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// On the CPU, in a process for each instance: batches share the way there and back.
    Processes,
    /// Computes beside the CPU: batches pay.
    Accelerator,
    /// Computes in another process, behind a protocol.
    Remote,
}

/// Loads copy number `n` of a model.
pub type OpenInstance = Box<dyn Fn(usize) -> Result<Box<dyn Backend>, BackendError> + Send + Sync>;

/// How a model's instances come to be.
pub enum Opener {
    /// `open(instance)` loads one more copy; called on the thread that will own it, again after it broke.
    Blocking(OpenInstance),
    /// One shared client for all requests.
    Async(std::sync::Arc<dyn AsyncBackend>),
}

/// A model as the adapters hand it to the engine: inspected, not yet running.
pub struct LoadedModel {
    pub info: ModelInfo,
    pub device: Device,
    pub opener: Opener,
    /// Where batch tensors lie, if not on the heap.
    pub memory: Option<TensorAllocator>,
    /// What the model has to say to people while it runs (a worker's own lines, its end, its restart); bounded by
    /// whoever sends, read by the watch.
    pub messages: Option<Receiver<Message>>,
}

impl LoadedModel {
    /// With tensors on the heap and nothing to say.
    #[must_use]
    pub fn new(info: ModelInfo, device: Device, opener: Opener) -> Self {
        Self { info, device, opener, memory: None, messages: None }
    }
}
