//! A reader's loop: settlements back, a poll of each source, arrivals through their shards, frames to the desks.
//!
//! One thread for many cameras. Per turn it takes one lock of its inbox and one of each model's desk, however many
//! frames it moves; then it pauses, the longer the less a turn would gain ([`pace`](super::pace)).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use omma_frame::{Arrival, CameraIndex, DropReason, Fate, Settlement};

use super::assign::Changing;
use super::engine::SourcePart;
use super::pace::Pace;
use super::shared::Shared;
use crate::batch::Entry;
use crate::infer::work::Work;
use crate::lifecycle::Phase;
use crate::panics::caught;
use crate::report::Level;
use crate::shard::{Admitted, Pressure, Shards};
use crate::source::{Demand, Polled, Source, SourceError};

/// The most frames that one poll of one source may bring.
const POLL_FRAMES_MAX: usize = 4096;

pub(super) struct Reader {
    pub(super) number: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) sources: Vec<SourcePart>,
}

/// Which cameras a poll may read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Among {
    /// Those whose bounds no single poll can break.
    Loose,
    /// The `every` cameras of a route that has less room left than a poll could bring.
    Route(usize),
}

/// The demand of one poll, answered from the shards' own counts.
struct Room<'a> {
    shards: &'a Shards,
    pressure: &'a Pressure,
    among: Among,
    total: usize,
}

impl Demand for Room<'_> {
    fn room(&self, camera: CameraIndex) -> usize {
        let among = match self.shards.every_route(camera) {
            Some(route) if self.shards.route_left(route, self.pressure) < POLL_FRAMES_MAX => Among::Route(route),
            _ => Among::Loose,
        };
        if among == self.among { self.shards.room(camera, self.pressure) } else { 0 }
    }

    fn total(&self) -> usize {
        self.total
    }
}

/// What the reader knows of one of its sources.
struct Known {
    open: bool,
    latest: bool,
    /// Routes of its `every` cameras.
    routes: Vec<usize>,
}

impl Known {
    fn new(part: &SourcePart, shards: &Shards) -> Self {
        let every = |camera: &CameraIndex| shards.every_route(*camera);
        let mut routes: Vec<usize> = part.cameras.iter().filter_map(every).collect();
        routes.sort_unstable();
        routes.dedup();
        let latest = part.cameras.iter().any(|camera| shards.every_route(*camera).is_none());
        Self { open: true, latest, routes }
    }
}

/// Compilers move more than this by a call. Frames are moved some ten times between their source and their batch.
const MOVED_BYTES_MAX: usize = 128;
const _: () = assert!(size_of::<Admitted>() <= MOVED_BYTES_MAX && size_of::<Entry<Work>>() <= MOVED_BYTES_MAX);

impl Reader {
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let plan = &shared.plan;
        let mut shards =
            Shards::new(Arc::clone(&shared.ledger), plan.engine.payload_bytes_max, plan.engine.read_frames_max);
        // By camera; grows with the cameras that sources find.
        let mut source_of: Vec<usize> = Vec::new();
        for number in 0..self.sources.len() {
            self.own(number, 0, &mut shards, &mut source_of);
        }
        let inbox = &shared.inboxes[self.number];
        let mut known: Vec<Known> = self.sources.iter().map(|part| Known::new(part, &shards)).collect();
        let mut first = 0;
        let mut settled: Vec<Settlement> = Vec::new();
        let mut for_source: Vec<Vec<Settlement>> = vec![Vec::new(); self.sources.len()];
        let mut arrivals: Vec<Arrival> = Vec::new();
        let mut admitted: Vec<Vec<Admitted>> = Vec::new();
        admitted.resize_with(plan.models.len(), Vec::new);
        let mut evicted: Vec<Work> = Vec::new();
        // Readers and routes that share a sink share its buffer.
        let share = |sink: usize| {
            let routes = plan.routes.iter().filter(|sinks| sinks.contains(&sink)).count();
            plan.sinks[sink].buffer_frames_max / (shared.inboxes.len() * routes.max(1))
        };
        let mut pressure = Pressure {
            model_full: vec![false; plan.models.len()],
            model_bytes_full: vec![false; plan.models.len()],
            route_frames_max: plan
                .routes
                .iter()
                .map(|sinks| sinks.iter().map(|sink| share(*sink)).min().unwrap_or(usize::MAX).max(1))
                .collect(),
        };
        // Each model has its share, or one that hangs would stop the cameras of the others.
        let bytes_max = plan.engine.waiting_bytes_max / plan.models.len().max(1);
        let mut changing = Changing::default();
        let mut pace = {
            let (pause_min, pause_max) = (plan.engine.poll_pause_min, plan.engine.poll_pause_max);
            Pace::new(plan.models.len(), pause_min, pause_max, shared.clock.mono())
        };
        loop {
            std::mem::swap(&mut settled, &mut *inbox.settlements.lock());
            for settlement in &settled {
                shards.settle(settlement);
                for_source[source_of[settlement.camera.slot()]].push(*settlement);
            }
            let heard = settled.len();
            settled.clear();
            changing.turn(&shared, self.number, &mut shards);
            let phase = shared.lifecycle.phase();
            let mut brought = 0;
            if phase == Phase::Running {
                for (number, (model, desk)) in plan.models.iter().zip(&shared.desks).enumerate() {
                    let waiting = desk.waiting();
                    pressure.model_full[number] = !desk.served() || waiting >= model.waiting_frames_max;
                    pressure.model_bytes_full[number] = desk.waiting_bytes() >= bytes_max;
                    let instances = shared.metrics.models[number].instances_running.load(Ordering::Relaxed);
                    pace.begins(number, waiting, desk.target() * (instances as usize).max(1));
                }
                // Each turn another source is asked first, so that none always finds the room taken.
                first = (first + 1) % self.sources.len().max(1);
                for number in (first..self.sources.len()).chain(0..first) {
                    let mut poll = |among, total, shards: &mut Shards, known: &mut Known| {
                        let demand = Room { shards, pressure: &pressure, among, total };
                        self.poll(number, known, &demand, &mut arrivals);
                        let found = self.ask(number, known, |source| source.found());
                        if !found.is_empty() {
                            let first = self.sources[number].cameras.len();
                            self.sources[number].cameras.extend(found);
                            self.own(number, first, shards, &mut source_of);
                            *known = Known { open: known.open, ..Known::new(&self.sources[number], shards) };
                        }
                        for camera in self.ask(number, known, |source| source.resumed()) {
                            shards.resume(camera);
                        }
                        brought += arrivals.len();
                        let (now, unix) = (shared.clock.mono(), shared.clock.unix());
                        for arrival in arrivals.drain(..) {
                            let (camera, bytes) = (arrival.camera, arrival.payload.byte_len().unwrap_or_default());
                            match shards.admit(arrival, now, unix) {
                                Ok(frame) => admitted[frame.model].push(frame),
                                Err(settlement) => {
                                    self.refused(number, camera, bytes, settlement.as_ref());
                                    for_source[number].extend(settlement);
                                }
                            }
                        }
                    };
                    let known = &mut known[number];
                    // A poll may not bring more than its cameras' route has room for, and a route's narrow room may
                    // not narrow the other cameras': such a route is polled for itself.
                    let left = |route: usize, shards: &Shards| shards.route_left(route, &pressure);
                    let loose = |shards: &Shards, routes: &[usize]| {
                        routes.iter().any(|route| left(*route, shards) >= POLL_FRAMES_MAX)
                    };
                    let mut polled = false;
                    if known.open && (known.latest || loose(&shards, &known.routes)) {
                        poll(Among::Loose, POLL_FRAMES_MAX, &mut shards, known);
                        polled = true;
                    }
                    for place in 0..known.routes.len() {
                        let route = known.routes[place];
                        let left = left(route, &shards);
                        if known.open && (1..POLL_FRAMES_MAX).contains(&left) {
                            poll(Among::Route(route), left, &mut shards, known);
                            polled = true;
                        }
                    }
                    if known.open && !polled {
                        // Nothing has room: the source still keeps its connections and finds its end.
                        poll(Among::Loose, 0, &mut shards, known);
                    }
                }
                shared.metrics.readers.polls.fetch_add(1, Ordering::Relaxed);
            }
            for (model, frames) in admitted.iter_mut().enumerate().filter(|(_, frames)| !frames.is_empty()) {
                let entries = frames.drain(..).map(|Admitted { frame, expires, room, .. }| {
                    let (camera, arrived, bytes) = (frame.camera, frame.received_at, frame.payload.held_bytes());
                    (camera, Entry { arrived, expires, bytes, item: Work::Frame(frame) }, room)
                });
                let reason = shared.desks[model].push_all(entries, &mut evicted);
                pace.brought(model, shared.clock.mono());
                for work in evicted.drain(..) {
                    // Evicted by this reader's own push, so of one of its own cameras: settled here, without a detour.
                    if let Some(settlement) = work.refuse(reason, shared.clock.mono()) {
                        shards.settle(&settlement);
                        for_source[source_of[settlement.camera.slot()]].push(settlement);
                    }
                }
            }
            for (model, desk) in shared.desks.iter().enumerate() {
                pace.ends(model, desk.waiting());
            }
            for (number, settlements) in for_source.iter_mut().enumerate().filter(|(_, some)| !some.is_empty()) {
                self.settle(number, &mut known[number], settlements);
                settlements.clear();
            }
            inbox.in_flight.store(shards.in_flight(), Ordering::Release);
            inbox.quiet.store(phase > Phase::Running, Ordering::Release);
            let ended = known.iter().all(|known| !known.open);
            inbox.ended.store(ended, Ordering::Release);
            if phase == Phase::Stopped && inbox.settlements.lock().is_empty() {
                return;
            }
            std::thread::sleep(pace.pause(shared.clock.mono(), brought > 0, heard > 0));
        }
    }

    /// Takes ownership of a source's cameras from place `first` on.
    fn own(&self, number: usize, first: usize, shards: &mut Shards, source_of: &mut Vec<usize>) {
        let table = self.shared.cameras.snapshot();
        source_of.resize(table.len().max(source_of.len()), usize::MAX);
        for camera in &self.sources[number].cameras[first..] {
            shards.own(&table[camera.slot()]);
            source_of[camera.slot()] = number;
        }
    }

    /// Polls a source. One that panics is given up: what it is in the middle of is not known.
    fn poll(&mut self, number: usize, known: &mut Known, demand: &Room<'_>, arrivals: &mut Vec<Arrival>) {
        let source = &mut self.sources[number].source;
        match caught(|| source.poll(demand, arrivals)) {
            Ok(Ok(Polled::Open)) => {}
            Ok(Ok(Polled::Ended)) => known.open = false,
            Ok(Err(error)) => self.failed(&error, "source"),
            Err(said) => self.panicked(number, known, &said),
        }
    }

    /// Cameras that a source has to tell of; none of one that has been given up.
    fn ask(
        &mut self,
        number: usize,
        known: &mut Known,
        question: impl FnOnce(&mut dyn Source) -> Vec<CameraIndex>,
    ) -> Vec<CameraIndex> {
        if !known.open {
            return Vec::new();
        }
        let source = &mut self.sources[number].source;
        match caught(|| question(source.as_mut())) {
            Ok(cameras) => cameras,
            Err(said) => {
                self.panicked(number, known, &said);
                Vec::new()
            }
        }
    }

    /// Tells a source what became of its frames; one that has been given up still hears it, and may acknowledge.
    fn settle(&mut self, number: usize, known: &mut Known, settlements: &[Settlement]) {
        let source = &mut self.sources[number].source;
        match caught(|| source.settle(settlements)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failed(&error, "settle"),
            Err(said) => self.panicked(number, known, &said),
        }
    }

    fn failed(&self, error: &SourceError, kind: &'static str) {
        let shared = &self.shared;
        shared.metrics.readers.source_errors.fetch_add(1, Ordering::Relaxed);
        let table = shared.cameras.snapshot();
        let subject = match error.camera.and_then(|camera| table.get(camera.slot())) {
            Some(camera) => format!("camera {}", camera.plan.id),
            None => format!("source {}", error.source),
        };
        shared.reports.say(Level::Warning, &subject, kind, || error.to_string());
    }

    fn panicked(&self, number: usize, known: &mut Known, said: &str) {
        let shared = &self.shared;
        known.open = false;
        shared.metrics.readers.source_errors.fetch_add(1, Ordering::Relaxed);
        let table = shared.cameras.snapshot();
        let cameras = &self.sources[number].cameras;
        shared.reports.say(Level::Error, &self.name(number), "panic", || {
            let first = cameras.first().and_then(|camera| table.get(camera.slot()));
            let first = first.map_or(String::new(), |camera| format!(" ({}, ...)", camera.plan.id));
            format!("it panicked and is given up, its {} camera(s){first} deliver no more: {said}", cameras.len())
        });
    }

    /// Says what was wrong with a frame that was not let in. Repetitions are no fault of a picture and only counted.
    fn refused(&self, number: usize, camera: CameraIndex, bytes: usize, settlement: Option<&Settlement>) {
        let shared = &self.shared;
        let Some(settlement) = settlement else {
            shared.metrics.readers.ledger_violations.fetch_add(1, Ordering::Relaxed);
            shared.reports.say(Level::Error, &self.name(number), "camera", || {
                "delivered a frame of a camera that this reader does not own; it is not counted".to_owned()
            });
            return;
        };
        let Fate::Dropped(reason @ (DropReason::PayloadEmpty | DropReason::PayloadTooLarge)) = settlement.fate else {
            return;
        };
        let table = shared.cameras.snapshot();
        let subject = format!("camera {}", table[camera.slot()].plan.id);
        shared.reports.say(Level::Warning, &subject, reason.name(), || match reason {
            DropReason::PayloadEmpty => format!("frame {}: no bytes", settlement.sequence),
            _ => {
                let most = shared.plan.engine.payload_bytes_max;
                format!("frame {}: {bytes} bytes, expected at most {most}", settlement.sequence)
            }
        });
    }

    fn name(&self, number: usize) -> String {
        format!("source {number} of reader {}", self.number)
    }
}
