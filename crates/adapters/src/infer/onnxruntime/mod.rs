//! ONNX Runtime, loaded from its shared library.
//!
//! One environment per process (the library allows no second), one session per instance. A session's threads never
//! spin: an idle service must not burn a core, and instances of one thread have nobody to wait for. Half floats that a
//! model gives are widened here.

mod landing;
mod nvidia;
mod pinned;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use half::f16;
use half::slice::HalfBitsSliceExt as _;
use omma_engine::infer::backend::{Backend, BackendError, BatchInput, ModelInfo, Reply, TensorInfo};
use omma_engine::tensor::{DType, TensorAllocator, TensorView, Values, as_f16_bits, as_f32};
use ort::environment::Environment;
use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{ExecutionProvider, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{DynValue, Outlet, Shape, TensorElementType, TensorRef, ValueType};

use landing::Landing;

use super::doctor::State;
use super::fit::{PictureInput, batch_limit};
use super::library::{self, Wanted};
use super::onnx::{Loaded, OnnxOptions, Refusal};
use super::outputs::{Space, widen};
use super::provider::Provider;

const LIBRARY: Wanted = Wanted {
    file: "libonnxruntime.so",
    variable: "OMMA_ONNXRUNTIME",
    cached: "onnxruntime-",
    package: "onnxruntime/capi",
};

/// The library that this process has loaded, and its environment. It stays for good: unloading is not supported.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

pub(super) fn load(path: &Path, options: &OnnxOptions) -> Result<Loaded, Refusal> {
    let (library, environment) = environment(options.library.as_deref())?;
    let (threads, provider) = (options.threads_per_instance.max(1), options.provider);
    if !has(provider) {
        return Err(Refusal::Refused(format!(
            "{} was built without the provider {provider}; to get it: {}",
            library.display(),
            provider.install()
        )));
    }
    let commit = {
        let (library, path) = (library.clone(), path.to_owned());
        move |cpu: Cpu| -> Result<Session, String> {
            let mut builder = builder(&environment, &library, threads, provider, cpu)?;
            builder.commit_from_file(&path).map_err(telling)
        }
    };
    // What a GPU's providers leave to the CPU is told, not found out by how slow it is.
    let (session, cpu) = match commit(Cpu::of(provider)) {
        Err(why) if is_left_to_the_cpu(&why) => (commit(Cpu::Takes), Cpu::Takes),
        session => (session, Cpu::of(provider)),
    };
    let session = session.map_err(Refusal::Refused)?;
    let inputs = tensors(session.inputs(), "input", input_dtype).map_err(Refusal::Refused)?;
    let outputs = tensors(session.outputs(), "output", output_dtype).map_err(Refusal::Refused)?;
    let on = match provider {
        Provider::Cpu => "on the CPU".to_owned(),
        provider if cpu == Cpu::of(provider) => format!("with {provider}"),
        provider => format!("with {provider}, some operators of the model on the CPU,"),
    };
    let runtime = format!("onnxruntime {} {on}", library::version_of(&library, &LIBRARY));
    let info = ModelInfo { runtime, batch: batch_limit(&inputs), inputs, outputs };
    let input = Arc::new(PictureInput::of(&info).map_err(Refusal::Unfit)?);
    let memory = match provider.is_nvidia().then(|| pinned::allocator(&session)) {
        Some(allocator) => Some(allocator.map_err(|error| Refusal::Refused(telling(error)))?),
        None => None,
    };
    let first = Box::new(Instance::new(session, memory.clone(), Arc::clone(&input)).map_err(Refusal::Refused)?);
    let landing = memory.clone();
    let again = move || -> Result<Box<dyn Backend>, String> {
        Ok(Box::new(Instance::new(commit(cpu)?, landing.clone(), Arc::clone(&input))?))
    };
    Ok(Loaded { info, memory, first, again: Box::new(again) })
}

/// Loads the library, once per process. A search accepts what is already loaded; a different copy asked for by name
/// cannot be had and says so.
fn environment(named: Option<&Path>) -> Result<(PathBuf, Environment), Refusal> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = loaded.as_ref().filter(|_| named.is_none()) {
        return Ok((path.clone(), environment.clone()));
    }
    let found = library::find(&LIBRARY, named)?;
    let found = found.canonicalize().unwrap_or(found);
    match loaded.as_ref() {
        Some((path, environment)) if *path == found => Ok((path.clone(), environment.clone())),
        Some((path, _)) => Err(Refusal::Refused(format!(
            "this process already runs {}, a second copy ({}) cannot be loaded beside it",
            path.display(),
            found.display()
        ))),
        None => {
            let failed = |error: &dyn std::fmt::Display| Refusal::Refused(format!("{}: {error}", found.display()));
            let environment = ort::init_from(&found)
                .map_err(|error| failed(&error))?
                .with_name("omma")
                .with_telemetry(false)
                .build()
                .map_err(|error| failed(&error))?;
            // What goes wrong comes back as an error; a second copy of it on stderr would tear the live view.
            environment.set_log_level(LogLevel::Fatal);
            *loaded = Some((found.clone(), environment.clone()));
            Ok((found, environment))
        }
    }
}

/// Whether the library that is loaded was built with the provider. Whether its own libraries are there too shows only
/// once it is used.
fn has(provider: Provider) -> bool {
    let there = match provider {
        Provider::Cpu => return true,
        Provider::Cuda => ort::ep::CUDA::is_available(),
        Provider::TensorRt => ort::ep::TensorRT::is_available(),
        Provider::OpenVino => ort::ep::OpenVINO::is_available(),
    };
    there.unwrap_or(false)
}

/// The library that would be used, its version, and the providers that it was built with and that start here.
///
/// # Errors
/// There is none, and where it was looked for, or it cannot be loaded.
pub(super) fn survey() -> Result<State, Refusal> {
    static SOMETHING: &[u8] = include_bytes!("../../../../../models/tiny/identity_8x8.onnx");
    let (library, environment) = environment(None)?;
    let version = library::version_of(&library, &LIBRARY);
    let (mut providers, mut failing) = (Vec::new(), Vec::new());
    for provider in Provider::ALL.into_iter().filter(|provider| has(*provider)) {
        let started = provider == Provider::Cpu || {
            let session = builder(&environment, &library, 1, provider, Cpu::Takes);
            let session = session.and_then(|mut builder| builder.commit_from_memory(SOMETHING).map_err(telling));
            session.map_err(|why| failing.push((provider, why))).is_ok()
        };
        providers.extend(started.then_some(provider));
    }
    Ok(State::Present { library: Some(library), version, providers, failing })
}

/// Whether the CPU takes the operators of a model that the providers asked for do not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cpu {
    Takes,
    /// A model that has such operators is refused.
    Refuses,
}

impl Cpu {
    /// What is tried first.
    const fn of(provider: Provider) -> Self {
        if provider.is_nvidia() { Self::Refuses } else { Self::Takes }
    }
}

/// Whether a session was refused because of [`Cpu::Refuses`].
fn is_left_to_the_cpu(why: &str) -> bool {
    why.contains("fallback to CPU EP has been explicitly disabled")
}

/// What a provider is to the session; one that does not come up is an error, never the CPU in silence.
fn dispatch(provider: Provider) -> Option<ExecutionProviderDispatch> {
    let dispatch = match provider {
        // Always there, and last.
        Provider::Cpu => return None,
        // Not by trying them all, which is the default: that takes as long for each new batch size, in the middle of the
        // traffic, and gave nothing (docs/design/gpu.md).
        Provider::Cuda => ort::ep::CUDA::default().with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic).build(),
        Provider::TensorRt => ort::ep::TensorRT::default().build(),
        Provider::OpenVino => ort::ep::OpenVINO::default().build(),
    };
    Some(dispatch.error_on_failure())
}

fn builder(
    environment: &Environment,
    library: &Path,
    threads: usize,
    provider: Provider,
    cpu: Cpu,
) -> Result<SessionBuilder, String> {
    if provider.is_nvidia() {
        nvidia::prepare(library);
    }
    let builder = Session::builder(environment).map_err(telling)?;
    let builder = builder.with_log_level(LogLevel::Fatal).map_err(telling)?;
    let builder = builder.with_intra_threads(threads).map_err(telling)?;
    let builder = builder.with_inter_threads(1).map_err(telling)?;
    let builder = builder.with_intra_op_spinning(false).map_err(telling)?;
    let builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(telling)?;
    let builder = match cpu {
        Cpu::Takes => builder,
        Cpu::Refuses => builder.with_config_entry("session.disable_cpu_ep_fallback", "1").map_err(telling)?,
    };
    let providers: Vec<_> = provider.in_turn().iter().filter_map(|provider| dispatch(*provider)).collect();
    builder.with_execution_providers(providers).map_err(|error| {
        format!("the provider {provider} does not start: {}; it needs: {}", telling(error), provider.install())
    })
}

/// What the library says, without the place in its source code and its own numbers.
fn telling<R>(error: ort::Error<R>) -> String {
    let message = error.message();
    let said = message.rsplit_once("[ONNXRuntimeError] : ").and_then(|(_, said)| said.splitn(3, " : ").nth(2));
    said.unwrap_or(message).trim().to_owned()
}

fn tensors(
    outlets: &[Outlet],
    side: &str,
    dtype: fn(TensorElementType) -> Option<DType>,
) -> Result<Vec<TensorInfo>, String> {
    outlets
        .iter()
        .map(|outlet| {
            let name = outlet.name().to_owned();
            let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
                return Err(format!("{side} `{name}` is no tensor"));
            };
            let dtype =
                dtype(*ty).ok_or_else(|| format!("{side} `{name}` holds {ty}, expected u8, f16, f32, i32 or i64"))?;
            Ok(TensorInfo { name, dtype, shape: shape.iter().map(|&dim| usize::try_from(dim).ok()).collect() })
        })
        .collect()
}

fn input_dtype(element: TensorElementType) -> Option<DType> {
    match element {
        TensorElementType::Uint8 => Some(DType::U8),
        TensorElementType::Float16 => Some(DType::F16),
        TensorElementType::Float32 => Some(DType::F32),
        TensorElementType::Int32 => Some(DType::I32),
        TensorElementType::Int64 => Some(DType::I64),
        _ => None,
    }
}

/// What the engine sees of an output.
fn output_dtype(element: TensorElementType) -> Option<DType> {
    match input_dtype(element) {
        Some(DType::F16) => Some(DType::F32),
        other => other,
    }
}

struct Instance {
    session: Session,
    input: Arc<PictureInput>,
    /// Of each output, kept so that a batch reuses it.
    outputs: Vec<Space>,
    /// On a GPU: where outputs are left.
    landing: Option<Landing>,
}

impl Instance {
    fn new(session: Session, memory: Option<TensorAllocator>, input: Arc<PictureInput>) -> Result<Self, String> {
        let landing = memory.and_then(|memory| Landing::new(&session, memory).transpose()).transpose();
        let landing = landing.map_err(telling)?;
        let outputs = session.outputs().iter().map(|_| Space::default()).collect();
        Ok(Self { session, input, outputs, landing })
    }
}

impl Backend for Instance {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        fn failed(error: ort::Error) -> BackendError {
            BackendError::batch(telling(error))
        }
        let request = self.input.request(&batch)?;
        let shape = request.shape;
        let input: SessionInputValue<'_> = match request.dtype {
            DType::U8 => TensorRef::from_array_view((shape, request.bytes)).map_err(failed)?.into(),
            DType::F16 => {
                let halves: &[f16] = as_f16_bits(request.bytes).reinterpret_cast();
                TensorRef::from_array_view((shape, halves)).map_err(failed)?.into()
            }
            _ => TensorRef::from_array_view((shape, as_f32(request.bytes))).map_err(failed)?.into(),
        };
        let outputs: SessionOutputs<'_> = match &mut self.landing {
            Some(landing) => {
                self.session.run_binding(landing.bind(&input, shape[0]).map_err(failed)?).map_err(failed)?
            }
            None => self.session.run([input]).map_err(failed)?,
        };
        let mut views = Vec::with_capacity(self.outputs.len());
        for ((index, name), Space { shape, widened }) in outputs.keys().enumerate().zip(&mut self.outputs) {
            let values = values(&outputs[index], shape, widened).map_err(failed)?;
            views.push(TensorView { name, shape: shape.as_slice(), values });
        }
        reply.outputs(&views);
        Ok(())
    }
}

/// The values of an output where they lie, or in `widened`; its shape goes to `shape`.
fn values<'a>(value: &'a DynValue, shape: &mut Vec<usize>, widened: &'a mut Vec<f32>) -> ort::Result<Values<'a>> {
    fn keep(shape: &mut Vec<usize>, dims: &Shape) {
        shape.clear();
        shape.extend(dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)));
    }
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err(ort::Error::new("an output is no tensor"));
    };
    macro_rules! extract {
        ($element:ty, $variant:ident) => {{
            let (dims, data) = value.try_extract_tensor::<$element>()?;
            keep(shape, dims);
            Ok(Values::$variant(data))
        }};
    }
    match ty {
        TensorElementType::Uint8 => extract!(u8, U8),
        TensorElementType::Float32 => extract!(f32, F32),
        TensorElementType::Int32 => extract!(i32, I32),
        TensorElementType::Int64 => extract!(i64, I64),
        TensorElementType::Float16 => {
            let (dims, halves) = value.try_extract_tensor::<f16>()?;
            keep(shape, dims);
            Ok(Values::F32(widen(halves, widened)))
        }
        other => Err(ort::Error::new(format!("an output holds {other}, expected u8, f16, f32, i32 or i64"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its own words, which are another library's.
    #[test]
    fn a_model_that_is_left_to_the_cpu_is_told_from_one_that_is_refused() {
        let Ok((library, environment)) = environment(None) else { return };
        let model = include_bytes!("../../../../../models/tiny/identity_8x8.onnx");
        let commit = |cpu, model: &[u8]| {
            let mut builder = builder(&environment, &library, 1, Provider::Cpu, cpu).expect("a session's options");
            builder.commit_from_memory(model).map(|_| ()).map_err(telling)
        };
        assert_eq!(commit(Cpu::Takes, model), Ok(()));
        let why = commit(Cpu::Refuses, model).expect_err("there is nothing but the CPU");
        assert!(is_left_to_the_cpu(&why), "{why}");
        let why = commit(Cpu::Refuses, b"no model").expect_err("it is none");
        assert!(!is_left_to_the_cpu(&why), "{why}");
    }
}
