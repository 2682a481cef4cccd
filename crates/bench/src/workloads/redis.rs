//! 1,000 cameras, JPEGs of 40 KB as bytes through a real redis-server over its Unix socket, each frame's result back into
//! Redis: omma against the do-nothing reader, both as fast as they take frames, and then 10,000 frames a second for a
//! while.

use std::time::Duration;

use super::Options;
use crate::figures::Figures;
use crate::redis::consumers::Consumer;
use crate::redis::offer::{Load, Rate};
use crate::redis::stand::{Measured, Run, Stand, WARM_UP};

/// What the Python pipeline that omma replaces gives at 1,000 cameras x 40 KB, on a machine of this kind.
const PYTHON_PER_S: f64 = 267.0;
/// Four frames of each camera: as much as a source that polls every few milliseconds has on its way.
const AHEAD: u64 = 4000;
/// A little more than what has to be held, which a span's edges would else hide.
const SUSTAINED_PER_S: f64 = 10_100.0;

pub const CAMERAS: usize = 1000;

pub fn run(options: &Options) -> Result<Figures, String> {
    let stand = Stand::start()?;
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        let measured = against_the_reader(&stand, &jpegs(Rate::Ahead(AHEAD), options.span()), &mut figures)?;
        figures.add("ratio_to_python", "1", measured.results_per_s / PYTHON_PER_S);
        figures.add("cameras_without_result", "1", measured.silent as f64);
    }
    let span = if options.quick { Duration::from_secs(5) } else { Duration::from_secs(60) };
    // Three seconds of each camera: whoever is not behind by that much loses nothing.
    let offered = Run { entries_max: 32, ..jpegs(Rate::PerSecond(SUSTAINED_PER_S), span) };
    let sustained = stand.run(&offered, &Consumer::OMMA)?;
    figures.add("sustained_per_s", "1/s", sustained.results_per_s);
    figures.add("sustained_s", "s", span.as_secs_f64());
    figures.add("sustained_unsent", "1", sustained.unsent as f64);
    figures.add("lost", "1", sustained.lost as f64);
    figures.limit("results_per_s", ">= 10,000");
    figures.limit("ratio_to_reader", ">= 0.90");
    figures.limit("lost", "0");
    figures.limit("ratio_to_python", ">= 25");
    figures.limit("cameras_without_result", "0");
    figures.limit("sustained_per_s", ">= 10,000");
    Ok(figures)
}

/// 1,000 cameras of 40 KB.
pub fn jpegs(rate: Rate, span: Duration) -> Run {
    Run {
        cameras: CAMERAS,
        load: Load::Jpeg { width: 640, height: 480, bytes: Some(40_000) },
        ring_bytes: None,
        rate,
        entries_max: 16,
        results_max: None,
        warm_up: WARM_UP,
        span,
        window: span,
    }
}

/// The reader, then omma, on the same load.
pub fn against_the_reader(stand: &Stand, run: &Run, figures: &mut Figures) -> Result<Measured, String> {
    let reader = stand.run(run, &Consumer::YARDSTICK)?;
    let omma = stand.run(run, &Consumer::OMMA)?;
    figures.add("results_per_s", "1/s", omma.results_per_s);
    figures.add("ratio_to_reader", "1", omma.results_per_s / reader.results_per_s);
    figures.add("lost", "1", omma.lost as f64);
    figures.add("reader_results_per_s", "1/s", reader.results_per_s);
    omma.add_costs(figures);
    figures.add("reader_cpu_us_per_frame", "us", reader.consumer_us);
    figures.add("reader_redis_cpu_us_per_frame", "us", reader.server_us);
    figures.add("reader_context_switches_per_s", "1/s", reader.switches_per_s);
    Ok(omma)
}
