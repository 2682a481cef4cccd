//! Memory whose pages stay where they are, so that a GPU fetches from it itself: several times the speed of a copy
//! that the CPU makes through the driver's own buffer.
//!
//! Taken from the session's allocator. A batch tensor keeps it for an instance's life, so its price is paid once.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

use omma_engine::tensor::{TensorAllocator, TensorMemory};
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use parking_lot::Mutex;

/// The session's allocator of such memory, for batch tensors and outputs. It outlives the session.
///
/// # Errors
/// The session has none: it is not on a GPU.
pub(super) fn allocator(session: &Session) -> ort::Result<TensorAllocator> {
    let place = MemoryInfo::new(AllocationDevice::CUDA_PINNED, 0, AllocatorType::Device, MemoryType::CPUOutput)?;
    // Not every allocator of the library may be called by several threads at once.
    let allocator = Arc::new(Mutex::new(Allocator::new(session, place)?));
    Ok(Arc::new(move |bytes| {
        let start = allocator.lock().alloc::<u8>(bytes).ok()?.into_raw();
        let start = NonNull::new(start.cast::<u8>())?;
        // SAFETY: the allocator gave as many bytes. Zeroed, as tensors on the heap are.
        unsafe { start.as_ptr().write_bytes(0, bytes) };
        Some(Box::new(Pinned { start, len: bytes, allocator: Arc::clone(&allocator) }) as Box<dyn TensorMemory>)
    }))
}

struct Pinned {
    start: NonNull<u8>,
    len: usize,
    allocator: Arc<Mutex<Allocator>>,
}

// SAFETY: plain memory of its own.
unsafe impl Send for Pinned {}
// SAFETY: as above; nothing is written through a shared borrow.
unsafe impl Sync for Pinned {}

// SAFETY: `len` bytes that are the object's until it is dropped, aligned to 256 as CUDA's allocations are; the runtime
// reads them while a batch runs, and writes nowhere but to memory of its own.
unsafe impl TensorMemory for Pinned {
    fn start(&self) -> NonNull<u8> {
        self.start
    }

    fn len(&self) -> usize {
        self.len
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: this allocator gave it, and nobody borrows it any more.
        unsafe { self.allocator.lock().free(self.start.as_ptr()) };
    }
}
