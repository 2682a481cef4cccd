//! Runs one prepared batch and gives every frame of it an outcome: its own output, or its own named failure.

use omma_frame::{DropReason, Outcome, Output};

use super::backend::{Backend, BackendError, BatchInput, BatchLimit, Reply};
use crate::panics::caught;
use crate::picture::Fit;
use crate::tensor::TensorView;

/// Reads the outputs of the frame in a slot (without the batch dimension) into what they mean, or says why it can't.
pub type ReadOutputs<'a> = dyn FnMut(usize, &[TensorView<'_>], &Fit) -> Result<Output, String> + Send + 'a;

/// Collects a backend's answer. One outcome per input, whatever the backend does: what it leaves open has failed.
pub struct Collector<'a> {
    read: &'a mut ReadOutputs<'a>,
    fits: &'a [Fit],
    limit: BatchLimit,
    outcomes: Vec<Option<Outcome>>,
    answered: bool,
}

impl<'a> Collector<'a> {
    #[must_use]
    pub fn new(read: &'a mut ReadOutputs<'a>, fits: &'a [Fit], limit: BatchLimit) -> Self {
        Self { read, fits, limit, outcomes: vec![None; fits.len()], answered: false }
    }

    fn fail_open(&mut self, reason: DropReason, message: &str) {
        for outcome in self.outcomes.iter_mut().filter(|outcome| outcome.is_none()) {
            *outcome = Some(Outcome::Dropped { reason, detail: Some(message.into()) });
        }
    }

    /// The outcomes, one per input, given the error that the backend's call ended with, if any.
    #[must_use]
    pub fn finish(mut self, error: Option<&BackendError>) -> Vec<Outcome> {
        match error {
            // Outputs that came before the failure are not trusted: the backend itself says that the batch failed.
            Some(error) => {
                self.outcomes.fill(None);
                self.fail_open(error.reason, &error.message);
            }
            None if !self.answered => self.fail_open(DropReason::WrongCount, "the backend returned no outputs"),
            None => self.fail_open(DropReason::WrongCount, "the backend returned no output for this frame"),
        }
        self.outcomes.into_iter().flatten().collect()
    }
}

impl Reply for Collector<'_> {
    fn outputs(&mut self, tensors: &[TensorView<'_>]) {
        let inputs = self.fits.len();
        let expected = match self.limit {
            BatchLimit::UpTo(_) => inputs,
            BatchLimit::Exactly(count) => count,
        };
        self.answered = true;
        if let Some(wrong) = tensors.iter().find(|tensor| tensor.shape.first() != Some(&expected)) {
            let message = format!(
                "output `{}` has shape {:?}, expected {expected} in its first dimension, one for each input",
                wrong.name, wrong.shape
            );
            return self.fail_open(DropReason::WrongCount, &message);
        }
        let mut items = Vec::with_capacity(tensors.len());
        for (index, (outcome, fit)) in self.outcomes.iter_mut().zip(self.fits).enumerate() {
            if outcome.is_some() {
                continue;
            }
            items.clear();
            items.extend(tensors.iter().filter_map(|tensor| tensor.item(index)));
            let unreadable =
                |message: &str| Outcome::Dropped { reason: DropReason::OutputUnreadable, detail: Some(message.into()) };
            *outcome = Some(if items.len() < tensors.len() {
                unreadable("an output's values do not fill its shape")
            } else {
                match caught(|| (self.read)(index, &items, fit)) {
                    Ok(Ok(output)) => Outcome::Inferred(output),
                    Ok(Err(message)) => unreadable(&message),
                    Err(_) => unreadable("the output decoder panicked on it"),
                }
            });
        }
    }

    fn fail(&mut self, index: usize, message: &str) {
        if let Some(outcome) = self.outcomes.get_mut(index) {
            *outcome = Some(Outcome::Dropped { reason: DropReason::BackendFailed, detail: Some(message.into()) });
        }
    }
}

/// What a backend's panic comes to: its instance is not to be trusted any more.
#[must_use]
pub fn panicked(said: &str) -> BackendError {
    let message = format!("the backend panicked: {said}");
    BackendError { reason: DropReason::BackendPanicked, message, reopen: true }
}

/// Runs the batch on a blocking backend. A panic fails the batch and asks for a new instance.
pub fn run<'a>(
    backend: &mut dyn Backend,
    input: BatchInput<'_>,
    fits: &'a [Fit],
    limit: BatchLimit,
    read: &'a mut ReadOutputs<'a>,
) -> (Vec<Outcome>, Option<BackendError>) {
    let mut collector = Collector::new(read, fits, limit);
    let ended = caught(|| backend.infer(input, &mut collector)).unwrap_or_else(|said| Err(panicked(&said)));
    let outcomes = collector.finish(ended.as_ref().err());
    (outcomes, ended.err())
}
