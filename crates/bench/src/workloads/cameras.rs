//! 10,000 cameras by frame handle at 50,000 frames a second in all: whether omma holds that, how late its results are,
//! and what a frame costs against the same rate from 1,000 cameras.

use super::Options;
use super::handles::by_handle;
use crate::figures::Figures;
use crate::redis::consumers::Consumer;
use crate::redis::offer::Rate;
use crate::redis::stand::{Run, Stand};

const CAMERAS: usize = 10_000;
/// A little more than what has to be held, which a span's edges would else hide.
const PER_S: f64 = 50_500.0;

pub fn run(options: &Options) -> Result<Figures, String> {
    let stand = Stand::start()?;
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        let run = by_handle(Rate::PerSecond(PER_S), options.span());
        // In turn, so that a machine that becomes slower meanwhile slows both.
        let few = stand.run(&run, &Consumer::OMMA)?;
        let many = stand.run(&Run { cameras: CAMERAS, entries_max: 64, ..run }, &Consumer::OMMA)?;
        let latency = many.windows.first().ok_or("no result came")?;
        figures.add("results_per_s", "1/s", many.results_per_s);
        figures.add("p99_ms", "ms", latency.p99_ms);
        figures.add("cpu_ratio_to_1000", "1", many.consumer_us / few.consumer_us);
        figures.add("lost", "1", (many.lost + few.lost) as f64);
        figures.add("p50_ms", "ms", latency.p50_ms);
        many.add_costs(&mut figures);
        figures.add("cpu_us_per_frame_1000", "us", few.consumer_us);
        figures.add("results_per_s_1000", "1/s", few.results_per_s);
        figures.add("redis_cpu_us_per_frame_1000", "us", few.server_us);
    }
    figures.limit("results_per_s", ">= 50,000");
    figures.limit("p99_ms", "<= 150");
    figures.limit("cpu_ratio_to_1000", "<= 1.3");
    figures.limit("lost", "0");
    Ok(figures)
}
