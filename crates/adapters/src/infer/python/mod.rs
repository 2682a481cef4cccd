//! Models in Python: worker processes that omma starts, watches and starts again.
//!
//! One worker per instance, with a socket for packets of fixed layout and memory that both sides see: batches go in and
//! outputs come out without a copy and without pickling. [`open`] starts the first worker, hears what its class says of
//! its input, tries it on a black picture to learn its outputs, and hands the engine an opener.
//!
//! What is absent: no Python in omma's own process, so nothing that happens in a model (a crash, a hang, the GIL, memory
//! that runs out) is omma's end. Workers end with omma, however it ends.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod instance;
mod log;
mod memory;
mod package;
mod process;
mod setup;
mod socket;
mod wire;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_engine::infer::backend::{Backend, BatchLimit, Device, LoadedModel, ModelInfo, Opener, TensorInfo};
use omma_engine::picture::PictureSpec;
use omma_engine::tensor::DType;
use parking_lot::Mutex;

use self::instance::{Instance, Model};
use self::setup::Setup;
pub use self::worker::Declared;
use super::fit::{PictureInput, check, item_dims};

/// Messages of one model's workers that may wait for the watch.
const MESSAGES_MAX: usize = 256;

/// How a model in Python is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonOptions {
    /// The model's name, for messages and processes.
    pub model: String,
    pub interpreter: PathBuf,
    /// `package.module:Class` or `package.module:function`.
    pub entry: String,
    /// Where the entry is imported from and the workers run.
    pub folder: PathBuf,
    pub environment: Vec<(String, String)>,
    /// Given to the class's `load`, or to the function with each batch.
    pub parameters: Vec<(String, String)>,
    pub device: PythonDevice,
    pub batch_as: BatchAs,
    /// Threads that a worker's numerical libraries may use.
    pub threads: usize,
    /// Until a worker has loaded its model and run its first picture.
    pub load_timeout: Duration,
    /// The engine's deadline for a batch.
    pub deadline: Duration,
    /// The most that the outputs of one batch may take.
    pub output_bytes_max: usize,
}

/// Where the user's code computes, as far as omma must know to choose a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PythonDevice {
    Cpu,
    Cuda,
}

/// What a batch is to `predict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchAs {
    Numpy,
    Torch,
    /// A memoryview, which needs no library.
    Buffer,
}

impl PythonDevice {
    const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

impl BatchAs {
    const fn name(self) -> &'static str {
        match self {
            Self::Numpy => "numpy",
            Self::Torch => "torch",
            Self::Buffer => "buffer",
        }
    }
}

/// A model in Python, ready for the engine.
pub struct PythonModel {
    pub model: LoadedModel,
    /// The pictures that it is given.
    pub picture: PictureSpec,
    /// What runs it, for people.
    pub why: String,
}

/// Starts the first worker, and learns from it what the engine must know. `picture` completes what the class says of
/// its input.
///
/// # Errors
/// The interpreter, a module, the entry or a library is missing; the model refuses to load, or to look at a picture;
/// or what its class says of its input and the configuration do not agree. For people, with what to do.
pub fn open(
    options: PythonOptions,
    picture: impl FnOnce(&Declared) -> Result<PictureSpec, String>,
) -> Result<PythonModel, String> {
    let (sender, messages) = crossbeam_channel::bounded(MESSAGES_MAX);
    let entry = options.entry.clone();
    let wrong = |problem: String| format!("{entry}: {problem}");
    let setup = Setup::new(options, sender)?;
    let until = Instant::now() + setup.options.load_timeout;
    let (mut worker, loaded) = setup.load(0, until).map_err(wrong)?;
    let declared = loaded.input.clone().unwrap_or_default();
    let spec = picture(&declared).map_err(wrong)?;
    let library = |name: &str, version: &Option<String>| version.as_ref().map(|version| format!(", {name} {version}"));
    let libraries = [library("numpy", &loaded.versions.numpy), library("torch", &loaded.versions.torch)];
    let runtime = format!(
        "Python {} ({}{}), {}",
        loaded.versions.python,
        loaded.executable,
        libraries.into_iter().flatten().collect::<String>(),
        setup.options.device.name()
    );
    let batch = BatchLimit::UpTo(loaded.batch_max.unwrap_or(usize::MAX));
    let wanted = ModelInfo { runtime: runtime.clone(), inputs: vec![wanted(&declared, &spec)], outputs: vec![], batch };
    check(&wanted, &spec).map_err(wrong)?;
    if spec.dtype == DType::F16 && setup.options.batch_as == BatchAs::Buffer {
        let problem = "batch_as = \"buffer\" with dtype = \"f16\": Python's own buffers have no half floats, set batch_as = \"numpy\" \
                       or \"torch\"";
        return Err(wrong(problem.to_owned()));
    }
    let outputs = setup.probe(&mut worker, &spec, until).map_err(wrong)?;
    let outputs: Vec<TensorInfo> = outputs
        .into_iter()
        .map(|output| TensorInfo {
            name: output.name,
            dtype: output.dtype,
            shape: output.shape.iter().enumerate().map(|(at, &side)| (at > 0).then_some(side)).collect(),
        })
        .collect();
    let dims = item_dims(&spec).map(Some);
    let input = TensorInfo { name: "batch".into(), dtype: spec.dtype, shape: [[None].as_slice(), &dims].concat() };
    let info = ModelInfo { runtime, inputs: vec![input], outputs, batch };
    let device = match setup.options.device {
        PythonDevice::Cpu => Device::Processes,
        PythonDevice::Cuda => Device::Accelerator,
    };
    let memory = setup.allocator();
    let why =
        format!("{} in {}, one process for each instance, batches in shared memory", setup.options.entry, info.runtime);
    let shared =
        Arc::new(Model { input: PictureInput::of(&info)?, setup, spec: spec.clone(), outputs: info.outputs.clone() });
    let first: Mutex<Option<Instance>> = Mutex::new(Some(shared.instance(0, worker)));
    let opener = Opener::Blocking(Box::new(move |number| {
        // The worker that the inspection has started anyway is the first instance.
        let ready = if number == 0 { first.lock().take() } else { None };
        let instance = match ready {
            Some(instance) => instance,
            None => shared.open(number)?,
        };
        Ok(Box::new(instance) as Box<dyn Backend>)
    }));
    let mut model = LoadedModel::new(info, device, opener);
    model.memory = Some(memory);
    model.messages = Some(messages);
    Ok(PythonModel { model, picture: spec, why })
}

/// The input that a class asks for; what it leaves open is as the pictures are.
fn wanted(declared: &Declared, spec: &PictureSpec) -> TensorInfo {
    use omma_engine::picture::Layout;
    let side = |pixels: Option<u32>| pixels.map(|pixels| pixels as usize);
    let (channels, height, width) = (side(declared.channels), side(declared.height), side(declared.width));
    let channels = channels.or(Some(spec.color.channels()));
    let layout = match declared.layout.as_deref() {
        Some("nhwc") => Layout::Nhwc,
        Some(_) => Layout::Nchw,
        None => spec.layout,
    };
    let shape = match layout {
        Layout::Nchw => vec![None, channels, height, width],
        Layout::Nhwc => vec![None, height, width, channels],
    };
    let dtype = match declared.dtype.as_deref() {
        Some("u8") => DType::U8,
        Some("f16") => DType::F16,
        Some(_) => DType::F32,
        None => spec.dtype,
    };
    TensorInfo { name: "batch".into(), dtype, shape }
}
