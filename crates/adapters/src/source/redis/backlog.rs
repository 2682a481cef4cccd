//! What is unread, as far as it keeps segments of shared memory alive: those that dead producers have left may be removed
//! once nothing that is still to be read can name them.
//!
//! A handle is sent right after its picture was written. So when all streams were read to their ends some time after the
//! last picture of a segment, everything that names it has been read, and who holds such a handle has it mapped. Shared by
//! the readers of one source, since any of them may have the stream that lags.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So long after its last picture a segment's streams have to have been read to their ends.
const KEPT_MIN: Duration = Duration::from_secs(60);
/// Streams that are not read to their ends, or by other processes, keep segments no longer; memory is none to be kept for
/// ever.
const KEPT_MAX: Duration = Duration::from_secs(3600);

/// Up to when the readers of a source have read.
#[derive(Debug)]
pub struct Backlog {
    begin: Instant,
    /// By reader, in milliseconds from the beginning: when that of its streams was read to its end for which this is
    /// longest ago. `u64::MAX`: not all have been.
    read: Vec<AtomicU64>,
}

impl Backlog {
    /// Nothing is read yet by any of so many readers.
    #[must_use]
    pub fn new(readers: usize, now: Instant) -> Self {
        Self { begin: now, read: (0..readers).map(|_| AtomicU64::new(u64::MAX)).collect() }
    }

    /// A reader has read all its streams to their ends, the last of them then; `None`: it has not.
    pub(super) fn note(&self, reader: usize, read: Option<Instant>) {
        let millis = read.map_or(u64::MAX, |read| self.since_begin(read).as_millis() as u64);
        if let Some(of_reader) = self.read.get(reader) {
            of_reader.store(millis, Ordering::Relaxed);
        }
    }

    /// For how long a dead producer's segment must not have been written to, to be removed; `None`: whatever it is, it may
    /// be named by what is unread.
    pub(super) fn grace(&self, now: Instant) -> Option<Duration> {
        let running = self.since_begin(now);
        let millis =
            |of_reader: &AtomicU64| Some(of_reader.load(Ordering::Relaxed)).filter(|&millis| millis < u64::MAX);
        let read = self.read.iter().map(millis).min().flatten().map(Duration::from_millis);
        match read {
            Some(read) => Some((KEPT_MIN + running.saturating_sub(read)).min(KEPT_MAX)),
            None => (running >= KEPT_MAX).then_some(KEPT_MAX),
        }
    }

    fn since_begin(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_kept_until_all_readers_have_read_beyond_its_last_picture() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        // (when each of two readers has read everything, now) -> how long a segment must have been left alone
        let table = [
            ((None, None), 0, None),
            ((Some(5), None), 100, None),
            ((Some(10), Some(10)), 10, Some(60)),
            ((Some(10), Some(100)), 110, Some(160)), // nothing of the last 100 s, and a minute more
            ((Some(10), Some(3000)), 3000, Some(3050)),
            ((Some(10), Some(5000)), 5000, Some(3600)), // a stream that nobody reads keeps nothing for ever
            ((None, Some(3599)), 3599, None),
            ((None, Some(3600)), 3600, Some(3600)),
        ];
        for ((first, second), now, expected) in table {
            let backlog = Backlog::new(2, begin);
            backlog.note(0, first.map(at));
            backlog.note(1, second.map(at));
            let found = backlog.grace(at(now));
            assert_eq!(found, expected.map(Duration::from_secs), "{first:?} {second:?} {now}");
        }
    }
}
