//! Models in Python keep what every backend owes: batches give what single pictures give, in order, whatever they are
//! written with.

mod python;

use omma_adapters::infer::python::{BatchAs, PythonOptions, open};
use omma_engine::infer::backend::{BatchLimit, Device};
use omma_engine::tensor::DType;
use omma_testkit::backend::{Answer, Subject, conforms, input, origins};
use omma_testkit::backend_served::{Served, serves};
use python::{Folder, instance, interpreter, interpreter_with_torch, opened, options, spec};

const MODELS: &str = r#"
import omma

class Means:
    def predict(self, batch):
        return [frame.mean(axis=(1, 2)) for frame in batch.astype("f4")]

class Whole:
    batch_max = 4
    def predict(self, batch):
        return batch.reshape(len(batch), -1)[:, :10].astype("f4")

class Named:
    outputs = {"sums": ("i64", ()), "corner": ("u8", (3, 2))}
    def predict(self, batch):
        return [{"corner": frame[:, :2, 0], "sums": int(frame.sum())} for frame in batch]

def function(batch):
    return [float(frame[0, 0, 0]) for frame in batch]

class Detector:
    def predict(self, batch):
        return [[omma.Detection(0, 0, 4, 4, 0.1 + k / 10, k) for k in range(int(frame[0, 0, 0]) % 4)] for frame in batch]

class Plain:
    "Without numpy: tuples of numbers out of a memoryview."
    def predict(self, batch):
        n, c, h, w = batch.shape
        return [(float(batch[i, 0, 0, 0]), float(batch[i, 2, 7, 11])) for i in range(n)]

class Torch:
    def load(self, device):
        import torch
        self.torch, self.device = torch, device
    def predict(self, batch):
        assert isinstance(batch, self.torch.Tensor)
        batch = batch.to(self.device).float()
        return batch.mean(dim=(2, 3)).half().float()

class TorchList:
    def predict(self, batch):
        return [frame.float().sum() for frame in batch]
"#;

fn keep(entry: &str, batch_as: BatchAs, dtype: DType, interpreter: &std::path::Path) {
    let folder = Folder::with(MODELS);
    let options = PythonOptions { batch_as, ..options(interpreter, &folder, entry) };
    let mut model = open(options, |_| Ok(spec(dtype))).unwrap_or_else(|problem| panic!("{entry}: {problem}"));
    assert_eq!(model.model.device, Device::Processes);
    let spec = spec(dtype);
    // In memory that the worker sees, then in memory that is copied to it.
    for memory in [model.model.memory.clone(), None] {
        model.model.memory = memory;
        conforms(&Subject { model: &model.model, spec: &spec, batch_max: 4, tolerance: 0.0 });
    }
}

#[test]
fn models_conform_whatever_they_return() {
    let Some(interpreter) = interpreter() else { return };
    for entry in ["Means", "Whole", "Named", "function", "Detector"] {
        keep(entry, BatchAs::Numpy, DType::U8, &interpreter);
    }
    for dtype in [DType::F16, DType::F32] {
        keep("Means", BatchAs::Numpy, dtype, &interpreter);
    }
}

#[test]
fn models_serve_whatever_happens_around_them() {
    let Some(interpreter) = interpreter() else { return };
    let folder = Folder::with(MODELS);
    let spec = spec(DType::U8);
    let load = || {
        let options = options(&interpreter, &folder, "Means");
        open(options, |_| Ok(spec.clone())).unwrap_or_else(|problem| panic!("{problem}")).model
    };
    serves(&Served { load: &load, spec: &spec, batch_max: 4, tolerance: 0.0 });
}

#[test]
fn models_without_numpy_conform() {
    let Some(interpreter) = interpreter() else { return };
    keep("Plain", BatchAs::Buffer, DType::U8, &interpreter);
}

#[test]
fn models_with_torch_conform() {
    let Some(interpreter) = interpreter_with_torch() else { return };
    keep("Torch", BatchAs::Torch, DType::U8, &interpreter);
    keep("Torch", BatchAs::Torch, DType::F16, &interpreter);
    keep("TorchList", BatchAs::Torch, DType::U8, &interpreter);
}

#[test]
fn the_outputs_are_learned_from_the_first_picture_or_declared() {
    let Some(interpreter) = interpreter() else { return };
    let folder = Folder::with(MODELS);
    let shape =
        |dims: &[usize]| -> Vec<Option<usize>> { std::iter::once(None).chain(dims.iter().map(|&d| Some(d))).collect() };
    for (entry, expected) in [
        ("Means", vec![("output", DType::F32, shape(&[3]))]),
        ("Named", vec![("sums", DType::I64, shape(&[])), ("corner", DType::U8, shape(&[3, 2]))]),
        ("function", vec![("output", DType::F32, shape(&[]))]),
        ("Detector", vec![("detections", DType::F32, shape(&[300, 6]))]),
    ] {
        let model = opened(options(&interpreter, &folder, entry)).expect(entry);
        let outputs: Vec<_> = model
            .model
            .info
            .outputs
            .iter()
            .map(|output| (output.name.as_str(), output.dtype, output.shape.clone()))
            .collect();
        assert_eq!(outputs, expected, "{entry}");
    }
    let model = opened(options(&interpreter, &folder, "Whole")).expect("a model");
    assert_eq!(model.model.info.batch, BatchLimit::UpTo(4));
}

#[test]
fn detections_are_rows_in_front_of_zeros() {
    let Some(interpreter) = interpreter() else { return };
    let folder = Folder::with(MODELS);
    let model = opened(options(&interpreter, &folder, "Detector")).expect("a model");
    let mut backend = instance(&model);
    let spec = spec(DType::U8);
    let mut tensor = omma_engine::tensor::BatchTensor::within(model.model.memory.as_ref(), 2, spec.slot_bytes());
    tensor.slot_mut(0).fill(2);
    tensor.slot_mut(1).fill(4);
    let mut answer = Answer::default();
    backend.infer(input(&tensor, &spec, &origins(2)), &mut answer).expect("an answer");
    let outputs = answer.outputs.expect("outputs");
    assert_eq!(outputs[0].shape, [2, 300, 6]);
    assert_eq!(outputs[0].values[..12], [0.0, 0.0, 4.0, 4.0, 0.1, 0.0, 0.0, 0.0, 4.0, 4.0, 0.2, 1.0]);
    assert!(outputs[0].values[12..].iter().all(|&value| value == 0.0));
}
