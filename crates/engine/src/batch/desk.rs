//! The desk: one lock in front of a model's batcher. Readers bring many frames with one locking, instances take a whole
//! batch with one, and sleep here while there is nothing worth taking.
//!
//! A desk outlives the versions of its model. At any time at most one of them, by its *term*, may take; the others are
//! sent away. Term and batch sizes change together under the lock, so that no version is ever handed a batch that
//! another one's sizes made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use omma_frame::{CameraIndex, DropReason};
use parking_lot::{Condvar, Mutex};

use super::batcher::{Batcher, Entry, Seat, Take, Taken};
use crate::clock::Clock;
use crate::plan::BatchPlan;

/// The longest that a taker sleeps before it looks at the clock again; a bound in case a wake-up is missed, not a poll.
const SLEEP_MAX: Duration = Duration::from_millis(500);

pub struct Desk<T> {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner<T>>,
    arrived: Condvar,
    /// Takers that have no place for camera frames sleep here: for a direct request, or for a place.
    called: Condvar,
    /// A copy of the batcher's count that readers look at without the lock.
    waiting: AtomicUsize,
    /// And of its bytes.
    waiting_bytes: AtomicUsize,
    /// A copy of what its batches aim at.
    target: AtomicUsize,
    /// A copy of whether any version may take.
    served: AtomicBool,
}

struct Inner<T> {
    batcher: Batcher<T>,
    /// Who may take; `None`: nobody, the model is unloaded.
    term: Option<u64>,
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
    /// Another version serves now, or none: stop.
    Retired,
}

impl<T> Desk<T> {
    /// Nobody may take yet ([`Desk::serve`]).
    pub fn new(batcher: Batcher<T>, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            inner: Mutex::new(Inner { batcher, term: None, sleepers: 0, flushing: false, closed: false }),
            arrived: Condvar::new(),
            called: Condvar::new(),
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            target: AtomicUsize::new(1),
            served: AtomicBool::new(false),
        }
    }

    /// From now on the takers of this term, and no others, are handed batches, of these sizes. `false`: the desk is
    /// closed.
    #[must_use]
    pub fn serve(&self, term: u64, plan: BatchPlan) -> bool {
        {
            let mut inner = self.inner.lock();
            if inner.closed {
                return false;
            }
            inner.term = Some(term);
            inner.batcher.replan(plan);
            self.served.store(true, Ordering::Release);
        }
        self.wake_all();
        true
    }

    /// From now on nobody is handed anything. Frames that may be lost (they can expire) and direct requests come out
    /// for the caller to refuse by name, and so will those that are brought later; the others wait.
    pub fn unserve(&self, refused: &mut Vec<T>) {
        {
            let mut inner = self.inner.lock();
            inner.term = None;
            inner.batcher.take_out(|entry| entry.expires.is_some(), refused);
            self.show_depth(&inner.batcher);
            self.served.store(false, Ordering::Release);
        }
        self.wake_all();
    }

    /// Whether anybody may take.
    pub fn served(&self) -> bool {
        self.served.load(Ordering::Acquire)
    }

    /// Frames that wait, as of the last change.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Bytes that they hold on to, as of the last change.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    fn show_depth(&self, batcher: &Batcher<T>) {
        self.waiting.store(batcher.waiting(), Ordering::Relaxed);
        self.waiting_bytes.store(batcher.waiting_bytes(), Ordering::Relaxed);
    }

    /// Frames that a batch aims at, as of the last change.
    pub fn target(&self) -> usize {
        self.target.load(Ordering::Relaxed)
    }

    /// Brings frames, each with its camera and the room that it has here; those that find no place are appended to
    /// `evicted`. Says why they found none: newer ones of their cameras came, or nobody serves.
    pub fn push_all(
        &self,
        frames: impl Iterator<Item = (CameraIndex, Entry<T>, Option<u32>)>,
        evicted: &mut Vec<T>,
    ) -> DropReason {
        let mut inner = self.inner.lock();
        let served = inner.term.is_some();
        for (camera, entry, room) in frames {
            if served || entry.expires.is_none() {
                evicted.extend(inner.batcher.push(camera, entry, room));
            } else {
                evicted.push(entry.item);
            }
        }
        self.changed(inner);
        if served { DropReason::Overtaken } else { DropReason::ModelUnloaded }
    }

    /// Brings a direct request, of one or several items.
    ///
    /// # Errors
    /// The lane has not room for all of it, nobody serves, or the desk is closed; the request comes back.
    pub fn push_direct(&self, entries: Vec<Entry<T>>) -> Result<(), Vec<T>> {
        let mut inner = self.inner.lock();
        if inner.closed || inner.term.is_none() || inner.batcher.direct_room() < entries.len() {
            return Err(entries.into_iter().map(|entry| entry.item).collect());
        }
        let refused: Vec<T> = entries.into_iter().filter_map(|entry| inner.batcher.push_direct(entry).err()).collect();
        debug_assert!(refused.is_empty(), "there was room");
        self.changed(inner);
        self.called.notify_all();
        Ok(())
    }

    /// Publishes the depth and wakes as many sleepers as there may be batches for.
    fn changed(&self, inner: parking_lot::MutexGuard<'_, Inner<T>>) {
        let waiting = inner.batcher.waiting();
        let target = inner.batcher.target().max(1);
        self.show_depth(&inner.batcher);
        self.target.store(target, Ordering::Relaxed);
        let wake = inner.sleepers.min(waiting.div_ceil(target));
        drop(inner);
        for _ in 0..wake {
            self.arrived.notify_one();
        }
    }

    /// Sleeps until there is a batch worth taking for a taker of this term, at most `wait_max`. `seat` tells what it
    /// would find ([`Batcher::take`]); it is asked again after each wake-up.
    pub fn take(
        &self,
        term: u64,
        seat: impl Fn() -> Seat,
        wait_max: Option<Duration>,
        batch: &mut Vec<Taken<T>>,
        expired: &mut Vec<T>,
    ) -> Handed {
        let mut inner = self.inner.lock();
        let give_up = wait_max.map(|wait| self.clock.mono().plus(wait));
        loop {
            if inner.term != Some(term) {
                // The wake-up that this taker may have had was meant for one that serves.
                let pass_on = inner.sleepers > 0;
                drop(inner);
                if pass_on {
                    self.arrived.notify_one();
                }
                return Handed::Retired;
            }
            let now = self.clock.mono();
            let flush = inner.flushing;
            let seat = seat();
            let sleep = match inner.batcher.take(now, seat, flush, batch, expired) {
                Take::Ready => {
                    let left = inner.batcher.waiting();
                    self.show_depth(&inner.batcher);
                    // What is left may be a batch for another sleeper, whose wake-up this thread may have taken.
                    if left > 0 && inner.sleepers > 0 {
                        drop(inner);
                        self.arrived.notify_one();
                    }
                    return Handed::Work;
                }
                Take::Empty if inner.closed => return Handed::Closed,
                // It was drained, or is out of time: no place will be waited for.
                Take::WaitUntil(_) if inner.closed && seat == Seat::None => return Handed::Closed,
                Take::Empty => SLEEP_MAX,
                Take::WaitUntil(until) => until.since(now).min(SLEEP_MAX),
            };
            let sleep = match give_up {
                Some(at) if now >= at => return Handed::Nothing,
                Some(at) => sleep.min(at.since(now)),
                None => sleep,
            };
            if matches!(seat, Seat::Direct | Seat::None) {
                self.called.wait_for(&mut inner, sleep);
            } else {
                inner.sleepers += 1;
                self.arrived.wait_for(&mut inner, sleep);
                inner.sleepers -= 1;
            }
        }
    }

    /// Tells how long a batch took in the model.
    pub fn observe(&self, took: Duration) {
        self.inner.lock().batcher.observe(took);
    }

    /// Wakes a taker because an instance has become idle, or a place free.
    pub fn wake(&self) {
        // Under the lock, or a taker that is about to sleep would miss it.
        drop(self.inner.lock());
        self.arrived.notify_one();
        // At most one of each version; the wrong one might pass nothing on.
        self.called.notify_all();
    }

    fn wake_all(&self) {
        self.arrived.notify_all();
        self.called.notify_all();
    }

    /// From now on whatever waits is handed out at once.
    pub fn flush(&self) {
        self.inner.lock().flushing = true;
        self.wake_all();
    }

    /// Takers leave once nothing waits.
    pub fn close(&self) {
        {
            let mut inner = self.inner.lock();
            inner.flushing = true;
            inner.closed = true;
        }
        self.wake_all();
    }

    /// Empties the desk: what could not be served any more goes back to the caller, who settles it.
    pub fn clear(&self, left: &mut Vec<T>) {
        let mut inner = self.inner.lock();
        inner.batcher.take_out(|_| true, left);
        self.show_depth(&inner.batcher);
    }
}
