//! A sink's bounded buffer: results between the post workers and the sink's writer.
//!
//! Nobody ever waits to put something in. Results of `every` cameras are bounded where they are read (their frames in
//! flight never exceed the buffer); of `latest` cameras, the oldest make room for the newest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use omma_frame::{DropReason, FrameResult};
use parking_lot::Mutex;

/// Results that go to the same sinks under the same policy. Settled when the last of its sinks is done with it.
pub struct Delivery {
    pub results: Vec<FrameResult>,
    /// Whether it may be given up for newer ones (`delivery = "latest"`).
    pub droppable: bool,
    sinks: usize,
    sinks_open: AtomicUsize,
    /// Results that some sink did not take, by place.
    failures: Mutex<Vec<(usize, DropReason)>>,
}

impl Delivery {
    #[must_use]
    pub fn new(results: Vec<FrameResult>, droppable: bool, sinks: usize) -> Self {
        Self { results, droppable, sinks, sinks_open: AtomicUsize::new(sinks), failures: Mutex::default() }
    }

    fn for_one_sink(&self) -> bool {
        self.sinks == 1
    }

    /// One sink is done: it took all results but those from `taken` on, which it dropped for `reason`. Returns whether
    /// it was the last, whose caller settles the results.
    pub fn done(&self, taken: usize, reason: DropReason) -> bool {
        if taken < self.results.len() {
            self.failures.lock().extend((taken..self.results.len()).map(|place| (place, reason)));
        }
        self.sinks_open.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Calls `each` with every result and the reason why a sink did not take it, if one didn't.
    pub fn for_each(&self, mut each: impl FnMut(&FrameResult, Option<DropReason>)) {
        let failures = self.failures.lock();
        for (place, result) in self.results.iter().enumerate() {
            each(result, failures.iter().find(|(failed, _)| *failed == place).map(|(_, reason)| *reason));
        }
    }
}

/// Results in one delivery beyond which the next ones begin another.
const MERGED_MAX: usize = 1024;

/// The queue itself; pure.
pub struct Buffer {
    queue: VecDeque<Arc<Delivery>>,
    /// Frames that may be given up, and those that may not.
    droppable_frames: usize,
    kept_frames: usize,
    frames_max: usize,
}

impl Buffer {
    #[must_use]
    pub fn new(frames_max: usize) -> Self {
        Self { queue: VecDeque::new(), droppable_frames: 0, kept_frames: 0, frames_max }
    }

    /// Adds results; returns the deliveries that had to make room for them.
    #[must_use = "evicted results must be settled"]
    pub fn push(&mut self, delivery: Arc<Delivery>) -> Vec<Arc<Delivery>> {
        let mut evicted = Vec::new();
        if delivery.droppable {
            self.droppable_frames += delivery.results.len();
        } else {
            self.kept_frames += delivery.results.len();
        }
        self.merge_or_queue(delivery);
        while self.droppable_frames > self.frames_max {
            let Some(oldest) = self.queue.iter().position(|waiting| waiting.droppable) else { break };
            let Some(oldest) = self.queue.remove(oldest) else { break };
            self.droppable_frames -= oldest.results.len();
            evicted.push(oldest);
        }
        evicted
    }

    /// Results for this sink alone join those that wait already, so that a slow writer gets few large deliveries.
    fn merge_or_queue(&mut self, delivery: Arc<Delivery>) {
        let last = self.queue.back_mut().and_then(Arc::get_mut);
        let joinable = last.filter(|last| {
            last.droppable == delivery.droppable && last.for_one_sink() && last.results.len() < MERGED_MAX
        });
        let Some(last) = joinable.filter(|_| delivery.for_one_sink()) else { return self.queue.push_back(delivery) };
        match Arc::try_unwrap(delivery) {
            Ok(mut delivery) => last.results.append(&mut delivery.results),
            Err(shared) => self.queue.push_back(shared),
        }
    }

    pub fn pop(&mut self) -> Option<Arc<Delivery>> {
        let delivery = self.queue.pop_front()?;
        if delivery.droppable {
            self.droppable_frames -= delivery.results.len();
        } else {
            self.kept_frames -= delivery.results.len();
        }
        Some(delivery)
    }

    /// Frames that wait.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.droppable_frames + self.kept_frames
    }
}
