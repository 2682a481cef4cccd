//! What frame handles gain: 1080p raw RGB through a ring of shared memory, the handle through Redis, against the same
//! bytes through Redis. The transport alone: the reader reads every byte of each picture, acknowledges, writes nothing.

use std::time::Duration;

use super::Options;
use crate::figures::Figures;
use crate::redis::consumers::Consumer;
use crate::redis::offer::{Load, Rate};
use crate::redis::stand::{Run, Stand, WARM_UP};

const CAMERAS: usize = 8;
/// Frames that the producer may be ahead, and pictures that the ring has room for.
const AHEAD: u64 = 32;
const RING_PICTURES: u64 = 64;

pub fn run(options: &Options) -> Result<Figures, String> {
    let stand = Stand::start()?;
    let reader = |count| Consumer::Reader { threads: 1, count, touch: true, results: false };
    let run = |ring_bytes, span| Run {
        cameras: CAMERAS,
        load: Load::Rgb { width: 1920, height: 1080 },
        ring_bytes,
        rate: Rate::Ahead(AHEAD),
        entries_max: 16,
        results_max: None,
        warm_up: WARM_UP,
        span,
        window: span,
    };
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        let span = options.span().max(Duration::from_secs(2));
        let bytes = stand.run(&run(None, span), &reader(1))?;
        let ring_bytes = RING_PICTURES * (1920 * 1080 * 3 + 128);
        let handles = stand.run(&run(Some(ring_bytes), span), &reader(32))?;
        figures.add("handle_gain", "1", handles.results_per_s / bytes.results_per_s);
        figures.add("handles_per_s", "1/s", handles.results_per_s);
        figures.add("bytes_per_s", "1/s", bytes.results_per_s);
        figures.add("lost", "1", (handles.lost + bytes.lost) as f64);
        figures.add("unsent", "1", (handles.unsent + bytes.unsent) as f64);
        figures.add("overwritten", "1", handles.unreadable as f64);
        figures.add("payload_bytes", "bytes", handles.payload_bytes);
        figures.add("handles_reader_cpu_us_per_frame", "us", handles.consumer_us);
        figures.add("handles_redis_cpu_us_per_frame", "us", handles.server_us);
        figures.add("handles_producer_cpu_us_per_frame", "us", handles.producer_us);
        figures.add("handles_redis_cores", "1", handles.server_cores);
        figures.add("handles_context_switches_per_s", "1/s", handles.switches_per_s);
        figures.add("handles_reader_rss_mb", "MB", handles.consumer_mib);
        figures.add("handles_redis_rss_mb", "MB", handles.server_mib);
        figures.add("bytes_reader_cpu_us_per_frame", "us", bytes.consumer_us);
        figures.add("bytes_redis_cpu_us_per_frame", "us", bytes.server_us);
        figures.add("bytes_producer_cpu_us_per_frame", "us", bytes.producer_us);
        figures.add("bytes_redis_cores", "1", bytes.server_cores);
        figures.add("bytes_context_switches_per_s", "1/s", bytes.switches_per_s);
        figures.add("bytes_reader_rss_mb", "MB", bytes.consumer_mib);
        figures.add("bytes_redis_rss_mb", "MB", bytes.server_mib);
    }
    figures.limit("handle_gain", ">= 5");
    figures.limit("lost", "0");
    figures.limit("overwritten", "0");
    Ok(figures)
}
