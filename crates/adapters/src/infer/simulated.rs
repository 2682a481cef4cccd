//! Three models that are none, for planning: `runtime = "null"` answers at once, `runtime = "simulated"` after a time
//! that grows with the batch. With them `omma bench` tells what the machine holds without the model, or with a model
//! of a known speed that one doesn't have yet (an accelerator, a server). `runtime = "identity"` gives back what it is
//! given, so that clients see what the way there and back costs.
//!
//! All take whatever pictures the configuration says. The first two give one output, `nothing`, one zero per picture; the
//! identity gives `output`, the batch where it lies, without a copy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use half::slice::HalfBitsSliceExt as _;
use omma_engine::infer::backend::{
    Answer, AsyncBackend, Backend, BackendError, BatchInput, BatchLimit, Device, LoadedModel, ModelInfo, Opener,
    OwnedBatch, Reply, TensorInfo,
};
use omma_engine::picture::{Layout, PictureSpec};
use omma_engine::tensor::{DType, TensorView, Values, as_f16_bits, as_f32};

use super::fit::PictureInput;
use super::outputs::widen;

/// What a simulated batch of `n` costs: `base + per_item * n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub base: Duration,
    pub per_item: Duration,
    pub waiting: Waiting,
}

/// How a simulated model spends its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// As an accelerator or a server does: the CPU is free meanwhile.
    Sleep,
    /// As a model on the CPU does: the core is taken.
    Spin,
    /// As a server does that is asked over a protocol: any number of batches at once, none of which occupies a thread.
    Request,
}

/// The model that answers at once. It runs on the CPU and never refuses a batch size.
#[must_use]
pub fn null(spec: &PictureSpec) -> LoadedModel {
    let info = info("null", spec, BatchLimit::UpTo(usize::MAX));
    load(info, Device::Cpu, None)
}

/// The model that takes `cost` for each batch of at most `batch_max`.
#[must_use]
pub fn simulated(spec: &PictureSpec, cost: Cost, batch_max: usize) -> LoadedModel {
    let (manner, device) = match cost.waiting {
        Waiting::Sleep => ("asleep", Device::Accelerator),
        Waiting::Spin => ("busy", Device::Cpu),
        Waiting::Request => ("elsewhere", Device::Remote),
    };
    let name = format!("simulated: {:?} and {:?} per picture, {manner}", cost.base, cost.per_item);
    load(info(&name, spec, BatchLimit::UpTo(batch_max)), device, Some(cost))
}

/// The model that gives back what it is given.
#[must_use]
pub fn identity(spec: &PictureSpec) -> LoadedModel {
    let mut info = info("identity", spec, BatchLimit::UpTo(usize::MAX));
    for (output, input) in info.outputs.iter_mut().zip(&info.inputs) {
        let dtype = if input.dtype == DType::F16 { DType::F32 } else { input.dtype };
        *output = TensorInfo { name: SAME.into(), dtype, ..input.clone() };
    }
    let input = PictureInput::of(&info);
    let opener = Opener::Blocking(Box::new(move |_instance| {
        let input = input.clone().map_err(BackendError::batch)?;
        Ok(Box::new(Same { input, widened: Vec::new() }) as Box<dyn Backend>)
    }));
    LoadedModel::new(info, Device::Cpu, opener)
}

const SAME: &str = "output";

struct Same {
    input: PictureInput,
    /// Half floats as full ones.
    widened: Vec<f32>,
}

impl Backend for Same {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        let request = self.input.request(&batch)?;
        let values = match request.dtype {
            DType::F32 => Values::F32(as_f32(request.bytes)),
            DType::F16 => Values::F32(widen(as_f16_bits(request.bytes).reinterpret_cast(), &mut self.widened)),
            _ => Values::U8(request.bytes),
        };
        reply.outputs(&[TensorView { name: SAME, shape: &request.shape, values }]);
        Ok(())
    }
}

fn info(runtime: &str, spec: &PictureSpec, batch: BatchLimit) -> ModelInfo {
    let (height, width) = (Some(spec.size.height as usize), Some(spec.size.width as usize));
    let channels = Some(spec.color.channels());
    let shape = match spec.layout {
        Layout::Nchw => vec![None, channels, height, width],
        Layout::Nhwc => vec![None, height, width, channels],
    };
    ModelInfo {
        runtime: runtime.into(),
        inputs: vec![TensorInfo { name: "images".into(), dtype: spec.dtype, shape }],
        outputs: vec![TensorInfo { name: OUTPUT.into(), dtype: DType::F32, shape: vec![None, Some(1)] }],
        batch,
    }
}

const OUTPUT: &str = "nothing";

fn load(info: ModelInfo, device: Device, cost: Option<Cost>) -> LoadedModel {
    let input = PictureInput::of(&info);
    if let Some(cost) = cost.filter(|cost| cost.waiting == Waiting::Request) {
        return LoadedModel::new(info, device, Opener::Async(Arc::new(Server { input, cost })));
    }
    let opener = Opener::Blocking(Box::new(move |_instance| {
        let input = input.clone().map_err(BackendError::batch)?;
        Ok(Box::new(Instance { input, cost, zeros: Vec::new() }) as Box<dyn Backend>)
    }));
    LoadedModel::new(info, device, opener)
}

struct Instance {
    input: PictureInput,
    cost: Option<Cost>,
    zeros: Vec<f32>,
}

impl Backend for Instance {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        let count = self.input.request(&batch)?.shape[0];
        if let Some(cost) = self.cost {
            wait(cost, count);
        }
        if self.zeros.len() < count {
            self.zeros.resize(count, 0.0);
        }
        reply.outputs(&[TensorView { name: OUTPUT, shape: &[count, 1], values: Values::F32(&self.zeros[..count]) }]);
        Ok(())
    }
}

/// A server that is none: each request is a timer of the asynchronous runtime.
struct Server {
    input: Result<PictureInput, String>,
    cost: Cost,
}

impl AsyncBackend for Server {
    fn infer<'a>(&'a self, batch: OwnedBatch, reply: &'a mut (dyn Reply + Send)) -> Answer<'a> {
        Box::pin(async move {
            let request = match &self.input {
                Ok(input) => input.request(&batch.input()).map(|request| request.shape[0]),
                Err(problem) => Err(BackendError::batch(problem.clone())),
            };
            let answered = match request {
                Ok(count) => {
                    tokio::time::sleep(due(self.cost, count)).await;
                    let zeros = vec![0.0; count];
                    reply.outputs(&[TensorView { name: OUTPUT, shape: &[count, 1], values: Values::F32(&zeros) }]);
                    Ok(())
                }
                Err(error) => Err(error),
            };
            (batch, answered)
        })
    }
}

fn due(cost: Cost, count: usize) -> Duration {
    cost.base.saturating_add(cost.per_item.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)))
}

fn wait(cost: Cost, count: usize) {
    let due = due(cost, count);
    match cost.waiting {
        Waiting::Sleep | Waiting::Request => std::thread::sleep(due),
        Waiting::Spin => {
            let start = Instant::now();
            while start.elapsed() < due {
                std::hint::spin_loop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::guess_spec;
    use omma_testkit::backend::{Subject, conforms};
    use omma_testkit::backend_served::{Served, serves};

    fn spec() -> PictureSpec {
        let shape = vec![None, Some(3), Some(8), Some(8)];
        let inputs = vec![TensorInfo { name: "images".into(), dtype: DType::U8, shape }];
        guess_spec(&ModelInfo { runtime: String::new(), inputs, outputs: vec![], batch: BatchLimit::UpTo(1) }, None)
            .expect("pictures")
    }

    fn cost(waiting: Waiting) -> Cost {
        Cost { base: Duration::from_millis(3), per_item: Duration::from_millis(1), waiting }
    }

    #[test]
    fn stand_ins_conform_like_models() {
        for model in [
            null(&spec()),
            identity(&spec()),
            simulated(&spec(), Cost { base: Duration::ZERO, ..cost(Waiting::Spin) }, 3),
        ] {
            conforms(&Subject { model: &model, spec: &spec(), batch_max: 4.min(limit(&model)), tolerance: 0.0 });
        }
    }

    #[test]
    fn stand_ins_serve_like_models() {
        let load = || identity(&spec());
        serves(&Served { load: &load, spec: &spec(), batch_max: 4, tolerance: 0.0 });
    }

    fn limit(model: &LoadedModel) -> usize {
        match model.info.batch {
            BatchLimit::UpTo(most) | BatchLimit::Exactly(most) => most,
        }
    }

    #[test]
    fn a_simulated_batch_takes_at_least_its_cost_and_waits_as_its_device_would() {
        for (waiting, device) in [(Waiting::Sleep, Device::Accelerator), (Waiting::Spin, Device::Cpu)] {
            let start = Instant::now();
            wait(cost(waiting), 4);
            assert!(start.elapsed() >= Duration::from_millis(7), "{waiting:?}");
            assert_eq!(simulated(&spec(), cost(waiting), 16).device, device);
        }
    }
}
