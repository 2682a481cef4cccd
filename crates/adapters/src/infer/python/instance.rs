//! A worker as the engine's blocking backend, and what becomes of a batch when its worker does not answer.
//!
//! A worker that ends takes no frame with it: the batch is run once more on a new one, or settled by name. A worker that
//! hangs is killed a little before the engine would give its thread up. Costs per batch: two packets, no copy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_engine::infer::backend::{Backend, BackendError, BatchInput, Reply, TensorInfo};
use omma_engine::picture::PictureSpec;
use omma_engine::report::Level;
use omma_engine::tensor::TensorView;
use omma_frame::DropReason;

use super::memory::{Region, SharedMemory};
use super::setup::{Setup, same};
use super::wire::{Answer, Output};
use super::worker::{Trouble, Worker};
use crate::infer::fit::{PictureInput, Request};

/// What all instances of one model share, once it is known.
pub(super) struct Model {
    pub(super) setup: Setup,
    pub(super) input: PictureInput,
    pub(super) spec: PictureSpec,
    pub(super) outputs: Vec<TensorInfo>,
}

pub(super) struct Instance {
    model: Arc<Model>,
    number: usize,
    /// Gone only between the end of one and the start of the next, or of the instance.
    worker: Option<Worker>,
    /// For batches that do not lie in memory of ours.
    copies: Option<Arc<SharedMemory>>,
}

impl Model {
    /// # Errors
    /// The worker does not start.
    pub(super) fn open(self: &Arc<Self>, number: usize) -> Result<Instance, BackendError> {
        let worker = self.setup.restart(number, &self.spec, &self.outputs).map_err(|problem| {
            // A worker that does not start is as one that ends at once.
            self.setup.ended(number);
            BackendError::batch(problem)
        })?;
        Ok(self.instance(number, worker))
    }

    pub(super) fn instance(self: &Arc<Self>, number: usize, worker: Worker) -> Instance {
        Instance { model: Arc::clone(self), number, worker: Some(worker), copies: None }
    }

    /// The engine gives a batch up at its deadline and the thread that runs it with it: the worker is killed before.
    fn deadline(&self, batches: u64) -> Duration {
        let options = &self.setup.options;
        let margin = (options.deadline / 10).clamp(Duration::from_millis(2), Duration::from_millis(250));
        let deadline = options.deadline.saturating_sub(margin);
        // Its first batch is the warm-up, in which accelerators choose their programs: part of the load.
        if batches <= 1 { deadline.max(options.load_timeout) } else { deadline }
    }
}

impl Instance {
    /// The batch in memory that the worker sees, copied only if it does not lie in such already.
    fn region(&mut self, batch: &BatchInput<'_>, request: &Request<'_>) -> Result<Arc<SharedMemory>, BackendError> {
        if let Some(region) = batch.tensor.brought().and_then(|memory| memory.downcast_ref::<Region>()) {
            return Ok(Arc::clone(&region.0));
        }
        let copies = match self.copies.take() {
            Some(copies) if copies.len() >= request.bytes.len() => copies,
            _ => Arc::new(
                SharedMemory::create(request.bytes.len())
                    .map_err(|error| BackendError::batch(format!("no shared memory for a batch: {error}")))?,
            ),
        };
        copies.fill(request.bytes);
        self.copies = Some(Arc::clone(&copies));
        Ok(copies)
    }

    /// The worker is gone, `how`: what becomes of its batch.
    fn lose(&mut self, how: &str, until: Instant, again: bool) -> Result<(), BackendError> {
        let broken = |message: String| BackendError { reason: DropReason::BackendFailed, message, reopen: true };
        self.bury();
        if !again {
            return Err(broken(format!("the worker is gone: {how}")));
        }
        let begun = Instant::now();
        let model = Arc::clone(&self.model);
        let until = until.min(begun + model.setup.options.load_timeout);
        match model.setup.start(self.number, &model.spec, &model.outputs, until) {
            Ok(worker) => {
                model.setup.teller(self.number).say(
                    Level::Warning,
                    format!(
                        "the worker is gone: {how}; started again in {} ms as process {}, its batch is run once more",
                        begun.elapsed().as_millis(),
                        worker.id()
                    ),
                );
                self.worker = Some(worker);
                Ok(())
            }
            Err(problem) => Err(broken(format!("the worker is gone: {how}; it was not back in time: {problem}"))),
        }
    }

    /// After an end that was not ours to decide. A worker that is let go in good health has the next one not wait.
    fn bury(&mut self) {
        if self.worker.take().is_some() {
            self.model.setup.ended(self.number);
        }
    }
}

impl Backend for Instance {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        let request = self.model.input.request(&batch)?;
        let begun = Instant::now();
        let region = self.region(&batch, &request)?;
        let mut again = self.model.setup.may_repeat();
        let mut until = None;
        loop {
            let Some(worker) = &mut self.worker else {
                let message = "the worker is gone".to_owned();
                return Err(BackendError { reason: DropReason::BackendFailed, message, reopen: true });
            };
            let until = *until.get_or_insert(begun + self.model.deadline(worker.batches));
            let answer = worker.run(&region, request.dtype, request.shape, until);
            // The first was the black picture.
            if worker.batches == 2 {
                self.model.setup.answered(self.number);
            }
            match answer {
                Ok(Answer::Done { outputs, failures }) => {
                    return deliver(worker, &self.model.outputs, &outputs, &failures, reply);
                }
                Ok(Answer::Failed(message)) => return Err(BackendError::batch(message)),
                Ok(Answer::WrongCount(message)) => {
                    return Err(BackendError { reason: DropReason::WrongCount, message, reopen: false });
                }
                Err(Trouble::Ended(how)) => self.lose(&how, until, std::mem::take(&mut again))?,
                Err(Trouble::Late) => {
                    self.bury();
                    let message = format!(
                        "no answer within {} ms; the worker has been killed, another is started",
                        begun.elapsed().as_millis()
                    );
                    return Err(BackendError { reason: DropReason::DeadlineExceeded, message, reopen: true });
                }
                Err(Trouble::Confused(problem)) => {
                    self.bury();
                    let message = format!("the worker gave no readable answer: {problem}; it has been killed");
                    return Err(BackendError { reason: DropReason::BackendFailed, message, reopen: true });
                }
            }
        }
    }
}

/// Shows the outputs where the worker left them.
fn deliver(
    worker: &Worker,
    expected: &[TensorInfo],
    outputs: &[Output],
    failures: &[(usize, String)],
    reply: &mut dyn Reply,
) -> Result<(), BackendError> {
    if !outputs.is_empty() && !same(outputs, expected) {
        let described = |output: &Output| format!("{} {:?}", output.name, output.shape);
        let found: Vec<_> = outputs.iter().map(described).collect();
        return Err(BackendError::batch(format!(
            "the worker gave {}, which are not the outputs that it began with",
            found.join(", ")
        )));
    }
    for (index, message) in failures {
        reply.fail(*index, message);
    }
    let views: Option<Vec<TensorView<'_>>> = outputs
        .iter()
        .map(|output| {
            let values = worker.outputs().values(output.dtype, output.offset, output.values)?;
            Some(TensorView { name: &output.name, shape: &output.shape, values })
        })
        .collect();
    match views {
        Some(views) => reply.outputs(&views),
        None => return Err(BackendError::batch("an output lies outside of the output memory")),
    }
    Ok(())
}
