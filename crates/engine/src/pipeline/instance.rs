//! A model's instance: one thread that owns one running copy, and in `sync` mode decodes for it as well.
//!
//! `sync`: take, decode, run, read out, hand on; no other thread in the way. `async`: the feeder decodes ahead and this
//! thread only runs. Either way the batch lies in a [`WatchSlot`] while it is in the model.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use omma_frame::{DropReason, Outcome};
use parking_lot::Mutex;

use super::feeder::Feed;
use super::shared::Shared;
use crate::batch::{Handed, Taken};
use crate::infer::backend::{Backend, BackendError, BatchInput, ModelInfo, Opener, Origin};
use crate::infer::direct::read_for;
use crate::infer::mode::Chosen;
use crate::infer::prepare::{Decoders, Prepared};
use crate::infer::run;
use crate::infer::watch::WatchSlot;
use crate::infer::work::{NO_CAMERA, Work};
use crate::lifecycle::Phase;
use crate::panics::caught;
use crate::picture::{Fit, PictureDecoderFactory, PictureSpec};
use crate::plan::ModelPlan;
use crate::post::{OutputDecoder, OutputDecoderFactory};
use crate::report::{Level, Message};
use crate::tensor::TensorAllocator;

/// Pauses between attempts to open a broken instance again.
const REOPEN_PAUSE_MIN: Duration = Duration::from_millis(100);
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What all instances of one model share.
pub(super) struct Model {
    pub(super) number: usize,
    pub(super) plan: ModelPlan,
    pub(super) info: ModelInfo,
    pub(super) opener: Opener,
    pub(super) memory: Option<TensorAllocator>,
    pub(super) messages: Option<Receiver<Message>>,
    pub(super) pictures: Arc<dyn PictureDecoderFactory>,
    pub(super) outputs: Arc<dyn OutputDecoderFactory>,
    pub(super) spec: Arc<PictureSpec>,
    pub(super) parameters: Arc<[(String, String)]>,
    pub(super) chosen: Chosen,
    /// `async` mode: how prepared batches come from the feeder.
    pub(super) feed: Option<Feed>,
    /// What is in the model right now, for the watch.
    pub(super) slots: Mutex<Vec<Arc<WatchSlot>>>,
}

impl Model {
    /// Batches to come up with room for: the most that the batcher hands out, or what a fixed batch needs.
    pub(super) fn slots_per_batch(&self) -> usize {
        match self.info.batch {
            crate::infer::backend::BatchLimit::Exactly(count) => count.max(self.chosen.batch.size_max),
            crate::infer::backend::BatchLimit::UpTo(_) => self.chosen.batch.size_max,
        }
    }

    pub(super) fn prepared(&self) -> Prepared {
        Prepared::new(self.slots_per_batch(), self.spec.slot_bytes(), self.memory.as_ref())
    }

    pub(super) fn watched_slot(&self) -> Arc<WatchSlot> {
        let slot = Arc::new(WatchSlot::default());
        self.slots.lock().push(Arc::clone(&slot));
        slot
    }
}

pub(super) struct Instance {
    shared: Arc<Shared>,
    model: Arc<Model>,
    number: usize,
    slot: Arc<WatchSlot>,
    backend: Box<dyn Backend>,
    outputs: Box<dyn OutputDecoder>,
}

/// The thread's body. `started` hears whether the instance is ready, if somebody waits for it.
pub(super) fn run_thread(
    shared: Arc<Shared>,
    model: Arc<Model>,
    number: usize,
    started: Option<Sender<Result<(), String>>>,
) {
    let running = &shared.metrics.models[model.number].instances_running;
    let opened = open(&model, number);
    if let Some(started) = started {
        // Whoever waits may have left because another instance failed; then the phase says so.
        let _ = started.send(opened.as_ref().map(|_| ()).map_err(ToString::to_string));
        if opened.is_err() {
            return;
        }
    }
    let backend = match opened {
        Ok(backend) => backend,
        Err(error) => {
            report(&shared, &model, "open", &error);
            match reopen(&shared, &model, number) {
                Some(backend) => backend,
                None => return,
            }
        }
    };
    running.fetch_add(1, Ordering::Relaxed);
    let slot = model.watched_slot();
    let outputs = model.outputs.open();
    let mut instance =
        Instance { shared: Arc::clone(&shared), model: Arc::clone(&model), number, slot, backend, outputs };
    match &model.feed {
        Some(feed) => instance.run_fed(feed),
        None => instance.run_alone(),
    }
    if !instance.slot.abandoned() {
        running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Instance {
    /// `sync`: this thread does everything.
    fn run_alone(&mut self) {
        let (shared, model) = (Arc::clone(&self.shared), Arc::clone(&self.model));
        let mut decoders = Decoders::own(model.pictures.as_ref());
        let mut prepared = model.prepared();
        let (mut taken, mut expired) = (Vec::new(), Vec::new());
        loop {
            let idle_since = shared.clock.mono();
            match shared.desks[model.number].take(|| Some(idle_since), None, &mut taken, &mut expired) {
                Handed::Closed => return,
                Handed::Nothing => continue,
                Handed::Work => {}
            }
            prepare(&shared, &model, &mut decoders, &mut taken, &mut expired, &mut prepared);
            if !prepared.pendings.is_empty() && !self.execute(&mut prepared) {
                return;
            }
        }
    }

    /// `async`: prepared batches come from the feeder.
    fn run_fed(&mut self, feed: &Feed) {
        while let Some(mut prepared) = feed.next(&self.shared) {
            let goes_on = self.execute(&mut prepared);
            if self.slot.abandoned() {
                // The watch has given this batch's place back already.
                return;
            }
            feed.release(prepared, self.shared.clock.mono());
            self.shared.desks[self.model.number].wake();
            if !goes_on {
                return;
            }
        }
    }

    /// Runs the batch and hands on its results. `false`: this instance has been given up or cannot be mended.
    fn execute(&mut self, prepared: &mut Prepared) -> bool {
        let started = self.shared.clock.mono();
        let frames = prepared.pendings.len();
        for pending in &mut prepared.pendings {
            pending.result.timing.prepared = started;
        }
        self.slot.hold(started, std::mem::take(&mut prepared.pendings));
        let input = BatchInput {
            tensor: &prepared.tensor,
            spec: &self.model.spec,
            origins: &prepared.origins,
            parameters: &self.model.parameters,
        };
        let outputs = &mut self.outputs;
        let mut read =
            read_for(&prepared.takers, |views, fit| outputs.decode(views, fit).map_err(|error| error.message));
        let (outcomes, error) =
            run::run(self.backend.as_mut(), input, &prepared.fits, self.model.info.batch, &mut read);
        let Some(pendings) = self.slot.release() else { return false };
        finish(&self.shared, &self.model, pendings, outcomes, started, frames, error.as_ref());
        match error {
            Some(error) if error.reopen => {
                let running = &self.shared.metrics.models[self.model.number].instances_running;
                running.fetch_sub(1, Ordering::Relaxed);
                let backend = reopen(&self.shared, &self.model, self.number);
                running.fetch_add(1, Ordering::Relaxed);
                match backend {
                    Some(backend) => self.backend = backend,
                    None => return false,
                }
                true
            }
            _ => true,
        }
    }
}

/// Gives each frame its outcome, counts the batch and sends it on.
pub(super) fn finish(
    shared: &Shared,
    model: &Model,
    mut pendings: Vec<crate::infer::work::Pending>,
    outcomes: Vec<Outcome>,
    started: omma_frame::Mono,
    frames: usize,
    error: Option<&BackendError>,
) {
    let ended = shared.clock.mono();
    for (pending, outcome) in pendings.iter_mut().zip(outcomes) {
        pending.result.timing.inferred = ended;
        pending.result.outcome = outcome;
    }
    let counters = &shared.metrics.models[model.number];
    counters.batches.fetch_add(1, Ordering::Relaxed);
    counters.frames.fetch_add(frames as u64, Ordering::Relaxed);
    counters.busy_ns.fetch_add(ended.0 - started.0, Ordering::Relaxed);
    shared.desks[model.number].observe(ended.since(started));
    if let Some(error) = error {
        counters.failed_batches.fetch_add(1, Ordering::Relaxed);
        report(shared, model, "batch", error);
    } else if let Some((reason, detail)) = pendings.iter().find_map(|pending| match &pending.result.outcome {
        Outcome::Dropped { reason, detail } => Some((*reason, detail.as_deref().unwrap_or_default())),
        Outcome::Inferred(_) => None,
    }) {
        let subject = format!("model {}", model.plan.name);
        shared.reports.say(Level::Error, &subject, reason.name(), || format!("{}: {detail}", reason.name()));
    }
    shared.finish(pendings);
}

/// Turns what was taken from the desk into a prepared batch; what cannot be in it is settled here.
pub(super) fn prepare(
    shared: &Shared,
    model: &Model,
    decoders: &mut Decoders,
    taken: &mut Vec<Taken<Work>>,
    expired: &mut Vec<Work>,
    prepared: &mut Prepared,
) {
    let now = shared.clock.mono();
    shared.refuse(expired, DropReason::Stale, now);
    let (mut inputs, mut pendings) = (Vec::with_capacity(taken.len()), Vec::with_capacity(taken.len()));
    for Taken { item, ordinal } in taken.drain(..) {
        if matches!(&item, Work::Direct { caller, .. } if !caller.waits()) {
            continue;
        }
        let (input, pending) = item.begin(ordinal, now);
        inputs.push(input);
        pendings.push(pending);
    }
    let mut failed = Vec::new();
    decoders.prepare(&mut inputs, &mut pendings, prepared, &mut failed);
    let spent = shared.clock.mono().since(now);
    let spent = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
    shared.metrics.models[model.number].prepare_ns.fetch_add(spent, Ordering::Relaxed);
    if !failed.is_empty() {
        let table = shared.cameras.snapshot();
        for pending in &failed {
            if let (Some(camera), Outcome::Dropped { reason, detail }) =
                (table.get(pending.result.camera.slot()), &pending.result.outcome)
            {
                let subject = format!("camera {}", camera.plan.id);
                shared.reports.say(Level::Warning, &subject, reason.name(), || {
                    format!("frame {}: {}", pending.result.sequence, detail.as_deref().unwrap_or(reason.name()))
                });
            }
        }
        shared.finish(failed);
    }
}

fn report(shared: &Shared, model: &Model, kind: &'static str, error: &BackendError) {
    let subject = format!("model {}", model.plan.name);
    shared.reports.say(Level::Error, &subject, kind, || format!("{}: {error}", error.reason.name()));
}

/// Opens an instance and runs the warm-up on it; a panic on the way is an error like any other.
fn open(model: &Model, number: usize) -> Result<Box<dyn Backend>, BackendError> {
    let opened = caught(|| match &model.opener {
        Opener::Blocking(open) => open(number),
        Opener::Async(_) => Err(BackendError::batch("this backend has no instances")),
    });
    let mut backend = opened.map_err(|said| run::panicked(&format!("while it was opened, {said}")))??;
    if model.plan.warmup_batches > 0 {
        warm_up(model, backend.as_mut())?;
    }
    Ok(backend)
}

fn warm_up(model: &Model, backend: &mut dyn Backend) -> Result<(), BackendError> {
    let prepared = model.prepared();
    let origin = Origin { camera: NO_CAMERA, sequence: 0 };
    let origins = vec![origin; model.chosen.batch.size.min(model.slots_per_batch())];
    let fits = vec![Fit::new(model.spec.size, model.spec.size, model.spec.resize); origins.len()];
    let input =
        BatchInput { tensor: &prepared.tensor, spec: &model.spec, origins: &origins, parameters: &model.parameters };
    for _ in 0..model.plan.warmup_batches {
        // Only whether the model runs: an empty picture's outputs mean nothing.
        let mut ignore = |_: usize, _: &[crate::tensor::TensorView<'_>], _: &Fit| Ok(omma_frame::Output::Nothing);
        let (outcomes, error) = run::run(backend, input, &fits, model.info.batch, &mut ignore);
        let refused = outcomes.into_iter().find_map(|outcome| match outcome {
            Outcome::Dropped { detail, .. } => Some(detail.unwrap_or_default().into_string()),
            Outcome::Inferred(_) => None,
        });
        if let Some(message) = error.map(|error| error.message).or(refused) {
            return Err(BackendError::batch(format!("the warm-up batch failed: {message}")));
        }
    }
    Ok(())
}

/// Opens a broken instance again, until it works or the engine stops.
fn reopen(shared: &Shared, model: &Model, number: usize) -> Option<Box<dyn Backend>> {
    let mut pause = REOPEN_PAUSE_MIN;
    loop {
        match open(model, number) {
            Ok(backend) => {
                shared.metrics.models[model.number].instances_reopened.fetch_add(1, Ordering::Relaxed);
                return Some(backend);
            }
            Err(error) => report(shared, model, "reopen", &error),
        }
        let mut left = pause;
        while !left.is_zero() {
            // Until the very end: frames that wait for it are given up when the drain's time is over, not before.
            if shared.lifecycle.phase() == Phase::Stopped {
                return None;
            }
            let slice = left.min(REOPEN_PAUSE_MIN);
            std::thread::sleep(slice);
            left -= slice;
        }
        pause = (pause * 2).min(REOPEN_PAUSE_MAX);
    }
}
