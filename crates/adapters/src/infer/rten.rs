//! rten: a runtime in pure Rust, part of the binary. The one that is always there.
//!
//! One model for all instances (it is immutable and its weights are packed once), one pool of threads per instance:
//! the pool does the work while the instance's own thread waits, which costs a switch each way, some microseconds
//! beside models of milliseconds. Integers of 64 bits and truth values come out as `i32`.

use std::path::Path;
use std::sync::Arc;

use omma_engine::infer::backend::{Backend, BackendError, BatchInput, ModelInfo, Reply, TensorInfo};
use omma_engine::tensor::{DType, TensorView, Values, as_f32};
use rten::{DataType, Dimension, Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueType, ValueView};
use rten_tensor::prelude::*;

use super::fit::{PictureInput, batch_limit};
use super::onnx::{Loaded, OnnxOptions, Refusal};

pub(super) fn load(path: &Path, options: &OnnxOptions) -> Result<Loaded, Refusal> {
    let model = read(path).map_err(Refusal::Refused)?;
    let inputs = tensors(&model, model.input_ids(), "input").map_err(Refusal::Refused)?;
    let outputs = tensors(&model, model.output_ids(), "output").map_err(Refusal::Refused)?;
    let info = ModelInfo { runtime: "rten (built in) on the CPU".into(), batch: batch_limit(&inputs), inputs, outputs };
    let shared = Arc::new(Shared {
        input: PictureInput::of(&info).map_err(Refusal::Unfit)?,
        names: info.outputs.iter().map(|output| output.name.clone()).collect(),
        model,
        threads: options.threads_per_instance.max(1),
    });
    let again = {
        let shared = Arc::clone(&shared);
        move || -> Result<Box<dyn Backend>, String> { Ok(Box::new(Instance::new(Arc::clone(&shared)))) }
    };
    Ok(Loaded { info, memory: None, first: Box::new(Instance::new(shared)), again: Box::new(again) })
}

fn read(path: &Path) -> Result<Model, String> {
    let mut options = ModelOptions::with_all_ops();
    options.prepack_weights(true);
    // rten goes by the extension, we by the content; but only a load by path finds weights in a file beside it.
    let model = if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
        options.load_file(path)
    } else {
        options.load(std::fs::read(path).map_err(|error| error.to_string())?)
    };
    model.map_err(|error| error.to_string())
}

fn tensors(model: &Model, ids: &[NodeId], side: &str) -> Result<Vec<TensorInfo>, String> {
    ids.iter()
        .map(|&id| {
            let node = model.node_info(id).ok_or_else(|| format!("an {side} is no node of the graph"))?;
            let name = node.name().unwrap_or_default().to_owned();
            let dtype = match node.dtype() {
                Some(ValueType::Tensor(DataType::Float)) => DType::F32,
                Some(ValueType::Tensor(DataType::Int32)) => DType::I32,
                Some(ValueType::Tensor(DataType::UInt8)) => DType::U8,
                Some(other) => return Err(format!("{side} `{name}` holds {other}, expected u8, f32 or i32")),
                None => return Err(format!("{side} `{name}` has no element type")),
            };
            let dims = node.shape().unwrap_or_default();
            let shape =
                dims.iter().map(|dim| if let Dimension::Fixed(size) = dim { Some(*size) } else { None }).collect();
            Ok(TensorInfo { name, dtype, shape })
        })
        .collect()
}

struct Shared {
    model: Model,
    input: PictureInput,
    names: Vec<String>,
    threads: usize,
}

struct Instance {
    shared: Arc<Shared>,
    pool: Arc<ThreadPool>,
}

impl Instance {
    fn new(shared: Arc<Shared>) -> Self {
        let pool = Arc::new(ThreadPool::with_num_threads(shared.threads));
        Self { shared, pool }
    }
}

impl Backend for Instance {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        let shared = &*self.shared;
        let request = shared.input.request(&batch)?;
        let input = match request.dtype {
            DType::U8 => ValueView::from_shape(request.shape, request.bytes).map_err(|error| error.to_string()),
            _ => ValueView::from_shape(request.shape, as_f32(request.bytes)).map_err(|error| error.to_string()),
        }
        .map_err(BackendError::batch)?;
        let Some(&input_id) = shared.model.input_ids().first() else {
            return Err(BackendError::batch("the model has lost its input"));
        };
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.pool)));
        let outputs = shared
            .model
            .run(vec![(input_id, input.into())], shared.model.output_ids(), Some(options))
            .map_err(|error| BackendError::batch(error.to_string()))?;
        let dense: Vec<Dense<'_>> = outputs.iter().map(Dense::of).collect::<Result<_, _>>()?;
        let views: Vec<_> = shared.names.iter().zip(&dense).map(|(name, dense)| dense.view(name)).collect();
        reply.outputs(&views);
        Ok(())
    }
}

/// An output in row-major order: borrowed where it is so already, copied where the model left it transposed.
enum Dense<'a> {
    F32(Vec<usize>, std::borrow::Cow<'a, [f32]>),
    I32(Vec<usize>, std::borrow::Cow<'a, [i32]>),
    U8(Vec<usize>, std::borrow::Cow<'a, [u8]>),
}

impl<'a> Dense<'a> {
    fn of(value: &'a Value) -> Result<Self, BackendError> {
        macro_rules! dense {
            ($view:expr, $variant:ident) => {{
                let view = $view;
                let data = view.data().map_or_else(|| view.to_vec().into(), Into::into);
                Ok(Self::$variant(view.shape().to_vec(), data))
            }};
        }
        match value.as_view() {
            ValueView::FloatTensor(view) => dense!(view, F32),
            ValueView::Int32Tensor(view) => dense!(view, I32),
            ValueView::UInt8Tensor(view) => dense!(view, U8),
            other => Err(BackendError::batch(format!("an output holds {}, expected u8, f32 or i32", other.dtype()))),
        }
    }

    fn view<'v>(&'v self, name: &'v str) -> TensorView<'v> {
        let (shape, values) = match self {
            Self::F32(shape, data) => (shape, Values::F32(data)),
            Self::I32(shape, data) => (shape, Values::I32(data)),
            Self::U8(shape, data) => (shape, Values::U8(data)),
        };
        TensorView { name, shape, values }
    }
}
