//! Bounded mailboxes between a source's own threads and its `poll`: one for each camera, announced once when filled.
//!
//! A poll costs a lock for each camera that *has* something, nothing for those that have not: 10,000 quiet cameras are
//! free. A camera's mailbox has one filling thread, so a lock is contended by two threads at most.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Keep;

struct Slot<T> {
    items: VecDeque<T>,
    /// It stands in the queue of filled mailboxes.
    announced: bool,
    /// Its camera waits for room.
    blocked: bool,
}

/// The mailboxes of all cameras of one source.
pub(crate) struct Mailboxes<T> {
    slots: Vec<Mutex<Slot<T>>>,
    capacity: usize,
    /// Positions of filled mailboxes, each at most once: it never holds more than there are cameras.
    announce: Sender<usize>,
    announced: Receiver<usize>,
}

/// What became of a picture that was put into a mailbox.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Kept,
    /// It is in, and the oldest unread one is gone.
    Replaced,
}

/// What a take left behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// More is waiting.
    pub more: bool,
    /// The camera had been waiting for room: wake it.
    pub unblocked: bool,
}

impl<T> Mailboxes<T> {
    /// `capacity` (at least 1) pictures for each of `cameras`.
    pub fn new(cameras: usize, capacity: usize) -> Self {
        let (announce, announced) = bounded(cameras.max(1));
        let slot = || Mutex::new(Slot { items: VecDeque::new(), announced: false, blocked: false });
        Self { slots: (0..cameras).map(|_| slot()).collect(), capacity: capacity.max(1), announce, announced }
    }

    fn slot(&self, position: usize) -> MutexGuard<'_, Slot<T>> {
        // No code that can panic runs under the lock, so a poisoned one is still whole.
        self.slots[position].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for one more; if not, the camera counts as waiting until a take makes room. Only the
    /// camera's own thread asks, so room that was seen cannot vanish before it is used.
    pub fn has_room_or_block(&self, position: usize) -> bool {
        let mut slot = self.slot(position);
        slot.blocked = slot.items.len() >= self.capacity;
        !slot.blocked
    }

    pub fn put(&self, position: usize, item: T, keep: Keep) -> Put {
        let mut slot = self.slot(position);
        let put = if slot.items.len() >= self.capacity && keep == Keep::Newest {
            slot.items.pop_front();
            Put::Replaced
        } else {
            Put::Kept
        };
        slot.items.push_back(item);
        if !slot.announced {
            // Each camera stands in the queue at most once and the queue has a place for each: it is never full.
            slot.announced = self.announce.try_send(position).is_ok();
        }
        put
    }

    /// The next filled mailbox; whoever gets it must [`Self::take`] from it until nothing more is waiting.
    pub fn next_filled(&self) -> Option<usize> {
        self.announced.try_recv().ok()
    }

    /// Takes up to `room` pictures, oldest first.
    pub fn take(&self, position: usize, room: usize, mut to: impl FnMut(T)) -> Taken {
        let mut slot = self.slot(position);
        let count = room.min(slot.items.len());
        // The caller's closure only moves the item into a vector.
        for item in slot.items.drain(..count) {
            to(item);
        }
        let more = !slot.items.is_empty();
        slot.announced = more;
        let unblocked = count > 0 && std::mem::take(&mut slot.blocked);
        Taken { more, unblocked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(boxes: &Mailboxes<u32>, position: usize, room: usize) -> (Vec<u32>, Taken) {
        let mut items = Vec::new();
        let taken = boxes.take(position, room, |item| items.push(item));
        (items, taken)
    }

    #[test]
    fn a_full_mailbox_of_a_live_camera_loses_its_oldest() {
        let boxes = Mailboxes::new(1, 2);
        let puts: Vec<Put> = (1..=3).map(|n| boxes.put(0, n, Keep::Newest)).collect();
        assert_eq!(puts, [Put::Kept, Put::Kept, Put::Replaced]);
        assert_eq!(take(&boxes, 0, 9).0, [2, 3]);
    }

    #[test]
    fn a_filled_mailbox_is_announced_once_until_it_is_empty() {
        let boxes = Mailboxes::new(2, 4);
        for n in 0..3 {
            boxes.put(1, n, Keep::All);
        }
        assert_eq!((boxes.next_filled(), boxes.next_filled()), (Some(1), None));
        assert_eq!(take(&boxes, 1, 2), (vec![0, 1], Taken { more: true, unblocked: false }));
        boxes.put(1, 3, Keep::All);
        assert_eq!(boxes.next_filled(), None, "whoever took it still holds it");
        assert_eq!(take(&boxes, 1, 9).0, [2, 3]);
        boxes.put(1, 4, Keep::All);
        assert_eq!(boxes.next_filled(), Some(1));
    }

    #[test]
    fn a_camera_that_waits_for_room_is_woken_by_the_take_that_makes_it() {
        let boxes = Mailboxes::new(1, 1);
        assert!(boxes.has_room_or_block(0));
        boxes.put(0, 7, Keep::All);
        assert!(!boxes.has_room_or_block(0));
        assert!(!take(&boxes, 0, 0).1.unblocked, "nothing taken, no room made");
        assert!(take(&boxes, 0, 1).1.unblocked);
        assert!(boxes.has_room_or_block(0));
        assert!(!take(&boxes, 0, 1).1.unblocked, "woken once");
    }
}
