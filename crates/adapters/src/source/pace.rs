//! When pictures are due: pure arithmetic over the engine's clock.

use std::time::Duration;

use omma_frame::Mono;

/// How fast a source that makes or replays pictures goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Pictures per second and camera; above zero.
    PerSecond(f64),
    /// As fast as the engine takes them.
    Unlimited,
}

impl Pace {
    /// Whether this is a pace that time can be measured by: `PerSecond` of a finite number above zero.
    #[must_use]
    pub fn is_valid(self) -> bool {
        match self {
            Self::PerSecond(rate) => rate.is_finite() && rate > 0.0,
            Self::Unlimited => true,
        }
    }
}

/// The timetable of one camera: picture `n` is due `(n + phase) / rate` seconds after the start.
///
/// Each due time is computed from the start, not from the one before it, so that rounding never adds up to a drift.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timetable {
    start: Mono,
    pace: Pace,
    /// Part of a period, 0 to 1, by which this camera comes later than the first.
    phase: f64,
}

impl Timetable {
    pub fn new(start: Mono, pace: Pace, phase: f64) -> Self {
        Self { start, pace, phase }
    }

    /// When picture `n` (from 0) is due.
    pub fn due(&self, n: u64) -> Mono {
        match self.pace {
            Pace::Unlimited => self.start,
            Pace::PerSecond(rate) => Mono(self.start.0.saturating_add(((n as f64 + self.phase) / rate * 1e9) as u64)),
        }
    }

    /// The newest picture that is due at `now`, if any is. With [`Pace::Unlimited`] that has no answer but `None`:
    /// nothing is ever overtaken there.
    pub fn newest_due(&self, now: Mono) -> Option<u64> {
        let Pace::PerSecond(rate) = self.pace else { return None };
        if now < self.due(0) {
            return None;
        }
        let guess = (now.since(self.start).as_secs_f64() * rate - self.phase) as u64;
        // Floating point may be off by one at the very edge; `due` decides.
        [guess + 1, guess, guess.saturating_sub(1)].into_iter().find(|&n| self.due(n) <= now)
    }

    /// The time between two pictures; zero when there is no pace.
    pub fn period(&self) -> Duration {
        match self.pace {
            Pace::Unlimited => Duration::ZERO,
            Pace::PerSecond(rate) => Duration::from_secs_f64((1.0 / rate).min(1e9)),
        }
    }

    /// After a stall: moves the timetable so that picture `n` is at most `lateness` overdue. What was missed is not
    /// caught up in one burst.
    pub fn forgive(&mut self, n: u64, now: Mono, lateness: Duration) {
        let late = now.since(self.due(n));
        if late > lateness {
            self.start = self.start.plus(late - lateness);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn table(rate: f64, phase: f64) -> Timetable {
        Timetable::new(Mono(SECOND), Pace::PerSecond(rate), phase)
    }

    #[test]
    fn due_times() {
        for (rate, phase, n, due) in [
            (10.0, 0.0, 0, SECOND),
            (10.0, 0.0, 1, SECOND + 100_000_000),
            (10.0, 0.5, 0, SECOND + 50_000_000),
            (0.5, 0.0, 3, 7 * SECOND),
            // A day of an awkward rate: not a nanosecond of drift beyond rounding.
            (29.97, 0.0, 29_970 * 864, SECOND + 864_000 * SECOND),
        ] {
            assert!(table(rate, phase).due(n).0.abs_diff(due) <= 200, "rate {rate} phase {phase} picture {n}");
        }
    }

    #[test]
    fn unlimited_is_always_due_and_never_overtaken() {
        let table = Timetable::new(Mono(5), Pace::Unlimited, 0.0);
        assert_eq!((table.due(u64::MAX), table.newest_due(Mono(u64::MAX))), (Mono(5), None));
    }

    #[test]
    fn paces_that_time_cannot_be_measured_by() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(!Pace::PerSecond(rate).is_valid(), "{rate}");
        }
        assert!(Pace::PerSecond(0.001).is_valid() && Pace::Unlimited.is_valid());
    }

    #[test]
    fn a_stall_is_forgiven_but_a_late_poll_is_not() {
        let mut table = table(10.0, 0.0);
        table.forgive(3, Mono(SECOND + 350_000_000), Duration::from_secs(1));
        assert_eq!(table.due(3).0, SECOND + 300_000_000, "50 ms late: caught up");
        table.forgive(3, Mono(61 * SECOND), Duration::from_secs(1));
        assert_eq!(table.due(3).0, 60 * SECOND, "a minute late: one second of it is caught up");
    }

    proptest! {
        #[test]
        fn the_newest_due_is_due_and_the_next_is_not(
            rate in 0.01f64..1000.0, phase in 0.0f64..1.0, after in 0u64..100_000 * SECOND,
        ) {
            let (table, now) = (table(rate, phase), Mono(SECOND + after));
            match table.newest_due(now) {
                None => prop_assert!(table.due(0) > now),
                Some(n) => prop_assert!(table.due(n) <= now && table.due(n + 1) > now),
            }
        }
    }
}
