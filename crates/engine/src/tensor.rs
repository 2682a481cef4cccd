//! Tensors: the reused buffer that a batch is decoded into, and views of what a model gave back.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

/// The element types that models take and give. Half floats are taken only: what a model gives in them, a backend widens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    U8,
    F16,
    F32,
    I32,
    I64,
}

impl DType {
    /// The types that a picture's values can have.
    pub const OF_PICTURES: [Self; 3] = [Self::U8, Self::F16, Self::F32];

    /// What a pixel's value is multiplied with by convention: whole numbers stay what they are, others are 0 to 1.
    #[must_use]
    pub const fn usual_scale(self) -> f32 {
        match self {
            Self::F16 | Self::F32 => 1.0 / 255.0,
            Self::U8 | Self::I32 | Self::I64 => 1.0,
        }
    }

    #[must_use]
    pub const fn byte_len(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::I32 => "i32",
            Self::I64 => "i64",
        }
    }
}

/// One tensor that a model takes or gives; `None` is a dimension that may vary.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<Option<usize>>,
}

/// The values of a view.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values<'a> {
    U8(&'a [u8]),
    F32(&'a [f32]),
    I32(&'a [i32]),
    I64(&'a [i64]),
}

impl<'a> Values<'a> {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::I64(v) => v.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Self::U8(_) => DType::U8,
            Self::F32(_) => DType::F32,
            Self::I32(_) => DType::I32,
            Self::I64(_) => DType::I64,
        }
    }

    /// `None` if the range is not inside.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Option<Values<'a>> {
        Some(match self {
            Self::U8(v) => Values::U8(v.get(range)?),
            Self::F32(v) => Values::F32(v.get(range)?),
            Self::I32(v) => Values::I32(v.get(range)?),
            Self::I64(v) => Values::I64(v.get(range)?),
        })
    }
}

/// One tensor, borrowed from whoever computed it. Row-major and dense: `shape`'s product is the number of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorView<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub values: Values<'a>,
}

impl<'a> TensorView<'a> {
    /// The part of item `index` of a tensor whose first dimension is the batch; `None` if there is no such item or
    /// the values do not fill the shape.
    #[must_use]
    pub fn item(&self, index: usize) -> Option<TensorView<'a>> {
        let (&count, shape) = self.shape.split_first()?;
        if index >= count {
            return None;
        }
        let step = shape.iter().try_fold(1_usize, |step, &dimension| step.checked_mul(dimension))?;
        if self.values.len() != step.checked_mul(count)? {
            return None;
        }
        Some(TensorView { name: self.name, shape, values: self.values.slice(index * step..(index + 1) * step)? })
    }
}

/// Memory for a batch tensor that a backend brings along, because what runs the model sees it there without a copy: a
/// segment shared with another process, memory pinned for an accelerator.
///
/// # Safety
/// `start` points to `len` bytes, aligned to 64, that can be read and written until the object is dropped and that
/// nobody else writes while the tensor fills or reads them.
pub unsafe trait TensorMemory: Send + Sync {
    fn start(&self) -> NonNull<u8>;
    fn len(&self) -> usize;
    /// For the backend that brought it to know it again.
    fn as_any(&self) -> &dyn Any;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Gives memory of at least as many bytes; `None` if there is none to be had, and the tensor lies on the heap instead.
pub type TensorAllocator = Arc<dyn Fn(usize) -> Option<Box<dyn TensorMemory>> + Send + Sync>;

/// The reused input of one instance: `slots` pictures of `slot_bytes` each, aligned for every element type.
///
/// Allocated once, in 64-byte lines, so that vector code never straddles a line at the start of the buffer.
pub struct BatchTensor {
    start: NonNull<u8>,
    memory: Memory,
    slots: usize,
    slot_bytes: usize,
}

enum Memory {
    Heap(#[allow(dead_code)] Vec<Line>),
    Brought(Box<dyn TensorMemory>),
}

// SAFETY: `start` points into `memory`, which the tensor owns and which may be sent and shared itself.
unsafe impl Send for BatchTensor {}
// SAFETY: as above; nothing is written but through an exclusive borrow.
unsafe impl Sync for BatchTensor {}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl BatchTensor {
    #[must_use]
    pub fn new(slots: usize, slot_bytes: usize) -> Self {
        let mut lines = vec![Line([0; 64]); (slots * slot_bytes).div_ceil(64)];
        let start = NonNull::new(lines.as_mut_ptr().cast::<u8>()).unwrap_or(NonNull::dangling());
        Self { start, memory: Memory::Heap(lines), slots, slot_bytes }
    }

    /// In memory that a backend brings along, if it has any.
    #[must_use]
    pub fn within(allocator: Option<&TensorAllocator>, slots: usize, slot_bytes: usize) -> Self {
        let bytes = slots * slot_bytes;
        match allocator.and_then(|allocate| allocate(bytes)) {
            Some(memory) if memory.len() >= bytes => {
                Self { start: memory.start(), memory: Memory::Brought(memory), slots, slot_bytes }
            }
            _ => Self::new(slots, slot_bytes),
        }
    }

    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The memory that a backend brought along, for it to know it again ([`TensorMemory::as_any`]).
    #[must_use]
    pub fn brought(&self) -> Option<&dyn Any> {
        match &self.memory {
            Memory::Heap(_) => None,
            Memory::Brought(memory) => Some(memory.as_any()),
        }
    }

    /// The bytes of the first `count` slots. Panics if there are fewer: the engine never asks for more than it made.
    #[must_use]
    pub fn bytes(&self, count: usize) -> &[u8] {
        // SAFETY: `memory` is one allocation of plain bytes at least as long as all slots.
        let all = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.slots * self.slot_bytes) };
        &all[..count * self.slot_bytes]
    }

    /// All slots, each for one decoder to fill. Slots without bytes (a model that looks at nothing) are empty slices.
    pub fn slots_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let (slots, size) = (self.slots, self.slot_bytes);
        let mut rest = self.all_mut();
        (0..slots).map(move |_| {
            let (slot, tail) = std::mem::take(&mut rest).split_at_mut(size);
            rest = tail;
            slot
        })
    }

    /// One slot. Panics beyond the last: the engine never asks for more than it made.
    pub fn slot_mut(&mut self, index: usize) -> &mut [u8] {
        let size = self.slot_bytes;
        &mut self.all_mut()[index * size..(index + 1) * size]
    }

    /// The bytes of all slots.
    pub fn all_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.slots * self.slot_bytes) }
    }

    /// Closes the gap that a failed slot leaves: moves the content of slot `from` to slot `to`.
    pub fn move_slot(&mut self, from: usize, to: usize) {
        let size = self.slot_bytes;
        self.all_mut().copy_within(from * size..(from + 1) * size, to * size);
    }
}

/// The bytes of a slot or tensor as `f32`. Empty if they are not aligned to four bytes, which [`BatchTensor`]'s are
/// whenever a slot's size is a multiple of four.
#[must_use]
pub fn as_f32(bytes: &[u8]) -> &[f32] {
    // SAFETY: every bit pattern is an f32.
    let (head, body, _) = unsafe { bytes.align_to::<f32>() };
    if head.is_empty() { body } else { &[] }
}

/// The bytes of a slot or tensor as the bits of half floats; empty where [`as_f32`] would be.
#[must_use]
pub fn as_f16_bits(bytes: &[u8]) -> &[u16] {
    // SAFETY: every bit pattern is a u16.
    let (head, body, _) = unsafe { bytes.align_to::<u16>() };
    if head.is_empty() { body } else { &[] }
}

/// As [`as_f16_bits`], to be written.
#[must_use]
pub fn as_f16_bits_mut(bytes: &mut [u8]) -> &mut [u16] {
    // SAFETY: every bit pattern is a u16, and every u16 is two bytes.
    let (head, body, _) = unsafe { bytes.align_to_mut::<u16>() };
    if head.is_empty() { body } else { &mut [] }
}

/// As [`as_f32`], to be written.
#[must_use]
pub fn as_f32_mut(bytes: &mut [u8]) -> &mut [f32] {
    // SAFETY: every bit pattern is an f32, and every f32 is four bytes.
    let (head, body, _) = unsafe { bytes.align_to_mut::<f32>() };
    if head.is_empty() { body } else { &mut [] }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pages {
        start: NonNull<u8>,
        len: usize,
    }

    // SAFETY: the memory is leaked, and so anybody's who has the pointer.
    unsafe impl Send for Pages {}
    // SAFETY: as above.
    unsafe impl Sync for Pages {}

    // SAFETY: the lines are aligned, live for ever, and nobody else touches them.
    unsafe impl TensorMemory for Pages {
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

    #[test]
    fn a_tensor_lies_in_the_memory_that_is_brought_along_if_it_is_enough() {
        let pages = |lines: usize| -> TensorAllocator {
            Arc::new(move |_| {
                let start = NonNull::from(vec![Line([7; 64]); lines].leak()).cast();
                Some(Box::new(Pages { start, len: lines * 64 }) as Box<dyn TensorMemory>)
            })
        };
        let none: TensorAllocator = Arc::new(|_| None);
        for (allocator, brought) in
            [(None, false), (Some(pages(3)), true), (Some(pages(2)), false), (Some(none), false)]
        {
            let mut tensor = BatchTensor::within(allocator.as_ref(), 3, 50);
            assert_eq!(tensor.brought().is_some_and(|memory| memory.is::<Pages>()), brought);
            tensor.slot_mut(2).fill(9);
            tensor.move_slot(2, 0);
            assert_eq!(tensor.bytes(3)[..50], [9; 50]);
            assert_eq!(tensor.slots_mut().count(), 3);
            assert_eq!(tensor.bytes(1).as_ptr().align_offset(64), 0);
        }
    }
}
