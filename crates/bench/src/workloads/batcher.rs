//! The batcher against a model of 8 ms + 0.5 ms per picture, at most 16, one instance: the workload on which Triton's
//! dynamic batcher reached 232, 764 and 855 per second with 4, 16 and 64 callers, and a median of 13.5 ms at 100 per
//! second offered. In simulated time (the pure batcher alone) and in real time (direct requests through the engine).

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use omma_adapters::infer::{Cost, Waiting, simulated};
use omma_engine::batch::{Batcher, Entry, Seat, Take};
use omma_engine::cameras::Delivery;
use omma_engine::pipeline::Engine;
use omma_engine::plan::{BatchPlan, Mode};
use omma_frame::Mono;

use super::Options;
use crate::callers::{self, Random};
use crate::figures::{Figures, median};
use crate::load::Load;
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
            figures.add(real, "1/s", callers::closed_loop(engine()?, callers, options.span())?);
            figures.add(simulated, "1/s", simulate(Arrivals::Closed { callers }, run as u64).0);
            figures.limit(real, limit);
            figures.limit(simulated, limit);
        }
        figures.add("p50_ms_at_100", "ms", callers::open_loop(engine()?, 100.0, options.span(), run as u64)?);
        figures.add("simulated_p50_ms_at_100", "ms", simulate(Arrivals::Poisson { per_s: 100.0 }, run as u64).1);
    }
    figures.limit("p50_ms_at_100", "<= 13.5");
    figures.limit("simulated_p50_ms_at_100", "<= 13.5");
    Ok(figures)
}

#[derive(Clone, Copy)]
enum Arrivals {
    Closed { callers: usize },
    Poisson { per_s: f64 },
}

/// Twenty simulated seconds of the batcher alone: requests per second, and their median latency in milliseconds.
fn simulate(arrivals: Arrivals, seed: u64) -> (f64, f64) {
    const END: Mono = Mono(20_000_000_000);
    let mut random = Random::new(seed);
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
            let refused = batcher.push_direct(Entry { arrived: at, expires: None, bytes: 0, item: at });
            assert!(refused.is_ok(), "the lane is deeper than the callers are many");
        }
        batch.clear();
        let next_arrival = coming.peek().map_or(END, |next| next.0);
        match batcher.take(now, Seat::Idle(idle_since), false, &mut batch, &mut expired) {
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
