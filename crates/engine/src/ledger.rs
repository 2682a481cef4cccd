//! The count law: for each camera, received = published + dropped{reason} + in flight, always.
//!
//! Each camera's counters have one writer, its reader thread, to which every settlement returns anyway. So a count costs
//! a plain load and store, no locked instruction, and any thread may read. What is in flight is counted for itself, not
//! derived from the others: that the law holds is something to check, not a definition.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use omma_frame::{CameraIndex, DropReason};
use parking_lot::Mutex;

const REASONS: usize = DropReason::ALL.len();

/// One camera's counters, in one allocation of three cache lines.
#[derive(Default)]
pub struct CameraCounters {
    received: AtomicU64,
    published: AtomicU64,
    in_flight: AtomicU64,
    /// Sequence numbers that never came: frames lost before they reached us.
    lost_upstream: AtomicU64,
    dropped: [AtomicU64; REASONS],
}

/// Adds to a counter that this thread alone writes.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl CameraCounters {
    pub(crate) fn receive(&self) {
        add(&self.received, 1);
        add(&self.in_flight, 1);
    }

    /// Frames that their source has left unread for a newer one.
    pub(crate) fn overtake(&self, count: u64) {
        if count > 0 {
            add(&self.received, count);
            add(&self.dropped[DropReason::Overtaken as usize], count);
        }
    }

    pub(crate) fn publish(&self) {
        add(&self.published, 1);
        add(&self.in_flight, u64::MAX);
    }

    pub(crate) fn drop_for(&self, reason: DropReason) {
        add(&self.dropped[reason as usize], 1);
        add(&self.in_flight, u64::MAX);
    }

    pub(crate) fn lose_upstream(&self, count: u64) {
        add(&self.lost_upstream, count);
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut dropped = [0; REASONS];
        for (sum, counter) in dropped.iter_mut().zip(&self.dropped) {
            *sum = get(counter);
        }
        Counts {
            received: get(&self.received),
            published: get(&self.published),
            in_flight: get(&self.in_flight),
            lost_upstream: get(&self.lost_upstream),
            dropped,
        }
    }
}

/// The counters of one camera or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub received: u64,
    pub published: u64,
    pub in_flight: u64,
    pub lost_upstream: u64,
    dropped: [u64; REASONS],
}

impl Counts {
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Reasons for which anything was dropped, with how many.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().map(|reason| (reason, self.dropped(reason))).filter(|(_, count)| *count > 0)
    }

    /// Whether the law holds. Exact for a camera at rest or read from its own reader's thread; a reading of a running
    /// camera from elsewhere may catch it between two stores.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.received == self.published + self.dropped_total() + self.in_flight
    }

    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.published += other.published;
        self.in_flight += other.in_flight;
        // A producer may send any number for its sequence, so also gaps that have no sum.
        self.lost_upstream = self.lost_upstream.saturating_add(other.lost_upstream);
        for (sum, count) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += count;
        }
    }
}

/// The counters of all cameras, for whoever wants to read them.
#[derive(Default)]
pub struct Ledger {
    cameras: ArcSwap<Vec<Arc<CameraCounters>>>,
    growing: Mutex<()>,
}

impl Ledger {
    /// The counters of a camera, made on first use.
    #[must_use]
    pub fn counters(&self, camera: CameraIndex) -> Arc<CameraCounters> {
        if let Some(counters) = self.cameras.load().get(camera.slot()) {
            return Arc::clone(counters);
        }
        self.grow(camera.slot() + 1);
        Arc::clone(&self.cameras.load()[camera.slot()])
    }

    /// Makes room for that many cameras in one step.
    pub fn grow(&self, cameras: usize) {
        let _growing = self.growing.lock();
        let mut table = Vec::clone(&self.cameras.load());
        if table.len() < cameras {
            table.resize_with(cameras, Arc::default);
            self.cameras.store(Arc::new(table));
        }
    }

    /// One camera's counts; zero if it never delivered.
    #[must_use]
    pub fn camera(&self, camera: CameraIndex) -> Counts {
        self.cameras.load().get(camera.slot()).map(|counters| counters.counts()).unwrap_or_default()
    }

    /// All cameras together.
    #[must_use]
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for counters in self.cameras.load().iter() {
            total.add(&counters.counts());
        }
        total
    }
}
