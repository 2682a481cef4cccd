//! What the threads of one engine share: the desks, the buffers, the ways between stages, and the figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use omma_frame::{DropReason, FrameResult, Mono, Outcome, Payload, Settlement};
use parking_lot::{Condvar, Mutex};

use super::models::{Model, ModelState, ModelStore};
use super::order::Order;
use crate::batch::{Desk, Entry};
use crate::cameras::{Camera, Cameras};
use crate::clock::Clock;
use crate::infer::direct::{Exchange, Item, gather, regather};
use crate::infer::work::{Caller, Destination, Input, Pending, Work};
use crate::ledger::Ledger;
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::report::Reports;
use crate::sink::buffer::{Buffer, Delivery};
use crate::threads::Begin;

/// The control plane's view of an engine, and the engine's threads' common ground.
pub struct Shared {
    pub plan: Plan,
    pub clock: Arc<dyn Clock>,
    pub cameras: Arc<Cameras>,
    pub ledger: Arc<Ledger>,
    pub metrics: Metrics,
    pub reports: Reports,
    pub lifecycle: Lifecycle,
    /// Processor cores to plan threads for.
    pub(super) cores: usize,
    pub(super) served: Vec<Model>,
    /// Where other versions of models come from.
    pub(super) store: Option<Arc<dyn ModelStore>>,
    /// For models elsewhere; there once there is one.
    pub(super) runtime: Mutex<Option<tokio::runtime::Runtime>>,
    pub(super) begin_thread: Begin,
    pub(super) desks: Vec<Desk<Work>>,
    pub(super) buffers: Vec<SinkBuffer>,
    /// By model.
    pub(super) orders: Vec<Mutex<Order>>,
    pub(super) inboxes: Vec<Inbox>,
    /// Direct requests accepted and not yet answered.
    pub(super) direct: Arc<AtomicUsize>,
}

/// Settlements on their way back to one reader, which swaps the list out between polls.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) settlements: Mutex<Vec<Settlement>>,
    /// Frames that the reader has admitted and not yet seen settled; it alone writes.
    pub(super) in_flight: AtomicUsize,
    /// Another model is wanted for some of its cameras.
    pub(super) reassigned: AtomicBool,
    /// It has seen the drain begin and brings nothing more: from then on `in_flight` only falls.
    pub(super) quiet: AtomicBool,
    /// Its sources have all ended.
    pub(super) ended: AtomicBool,
}

/// A sink's buffer and its writer's bell.
pub(super) struct SinkBuffer {
    pub(super) buffer: Mutex<Buffer>,
    pub(super) filled: Condvar,
    /// Something was put in, and the bell not rung for it yet.
    pub(super) unheard: AtomicBool,
    /// What the writer is publishing; taken away from it when the engine stops waiting.
    pub(super) current: Mutex<Option<Publication>>,
}

/// A delivery in its sink's hands.
pub(super) struct Publication {
    pub(super) delivery: Arc<Delivery>,
    /// Results from its front that are published or, at the places in `refused`, never will be.
    pub(super) taken: usize,
    pub(super) refused: Vec<usize>,
    pub(super) since: Mono,
    /// Whether it has been said that the sink is stuck with it.
    pub(super) told: bool,
}

impl SinkBuffer {
    pub(super) fn new(frames_max: usize) -> Self {
        Self {
            buffer: Mutex::new(Buffer::new(frames_max)),
            filled: Condvar::new(),
            unheard: AtomicBool::new(false),
            current: Mutex::new(None),
        }
    }

    /// Wakes the writer if something was put in.
    fn ring(&self) {
        if self.unheard.load(Ordering::Acquire) && self.unheard.swap(false, Ordering::AcqRel) {
            self.filled.notify_one();
        }
    }
}

/// A caller that is counted until it has been answered or let go.
struct Counted {
    caller: Option<Box<dyn Caller>>,
    open: Arc<AtomicUsize>,
}

impl Counted {
    fn new(caller: Box<dyn Caller>, open: Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::AcqRel);
        Self { caller: Some(caller), open }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Caller for Counted {
    fn waits(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.waits())
    }

    fn answer(mut self: Box<Self>, result: FrameResult) {
        if let Some(caller) = self.caller.take() {
            caller.answer(result);
        }
    }
}

/// In a caller's place where there is none.
struct Gone;

impl Caller for Gone {
    fn waits(&self) -> bool {
        false
    }

    fn answer(self: Box<Self>, _result: FrameResult) {}
}

impl Shared {
    /// Sends settlements to the readers that own the frames' cameras.
    pub(super) fn settle(&self, settlements: &[Settlement], cameras: &[Arc<Camera>]) {
        if let [inbox] = self.inboxes.as_slice() {
            inbox.settlements.lock().extend_from_slice(settlements);
            return;
        }
        for (reader, inbox) in self.inboxes.iter().enumerate() {
            let owned = |s: &&Settlement| cameras[s.camera.slot()].shard as usize % self.inboxes.len() == reader;
            let mut owned = settlements.iter().filter(owned).peekable();
            if owned.peek().is_some() {
                inbox.settlements.lock().extend(owned);
            }
        }
    }

    /// Drops work that was never in a batch.
    pub(super) fn refuse(&self, works: &mut Vec<Work>, reason: DropReason, now: Mono) {
        if works.is_empty() {
            return;
        }
        let settlements: Vec<_> = works.drain(..).filter_map(|work| work.refuse(reason, now)).collect();
        self.settle(&settlements, &self.cameras.snapshot());
    }

    /// Sends the finished frames of one model's batch to whoever waits for them: callers are answered, cameras' frames are
    /// put in order.
    pub(super) fn finish(&self, mut pendings: Vec<Pending>) {
        if pendings.iter().any(|pending| matches!(pending.to, Destination::Caller(_))) {
            let mut frames = Vec::with_capacity(pendings.len());
            for pending in pendings {
                match pending.to {
                    Destination::Caller(caller) => caller.answer(pending.result),
                    Destination::Camera { .. } => frames.push(pending),
                }
            }
            pendings = frames;
        }
        let model = pendings.first().map(|pending| pending.result.served_by.model as usize);
        let Some(order) = model.and_then(|model| self.orders.get(model)) else { return };
        order.lock().take(self, pendings);
        // After the lock: a writer that is woken may take this thread's core.
        self.buffers.iter().for_each(SinkBuffer::ring);
    }

    /// Fails a whole batch by name.
    pub(super) fn fail(&self, mut pendings: Vec<Pending>, reason: DropReason, detail: &str) {
        for pending in &mut pendings {
            pending.fail(reason, Some(detail));
        }
        self.finish(pendings);
    }

    /// One sink is done with a delivery; the last one settles its frames.
    pub(super) fn delivered(&self, delivery: &Delivery, taken: usize, refused: &[usize], reason: DropReason) -> bool {
        if !delivery.done(taken, refused, reason) {
            return false;
        }
        let mut settlements = Vec::with_capacity(delivery.results.len());
        delivery.for_each(|result, failed| {
            let fate = match (failed, &result.outcome) {
                (Some(reason), _) | (None, &Outcome::Dropped { reason, .. }) => omma_frame::Fate::Dropped(reason),
                (None, Outcome::Inferred(_)) => omma_frame::Fate::Published,
            };
            settlements.push(Settlement {
                camera: result.camera,
                sequence: result.sequence,
                token: result.token,
                fate,
            });
        });
        self.settle(&settlements, &self.cameras.snapshot());
        true
    }

    /// The asynchronous side, which is started with the first model that needs it.
    pub(super) fn runtime(&self) -> Result<tokio::runtime::Handle, std::io::Error> {
        let mut runtime = self.runtime.lock();
        if runtime.is_none() {
            let built = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("omma-async")
                .enable_time()
                .build()?;
            *runtime = Some(built);
        }
        let there = runtime.as_ref().map(|runtime| runtime.handle().clone());
        there.ok_or_else(|| std::io::Error::other("no asynchronous runtime"))
    }

    /// Asks a model about one picture, ahead of the cameras' frames. The caller is answered exactly once.
    ///
    /// # Errors
    /// Too many direct requests wait, the engine does not run, the model is unloaded, or there is no such model: nobody
    /// will be answered.
    pub fn ask(&self, model: usize, payload: Payload, caller: Box<dyn Caller>) -> Result<(), Box<dyn Caller>> {
        self.bring(model, vec![Input::Picture(payload)], caller)
    }

    /// Asks a model about `items` prepared inputs, ahead of the cameras' frames. The caller is answered exactly once, when
    /// all of them are done, with [`omma_frame::Output::Nothing`]: the outputs have gone to `exchange`.
    ///
    /// # Errors
    /// As [`Shared::ask`].
    pub fn ask_tensors(
        &self,
        model: usize,
        items: usize,
        exchange: &Arc<dyn Exchange>,
        caller: Box<dyn Caller>,
    ) -> Result<(), Box<dyn Caller>> {
        let item = |number| Input::Tensors(Item { exchange: Arc::clone(exchange), number });
        self.bring(model, (0..items).map(item).collect(), caller)
    }

    fn bring(&self, model: usize, inputs: Vec<Input>, caller: Box<dyn Caller>) -> Result<(), Box<dyn Caller>> {
        // Counted before the phase is looked at, so that a drain that begins in between waits for this request.
        let caller: Box<dyn Caller> = Box::new(Counted::new(caller, Arc::clone(&self.direct)));
        let running = |_: &&Desk<Work>| self.lifecycle.phase() == Phase::Running;
        let Some(desk) = self.desks.get(model).filter(running).filter(|_| !inputs.is_empty()) else {
            return Err(caller);
        };
        let received_at = self.clock.mono();
        let callers = gather(caller, inputs.len());
        let works = inputs.into_iter().zip(callers).map(|(input, caller)| Entry {
            arrived: received_at,
            expires: None,
            // Requests have a budget of their own, from their first byte on.
            bytes: 0,
            item: Work::Direct { input, received_at, caller },
        });
        desk.push_direct(works.collect()).map_err(|works| {
            let callers = works.into_iter().filter_map(|work| match work {
                Work::Direct { caller, .. } => Some(caller),
                Work::Frame(_) => None,
            });
            regather(callers.collect()).unwrap_or_else(|| Box::new(Gone))
        })
    }

    /// Direct requests accepted and not yet answered.
    #[must_use]
    pub fn direct_in_flight(&self) -> usize {
        self.direct.load(Ordering::Acquire)
    }

    /// Frames between their reader and their settlement, all readers together.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inboxes.iter().map(|inbox| inbox.in_flight.load(Ordering::Acquire)).sum()
    }

    /// Whether anything is still on its way, or may yet be brought by a reader that has not seen the drain begin.
    pub(super) fn busy(&self) -> bool {
        let quiet = self.inboxes.iter().all(|inbox| inbox.quiet.load(Ordering::Acquire));
        !quiet || self.in_flight() > 0 || self.direct_in_flight() > 0
    }

    /// Whether every source has ended and every frame is settled.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.inboxes.iter().all(|inbox| inbox.ended.load(Ordering::Acquire)) && self.in_flight() == 0
    }

    /// Frames that wait for a batch of this model.
    #[must_use]
    pub fn waiting(&self, model: usize) -> usize {
        self.desks.get(model).map_or(0, Desk::waiting)
    }

    /// Whether frames can be served: running, and every model that is not unloaded on purpose has an instance.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.lifecycle.phase() == Phase::Running
            && self.served.iter().zip(&self.metrics.models).all(|(model, counters)| {
                counters.instances_running.load(Ordering::Relaxed) > 0 || model.state() == ModelState::Unloaded
            })
    }
}
