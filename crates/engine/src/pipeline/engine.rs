//! Starting and stopping: opens the models, starts the threads in the order that nothing is read before everything
//! behind it is ready, and drains them in the order of the frames' way.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use omma_frame::{CameraIndex, DropReason, Payload};
use parking_lot::Mutex;

use super::feed::Feed;
use super::models::{Model, ModelStore};
use super::order::Order;
use super::reader::Reader;
use super::shared::{Inbox, Shared, SinkBuffer};
use super::watch;
use super::writer::Writer;
use crate::batch::{Batcher, Desk};
use crate::cameras::Cameras;
use crate::clock::Clock;
use crate::infer::backend::LoadedModel;
use crate::infer::work::Caller;
use crate::ledger::{Counts, Ledger};
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::Metrics;
use crate::picture::PictureDecoderFactory;
use crate::plan::Plan;
use crate::post::OutputDecoderFactory;
use crate::report::{Level, Reports};
use crate::sink::Sink;
use crate::source::Source;
use crate::threads::{Begin, Role};

/// Direct requests that may wait for one model.
const DIRECT_WAITING_MAX: usize = 4096;
/// How often a drain looks whether it is done.
const DRAIN_TURN: Duration = Duration::from_millis(2);
/// What a drain that is out of time still grants the sinks for what has just been given up.
const LATE_GRACE: Duration = Duration::from_millis(500);
/// How long threads are waited for at the end; a thread hung in a sink or a model is left behind.
const JOIN_MAX: Duration = Duration::from_secs(2);

/// A source and the cameras that it feeds, all of shards of one reader.
pub struct SourcePart {
    pub source: Box<dyn Source>,
    pub cameras: Vec<CameraIndex>,
}

/// A version of a model, and how pictures get in and meaning out.
pub struct ModelParts {
    /// The version's number, from 1, as results tell it.
    pub version: u32,
    pub loaded: LoadedModel,
    pub pictures: Arc<dyn PictureDecoderFactory>,
    pub outputs: Arc<dyn OutputDecoderFactory>,
}

/// Everything that an engine is made of; vectors in the plan's order.
pub struct Parts {
    pub plan: Plan,
    pub cameras: Arc<Cameras>,
    pub clock: Arc<dyn Clock>,
    /// By reader: `plan.engine.readers` lists.
    pub sources: Vec<Vec<SourcePart>>,
    pub models: Vec<ModelParts>,
    /// Where other versions of the models come from while the engine runs; `None`: they stay as they are.
    pub store: Option<Arc<dyn ModelStore>>,
    pub sinks: Vec<Box<dyn Sink>>,
    /// Processor cores to plan threads for.
    pub cores: usize,
    /// Called on each thread as it begins.
    pub begin_thread: Begin,
}

/// Why an engine could not start.
#[derive(Debug)]
pub enum StartError {
    Model { name: String, message: String },
    Thread { name: String, error: std::io::Error },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model { name, message } => write!(f, "model {name}: {message}"),
            Self::Thread { name, error } => write!(f, "cannot start thread {name}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What a drain came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainReport {
    pub took: Duration,
    /// Frames that were not done by the deadline: settled as `shutdown`, for their source to deliver again.
    pub late: u64,
    /// Frames whose fate is unknown; not zero only if a thread of omma itself has failed.
    pub unsettled: usize,
    pub counts: Counts,
}

/// A running engine. Dropping it drains it, too; [`Engine::drain`] tells what became of the frames.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Opens and warms up every model, then starts reading. Blocks until the first poll is due.
    ///
    /// # Errors
    /// A model cannot be opened or fails its warm-up, or a thread cannot be started. Nothing runs then.
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { plan, cameras, clock, sources, models, store, sinks, cores, begin_thread } = parts;
        let ledger = Arc::new(Ledger::default());
        ledger.grow(cameras.len());
        let shared = Arc::new(Shared {
            ledger,
            metrics: Metrics::new(models.len(), sinks.len()),
            reports: Reports::default(),
            lifecycle: Lifecycle::default(),
            cores,
            served: plan.models.iter().map(|model| Model::new(&model.name)).collect(),
            store,
            runtime: Mutex::default(),
            desks: plan
                .models
                .iter()
                .map(|model| Desk::new(Batcher::new(model.batch, DIRECT_WAITING_MAX), Arc::clone(&clock)))
                .collect(),
            buffers: plan.sinks.iter().map(|sink| SinkBuffer::new(sink.buffer_frames_max)).collect(),
            orders: plan.models.iter().map(|_| Mutex::new(Order::new(plan.routes.len()))).collect(),
            direct: Arc::default(),
            inboxes: (0..sources.len()).map(|_| Inbox::default()).collect(),
            plan,
            clock,
            cameras,
            begin_thread,
        });
        let mut engine = Self { shared, threads: Vec::new() };
        match engine.start_threads(models, sources, sinks) {
            Ok(()) => Ok(engine),
            Err(error) => {
                engine.stop();
                Err(error)
            }
        }
    }

    fn start_threads(
        &mut self,
        models: Vec<ModelParts>,
        sources: Vec<Vec<SourcePart>>,
        sinks: Vec<Box<dyn Sink>>,
    ) -> Result<(), StartError> {
        let shared = Arc::clone(&self.shared);
        for (number, (parts, plan)) in models.into_iter().zip(&shared.plan.models).enumerate() {
            shared.served[number].take_over(&shared, number, plan, parts, false)?;
        }
        for (number, sink) in sinks.into_iter().enumerate() {
            let writer = Writer { number, shared: Arc::clone(&self.shared), sink };
            let name = format!("omma-sink-{}", self.shared.plan.sinks[number].name);
            self.spawn(name, Role::Relay, move || writer.run())?;
        }
        let shared = Arc::clone(&self.shared);
        self.spawn("omma-watch".to_owned(), Role::Relay, move || watch::run(&shared))?;
        self.shared.lifecycle.enter(Phase::Running);
        for (number, sources) in sources.into_iter().enumerate() {
            let reader = Reader { number, shared: Arc::clone(&self.shared), sources };
            self.spawn(format!("omma-read-{number}"), Role::Relay, move || reader.run())?;
        }
        Ok(())
    }

    fn spawn(&mut self, name: String, role: Role, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        let begin = self.shared.begin_thread;
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            begin(role);
            run();
        });
        self.threads.push(thread.map_err(|error| StartError::Thread { name, error })?);
        Ok(())
    }

    /// The control plane's view.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// As [`Shared::ask`].
    ///
    /// # Errors
    /// As there.
    pub fn ask(&self, model: usize, payload: Payload, caller: Box<dyn Caller>) -> Result<(), Box<dyn Caller>> {
        self.shared.ask(model, payload, caller)
    }

    /// Stops reading, lets what was read go its way within the plan's `drain_timeout`, settles what is late, and stops.
    #[must_use]
    pub fn drain(mut self) -> DrainReport {
        self.end()
    }

    fn end(&mut self) -> DrainReport {
        let begun = Instant::now();
        let shared = Arc::clone(&self.shared);
        shared.lifecycle.enter(Phase::Draining);
        for desk in &shared.desks {
            desk.flush();
        }
        let deadline = begun + shared.plan.engine.drain_timeout;
        while shared.busy() && Instant::now() < deadline {
            self.give_up_unserved();
            if shared.desks.iter().all(|desk| desk.waiting() == 0) {
                shared.lifecycle.enter(Phase::Flushing);
            }
            std::thread::sleep(DRAIN_TURN);
        }
        shared.lifecycle.enter(Phase::Flushing);
        if shared.busy() {
            self.give_up_late();
        }
        // What no frame came out of since: the readers have heard of every settlement.
        let counts = shared.ledger.total();
        let late = counts.dropped(DropReason::Shutdown);
        let unsettled = shared.in_flight();
        if late > 0 {
            shared.reports.say(Level::Warning, "engine", "late", || {
                format!("{late} frame(s) were not done within the drain's deadline and are left to be delivered again")
            });
        }
        self.stop();
        DrainReport { took: begun.elapsed(), late, unsettled, counts: shared.ledger.total() }
    }

    /// Nobody comes for what waits for an unloaded model.
    fn give_up_unserved(&self) {
        for desk in self.shared.desks.iter().filter(|desk| !desk.served()) {
            let mut left = Vec::new();
            desk.clear(&mut left);
            self.shared.refuse(&mut left, DropReason::Shutdown, self.shared.clock.mono());
        }
    }

    /// Out of time: settles as `shutdown` whatever has not come through, wherever it is.
    fn give_up_late(&self) {
        let shared = &self.shared;
        let until = Instant::now() + LATE_GRACE * 4;
        let sinks_from = Instant::now() + LATE_GRACE;
        while shared.busy() && Instant::now() < until {
            let now = shared.clock.mono();
            for desk in &shared.desks {
                let mut left = Vec::new();
                desk.clear(&mut left);
                shared.refuse(&mut left, DropReason::Shutdown, now);
            }
            for version in shared.served.iter().flat_map(Model::versions) {
                let slots = version.slots.lock();
                let held: Vec<_> = slots.iter().filter_map(|slot| slot.take_overdue(now, Duration::ZERO)).collect();
                drop(slots);
                let ready = version.feed.iter().flat_map(Feed::take_ready).map(|prepared| prepared.pendings);
                for pendings in held.into_iter().chain(ready) {
                    shared.fail(pendings, DropReason::Shutdown, "the engine stopped");
                }
            }
            if Instant::now() >= sinks_from {
                for sink in &shared.buffers {
                    let current =
                        sink.current.lock().take().map(|current| (current.delivery, current.taken, current.refused));
                    let mut buffer = sink.buffer.lock();
                    let mut left: Vec<_> =
                        std::iter::from_fn(|| buffer.pop()).map(|delivery| (delivery, 0, Vec::new())).collect();
                    drop(buffer);
                    left.extend(current);
                    for (delivery, taken, refused) in left {
                        shared.delivered(&delivery, taken, &refused, DropReason::Shutdown);
                    }
                }
            }
            std::thread::sleep(DRAIN_TURN);
        }
    }

    fn stop(&mut self) {
        let shared = &self.shared;
        for desk in &shared.desks {
            desk.close();
        }
        shared.lifecycle.enter(Phase::Stopped);
        for sink in &shared.buffers {
            sink.filled.notify_all();
        }
        let until = Instant::now() + JOIN_MAX;
        let versions: Vec<_> = shared.served.iter().flat_map(Model::versions).collect();
        let serving = versions.iter().flat_map(|version| version.take_threads());
        for thread in serving.chain(self.threads.drain(..)) {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(DRAIN_TURN);
            }
            if thread.is_finished() && thread.join().is_err() {
                shared.reports.say(Level::Error, "engine", "panic", || "a thread of the engine panicked".to_owned());
            }
        }
        let runtime = shared.runtime.lock().take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
        shared.served.iter().for_each(Model::clear);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.shared.lifecycle.phase() != Phase::Stopped {
            let _untold = self.end();
        }
    }
}
