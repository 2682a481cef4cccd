//! A reader's loop: settlements back, a poll of each source, arrivals through their shards, frames to the desks.
//!
//! One thread for many cameras. Per turn it takes one lock of its inbox and one of each model's desk, however many
//! frames it moves; then it pauses, the longer the quieter its sources are.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use omma_frame::{Arrival, CameraIndex, DropReason, Settlement};

use super::engine::SourcePart;
use super::shared::Shared;
use crate::batch::Entry;
use crate::infer::work::Work;
use crate::lifecycle::Phase;
use crate::report::Level;
use crate::shard::{Admitted, Pressure, Shards};
use crate::source::{Demand, Polled};

/// The most frames that one poll of one source may bring.
const POLL_FRAMES_MAX: usize = 4096;
/// Without a frame for this long, pauses grow: the gaps between the frames of a few cameras are no lull.
const LULL: Duration = Duration::from_millis(500);
/// The pause after a poll that brought frames: more are likely there, and other threads want the core.
const BUSY_PAUSE: Duration = Duration::from_micros(200);

pub(super) struct Reader {
    pub(super) number: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) sources: Vec<SourcePart>,
}

/// The demand of one poll, answered from the shards' own counts.
struct Room<'a> {
    shards: &'a Shards,
    pressure: &'a Pressure,
}

impl Demand for Room<'_> {
    fn room(&self, camera: CameraIndex) -> usize {
        self.shards.room(camera, self.pressure)
    }

    fn total(&self) -> usize {
        POLL_FRAMES_MAX
    }
}

impl Reader {
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let plan = &shared.plan;
        let mut shards =
            Shards::new(Arc::clone(&shared.ledger), plan.engine.payload_bytes_max, plan.engine.read_frames_max);
        let table = shared.cameras.snapshot();
        let mut source_of = vec![usize::MAX; table.len()];
        for (number, part) in self.sources.iter().enumerate() {
            for camera in &part.cameras {
                shards.own(&table[camera.slot()]);
                source_of[camera.slot()] = number;
            }
        }
        let inbox = &shared.inboxes[self.number];
        let mut open = vec![true; self.sources.len()];
        let mut settled: Vec<Settlement> = Vec::new();
        let mut for_source: Vec<Vec<Settlement>> = vec![Vec::new(); self.sources.len()];
        let mut arrivals: Vec<Arrival> = Vec::new();
        let mut admitted: Vec<Vec<Admitted>> = Vec::new();
        admitted.resize_with(plan.models.len(), Vec::new);
        let mut evicted: Vec<Work> = Vec::new();
        let mut pressure = Pressure {
            model_full: vec![false; plan.models.len()],
            route_frames_max: plan
                .routes
                .iter()
                .map(|sinks| sinks.iter().map(|sink| plan.sinks[*sink].buffer_frames_max).min().unwrap_or(usize::MAX))
                .map(|frames| (frames / shared.inboxes.len()).max(1))
                .collect(),
        };
        let mut pause = plan.engine.poll_pause_min;
        let mut quiet_since = shared.clock.mono();
        loop {
            std::mem::swap(&mut settled, &mut *inbox.settlements.lock());
            for settlement in &settled {
                shards.settle(settlement);
                for_source[source_of[settlement.camera.slot()]].push(*settlement);
            }
            let heard = settled.len();
            settled.clear();
            let phase = shared.lifecycle.phase();
            let mut brought = 0;
            if phase == Phase::Running {
                for (full, (model, desk)) in pressure.model_full.iter_mut().zip(plan.models.iter().zip(&shared.desks)) {
                    *full = desk.waiting() >= model.waiting_frames_max;
                }
                for (number, part) in self.sources.iter_mut().enumerate() {
                    if !open[number] {
                        continue;
                    }
                    arrivals.clear();
                    let demand = Room { shards: &shards, pressure: &pressure };
                    match part.source.poll(&demand, &mut arrivals) {
                        Ok(Polled::Open) => {}
                        Ok(Polled::Ended) => open[number] = false,
                        Err(error) => {
                            shared.metrics.readers.source_errors.fetch_add(1, Ordering::Relaxed);
                            let table = shared.cameras.snapshot();
                            let subject = match error.camera.and_then(|camera| table.get(camera.slot())) {
                                Some(camera) => format!("camera {}", camera.plan.id),
                                None => format!("source {}", error.source),
                            };
                            shared.reports.say(Level::Warning, &subject, "source", || error.to_string());
                        }
                    }
                    brought += arrivals.len();
                    let (now, unix) = (shared.clock.mono(), shared.clock.unix());
                    for arrival in arrivals.drain(..) {
                        match shards.admit(arrival, now, unix) {
                            Ok(frame) => admitted[frame.model].push(frame),
                            Err(Some(settlement)) => for_source[number].push(settlement),
                            Err(None) => {
                                shared.metrics.readers.ledger_violations.fetch_add(1, Ordering::Relaxed);
                                shared.reports.say(Level::Error, &format!("source {number}"), "camera", || {
                                    "delivered a frame of a camera that this reader does not own; it is not counted".to_owned()
                                });
                            }
                        }
                    }
                }
                shared.metrics.readers.polls.fetch_add(1, Ordering::Relaxed);
            }
            for (model, frames) in admitted.iter_mut().enumerate().filter(|(_, frames)| !frames.is_empty()) {
                let entries = frames.drain(..).map(|Admitted { frame, expires, room, .. }| {
                    (frame.camera, Entry { arrived: frame.received_at, expires, item: Work::Frame(frame) }, room)
                });
                shared.desks[model].push_all(entries, &mut evicted);
            }
            for work in evicted.drain(..) {
                // Evicted by this reader's own push, so of one of its own cameras: settled here, without a detour.
                if let Some(settlement) = work.refuse(DropReason::Overtaken, shared.clock.mono()) {
                    shards.settle(&settlement);
                    for_source[source_of[settlement.camera.slot()]].push(settlement);
                }
            }
            for (part, settlements) in self.sources.iter_mut().zip(&mut for_source) {
                if settlements.is_empty() {
                    continue;
                }
                if let Err(error) = part.source.settle(settlements) {
                    shared.metrics.readers.source_errors.fetch_add(1, Ordering::Relaxed);
                    let subject = format!("source {}", error.source);
                    shared.reports.say(Level::Warning, &subject, "settle", || error.to_string());
                }
                settlements.clear();
            }
            inbox.in_flight.store(shards.in_flight(), Ordering::Release);
            let ended = open.iter().all(|open| !open);
            inbox.ended.store(ended, Ordering::Release);
            if phase == Phase::Stopped && inbox.settlements.lock().is_empty() {
                return;
            }
            let now = shared.clock.mono();
            if brought > 0 || heard > 0 {
                quiet_since = now;
            }
            pause = if brought > 0 {
                BUSY_PAUSE.min(plan.engine.poll_pause_min)
            } else if now.since(quiet_since) < LULL {
                plan.engine.poll_pause_min
            } else {
                (pause * 2).clamp(plan.engine.poll_pause_min, plan.engine.poll_pause_max)
            };
            std::thread::sleep(pause);
        }
    }
}
