//! `[[models]]` without its output: what runs a model, how it is served, what its pictures are.

use std::path::PathBuf;
use std::time::Duration;

use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::plan::{BatchPlan, Mode, ModelPlan};
use omma_engine::tensor::DType;
use omma_frame::Size;

use crate::engine::ModelDefaults;
use crate::files::{existing_file, existing_folder, existing_library, existing_model};
use crate::names::Names;
use crate::output::{self, Decoder, OutputConfig};
use crate::outside::Entry;
use crate::read::Table;
use crate::schema::Word;
use crate::triton::{self, SendAs, TritonConfig};

/// One model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub name: String,
    pub backend: BackendConfig,
    pub mode: Mode,
    /// `None`: as many as are useful.
    pub instances: Option<usize>,
    pub sync_threads_max: usize,
    pub feeder_threads_max: usize,
    pub waiting_frames_max: usize,
    pub in_flight_frames_max: usize,
    pub batch: BatchPlan,
    pub deadline: Duration,
    pub warmup_batches: u32,
    pub input: InputConfig,
    pub output: OutputConfig,
    /// By name, sorted.
    pub parameters: Vec<(String, String)>,
}

/// What runs a model.
#[derive(Debug, Clone, PartialEq)]
pub enum BackendConfig {
    /// An ONNX file on an embedded runtime.
    Onnx {
        /// The file, or the folder of its versions: `PATH/NUMBER/model.onnx`.
        path: PathBuf,
        /// Which of the versions; `None`: the highest.
        version: Option<u32>,
        /// A version that appears while omma runs takes over.
        watch: bool,
        runtime: Runtime,
        provider: Provider,
        library: Option<PathBuf>,
        threads_per_instance: usize,
        /// Cores for the instances to be pinned to; empty: the system places them.
        cores: Vec<usize>,
        /// Batches are filled up to the next of these sizes; empty: they are run as they are.
        batch_sizes: Vec<usize>,
    },
    /// Nothing: answers at once.
    Null,
    /// Nothing: gives back what it is given.
    Identity,
    /// Nothing: answers after `base`, and `per_item` for each frame of the batch.
    Simulated { base: Duration, per_item: Duration, waiting: Waiting },
    /// A class or function in worker processes.
    Python(PythonConfig),
    /// Servers that speak the Open Inference Protocol.
    Triton(TritonConfig),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonConfig {
    /// `package.module:Class`.
    pub entry: String,
    /// Where the workers run; a path as seen from the configuration's folder.
    pub folder: PathBuf,
    /// A command without a slash in it, or a path.
    pub interpreter: PathBuf,
    pub device: PythonDevice,
    pub batch_as: BatchAs,
    pub threads_per_instance: usize,
    pub load_timeout: Duration,
    pub output_bytes_max: usize,
    /// By name, sorted.
    pub environment: Vec<(String, String)>,
}

/// Where a model in Python computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PythonDevice {
    Cpu,
    Cuda,
}

/// What a batch is to a model in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchAs {
    Numpy,
    Torch,
    Buffer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// The best that is present.
    Auto,
    OnnxRuntime,
    OpenVino,
    Rten,
}

/// What ONNX Runtime computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    Cpu,
    Cuda,
    TensorRt,
    OpenVino,
}

/// How a simulated model spends its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// As an accelerator: the CPU is free meanwhile.
    Sleep,
    /// As a model on the CPU: the core is taken.
    Spin,
    /// As a server does: any number of batches at once, none of which occupies a thread.
    Request,
}

/// What the configuration says of a model's pictures; `None` is for the model's file to say.
#[derive(Debug, Clone, PartialEq)]
pub struct InputConfig {
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub dtype: Option<DType>,
    pub layout: Option<Layout>,
    pub color: Option<Color>,
    pub resize: Resize,
    pub scale: Option<f32>,
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// Pictures of any other size are dropped as `picture_unfit`.
    pub expect: Option<Size>,
}

impl ModelConfig {
    /// The engine's plan of this model, once it is known how it wants its pictures ([`InputConfig::picture`]).
    #[must_use]
    pub fn plan(&self, picture: PictureSpec) -> ModelPlan {
        ModelPlan {
            name: self.name.clone(),
            mode: self.mode,
            instances: self.instances,
            sync_threads_max: self.sync_threads_max,
            feeder_threads_max: self.feeder_threads_max,
            waiting_frames_max: self.waiting_frames_max,
            in_flight_frames_max: self.in_flight_frames_max,
            batch: self.batch,
            picture,
            parameters: self.parameters.clone(),
            deadline: self.deadline,
            warmup_batches: self.warmup_batches,
        }
    }
}

impl InputConfig {
    /// What is configured, completed by what the model's file says (`inspected`), then by what is usual: planes of
    /// `f32`, red first. `None` if neither says a size. Whether the two agree is for the backend to say.
    #[must_use]
    pub fn picture(&self, inspected: Option<&PictureSpec>) -> Option<PictureSpec> {
        let dtype = self.dtype.or(inspected.map(|spec| spec.dtype)).unwrap_or(DType::F32);
        let size = Size {
            width: self.width.or(inspected.map(|spec| spec.size.width))?,
            height: self.height.or(inspected.map(|spec| spec.size.height))?,
        };
        Some(PictureSpec {
            size,
            dtype,
            layout: self.layout.or(inspected.map(|spec| spec.layout)).unwrap_or(Layout::Nchw),
            color: self.color.or(inspected.map(|spec| spec.color)).unwrap_or(Color::Rgb),
            resize: self.resize,
            scale: self.scale.unwrap_or(dtype.usual_scale()),
            mean: self.mean,
            std: self.std,
        })
    }
}

impl Word for Mode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("async", Self::Async), ("sync", Self::Sync), ("direct", Self::Direct)];
}

impl Word for Provider {
    const WORDS: &'static [(&'static str, Self)] =
        &[("cpu", Self::Cpu), ("cuda", Self::Cuda), ("tensorrt", Self::TensorRt), ("openvino", Self::OpenVino)];
}

impl Word for Waiting {
    const WORDS: &'static [(&'static str, Self)] =
        &[("sleep", Self::Sleep), ("spin", Self::Spin), ("request", Self::Request)];
}

impl Word for PythonDevice {
    const WORDS: &'static [(&'static str, Self)] = &[("cpu", Self::Cpu), ("cuda", Self::Cuda)];
}

impl Word for BatchAs {
    const WORDS: &'static [(&'static str, Self)] =
        &[("numpy", Self::Numpy), ("torch", Self::Torch), ("buffer", Self::Buffer)];
}

impl Word for Layout {
    const WORDS: &'static [(&'static str, Self)] = &[("nchw", Self::Nchw), ("nhwc", Self::Nhwc)];
}

impl Word for Color {
    const WORDS: &'static [(&'static str, Self)] = &[("rgb", Self::Rgb), ("bgr", Self::Bgr), ("gray", Self::Gray)];
}

impl Word for DType {
    /// Pictures have no other types.
    const WORDS: &'static [(&'static str, Self)] = &[("u8", Self::U8), ("f16", Self::F16), ("f32", Self::F32)];
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum ResizeWord {
    Letterbox,
    Stretch,
}

impl Word for ResizeWord {
    const WORDS: &'static [(&'static str, Self)] = &[("letterbox", Self::Letterbox), ("stretch", Self::Stretch)];
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum RuntimeWord {
    Onnx(Runtime),
    Null,
    Identity,
    Simulated,
    Python,
    Triton,
}

impl Word for RuntimeWord {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Onnx(Runtime::Auto)),
        ("onnxruntime", Self::Onnx(Runtime::OnnxRuntime)),
        ("openvino", Self::Onnx(Runtime::OpenVino)),
        ("rten", Self::Onnx(Runtime::Rten)),
        ("null", Self::Null),
        ("identity", Self::Identity),
        ("simulated", Self::Simulated),
        ("python", Self::Python),
        ("triton", Self::Triton),
    ];
}

pub(crate) fn read(root: &Table<'_>, defaults: &ModelDefaults) -> (Vec<ModelConfig>, Names) {
    let mut names = Names::new("models");
    let models = root.tables("models").map(|table| read_model(&table, defaults, &mut names)).collect();
    (models, names)
}

fn read_model(table: &Table<'_>, defaults: &ModelDefaults, names: &mut Names) -> ModelConfig {
    let name = names.add(table, table.text("name"));
    let backend = read_backend(table, &name);
    let stand_in = matches!(backend, BackendConfig::Null | BackendConfig::Identity | BackendConfig::Simulated { .. });
    // An empty slot is no picture, so a model that decodes for itself would refuse it.
    let sends_pictures = matches!(&backend, BackendConfig::Triton(triton) if triton.send == SendAs::Picture);
    let instances = table.count_if("instances");
    let batch = read_batch(table, defaults);
    if let BackendConfig::Onnx { batch_sizes, .. } = &backend
        && let Some(size) = batch_sizes.iter().find(|size| **size > batch.size_max)
    {
        let expected = format!("sizes up to batch_size_max, which is {}: no batch is larger", batch.size_max);
        table.problem("batch_sizes", size.to_string(), expected);
    }
    let waiting_frames_max =
        table.count_or("waiting_frames_max", defaults.waiting_frames_max.saturating_mul(instances.unwrap_or(1)));
    let in_flight_frames_max = table.count_or("in_flight_frames_max", defaults.in_flight_frames_max);
    for (key, frames, from) in [
        ("waiting_frames_max", waiting_frames_max, "consumer_manager"),
        ("in_flight_frames_max", in_flight_frames_max, "inference_worker"),
    ] {
        if frames < batch.size {
            let from = if table.has(key) { String::new() } else { format!(" from {from}.async_buffer_size") };
            let expected = format!("at least batch_size, which is {}: no batch would ever be full", batch.size);
            table.problem(key, format!("{frames}{from}"), expected);
        }
    }
    ModelConfig {
        name,
        backend,
        mode: table.word_or("mode", Mode::Auto),
        instances,
        sync_threads_max: table.count_or("sync_mode_thread_pool_size", defaults.sync_threads_max),
        feeder_threads_max: table.count_or("feeder_executor_threads", defaults.feeder_threads_max),
        waiting_frames_max,
        in_flight_frames_max,
        batch,
        deadline: table.millis("deadline_ms"),
        warmup_batches: if sends_pictures { 0 } else { table.small("warmup_batches") },
        input: read_input(&table.table("input"), stand_in),
        output: read_output(&table.table("output"), stand_in),
        parameters: table.named("parameters"),
    }
}

fn read_backend(table: &Table<'_>, name: &str) -> BackendConfig {
    let millis = |name| Duration::from_secs_f64(table.number(name) / 1000.0);
    match table.word_if("runtime") {
        Some(RuntimeWord::Null) => BackendConfig::Null,
        Some(RuntimeWord::Identity) => BackendConfig::Identity,
        Some(RuntimeWord::Simulated) => BackendConfig::Simulated {
            base: millis("base_ms"),
            per_item: millis("per_item_ms"),
            waiting: table.word_or("waiting", Waiting::Sleep),
        },
        Some(RuntimeWord::Python) => BackendConfig::Python(python(table)),
        Some(RuntimeWord::Triton) => BackendConfig::Triton(triton::read(table, name)),
        Some(RuntimeWord::Onnx(runtime)) => onnx(table, runtime),
        // Not a runtime: reported already. The file is looked at all the same.
        None => onnx(table, Runtime::Auto),
    }
}

fn onnx(table: &Table<'_>, runtime: Runtime) -> BackendConfig {
    let path = existing_model(table, "path").unwrap_or_default();
    if table.has("version") && table.doc.outside.entry(&path) == Entry::File {
        let found = "version with a path that is a file";
        table.problem("version", found, "no version, or the path of a folder of numbered versions");
    }
    BackendConfig::Onnx {
        path,
        version: table.small_if("version"),
        watch: table.flag("watch"),
        runtime,
        provider: match runtime {
            Runtime::Auto | Runtime::OnnxRuntime => table.word_or("provider", Provider::Cpu),
            Runtime::OpenVino | Runtime::Rten => Provider::Cpu,
        },
        library: existing_library(table, "library"),
        threads_per_instance: table.count("threads_per_instance"),
        cores: table.integers("cores"),
        batch_sizes: {
            let mut sizes = table.integers("batch_sizes");
            sizes.sort_unstable();
            sizes
        },
    }
}

fn python(table: &Table<'_>) -> PythonConfig {
    let written = table.text("interpreter").unwrap_or_default();
    // A name alone is searched for where commands are; a path begins at the configuration's folder.
    let interpreter = if written.contains('/') { existing_file(table, "interpreter", INTERPRETER) } else { None };
    PythonConfig {
        entry: table.text("entry").unwrap_or_default(),
        folder: existing_folder(table, "folder", "the folder that the workers run in"),
        interpreter: interpreter.unwrap_or_else(|| PathBuf::from(written)),
        device: table.word_or("device", PythonDevice::Cpu),
        batch_as: table.word_or("batch_as", BatchAs::Numpy),
        threads_per_instance: table.count("threads_per_instance"),
        load_timeout: table.millis("load_timeout_ms"),
        output_bytes_max: table.count("output_bytes_max"),
        environment: read_environment(table),
    }
}

const INTERPRETER: &str = "the path of a Python, or a command such as \"python3\"";

/// Variables of the workers. A name with `=` in it, or a zero byte anywhere, is none.
fn read_environment(table: &Table<'_>) -> Vec<(String, String)> {
    let variables = table.named("environment");
    for (name, text) in &variables {
        if name.is_empty() || name.contains(['=', '\0']) || text.contains('\0') {
            table.problem(
                "environment",
                format!("the variable {name:?}"),
                "names without \"=\", texts without zero bytes",
            );
        }
    }
    variables
}

fn read_batch(table: &Table<'_>, defaults: &ModelDefaults) -> BatchPlan {
    let size = table.count_or("batch_size", defaults.batch_size);
    let size_max = table.count_or("batch_size_max", size.saturating_mul(4).min(1024));
    if size_max < size {
        table.problem("batch_size_max", size_max.to_string(), format!("at least batch_size, which is {size}"));
    }
    let timeout_ms = table.number_or("batch_timeout_ms", defaults.batch_timeout_ms);
    let deadline = table.millis("deadline_ms");
    if deadline.as_secs_f64() * 1000.0 < timeout_ms {
        let expected = format!("at least batch_timeout_ms, which is {timeout_ms}");
        table.problem("deadline_ms", deadline.as_millis().to_string(), expected);
    }
    BatchPlan {
        size,
        size_max,
        timeout: Duration::from_secs_f64(timeout_ms / 1000.0),
        direct_share_percent: table.small("direct_share_percent"),
    }
}

/// A stand-in for a model has no file that says what its pictures are: what is not written is picked here.
fn read_input(table: &Table<'_>, stand_in: bool) -> InputConfig {
    let (width, height) = both(table, "width", "height");
    let (width, height, dtype) = if stand_in {
        let side = |name, written: Option<u32>| Some(written.unwrap_or_else(|| table.small_or(name, 320)));
        (side("width", width), side("height", height), Some(table.word_or("dtype", DType::U8)))
    } else {
        (width, height, table.word_if("dtype"))
    };
    let resize = match table.word_or("resize", ResizeWord::Letterbox) {
        ResizeWord::Letterbox => Resize::Letterbox { pad: table.small("pad").try_into().unwrap_or(u8::MAX) },
        ResizeWord::Stretch => {
            if table.has("pad") {
                table.problem(
                    "pad",
                    "pad with resize = \"stretch\"",
                    "no pad: a stretched picture leaves nothing to fill",
                );
            }
            Resize::Stretch
        }
    };
    let (scale, mean, std) = (table.number_if("scale"), table.channels("mean"), table.channels("std"));
    if dtype == Some(DType::U8) {
        let idle = [scale.is_none_or(|scale| scale == 1.0), mean == [0.0; 3], std == [1.0; 3]];
        for (name, _) in ["scale", "mean", "std"].into_iter().zip(idle).filter(|(_, idle)| !idle) {
            let found = format!("{name} with dtype = \"u8\"");
            table.problem(name, found, "no such key: whole numbers go to the model as they are");
        }
    }
    let expect = match both(table, "expect_width", "expect_height") {
        (Some(width), Some(height)) => Some(Size { width, height }),
        _ => None,
    };
    InputConfig {
        width,
        height,
        dtype,
        layout: table.word_if("layout"),
        color: table.word_if("color"),
        resize,
        scale: scale.map(|scale| scale as f32),
        mean,
        std,
        expect,
    }
}

/// Two keys that have a meaning only together.
fn both(table: &Table<'_>, first: &str, second: &str) -> (Option<u32>, Option<u32>) {
    for (one, other) in [(first, second), (second, first)] {
        if table.has(one) && !table.has(other) {
            table.problem(one, format!("{one} without {other}"), "both or neither");
        }
    }
    (table.small_if(first), table.small_if(second))
}

fn read_output(table: &Table<'_>, stand_in: bool) -> OutputConfig {
    let mut output = output::read(table);
    if stand_in {
        match output.decoder {
            Decoder::Auto => output.decoder = Decoder::Nothing,
            Decoder::Nothing | Decoder::Tensors => {}
            other => {
                let found = format!("{:?} of a model that finds nothing", other.word());
                table.problem("decoder", found, "\"nothing\" or \"tensors\" with runtime = \"null\" or \"simulated\"");
            }
        }
    }
    output
}
