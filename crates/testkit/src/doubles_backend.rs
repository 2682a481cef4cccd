//! Backends that obey their pictures ([`crate::doubles_picture`]) and a script of what each batch and each opening
//! comes to: blocking ones, and asynchronous ones whose requests are answered when the test says so.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use omma_engine::infer::backend::{
    Answer, AsyncBackend, Backend, BackendError, BatchInput, BatchLimit, Device, LoadedModel, ModelInfo, Opener,
    OwnedBatch, Reply,
};
use omma_engine::tensor::{TensorView, Values};
use parking_lot::{Condvar, Mutex};

use crate::doubles_picture::PICTURE_BYTES;

/// The longest that anything hangs, so that no thread outlives its test by much.
const HANG_MAX: Duration = Duration::from_secs(30);

/// A gate that batches wait at until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<GateState>);

#[derive(Default)]
struct GateState {
    open: Mutex<(bool, Vec<Waker>)>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    pub fn open(&self) {
        let wakers = {
            let mut open = self.0.open.lock();
            open.0 = true;
            std::mem::take(&mut open.1)
        };
        self.0.opened.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// From now on who comes waits again.
    pub fn close(&self) {
        self.0.open.lock().0 = false;
    }

    /// How many wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::SeqCst)
    }

    fn pass(&self) {
        let mut open = self.0.open.lock();
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        while !open.0 && !self.0.opened.wait_for(&mut open, HANG_MAX).timed_out() {}
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Passing {
    gate: Gate,
    counted: bool,
}

impl Future for Passing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.counted {
            self.counted = true;
            self.gate.0.waiting.fetch_add(1, Ordering::SeqCst);
        }
        let mut open = self.gate.0.open.lock();
        if open.0 {
            return Poll::Ready(());
        }
        open.1.push(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if self.counted {
            self.gate.0.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// What becomes of a batch.
#[derive(Clone)]
pub enum Turn {
    Answer,
    /// Answers once the gate is open.
    Wait(Gate),
    Fail,
    /// Fails, and says that the instance is broken.
    Break,
    Panic,
    /// Gives one output too many or too few.
    Count(isize),
    /// Succeeds without outputs.
    Silence,
    /// Claims a shape whose product no number can hold.
    Absurd,
}

/// What an opening comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    Fine,
    Fail,
    Panic,
}

type Script = dyn Fn(u64) -> Turn + Send + Sync;

/// A model under script, and what the test may ask about it.
pub struct Model {
    turn: Box<Script>,
    opening: Box<dyn Fn(u64) -> Opening + Send + Sync>,
    batches: AtomicU64,
    opened: AtomicU64,
    frames: AtomicU64,
    in_flight: AtomicUsize,
    in_flight_most: AtomicUsize,
    batch_most: AtomicUsize,
}

impl Model {
    /// `turn` says what becomes of each batch, numbered from 0 in the order in which they reach any instance, warm-up
    /// batches included.
    #[must_use]
    pub fn new(turn: impl Fn(u64) -> Turn + Send + Sync + 'static) -> Arc<Self> {
        Self::opening(turn, |_| Opening::Fine)
    }

    /// `opening` says what becomes of each opening, numbered from 0.
    #[must_use]
    pub fn opening(
        turn: impl Fn(u64) -> Turn + Send + Sync + 'static,
        opening: impl Fn(u64) -> Opening + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            turn: Box::new(turn),
            opening: Box::new(opening),
            batches: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            in_flight_most: AtomicUsize::new(0),
            batch_most: AtomicUsize::new(0),
        })
    }

    /// Batches begun so far, warm-up included.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::SeqCst)
    }

    /// Frames in them.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn openings(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }

    /// The most batches that were in the model at the same time.
    #[must_use]
    pub fn in_flight_most(&self) -> usize {
        self.in_flight_most.load(Ordering::SeqCst)
    }

    /// The largest batch.
    #[must_use]
    pub fn batch_most(&self) -> usize {
        self.batch_most.load(Ordering::SeqCst)
    }

    fn begin(&self, frames: usize) -> Turn {
        let number = self.batches.fetch_add(1, Ordering::SeqCst);
        self.frames.fetch_add(frames as u64, Ordering::SeqCst);
        self.batch_most.fetch_max(frames, Ordering::SeqCst);
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.in_flight_most.fetch_max(now, Ordering::SeqCst);
        (self.turn)(number)
    }

    fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// As a blocking model that computes on `device`.
    #[must_use]
    pub fn blocking(self: &Arc<Self>, device: Device) -> LoadedModel {
        let model = Arc::clone(self);
        let open = move |_| -> Result<Box<dyn Backend>, BackendError> {
            match (model.opening)(model.opened.fetch_add(1, Ordering::SeqCst)) {
                Opening::Fine => Ok(Box::new(Instance(Arc::clone(&model)))),
                Opening::Fail => Err(BackendError::batch("no such file: model.onnx")),
                Opening::Panic => panic!("told to panic while opening"),
            }
        };
        LoadedModel::new(info(), device, Opener::Blocking(Box::new(open)))
    }

    /// As a model in another process.
    #[must_use]
    pub fn remote(self: &Arc<Self>) -> LoadedModel {
        LoadedModel::new(info(), Device::Remote, Opener::Async(Arc::new(Remote(Arc::clone(self)))))
    }
}

fn info() -> ModelInfo {
    ModelInfo { runtime: "double".into(), inputs: vec![], outputs: vec![], batch: BatchLimit::UpTo(usize::MAX) }
}

/// Counts a batch out of the model however it ends.
struct Inside<'a>(&'a Model);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Instance(Arc<Model>);

impl Backend for Instance {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        let turn = self.0.begin(batch.len());
        let _inside = Inside(&self.0);
        if let Turn::Wait(gate) = &turn {
            gate.pass();
        }
        answer(&turn, batch, reply)
    }
}

struct Remote(Arc<Model>);

impl AsyncBackend for Remote {
    fn infer<'a>(&'a self, batch: OwnedBatch, reply: &'a mut (dyn Reply + Send)) -> Answer<'a> {
        Box::pin(async move {
            let turn = self.0.begin(batch.origins.len());
            let _inside = Inside(&self.0);
            if let Turn::Wait(gate) = &turn {
                Passing { gate: gate.clone(), counted: false }.await;
            }
            let answered = answer(&turn, batch.input(), reply);
            (batch, answered)
        })
    }
}

fn answer(turn: &Turn, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
    let extra = match turn {
        Turn::Answer | Turn::Wait(_) => 0,
        Turn::Count(extra) => *extra,
        Turn::Fail => return Err(BackendError::batch("out of memory")),
        Turn::Break => return Err(BackendError { reopen: true, ..BackendError::batch("device lost") }),
        Turn::Panic => panic!("told to panic on a batch"),
        Turn::Silence => return Ok(()),
        Turn::Absurd => {
            let shape = [batch.len(), usize::MAX, usize::MAX];
            reply.outputs(&[TensorView { name: "out", shape: &shape, values: Values::I64(&[]) }]);
            return Ok(());
        }
    };
    let mut outputs: Vec<i64> = Vec::with_capacity(batch.len() * 2);
    for (index, picture) in batch.tensor.bytes(batch.len()).chunks_exact(PICTURE_BYTES).enumerate() {
        match picture[1] {
            0 => {}
            1 => reply.fail(index, "the model refuses this picture"),
            2 => return Err(BackendError::batch("one picture fails the batch")),
            _ => panic!("told to panic by a picture"),
        }
        let value = u32::from_le_bytes([picture[4], picture[5], picture[6], picture[7]]);
        outputs.extend([i64::from(picture[2]), i64::from(value)]);
    }
    let count = batch.len().saturating_add_signed(extra);
    outputs.resize(count * 2, 0);
    reply.outputs(&[TensorView { name: "out", shape: &[count, 2], values: Values::I64(&outputs) }]);
    Ok(())
}
