//! What direct requests took, by model: counted once per request, read when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use omma_frame::Timing;

/// A number of times and what they took together.
#[derive(Default)]
pub struct Span {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Span {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Count and nanoseconds.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.ns.load(Ordering::Relaxed))
    }
}

/// The direct requests of one model.
#[derive(Default)]
pub struct Statistics {
    pub success: Span,
    pub fail: Span,
    /// Until it was in a batch.
    pub queue: Span,
    /// Into the batch's tensor.
    pub input: Span,
    pub infer: Span,
    /// From the model back to the caller's task.
    pub output: Span,
    /// Items of the requests that succeeded.
    pub items: AtomicU64,
    /// Milliseconds since the epoch.
    pub last_ms: AtomicU64,
}

impl Statistics {
    pub fn failed(&self, took: Duration) {
        self.fail.add(took);
    }

    pub fn succeeded(&self, items: usize, timing: &Timing, took: Duration) {
        self.success.add(took);
        self.queue.add(timing.batched.since(timing.received));
        self.input.add(timing.prepared.since(timing.batched));
        self.infer.add(timing.inferred.since(timing.prepared));
        self.output.add(took.saturating_sub(timing.inferred.since(timing.received)));
        self.items.fetch_add(items as u64, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
