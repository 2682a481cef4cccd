//! A post worker's loop: results of its cameras, in any order, leave in each camera's order for the sinks' buffers.
//!
//! Owns the reorder windows of its cameras, for each model their own: a camera's frames are under way to one at a time, and
//! each counts for itself. Takes what has gathered in its channel at once, so the busier it is the
//! more frames share one hand-over. It never blocks on a sink.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use omma_frame::{DropReason, FrameResult, Outcome, Settlement};

use super::shared::Shared;
use crate::cameras::{Camera, Delivery as Policy};
use crate::infer::work::{Destination, Pending};
use crate::lifecycle::Phase;
use crate::post::reorder::Reorder;
use crate::report::Level;
use crate::sink::buffer::Delivery;

/// Results gathered before they are handed on.
const GATHER_MAX: usize = 1024;
/// How long the worker sleeps before it looks at the phase again.
const SLEEP: Duration = Duration::from_millis(100);

pub(super) fn run(shared: &Shared, results: &Receiver<Vec<Pending>>) {
    let mut windows: Vec<Reorder<FrameResult>> = Vec::new();
    windows.resize_with(shared.plan.models.len(), Reorder::new);
    let mut ready: Vec<FrameResult> = Vec::new();
    let mut settlements: Vec<Settlement> = Vec::new();
    let mut cameras = shared.cameras.snapshot();
    let routes = shared.plan.routes.len();
    // By route, for cameras that may lose results and those that may not.
    let mut outgoing: Vec<[Vec<FrameResult>; 2]> = Vec::new();
    outgoing.resize_with(routes, Default::default);
    loop {
        let mut next = match results.recv_timeout(SLEEP) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) if shared.lifecycle.phase() != Phase::Stopped => continue,
            Err(_) => return,
        };
        let mut gathered = 0;
        while let Some(pendings) = next.take() {
            gathered += pendings.len();
            for pending in pendings {
                let Destination::Camera { ordinal } = pending.to else { continue };
                let model = pending.result.served_by.model as usize;
                let reorder = windows.get_mut(model);
                let taken =
                    reorder.map(|reorder| reorder.insert(pending.result.camera, ordinal, pending.result, &mut ready));
                if !matches!(taken, Some(Ok(()))) {
                    shared.metrics.readers.ledger_violations.fetch_add(1, Ordering::Relaxed);
                }
            }
            if gathered < GATHER_MAX {
                next = results.try_recv().ok();
            }
        }
        for result in ready.drain(..) {
            if cameras.len() <= result.camera.slot() {
                cameras = shared.cameras.snapshot();
            }
            match &result.outcome {
                Outcome::Dropped { reason, .. } if !shared.plan.engine.error_results => {
                    settlements.push(settlement(&result, *reason));
                }
                _ => {
                    let plan = &cameras[result.camera.slot()].plan;
                    let droppable = matches!(plan.delivery, Policy::Latest { .. });
                    outgoing[plan.route][usize::from(droppable)].push(result);
                }
            }
        }
        hand_over(shared, &mut outgoing, &cameras);
        if !settlements.is_empty() {
            shared.settle(&settlements, &cameras);
            settlements.clear();
        }
    }
}

fn settlement(result: &FrameResult, reason: DropReason) -> Settlement {
    Settlement {
        camera: result.camera,
        sequence: result.sequence,
        token: result.token,
        fate: omma_frame::Fate::Dropped(reason),
    }
}

fn hand_over(shared: &Shared, outgoing: &mut [[Vec<FrameResult>; 2]], cameras: &[Arc<Camera>]) {
    for (route, policies) in outgoing.iter_mut().enumerate() {
        for (droppable, results) in policies.iter_mut().enumerate() {
            if results.is_empty() {
                continue;
            }
            let sinks = &shared.plan.routes[route];
            if sinks.is_empty() {
                // Nobody takes these results: they are published to nobody, and done.
                let published = |r: &FrameResult| Settlement {
                    camera: r.camera,
                    sequence: r.sequence,
                    token: r.token,
                    fate: omma_frame::Fate::Published,
                };
                shared.settle(&results.iter().map(published).collect::<Vec<_>>(), cameras);
                results.clear();
                continue;
            }
            // What several sinks hold is evicted as a whole, so it comes in parts of a quarter of the smallest buffer.
            let smallest =
                sinks.iter().map(|sink| shared.plan.sinks[*sink].buffer_frames_max).min().unwrap_or_default();
            let part = if sinks.len() > 1 { (smallest / 4).max(1) } else { usize::MAX };
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

fn deliver(shared: &Shared, results: Vec<FrameResult>, droppable: bool, sinks: &[usize]) {
    let mut delivery = Some(Arc::new(Delivery::new(results, droppable, sinks.len())));
    for (place, sink) in sinks.iter().enumerate() {
        // The last sink gets the last reference, so that a single sink's results can be merged in its buffer.
        let mine = if place + 1 == sinks.len() { delivery.take() } else { delivery.clone() };
        let Some(mine) = mine else { continue };
        let buffer = &shared.buffers[*sink];
        let evicted = {
            let mut inner = buffer.buffer.lock();
            let evicted = inner.push(mine);
            shared.metrics.sinks[*sink].buffered.store(inner.frames() as u64, Ordering::Relaxed);
            evicted
        };
        buffer.filled.notify_one();
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
