//! Where results go. A sink lives on its own writer thread with its own bounded buffer, so that a full one delays
//! nobody but the cameras that publish to it.

pub mod buffer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use omma_frame::FrameResult;

use crate::cameras::Camera;

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    Now,
    /// After a pause that grows with each failure in a row.
    Backoff,
    /// The same results will fail the same way: drop them by name and go on.
    Never,
}

/// Takes results, in order for each camera.
pub trait Sink: Send {
    /// Publishes results in the order given and returns once they are as durable as this sink promises. `cameras` is
    /// the table that the results' indexes point into.
    ///
    /// # Errors
    /// [`SinkError`] says how many of the results, from the front, are done with all the same.
    fn publish(&mut self, results: &[FrameResult], cameras: &[Arc<Camera>]) -> Result<(), SinkError>;

    /// The shortest time from one publication to the next: for sinks where a publication costs much, however small it is.
    /// The first result after a lull never waits. Results that were long on their way may wait a little longer for
    /// company (see [`interval`]).
    fn interval_min(&self) -> Duration {
        Duration::ZERO
    }
}

/// The part of its way so far that a result may wait for company, and the longest.
const COMPANY_DIVISOR: u32 = 50;
const COMPANY_MAX: Duration = Duration::from_millis(10);

/// The time from a publication to the next one, at a sink with this shortest time, if its results had been on their way
/// for `age`. Where frames queue, what they wait here is 2% of what they have waited already, and one publication does
/// for many. Pure.
#[must_use]
pub fn interval(interval_min: Duration, age: Duration) -> Duration {
    if interval_min.is_zero() { interval_min } else { interval_min.max((age / COMPANY_DIVISOR).min(COMPANY_MAX)) }
}

/// A failed publication.
#[derive(Debug)]
pub struct SinkError {
    pub sink: String,
    /// Results from the front of the call that are done with; they are not given again. All but those in `refused` are
    /// published.
    pub published: usize,
    /// Places below `published`, rising, of results that this sink will never take although it takes others.
    pub refused: Vec<usize>,
    pub message: String,
    pub retry: Retry,
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sink, self.message)
    }
}

impl std::error::Error for SinkError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_wait_for_company_a_small_part_of_their_way_and_only_where_it_pays() {
        // (shortest interval, age) -> interval, in us
        for (interval_min, age, expected) in [
            (0, 1_000_000, 0),
            (1000, 0, 1000),
            (1000, 50_000, 1000),
            (1000, 200_000, 4000),
            (1000, 60_000_000, 10_000),
        ] {
            let micros = Duration::from_micros;
            assert_eq!(interval(micros(interval_min), micros(age)), micros(expected), "{interval_min} us, {age} us");
        }
    }
}
