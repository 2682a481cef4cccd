//! The load of `redis` at 5,000 frames a second: how long from a frame's XADD until Redis has acknowledged its result.

use std::time::Duration;

use super::{Options, redis};
use crate::figures::Figures;
use crate::redis::consumers::Consumer;
use crate::redis::offer::Rate;
use crate::redis::stand::Stand;

const PER_S: f64 = 5000.0;

pub fn run(options: &Options) -> Result<Figures, String> {
    let stand = Stand::start()?;
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        let span = if options.quick { Duration::from_secs(4) } else { Duration::from_secs(20) };
        let measured = stand.run(&redis::jpegs(Rate::PerSecond(PER_S), span), &Consumer::OMMA)?;
        let latency = measured.windows.first().ok_or("no result came")?;
        figures.add("p50_ms", "ms", latency.p50_ms);
        figures.add("p99_ms", "ms", latency.p99_ms);
        figures.add("results_per_s", "1/s", measured.results_per_s);
        figures.add("lost", "1", measured.lost as f64);
        measured.add_costs(&mut figures);
    }
    figures.limit("p50_ms", "<= 10");
    figures.limit("p99_ms", "<= 40");
    figures.limit("lost", "0");
    Ok(figures)
}
