//! One camera's stream as its reader knows it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use omma_frame::CameraIndex;

use crate::redis::link::{Place, slot_of};

/// The id of an entry: milliseconds and a number.
pub(super) type EntryId = (u64, u64);

pub(super) const FIRST: EntryId = (0, 0);

const AWAY_MIN: Duration = Duration::from_millis(250);
const AWAY_MAX: Duration = Duration::from_secs(30);

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursor {
    /// The group has to be seen to first; then what is pending behind this entry is read.
    Closed(EntryId),
    /// Entries that were delivered to this consumer before and not acknowledged, behind this one.
    History(EntryId),
    /// What nobody has been given yet.
    New,
    /// Only the newest of what nobody has been given yet.
    Skip,
    /// Nothing: a stream that was found is gone, and the search for streams tells when it is back.
    Gone,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub camera: CameraIndex,
    pub key: Box<[u8]>,
    pub shard: u32,
    /// It was there before its camera was known, so that it need not be made.
    pub found: bool,
    pub place: Place,
    pub cursor: Cursor,
    /// The newest entry that came.
    pub last: EntryId,
    /// Entries that came and whose fate is not known, oldest first.
    pub in_flight: VecDeque<EntryId>,
    /// Settled and not yet acknowledged.
    pub acks: Vec<EntryId>,
    /// A read of it is on its way.
    pub asked: bool,
    /// Left alone until then.
    away: Option<Instant>,
    failures: u32,
    /// When its pending list was looked at.
    pub looked: Instant,
    /// When there was nothing more to be read; `None`: not since it is ours.
    pub read_to_end: Option<Instant>,
}

impl Stream {
    pub fn new(camera: CameraIndex, key: &str, shard: u32, found: bool, now: Instant) -> Self {
        Self {
            camera,
            key: key.as_bytes().into(),
            shard,
            found,
            place: Place::Slot(slot_of(key.as_bytes())),
            cursor: Cursor::Closed(FIRST),
            last: FIRST,
            in_flight: VecDeque::new(),
            acks: Vec::new(),
            asked: false,
            away: None,
            failures: 0,
            looked: now,
            read_to_end: None,
        }
    }

    /// An entry has come.
    pub fn came(&mut self, id: EntryId) {
        self.last = self.last.max(id);
        self.in_flight.push_back(id);
    }

    /// An entry's fate is known.
    pub fn settled(&mut self, id: EntryId) {
        if let Some(at) = self.in_flight.iter().position(|&other| other == id) {
            self.in_flight.remove(at);
        }
    }

    /// Nothing of it is between here and its acknowledgement.
    pub fn is_drained(&self) -> bool {
        self.in_flight.is_empty() && self.acks.is_empty()
    }

    /// From now on another process may own it, or has owned it: what this one knows of its pending list is void.
    pub fn give_up(&mut self) {
        self.cursor = Cursor::Closed(FIRST);
        self.read_to_end = None;
    }

    /// The connection broke while it was read: what was given and did not arrive is in its pending list.
    pub fn interrupted(&mut self, keeps_pending: bool) {
        match self.cursor {
            Cursor::New if keeps_pending => self.cursor = Cursor::History(self.last),
            // Frames of live video that did not arrive are lost; the count of the next shows it.
            _ => {}
        }
    }

    /// Leaves it alone for a pause that grows with each time in a row.
    pub fn leave_alone(&mut self, now: Instant) -> Duration {
        let pause = AWAY_MIN.saturating_mul(1 << self.failures.min(10)).min(AWAY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.away = Some(now + pause);
        pause
    }

    pub fn is_away(&self, now: Instant) -> bool {
        self.away.is_some_and(|until| now < until)
    }

    pub fn is_well(&mut self) {
        self.failures = 0;
        self.away = None;
    }
}
