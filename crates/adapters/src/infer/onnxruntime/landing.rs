//! Where the outputs of a session on a GPU are left: memory that the GPU writes to itself, taken once and used by every
//! batch. Without it they come into memory that is new for each batch, by way of the driver's own buffer.

use omma_engine::tensor::{BatchTensor, TensorAllocator};
use ort::memory::MemoryInfo;
use ort::session::{IoBinding, Session, SessionInputValue};
use ort::value::{Outlet, Shape, TensorElementType, TensorRefMut, ValueType};

pub(super) struct Landing {
    binding: IoBinding,
    allocator: TensorAllocator,
    input: String,
    outputs: Vec<Output>,
}

struct Output {
    name: String,
    element: TensorElementType,
    /// Of one row.
    dims: Vec<i64>,
    row_bytes: usize,
    /// Room for the largest batch so far.
    memory: BatchTensor,
}

impl Landing {
    /// `None` if the model does not say how large one row of each output is.
    ///
    /// # Errors
    /// The session refuses.
    pub(super) fn new(session: &Session, allocator: TensorAllocator) -> ort::Result<Option<Self>> {
        let (Some(outputs), [input]) = (outputs(session), session.inputs()) else { return Ok(None) };
        Ok(Some(Self { binding: session.create_binding()?, allocator, input: input.name().to_owned(), outputs }))
    }

    /// Binds a batch of as many rows to the session, ready to run.
    ///
    /// # Errors
    /// The session takes no such input, or gives no such outputs.
    pub(super) fn bind(&mut self, input: &SessionInputValue<'_>, rows: usize) -> ort::Result<&IoBinding> {
        self.binding.clear();
        self.binding.bind_input(self.input.as_str(), input)?;
        for Output { name, element, dims, row_bytes, memory } in &mut self.outputs {
            if memory.slots() < rows {
                *memory = BatchTensor::within(Some(&self.allocator), rows, *row_bytes);
            }
            let rows = i64::try_from(rows).unwrap_or(i64::MAX);
            let shape = Shape::from([&[rows], dims.as_slice()].concat());
            let start = memory.all_mut().as_mut_ptr().cast();
            // As the CPU's memory, which it is. The library has a place of its own for what both reach, and fails to copy
            // to it (1.31, "dst_data != src_data was false").
            let place = MemoryInfo::default();
            macro_rules! bind {
                ($type:ty) => {{
                    // SAFETY: `memory` has room for as many rows of the shape, is aligned to 64, and is written by the
                    // session alone until the outputs are gone, which borrow this object.
                    let tensor = unsafe { TensorRefMut::<$type>::from_raw(place, start, shape)? };
                    self.binding.bind_output(name.as_str(), tensor)?;
                }};
            }
            match element {
                TensorElementType::Uint8 => bind!(u8),
                TensorElementType::Float16 => bind!(half::f16),
                TensorElementType::Int32 => bind!(i32),
                TensorElementType::Int64 => bind!(i64),
                _ => bind!(f32),
            }
        }
        Ok(&self.binding)
    }
}

fn outputs(session: &Session) -> Option<Vec<Output>> {
    let output = |outlet: &Outlet| {
        let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else { return None };
        let (_, dims) = shape.split_first()?;
        let row = dims.iter().try_fold(1_usize, |row, &dim| row.checked_mul(usize::try_from(dim).ok()?))?;
        let row_bytes = row.checked_mul(ty.byte_size(1)?).filter(|bytes| *bytes > 0)?;
        let memory = BatchTensor::new(0, row_bytes);
        Some(Output { name: outlet.name().to_owned(), element: *ty, dims: dims.to_vec(), row_bytes, memory })
    };
    session.outputs().iter().map(output).collect()
}
