//! Batches filled up to the next of a few sizes, for models that take any size on runtimes that prepare each one anew
//! (OpenVINO compiles, an accelerator's provider builds an engine): without it, the first batch of each new size would
//! pay for that in the middle of the traffic.
//!
//! The unused slots at the end hold whatever an earlier batch left there; what comes out for them is cut off.

use omma_engine::infer::backend::{Backend, BackendError, BatchInput, Origin, Reply};
use omma_engine::picture::PictureSpec;
use omma_engine::tensor::{BatchTensor, TensorView, Values};
use omma_frame::CameraIndex;

/// A backend behind its sizes.
pub(super) struct Sized {
    inner: Box<dyn Backend>,
    /// Rising.
    sizes: Vec<usize>,
    origins: Vec<Origin>,
}

impl Sized {
    pub(super) fn new(inner: Box<dyn Backend>, sizes: &[usize]) -> Self {
        Self { inner, sizes: sizes.to_vec(), origins: Vec::new() }
    }

    /// Runs each size once, so that the runtime has it ready.
    ///
    /// # Errors
    /// The model does not run in one of them.
    pub(super) fn warm_up(&mut self, spec: &PictureSpec) -> Result<(), BackendError> {
        struct Ignore;
        impl Reply for Ignore {
            fn outputs(&mut self, _tensors: &[TensorView<'_>]) {}
            fn fail(&mut self, _index: usize, _message: &str) {}
        }
        let tensor = BatchTensor::new(self.sizes.last().copied().unwrap_or(1), spec.slot_bytes());
        for &size in &self.sizes {
            let origins = vec![Origin { camera: CameraIndex(u32::MAX), sequence: 0 }; size];
            let batch = BatchInput { tensor: &tensor, spec, origins: &origins, parameters: &[] };
            self.inner.infer(batch, &mut Ignore)?;
        }
        Ok(())
    }

    /// The size that a batch of `count` runs in: as it is if it is beyond them all, or if its tensor has no room.
    fn size_for(&self, count: usize, slots: usize) -> usize {
        self.sizes.iter().copied().find(|&size| size >= count).filter(|&size| size <= slots).unwrap_or(count)
    }
}

impl Backend for Sized {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        let (count, slots) = (batch.len(), batch.tensor.slots());
        let size = self.size_for(count, slots);
        if count == 0 || size == count {
            return self.inner.infer(batch, reply);
        }
        self.origins.clear();
        self.origins.extend_from_slice(batch.origins);
        self.origins.resize(size, Origin { camera: CameraIndex(u32::MAX), sequence: 0 });
        let filled = BatchInput { origins: &self.origins, ..batch };
        self.inner.infer(filled, &mut Cut { reply, count, size })
    }
}

/// Hands on the first `count` rows of `size`.
struct Cut<'a> {
    reply: &'a mut dyn Reply,
    count: usize,
    size: usize,
}

impl Reply for Cut<'_> {
    fn outputs(&mut self, tensors: &[TensorView<'_>]) {
        let shapes: Vec<Vec<usize>> = tensors.iter().map(|tensor| self.shape(tensor)).collect();
        let views: Vec<TensorView<'_>> = tensors
            .iter()
            .zip(&shapes)
            .map(|(tensor, shape)| TensorView { name: tensor.name, shape, values: first(tensor.values, rows(shape)) })
            .collect();
        self.reply.outputs(&views);
    }

    fn fail(&mut self, index: usize, message: &str) {
        if index < self.count {
            self.reply.fail(index, message);
        }
    }
}

impl Cut<'_> {
    /// An output that has not the batch as its first dimension is handed on as it is, for the engine to refuse.
    fn shape(&self, tensor: &TensorView<'_>) -> Vec<usize> {
        let mut shape = tensor.shape.to_vec();
        if let Some(first) = shape.first_mut().filter(|first| **first == self.size) {
            *first = self.count;
        }
        shape
    }
}

/// `None` where no number holds it.
fn rows(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim))
}

fn first(values: Values<'_>, count: Option<usize>) -> Values<'_> {
    let Some(count) = count.filter(|&count| count <= values.len()) else { return values };
    match values {
        Values::F32(values) => Values::F32(&values[..count]),
        Values::U8(values) => Values::U8(&values[..count]),
        Values::I32(values) => Values::I32(&values[..count]),
        Values::I64(values) => Values::I64(&values[..count]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_testkit::backend::{Answer, input, origins};
    use std::sync::{Arc, Mutex};

    /// Says which sizes it was run in, and gives each slot's first byte.
    struct Echo(Arc<Mutex<Vec<usize>>>);

    impl Backend for Echo {
        fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
            self.0.lock().expect("not poisoned").push(batch.len());
            let firsts: Vec<u8> = batch.tensor.bytes(batch.len()).chunks(4).map(|slot| slot[0]).collect();
            reply.outputs(&[TensorView { name: "out", shape: &[firsts.len(), 1], values: Values::U8(&firsts) }]);
            Ok(())
        }
    }

    fn spec() -> PictureSpec {
        let mut spec = omma_testkit::doubles_picture::spec();
        spec.size.width = 2;
        spec
    }

    #[test]
    fn batches_run_in_the_next_size_and_give_what_they_would_alone() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut sized = Sized::new(Box::new(Echo(Arc::clone(&seen))), &[2, 4, 8]);
        let mut tensor = BatchTensor::new(6, 4);
        tensor.slots_mut().enumerate().for_each(|(at, slot)| slot.fill(at as u8));
        // (pictures) -> (the size that the model sees): 6 slots have no room for 8.
        for (count, expected) in [(1, 2), (2, 2), (3, 4), (4, 4), (5, 5), (6, 6)] {
            let mut answer = Answer::default();
            let (spec, origins) = (spec(), origins(count));
            sized.infer(input(&tensor, &spec, &origins), &mut answer).expect("runs");
            let outputs = answer.outputs.expect("an answer");
            assert_eq!(outputs[0].shape, [count, 1]);
            assert_eq!(outputs[0].values, (0..count).map(|at| at as f32).collect::<Vec<_>>());
            assert_eq!(seen.lock().expect("not poisoned").pop(), Some(expected), "{count} pictures");
        }
    }
}
