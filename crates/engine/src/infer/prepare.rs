//! Decodes a batch's payloads into the slots of its tensor; what cannot be decoded leaves the batch by name.

use omma_frame::{DropReason, Payload, Size};
use parking_lot::Mutex;
use rayon::prelude::*;

use super::backend::Origin;
use super::direct::Item;
use super::work::{Input, Pending};
use crate::panics::caught;
use crate::picture::{Fit, PictureDecoder, PictureDecoderFactory, PictureError, Resize};
use crate::tensor::{BatchTensor, TensorAllocator};
use crate::threads::{Begin, Role};

/// A batch between the batcher and the model. `pendings`, `origins` and `fits` agree with the slots of `tensor`.
pub struct Prepared {
    pub pendings: Vec<Pending>,
    pub origins: Vec<Origin>,
    pub fits: Vec<Fit>,
    /// Slots whose outputs are taken as the model gives them, ascending; camera frames have none.
    pub takers: Vec<(usize, Item)>,
    pub tensor: BatchTensor,
}

impl Prepared {
    #[must_use]
    pub fn new(slots: usize, slot_bytes: usize, allocator: Option<&TensorAllocator>) -> Self {
        Self {
            pendings: Vec::with_capacity(slots),
            origins: Vec::with_capacity(slots),
            fits: Vec::with_capacity(slots),
            takers: Vec::new(),
            tensor: BatchTensor::within(allocator, slots, slot_bytes),
        }
    }

    fn clear(&mut self) {
        self.pendings.clear();
        self.origins.clear();
        self.fits.clear();
        self.takers.clear();
    }
}

/// Who decodes: the instance's own thread, or a pool that shares a batch's slots among its threads.
pub enum Decoders {
    Own(Box<dyn PictureDecoder>),
    Pool { threads: rayon::ThreadPool, decoders: Vec<Mutex<Box<dyn PictureDecoder>>> },
}

impl Decoders {
    #[must_use]
    pub fn own(factory: &dyn PictureDecoderFactory) -> Self {
        Self::Own(factory.open())
    }

    /// # Errors
    /// The threads could not be started.
    pub fn pool(
        factory: &dyn PictureDecoderFactory,
        threads: usize,
        name: &str,
        begin_thread: Begin,
    ) -> Result<Self, std::io::Error> {
        let name = name.to_owned();
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |index| format!("{name}-{index}"))
            .start_handler(move |_| begin_thread(Role::Compute))
            .build()
            .map_err(std::io::Error::other)?;
        let decoders = (0..threads.current_num_threads()).map(|_| Mutex::new(factory.open())).collect();
        Ok(Self::Pool { threads, decoders })
    }

    /// Fills `prepared` (whose earlier content is forgotten) from the batch; frames that cannot be decoded go to `failed`.
    ///
    /// `inputs` and `pendings` belong together and are emptied.
    pub fn prepare(
        &mut self,
        inputs: &mut Vec<Input>,
        pendings: &mut Vec<Pending>,
        prepared: &mut Prepared,
        failed: &mut Vec<Pending>,
    ) {
        prepared.clear();
        let mut filled = 0;
        let tensor = &mut prepared.tensor;
        match self {
            Self::Own(decoder) => {
                for (input, pending) in inputs.drain(..).zip(pendings.drain(..)) {
                    let fit = fill(decoder.as_mut(), &input, tensor.slot_mut(filled));
                    if keep(fit, pending, &mut prepared.pendings, &mut prepared.fits, failed) {
                        if let Input::Tensors(item) = input {
                            prepared.takers.push((filled, item));
                        }
                        filled += 1;
                    }
                }
            }
            Self::Pool { threads, decoders } => {
                let mut slots: Vec<&mut [u8]> = tensor.slots_mut().take(inputs.len()).collect();
                let fits: Vec<_> = match (&mut slots[..], &inputs[..]) {
                    // To be woken takes a pool's thread longer than some pictures take.
                    ([slot], [input]) => vec![fill(decoders[0].lock().as_mut(), input, slot)],
                    _ => threads.install(|| {
                        slots
                            .par_iter_mut()
                            .zip(inputs.par_iter())
                            .map(|(slot, input)| {
                                let mine = rayon::current_thread_index().unwrap_or(0) % decoders.len();
                                fill(decoders[mine].lock().as_mut(), input, slot)
                            })
                            .collect()
                    }),
                };
                for (slot, ((input, pending), fit)) in inputs.drain(..).zip(pendings.drain(..)).zip(fits).enumerate() {
                    if keep(fit, pending, &mut prepared.pendings, &mut prepared.fits, failed) {
                        if slot != filled {
                            tensor.move_slot(slot, filled);
                        }
                        if let Input::Tensors(item) = input {
                            prepared.takers.push((filled, item));
                        }
                        filled += 1;
                    }
                }
            }
        }
        prepared
            .origins
            .extend(prepared.pendings.iter().map(|p| Origin { camera: p.result.camera, sequence: p.result.sequence }));
    }
}

fn keep(
    fit: Result<Fit, PictureError>,
    mut pending: Pending,
    pendings: &mut Vec<Pending>,
    fits: &mut Vec<Fit>,
    failed: &mut Vec<Pending>,
) -> bool {
    match fit {
        Ok(fit) => {
            pending.result.size = fit.original;
            pendings.push(pending);
            fits.push(fit);
            true
        }
        Err(error) => {
            pending.fail(error.reason, Some(&error.message));
            failed.push(pending);
            false
        }
    }
}

fn fill(decoder: &mut dyn PictureDecoder, input: &Input, slot: &mut [u8]) -> Result<Fit, PictureError> {
    match input {
        Input::Picture(payload) => decode(decoder, payload, slot),
        // Its outputs are not mapped back to any picture.
        Input::Tensors(item) => item.fill(slot).map(|()| Fit::new(Size::default(), Size::default(), Resize::Stretch)),
    }
}

/// A decoder that panics on a picture costs that picture, not its batch.
fn decode(decoder: &mut dyn PictureDecoder, payload: &Payload, slot: &mut [u8]) -> Result<Fit, PictureError> {
    if let Payload::Unreadable(what) = payload {
        return Err(PictureError { reason: what.reason, message: what.message.clone() });
    }
    caught(|| decoder.decode(payload, slot)).unwrap_or_else(|_| {
        Err(PictureError {
            reason: DropReason::PictureCorrupt,
            message: "the picture decoder panicked on it".to_owned(),
        })
    })
}
