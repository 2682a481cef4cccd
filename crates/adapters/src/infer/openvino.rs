//! OpenVINO, loaded from its shared library, on the CPU.
//!
//! One core and one parsed model for all instances; each instance compiles its own copy with its own threads and
//! runs on the thread that calls it. Threads are not pinned: instances know nothing of one another and would all be
//! pinned to the same first cores.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use omma_engine::infer::backend::{Backend, BackendError, BatchInput, ModelInfo, Reply, TensorInfo};
use omma_engine::tensor::{DType, TensorView, Values};
use openvino_sys::ov_element_type_e as Element;

use super::fit::{PictureInput, batch_limit};
use super::library::{self, Wanted};
use super::onnx::{Loaded, OnnxOptions, Refusal};
use super::openvino_c::{self as ov, Core, Model, PortInfo, Request, Tensor};
use super::outputs::{Space, widen};

const LIBRARY: Wanted =
    Wanted { file: "libopenvino_c.so", variable: "OMMA_OPENVINO", cached: "openvino-", package: "openvino/libs" };

const DEVICE: &CStr = c"CPU";

/// The library that this process has loaded; it stays for good.
static LOADED: Mutex<Option<PathBuf>> = Mutex::new(None);

pub(super) fn load(path: &Path, options: &OnnxOptions) -> Result<Loaded, Refusal> {
    load_library(options.library.as_deref())?;
    let (model, info) = Parsed::new(path, options.threads_per_instance.max(1)).map_err(Refusal::Refused)?;
    let input = PictureInput::of(&info).map_err(Refusal::Unfit)?;
    let shared =
        Arc::new(Shared { model, input, names: info.outputs.iter().map(|output| output.name.clone()).collect() });
    let first = Box::new(Instance::new(Arc::clone(&shared)).map_err(Refusal::Refused)?);
    let again = move || -> Result<Box<dyn Backend>, String> { Ok(Box::new(Instance::new(Arc::clone(&shared))?)) };
    Ok(Loaded { info, memory: None, first, again: Box::new(again) })
}

/// Loads the library, once per process, with the same rules as ONNX Runtime's.
fn load_library(named: Option<&Path>) -> Result<(), Refusal> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if loaded.is_some() && named.is_none() {
        return Ok(());
    }
    let found = library::find(&LIBRARY, named)?;
    let found = found.canonicalize().unwrap_or(found);
    match loaded.as_ref() {
        Some(path) if *path == found => Ok(()),
        Some(path) => Err(Refusal::Refused(format!(
            "this process already runs {}, a second copy ({}) cannot be loaded beside it",
            path.display(),
            found.display()
        ))),
        None => {
            openvino_sys::library::load_from(found.clone())
                .map_err(|error| Refusal::Refused(format!("{}: {error}", found.display())))?;
            *loaded = Some(found);
            Ok(())
        }
    }
}

/// The library that would be used, and its version.
///
/// # Errors
/// As for ONNX Runtime's.
pub(super) fn survey() -> Result<(PathBuf, String), Refusal> {
    load_library(None)?;
    let library = LOADED.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
    let version = ov::version().map_err(Refusal::Refused)?;
    Ok((library, version.split('-').next().unwrap_or_default().to_owned()))
}

/// A model that was read and not yet compiled, with the core that compiles it.
struct Parsed {
    // Declared first, so that the model goes before its core.
    model: Model,
    core: Core,
}

impl Parsed {
    fn new(path: &Path, threads: usize) -> Result<(Self, ModelInfo), String> {
        // A core of its own for each model, because the properties belong to the core.
        let core = Core::new()?;
        for (key, value) in [
            // The default computes in bfloat16 where the CPU can: wrong in the third digit, and slower here.
            (c"INFERENCE_PRECISION_HINT", "f32"),
            (c"NUM_STREAMS", "1"),
            (c"INFERENCE_NUM_THREADS", threads.to_string().as_str()),
            (c"ENABLE_CPU_PINNING", "NO"),
        ] {
            core.set(DEVICE, key, value)?;
        }
        let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        let model = core.read(&c_path)?;
        let inputs = tensors(model.inputs()?, "input", input_dtype)?;
        let outputs = tensors(model.outputs()?, "output", output_dtype)?;
        let version = ov::version()?;
        let runtime = format!("openvino {} on the CPU", version.split('-').next().unwrap_or_default());
        let info = ModelInfo { runtime, batch: batch_limit(&inputs), inputs, outputs };
        Ok((Self { model, core }, info))
    }
}

fn tensors(ports: Vec<PortInfo>, side: &str, dtype: fn(Element) -> Option<DType>) -> Result<Vec<TensorInfo>, String> {
    ports
        .into_iter()
        .map(|PortInfo { name, element, dims }| {
            let dtype = dtype(element)
                .ok_or_else(|| format!("{side} `{name}` holds {element:?}, expected u8, f16, f32, i32 or i64"))?;
            Ok(TensorInfo { name, dtype, shape: dims })
        })
        .collect()
}

fn input_dtype(element: Element) -> Option<DType> {
    match element {
        Element::U8 => Some(DType::U8),
        Element::F16 => Some(DType::F16),
        Element::F32 => Some(DType::F32),
        Element::I32 => Some(DType::I32),
        Element::I64 => Some(DType::I64),
        _ => None,
    }
}

/// What the engine sees of an output.
fn output_dtype(element: Element) -> Option<DType> {
    match input_dtype(element) {
        Some(DType::F16) => Some(DType::F32),
        other => other,
    }
}

struct Shared {
    model: Parsed,
    input: PictureInput,
    names: Vec<String>,
}

struct Instance {
    request: Request,
    shared: Arc<Shared>,
    /// Of each output, kept so that a batch reuses it.
    outputs: Vec<Space>,
}

impl Instance {
    fn new(shared: Arc<Shared>) -> Result<Self, String> {
        // The request keeps what it needs of the compiled model.
        let request = shared.model.core.compile(&shared.model.model, DEVICE)?.request()?;
        let outputs = shared.names.iter().map(|_| Space::default()).collect();
        Ok(Self { request, shared, outputs })
    }
}

impl Backend for Instance {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        let request = self.shared.input.request(&batch)?;
        let element = match request.dtype {
            DType::U8 => Element::U8,
            DType::F16 => Element::F16,
            _ => Element::F32,
        };
        // SAFETY: `request` checked that the bytes are those of the shape, and the batch outlives the call.
        unsafe { self.request.run(element, request.shape, request.bytes.as_ptr()) }.map_err(BackendError::batch)?;
        let outputs: Vec<Tensor> = (0..self.outputs.len())
            .map(|index| self.request.output(index))
            .collect::<Result<_, _>>()
            .map_err(BackendError::batch)?;
        let mut views = Vec::with_capacity(outputs.len());
        for ((tensor, space), name) in outputs.iter().zip(&mut self.outputs).zip(&self.shared.names) {
            let Space { shape, widened } = space;
            tensor.shape(shape).map_err(BackendError::batch)?;
            let values = values(tensor, widened).map_err(BackendError::batch)?;
            views.push(TensorView { name, shape: shape.as_slice(), values });
        }
        reply.outputs(&views);
        Ok(())
    }
}

/// The values where they lie, or in `widened`.
fn values<'a>(tensor: &'a Tensor, widened: &'a mut Vec<f32>) -> Result<Values<'a>, String> {
    // SAFETY: each type is the one that the tensor says it holds.
    unsafe {
        match tensor.element()? {
            Element::U8 => tensor.values().map(Values::U8),
            Element::F32 => tensor.values().map(Values::F32),
            Element::I32 => tensor.values().map(Values::I32),
            Element::I64 => tensor.values().map(Values::I64),
            Element::F16 => tensor.values().map(|halves| Values::F32(widen(halves, widened))),
            other => Err(format!("an output holds {other:?}, expected u8, f16, f32, i32 or i64")),
        }
    }
}
