//! Opening an ONNX file: which runtime, why that one, and what to say when none will do.
//!
//! Runs once per model, at start, on the caller's thread; nothing of it is on the way of a frame.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use omma_engine::infer::backend::{
    Backend, BackendError, BatchInput, BatchLimit, Device, LoadedModel, ModelInfo, Opener, Origin, Reply,
};
use omma_engine::picture::PictureSpec;
use omma_engine::tensor::{BatchTensor, TensorAllocator, TensorView};
use omma_frame::{CameraIndex, Size};

use super::file::{self, FileProblem};
use super::fit::guess_spec;
use super::place;
use super::provider::Provider;
use super::sizes::Sized;

/// A library that runs ONNX files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runtime {
    OpenVino,
    OnnxRuntime,
    Rten,
}

impl Runtime {
    /// From the usually fastest to the slowest on CPUs (float convolution models, one session per core): OpenVINO is
    /// up to 30% ahead of ONNX Runtime, rten has about half their speed and needs no library.
    pub const ALL: [Self; 3] = [Self::OpenVino, Self::OnnxRuntime, Self::Rten];

    /// The name in configurations and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenVino => "openvino",
            Self::OnnxRuntime => "onnxruntime",
            Self::Rten => "rten",
        }
    }

    /// How a person gets it.
    #[must_use]
    pub const fn install(self) -> &'static str {
        match self {
            _ if !self.is_built() => "build omma with its default features",
            Self::OpenVino => {
                "`make runtimes`, or `pip install openvino==2026.4.1` and OMMA_OPENVINO=the folder openvino/libs that it installs"
            }
            Self::OnnxRuntime => {
                "`make runtimes`, or `pip install onnxruntime==1.32.0` and OMMA_ONNXRUNTIME=the folder onnxruntime/capi that it installs"
            }
            Self::Rten => "it is part of omma",
        }
    }

    /// Whether this binary knows it at all.
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::OpenVino => cfg!(feature = "openvino"),
            Self::OnnxRuntime => cfg!(feature = "onnxruntime"),
            Self::Rten => cfg!(feature = "rten"),
        }
    }

    fn load(self, path: &Path, options: &OnnxOptions) -> Result<Loaded, Refusal> {
        match self {
            #[cfg(feature = "openvino")]
            Self::OpenVino => super::openvino::load(path, options),
            #[cfg(feature = "onnxruntime")]
            Self::OnnxRuntime => super::onnxruntime::load(path, options),
            #[cfg(feature = "rten")]
            Self::Rten => super::rten::load(path, options),
            #[allow(unreachable_patterns)]
            _ => Err(Refusal::Absent(format!("this build was made without it (cargo feature `{}`)", self.name()))),
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How to run a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxOptions {
    /// `None` is `auto`: the first of [`Runtime::ALL`] that is installed and loads the model.
    pub runtime: Option<Runtime>,
    /// Threads inside one instance. On CPUs, several instances of one thread each give more frames than one instance
    /// of several threads; more than one lowers the latency of a single batch.
    pub threads_per_instance: usize,
    /// The runtime's library, or the folder that holds it; otherwise it is searched for.
    pub library: Option<PathBuf>,
    /// What ONNX Runtime computes with; others than the CPU are its alone.
    pub provider: Provider,
    /// Cores that instances are pinned to, in turn, `threads_per_instance` each; empty: none is.
    pub cores: Vec<usize>,
    /// Batches are filled up to the next of these sizes (rising); empty: they are run as they are.
    pub batch_sizes: Vec<usize>,
    /// The pictures' size where the model leaves it open.
    pub open_size: Option<Size>,
}

impl Default for OnnxOptions {
    fn default() -> Self {
        Self {
            runtime: None,
            threads_per_instance: 1,
            library: None,
            provider: Provider::Cpu,
            cores: Vec::new(),
            batch_sizes: Vec::new(),
            open_size: None,
        }
    }
}

/// Which runtime a model got. For people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub runtime: Runtime,
    pub why: String,
    /// How to get a runtime that is usually faster, if there is one.
    pub better: Option<String>,
}

/// A model ready for the engine, and how it will be run.
pub struct OnnxModel {
    pub model: LoadedModel,
    pub choice: Choice,
}

/// A runtime that was tried and why it did not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub runtime: Runtime,
    pub problem: String,
}

/// Why a model cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file itself is at fault.
    #[error("model {}: {problem}", .path.display())]
    File { path: PathBuf, problem: FileProblem },
    /// The model is whole, but takes no batch of pictures.
    #[error("model {}: {problem}", .path.display())]
    Unfit { path: PathBuf, problem: String },
    /// The options contradict each other.
    #[error("model {}: {problem}", .path.display())]
    Options { path: PathBuf, problem: String },
    /// No runtime runs it; what each said.
    #[error("model {}: no runtime runs it{}", .path.display(), listed(.tried))]
    Runtimes { path: PathBuf, tried: Vec<Attempt> },
}

fn listed(tried: &[Attempt]) -> String {
    tried.iter().map(|Attempt { runtime, problem }| format!("\n  {runtime}: {problem}")).collect()
}

/// What a runtime gives for a model that it can load: one instance, and how to make more.
pub(super) struct Loaded {
    pub(super) info: ModelInfo,
    /// Where batch tensors lie best, if not on the heap.
    pub(super) memory: Option<TensorAllocator>,
    pub(super) first: Box<dyn Backend>,
    pub(super) again: Again,
}

pub(super) type Again = Box<dyn Fn() -> Result<Box<dyn Backend>, String> + Send + Sync>;

/// Why one runtime did not load a model.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not there.
    Absent(String),
    /// It is there and refuses; another one may not.
    Refused(String),
    /// No runtime can make pictures fit this model.
    Unfit(String),
}

/// Inspects the model, picks a runtime that loads it, and hands over what the engine needs to open instances.
///
/// # Errors
/// The file is missing, cut off or no ONNX model; it does not take one batch of pictures; or no runtime loads it, in
/// which case the error holds what each of them said. Never panics, whatever the file holds.
pub fn open(path: &Path, options: &OnnxOptions) -> Result<OnnxModel, OpenError> {
    file::inspect(path).map_err(|problem| OpenError::File { path: path.into(), problem })?;
    let candidates = candidates(options).map_err(|problem| OpenError::Options { path: path.into(), problem })?;
    let mut tried = Vec::new();
    let mut absent = Vec::new();
    for &runtime in &candidates {
        let problem = match unpanicked(|| tested(runtime.load(path, options)?, options.open_size)) {
            Ok(Ok((Loaded { info, memory, first, again }, limitation))) => {
                let mut choice = choose(runtime, &info, options, &tried, &absent);
                choice.why.extend(limitation);
                check_sizes(&info, options).map_err(|problem| OpenError::Options { path: path.into(), problem })?;
                let device = if options.provider.is_nvidia() { Device::Accelerator } else { Device::Cpu };
                let opener = opener(first, again, guess_spec(&info, options.open_size), options);
                let model = LoadedModel { memory, ..LoadedModel::new(info, device, opener) };
                return Ok(OnnxModel { model, choice });
            }
            Ok(Err(Refusal::Unfit(problem))) => return Err(OpenError::Unfit { path: path.into(), problem }),
            Ok(Err(Refusal::Refused(problem))) => problem,
            Ok(Err(Refusal::Absent(problem))) => {
                absent.push(runtime);
                format!("{problem}; to get it: {}", runtime.install())
            }
            Err(panic) => format!("it panicked: {panic}"),
        };
        tried.push(Attempt { runtime, problem });
    }
    Err(OpenError::Runtimes { path: path.into(), tried })
}

fn candidates(options: &OnnxOptions) -> Result<Vec<Runtime>, String> {
    match (options.runtime, options.provider) {
        (_, Provider::Cpu) => {}
        (None | Some(Runtime::OnnxRuntime), _) => return Ok(vec![Runtime::OnnxRuntime]),
        (Some(runtime), provider) => {
            return Err(format!(
                "the provider {provider} is one of ONNX Runtime's, found it with runtime = \"{runtime}\""
            ));
        }
    }
    match (options.runtime, &options.library) {
        (Some(Runtime::Rten), Some(library)) => {
            Err(format!("the runtime rten is part of omma and takes no library, found library = {}", library.display()))
        }
        (Some(runtime), _) => Ok(vec![runtime]),
        (None, Some(library)) => Err(format!(
            "library = {} needs a runtime beside it: set runtime = \"openvino\" or runtime = \"onnxruntime\"",
            library.display()
        )),
        (None, None) => Ok(Runtime::ALL.to_vec()),
    }
}

fn check_sizes(info: &ModelInfo, options: &OnnxOptions) -> Result<(), String> {
    let most = match info.batch {
        _ if options.batch_sizes.is_empty() => return Ok(()),
        BatchLimit::Exactly(fixed) => {
            return Err(format!(
                "batch_sizes = {:?}, but the model takes batches of exactly {fixed}",
                options.batch_sizes
            ));
        }
        BatchLimit::UpTo(most) => most,
    };
    match options.batch_sizes.iter().find(|&&size| size > most) {
        Some(size) => Err(format!("batch_sizes has {size}, but the model takes at most {most} pictures at a time")),
        None => Ok(()),
    }
}

fn choose(runtime: Runtime, info: &ModelInfo, options: &OnnxOptions, tried: &[Attempt], absent: &[Runtime]) -> Choice {
    let refused: Vec<_> = tried.iter().filter(|attempt| !absent.contains(&attempt.runtime)).collect();
    let why = match (options.runtime, refused.as_slice()) {
        (Some(_), _) => "the configuration asks for it".to_owned(),
        (None, []) if absent.is_empty() => "it is installed and usually the fastest on this kind of device".to_owned(),
        (None, []) => format!(
            "it is usually the fastest after {}, which {} not installed",
            names(absent),
            if absent.len() == 1 { "is" } else { "are" }
        ),
        (None, refused) => {
            let said: Vec<_> = refused
                .iter()
                .map(|Attempt { runtime, problem }| format!("{runtime} does not load the model ({problem})"))
                .collect();
            said.join(", ")
        }
    };
    let missing = absent.first().filter(|_| options.runtime.is_none());
    let better = missing.map(|best| format!("{best} is usually faster than {runtime}; to get it: {}", best.install()));
    Choice { runtime, why: format!("{}: {why}", info.runtime), better }
}

fn names(runtimes: &[Runtime]) -> String {
    runtimes.iter().map(|runtime| runtime.name()).collect::<Vec<_>>().join(" and ")
}

/// Runs the model once, and once more with two pictures if it takes batches: what loads need not run (an operator's
/// option that the runtime has not got), and a batch that may vary by its declaration may be fixed inside. Skipped
/// for models whose picture size nobody has said. Gives back what the model turned out not to do.
///
/// # Errors
/// The model does not run, or its outputs are not one row per picture.
fn tested(mut loaded: Loaded, open_size: Option<Size>) -> Result<(Loaded, Option<String>), Refusal> {
    let Some(spec) = guess_spec(&loaded.info, open_size) else { return Ok((loaded, None)) };
    let fixed = match loaded.info.batch {
        BatchLimit::Exactly(fixed) => Some(fixed),
        BatchLimit::UpTo(_) => None,
    };
    let rows = fixed.unwrap_or(2);
    // A header may claim any size; nothing is allocated before it is known to be one that a machine has.
    if rows * spec.slot_bytes() > INPUT_BYTES_MAX {
        return Err(Refusal::Unfit(format!(
            "its input is {rows} pictures of {} bytes, more than the {INPUT_BYTES_MAX} bytes that a batch may have",
            spec.slot_bytes()
        )));
    }
    let tensor = BatchTensor::within(loaded.memory.as_ref(), rows, spec.slot_bytes());
    let mut run = |count: usize| {
        let origins = vec![Origin { camera: CameraIndex(0), sequence: 0 }; count];
        let mut rows = Rows(Vec::new());
        let batch = BatchInput { tensor: &tensor, spec: &spec, origins: &origins, parameters: &[] };
        loaded.first.infer(batch, &mut rows).map(|()| rows.0).map_err(|error| error.message)
    };
    let outputs =
        run(1).map_err(|problem| Refusal::Refused(format!("it loads the model, but does not run it: {problem}")))?;
    if let Some((name, first)) = outputs.iter().find(|(_, first)| *first != Some(fixed.unwrap_or(1))) {
        let found = first.map_or("none".to_owned(), |first| first.to_string());
        return Err(Refusal::Unfit(format!(
            "output `{name}` has {found} as its first dimension, expected one row per picture ({}): export the model so that its \
             outputs keep the batch",
            fixed.unwrap_or(1)
        )));
    }
    if fixed.is_some() {
        return Ok((loaded, None));
    }
    let problem = match run(2) {
        Ok(outputs) => match outputs.iter().find(|(_, first)| *first != Some(2)) {
            None => return Ok((loaded, None)),
            Some((name, _)) => format!("output `{name}` does not grow with the batch"),
        },
        Err(problem) => problem,
    };
    loaded.info.batch = BatchLimit::UpTo(1);
    Ok((
        loaded,
        Some(format!("; the model takes one picture at a time, although its input declares batches: {problem}")),
    ))
}

/// Far beyond any model's input (64 pictures of 4000x4000 in `f32` have 12 GB, and are refused).
const INPUT_BYTES_MAX: usize = 4 << 30;

/// A reply that keeps the name and first dimension of each output.
struct Rows(Vec<(String, Option<usize>)>);

impl Reply for Rows {
    fn outputs(&mut self, tensors: &[TensorView<'_>]) {
        self.0 = tensors.iter().map(|tensor| (tensor.name.to_owned(), tensor.shape.first().copied())).collect();
    }

    fn fail(&mut self, _index: usize, _message: &str) {}
}

/// An opener whose first call hands out the instance that the inspection made anyway, so that a model is not loaded
/// once more than it has instances; every other call (more instances, one that broke) makes a new one. Where instances are
/// pinned, the first one's threads would be elsewhere, so it is not used.
fn opener(first: Box<dyn Backend>, again: Again, spec: Option<PictureSpec>, options: &OnnxOptions) -> Opener {
    let (cores, threads, sizes) =
        (options.cores.clone(), options.threads_per_instance.max(1), options.batch_sizes.clone());
    let first = Mutex::new(cores.is_empty().then_some(first));
    Opener::Blocking(Box::new(move |number| {
        if !cores.is_empty() {
            place::pin(&place::cores_of(&cores, number, threads)).map_err(BackendError::batch)?;
        }
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let opened = match first.map_or_else(|| unpanicked(&again), |first| Ok(Ok(first))) {
            Ok(opened) => opened.map_err(BackendError::batch)?,
            Err(panic) => {
                return Err(BackendError::batch(format!("the runtime panicked while it loaded the model: {panic}")));
            }
        };
        if sizes.is_empty() {
            return Ok(opened);
        }
        let mut sized = Sized::new(opened, &sizes);
        if let Some(spec) = &spec {
            sized.warm_up(spec)?;
        }
        Ok(Box::new(sized))
    }))
}

/// Runs what may panic on hostile files or unusual libraries (the bindings `expect` what a healthy runtime promises).
fn unpanicked<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic: Box<dyn Any + Send>| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "no message".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_engine::infer::backend::BatchLimit;
    use omma_engine::tensor::{DType, TensorInfo};
    use std::sync::Arc;

    fn info() -> ModelInfo {
        ModelInfo { runtime: "runtime 1.0".into(), inputs: vec![], outputs: vec![], batch: BatchLimit::UpTo(1) }
    }

    #[test]
    fn the_choice_says_why_and_how_to_get_a_better_one() {
        let absent = |runtime| Attempt { runtime, problem: "no library".into() };
        let refused = |runtime| Attempt { runtime, problem: "no such operator".into() };
        let asked = OnnxOptions { runtime: Some(Runtime::Rten), ..OnnxOptions::default() };
        for (picked, options, tried, missing, why, better) in [
            (
                Runtime::OpenVino,
                OnnxOptions::default(),
                vec![],
                vec![],
                "runtime 1.0: it is installed and usually the fastest on this kind of device",
                None,
            ),
            (Runtime::Rten, asked, vec![], vec![], "runtime 1.0: the configuration asks for it", None),
            (
                Runtime::OnnxRuntime,
                OnnxOptions::default(),
                vec![absent(Runtime::OpenVino)],
                vec![Runtime::OpenVino],
                "runtime 1.0: it is usually the fastest after openvino, which is not installed",
                Some("openvino is usually faster than onnxruntime; to get it: "),
            ),
            (
                Runtime::Rten,
                OnnxOptions::default(),
                vec![absent(Runtime::OpenVino), absent(Runtime::OnnxRuntime)],
                vec![Runtime::OpenVino, Runtime::OnnxRuntime],
                "runtime 1.0: it is usually the fastest after openvino and onnxruntime, which are not installed",
                Some("openvino is usually faster than rten; to get it: "),
            ),
            (
                Runtime::OnnxRuntime,
                OnnxOptions::default(),
                vec![refused(Runtime::OpenVino)],
                vec![],
                "runtime 1.0: openvino does not load the model (no such operator)",
                None,
            ),
        ] {
            let choice = choose(picked, &info(), &options, &tried, &missing);
            assert_eq!(choice.why, why);
            match better {
                None => assert_eq!(choice.better, None),
                Some(start) => {
                    assert!(choice.better.as_deref().is_some_and(|text| text.starts_with(start)), "{:?}", choice.better)
                }
            }
        }
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        for (runtime, expected) in [
            (None, "library = /x needs a runtime beside it: set runtime = \"openvino\" or runtime = \"onnxruntime\""),
            (Some(Runtime::Rten), "the runtime rten is part of omma and takes no library, found library = /x"),
        ] {
            let options = OnnxOptions { runtime, library: Some("/x".into()), ..OnnxOptions::default() };
            assert_eq!(candidates(&options), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(unpanicked(|| -> u32 { panic!("at {}", 3) }), Err("at 3".to_owned()));
    }

    /// Counts the sizes of the batches that it is run with.
    struct Counting(Arc<Mutex<Vec<usize>>>);

    impl Backend for Counting {
        fn infer(&mut self, batch: BatchInput<'_>, _reply: &mut dyn Reply) -> Result<(), BackendError> {
            self.0.lock().expect("not poisoned").push(batch.len());
            Ok(())
        }
    }

    /// The batches that the instance which an opener hands out first was run with, and those of one that is made anew.
    fn opened(options: &OnnxOptions) -> [Vec<usize>; 2] {
        let input = TensorInfo { name: "in".into(), dtype: DType::F32, shape: vec![None, Some(3), None, None] };
        let info = ModelInfo { inputs: vec![input], ..info() };
        let runs = [(); 2].map(|()| Arc::new(Mutex::new(Vec::new())));
        let [first, again] = runs.clone();
        let again = move || -> Result<Box<dyn Backend>, String> { Ok(Box::new(Counting(Arc::clone(&again)))) };
        let spec = guess_spec(&info, options.open_size);
        let Opener::Blocking(open) = opener(Box::new(Counting(first)), Box::new(again), spec, options) else {
            panic!("runtimes block")
        };
        // On a thread of its own, which keeps what it is pinned to.
        std::thread::scope(|scope| scope.spawn(|| drop(open(0).expect("an instance"))).join().expect("no panic"));
        runs.map(|runs| runs.lock().expect("not poisoned").clone())
    }

    #[test]
    fn each_size_is_warmed_up_also_where_the_configuration_says_the_pictures_size() {
        let options = OnnxOptions { batch_sizes: vec![2, 8], ..OnnxOptions::default() };
        let size = Size { width: 32, height: 16 };
        assert_eq!(opened(&OnnxOptions { open_size: Some(size), ..options.clone() }), [vec![2, 8], vec![]]);
    }

    /// Threads that were made before their instance was pinned are wherever the system places them.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_instance_that_is_pinned_is_made_on_its_cores() {
        // SAFETY: a call without pointers.
        let here = unsafe { libc::sched_getcpu() } as usize;
        let options = OnnxOptions { batch_sizes: vec![1], cores: vec![here], ..OnnxOptions::default() };
        let size = Size { width: 32, height: 16 };
        assert_eq!(opened(&OnnxOptions { open_size: Some(size), ..options }), [vec![], vec![1]]);
    }
}
