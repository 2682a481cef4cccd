//! Watches what instances hold: a batch that outlives its deadline is taken from a hung instance and settled by name.
//!
//! A thread in a native call cannot be stopped, so it is abandoned: whoever takes the batch out of the slot first, the
//! instance or the watch, settles it, and an instance that finds its slot empty leaves quietly.

use std::time::Duration;

use omma_frame::Mono;
use parking_lot::Mutex;

use super::work::Pending;

/// What one instance has in its model right now. Locked twice per batch, by nobody else but the watch.
#[derive(Default)]
pub struct WatchSlot {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    since: Mono,
    pendings: Option<Vec<Pending>>,
    abandoned: bool,
}

impl WatchSlot {
    /// The instance begins a batch.
    pub fn hold(&self, now: Mono, pendings: Vec<Pending>) {
        let mut held = self.held.lock();
        held.since = now;
        held.pendings = Some(pendings);
    }

    /// The instance is done; `None`: too late, the batch has been settled, and the instance must stop.
    #[must_use]
    pub fn release(&self) -> Option<Vec<Pending>> {
        self.held.lock().pendings.take()
    }

    /// Takes the batch of an instance that has held it longer than `deadline`, and abandons the instance.
    #[must_use]
    pub fn take_overdue(&self, now: Mono, deadline: Duration) -> Option<Vec<Pending>> {
        let mut held = self.held.lock();
        if held.pendings.is_none() || now.since(held.since) < deadline {
            return None;
        }
        held.abandoned = true;
        held.pendings.take()
    }

    /// Whether the instance has been given up; its thread may never return.
    #[must_use]
    pub fn abandoned(&self) -> bool {
        self.held.lock().abandoned
    }
}
