//! Tensors: the reused buffer that a batch is decoded into, and views of what a model gave back.

/// The element types that models take and give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    U8,
    F32,
    I32,
    I64,
}

impl DType {
    #[must_use]
    pub const fn byte_len(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
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

/// The reused input of one instance: `slots` pictures of `slot_bytes` each, aligned for every element type.
///
/// Allocated once, in 64-byte lines, so that vector code never straddles a line at the start of the buffer.
pub struct BatchTensor {
    lines: Vec<Line>,
    slots: usize,
    slot_bytes: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl BatchTensor {
    #[must_use]
    pub fn new(slots: usize, slot_bytes: usize) -> Self {
        Self { lines: vec![Line([0; 64]); (slots * slot_bytes).div_ceil(64)], slots, slot_bytes }
    }

    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The bytes of the first `count` slots. Panics if there are fewer: the engine never asks for more than it made.
    #[must_use]
    pub fn bytes(&self, count: usize) -> &[u8] {
        // SAFETY: `lines` is one allocation of plain bytes at least as long as all slots.
        let all = unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast::<u8>(), self.slots * self.slot_bytes) };
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

    fn all_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<u8>(), self.slots * self.slot_bytes) }
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

/// As [`as_f32`], to be written.
#[must_use]
pub fn as_f32_mut(bytes: &mut [u8]) -> &mut [f32] {
    // SAFETY: every bit pattern is an f32, and every f32 is four bytes.
    let (head, body, _) = unsafe { bytes.align_to_mut::<f32>() };
    if head.is_empty() { body } else { &mut [] }
}
