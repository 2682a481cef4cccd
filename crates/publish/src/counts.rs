//! What became of the frames: counted by the workers, read by whoever watches.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a frame that was due was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unsent {
    /// Its turn came more than a second after it was due: Redis or this machine is too slow for the rate.
    Behind,
    /// There was no connection to Redis when it was due.
    Disconnected,
    /// It was sent, and the connection was lost before the answer: it may have arrived.
    Unconfirmed,
    /// Redis is at its `maxmemory`.
    OutOfMemory,
    /// Redis refused it for another reason.
    Refused,
    /// It does not fit into the ring, or the ring's segment is lost.
    Ring,
}

impl Unsent {
    pub const ALL: [Self; 6] =
        [Self::Behind, Self::Disconnected, Self::Unconfirmed, Self::OutOfMemory, Self::Refused, Self::Ring];

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Disconnected => "disconnected",
            Self::Unconfirmed => "unconfirmed",
            Self::OutOfMemory => "out_of_memory",
            Self::Refused => "refused",
            Self::Ring => "ring",
        }
    }
}

/// The counts so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Redis has said that it has them.
    pub sent: u64,
    /// Those of them that were sent more than the time between two frames (at least 10 ms) after they were due.
    pub late: u64,
    /// Payload bytes of those that were sent, through Redis or in the ring.
    pub bytes: u64,
    unsent: [u64; Unsent::ALL.len()],
}

impl Counts {
    #[must_use]
    pub fn unsent(&self, why: Unsent) -> u64 {
        self.unsent[why as usize]
    }

    /// The reasons that occurred, with their counts.
    pub fn reasons(&self) -> impl Iterator<Item = (Unsent, u64)> + '_ {
        Unsent::ALL.into_iter().map(|why| (why, self.unsent(why))).filter(|(_, count)| *count > 0)
    }

    #[must_use]
    pub fn unsent_total(&self) -> u64 {
        self.unsent.iter().sum()
    }
}

/// One worker's counts; it alone writes them.
#[derive(Default)]
pub(crate) struct Tally {
    sent: AtomicU64,
    late: AtomicU64,
    bytes: AtomicU64,
    unsent: [AtomicU64; Unsent::ALL.len()],
}

impl Tally {
    pub fn sent(&self, frames: u64, late: u64, bytes: u64) {
        for (count, more) in [(&self.sent, frames), (&self.late, late), (&self.bytes, bytes)] {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub fn unsent(&self, why: Unsent, frames: u64) {
        if frames > 0 {
            self.unsent[why as usize].fetch_add(frames, Ordering::Relaxed);
        }
    }

    pub fn add_to(&self, counts: &mut Counts) {
        counts.sent += self.sent.load(Ordering::Relaxed);
        counts.late += self.late.load(Ordering::Relaxed);
        counts.bytes += self.bytes.load(Ordering::Relaxed);
        for (sum, count) in counts.unsent.iter_mut().zip(&self.unsent) {
            *sum += count.load(Ordering::Relaxed);
        }
    }
}
