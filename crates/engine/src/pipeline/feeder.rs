//! `async` mode: a feeder thread takes batches from the desk, has them decoded ahead, and hands them over: to instance
//! threads, or to the asynchronous side, where a request in flight costs no thread.
//!
//! How many batches are out at the same time is bounded by [`Feed`]; nothing holds a lock around a batch.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use omma_frame::{DropReason, Mono};
use parking_lot::{Condvar, Mutex};

use super::instance::{Model, finish, prepare};
use super::shared::Shared;
use crate::batch::Handed;
use crate::infer::backend::{AsyncBackend, BackendError, OwnedBatch};
use crate::infer::direct::read_for;
use crate::infer::prepare::{Decoders, Prepared};
use crate::infer::run::{Collector, panicked};
use crate::infer::watch::WatchSlot;
use crate::lifecycle::Phase;
use crate::panics::caught;
use crate::post::OutputDecoder;

/// How long a thread sleeps before it looks at the phase again.
const SLEEP: Duration = Duration::from_millis(100);

/// The bounded way between a feeder and those who run its batches.
pub(super) struct Feed {
    out: Mutex<Out>,
    returned: Condvar,
    batches_max: usize,
    /// Batches out at the same time beyond which one more only waits: the instances, or the requests worth having.
    useful: usize,
    ready: (Sender<Prepared>, Receiver<Prepared>),
}

struct Out {
    batches: usize,
    /// When the last batch came back.
    returned_at: Mono,
    free: Vec<Prepared>,
}

impl Feed {
    pub(super) fn new(batches_max: usize, useful: usize) -> Self {
        let batches_max = batches_max.max(1);
        Self {
            out: Mutex::new(Out { batches: 0, returned_at: Mono(0), free: Vec::new() }),
            returned: Condvar::new(),
            batches_max,
            useful: useful.clamp(1, batches_max),
            ready: crossbeam_channel::bounded(batches_max),
        }
    }

    /// The next prepared batch for an instance; `None` when the engine has stopped.
    pub(super) fn next(&self, shared: &Shared) -> Option<Prepared> {
        loop {
            match self.ready.1.recv_timeout(SLEEP) {
                Ok(prepared) => return Some(prepared),
                Err(RecvTimeoutError::Timeout) if shared.lifecycle.phase() != Phase::Stopped => {}
                Err(_) => return None,
            }
        }
    }

    /// A batch has come back; its buffer is used again.
    pub(super) fn release(&self, prepared: Prepared, now: Mono) {
        self.release_room(Some(prepared), now);
    }

    /// A batch has come back, its buffer perhaps lost.
    pub(super) fn release_room(&self, prepared: Option<Prepared>, now: Mono) {
        let mut out = self.out.lock();
        out.batches = out.batches.saturating_sub(1);
        out.returned_at = now;
        out.free.extend(prepared);
        drop(out);
        self.returned.notify_one();
    }

    /// Waits for room for one more batch; `None` when the engine has stopped.
    fn acquire(&self, shared: &Shared, model: &Model) -> Option<Prepared> {
        let mut out = self.out.lock();
        while out.batches >= self.batches_max {
            if shared.lifecycle.phase() == Phase::Stopped {
                return None;
            }
            self.returned.wait_for(&mut out, SLEEP);
        }
        out.batches += 1;
        let free = out.free.pop();
        drop(out);
        Some(free.unwrap_or_else(|| model.prepared()))
    }

    /// Prepared batches that no instance has taken yet; whoever takes them settles them.
    pub(super) fn take_ready(&self) -> impl Iterator<Item = Prepared> + '_ {
        self.ready.1.try_iter()
    }

    /// Since when an instance has had nothing to do; `None` while all are busy. The batch being taken is not counted.
    fn idle_since(&self) -> Option<Mono> {
        let out = self.out.lock();
        (out.batches <= self.useful).then_some(out.returned_at)
    }

    /// `Some`: the instances take no more.
    fn hand_over(&self, prepared: Prepared) -> Option<Prepared> {
        // Never full: no more batches exist than it has room for.
        self.ready.0.try_send(prepared).err().map(crossbeam_channel::TrySendError::into_inner)
    }
}

/// The feeder's loop. `to` says where its batches go.
pub(super) fn run(shared: &Arc<Shared>, model: &Arc<Model>, feed: &Feed, mut decoders: Decoders, to: &To) {
    let (mut taken, mut expired) = (Vec::new(), Vec::new());
    while let Some(mut prepared) = feed.acquire(shared, model) {
        loop {
            match shared.desks[model.number].take(|| feed.idle_since(), None, &mut taken, &mut expired) {
                Handed::Closed => return,
                Handed::Nothing => continue,
                Handed::Work => prepare(shared, model, &mut decoders, &mut taken, &mut expired, &mut prepared),
            }
            if !prepared.pendings.is_empty() {
                break;
            }
        }
        match to {
            To::Instances => {
                if let Some(mut refused) = feed.hand_over(prepared) {
                    let pendings = std::mem::take(&mut refused.pendings);
                    shared.fail(pendings, DropReason::BackendFailed, "the instances take no more batches");
                    feed.release(refused, shared.clock.mono());
                }
            }
            To::Requests(requests) => requests.send(shared, model, prepared),
        }
    }
}

/// Where a feeder's batches go.
pub(super) enum To {
    Instances,
    Requests(Requests),
}

type Spare = (Box<dyn OutputDecoder>, Arc<WatchSlot>);

/// The asynchronous side of one model.
pub(super) struct Requests {
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) backend: Arc<dyn AsyncBackend>,
    /// Output decoders and watch slots that no request uses now.
    pub(super) spare: Arc<Mutex<Vec<Spare>>>,
}

impl Requests {
    /// Sends the batch on its way; what comes of it is handled where it ends.
    fn send(&self, shared: &Arc<Shared>, model: &Arc<Model>, mut prepared: Prepared) {
        let (shared, model) = (Arc::clone(shared), Arc::clone(model));
        let (backend, spare) = (Arc::clone(&self.backend), Arc::clone(&self.spare));
        let unused = spare.lock().pop();
        let (mut outputs, slot) = unused.unwrap_or_else(|| (model.outputs.open(), model.watched_slot()));
        // Held from here on, not from when the executor gets to it: a drain that is out of time must find it.
        let started = shared.clock.mono();
        for pending in &mut prepared.pendings {
            pending.result.timing.prepared = started;
        }
        slot.hold(started, std::mem::take(&mut prepared.pendings));
        self.runtime.spawn(async move {
            let returned = request(&shared, &model, backend.as_ref(), prepared, outputs.as_mut(), &slot, started).await;
            spare.lock().push((outputs, slot));
            if let Some(feed) = &model.feed {
                feed.release_room(returned, shared.clock.mono());
            }
            shared.desks[model.number].wake();
        });
    }
}

async fn request(
    shared: &Shared,
    model: &Model,
    backend: &dyn AsyncBackend,
    prepared: Prepared,
    outputs: &mut dyn OutputDecoder,
    slot: &WatchSlot,
    started: Mono,
) -> Option<Prepared> {
    let Prepared { pendings: _, origins, fits, mut takers, tensor } = prepared;
    let frames = origins.len();
    let batch =
        OwnedBatch { tensor, spec: Arc::clone(&model.spec), origins, parameters: Arc::clone(&model.parameters) };
    let mut read = read_for(&takers, |views, fit| outputs.decode(views, fit).map_err(|error| error.message));
    let mut collector = Collector::new(&mut read, &fits, model.info.batch);
    let answer = tokio::time::timeout(model.plan.deadline, guarded(|| backend.infer(batch, &mut collector))).await;
    let (batch, ended) = match answer {
        Ok(Ok((batch, ended))) => (Some(batch), ended),
        Ok(Err(said)) => (None, Err(panicked(&said))),
        Err(_) => {
            let message = format!("no answer within {} ms", model.plan.deadline.as_millis());
            let error = BackendError { reason: DropReason::DeadlineExceeded, message, reopen: false };
            (None, Err(error))
        }
    };
    let outcomes = collector.finish(ended.as_ref().err());
    if let Some(pendings) = slot.release() {
        finish(shared, model, pendings, outcomes, started, frames, ended.err().as_ref());
    }
    let OwnedBatch { tensor, mut origins, .. } = batch?;
    origins.clear();
    drop(read);
    takers.clear();
    Some(Prepared { pendings: Vec::new(), origins, fits, takers, tensor })
}

/// A request whose panic, when it is begun or while it is on its way, is an answer like any other: what it said.
async fn guarded<'a, T>(begin: impl FnOnce() -> Pin<Box<dyn Future<Output = T> + Send + 'a>>) -> Result<T, String> {
    let mut request = caught(begin)?;
    std::future::poll_fn(move |context| match caught(|| request.as_mut().poll(context)) {
        Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(said) => Poll::Ready(Err(said)),
    })
    .await
}
