//! What every [`Backend`] owes the engine, as a suite that runs on any of them.
//!
//! Each function states one duty and panics with what was owed and what was found; [`conforms`] runs them all. The
//! pictures are noise made from a seed, a different one per slot, so that a result in the wrong place shows.

use std::sync::Arc;

use omma_engine::infer::backend::{Backend, BackendError, BatchInput, BatchLimit, LoadedModel, Opener, Origin, Reply};
use omma_engine::picture::PictureSpec;
use omma_engine::tensor::{BatchTensor, DType, TensorView, Values, as_f16_bits_mut, as_f32_mut};
use omma_frame::{CameraIndex, OwnedTensor};

use crate::backend_async::Awaited;

/// A model under test.
pub struct Subject<'a> {
    pub model: &'a LoadedModel,
    pub spec: &'a PictureSpec,
    /// The largest batch to try.
    pub batch_max: usize,
    /// How far a value may be from what the same picture gave alone: runtimes may sum in another order.
    pub tolerance: f32,
}

/// Runs the whole suite.
pub fn conforms(subject: &Subject<'_>) {
    batched_results_equal_single_ones(subject);
    repeated_runs_give_equal_results(subject);
    unused_slots_have_no_influence(subject);
    wrong_batches_are_refused_and_leave_the_instance_usable(subject);
    concurrent_instances_give_equal_results(subject);
}

/// A batch of any size gives each picture what it gives alone, in the batch's order.
pub fn batched_results_equal_single_ones(subject: &Subject<'_>) {
    let mut backend = subject.open();
    let alone = subject.alone(&mut *backend);
    for size in 1..=subject.batch_max {
        let pictures: Vec<_> = (0..size).collect();
        let reversed: Vec<_> = (0..size).rev().collect();
        for pictures in [pictures, reversed] {
            let results = subject.run(&mut *backend, &pictures);
            for (slot, &picture) in pictures.iter().enumerate() {
                let what = format!("picture {picture} in slot {slot} of a batch of {size}");
                assert_close(&results[slot], &alone[picture], subject.tolerance, &what);
            }
        }
    }
}

/// The same batch gives the same results, whatever ran in between.
pub fn repeated_runs_give_equal_results(subject: &Subject<'_>) {
    let mut backend = subject.open();
    let all: Vec<_> = (0..subject.batch_max).collect();
    let first = subject.run(&mut *backend, &all);
    for round in 1..4 {
        subject.run(&mut *backend, &[round % subject.batch_max]);
        for (slot, result) in subject.run(&mut *backend, &all).iter().enumerate() {
            assert_close(result, &first[slot], subject.tolerance, &format!("slot {slot} in round {round}"));
        }
    }
}

/// What lies in the slots behind a batch (leftovers, not-a-number) changes nothing.
pub fn unused_slots_have_no_influence(subject: &Subject<'_>) {
    let mut backend = subject.open();
    let alone = subject.alone(&mut *backend);
    for size in 1..subject.batch_max {
        let mut tensor = subject.tensor(&(0..size).collect::<Vec<_>>());
        for slot in tensor.slots_mut().skip(size) {
            slot.fill(0xff);
        }
        let results = subject.run_tensor(&mut *backend, &tensor, size).expect("a batch with garbage behind it");
        for (slot, result) in results.iter().enumerate() {
            assert_close(
                result,
                &alone[slot],
                subject.tolerance,
                &format!("slot {slot} of {size} with garbage behind it"),
            );
        }
    }
}

/// Empty batches, too many pictures, and pictures of another size or type fail as a whole, without an answer and
/// without harm to the batches after them.
pub fn wrong_batches_are_refused_and_leave_the_instance_usable(subject: &Subject<'_>) {
    let mut backend = subject.open();
    let before = subject.run(&mut *backend, &[0]);
    let tensor = subject.tensor(&[0]);
    let slots = tensor.slots();
    let mut wider = subject.spec.clone();
    wider.size.width += 1;
    let mut other_type = subject.spec.clone();
    other_type.dtype = if other_type.dtype == DType::U8 { DType::F32 } else { DType::U8 };
    let mut wrong = vec![
        ("an empty batch", subject.spec, 0),
        ("more pictures than the tensor has slots", subject.spec, slots + 1),
        ("pictures that are too wide", &wider, 1),
        ("pictures of another type", &other_type, 1),
    ];
    if let BatchLimit::UpTo(most) | BatchLimit::Exactly(most) = subject.model.info.batch
        && most < slots
    {
        wrong.push(("more pictures than the model takes", subject.spec, most + 1));
    }
    for (what, spec, count) in wrong {
        let mut answer = Answer::default();
        let result = backend.infer(input(&tensor, spec, &origins(count)), &mut answer);
        let error = result.expect_err(what);
        assert!(!error.message.is_empty(), "{what}: the refusal says nothing");
        assert!(answer.outputs.is_none(), "{what}: refused, but answered");
        assert_eq!(subject.run(&mut *backend, &[0]), before, "{what}: the next batch suffered");
    }
}

/// Two instances on two threads at once give what one alone gives.
pub fn concurrent_instances_give_equal_results(subject: &Subject<'_>) {
    let expected = {
        let mut backend = subject.open();
        subject.alone(&mut *backend)
    };
    let barrier = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (barrier, expected) = (&barrier, &expected);
            scope.spawn(move || {
                let mut backend = subject.open();
                barrier.wait();
                for round in 0..8 {
                    let size = 1 + (round + thread) % subject.batch_max;
                    let pictures: Vec<_> = (0..size).collect();
                    for (slot, result) in subject.run(&mut *backend, &pictures).iter().enumerate() {
                        let what = format!("thread {thread}, round {round}, slot {slot}");
                        assert_close(result, &expected[slot], subject.tolerance, &what);
                    }
                }
            });
        }
    });
}

impl Subject<'_> {
    /// A new instance.
    #[must_use]
    pub fn open(&self) -> Box<dyn Backend> {
        match &self.model.opener {
            Opener::Blocking(open) => open(0).expect("an instance"),
            Opener::Async(backend) => {
                Box::new(Awaited { backend: Arc::clone(backend), memory: self.model.memory.clone() })
            }
        }
    }

    /// What each of the first pictures gives a new instance, one at a time.
    pub(crate) fn each_alone(&self) -> Vec<Vec<OwnedTensor>> {
        self.alone(&mut *self.open())
    }

    /// A tensor with the given pictures at its front and room for the largest batch that is tried.
    fn tensor(&self, pictures: &[usize]) -> BatchTensor {
        let slots = match self.model.info.batch {
            BatchLimit::Exactly(fixed) => fixed.max(self.batch_max),
            BatchLimit::UpTo(_) => self.batch_max,
        };
        let mut tensor = BatchTensor::within(self.model.memory.as_ref(), slots, self.spec.slot_bytes());
        for (slot, &picture) in tensor.slots_mut().zip(pictures) {
            paint(slot, self.spec.dtype, picture);
        }
        tensor
    }

    fn run(&self, backend: &mut dyn Backend, pictures: &[usize]) -> Vec<Vec<OwnedTensor>> {
        self.run_tensor(backend, &self.tensor(pictures), pictures.len()).expect("a batch that fits")
    }

    /// The outputs of each of the first `count` pictures.
    fn run_tensor(
        &self,
        backend: &mut dyn Backend,
        tensor: &BatchTensor,
        count: usize,
    ) -> Result<Vec<Vec<OwnedTensor>>, BackendError> {
        let mut answer = Answer::default();
        backend.infer(input(tensor, self.spec, &origins(count)), &mut answer)?;
        let outputs = answer.outputs.expect("an answer");
        assert_eq!(
            outputs.iter().map(|output| &output.name).collect::<Vec<_>>(),
            self.model.info.outputs.iter().map(|output| &output.name).collect::<Vec<_>>(),
            "the outputs are those that the model declares, in that order"
        );
        let rows = match self.model.info.batch {
            BatchLimit::UpTo(_) => count,
            BatchLimit::Exactly(fixed) => fixed,
        };
        for output in &outputs {
            assert_eq!(output.shape.first(), Some(&rows), "the first dimension of `{}` is the batch", output.name);
        }
        Ok((0..count).map(|index| outputs.iter().map(|output| item(output, index)).collect()).collect())
    }

    /// What each picture gives in a batch of its own.
    fn alone(&self, backend: &mut dyn Backend) -> Vec<Vec<OwnedTensor>> {
        (0..self.batch_max).map(|picture| self.run(backend, &[picture]).remove(0)).collect()
    }
}

/// A reply that keeps a copy of what it is given.
#[derive(Debug, Default)]
pub struct Answer {
    pub outputs: Option<Vec<OwnedTensor>>,
    pub failed: Vec<(usize, String)>,
}

impl Answer {
    /// Says again what was said.
    pub(crate) fn pass_on(self, reply: &mut dyn Reply) {
        for (index, message) in &self.failed {
            reply.fail(*index, message);
        }
        if let Some(outputs) = &self.outputs {
            let views: Vec<_> = outputs
                .iter()
                .map(|OwnedTensor { name, shape, values }| TensorView { name, shape, values: Values::F32(values) })
                .collect();
            reply.outputs(&views);
        }
    }
}

impl Reply for Answer {
    fn outputs(&mut self, tensors: &[TensorView<'_>]) {
        assert!(self.outputs.is_none(), "a batch is answered once");
        let copy = |view: &TensorView<'_>| {
            assert_eq!(
                view.values.len(),
                view.shape.iter().product::<usize>(),
                "`{}` fills its shape {:?}",
                view.name,
                view.shape
            );
            OwnedTensor { name: view.name.into(), shape: view.shape.to_vec(), values: floats(view.values) }
        };
        self.outputs = Some(tensors.iter().map(copy).collect());
    }

    fn fail(&mut self, index: usize, message: &str) {
        self.failed.push((index, message.into()));
    }
}

/// A batch of the first `origins.len()` pictures of `tensor`.
#[must_use]
pub fn input<'a>(tensor: &'a BatchTensor, spec: &'a PictureSpec, origins: &'a [Origin]) -> BatchInput<'a> {
    BatchInput { tensor, spec, origins, parameters: &[] }
}

/// Frames of as many cameras.
#[must_use]
pub fn origins(count: usize) -> Vec<Origin> {
    (0..count).map(|index| Origin { camera: CameraIndex(index as u32), sequence: index as u64 }).collect()
}

/// Fills a slot with noise that is the same for the same `picture`: `u8` over its range, others in 0 to 1.
pub fn paint(slot: &mut [u8], dtype: DType, picture: usize) {
    let mut state = (picture as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    };
    match dtype {
        // Positive, below 1.
        DType::F16 => as_f16_bits_mut(slot).fill_with(|| (next() % 0x3c00) as u16),
        DType::F32 => as_f32_mut(slot).fill_with(|| (next() >> 8) as f32 / (1 << 24) as f32),
        _ => slot.fill_with(|| next() as u8),
    }
}

pub(crate) fn floats(values: Values<'_>) -> Vec<f32> {
    match values {
        Values::F32(values) => values.to_vec(),
        Values::U8(values) => values.iter().map(|&value| f32::from(value)).collect(),
        Values::I32(values) => values.iter().map(|&value| value as f32).collect(),
        Values::I64(values) => values.iter().map(|&value| value as f32).collect(),
    }
}

fn item(output: &OwnedTensor, index: usize) -> OwnedTensor {
    let shape = output.shape[1..].to_vec();
    let step: usize = shape.iter().product();
    OwnedTensor { name: output.name.clone(), shape, values: output.values[index * step..(index + 1) * step].to_vec() }
}

pub(crate) fn assert_close(found: &[OwnedTensor], expected: &[OwnedTensor], tolerance: f32, what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.shape, expected.shape, "{what}: shape of `{}`", found.name);
        for (at, (&is, &owed)) in found.values.iter().zip(&expected.values).enumerate() {
            let close = (is - owed).abs() <= tolerance * owed.abs().max(1.0);
            assert!(close, "{what}: value {at} of `{}` is {is}, alone it was {owed}", found.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_engine::infer::backend::{Device, ModelInfo, TensorInfo};
    use omma_engine::picture::{Color, Layout, Resize};
    use omma_engine::tensor::as_f32;
    use omma_frame::Size;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// What a double does wrong.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fault {
        Nothing,
        MixesFramesUp,
        DependsOnTheBatch,
        Drifts,
        ReadsUnusedSlots,
        LosesOne,
        AcceptsAnything,
        BreaksAfterARefusal,
        ClaimsOtherOutputs,
    }

    /// A backend whose output is the mean of each picture, but for its fault.
    struct Double {
        fault: Fault,
        runs: usize,
        broken: bool,
    }

    impl Backend for Double {
        fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
            let fits = batch.spec == &spec() && (1..=batch.tensor.slots()).contains(&batch.len());
            if !fits && self.fault != Fault::AcceptsAnything {
                self.broken = true;
                return Err(BackendError::batch("the batch does not fit"));
            }
            let count = batch.len().min(batch.tensor.slots());
            let mean = |bytes: &[u8]| as_f32(bytes).iter().sum::<f32>() / as_f32(bytes).len().max(1) as f32;
            let mut means: Vec<f32> = batch.tensor.bytes(count).chunks(spec().slot_bytes()).map(mean).collect();
            match self.fault {
                Fault::MixesFramesUp => means.reverse(),
                Fault::DependsOnTheBatch => means.iter_mut().for_each(|mean| *mean *= count as f32),
                Fault::Drifts => means.iter_mut().for_each(|mean| *mean += self.runs as f32),
                Fault::ReadsUnusedSlots => {
                    means.iter_mut().for_each(|value| *value += mean(batch.tensor.bytes(batch.tensor.slots())))
                }
                Fault::LosesOne => means.truncate(count.max(2) - 1),
                Fault::BreaksAfterARefusal if self.broken => means.fill(0.0),
                _ => {}
            }
            self.runs += 1;
            let name = if self.fault == Fault::ClaimsOtherOutputs { "other" } else { "mean" };
            reply.outputs(&[TensorView { name, shape: &[means.len()], values: Values::F32(&means) }]);
            Ok(())
        }
    }

    fn spec() -> PictureSpec {
        PictureSpec {
            size: Size { width: 4, height: 4 },
            dtype: DType::F32,
            layout: Layout::Nchw,
            color: Color::Gray,
            resize: Resize::Stretch,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }

    fn double(fault: Fault) -> LoadedModel {
        let tensor = |name: &str| TensorInfo { name: name.into(), dtype: DType::F32, shape: vec![None] };
        let info = ModelInfo {
            runtime: "double".into(),
            inputs: vec![tensor("images")],
            outputs: vec![tensor("mean")],
            batch: BatchLimit::UpTo(usize::MAX),
        };
        let open = move |_| Ok::<Box<dyn Backend>, BackendError>(Box::new(Double { fault, runs: 0, broken: false }));
        LoadedModel::new(info, Device::Cpu, Opener::Blocking(Box::new(open)))
    }

    #[test]
    fn the_suite_passes_a_good_backend_and_catches_each_fault() {
        let passes = |fault| {
            let model = double(fault);
            catch_unwind(AssertUnwindSafe(|| {
                conforms(&Subject { model: &model, spec: &spec(), batch_max: 4, tolerance: 1e-6 })
            }))
            .is_ok()
        };
        assert!(passes(Fault::Nothing));
        for fault in [
            Fault::MixesFramesUp,
            Fault::DependsOnTheBatch,
            Fault::Drifts,
            Fault::ReadsUnusedSlots,
            Fault::LosesOne,
            Fault::AcceptsAnything,
            Fault::BreaksAfterARefusal,
            Fault::ClaimsOtherOutputs,
        ] {
            assert!(!passes(fault), "{fault:?} went unnoticed");
        }
    }
}
