//! A sink's writer: takes what has gathered in the buffer, publishes it, retries, and settles the frames.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use omma_frame::{DropReason, Outcome};

use super::shared::{Publication, Shared};
use crate::lifecycle::Phase;
use crate::metrics::StageGatherer;
use crate::panics::caught;
use crate::report::Level;
use crate::sink::buffer::{Delivery, MERGED_MAX};
use crate::sink::{Retry, Sink, SinkError, interval};

/// How long the writer sleeps before it looks at the phase again.
const SLEEP: Duration = Duration::from_millis(100);
/// `Retry::Now` without progress in a row before it is treated as `Backoff`.
const NOW_MAX: u32 = 3;

pub(super) struct Writer {
    pub(super) number: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) sink: Box<dyn Sink>,
}

impl Writer {
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mine = &shared.buffers[self.number];
        let counters = &shared.metrics.sinks[self.number];
        let engine = &shared.plan.engine;
        let mut gatherer = StageGatherer::new(
            Arc::clone(&shared.metrics.stages),
            engine.metrics_aggregation_frames,
            engine.metrics_interval,
        );
        loop {
            let delivery = {
                let mut buffer = mine.buffer.lock();
                let delivery = buffer.pop();
                if delivery.is_none() {
                    if shared.lifecycle.phase() == Phase::Stopped {
                        break;
                    }
                    // Waiting ends with the metrics' interval, so that figures of a quiet pipeline show.
                    mine.filled.wait_for(&mut buffer, SLEEP);
                }
                counters.buffered.store(buffer.frames() as u64, Ordering::Relaxed);
                delivery
            };
            if let Some(delivery) = delivery {
                let since = shared.clock.mono();
                let current =
                    Publication { delivery: Arc::clone(&delivery), taken: 0, refused: Vec::new(), since, told: false };
                *mine.current.lock() = Some(current);
                let (taken, reason) = self.publish(&delivery);
                // Empty: the engine has stopped waiting for this publication and settled it.
                let Some(current) = mine.current.lock().take() else { return };
                counters.published.fetch_add((taken - current.refused.len()) as u64, Ordering::Relaxed);
                let now = shared.clock.mono();
                if current.told {
                    let subject = format!("sink {}", shared.plan.sinks[self.number].name);
                    shared.reports.say(Level::Info, &subject, "unstuck", || {
                        format!("takes results again after {:.1} s", now.since(since).as_secs_f64())
                    });
                }
                if shared.delivered(&delivery, taken, &current.refused, reason) {
                    for (place, result) in delivery.results[..taken].iter().enumerate() {
                        let published = current.refused.binary_search(&place).is_err();
                        if published && matches!(result.outcome, Outcome::Inferred(_)) {
                            gatherer.record(&result.timing, now);
                        }
                    }
                }
                let age = delivery.results.last().map_or(Duration::ZERO, |last| since.since(last.timing.received));
                let rest = interval(self.sink.interval_min(), age).saturating_sub(now.since(since));
                // A full delivery has all the company that it could have.
                let full = delivery.results.len() >= MERGED_MAX;
                if !full && !rest.is_zero() && shared.lifecycle.phase() == Phase::Running {
                    std::thread::sleep(rest);
                }
            }
            gatherer.tick(shared.clock.mono());
        }
        gatherer.flush(shared.clock.mono());
    }

    /// Publishes until it has succeeded, can never succeed, or nobody waits any more. Returns how many results the sink
    /// is done with, and why it did not take the rest; those that it refused stand in the publication.
    fn publish(&mut self, delivery: &Delivery) -> (usize, DropReason) {
        let shared = &self.shared;
        let plan = &shared.plan.sinks[self.number];
        let counters = &shared.metrics.sinks[self.number];
        let cameras = shared.cameras.snapshot();
        let mut taken = 0;
        let mut pause = plan.backoff_min;
        let mut at_once = 0;
        loop {
            let published = caught(|| self.sink.publish(&delivery.results[taken..], &cameras));
            let error = match published.unwrap_or_else(|said| Err(panicked(&plan.name, &said))) {
                Ok(()) => {
                    self.well();
                    return (delivery.results.len(), DropReason::SinkFailed);
                }
                Err(error) => error,
            };
            let progress = error.published.min(delivery.results.len() - taken);
            let refused = error.refused.iter().filter(|place| **place < progress).map(|place| taken + place);
            // What is published is so even if the rest never will be.
            let Some(()) = shared.buffers[self.number].current.lock().as_mut().map(|current| {
                current.taken = taken + progress;
                current.refused.extend(refused);
            }) else {
                return (taken, DropReason::Shutdown);
            };
            taken += progress;
            if taken == delivery.results.len() {
                // It works, but for results that nothing can help.
                self.well();
                let subject = format!("sink {}", plan.name);
                shared.reports.say(Level::Error, &subject, "refused", || error.to_string());
                return (taken, DropReason::SinkFailed);
            }
            counters.failing.store(1, Ordering::Relaxed);
            counters.retries.fetch_add(1, Ordering::Relaxed);
            if progress > 0 {
                pause = plan.backoff_min;
                at_once = 0;
            }
            shared.reports.say(Level::Error, &format!("sink {}", plan.name), "publish", || error.to_string());
            match error.retry {
                Retry::Never => return (taken, DropReason::SinkFailed),
                Retry::Now if at_once < NOW_MAX => at_once += 1,
                Retry::Now | Retry::Backoff => {
                    if self.given_up() {
                        return (taken, DropReason::Shutdown);
                    }
                    self.sleep(pause);
                    pause = (pause * 2).min(plan.backoff_max);
                }
            }
            if self.given_up() {
                return (taken, DropReason::Shutdown);
            }
        }
    }

    /// Says so, if the sink was failing.
    fn well(&self) {
        let plan = &self.shared.plan.sinks[self.number];
        if self.shared.metrics.sinks[self.number].failing.swap(0, Ordering::Relaxed) > 0 {
            let subject = format!("sink {}", plan.name);
            self.shared.reports.say(Level::Info, &subject, "back", || "publishing again".to_owned());
        }
    }

    /// Sleeps in slices, so that a stop is not held up by a long pause.
    fn sleep(&self, pause: Duration) {
        let mut left = pause;
        while !left.is_zero() && !self.given_up() {
            let slice = left.min(SLEEP);
            std::thread::sleep(slice);
            left -= slice;
        }
    }

    fn given_up(&self) -> bool {
        self.shared.lifecycle.phase() == Phase::Stopped
    }
}

/// How far a sink that panicked had come is not known: to give it the same results again might publish them twice.
fn panicked(name: &str, said: &str) -> SinkError {
    let message = format!("the sink panicked: {said}");
    SinkError { sink: name.to_owned(), published: 0, refused: Vec::new(), message, retry: Retry::Never }
}
