//! Direct requests for tensors: prepared values go straight into the batch's slots, outputs straight out of the model's.
//!
//! A request of several items is as many entries of the batcher, which may run in several batches, and is answered as a
//! whole, once: when its last item is done. Costs one small allocation per item, and nothing to camera frames.

use std::sync::Arc;

use omma_frame::{DropReason, FrameResult, Outcome, Output};
use parking_lot::Mutex;

use super::work::Caller;
use crate::panics::caught;
use crate::picture::{Fit, PictureError};
use crate::tensor::TensorView;

/// The tensors of one direct request, both ways. Called on the model's threads: for an item once [`Exchange::fill`], then
/// once [`Exchange::take`] while the outputs are alive. A hung model may call [`Exchange::take`] after its request has
/// been answered; that must come to nothing.
pub trait Exchange: Send + Sync {
    /// Fills a slot completely.
    ///
    /// # Errors
    /// The values cannot be read; the request fails by the reason given.
    fn fill(&self, item: usize, slot: &mut [u8]) -> Result<(), PictureError>;

    /// Takes the outputs of an item, without their batch dimension.
    ///
    /// # Errors
    /// They are not what was asked for; the request fails as `output_unreadable`.
    fn take(&self, item: usize, outputs: &[TensorView<'_>]) -> Result<(), String>;
}

/// One item of a request's tensors.
#[derive(Clone)]
pub struct Item {
    pub exchange: Arc<dyn Exchange>,
    pub number: usize,
}

impl Item {
    pub(super) fn fill(&self, slot: &mut [u8]) -> Result<(), PictureError> {
        caught(|| self.exchange.fill(self.number, slot)).unwrap_or_else(|said| {
            Err(PictureError {
                reason: DropReason::PictureUnfit,
                message: format!("reading the request's values panicked: {said}"),
            })
        })
    }
}

/// Reads the outputs of a batch in which some slots belong to direct requests: `takers` by slot, ascending. `decode` reads
/// the others.
pub fn read_for<'a>(
    takers: &'a [(usize, Item)],
    mut decode: impl FnMut(&[TensorView<'_>], &Fit) -> Result<Output, String> + Send + 'a,
) -> impl FnMut(usize, &[TensorView<'_>], &Fit) -> Result<Output, String> + Send + 'a {
    move |slot, views, fit| {
        if takers.is_empty() {
            return decode(views, fit);
        }
        match takers.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(at) => {
                let item = &takers[at].1;
                item.exchange.take(item.number, views).map(|()| Output::Nothing)
            }
            Err(_) => decode(views, fit),
        }
    }
}

/// A request of several items, until the last of them is done.
struct Gathering {
    caller: Option<Box<dyn Caller>>,
    /// Items that are not done.
    open: usize,
    /// What the items done so far come to.
    result: Option<FrameResult>,
}

/// The caller of one item, who answers for the whole request when the last item is done.
struct Part(Option<Arc<Mutex<Gathering>>>);

/// One caller for each of `items`, who together answer `caller` once.
pub fn gather(caller: Box<dyn Caller>, items: usize) -> Vec<Box<dyn Caller>> {
    if items == 1 {
        return vec![caller];
    }
    let gathering = Arc::new(Mutex::new(Gathering { caller: Some(caller), open: items, result: None }));
    (0..items).map(|_| Box::new(Part(Some(Arc::clone(&gathering)))) as Box<dyn Caller>).collect()
}

/// The caller whom [`gather`] made many of, if none of them has been answered or let go.
pub fn regather(mut parts: Vec<Box<dyn Caller>>) -> Option<Box<dyn Caller>> {
    if parts.len() == 1 {
        return parts.pop();
    }
    parts.into_iter().filter_map(Caller::whole).next()
}

impl Caller for Part {
    fn waits(&self) -> bool {
        self.0.as_ref().is_some_and(|gathering| gathering.lock().caller.as_ref().is_some_and(|caller| caller.waits()))
    }

    fn answer(mut self: Box<Self>, result: FrameResult) {
        let Some(gathering) = self.0.take() else { return };
        let mut inner = gathering.lock();
        inner.open -= 1;
        let merged = match inner.result.take() {
            None => result,
            Some(before) => merge(before, result),
        };
        if inner.open > 0 {
            inner.result = Some(merged);
            return;
        }
        let caller = inner.caller.take();
        drop(inner);
        if let Some(caller) = caller {
            caller.answer(merged);
        }
    }

    fn whole(mut self: Box<Self>) -> Option<Box<dyn Caller>> {
        self.0.take()?.lock().caller.take()
    }
}

impl Drop for Part {
    /// An item that is let go unanswered takes its request with it: nobody waits for it any more.
    fn drop(&mut self) {
        if let Some(gathering) = self.0.take() {
            let caller = gathering.lock().caller.take();
            drop(caller);
        }
    }
}

/// One failure fails the request; its times span those of all its items, and its version is theirs if they agree.
fn merge(one: FrameResult, other: FrameResult) -> FrameResult {
    let mut timing = one.timing;
    timing.batched = timing.batched.min(other.timing.batched);
    timing.prepared = timing.prepared.max(other.timing.prepared);
    timing.inferred = timing.inferred.max(other.timing.inferred);
    let failed = matches!(one.outcome, Outcome::Inferred(_)) && matches!(other.outcome, Outcome::Dropped { .. });
    let outcome = if failed { other.outcome } else { one.outcome };
    FrameResult { timing, outcome, served_by: one.served_by.and(other.served_by), ..one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::work::{Input, Work};
    use omma_frame::{Mono, Payload, ServedBy};

    struct Waiting(Arc<Mutex<Vec<FrameResult>>>);

    impl Caller for Waiting {
        fn waits(&self) -> bool {
            true
        }

        fn answer(self: Box<Self>, result: FrameResult) {
            self.0.lock().push(result);
        }
    }

    fn item_of(version: u32) -> FrameResult {
        let (caller, input) =
            (Box::new(Waiting(Arc::default())), Input::Picture(Payload::Encoded(bytes::Bytes::new())));
        let work = Work::Direct { input, received_at: Mono(0), caller };
        let (_, pending) = work.begin(0, Mono(0), ServedBy { model: 0, version });
        pending.result
    }

    #[test]
    fn the_answer_says_which_version_gave_it_if_it_was_one() {
        for (versions, expected) in [
            (&[3, 3][..], 3),
            // One item was refused before a model looked at it.
            (&[0, 3], 3),
            (&[3, 0, 3], 3),
            (&[0, 0], 0),
            (&[3, 4], ServedBy::MIXED),
            (&[3, 4, 3], ServedBy::MIXED),
        ] {
            let answers = Arc::new(Mutex::new(Vec::new()));
            let parts = gather(Box::new(Waiting(Arc::clone(&answers))), versions.len());
            for (part, &version) in parts.into_iter().zip(versions) {
                part.answer(item_of(version));
            }
            let given: Vec<_> = answers.lock().iter().map(|answer| answer.served_by.version).collect();
            assert_eq!(given, [expected], "{versions:?}");
        }
    }
}
