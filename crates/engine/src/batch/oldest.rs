//! When the oldest waiting frame arrived, although frames leave in the cameras' turn and not in the order of arrival.

use std::collections::VecDeque;

use omma_frame::Mono;

/// Arrivals in order, cleaned lazily: an entry is over once its queue has let go of that many items.
///
/// A heap was rejected: arrivals come in order already, so a queue with lazy removal is amortised O(1). It is compacted
/// as it grows, when more than half of it is over: that bounds it at twice the frames that wait, also while nobody asks
/// (all instances busy, every arrival overtaken by the next).
#[derive(Default)]
pub(super) struct Oldest {
    arrivals: VecDeque<Arrived>,
}

#[derive(Clone, Copy)]
struct Arrived {
    at: Mono,
    queue: u32,
    /// The item's place in the whole history of its queue.
    serial: u64,
}

/// Entries below which compacting is not worth it.
const COMPACT_MIN: usize = 64;

impl Oldest {
    /// Adds an arrival. `gone(queue)` is how many items that queue has let go of so far; `waiting` is how many wait in
    /// all.
    pub(super) fn push(&mut self, at: Mono, queue: u32, serial: u64, waiting: usize, gone: impl Fn(u32) -> u64) {
        self.arrivals.push_back(Arrived { at, queue, serial });
        if self.arrivals.len() > COMPACT_MIN.max(waiting * 2) {
            self.arrivals.retain(|a| a.serial >= gone(a.queue));
        }
    }

    /// The oldest arrival that still waits.
    pub(super) fn get(&mut self, gone: impl Fn(u32) -> u64) -> Option<Mono> {
        while let Some(front) = self.arrivals.front() {
            if front.serial >= gone(front.queue) {
                break;
            }
            self.arrivals.pop_front();
        }
        self.arrivals.front().map(|front| front.at)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.arrivals.len()
    }
}
