//! The sink that keeps nothing: for measuring everything before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use omma_engine::cameras::Camera;
use omma_engine::sink::{Sink, SinkError};
use omma_frame::{FrameResult, Outcome};

/// Counts results and forgets them.
#[derive(Debug, Default)]
pub struct NullSink {
    counts: Arc<NullCounts>,
}

/// What a [`NullSink`] was given. Written once per call, not once per result.
#[derive(Debug, Default)]
pub struct NullCounts {
    results: AtomicU64,
    errors: AtomicU64,
}

impl NullCounts {
    /// All results, error results among them.
    pub fn results(&self) -> u64 {
        self.results.load(Ordering::Relaxed)
    }

    /// Error results.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

impl NullSink {
    /// Stays readable after the sink has moved into the engine.
    #[must_use]
    pub fn counts(&self) -> Arc<NullCounts> {
        Arc::clone(&self.counts)
    }
}

impl Sink for NullSink {
    fn publish(&mut self, results: &[FrameResult], _: &[Arc<Camera>]) -> Result<(), SinkError> {
        let errors = results.iter().filter(|result| matches!(result.outcome, Outcome::Dropped { .. })).count();
        self.counts.results.fetch_add(results.len() as u64, Ordering::Relaxed);
        self.counts.errors.fetch_add(errors as u64, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_frame::CameraIndex;
    use omma_testkit::sink::{cameras, outcomes, result};

    #[test]
    fn counts_results_and_errors() {
        let mut sink = NullSink::default();
        let counts = sink.counts();
        let results: Vec<_> = outcomes().into_iter().map(|outcome| result(CameraIndex(0), 1, outcome)).collect();
        sink.publish(&results, &cameras(&["a"])).expect("never fails");
        assert_eq!((counts.results(), counts.errors()), (8, 2));
    }
}
