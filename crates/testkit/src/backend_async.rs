//! An asynchronous backend in the clothes of a blocking one, so that the suite of [`crate::backend`] runs on it too.
//!
//! Each call copies its batch into a tensor of the backend's own memory and blocks until the answer; the engine does
//! neither.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use omma_engine::infer::backend::{AsyncBackend, Backend, BackendError, BatchInput, OwnedBatch, Reply};
use omma_engine::tensor::{BatchTensor, TensorAllocator};

/// One caller of an asynchronous backend, who waits for each answer.
pub struct Awaited {
    pub backend: Arc<dyn AsyncBackend>,
    pub memory: Option<TensorAllocator>,
}

impl Backend for Awaited {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        let (slots, slot_bytes) = (batch.tensor.slots(), batch.tensor.bytes(1).len());
        let mut tensor = BatchTensor::within(self.memory.as_ref(), slots, slot_bytes);
        for (slot, bytes) in tensor.slots_mut().zip(batch.tensor.bytes(slots).chunks_exact(slot_bytes)) {
            slot.copy_from_slice(bytes);
        }
        let owned = OwnedBatch {
            tensor,
            spec: Arc::new(batch.spec.clone()),
            origins: batch.origins.to_vec(),
            parameters: batch.parameters.into(),
        };
        let mut answer = crate::backend::Answer::default();
        let (_, ended) = wait(self.backend.infer(owned, &mut answer));
        answer.pass_on(reply);
        ended
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks until the future is ready.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(ready) => return ready,
            Poll::Pending => std::thread::park(),
        }
    }
}
