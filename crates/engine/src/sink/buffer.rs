//! A sink's bounded buffer: results in order, until the sink's writer takes them.
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

    /// One sink is done: it took all results but those at the places `refused`, and those from `taken` on, which it
    /// dropped for `reason`. Returns whether it was the last, whose caller settles the results.
    pub fn done(&self, taken: usize, refused: &[usize], reason: DropReason) -> bool {
        if taken < self.results.len() || !refused.is_empty() {
            let mut failures = self.failures.lock();
            failures.extend(refused.iter().map(|place| (*place, DropReason::SinkFailed)));
            failures.extend((taken..self.results.len()).map(|place| (place, reason)));
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
pub const MERGED_MAX: usize = 1024;

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
            let excess = self.droppable_frames - self.frames_max;
            let Some(place) = self.queue.iter().position(|waiting| waiting.droppable) else { break };
            // What is this sink's alone gives up as many results as there are too many: after merging, the newest may
            // be in the same delivery as the oldest. What other sinks hold too cannot be cut, and goes as a whole.
            let own = Arc::get_mut(&mut self.queue[place]).filter(|own| own.for_one_sink());
            let oldest = match own {
                Some(own) if own.results.len() > excess => {
                    Arc::new(Delivery::new(own.results.drain(..excess).collect(), true, 1))
                }
                _ => match self.queue.remove(place) {
                    Some(whole) => whole,
                    None => break,
                },
            };
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

#[cfg(test)]
mod tests {
    use omma_frame::{CameraIndex, Mono, Outcome, Output, ServedBy, Size, Timing, Token, UnixNanos};

    use super::*;

    fn results(sequences: std::ops::Range<u64>) -> Vec<FrameResult> {
        sequences
            .map(|sequence| FrameResult {
                camera: CameraIndex(0),
                sequence,
                token: Token::default(),
                captured_at: UnixNanos(0),
                size: Size::default(),
                served_by: ServedBy::default(),
                timing: Timing { received: Mono(1), ..Timing::default() },
                outcome: Outcome::Inferred(Output::Nothing),
                name: None,
            })
            .collect()
    }

    fn sequences(deliveries: &[Arc<Delivery>]) -> Vec<u64> {
        deliveries.iter().flat_map(|delivery| &delivery.results).map(|result| result.sequence).collect()
    }

    fn popped(buffer: &mut Buffer) -> Vec<u64> {
        sequences(&std::iter::from_fn(|| buffer.pop()).collect::<Vec<_>>())
    }

    #[test]
    fn the_oldest_make_room_for_the_newest_and_no_more_than_needed() {
        // (droppable, how many at a time) -> (evicted, kept) of 0..20 with room for 8
        let table: [(bool, u64, Vec<u64>, Vec<u64>); 4] = [
            (true, 1, (0..12).collect(), (12..20).collect()),
            (true, 5, (0..12).collect(), (12..20).collect()),
            (true, 20, (0..12).collect(), (12..20).collect()),
            (false, 5, vec![], (0..20).collect()),
        ];
        for (droppable, step, gone, kept) in table {
            let mut buffer = Buffer::new(8);
            let mut evicted = Vec::new();
            for first in (0..20).step_by(step as usize) {
                let delivery = Delivery::new(results(first..first + step), droppable, 1);
                evicted.extend(buffer.push(Arc::new(delivery)));
                assert!(buffer.frames() <= 8 || !droppable);
            }
            assert_eq!((sequences(&evicted), popped(&mut buffer)), (gone, kept), "{step} at a time");
            assert_eq!(buffer.frames(), 0);
        }
    }

    #[test]
    fn what_another_sink_holds_too_goes_as_a_whole() {
        let mut buffer = Buffer::new(8);
        let shared: Vec<_> = (0..3).map(|n| Arc::new(Delivery::new(results(n * 4..n * 4 + 4), true, 2))).collect();
        let evicted: Vec<_> = shared.iter().flat_map(|delivery| buffer.push(Arc::clone(delivery))).collect();
        assert_eq!((sequences(&evicted), popped(&mut buffer)), ((0..4).collect(), (4..12).collect()));
        assert!(!shared[0].done(0, &[], DropReason::SinkFull), "the other sink may still publish them");
        assert!(shared[0].done(4, &[], DropReason::SinkFull));
    }
}
