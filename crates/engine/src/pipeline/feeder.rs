//! `async` mode: a feeder thread takes batches from the desk, has them decoded ahead, and hands them over: to instance
//! threads, or to the asynchronous side, where a request in flight costs no thread.
//!
//! How many batches are out at the same time is bounded by the [`Feed`]; nothing holds a lock around a batch.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use omma_frame::{DropReason, Mono};
use parking_lot::Mutex;

use super::feed::Feed;
use super::instance::{empty_pictures, finish, prepare, warmed_up};
use super::shared::Shared;
use super::version::Version;
use crate::batch::Handed;
use crate::infer::backend::{AsyncBackend, BackendError, OwnedBatch};
use crate::infer::direct::read_for;
use crate::infer::prepare::{Decoders, Prepared};
use crate::infer::run::{Collector, panicked};
use crate::infer::watch::WatchSlot;
use crate::panics::caught;
use crate::picture::Fit;
use crate::post::OutputDecoder;
use crate::tensor::TensorView;

/// What an answer to a warm-up is waited for beyond the deadline.
const SLEEP: Duration = Duration::from_millis(100);

/// The feeder's loop. `to` says where its batches go.
pub(super) fn run(shared: &Arc<Shared>, version: &Arc<Version>, feed: &Feed, mut decoders: Decoders, to: &To) {
    let (mut taken, mut expired) = (Vec::new(), Vec::new());
    let desk = &shared.desks[version.model];
    loop {
        match desk.take(version.term, || feed.seat(version.requests_max()), None, &mut taken, &mut expired) {
            Handed::Closed | Handed::Retired => return,
            Handed::Nothing => continue,
            Handed::Work => {}
        }
        let mut prepared = feed.begin(|| version.prepared());
        prepare(shared, version, &mut decoders, &mut taken, &mut expired, &mut prepared);
        if prepared.pendings.is_empty() {
            feed.withdraw(prepared);
            continue;
        }
        match to {
            To::Instances => {
                if let Some(mut refused) = feed.hand_over(prepared) {
                    let pendings = std::mem::take(&mut refused.pendings);
                    shared.fail(pendings, DropReason::BackendFailed, "the instances take no more batches");
                    feed.release(Some(refused), shared.clock.mono());
                }
            }
            To::Requests(requests) => requests.send(shared, version, prepared),
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
    /// Asks once with empty pictures, as instances are warmed up; blocks until the answer.
    ///
    /// # Errors
    /// No answer, or one that cannot be read.
    pub(super) fn warm_up(&self, warmed: &Arc<Version>) -> Result<(), BackendError> {
        let (done, answered) = std::sync::mpsc::sync_channel(1);
        for _ in 0..warmed.plan.warmup_batches {
            let (version, backend, done) = (Arc::clone(warmed), Arc::clone(&self.backend), done.clone());
            self.runtime.spawn(async move {
                let (origins, fits) = empty_pictures(&version);
                let tensor = version.prepared().tensor;
                let (spec, parameters) = (Arc::clone(&version.spec), Arc::clone(&version.parameters));
                let batch = OwnedBatch { tensor, spec, origins, parameters };
                let mut outputs = version.outputs.open();
                let mut read = |_: usize, views: &[TensorView<'_>], fit: &Fit| {
                    outputs.decode(views, fit).map_err(|error| error.message)
                };
                let mut collector = Collector::new(&mut read, &fits, version.info.batch);
                let answer =
                    tokio::time::timeout(version.plan.deadline, guarded(|| backend.infer(batch, &mut collector)));
                let ended = match answer.await {
                    Ok(Ok((_, ended))) => ended,
                    Ok(Err(said)) => Err(panicked(&said)),
                    Err(_) => Err(BackendError::batch(unanswered(&version))),
                };
                let _ = done.try_send(warmed_up(collector.finish(ended.as_ref().err()), ended.err()));
            });
            let wait = warmed.plan.deadline + SLEEP;
            answered.recv_timeout(wait).unwrap_or_else(|_| Err(BackendError::batch(unanswered(warmed))))?;
        }
        Ok(())
    }

    /// Sends the batch on its way; what comes of it is handled where it ends.
    fn send(&self, shared: &Arc<Shared>, version: &Arc<Version>, mut prepared: Prepared) {
        let (shared, version) = (Arc::clone(shared), Arc::clone(version));
        let (backend, spare) = (Arc::clone(&self.backend), Arc::clone(&self.spare));
        let unused = spare.lock().pop();
        let (mut outputs, slot) = unused.unwrap_or_else(|| (version.outputs.open(), version.watched_slot()));
        // Held from here on, not from when the executor gets to it: a drain that is out of time must find it.
        let started = shared.clock.mono();
        for pending in &mut prepared.pendings {
            pending.result.timing.prepared = started;
        }
        slot.hold(started, std::mem::take(&mut prepared.pendings));
        if let Some(feed) = &version.feed {
            feed.sent(started, prepared.origins.len());
        }
        self.runtime.spawn(async move {
            let (returned, well) =
                request(&shared, &version, backend.as_ref(), prepared, outputs.as_mut(), &slot, started).await;
            spare.lock().push((outputs, slot));
            if let Some(feed) = &version.feed {
                let now = shared.clock.mono();
                feed.ended(started, now, well);
                feed.release(returned, now);
            }
            shared.desks[version.model].wake();
        });
    }
}

fn unanswered(version: &Version) -> String {
    format!("no answer within {} ms", version.plan.deadline.as_millis())
}

/// Its buffer comes back unless it is lost, and whether it was answered.
async fn request(
    shared: &Shared,
    version: &Version,
    backend: &dyn AsyncBackend,
    prepared: Prepared,
    outputs: &mut dyn OutputDecoder,
    slot: &WatchSlot,
    started: Mono,
) -> (Option<Prepared>, bool) {
    let Prepared { pendings: _, origins, fits, mut takers, tensor } = prepared;
    let frames = origins.len();
    let batch =
        OwnedBatch { tensor, spec: Arc::clone(&version.spec), origins, parameters: Arc::clone(&version.parameters) };
    let mut read = read_for(&takers, |views, fit| outputs.decode(views, fit).map_err(|error| error.message));
    let mut collector = Collector::new(&mut read, &fits, version.info.batch);
    let answer = tokio::time::timeout(version.plan.deadline, guarded(|| backend.infer(batch, &mut collector))).await;
    let (batch, ended) = match answer {
        Ok(Ok((batch, ended))) => (Some(batch), ended),
        Ok(Err(said)) => (None, Err(panicked(&said))),
        Err(_) => {
            let message = unanswered(version);
            let error = BackendError { reason: DropReason::DeadlineExceeded, message, reopen: false };
            (None, Err(error))
        }
    };
    let outcomes = collector.finish(ended.as_ref().err());
    let well = ended.is_ok();
    if let Some(pendings) = slot.release() {
        finish(shared, version, pendings, outcomes, started, frames, ended.err().as_ref());
    }
    let Some(OwnedBatch { tensor, mut origins, .. }) = batch else { return (None, well) };
    origins.clear();
    drop(read);
    takers.clear();
    (Some(Prepared { pendings: Vec::new(), origins, fits, takers, tensor }), well)
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
