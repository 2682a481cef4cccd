//! One version of a model: what was opened, the threads that run it, and how they begin and end.
//!
//! A version is opened and warmed up on threads of its own while another one may serve. Only when every instance is
//! ready is it let in to the desk; until then nothing of it is seen. Once the desk sends it away its threads finish
//! what they have in hand and end, and with them goes its memory. The desk, the counters and the place in the plan
//! belong to the model and outlive it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use omma_frame::{DropReason, ServedBy};
use parking_lot::{Condvar, Mutex};

use super::engine::{ModelParts, StartError};
use super::feed::Feed;
use super::feeder::{self, Requests, To};
use super::instance;
use super::shared::Shared;
use crate::infer::backend::{BatchLimit, ModelInfo, Opener};
use crate::infer::mode::{Chosen, choose};
use crate::infer::prepare::{Decoders, Prepared};
use crate::infer::watch::WatchSlot;
use crate::lifecycle::Phase;
use crate::picture::{PictureDecoderFactory, PictureSpec};
use crate::plan::ModelPlan;
use crate::post::OutputDecoderFactory;
use crate::report::Message;
use crate::tensor::TensorAllocator;
use crate::threads::Role;

/// How long whoever opens a version sleeps before they look at the phase again.
const SLEEP: Duration = Duration::from_millis(100);
/// How long an opening may take before it is given up, so that nobody waits for ever for a runtime that hangs.
const OPEN_MAX: Duration = Duration::from_secs(600);
/// What one version may say in one turn of the watch; the rest waits, or is refused to whoever says it.
const MESSAGES_PER_TURN: usize = 64;

/// What all threads of one version share.
pub(super) struct Version {
    /// The model's place in the plan.
    pub(super) model: usize,
    /// By whom its frames were served, as their results tell.
    pub(super) served_by: ServedBy,
    /// By what the desk knows it; never used again.
    pub(super) term: u64,
    pub(super) plan: ModelPlan,
    pub(super) info: ModelInfo,
    pub(super) opener: Opener,
    memory: Option<TensorAllocator>,
    /// What its backend says.
    messages: Option<Receiver<Message>>,
    pub(super) pictures: Arc<dyn PictureDecoderFactory>,
    pub(super) outputs: Arc<dyn OutputDecoderFactory>,
    pub(super) spec: Arc<PictureSpec>,
    pub(super) parameters: Arc<[(String, String)]>,
    pub(super) chosen: Chosen,
    /// `async` mode: how prepared batches come from the feeder.
    pub(super) feed: Option<Feed>,
    /// What is in the model right now, for the watch.
    pub(super) slots: Mutex<Vec<Arc<WatchSlot>>>,
    /// Instances that hang and were given up; their threads may never end. Below zero for the moment in which one has
    /// returned before it was counted.
    pub(super) hanging: AtomicIsize,
    /// Whether an instance counts as ready only if what its warm-up gave can be read, as where a good one would be
    /// replaced.
    pub(super) on_trial: bool,
    entry: Entry,
    retired: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The door between warm-up and desk, the same for all threads of a version.
#[derive(Default)]
struct Entry {
    sign: Mutex<Sign>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Sign {
    #[default]
    Wait,
    Enter,
    Leave,
}

impl Entry {
    fn show(&self, sign: Sign) {
        *self.sign.lock() = sign;
        self.changed.notify_all();
    }

    /// Whether to go in.
    fn wait(&self) -> bool {
        let mut sign = self.sign.lock();
        while *sign == Sign::Wait {
            self.changed.wait(&mut sign);
        }
        *sign == Sign::Enter
    }
}

/// A version whose threads wait at the door; sent away if it is dropped before it is let in.
pub(super) struct Ready {
    version: Option<Arc<Version>>,
}

impl Version {
    pub(super) fn new(
        model: usize,
        term: u64,
        plan: &ModelPlan,
        parts: ModelParts,
        cores: usize,
        on_trial: bool,
    ) -> Self {
        let ModelParts { version, loaded, pictures, outputs } = parts;
        let blocking = matches!(loaded.opener, Opener::Blocking(_));
        let chosen = choose(plan, loaded.device, loaded.info.batch, blocking, cores);
        let feed = chosen.ahead.then(|| {
            if blocking {
                Feed::to_instances(chosen.instances)
            } else {
                Feed::to_requests(plan.in_flight_frames_max / chosen.batch.size_max, chosen.instances)
            }
        });
        Self {
            model,
            served_by: ServedBy { model: u32::try_from(model).unwrap_or(u32::MAX), version },
            term,
            info: loaded.info,
            opener: loaded.opener,
            memory: loaded.memory,
            messages: loaded.messages,
            pictures,
            outputs,
            spec: Arc::new(plan.picture.clone()),
            parameters: plan.parameters.clone().into(),
            plan: plan.clone(),
            chosen,
            feed,
            slots: Mutex::default(),
            hanging: AtomicIsize::new(0),
            on_trial,
            entry: Entry::default(),
            retired: AtomicBool::new(false),
            threads: Mutex::default(),
        }
    }

    /// Batches to come up with room for: the most that the batcher hands out, or what a fixed batch needs.
    pub(super) fn slots_per_batch(&self) -> usize {
        match self.info.batch {
            BatchLimit::Exactly(count) => count.max(self.chosen.batch.size_max),
            BatchLimit::UpTo(_) => self.chosen.batch.size_max,
        }
    }

    pub(super) fn prepared(&self) -> Prepared {
        Prepared::new(self.slots_per_batch(), self.spec.slot_bytes(), self.memory.as_ref())
    }

    /// Batches that may be on their way at the same time, as far as the backend has a say in it.
    pub(super) fn requests_max(&self) -> usize {
        match &self.opener {
            Opener::Async(backend) => backend.requests_max().max(1),
            Opener::Blocking(_) => usize::MAX,
        }
    }

    pub(super) fn watched_slot(&self) -> Arc<WatchSlot> {
        let slot = Arc::new(WatchSlot::default());
        self.slots.lock().push(Arc::clone(&slot));
        slot
    }

    /// Waits at the door until it is known whether this version will serve.
    pub(super) fn let_in(&self) -> bool {
        self.entry.wait()
    }

    /// Whether it has been sent away: what is in hand is finished, nothing new is begun.
    pub(super) fn retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// The desk hands it nothing more; its threads shall notice soon.
    pub(super) fn retire(&self, shared: &Shared) {
        if self.retired.swap(true, Ordering::AcqRel) {
            return;
        }
        if matches!(self.opener, Opener::Async(_)) {
            shared.metrics.models[self.model].instances_running.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Passes on what its backend says.
    pub(super) fn pass_on(&self, shared: &Shared) {
        for message in self.messages.iter().flat_map(|messages| messages.try_iter().take(MESSAGES_PER_TURN)) {
            shared.reports.pass_on(message);
        }
    }

    /// Starts a thread of this version.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(super) fn spawn(
        &self,
        shared: &Shared,
        name: String,
        role: Role,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let begin = shared.begin_thread;
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            begin(role);
            run();
        });
        let mut threads = self.threads.lock();
        // Those of instances that were given up and have returned.
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread.map_err(|error| StartError::Thread { name, error })?);
        Ok(())
    }

    /// Threads that may still end.
    pub(super) fn threads_left(&self) -> usize {
        let unfinished = self.threads.lock().iter().filter(|thread| !thread.is_finished()).count();
        unfinished.saturating_sub(usize::try_from(self.hanging.load(Ordering::Acquire)).unwrap_or(0))
    }

    pub(super) fn take_threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.threads.lock())
    }

    /// Whether a version that was sent away has ended. Batches that nobody came to run any more (every instance of it
    /// was broken) are failed by name then.
    pub(super) fn gone(&self, shared: &Shared) -> bool {
        if !self.retired() || self.threads_left() > 0 {
            return false;
        }
        let Some(feed) = &self.feed else { return true };
        if matches!(self.opener, Opener::Async(_)) {
            return feed.out() == 0;
        }
        for prepared in feed.take_ready() {
            let message = "its version of the model was replaced while no instance of it could run";
            shared.fail(prepared.pendings, DropReason::BackendFailed, message);
        }
        true
    }

    /// Opens and warms up every instance; blocks until all are ready.
    ///
    /// # Errors
    /// One of them is not; all that was started is on its way out then.
    pub(super) fn open(self: Arc<Self>, shared: &Arc<Shared>) -> Result<Ready, StartError> {
        let ready = Ready { version: Some(Arc::clone(&self)) };
        let name = self.plan.name.clone();
        let failed = |message: String| StartError::Model { name: name.clone(), message };
        let to = match &self.opener {
            Opener::Async(backend) => {
                let runtime = shared.runtime().map_err(|error| failed(error.to_string()))?;
                let requests = Requests { runtime, backend: Arc::clone(backend), spare: Arc::default() };
                if self.on_trial {
                    requests.warm_up(&self).map_err(|error| failed(error.message))?;
                }
                To::Requests(requests)
            }
            Opener::Blocking(_) => {
                let (started, opened) = crossbeam_channel::bounded(self.chosen.instances);
                for number in 0..self.chosen.instances {
                    let (shared_too, version, started) = (Arc::clone(shared), Arc::clone(&self), started.clone());
                    let run = move || instance::run_thread(shared_too, version, number, Some(started));
                    self.spawn(shared, format!("omma-{name}-{number}"), Role::Compute, run)?;
                }
                drop(started);
                self.wait_opened(shared, &opened).map_err(&failed)?;
                To::Instances
            }
        };
        if self.feed.is_some() {
            let decoders =
                Decoders::pool(self.pictures.as_ref(), self.chosen.decode_threads, "omma-decode", shared.begin_thread)
                    .map_err(|error| StartError::Thread { name: "omma-decode".to_owned(), error })?;
            let (shared_too, version) = (Arc::clone(shared), Arc::clone(&self));
            self.spawn(shared, format!("omma-feed-{name}"), Role::Relay, move || {
                if let Some(feed) = version.feed.as_ref().filter(|_| version.let_in()) {
                    feeder::run(&shared_too, &version, feed, decoders, &to);
                }
                if let Some(feed) = &version.feed {
                    feed.end();
                }
            })?;
        }
        Ok(ready)
    }

    fn wait_opened(&self, shared: &Shared, opened: &Receiver<Result<(), String>>) -> Result<(), String> {
        let until = Instant::now() + OPEN_MAX;
        let mut left = self.chosen.instances;
        while left > 0 {
            match opened.recv_timeout(SLEEP) {
                Ok(opened) => {
                    opened?;
                    left -= 1;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("an instance's thread ended while it opened".to_owned());
                }
                Err(RecvTimeoutError::Timeout) if shared.lifecycle.phase() > Phase::Running => {
                    return Err("the engine stops".to_owned());
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                    return Err(format!("not open after {} s, given up", OPEN_MAX.as_secs()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(())
    }
}

impl Ready {
    /// Lets the version in to the desk, from which every other one is sent away in the same moment. `Err`: the desk is
    /// closed.
    pub(super) fn serve(mut self, shared: &Shared) -> Result<Arc<Version>, String> {
        let served = |version: &mut Arc<Version>| shared.desks[version.model].serve(version.term, version.chosen.batch);
        // One that is not let in stays here, and is sent away as this goes.
        let version = self.version.take_if(served).ok_or("the engine has stopped")?;
        // Counted before they run, so that whoever hears of the version finds it served.
        let instances = match version.opener {
            Opener::Async(_) => 1,
            Opener::Blocking(_) => version.chosen.instances as u64,
        };
        shared.metrics.models[version.model].instances_running.fetch_add(instances, Ordering::Relaxed);
        version.entry.show(Sign::Enter);
        Ok(version)
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Some(version) = &self.version {
            // Nothing of it has been counted as running, so nothing is counted back.
            version.retired.store(true, Ordering::Release);
            version.entry.show(Sign::Leave);
        }
    }
}
