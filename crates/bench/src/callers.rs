//! Callers of direct requests: an engine with one model, asked over and over, or at random times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use omma_engine::infer::work::Caller;
use omma_engine::pipeline::Engine;
use omma_frame::{FrameResult, Outcome, Payload};

use crate::figures::median;
use crate::load::rest;

/// A small generator for arrival times: the workload is the same in every run of the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed + 1)
    }

    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// The gap to the next arrival of a Poisson process.
    pub fn gap(&mut self, per_s: f64) -> Duration {
        Duration::from_secs_f64(-self.next().ln() / per_s)
    }
}

/// Hands the answer to whoever waits on the channel.
struct Waiter {
    answers: Sender<(Instant, bool)>,
    asked: Instant,
}

impl Caller for Waiter {
    fn waits(&self) -> bool {
        true
    }

    fn answer(self: Box<Self>, result: FrameResult) {
        let served = matches!(result.outcome, Outcome::Inferred(_));
        // A measurement that has ended no longer listens.
        let _ = self.answers.send((self.asked, served));
    }
}

fn ask(engine: &Engine, answers: &Sender<(Instant, bool)>, asked: Instant) -> bool {
    let waiter = Box::new(Waiter { answers: answers.clone(), asked });
    engine.ask(0, Payload::Encoded(Bytes::from_static(b"direct")), waiter).is_ok()
}

/// Callers that ask again as soon as they are answered; requests per second.
pub fn closed_loop(engine: Engine, callers: usize, span: Duration) -> Result<f64, String> {
    let (served, warm) = (AtomicU64::new(0), Duration::from_millis(300));
    let until = Instant::now() + warm + span;
    let count_from = Instant::now() + warm;
    let failed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..callers {
            let (engine, served, failed) = (&engine, &served, &failed);
            scope.spawn(move || {
                let (answers, mine): (Sender<_>, Receiver<_>) = crossbeam_channel::bounded(1);
                while Instant::now() < until {
                    match ask(engine, &answers, Instant::now()).then(|| mine.recv()) {
                        Some(Ok((_, true))) if Instant::now() >= count_from => served.fetch_add(1, Ordering::Relaxed),
                        Some(Ok((_, true))) => 0,
                        _ => failed.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
    });
    let drained = engine.drain();
    match failed.into_inner() {
        0 => Ok(served.into_inner() as f64 / span.as_secs_f64()),
        failed => Err(format!("{failed} request(s) failed: {drained:?}")),
    }
}

/// Requests at random times, whatever the answers; their median latency in milliseconds.
pub fn open_loop(engine: Engine, per_s: f64, span: Duration, seed: u64) -> Result<f64, String> {
    let (answers, mine) = crossbeam_channel::bounded(65_536);
    let listener = std::thread::spawn(move || {
        let mut latencies: Vec<f64> = mine
            .iter()
            .filter(|(_, served)| *served)
            .map(|(asked, _): (Instant, bool)| asked.elapsed().as_secs_f64() * 1e3)
            .collect();
        latencies.sort_by(f64::total_cmp);
        latencies
    });
    let mut random = Random::new(seed);
    let until = Instant::now() + span;
    let mut due = Instant::now();
    while due < until {
        rest(due.saturating_duration_since(Instant::now()));
        if !ask(&engine, &answers, Instant::now()) {
            return Err("a request was refused".to_owned());
        }
        due += random.gap(per_s);
    }
    rest(Duration::from_millis(100));
    drop(answers);
    let _drained = engine.drain();
    let latencies = listener.join().map_err(|_| "the listener panicked".to_owned())?;
    if latencies.is_empty() { Err("no request was served".to_owned()) } else { Ok(median(&latencies)) }
}
