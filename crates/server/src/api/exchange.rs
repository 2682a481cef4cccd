//! The tensors of one direct request while the engine has it: where its items come from, and where their outputs go.
//!
//! Runs on the model's threads. An item costs one copy in and one out; outputs of a request lie in one buffer each, in
//! the order of its items, whatever batches those ran in, or go straight into the client's shared memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use omma_engine::infer::direct::Exchange;
use omma_engine::picture::PictureError;
use omma_engine::tensor::{DType, TensorView, Values};
use omma_protocol::SharedMemory;
use omma_protocol::http::{Binary, text_per_byte};
use parking_lot::Mutex;

use super::budget::Lease;
use super::error::{ApiError, Kind};
use super::memory::Place;
use super::models;

/// Where a request's values lie.
pub enum Source {
    Body(Bytes),
    Memory(Place),
}

/// An output that is wanted.
pub struct Wanted {
    pub name: String,
    /// `None`: with the answer.
    pub place: Option<Place>,
}

/// An output, as far as it has come.
pub struct Output {
    pub name: String,
    pub dtype: DType,
    /// Of one item.
    pub shape: Vec<usize>,
    /// Empty if it lies in shared memory.
    pub content: Vec<u8>,
    /// What all items have together.
    pub byte_len: usize,
}

/// What the outputs that go with the answer take of the budget: their values, and their text where they go as JSON.
#[derive(Clone)]
pub struct Room {
    lease: Arc<Lease>,
    binary: Binary,
    /// What was taken before the model was asked, by output.
    foreseen: Vec<(String, usize)>,
}

impl Room {
    #[must_use]
    pub fn new(lease: Arc<Lease>, binary: Binary) -> Self {
        Self { lease, binary, foreseen: Vec::new() }
    }

    fn bytes(&self, output: &str, dtype: DType, values: usize) -> usize {
        let text = if self.binary.has(output) { 0 } else { text_per_byte(models::datatype(dtype)) };
        values.saturating_mul(1 + text)
    }

    /// Takes what an output will have.
    ///
    /// # Errors
    /// There is not so much now.
    pub fn foresee(&mut self, output: &str, dtype: DType, values: usize) -> Result<(), ApiError> {
        let bytes = self.bytes(output, dtype, values);
        self.lease.take(bytes)?;
        self.foreseen.push((output.to_owned(), bytes));
        Ok(())
    }

    /// Takes what an output has beyond what was foreseen: all of it where the model does not say its shape beforehand.
    fn take(&self, output: &str, dtype: DType, values: usize) -> Result<(), ApiError> {
        let foreseen = self.foreseen.iter().find(|(name, _)| name == output).map_or(0, |(_, bytes)| *bytes);
        self.lease.take(self.bytes(output, dtype, values).saturating_sub(foreseen))
    }
}

pub struct Tensors {
    items: usize,
    /// Bytes of one item of the input.
    item_bytes: usize,
    source: Source,
    wanted: Vec<Wanted>,
    /// An item is in a batch.
    begun: AtomicBool,
    /// `None` once the request is answered: what comes later comes to nothing.
    taken: Mutex<Option<Taken>>,
}

struct Taken {
    /// Here, and so given back with the answer, because a thread may keep the tensors until its next batch.
    room: Room,
    outputs: Vec<Output>,
    /// What was wrong, more exactly than the engine can say it.
    error: Option<ApiError>,
}

impl Tensors {
    /// `wanted` empty: all outputs.
    #[must_use]
    pub fn new(items: usize, item_bytes: usize, source: Source, wanted: Vec<Wanted>, room: Room) -> Self {
        let taken = Taken { room, outputs: Vec::new(), error: None };
        Self { items, item_bytes, source, wanted, begun: AtomicBool::new(false), taken: Mutex::new(Some(taken)) }
    }

    /// The outputs, or what was wrong with them, once; from then on nothing is taken any more.
    pub fn finish(&self) -> Result<Vec<Output>, ApiError> {
        match self.taken.lock().take() {
            None => Ok(Vec::new()),
            Some(Taken { error: Some(error), .. }) => Err(error),
            Some(Taken { outputs, .. }) => Ok(outputs),
        }
    }

    /// Whether the model, or the way into it, has begun with the request.
    pub fn begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Where in shared memory an output was to go.
    pub fn place(&self, output: &str) -> Option<SharedMemory> {
        self.wanted.iter().find(|wanted| wanted.name == output)?.place.as_ref().map(Place::told)
    }

    fn fail(&self, error: ApiError) -> String {
        let message = error.message.clone();
        if let Some(taken) = self.taken.lock().as_mut() {
            taken.error.get_or_insert(error);
        }
        message
    }

    fn take_all(&self, item: usize, outputs: &[TensorView<'_>]) -> Result<(), ApiError> {
        let mut taken = self.taken.lock();
        let Some(taken) = taken.as_mut() else { return Ok(()) };
        if self.wanted.is_empty() {
            taken.outputs.reserve(outputs.len());
            for (at, view) in outputs.iter().enumerate() {
                self.take_one(item, at, view, None, taken)?;
            }
            return Ok(());
        }
        for (at, wanted) in self.wanted.iter().enumerate() {
            let Some(view) = outputs.iter().find(|view| view.name == wanted.name) else {
                return Err(ApiError::new(Kind::Failed, format!("the model gave no output `{}`", wanted.name)));
            };
            self.take_one(item, at, view, wanted.place.as_ref(), taken)?;
        }
        Ok(())
    }

    fn take_one(
        &self,
        item: usize,
        at: usize,
        view: &TensorView<'_>,
        place: Option<&Place>,
        taken: &mut Taken,
    ) -> Result<(), ApiError> {
        let Taken { room, outputs: gathered, .. } = taken;
        let bytes = raw(&view.values);
        if gathered.len() <= at {
            let byte_len = bytes.len() * self.items;
            if let Some(place) = place
                && byte_len > place.byte_size
            {
                return Err(ApiError::invalid(format!(
                    "output `{}` has {byte_len} bytes, its place in shared memory {}",
                    view.name, place.byte_size
                )));
            }
            if place.is_none() {
                room.take(view.name, view.values.dtype(), byte_len)?;
            }
            gathered.push(Output {
                name: view.name.to_owned(),
                dtype: view.values.dtype(),
                shape: view.shape.to_vec(),
                content: Vec::with_capacity(if place.is_none() { byte_len } else { 0 }),
                byte_len,
            });
        }
        let output = &mut gathered[at];
        if output.shape != view.shape || output.dtype != view.values.dtype() {
            return Err(ApiError::invalid(format!(
                "output `{}` is {:?} for one item and {:?} for another: ask for one item at a time",
                view.name, output.shape, view.shape
            )));
        }
        let start = item * bytes.len();
        if let Some(place) = place {
            return place.write(start, bytes);
        }
        let content = &mut output.content;
        if content.len() == start {
            content.extend_from_slice(bytes);
        } else {
            // Items come in order unless instances overtake one another.
            if content.len() < start + bytes.len() {
                content.resize(start + bytes.len(), 0);
            }
            content[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }
}

impl Exchange for Tensors {
    fn fill(&self, item: usize, slot: &mut [u8]) -> Result<(), PictureError> {
        self.begun.store(true, Ordering::Relaxed);
        if slot.len() != self.item_bytes {
            // Another version of the model has taken over since the request was looked at.
            let message = format!("an item has {} bytes, the model takes {}", self.item_bytes, slot.len());
            let error = ApiError::invalid(message);
            self.fail(error.clone());
            return Err(error.into());
        }
        let from = item * self.item_bytes;
        match &self.source {
            Source::Body(bytes) => {
                // As long as the request said, which was checked against the shape.
                let range = bytes.get(from..from + self.item_bytes);
                let range =
                    range.ok_or_else(|| PictureError::from(ApiError::invalid("the request's values end early")))?;
                slot.copy_from_slice(range);
                Ok(())
            }
            Source::Memory(place) => place.read(from, slot).map_err(|error| {
                self.fail(error.clone());
                error.into()
            }),
        }
    }

    fn take(&self, item: usize, outputs: &[TensorView<'_>]) -> Result<(), String> {
        self.take_all(item, outputs).map_err(|error| self.fail(error))
    }
}

/// Values as they go over the wire: lowest byte first, which is how they lie here.
fn raw<'a>(values: &Values<'a>) -> &'a [u8] {
    const { assert!(cfg!(target_endian = "little"), "the protocol's byte order is that of the machine") };
    fn bytes<T>(values: &[T]) -> &[u8] {
        // SAFETY: numbers without padding, seen as the bytes that they are made of.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
    }
    match values {
        Values::U8(values) => values,
        Values::F32(values) => bytes(values),
        Values::I32(values) => bytes(values),
        Values::I64(values) => bytes(values),
    }
}
