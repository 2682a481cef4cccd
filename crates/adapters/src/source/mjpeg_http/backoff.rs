//! Pauses between attempts that grow, with jitter so that a thousand cameras behind one switch do not come back in step.

use std::time::Duration;

#[derive(Debug, Clone)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// `seed` tells the cameras' jitters apart.
    pub fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min: min.min(max), max, failures: 0, random: seed }
    }

    /// The pause after one more failure in a row: doubled each time up to `max`, of which a random half is left out.
    pub fn next(&mut self) -> Duration {
        let doublings = self.failures.min(31);
        self.failures = self.failures.saturating_add(1);
        let full = self.min.saturating_mul(1 << doublings).min(self.max);
        self.jittered(full)
    }

    /// The longest pause, for what a quick new attempt cannot mend.
    pub fn longest(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.jittered(self.max)
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// A number that nobody can foresee from outside is not needed, only a different one each time (splitmix64).
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn jittered(&mut self, full: Duration) -> Duration {
        let part = (self.random() >> 11) as f64 / (1u64 << 53) as f64;
        full.mul_f64(0.5 + part / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_their_jitter_and_stay_below_the_longest() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10), 7);
        for full in [1, 2, 4, 8, 10, 10, 10] {
            let (pause, full) = (backoff.next(), Duration::from_secs(full));
            assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
        }
        (0..100).for_each(|_| assert!(backoff.next() <= Duration::from_secs(10)));
        backoff.succeeded();
        assert!(backoff.next() <= Duration::from_secs(1));
        assert!(backoff.longest() >= Duration::from_secs(5));
    }

    #[test]
    fn cameras_do_not_come_back_in_step() {
        let mut pauses: Vec<Duration> =
            (0..100).map(|seed| Backoff::new(Duration::from_secs(1), Duration::from_secs(1), seed).next()).collect();
        pauses.sort();
        assert!(pauses[90] - pauses[10] > Duration::from_millis(300), "{:?} to {:?}", pauses[10], pauses[90]);
    }
}
