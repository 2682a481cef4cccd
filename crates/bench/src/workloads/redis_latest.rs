//! 500 live cameras, each 20 frames of 40 KB behind: how long until the newest frame of each has its result, what Redis
//! transfers and works for it. omma skips with a script, which transfers the newest frame alone; held against a
//! do-nothing reader that reads everything, as whoever drops after reading must.

use super::{Options, redis};
use crate::figures::Figures;
use crate::redis::consumers::Consumer;
use crate::redis::offer::Rate;
use crate::redis::stand::{Run, Stand};

const CAMERAS: usize = 500;
const BEHIND: u64 = 20;

pub fn run(options: &Options) -> Result<Figures, String> {
    let stand = Stand::start()?;
    let frames = CAMERAS as u64 * BEHIND;
    // None is trimmed: Redis cuts streams by whole nodes, so it keeps more than it is told and never less.
    let run = Run { cameras: CAMERAS, entries_max: 10 * BEHIND, ..redis::jpegs(Rate::Ahead(frames), options.span()) };
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        let reading = stand.catch_up(&run, frames, &Consumer::YARDSTICK)?;
        let skipping = stand.catch_up(&run, frames, &Consumer::Omma { decode: false, latest: true })?;
        let cpu_ms = |server: std::time::Duration| server.as_secs_f64() * 1e3;
        figures.add("skipping_ms", "ms", skipping.took.as_secs_f64() * 1e3);
        figures.add("reading_ms", "ms", reading.took.as_secs_f64() * 1e3);
        figures.add("bytes_ratio_to_reading", "1", skipping.server_bytes / reading.server_bytes);
        figures.add("redis_cpu_ratio_to_reading", "1", cpu_ms(skipping.server_cpu) / cpu_ms(reading.server_cpu));
        figures.add("skipping_redis_cpu_ms", "ms", cpu_ms(skipping.server_cpu));
        figures.add("reading_redis_cpu_ms", "ms", cpu_ms(reading.server_cpu));
        figures.add("frames", "1", frames as f64);
        figures.add("frames_inferred", "1", skipping.results as f64);
        figures.add("newest_missing", "1", skipping.newest_missing as f64);
        figures.add("unsettled", "1", (skipping.unsettled + reading.unsettled) as f64);
    }
    figures.limit("newest_missing", "0");
    figures.limit("unsettled", "0");
    Ok(figures)
}
