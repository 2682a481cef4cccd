//! ONNX Runtime, loaded from its shared library.
//!
//! One environment per process (the library allows no second), one session per instance. A session's threads never
//! spin: an idle service must not burn a core, and instances of one thread have nobody to wait for.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use omma_engine::infer::backend::{Backend, BackendError, BatchInput, ModelInfo, Reply, TensorInfo};
use omma_engine::tensor::{DType, TensorView, Values, as_f32};
use ort::environment::Environment;
use ort::ep::{ExecutionProvider, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Outlet, Shape, TensorElementType, TensorRef, ValueType};

use super::fit::{PictureInput, batch_limit};
use super::library::{self, Wanted};
use super::onnx::{Loaded, OnnxOptions, Refusal};
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
    let session = commit(&environment, path, threads, provider).map_err(Refusal::Refused)?;
    let inputs = tensors(session.inputs(), "input").map_err(Refusal::Refused)?;
    let outputs = tensors(session.outputs(), "output").map_err(Refusal::Refused)?;
    let on = match provider {
        Provider::Cpu => "on the CPU".to_owned(),
        provider => format!("with {provider}"),
    };
    let runtime = format!("onnxruntime {} {on}", library::version_of(&library, &LIBRARY));
    let info = ModelInfo { runtime, batch: batch_limit(&inputs), inputs, outputs };
    let input = Arc::new(PictureInput::of(&info).map_err(Refusal::Unfit)?);
    let first = Box::new(Instance::new(session, Arc::clone(&input)));
    let path = path.to_owned();
    let again = move || -> Result<Box<dyn Backend>, String> {
        Ok(Box::new(Instance::new(commit(&environment, &path, threads, provider)?, Arc::clone(&input))))
    };
    Ok(Loaded { info, first, again: Box::new(again) })
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

/// The library that would be used, its version, and the providers that it was built with.
///
/// # Errors
/// There is none, and where it was looked for, or it cannot be loaded.
pub(super) fn survey() -> Result<(PathBuf, String, Vec<Provider>), Refusal> {
    let (library, _) = environment(None)?;
    let version = library::version_of(&library, &LIBRARY);
    Ok((library, version, Provider::ALL.into_iter().filter(|provider| has(*provider)).collect()))
}

/// What a provider is to the session; one that does not come up is an error, never the CPU in silence.
fn dispatch(provider: Provider) -> Option<ExecutionProviderDispatch> {
    let dispatch = match provider {
        Provider::Cpu => return None,
        Provider::Cuda => ort::ep::CUDA::default().build(),
        Provider::TensorRt => ort::ep::TensorRT::default().build(),
        Provider::OpenVino => ort::ep::OpenVINO::default().build(),
    };
    Some(dispatch.error_on_failure())
}

fn commit(environment: &Environment, path: &Path, threads: usize, provider: Provider) -> Result<Session, String> {
    fn text<R>(error: ort::Error<R>) -> String {
        error.message().to_owned()
    }
    Session::builder(environment)
        .map_err(text)?
        .with_log_level(LogLevel::Fatal)
        .map_err(text)?
        .with_intra_threads(threads)
        .map_err(text)?
        .with_inter_threads(1)
        .map_err(text)?
        .with_intra_op_spinning(false)
        .map_err(text)?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(text)?
        .with_execution_providers(dispatch(provider).as_slice())
        .map_err(|error| format!("the provider {provider} does not start: {}", error.message()))?
        .commit_from_file(path)
        .map_err(text)
}

fn tensors(outlets: &[Outlet], side: &str) -> Result<Vec<TensorInfo>, String> {
    outlets
        .iter()
        .map(|outlet| {
            let name = outlet.name().to_owned();
            let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
                return Err(format!("{side} `{name}` is no tensor"));
            };
            let dtype =
                dtype(*ty).ok_or_else(|| format!("{side} `{name}` holds {ty}, expected u8, f32, i32 or i64"))?;
            Ok(TensorInfo { name, dtype, shape: shape.iter().map(|&dim| usize::try_from(dim).ok()).collect() })
        })
        .collect()
}

fn dtype(element: TensorElementType) -> Option<DType> {
    match element {
        TensorElementType::Uint8 => Some(DType::U8),
        TensorElementType::Float32 => Some(DType::F32),
        TensorElementType::Int32 => Some(DType::I32),
        TensorElementType::Int64 => Some(DType::I64),
        _ => None,
    }
}

struct Instance {
    session: Session,
    input: Arc<PictureInput>,
    /// The shapes of the last outputs in the engine's integers; kept so that a batch reuses them.
    shapes: Vec<Vec<usize>>,
}

impl Instance {
    fn new(session: Session, input: Arc<PictureInput>) -> Self {
        let shapes = vec![Vec::new(); session.outputs().len()];
        Self { session, input, shapes }
    }
}

impl Backend for Instance {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        fn failed(error: ort::Error) -> BackendError {
            BackendError::batch(error.message())
        }
        let request = self.input.request(&batch)?;
        let input: SessionInputValue<'_> = match request.dtype {
            DType::U8 => TensorRef::from_array_view((request.shape, request.bytes)).map_err(failed)?.into(),
            _ => TensorRef::from_array_view((request.shape, as_f32(request.bytes))).map_err(failed)?.into(),
        };
        let outputs = self.session.run([input]).map_err(failed)?;
        let mut views = Vec::with_capacity(self.shapes.len());
        for ((index, name), shape) in outputs.keys().enumerate().zip(&mut self.shapes) {
            let values = values(&outputs[index], shape).map_err(failed)?;
            views.push(TensorView { name, shape: shape.as_slice(), values });
        }
        reply.outputs(&views);
        Ok(())
    }
}

/// The values of an output where they lie; its shape goes to `shape`.
fn values<'a>(value: &'a DynValue, shape: &mut Vec<usize>) -> ort::Result<Values<'a>> {
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
        other => Err(ort::Error::new(format!("an output holds {other}, expected u8, f32, i32 or i64"))),
    }
}
