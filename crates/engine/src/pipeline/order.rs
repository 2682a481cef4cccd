//! Order: a model's results, which come batch by batch in any order, leave in each camera's order for the sinks' buffers.
//!
//! There is one for each model, since each model's batcher counts for itself and a camera's frames are under way to one
//! model at a time. It has no thread: whoever finishes a batch puts it in order, under the one lock before it, for some
//! tens of nanoseconds per frame, and never blocks on a sink. Rejected: workers that take finished batches out of a
//! channel. Where batches are of one frame, waking one and going back cost more than all that it did, for each frame.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use omma_frame::{DropReason, Fate, FrameResult, Outcome, Settlement};

use super::shared::Shared;
use crate::cameras::{Camera, Delivery as Policy};
use crate::infer::work::{Destination, Pending};
use crate::post::reorder::Reorder;
use crate::report::Level;
use crate::sink::buffer::Delivery;

pub(super) struct Order {
    windows: Reorder<FrameResult>,
    /// As of the last camera that was new here.
    cameras: Arc<Vec<Arc<Camera>>>,
    // Empty between two batches; they keep their memory.
    ready: Vec<FrameResult>,
    settlements: Vec<Settlement>,
    /// By route, for cameras whose results may be lost and those whose may not.
    outgoing: Vec<[Vec<FrameResult>; 2]>,
}

impl Order {
    pub(super) fn new(routes: usize) -> Self {
        let mut outgoing = Vec::new();
        outgoing.resize_with(routes, Default::default);
        Self { windows: Reorder::new(), cameras: Arc::default(), ready: Vec::new(), settlements: Vec::new(), outgoing }
    }

    /// Takes cameras' frames of a batch; what is in order then goes into the sinks' buffers.
    pub(super) fn take(&mut self, shared: &Shared, pendings: Vec<Pending>) {
        for Pending { result, to } in pendings {
            let Destination::Camera { ordinal } = to else { continue };
            if self.windows.insert(result.camera, ordinal, result, &mut self.ready).is_err() {
                shared.metrics.readers.ledger_violations.fetch_add(1, Ordering::Relaxed);
            }
        }
        for result in self.ready.drain(..) {
            if self.cameras.len() <= result.camera.slot() {
                self.cameras = shared.cameras.snapshot();
            }
            match &result.outcome {
                Outcome::Dropped { reason, .. } if !shared.plan.engine.error_results => {
                    self.settlements.push(settlement(&result, Fate::Dropped(*reason)));
                }
                _ => {
                    let plan = &self.cameras[result.camera.slot()].plan;
                    let droppable = matches!(plan.delivery, Policy::Latest { .. });
                    self.outgoing[plan.route][usize::from(droppable)].push(result);
                }
            }
        }
        self.hand_over(shared);
        if !self.settlements.is_empty() {
            shared.settle(&self.settlements, &self.cameras);
            self.settlements.clear();
        }
    }

    fn hand_over(&mut self, shared: &Shared) {
        for (sinks, policies) in shared.plan.routes.iter().zip(&mut self.outgoing) {
            for (droppable, results) in policies.iter_mut().enumerate().filter(|(_, results)| !results.is_empty()) {
                if sinks.is_empty() {
                    // Nobody takes these results: they are published to nobody, and done.
                    self.settlements.extend(results.drain(..).map(|result| settlement(&result, Fate::Published)));
                    continue;
                }
                // What several sinks hold is evicted as a whole, so it comes in parts of a quarter of the smallest
                // buffer.
                let smallest = sinks.iter().map(|sink| shared.plan.sinks[*sink].buffer_frames_max).min();
                let part = if sinks.len() > 1 { (smallest.unwrap_or_default() / 4).max(1) } else { usize::MAX };
                while results.len() > part {
                    let rest = results.split_off(part);
                    deliver(shared, std::mem::replace(results, rest), droppable == 1, sinks);
                }
                let capacity = results.len();
                let results = std::mem::replace(results, Vec::with_capacity(capacity));
                deliver(shared, results, droppable == 1, sinks);
            }
        }
    }
}

fn settlement(result: &FrameResult, fate: Fate) -> Settlement {
    Settlement { camera: result.camera, sequence: result.sequence, token: result.token, fate }
}

fn deliver(shared: &Shared, results: Vec<FrameResult>, droppable: bool, sinks: &[usize]) {
    let mut delivery = Some(Arc::new(Delivery::new(results, droppable, sinks.len())));
    for (place, sink) in sinks.iter().enumerate() {
        // The last sink gets the last reference, so that a single sink's results can be merged in its buffer.
        let mine = if place + 1 == sinks.len() { delivery.take() } else { delivery.clone() };
        let Some(mine) = mine else { continue };
        let evicted = {
            let mut buffer = shared.buffers[*sink].buffer.lock();
            let evicted = buffer.push(mine);
            shared.metrics.sinks[*sink].buffered.store(buffer.frames() as u64, Ordering::Relaxed);
            evicted
        };
        shared.buffers[*sink].unheard.store(true, Ordering::Release);
        if !evicted.is_empty() {
            let plan = &shared.plan.sinks[*sink];
            shared.reports.say(Level::Warning, &format!("sink {}", plan.name), "full", || {
                let frames = plan.buffer_frames_max;
                format!("the buffer of {frames} frames is full: the oldest results of `latest` cameras are dropped")
            });
        }
        for delivery in evicted {
            shared.delivered(&delivery, 0, &[], DropReason::SinkFull);
        }
    }
}
