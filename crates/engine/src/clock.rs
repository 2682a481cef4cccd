//! Where the engine's time comes from. Stages never ask for it: their thread's loop asks once per batch and passes it in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use omma_frame::{Mono, UnixNanos};

pub trait Clock: Send + Sync {
    fn mono(&self) -> Mono;
    fn unix(&self) -> UnixNanos;
}

/// The machine's clocks. Counting starts at one, so that [`Mono`] zero can mean "never".
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn mono(&self) -> Mono {
        Mono(1 + u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX - 1))
    }

    fn unix(&self) -> UnixNanos {
        // A wall clock before 1970 reads as 1970: labels are wrong then, waits are not.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands still until it is told otherwise, for tests and simulations.
#[derive(Default)]
pub struct ManualClock {
    mono: AtomicU64,
    unix: AtomicU64,
}

impl ManualClock {
    #[must_use]
    pub fn at(mono: Mono, unix: UnixNanos) -> Self {
        Self { mono: AtomicU64::new(mono.0), unix: AtomicU64::new(unix.0) }
    }

    pub fn advance(&self, by: std::time::Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.mono.fetch_add(by, Ordering::SeqCst);
        self.unix.fetch_add(by, Ordering::SeqCst);
    }

    /// Lets the wall clock jump; the steady one does not notice.
    pub fn set_unix(&self, unix: UnixNanos) {
        self.unix.store(unix.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn mono(&self) -> Mono {
        Mono(self.mono.load(Ordering::SeqCst))
    }

    fn unix(&self) -> UnixNanos {
        UnixNanos(self.unix.load(Ordering::SeqCst))
    }
}
