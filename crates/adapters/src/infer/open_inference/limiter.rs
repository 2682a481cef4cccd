//! How many requests are worth having on their way: more while the answers stay as quick as they were, fewer when they
//! become slower. Pure: a table of latencies goes in, a number comes out.
//!
//! A server that has room answers each request in its own time; one that has none makes it wait. How long it takes by
//! itself is measured now and then by a *probe*: for a few answers fewer requests are sent, so few that none should wait.
//! (The quickest answer of late would not do: where something always waits, it has waited too, and the limit would creep
//! up for ever.) From that and the answers of now follows how many of the requests on their way only wait:
//! `limit * (1 - alone / now)`. The limit keeps that between [`WAITING_MIN`] and [`WAITING_MAX`], so that the server always
//! finds its next batch and the frames after it wait here, where overtaken ones are still dropped.

use std::time::Duration;

const WAITING_MIN: f64 = 1.0;
const WAITING_MAX: f64 = 3.0;
/// Answers from one probe to the next, and for each request of the limit: a probe lasts two answers for each.
const WINDOW: u32 = 400;
const WINDOW_PER_REQUEST: u32 = 32;
/// A probe sends a quarter fewer requests, and at least so many: more than are ever left waiting.
const PROBE_LESS: usize = 4;
/// Answers of the first probe.
const FIRST_PROBE: u32 = 4;
/// Batch sizes are told apart by their powers of two: larger batches take longer without anything waiting.
const SIZES: usize = 12;
/// What an overload leaves of the limit.
const BACKED_OFF: f64 = 0.7;

/// The limit of one model's requests, adapted by their latencies.
#[derive(Debug, Clone)]
pub(super) struct Limiter {
    limit: f64,
    most: f64,
    /// Answers until the next probe.
    until_probe: u32,
    /// Answers left of the probe; zero: none is made now.
    probing: u32,
    sizes: [Alone; SIZES],
}

/// How long batches of one size take where nothing waits.
#[derive(Debug, Clone, Copy, Default)]
struct Alone {
    /// By the last probe; `None`: it had none of this size.
    takes: Option<Duration>,
    /// Of the probe that is made now.
    sum: Duration,
    answers: u32,
}

impl Limiter {
    /// Begins with two requests, one to run and one to wait, and never has more than `most`.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        let sizes = [Alone::default(); SIZES];
        Self { limit: most.min(2.0), most, until_probe: WINDOW, probing: FIRST_PROBE, sizes }
    }

    pub(super) fn limit(&self) -> usize {
        let limit = self.limit as usize;
        if self.probing == 0 { limit } else { limit.saturating_sub((limit / 4).max(PROBE_LESS)).max(1) }
    }

    /// A batch of `frames` was answered after `took`; `in_flight` were on their way with it when it was sent.
    pub(super) fn answered(&mut self, frames: usize, took: Duration, in_flight: usize) {
        let size = (frames.max(1).ilog2() as usize).min(SIZES - 1);
        let alone = self.sizes[size].takes;
        if self.probing > 0 {
            // Those that were sent before the probe have waited.
            if in_flight <= self.limit() {
                self.sizes[size].sum += took;
                self.sizes[size].answers += 1;
            }
            self.probing -= 1;
            if self.probing == 0 {
                self.end_probe();
            }
            return;
        }
        self.until_probe = self.until_probe.saturating_sub(1);
        if self.until_probe == 0 {
            self.probing = self.limit as u32 * 2;
        }
        // Nothing is learnt of a limit that is not used.
        let (Some(alone), false) = (alone, in_flight + 1 < self.limit as usize || took.is_zero()) else { return };
        let waiting = self.limit * (1.0 - alone.as_secs_f64() / took.as_secs_f64());
        if waiting < WAITING_MIN {
            self.limit += 1.0 / self.limit;
        } else if waiting > WAITING_MAX {
            self.limit -= 1.0 / self.limit;
        }
        self.limit = self.limit.clamp(1.0, self.most);
    }

    fn end_probe(&mut self) {
        for size in &mut self.sizes {
            let takes = size.sum.checked_div(size.answers);
            *size = Alone { takes, ..Alone::default() };
        }
        self.until_probe = WINDOW.max(self.limit as u32 * WINDOW_PER_REQUEST);
    }

    /// The server refused a request because it has too much to do, or could not be reached.
    pub(super) fn overloaded(&mut self) {
        self.limit = (self.limit * BACKED_OFF).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with so many copies of a model that takes 10 ms, under as many requests as the limiter allows.
    fn settle(limiter: &mut Limiter, copies: usize, takes: Duration) -> usize {
        for _ in 0..2000 {
            let in_flight = limiter.limit();
            let took = takes.mul_f64((in_flight as f64 / copies as f64).max(1.0));
            limiter.answered(8, took, in_flight);
        }
        limiter.limit()
    }

    #[test]
    fn the_limit_is_what_the_server_runs_at_once_and_one_to_three_that_wait() {
        for copies in [1, 2, 4, 16, 40] {
            let limit = settle(&mut Limiter::new(64), copies, Duration::from_millis(10));
            assert!((copies + 1..=copies + 3).contains(&limit), "{copies} copies: {limit}");
        }
        assert_eq!(settle(&mut Limiter::new(8), 40, Duration::from_millis(10)), 8, "never more than the most");
    }

    #[test]
    fn a_server_that_grows_or_shrinks_is_followed() {
        let mut limiter = Limiter::new(64);
        for copies in [2, 8, 3, 1] {
            let limit = settle(&mut limiter, copies, Duration::from_millis(10));
            assert!((copies..=copies + 4).contains(&limit), "{copies} copies: {limit}");
        }
    }

    #[test]
    fn a_server_that_becomes_slower_for_good_keeps_its_limit() {
        let mut limiter = Limiter::new(64);
        settle(&mut limiter, 4, Duration::from_millis(10));
        let limit = settle(&mut limiter, 4, Duration::from_millis(30));
        assert!((4..=8).contains(&limit), "{limit}");
    }

    #[test]
    fn an_unused_limit_does_not_grow_and_an_overload_shrinks_it() {
        let mut limiter = Limiter::new(64);
        for _ in 0..1000 {
            limiter.answered(1, Duration::from_millis(5), 0);
        }
        assert_eq!(limiter.limit(), 2);
        let limit = settle(&mut limiter, 16, Duration::from_millis(10));
        limiter.overloaded();
        assert!(limiter.limit() < limit);
        for _ in 0..100 {
            limiter.overloaded();
        }
        assert_eq!(limiter.limit(), 1, "one request always finds out");
    }

    #[test]
    fn batches_of_different_sizes_are_not_held_against_each_other() {
        let mut limiter = Limiter::new(16);
        for round in 0..4000_u64 {
            let frames = if round % 2 == 0 { 1 } else { 64 };
            let (in_flight, takes) = (limiter.limit(), Duration::from_millis(8 + frames));
            limiter.answered(frames as usize, takes.mul_f64((in_flight as f64 / 8.0).max(1.0)), in_flight);
        }
        assert!((9..=11).contains(&limiter.limit()), "{}", limiter.limit());
    }
}
