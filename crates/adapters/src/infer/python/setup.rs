//! How workers of one model come to be: the command, the load, the first picture, the pauses between restarts.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use omma_engine::infer::backend::TensorInfo;
use omma_engine::picture::PictureSpec;
use omma_engine::report::{Level, Message};
use omma_engine::tensor::{TensorAllocator, TensorMemory};
use parking_lot::Mutex;

use super::log::Teller;
use super::memory::{Region, SharedMemory};
use super::process::Process;
use super::wire::{self, Answer, Output};
use super::worker::{Load, Loaded, Trouble, Worker};
use super::{BatchAs, PythonOptions, socket};
use crate::infer::fit::item_dims;

/// Pauses before a worker is started again: they double up to the last, until one answers a batch.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What all workers of one model share.
pub(super) struct Setup {
    pub(super) options: PythonOptions,
    pub(super) messages: Sender<Message>,
    package: OwnedFd,
    pauses: Mutex<HashMap<usize, Duration>>,
}

/// Starts Python on the package that omma carries.
const BOOTSTRAP: &str =
    "import sys; sys.path[:0] = ['/proc/self/fd/4', sys.argv[1]]; from omma.worker import main; main()";

impl Setup {
    pub(super) fn new(options: PythonOptions, messages: Sender<Message>) -> Result<Self, String> {
        let package =
            super::package::package().map_err(|error| format!("no memory for the Python package: {error}"))?;
        Ok(Self { options, messages, package, pauses: Mutex::default() })
    }

    pub(super) fn teller(&self, number: usize) -> Teller {
        Teller { subject: format!("model {} worker {number}", self.options.model), messages: self.messages.clone() }
    }

    /// Whether a batch may be run again on another worker: torch's tensors can be written to, so the first one may have
    /// left other pictures behind than it was given.
    pub(super) fn may_repeat(&self) -> bool {
        self.options.batch_as != BatchAs::Torch
    }

    /// A worker that has loaded the model.
    ///
    /// # Errors
    /// There is no interpreter, it refuses the model, or is not done by `until`.
    pub(super) fn load(&self, number: usize, until: Instant) -> Result<(Worker, Loaded), String> {
        let options = &self.options;
        let (ours, theirs) = socket::pair().map_err(|error| format!("no socket for a worker: {error}"))?;
        let interpreter = options.interpreter.display();
        let name = format!("{}-{number}", options.model);
        let process = Process::start(self.command(number), &name, &theirs, &self.package, self.teller(number))
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound if !options.folder.is_dir() => {
                    format!("there is no folder {} to run in", options.folder.display())
                }
                std::io::ErrorKind::NotFound => {
                    format!(
                        "there is no interpreter {interpreter}: install Python, or name another (interpreter = \"...\")"
                    )
                }
                _ => format!("the interpreter {interpreter} cannot be started: {error}"),
            })?;
        drop(theirs);
        let mut worker = Worker::new(process, ours, options.output_bytes_max)
            .map_err(|error| format!("no memory for a worker's outputs: {error}"))?;
        let load = Load {
            protocol: wire::PROTOCOL,
            name,
            entry: &options.entry,
            parameters: options.parameters.iter().map(|(name, text)| (name.clone(), text.clone().into())).collect(),
            batch_as: options.batch_as.name(),
            device: options.device.name(),
            output_bytes: worker.outputs().len(),
        };
        match worker.load(&load, until) {
            Ok(Ok(loaded)) => Ok((worker, loaded)),
            Ok(Err(problem)) => Err(problem),
            Err(trouble) => Err(self.failed("it was not loaded", trouble)),
        }
    }

    /// Runs one black picture, which shows whether `predict` works and what its outputs are.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn probe(&self, worker: &mut Worker, spec: &PictureSpec, until: Instant) -> Result<Vec<Output>, String> {
        let region = SharedMemory::create(spec.slot_bytes()).map_err(|error| format!("no memory: {error}"))?;
        let [a, b, c] = item_dims(spec);
        let what = "predict failed on a black picture, which it is tried on at start";
        match worker.run(&Arc::new(region), spec.dtype, [1, a, b, c], until) {
            Ok(Answer::Done { outputs, failures }) => match failures.into_iter().next() {
                Some((_, message)) => Err(format!("{what}: {message}")),
                None => Ok(outputs),
            },
            Ok(Answer::Failed(message) | Answer::WrongCount(message)) => Err(format!("{what}: {message}")),
            Err(trouble) => Err(self.failed(what, trouble)),
        }
    }

    /// A worker that is ready for batches. `expected` are the outputs that the engine has been told of.
    ///
    /// # Errors
    /// As [`Self::load`] and [`Self::probe`]; or the model is another than when omma started.
    pub(super) fn start(
        &self,
        number: usize,
        spec: &PictureSpec,
        expected: &[TensorInfo],
        until: Instant,
    ) -> Result<Worker, String> {
        let (mut worker, _) = self.load(number, until)?;
        let outputs = self.probe(&mut worker, spec, until)?;
        if !same(&outputs, expected) {
            let names: Vec<_> = outputs.iter().map(|output| output.name.as_str()).collect();
            return Err(format!(
                "the model's outputs are now {}, and were others when omma started: restart omma",
                names.join(", ")
            ));
        }
        Ok(worker)
    }

    /// As [`Self::start`], after the pause that is due to a worker that keeps ending.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) fn restart(&self, number: usize, spec: &PictureSpec, expected: &[TensorInfo]) -> Result<Worker, String> {
        let pause = self.pauses.lock().get(&number).copied().unwrap_or_default();
        std::thread::sleep(pause);
        self.start(number, spec, expected, Instant::now() + self.options.load_timeout)
    }

    /// Notes the end of a worker, for the pause before the next but one.
    pub(super) fn ended(&self, number: usize) {
        let mut pauses = self.pauses.lock();
        let pause = pauses.entry(number).or_default();
        *pause = (*pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
    }

    /// Notes that a worker has answered a batch: whatever ends it, it is not how it was started.
    pub(super) fn answered(&self, number: usize) {
        self.pauses.lock().remove(&number);
    }

    /// Where the engine's batch tensors lie: what a worker sees without a copy.
    pub(super) fn allocator(&self) -> TensorAllocator {
        let teller = Teller { subject: format!("model {}", self.options.model), messages: self.messages.clone() };
        Arc::new(move |bytes| match SharedMemory::create(bytes) {
            Ok(memory) => Some(Box::new(Region(Arc::new(memory))) as Box<dyn TensorMemory>),
            Err(error) => {
                let text = format!("no shared memory of {bytes} bytes: {error}; its batches are copied to its workers");
                teller.say(Level::Warning, text);
                None
            }
        })
    }

    fn failed(&self, what: &str, trouble: Trouble) -> String {
        match trouble {
            Trouble::Late => {
                format!("{what}: no answer within {} ms (load_timeout_ms)", self.options.load_timeout.as_millis())
            }
            Trouble::Ended(how) => format!("{what}: the worker is gone: {how}"),
            Trouble::Confused(problem) => format!("{what}: {problem}"),
        }
    }

    fn command(&self, number: usize) -> Command {
        let options = &self.options;
        let mut command = Command::new(&options.interpreter);
        command.args(["-c", BOOTSTRAP]).arg(&options.folder).arg(format!("{}-{number}", options.model));
        command.current_dir(&options.folder);
        command.env("PYTHONUNBUFFERED", "1");
        // Several workers that each take all cores would stand in each other's way.
        for variable in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"] {
            if std::env::var_os(variable).is_none() {
                command.env(variable, options.threads.to_string());
            }
        }
        command.envs(options.environment.iter().map(|(name, text)| (name, text)));
        command.env("OMMA_MODEL", &options.model).env("OMMA_WORKER", number.to_string());
        command
    }
}

/// Whether outputs are those that the engine knows.
pub(super) fn same(outputs: &[Output], expected: &[TensorInfo]) -> bool {
    outputs.len() == expected.len()
        && outputs.iter().zip(expected).all(|(output, expected)| {
            output.name == expected.name
                && output.dtype == expected.dtype
                && output.shape.len() == expected.shape.len()
                && output
                    .shape
                    .iter()
                    .zip(&expected.shape)
                    .skip(1)
                    .all(|(is, want)| want.is_none_or(|want| want == *is))
        })
}
