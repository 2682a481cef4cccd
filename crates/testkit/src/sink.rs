//! Sinks: what every [`Sink`] must hold to ([`conformance`]), and ones that misbehave when a test says so ([`scripted`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use omma_engine::cameras::{Camera, CameraPlan, Cameras, Delivery};
use omma_engine::sink::{Retry, Sink, SinkError};
use omma_frame::{
    CameraId, CameraIndex, ClassScore, Detection, DropReason, FrameResult, Mono, Outcome, Output, OwnedTensor,
    ServedBy, Size, Timing, Token, UnixNanos,
};
use parking_lot::{Condvar, Mutex};

/// How long a test waits for a sink to get somewhere before it calls it stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// A published result as it can be told apart: its camera's id and its sequence.
pub type Mark = (String, u64);

/// What every sink must hold to: `make` gives a fresh one, `read_back` what it has published, oldest first.
///
/// A sink that keeps nothing (one that only counts) is not for this suite.
pub fn conformance<S: Sink>(mut make: impl FnMut() -> S, mut read_back: impl FnMut(&S) -> Vec<Mark>) {
    let cameras = cameras(&["cam-a", "cam \"b\"", "каме\u{301}ра/3"]);
    let mark = |result: &FrameResult| (cameras[result.camera.slot()].plan.id.to_string(), result.sequence);

    // Nothing is published by nothing.
    let mut sink = make();
    sink.publish(&[], &cameras).expect("an empty call");
    assert_eq!(read_back(&sink), [], "an empty call publishes nothing");

    // Every kind of outcome, in the order given, across calls.
    let mut expected = Vec::new();
    for (call, outcomes) in outcomes().chunks(3).enumerate() {
        let results: Vec<FrameResult> = outcomes
            .iter()
            .enumerate()
            .map(|(i, outcome)| result(CameraIndex((i % 3) as u32), (call * 10 + i) as u64, outcome.clone()))
            .collect();
        sink.publish(&results, &cameras).expect("an undisturbed sink");
        expected.extend(results.iter().map(mark));
        assert_eq!(read_back(&sink), expected, "published once the call has returned");
    }

    // Many at once.
    let mut sink = make();
    let many: Vec<FrameResult> =
        (0..3000).map(|n| result(CameraIndex(n % 3), u64::from(n), Outcome::Inferred(Output::Nothing))).collect();
    sink.publish(&many, &cameras).expect("an undisturbed sink");
    assert_eq!(read_back(&sink), many.iter().map(mark).collect::<Vec<_>>());
}

/// A table of cameras for tests of sinks: lossless, model 0, route 0.
#[must_use]
pub fn cameras(ids: &[&str]) -> Arc<Vec<Arc<Camera>>> {
    table(ids, false)
}

/// The same cameras, their frames' tokens being entry ids of Redis streams.
#[must_use]
pub fn cameras_out_of_redis(ids: &[&str]) -> Arc<Vec<Arc<Camera>>> {
    table(ids, true)
}

fn table(ids: &[&str], entry_ids: bool) -> Arc<Vec<Arc<Camera>>> {
    let cameras = Cameras::new(32);
    cameras.add(ids.iter().map(|id| CameraPlan {
        id: CameraId::new(id).expect("a camera id"),
        delivery: Delivery::Every,
        model: 0,
        route: 0,
        entry_ids,
        waiting_frames_max: 4,
        in_flight_frames_max: 16,
    }));
    cameras.snapshot()
}

/// A result with plausible times and size.
#[must_use]
pub fn result(camera: CameraIndex, sequence: u64, outcome: Outcome) -> FrameResult {
    let ms = |ms: u64| Mono(1_000_000_000 + ms * 1_000_000);
    FrameResult {
        camera,
        sequence,
        token: Token(sequence, 0),
        captured_at: UnixNanos(1_767_225_599_123_456_789),
        size: Size { width: 640, height: 480 },
        served_by: ServedBy { model: 0, version: 3 },
        timing: Timing { received: ms(0), batched: ms(3), prepared: ms(5), inferred: ms(12) },
        outcome,
        name: None,
    }
}

/// One of each kind of outcome, with the awkward values that each can have.
#[must_use]
pub fn outcomes() -> Vec<Outcome> {
    let detection = |class, score| Detection { class, score, x1: 0.0, y1: 12.345_678, x2: 640.0, y2: 479.999 };
    vec![
        Outcome::Inferred(Output::Nothing),
        Outcome::Inferred(Output::Detections(vec![])),
        Outcome::Inferred(Output::Detections(vec![detection(0, 0.987_654_3), detection(4_000_000_000, 1.0)])),
        Outcome::Inferred(Output::Classes(vec![ClassScore { class: 1, score: 0.5 }])),
        Outcome::Inferred(Output::Embedding(vec![0.1, -0.2, 1e-20, f32::MAX])),
        Outcome::Inferred(Output::Tensors(vec![OwnedTensor {
            name: "out \"put\"\n".into(),
            shape: vec![1, 2],
            values: vec![f32::NAN, f32::NEG_INFINITY],
        }])),
        Outcome::Dropped { reason: DropReason::PictureCorrupt, detail: Some("no end \\ \u{7} of picture".into()) },
        Outcome::Dropped { reason: DropReason::Overtaken, detail: None },
    ]
}

/// What a scripted sink does with one call.
#[derive(Debug, Clone)]
pub enum Act {
    /// Publishes the first `published` results and fails with the rest.
    Fail { published: usize, message: String, retry: Retry },
    /// Publishes the first `published` results but those at the places `refused`, and fails with the rest.
    Refuse { published: usize, refused: Vec<usize>, message: String },
    /// Panics, as a sink with a bug would.
    Panic,
}

/// A sink that records what is published and misbehaves as the test says: it can be held (every call blocks until
/// it is released), slowed (each call waits for a permit for each result), and told to fail.
#[must_use]
pub fn scripted() -> (ScriptedSink, SinkHandle) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State { permits: usize::MAX, ..State::default() }),
        changed: Condvar::new(),
    });
    (ScriptedSink(Arc::clone(&shared)), SinkHandle(shared))
}

#[derive(Default)]
struct State {
    acts: VecDeque<Act>,
    /// Results that may pass; `usize::MAX`: any number.
    permits: usize,
    /// A call is waiting for permits.
    waiting: bool,
    /// Calls no longer wait and drop what they are given.
    abandoned: bool,
    published: Vec<FrameResult>,
    calls: u64,
    interval_min: Duration,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

pub struct ScriptedSink(Arc<Shared>);

/// The test's side of a [`ScriptedSink`].
#[derive(Clone)]
pub struct SinkHandle(Arc<Shared>);

impl SinkHandle {
    /// From now on every call blocks before it publishes anything more.
    pub fn hold(&self) {
        self.0.state.lock().permits = 0;
    }

    /// Lets calls pass again, those that wait first.
    pub fn release(&self) {
        self.0.state.lock().permits = usize::MAX;
        self.0.changed.notify_all();
    }

    /// Lets this many more results pass, one by one, while held: a slow sink at the test's own speed.
    pub fn allow(&self, results: usize) {
        let mut state = self.0.state.lock();
        state.permits = state.permits.saturating_add(results);
        self.0.changed.notify_all();
    }

    /// The next calls do this, in turn; then the sink is well again.
    pub fn then(&self, act: Act) {
        self.0.state.lock().acts.push_back(act);
    }

    /// The next `times` calls publish nothing and fail.
    pub fn fail(&self, times: usize, retry: Retry) {
        (0..times).for_each(|_| self.then(Act::Fail { published: 0, message: "told to fail".into(), retry }));
    }

    /// Waits until a call is blocked in the sink.
    ///
    /// # Panics
    /// None comes for 20 s.
    pub fn wait_until_blocked(&self) {
        self.wait_until("blocked", |state| state.waiting);
    }

    /// Waits until this many results are published.
    ///
    /// # Panics
    /// They do not come for 20 s.
    pub fn wait_published(&self, results: usize) -> Vec<FrameResult> {
        self.wait_until("published", |state| state.published.len() >= results);
        self.published()
    }

    fn wait_until(&self, what: &str, mut done: impl FnMut(&State) -> bool) {
        let mut state = self.0.state.lock();
        while !done(&state) {
            let late = self.0.changed.wait_for(&mut state, PATIENCE).timed_out();
            assert!(
                !late || done(&state),
                "sink not {what} for {PATIENCE:?}: {} results in {} calls",
                state.published.len(),
                state.calls
            );
        }
    }

    /// Everything published so far, in order.
    #[must_use]
    pub fn published(&self) -> Vec<FrameResult> {
        self.0.state.lock().published.clone()
    }

    /// From now on it asks for so much time from one call to the next.
    pub fn space(&self, interval_min: Duration) {
        self.0.state.lock().interval_min = interval_min;
    }

    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.state.lock().calls
    }
}

/// A test that ends while its sink is held must not leave the writer thread behind.
impl Drop for SinkHandle {
    fn drop(&mut self) {
        // The sink and this are the last two.
        if Arc::strong_count(&self.0) <= 2 {
            self.0.state.lock().abandoned = true;
            self.0.changed.notify_all();
        }
    }
}

impl Sink for ScriptedSink {
    fn interval_min(&self) -> Duration {
        self.0.state.lock().interval_min
    }

    fn publish(&mut self, results: &[FrameResult], _: &[Arc<Camera>]) -> Result<(), SinkError> {
        let mut state = self.0.state.lock();
        state.calls += 1;
        let act = state.acts.pop_front();
        let (count, refused, failure) = match act {
            None => (results.len(), vec![], None),
            Some(Act::Fail { published, message, retry }) => {
                (published.min(results.len()), vec![], Some((message, retry)))
            }
            Some(Act::Refuse { published, refused, message }) => {
                (published.min(results.len()), refused, Some((message, Retry::Backoff)))
            }
            Some(Act::Panic) => {
                drop(state);
                panic!("told to panic");
            }
        };
        for (place, result) in results[..count].iter().enumerate() {
            if refused.contains(&place) {
                continue;
            }
            while state.permits == 0 && !state.abandoned {
                state.waiting = true;
                self.0.changed.notify_all();
                self.0.changed.wait(&mut state);
            }
            state.waiting = false;
            if state.permits != usize::MAX {
                state.permits = state.permits.saturating_sub(1);
            }
            state.published.push(result.clone());
        }
        self.0.changed.notify_all();
        match failure {
            None => Ok(()),
            Some((message, retry)) => {
                Err(SinkError { sink: "scripted".into(), published: count, refused, message, retry })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(sequences: std::ops::Range<u64>) -> Vec<FrameResult> {
        sequences.map(|n| result(CameraIndex(0), n, Outcome::Inferred(Output::Nothing))).collect()
    }

    fn sequences(results: &[FrameResult]) -> Vec<u64> {
        results.iter().map(|result| result.sequence).collect()
    }

    #[test]
    fn the_scripted_sink_conforms() {
        let ids = ["cam-a", "cam \"b\"", "каме\u{301}ра/3"];
        let handle = std::cell::RefCell::new(None);
        conformance(
            || {
                let (sink, made) = scripted();
                handle.replace(Some(made));
                sink
            },
            |_| {
                let published = handle.borrow().as_ref().map(SinkHandle::published).unwrap_or_default();
                published.iter().map(|result| (ids[result.camera.slot()].to_owned(), result.sequence)).collect()
            },
        );
    }

    #[test]
    fn a_held_sink_blocks_lets_single_results_pass_and_comes_back() {
        let (mut sink, handle) = scripted();
        handle.hold();
        let writer = std::thread::spawn(move || sink.publish(&some(0..5), &cameras(&["a"])));
        handle.wait_until_blocked();
        assert_eq!(sequences(&handle.published()), []);
        handle.allow(2);
        assert_eq!(sequences(&handle.wait_published(2)), [0, 1]);
        handle.wait_until_blocked();
        assert!(!writer.is_finished());
        handle.release();
        writer.join().expect("no panic").expect("published");
        assert_eq!(sequences(&handle.published()), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_failing_sink_publishes_the_front_and_is_well_again() {
        let (mut sink, handle) = scripted();
        handle.then(Act::Fail { published: 2, message: "disk full".into(), retry: Retry::Backoff });
        let error = sink.publish(&some(0..4), &cameras(&["a"])).expect_err("told to fail");
        assert_eq!((error.published, error.retry, error.message.as_str()), (2, Retry::Backoff, "disk full"));
        sink.publish(&some(2..4), &cameras(&["a"])).expect("well again");
        assert_eq!(sequences(&handle.published()), [0, 1, 2, 3]);
    }
}
