//! The desk: one lock in front of a model's batcher. Readers bring many frames with one locking, instances take a whole
//! batch with one, and sleep here while there is nothing worth taking.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use omma_frame::{CameraIndex, Mono};
use parking_lot::{Condvar, Mutex};

use super::batcher::{Batcher, Entry, Take, Taken};
use crate::clock::Clock;

/// The longest that a taker sleeps before it looks at the clock again; a bound in case a wake-up is missed, not a poll.
const SLEEP_MAX: Duration = Duration::from_millis(500);

pub struct Desk<T> {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner<T>>,
    arrived: Condvar,
    /// A copy of the batcher's count that readers look at without the lock.
    waiting: AtomicUsize,
}

struct Inner<T> {
    batcher: Batcher<T>,
    sleepers: usize,
    flushing: bool,
    closed: bool,
}

/// What a taker was handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// A batch, or expired frames to settle, or both.
    Work,
    /// The desk is closed and empty: stop.
    Closed,
    /// Nothing within the time asked for.
    Nothing,
}

impl<T> Desk<T> {
    pub fn new(batcher: Batcher<T>, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            inner: Mutex::new(Inner { batcher, sleepers: 0, flushing: false, closed: false }),
            arrived: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Frames that wait, as of the last change.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Brings frames, each with its camera and the room that it has here; evicted ones are appended to `evicted`.
    pub fn push_all(&self, frames: impl Iterator<Item = (CameraIndex, Entry<T>, Option<u32>)>, evicted: &mut Vec<T>) {
        let mut inner = self.inner.lock();
        for (camera, entry, room) in frames {
            evicted.extend(inner.batcher.push(camera, entry, room));
        }
        self.changed(inner);
    }

    /// Brings a direct request, of one or several items.
    ///
    /// # Errors
    /// The lane has not room for all of it or the desk is closed; the request comes back.
    pub fn push_direct(&self, entries: Vec<Entry<T>>) -> Result<(), Vec<T>> {
        let mut inner = self.inner.lock();
        if inner.closed || inner.batcher.direct_room() < entries.len() {
            return Err(entries.into_iter().map(|entry| entry.item).collect());
        }
        let refused: Vec<T> = entries.into_iter().filter_map(|entry| inner.batcher.push_direct(entry).err()).collect();
        debug_assert!(refused.is_empty(), "there was room");
        self.changed(inner);
        Ok(())
    }

    /// Publishes the depth and wakes as many sleepers as there may be batches for.
    fn changed(&self, inner: parking_lot::MutexGuard<'_, Inner<T>>) {
        let waiting = inner.batcher.waiting();
        self.waiting.store(waiting, Ordering::Relaxed);
        let wake = inner.sleepers.min(waiting.div_ceil(inner.batcher.target().max(1)));
        drop(inner);
        for _ in 0..wake {
            self.arrived.notify_one();
        }
    }

    /// Sleeps until there is a batch worth taking, at most `wait_max`. `idle_since` tells since when an instance has had
    /// nothing to do (see [`Batcher::take`]); it is asked again after each wake-up.
    pub fn take(
        &self,
        idle_since: impl Fn() -> Option<Mono>,
        wait_max: Option<Duration>,
        batch: &mut Vec<Taken<T>>,
        expired: &mut Vec<T>,
    ) -> Handed {
        let mut inner = self.inner.lock();
        let give_up = wait_max.map(|wait| self.clock.mono().plus(wait));
        loop {
            let now = self.clock.mono();
            let flush = inner.flushing;
            let sleep = match inner.batcher.take(now, idle_since(), flush, batch, expired) {
                Take::Ready => {
                    let left = inner.batcher.waiting();
                    self.waiting.store(left, Ordering::Relaxed);
                    // What is left may be a batch for another sleeper, whose wake-up this thread may have taken.
                    if left > 0 && inner.sleepers > 0 {
                        drop(inner);
                        self.arrived.notify_one();
                    }
                    return Handed::Work;
                }
                Take::Empty if inner.closed => return Handed::Closed,
                Take::Empty => SLEEP_MAX,
                Take::WaitUntil(until) => until.since(now).min(SLEEP_MAX),
            };
            let sleep = match give_up {
                Some(at) if now >= at => return Handed::Nothing,
                Some(at) => sleep.min(at.since(now)),
                None => sleep,
            };
            inner.sleepers += 1;
            self.arrived.wait_for(&mut inner, sleep);
            inner.sleepers -= 1;
        }
    }

    /// Tells how long a batch took in the model.
    pub fn observe(&self, took: Duration) {
        self.inner.lock().batcher.observe(took);
    }

    /// Wakes a taker because an instance has become idle.
    pub fn wake(&self) {
        // Under the lock, or a taker that is about to sleep would miss it.
        drop(self.inner.lock());
        self.arrived.notify_one();
    }

    /// From now on whatever waits is handed out at once.
    pub fn flush(&self) {
        self.inner.lock().flushing = true;
        self.arrived.notify_all();
    }

    /// Takers leave once nothing waits.
    pub fn close(&self) {
        {
            let mut inner = self.inner.lock();
            inner.flushing = true;
            inner.closed = true;
        }
        self.arrived.notify_all();
    }

    /// Empties the desk: what could not be served any more goes back to the caller, who settles it.
    pub fn clear(&self, left: &mut Vec<T>) {
        let mut inner = self.inner.lock();
        let mut batch = Vec::new();
        while inner.batcher.take(Mono(u64::MAX), None, true, &mut batch, left) == Take::Ready {
            left.extend(batch.drain(..).map(|taken| taken.item));
        }
        self.waiting.store(0, Ordering::Relaxed);
    }
}
