//! The batcher against a model of 8 ms + 0.5 ms per picture, at most 16, one instance: the workload on which Triton's
//! dynamic batcher reached 232, 764 and 855 per second with 4, 16 and 64 callers, and a median of 13.5 ms at 100 per
//! second offered. In simulated time (the pure batcher alone) and in real time (direct requests through the engine).

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use omma_adapters::infer::{Cost, Waiting, simulated};
use omma_engine::batch::{Batcher, Entry, Take};
use omma_engine::cameras::Delivery;
use omma_engine::infer::work::Caller;
use omma_engine::pipeline::Engine;
use omma_engine::plan::{BatchPlan, Mode};
use omma_frame::{FrameResult, Mono, Outcome, Payload};

use super::Options;
use crate::figures::{Figures, median};
use crate::load::{Load, rest};
use crate::rig::{Blind, Rig, no_pictures};

const BASE: Duration = Duration::from_millis(8);
const PER_ITEM: Duration = Duration::from_micros(500);
const BATCH_MAX: usize = 16;
/// What a caller takes between an answer and its next request, in simulated time.
const RETURN: Duration = Duration::from_micros(50);

fn plan() -> BatchPlan {
    BatchPlan { size: BATCH_MAX, size_max: BATCH_MAX, ..BatchPlan::default() }
}

pub fn run(options: &Options) -> Result<Figures, String> {
    let mut figures = Figures::default();
    let callers = [
        (4, "per_s_4", "simulated_per_s_4", ">= 232 (Triton)"),
        (16, "per_s_16", "simulated_per_s_16", ">= 764"),
        (64, "per_s_64", "simulated_per_s_64", ">= 860"),
    ];
    for run in 0..options.runs() {
        for (callers, real, simulated, limit) in callers {
            figures.add(real, "1/s", closed_loop(callers, options.span())?);
            figures.add(simulated, "1/s", simulate(Arrivals::Closed { callers }, run as u64).0);
            figures.limit(real, limit);
            figures.limit(simulated, limit);
        }
        figures.add("p50_ms_at_100", "ms", open_loop(100.0, options.span(), run as u64)?);
        figures.add("simulated_p50_ms_at_100", "ms", simulate(Arrivals::Poisson { per_s: 100.0 }, run as u64).1);
    }
    figures.limit("p50_ms_at_100", "<= 13.5");
    figures.limit("simulated_p50_ms_at_100", "<= 13.5");
    Ok(figures)
}

/// A small generator for arrival times: the workload is the same in every run of the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// The gap to the next arrival of a Poisson process.
    fn gap(&mut self, per_s: f64) -> Duration {
        Duration::from_secs_f64(-self.next().ln() / per_s)
    }
}

#[derive(Clone, Copy)]
enum Arrivals {
    Closed { callers: usize },
    Poisson { per_s: f64 },
}

/// Twenty simulated seconds of the batcher alone: requests per second, and their median latency in milliseconds.
fn simulate(arrivals: Arrivals, seed: u64) -> (f64, f64) {
    const END: Mono = Mono(20_000_000_000);
    let mut random = Random(seed + 1);
    let mut batcher: Batcher<Mono> = Batcher::new(plan(), 1024);
    // Requests to come, the earliest first.
    let mut coming: BinaryHeap<std::cmp::Reverse<Mono>> = BinaryHeap::new();
    match arrivals {
        Arrivals::Closed { callers } => {
            coming.extend((0..callers).map(|n| std::cmp::Reverse(Mono(1 + 1000 * n as u64))))
        }
        Arrivals::Poisson { per_s } => coming.push(std::cmp::Reverse(Mono(1).plus(random.gap(per_s)))),
    }
    let (mut now, mut idle_since) = (Mono(1), Mono(1));
    let mut latencies = Vec::new();
    let (mut batch, mut expired) = (Vec::new(), Vec::new());
    while now < END {
        while let Some(std::cmp::Reverse(at)) = coming.peek().copied().filter(|next| next.0 <= now) {
            coming.pop();
            if let Arrivals::Poisson { per_s } = arrivals {
                coming.push(std::cmp::Reverse(at.plus(random.gap(per_s))));
            }
            let refused = batcher.push_direct(Entry { arrived: at, expires: None, item: at });
            assert!(refused.is_ok(), "the lane is deeper than the callers are many");
        }
        batch.clear();
        let next_arrival = coming.peek().map_or(END, |next| next.0);
        match batcher.take(now, Some(idle_since), false, &mut batch, &mut expired) {
            Take::Empty => now = next_arrival.max(now),
            Take::WaitUntil(until) => now = until.min(next_arrival),
            Take::Ready => {
                let took = BASE + PER_ITEM * batch.len() as u32;
                now = now.plus(took);
                idle_since = now;
                batcher.observe(took);
                for taken in &batch {
                    latencies.push(now.since(taken.item).as_secs_f64() * 1e3);
                    if let Arrivals::Closed { .. } = arrivals {
                        coming.push(std::cmp::Reverse(now.plus(RETURN.mul_f64(0.5 + random.next()))));
                    }
                }
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    (latencies.len() as f64 / 20.0, median(&latencies))
}

fn engine() -> Result<Engine, String> {
    let spec = no_pictures();
    let cost = Cost { base: BASE, per_item: PER_ITEM, waiting: Waiting::Sleep };
    let rig = Rig {
        cameras: 1,
        delivery: Delivery::Every,
        waiting_frames_max: 2,
        in_flight_frames_max: 1,
        entry_ids: false,
        mode: Mode::Async,
        instances: Some(1),
        batch: plan(),
        model: simulated(&spec, cost, BATCH_MAX),
        spec,
        pictures: Arc::new(Blind),
        outputs: Arc::new(Blind),
    };
    // The camera delivers nothing: all requests are direct.
    rig.start(|cameras| Box::new(Load::at(0.0, cameras, vec![Bytes::from_static(b"none")])))
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
fn closed_loop(callers: usize, span: Duration) -> Result<f64, String> {
    let engine = engine()?;
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
fn open_loop(per_s: f64, span: Duration, seed: u64) -> Result<f64, String> {
    let engine = engine()?;
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
    let mut random = Random(seed + 1);
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
