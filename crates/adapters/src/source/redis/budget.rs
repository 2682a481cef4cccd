//! How much one reading may ask for, so that an answer stays within its budget of bytes: pure arithmetic.
//!
//! COUNT is per stream, so what an answer may come to is streams x COUNT x bytes. How large entries are and how many of
//! those asked for are there is learned from the answers.

use std::time::Duration;

/// Before anything was read: half of what a camera's JPEG has.
const BYTES_PER_ENTRY_FIRST: f64 = 64.0 * 1024.0;
/// The part of what is asked for that is expected at least: when cameras are read as they deliver, most have nothing.
const FILL_MIN: f64 = 1.0 / 16.0;
/// Entries of one stream that are asked for where there is not room for one of each.
const ENTRIES_EACH: usize = 8;
/// Weight of the newest answer.
const LEARNING: f64 = 0.25;
/// What asking one stream costs the server and us together, as measured with streams that have nothing.
const STREAM_COST: Duration = Duration::from_nanos(1000);
/// A command costs as much as so many streams in it.
const COMMAND_STREAMS: usize = 2;
/// Asking may take this part of the time.
const ASKING_PART: u32 = 10;

/// However many streams there are.
const PATIENCE_MAX: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub(super) struct Budget {
    reply_bytes: f64,
    entries_max: f64,
    bytes_per_entry: f64,
    /// Entries that came by entries asked for.
    fill: f64,
}

impl Budget {
    /// `reply_bytes` and `entries_max`: what the answers to one pipeline should come to at most.
    pub fn new(reply_bytes: usize, entries_max: usize) -> Self {
        Self {
            reply_bytes: reply_bytes.max(1) as f64,
            entries_max: entries_max.max(1) as f64,
            bytes_per_entry: BYTES_PER_ENTRY_FIRST,
            fill: 1.0,
        }
    }

    /// Of `streams` that have room: how many to ask now, and for how many entries each, a power of two.
    pub fn plan(&self, streams: usize, count_max: usize) -> (usize, usize) {
        let expected = (self.reply_bytes / self.bytes_per_entry).min(self.entries_max) / self.fill.max(FILL_MIN);
        let entries = (expected as usize).max(1);
        let each = entries / streams.max(1);
        // Where not all have a turn, several entries of those that have: a visit costs the server as much as an entry.
        let count = if each > 0 { each } else { ENTRIES_EACH.min(entries) }.clamp(1, count_max.max(1));
        (streams.min((entries / count).max(1)), power_below(count))
    }

    pub fn learn(&mut self, bytes: u64, entries: usize, asked: usize) {
        if asked > 0 {
            self.fill += LEARNING * (entries as f64 / asked as f64 - self.fill);
        }
        if entries > 0 {
            let bytes = bytes as f64 / entries as f64;
            // Larger ones are believed at once.
            let step = if bytes > self.bytes_per_entry { 1.0 } else { LEARNING };
            self.bytes_per_entry = (self.bytes_per_entry + step * (bytes - self.bytes_per_entry)).max(1.0);
        }
    }
}

/// The largest power of two that is not above, at least 1.
pub(super) fn power_below(count: usize) -> usize {
    1 << count.max(1).ilog2()
}

/// How long streams are left unasked of which one does not know when they will have something.
pub(super) fn patience(streams: usize) -> Duration {
    rest(streams, 0).min(PATIENCE_MAX)
}

/// The pause after so many streams were asked with so many commands: the more there are at a time, the more each will have
/// by the next.
pub(super) fn rest(asked: usize, commands: usize) -> Duration {
    let costs = u32::try_from(asked + commands * COMMAND_STREAMS).unwrap_or(u32::MAX);
    STREAM_COST.saturating_mul(costs).saturating_mul(ASKING_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_a_turn_asks_for() {
        // Streams, bytes of an entry, part that comes; asked streams and COUNT.
        let table = [
            (1000, 150, 1.0, (1000, 4)),
            (100, 150, 1.0, (100, 32)),
            (1, 150, 1.0, (1, 32)),
            (10_000, 150, 1.0, (512, 8)),
            (10_000, 150, 0.05, (10_000, 4)),
            (1000, 40_000, 1.0, (13, 8)),
            (1000, 40_000, 0.05, (1000, 1)),
            (10, 40_000, 1.0, (10, 8)),
            (10, 500 * MIB, 1.0, (1, 1)),
        ];
        for (streams, bytes, fill, expected) in table {
            let mut budget = Budget::new(4 * MIB, 4096);
            for _ in 0..100 {
                budget.learn((bytes * 1000) as u64, 1000, (1000.0 / fill) as usize);
            }
            assert_eq!(budget.plan(streams, 32), expected, "{streams} streams, {bytes} bytes, {fill}");
        }
    }

    #[test]
    fn one_answer_of_large_entries_is_enough_to_ask_for_less() {
        let mut budget = Budget::new(4 * MIB, 4096);
        (0..100).for_each(|_| budget.learn(150, 1, 1));
        assert_eq!(budget.plan(100, 32), (100, 32));
        budget.learn(400_000, 4, 4);
        assert_eq!(budget.plan(100, 32), (5, 8));
    }

    #[test]
    fn pauses_follow_what_is_asked() {
        // Streams, commands; milliseconds.
        for (asked, commands, millis) in [(0, 0, 0), (100, 0, 1), (50, 25, 1), (1000, 32, 10), (10_000, 32, 100)] {
            assert_eq!(rest(asked, commands).as_millis(), millis, "{asked} with {commands}");
        }
        for (streams, millis) in [(0, 0), (100, 1), (1000, 10), (20_000, 100), (usize::MAX / 2, 100)] {
            assert_eq!(patience(streams).as_millis(), millis, "{streams}");
        }
    }
}
