//! A model's instance: one thread that owns one running copy, and in `sync` mode decodes for it as well.
//!
//! `sync`: take, decode, run, read out, hand on; no other thread in the way. `async`: the feeder decodes ahead and this
//! thread only runs. Either way the batch lies in a [`WatchSlot`] while it is in the model.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Sender;
use omma_frame::{DropReason, Outcome};

use super::feed::Feed;
use super::shared::Shared;
use super::version::Version;
use crate::batch::{Handed, Seat, Taken};
use crate::infer::backend::{Backend, BackendError, BatchInput, Opener, Origin};
use crate::infer::direct::read_for;
use crate::infer::prepare::{Decoders, Prepared};
use crate::infer::run;
use crate::infer::watch::WatchSlot;
use crate::infer::work::{NO_CAMERA, Work};
use crate::lifecycle::Phase;
use crate::panics::caught;
use crate::picture::Fit;
use crate::post::OutputDecoder;
use crate::report::Level;

/// Pauses between attempts to open a broken instance again.
const REOPEN_PAUSE_MIN: Duration = Duration::from_millis(100);
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(5);

pub(super) struct Instance {
    shared: Arc<Shared>,
    version: Arc<Version>,
    number: usize,
    slot: Arc<WatchSlot>,
    backend: Box<dyn Backend>,
    outputs: Box<dyn OutputDecoder>,
}

/// The thread's body. `started` hears whether the instance is ready, if somebody waits for it; the instance then waits
/// for its version to be let in.
pub(super) fn run_thread(
    shared: Arc<Shared>,
    version: Arc<Version>,
    number: usize,
    started: Option<Sender<Result<(), String>>>,
) {
    let running = &shared.metrics.models[version.model].instances_running;
    let first = started.is_some();
    let opened = open(&version, number);
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
            report(&shared, &version, "open", &error);
            match reopen(&shared, &version, number) {
                Some(backend) => backend,
                None => return,
            }
        }
    };
    let slot = version.watched_slot();
    let outputs = version.outputs.open();
    if !first {
        running.fetch_add(1, Ordering::Relaxed);
    } else if !version.let_in() {
        return;
    }
    let mut instance =
        Instance { shared: Arc::clone(&shared), version: Arc::clone(&version), number, slot, backend, outputs };
    match &version.feed {
        Some(feed) => instance.run_fed(feed),
        None => instance.run_alone(),
    }
    if instance.slot.abandoned() {
        // It has returned after all.
        version.hanging.fetch_sub(1, Ordering::AcqRel);
        shared.served[version.model].hanging.fetch_sub(1, Ordering::AcqRel);
    } else {
        running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Instance {
    /// `sync`: this thread does everything.
    fn run_alone(&mut self) {
        let (shared, version) = (Arc::clone(&self.shared), Arc::clone(&self.version));
        let desk = &shared.desks[version.model];
        let mut decoders = Decoders::own(version.pictures.as_ref());
        let mut prepared = version.prepared();
        let (mut taken, mut expired) = (Vec::new(), Vec::new());
        loop {
            let idle_since = shared.clock.mono();
            match desk.take(version.term, || Seat::Idle(idle_since), None, &mut taken, &mut expired) {
                Handed::Closed | Handed::Retired => return,
                Handed::Nothing => continue,
                Handed::Work => {}
            }
            prepare(&shared, &version, &mut decoders, &mut taken, &mut expired, &mut prepared);
            if !prepared.pendings.is_empty() && !self.execute(&mut prepared) {
                return;
            }
        }
    }

    /// `async`: prepared batches come from the feeder.
    fn run_fed(&mut self, feed: &Feed) {
        let shared = Arc::clone(&self.shared);
        let stopped = || shared.lifecycle.phase() == Phase::Stopped;
        while let Some(mut prepared) = feed.next(stopped) {
            let goes_on = self.execute(&mut prepared);
            if self.slot.abandoned() {
                // The watch has given this batch's place back already.
                return;
            }
            feed.release(Some(prepared), self.shared.clock.mono());
            self.shared.desks[self.version.model].wake();
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
            spec: &self.version.spec,
            origins: &prepared.origins,
            parameters: &self.version.parameters,
        };
        let (outcomes, error) = {
            let outputs = &mut self.outputs;
            let mut read =
                read_for(&prepared.takers, |views, fit| outputs.decode(views, fit).map_err(|error| error.message));
            run::run(self.backend.as_mut(), input, &prepared.fits, self.version.info.batch, &mut read)
        };
        // Requests' values may be large; they are not kept until the next batch comes.
        prepared.takers.clear();
        let Some(pendings) = self.slot.release() else { return false };
        finish(&self.shared, &self.version, pendings, outcomes, started, frames, error.as_ref());
        match error {
            Some(error) if error.reopen => {
                let running = &self.shared.metrics.models[self.version.model].instances_running;
                running.fetch_sub(1, Ordering::Relaxed);
                let backend = reopen(&self.shared, &self.version, self.number);
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
    version: &Version,
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
    let counters = &shared.metrics.models[version.model];
    counters.batches.fetch_add(1, Ordering::Relaxed);
    counters.frames.fetch_add(frames as u64, Ordering::Relaxed);
    counters.busy_ns.fetch_add(ended.0 - started.0, Ordering::Relaxed);
    shared.desks[version.model].observe(ended.since(started));
    if let Some(error) = error {
        counters.failed_batches.fetch_add(1, Ordering::Relaxed);
        report(shared, version, "batch", error);
    } else if let Some((reason, detail)) = pendings.iter().find_map(|pending| match &pending.result.outcome {
        Outcome::Dropped { reason, detail } => Some((*reason, detail.as_deref().unwrap_or_default())),
        Outcome::Inferred(_) => None,
    }) {
        let subject = format!("model {}", version.plan.name);
        shared.reports.say(Level::Error, &subject, reason.name(), || format!("{}: {detail}", reason.name()));
    }
    shared.finish(pendings);
}

/// Turns what was taken from the desk into a prepared batch; what cannot be in it is settled here.
pub(super) fn prepare(
    shared: &Shared,
    version: &Version,
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
        let (input, pending) = item.begin(ordinal, now, version.served_by);
        inputs.push(input);
        pendings.push(pending);
    }
    let mut failed = Vec::new();
    decoders.prepare(&mut inputs, &mut pendings, prepared, &mut failed);
    let spent = shared.clock.mono().since(now);
    let spent = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
    shared.metrics.models[version.model].prepare_ns.fetch_add(spent, Ordering::Relaxed);
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

fn report(shared: &Shared, version: &Version, kind: &'static str, error: &BackendError) {
    let subject = format!("model {}", version.plan.name);
    shared.reports.say(Level::Error, &subject, kind, || format!("{}: {error}", error.reason.name()));
}

/// Opens an instance and runs the warm-up on it; a panic on the way is an error like any other.
fn open(version: &Version, number: usize) -> Result<Box<dyn Backend>, BackendError> {
    let opened = caught(|| match &version.opener {
        Opener::Blocking(open) => open(number),
        Opener::Async(_) => Err(BackendError::batch("this backend has no instances")),
    });
    let mut backend = opened.map_err(|said| run::panicked(&format!("while it was opened, {said}")))??;
    if version.plan.warmup_batches > 0 {
        warm_up(version, backend.as_mut())?;
    }
    Ok(backend)
}

/// A batch of pictures in which there is nothing to see.
pub(super) fn empty_pictures(version: &Version) -> (Vec<Origin>, Vec<Fit>) {
    let origin = Origin { camera: NO_CAMERA, sequence: 0 };
    let origins = vec![origin; version.chosen.batch.size.min(version.slots_per_batch())];
    let fits = vec![Fit::new(version.spec.size, version.spec.size, version.spec.resize); origins.len()];
    (origins, fits)
}

/// Whether a warm-up batch came out well.
pub(super) fn warmed_up(outcomes: Vec<Outcome>, error: Option<BackendError>) -> Result<(), BackendError> {
    let refused = outcomes.into_iter().find_map(|outcome| match outcome {
        Outcome::Dropped { detail, .. } => Some(detail.unwrap_or_default().into_string()),
        Outcome::Inferred(_) => None,
    });
    match error.map(|error| error.message).or(refused) {
        Some(message) => Err(BackendError::batch(format!("the warm-up batch failed: {message}"))),
        None => Ok(()),
    }
}

fn warm_up(version: &Version, backend: &mut dyn Backend) -> Result<(), BackendError> {
    let prepared = version.prepared();
    let (origins, fits) = empty_pictures(version);
    let input = BatchInput {
        tensor: &prepared.tensor,
        spec: &version.spec,
        origins: &origins,
        parameters: &version.parameters,
    };
    let mut outputs = version.on_trial.then(|| version.outputs.open());
    for _ in 0..version.plan.warmup_batches {
        // What an empty picture gives means nothing; where a good version would be replaced it must at least be legible.
        let mut read = |_: usize, views: &[crate::tensor::TensorView<'_>], fit: &Fit| match &mut outputs {
            Some(outputs) => outputs.decode(views, fit).map_err(|error| error.message),
            None => Ok(omma_frame::Output::Nothing),
        };
        let (outcomes, error) = run::run(backend, input, &fits, version.info.batch, &mut read);
        warmed_up(outcomes, error)?;
    }
    Ok(())
}

/// Opens a broken instance again, until it works, the engine stops, or another version serves.
fn reopen(shared: &Shared, version: &Version, number: usize) -> Option<Box<dyn Backend>> {
    let mut pause = REOPEN_PAUSE_MIN;
    loop {
        match open(version, number) {
            Ok(backend) => {
                shared.metrics.models[version.model].instances_reopened.fetch_add(1, Ordering::Relaxed);
                return Some(backend);
            }
            Err(error) => report(shared, version, "reopen", &error),
        }
        let mut left = pause;
        while !left.is_zero() {
            // Until the very end: frames that wait for it are given up when the drain's time is over, not before.
            if shared.lifecycle.phase() == Phase::Stopped || version.retired() {
                return None;
            }
            let slice = left.min(REOPEN_PAUSE_MIN);
            std::thread::sleep(slice);
            left -= slice;
        }
        pause = (pause * 2).min(REOPEN_PAUSE_MAX);
    }
}
