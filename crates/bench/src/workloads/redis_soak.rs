//! The load of `redis` at a modest rate for a long time: whether memory grows, of omma and of Redis, whether the 99th
//! percentile drifts, and whether a frame is missing at the end.

use std::time::Duration;

use super::{Options, redis, soak};
use crate::figures::{Figures, median};
use crate::redis::consumers::Consumer;
use crate::redis::offer::Rate;
use crate::redis::stand::{Run, Stand};

const PER_S: f64 = 3000.0;
/// Parts of the time, whose 99th percentiles are held against each other. The first only warms up.
const WINDOWS: u32 = 31;

pub fn run(options: &Options) -> Result<Figures, String> {
    let minutes = if options.quick { 0.4 } else { options.minutes.unwrap_or(30.0) };
    let stand = Stand::start()?;
    let span = Duration::from_secs_f64(minutes * 60.0);
    let run = Run { results_max: Some(1000), window: span / WINDOWS, ..redis::jpegs(Rate::PerSecond(PER_S), span) };
    let measured = stand.run(&run, &Consumer::OMMA)?;
    let settled = &measured.memory[measured.memory.len() / WINDOWS as usize..];
    let of = |part: fn(&(f64, f64, f64)) -> f64| {
        soak::slope(&settled.iter().map(|look| (look.0, part(look))).collect::<Vec<_>>())
    };
    let p99: Vec<f64> = measured.windows.iter().map(|window| window.p99_ms).take(WINDOWS as usize).collect();
    let third = p99.len() / 3;
    if third < 2 {
        return Err("too short to see a drift".to_owned());
    }
    // The middle of each third: one hiccup of the machine is no drift, and a drift is in all of them.
    let middle = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        median(&sorted)
    };
    let mut figures = Figures::default();
    figures.add("rss_slope_mb_per_hour", "MB/h", of(|look| look.1));
    figures.add("redis_rss_slope_mb_per_hour", "MB/h", of(|look| look.2));
    figures.add("p99_drift_ratio", "1", middle(&p99[p99.len() - third..]) / middle(&p99[1..=third]));
    figures.add("minutes", "min", minutes);
    figures.add("results_per_s", "1/s", measured.results_per_s);
    figures.add("lost", "1", measured.lost as f64);
    for window in &p99[1..] {
        figures.add("p99_ms", "ms", *window);
    }
    measured.add_costs(&mut figures);
    figures.limit("rss_slope_mb_per_hour", "flat");
    figures.limit("p99_drift_ratio", "about 1");
    figures.limit("lost", "0");
    Ok(figures)
}
