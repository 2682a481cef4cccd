//! The batcher: per-camera queues served in turn, a lane for direct requests before them, and the decision to close.
//!
//! A batch closes when it is full or, once an instance is idle, when its oldest frame has waited for company long enough
//! or waiting longer would gain nothing. What an instance gains by waiting is company: frames that come within a small part of the time
//! that the batch itself will take. So an idle instance lingers for that part (a twentieth) after the last arrival, if
//! company comes often enough in such moments to be worth it: one that joins saves itself a batch's time, and those that
//! wait pay a twentieth of it each. Callers that come back together after each batch are so served together, and frames
//! that come at random do not pay.
//!
//! A frame's ordinal, its place in its camera's order of results, is given when it leaves: an overtaken or expired frame
//! never had one, so nobody waits for it.

use std::collections::VecDeque;
use std::time::Duration;

use omma_frame::{CameraIndex, Mono};

use super::oldest::Oldest;
use crate::plan::BatchPlan;

/// The part of a batch's own duration that an idle instance waits for company.
const LINGER_DIVISOR: u32 = 20;
/// The part of its last moments that company is known by.
const COMPANY_MOMENTS: f32 = 32.0;
/// Where company comes more often than this, those of the last batch come back: nothing leaves before they can join.
const COMPANY_RARE: f32 = 0.25;

/// A frame on its way into the batcher.
#[derive(Debug)]
pub struct Entry<T> {
    pub arrived: Mono,
    /// When it becomes too old to be worth inferring; `None`: never.
    pub expires: Option<Mono>,
    /// Bytes of this process that it holds on to while it waits.
    pub bytes: usize,
    pub item: T,
}

/// A frame on its way out.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken<T> {
    pub item: T,
    /// Dense from 0 for each camera; 0 for direct requests, which have no order.
    pub ordinal: u64,
}

/// What a batch that is taken now would find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// An instance that has had nothing to do since then.
    Idle(Mono),
    /// A busy server, at which a batch that leaves at `at` arrives about as it comes free; the answer that it then sends
    /// is expected `back`.
    Soon { at: Mono, back: Mono },
    /// Busy instances, and a place to be prepared ahead of them. Full batches only: one closed early would wait for an
    /// instance all the same, and without the company that comes meanwhile.
    Ahead,
    /// No place but the one in front, which is kept for batches with direct requests.
    Direct,
    /// No place at all.
    None,
}

/// What [`Batcher::take`] decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// A batch (or at least an expired frame) was handed out.
    Ready,
    /// Nothing worth taking before this time, unless something arrives.
    WaitUntil(Mono),
    /// Nothing waits.
    Empty,
}

pub struct Batcher<T> {
    plan: BatchPlan,
    /// Between `plan.size` and `plan.size_max`, following the depth.
    target: usize,
    cameras: Vec<Queue<T>>,
    /// Cameras with waiting frames, in turn.
    turn: VecDeque<u32>,
    direct: Queue<T>,
    direct_waiting_max: usize,
    /// At or above zero the next slot goes to the direct lane; moves by each lane's share while both wait.
    direct_balance: i32,
    waiting_stream: usize,
    /// Of all that wait.
    waiting_bytes: usize,
    oldest: Oldest,
    last_arrival: Mono,
    /// A moving average of what a batch takes.
    service: Duration,
    /// The last moment from which on company was hoped for, lingering or not, until it came.
    hoped_since: Option<Mono>,
    company: Company,
}

/// The part of the moments from which on company was hoped for after which somebody came within the linger.
struct Company {
    part: f32,
    moments: f32,
}

impl Default for Company {
    /// It is expected until it is known better.
    fn default() -> Self {
        Self { part: 1.0, moments: 1.0 }
    }
}

impl Company {
    fn learn(&mut self, came: bool) {
        self.moments = (self.moments + 1.0).min(COMPANY_MOMENTS);
        self.part += (f32::from(u8::from(came)) - self.part) / self.moments;
    }
}

struct Queue<T> {
    items: VecDeque<Entry<T>>,
    /// Items that ever left, to a batch or not.
    gone: u64,
    next_ordinal: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), gone: 0, next_ordinal: 0 }
    }
}

impl<T> Queue<T> {
    /// Takes the oldest, and its bytes off those that wait.
    fn pop(&mut self, waiting_bytes: &mut usize) -> Option<Entry<T>> {
        let entry = self.items.pop_front()?;
        self.gone += 1;
        *waiting_bytes -= entry.bytes;
        Some(entry)
    }
}

/// The direct lane's number among the queues.
const DIRECT: u32 = u32::MAX;

impl<T> Batcher<T> {
    /// `direct_waiting_max` bounds the direct lane; cameras bound themselves by the room given with each push.
    #[must_use]
    pub fn new(plan: BatchPlan, direct_waiting_max: usize) -> Self {
        Self {
            plan,
            target: plan.size.clamp(1, plan.size_max.max(1)),
            cameras: Vec::new(),
            turn: VecDeque::new(),
            direct: Queue::default(),
            direct_waiting_max,
            direct_balance: 0,
            waiting_stream: 0,
            waiting_bytes: 0,
            oldest: Oldest::default(),
            last_arrival: Mono(0),
            service: Duration::ZERO,
            hoped_since: None,
            company: Company::default(),
        }
    }

    /// Adds a camera's frame. If more than `room` of its frames then wait, the oldest comes back: whoever brought the
    /// new one settles it as overtaken. `None` for `room`: no bound here (the camera's reader bounds it).
    #[must_use = "an evicted frame must be settled"]
    pub fn push(&mut self, camera: CameraIndex, entry: Entry<T>, room: Option<u32>) -> Option<T> {
        self.note_company(entry.arrived);
        if self.cameras.len() <= camera.slot() {
            self.cameras.resize_with(camera.slot() + 1, Queue::default);
        }
        let queue = &mut self.cameras[camera.slot()];
        if queue.items.is_empty() {
            self.turn.push_back(camera.0);
        }
        let (arrived, serial) = (entry.arrived, queue.gone + queue.items.len() as u64);
        self.waiting_bytes += entry.bytes;
        queue.items.push_back(entry);
        self.note_arrival(arrived, camera.0, serial);
        let queue = &mut self.cameras[camera.slot()];
        if room.is_some_and(|room| queue.items.len() > room.max(1) as usize) {
            return queue.pop(&mut self.waiting_bytes).map(|evicted| evicted.item);
        }
        self.waiting_stream += 1;
        None
    }

    /// Adds a direct request.
    ///
    /// # Errors
    /// The lane is full: the request comes back, and the caller refuses it by name.
    pub fn push_direct(&mut self, entry: Entry<T>) -> Result<(), T> {
        if self.direct.items.len() >= self.direct_waiting_max {
            return Err(entry.item);
        }
        self.note_company(entry.arrived);
        let (arrived, serial) = (entry.arrived, self.direct.gone + self.direct.items.len() as u64);
        self.waiting_bytes += entry.bytes;
        self.direct.items.push_back(entry);
        self.note_arrival(arrived, DIRECT, serial);
        Ok(())
    }

    /// Other sizes from now on; how long their batches take is not known yet.
    pub fn replan(&mut self, plan: BatchPlan) {
        self.plan = plan;
        self.target = plan.size.clamp(1, plan.size_max.max(1));
        self.service = Duration::ZERO;
        self.company = Company::default();
    }

    /// Takes out all direct requests, and of each camera the oldest frames as long as they are `wanted`. They have had
    /// no ordinal and will have none.
    pub fn take_out(&mut self, wanted: impl Fn(&Entry<T>) -> bool, out: &mut Vec<T>) {
        let cameras = &mut self.cameras;
        for queue in cameras.iter_mut().filter(|queue| !queue.items.is_empty()) {
            while queue.items.front().is_some_and(&wanted) {
                out.extend(queue.pop(&mut self.waiting_bytes).map(|entry| entry.item));
                self.waiting_stream -= 1;
            }
        }
        self.turn.retain(|camera| !cameras[*camera as usize].items.is_empty());
        while let Some(entry) = self.direct.pop(&mut self.waiting_bytes) {
            out.push(entry.item);
        }
        self.direct_balance = 0;
    }

    /// Direct requests that the lane takes now.
    #[must_use]
    pub fn direct_room(&self) -> usize {
        self.direct_waiting_max.saturating_sub(self.direct.items.len())
    }

    fn note_arrival(&mut self, at: Mono, queue: u32, serial: u64) {
        let (cameras, direct) = (&self.cameras, &self.direct);
        let gone = |queue: u32| if queue == DIRECT { direct.gone } else { cameras[queue as usize].gone };
        self.oldest.push(at, queue, serial, self.waiting_stream + direct.items.len(), gone);
    }

    fn note_company(&mut self, at: Mono) {
        self.last_arrival = self.last_arrival.max(at);
        if self.hoped_since.is_some_and(|since| since <= at && at.since(since) <= self.linger()) {
            self.hoped_since = None;
            self.company.learn(true);
        }
    }

    fn linger(&self) -> Duration {
        (self.service / LINGER_DIVISOR).min(self.plan.timeout)
    }

    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting_stream + self.direct.items.len()
    }

    /// Bytes that what waits holds on to.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// What a batch aims at now.
    #[must_use]
    pub fn target(&self) -> usize {
        self.target
    }

    /// Tells how long a batch took in the model; the linger follows it.
    pub fn observe(&mut self, took: Duration) {
        self.service = if self.service.is_zero() { took } else { (self.service * 7 + took) / 8 };
    }

    /// Hands out the next batch into `batch`, and frames that became too old on the way into `expired`.
    ///
    /// `seat` says what it would find. With `flush` whatever waits is handed out, if there is a place for it.
    pub fn take(
        &mut self,
        now: Mono,
        seat: Seat,
        flush: bool,
        batch: &mut Vec<Taken<T>>,
        expired: &mut Vec<T>,
    ) -> Take {
        loop {
            let waiting = self.waiting();
            if waiting == 0 {
                return Take::Empty;
            }
            let until = match seat {
                Seat::None => Some(Mono(u64::MAX)),
                Seat::Direct => self.direct.items.is_empty().then_some(Mono(u64::MAX)),
                Seat::Idle(_) | Seat::Soon { .. } | Seat::Ahead if waiting >= self.target || flush => None,
                Seat::Ahead => Some(Mono(u64::MAX)),
                Seat::Soon { at, .. } => Some(if self.company.part <= COMPANY_RARE { at } else { Mono(u64::MAX) }),
                Seat::Idle(since) => self.worth_waiting_until(since),
            };
            if let Some(until) = until.filter(|until| now < *until) {
                return Take::WaitUntil(until);
            }
            if let Seat::Soon { back, .. } = seat {
                self.hope(back);
            }
            self.adapt(waiting);
            self.fill(now, batch, expired);
            if !batch.is_empty() || !expired.is_empty() {
                return Take::Ready;
            }
        }
    }

    /// `None`: not at all.
    fn worth_waiting_until(&mut self, idle_since: Mono) -> Option<Mono> {
        let (cameras, direct) = (&self.cameras, &self.direct);
        let gone = |queue: u32| if queue == DIRECT { direct.gone } else { cameras[queue as usize].gone };
        // What a frame waited while every instance was busy was no wait for company.
        let overdue = self.oldest.get(gone)?.max(idle_since).plus(self.plan.timeout);
        let hoping_since = idle_since.max(self.last_arrival);
        self.hope(hoping_since);
        let worth_it = self.company.part * LINGER_DIVISOR as f32 >= self.waiting() as f32;
        worth_it.then(|| overdue.min(hoping_since.plus(self.linger())))
    }

    /// Company is hoped for from then on.
    fn hope(&mut self, since: Mono) {
        if self.hoped_since.replace(since).is_some_and(|before| before != since) {
            // Nobody came.
            self.company.learn(false);
        }
    }

    /// Follows the depth by doubling and halving: a deep queue wants throughput, a shallow one low latency.
    fn adapt(&mut self, waiting: usize) {
        if waiting >= self.target * 2 {
            self.target = (self.target * 2).min(self.plan.size_max);
        } else if waiting * 2 < self.target {
            self.target = (self.target / 2).max(self.plan.size);
        }
        self.target = self.target.max(1);
    }

    fn fill(&mut self, now: Mono, batch: &mut Vec<Taken<T>>, expired: &mut Vec<T>) {
        while batch.len() < self.target {
            let direct_waits = !self.direct.items.is_empty();
            let stream_waits = self.waiting_stream > 0;
            if !direct_waits && !stream_waits {
                return;
            }
            if direct_waits && (self.direct_balance >= 0 || !stream_waits) {
                if stream_waits {
                    self.direct_balance -= 100 - self.plan.direct_share_percent as i32;
                } else {
                    self.direct_balance = 0;
                }
                if let Some(entry) = self.direct.pop(&mut self.waiting_bytes) {
                    hand_out(entry, now, 0, batch, expired);
                }
                continue;
            }
            if direct_waits {
                self.direct_balance += self.plan.direct_share_percent as i32;
            } else {
                self.direct_balance = 0;
            }
            let Some(camera) = self.turn.pop_front() else { return };
            let queue = &mut self.cameras[camera as usize];
            let Some(entry) = queue.pop(&mut self.waiting_bytes) else { continue };
            self.waiting_stream -= 1;
            if !queue.items.is_empty() {
                self.turn.push_back(camera);
            }
            if hand_out(entry, now, queue.next_ordinal, batch, expired) {
                queue.next_ordinal += 1;
            }
        }
    }
}

/// Whether the entry went into the batch.
fn hand_out<T>(entry: Entry<T>, now: Mono, ordinal: u64, batch: &mut Vec<Taken<T>>, expired: &mut Vec<T>) -> bool {
    let fresh = entry.expires.is_none_or(|expires| now < expires);
    if fresh {
        batch.push(Taken { item: entry.item, ordinal });
    } else {
        expired.push(entry.item);
    }
    fresh
}

#[cfg(test)]
mod tests;
