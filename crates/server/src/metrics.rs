//! Every metric, in one table: its name, kind and meaning stand here once, and `docs/ref/metrics.md` is held against it.
//!
//! Counters end in `_total`, times are in seconds, sizes in bytes. Rendering allocates one string per scrape.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use omma_engine::ledger::Counts;
use omma_engine::lifecycle::Phase;
use omma_engine::metrics::Stage;
use omma_engine::pipeline::Shared;
use omma_engine::report::Level;
use omma_frame::DropReason;

pub use crate::text::Kind;
use crate::text::Page;

/// One family: what the reference page lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static str,
    pub help: &'static str,
}

const fn family(name: &'static str, kind: Kind, labels: &'static str, help: &'static str) -> Family {
    Family { name, kind, labels, help }
}

macro_rules! families {
    ($($constant:ident = $name:literal, $kind:ident, $labels:literal, $help:literal;)*) => {
        $(const $constant: Family = family($name, Kind::$kind, $labels, $help);)*
        /// All families, in the order of the page.
        pub const FAMILIES: &[Family] = &[$($constant),*];
    };
}

families! {
    BUILD = "omma_build_info", Gauge, "version", "always 1; which omma this is";
    PHASE = "omma_phase", Gauge, "phase", "1 for the phase that the engine is in, 0 for the others";
    READY = "omma_ready", Gauge, "", "1 if frames can be served, as /readyz says";
    UPTIME = "omma_uptime_seconds", Gauge, "", "time since the engine was started";
    CAMERAS = "omma_cameras", Gauge, "", "cameras that this process has had";
    RECEIVED = "omma_frames_received_total", Counter, "", "frames that came from sources";
    PUBLISHED = "omma_frames_published_total", Counter, "", "frames whose result is in their sinks";
    DROPPED = "omma_frames_dropped_total", Counter, "reason", "frames without a result, by the reason why";
    IN_FLIGHT = "omma_frames_in_flight", Gauge, "", "frames between source and settlement";
    LOST = "omma_frames_lost_upstream_total", Counter, "", "sequence numbers that never came: frames lost before they reached omma";
    VIOLATIONS = "omma_ledger_violations_total", Counter, "", "frames settled twice or lost inside; not zero means a fault of omma";
    STAGE = "omma_stage_seconds", Histogram, "stage", "where a published frame's time went; bounds are met within 1%";
    MODEL = "omma_model_info", Gauge, "model, runtime, mode", "always 1; what runs a model and how";
    MODEL_VERSION = "omma_model_version", Gauge, "model", "which version serves; 0: the model is unloaded";
    INSTANCES = "omma_model_instances", Gauge, "model", "running copies";
    MODEL_WAITING = "omma_model_waiting_frames", Gauge, "model", "frames that wait for a batch";
    BATCHES = "omma_model_batches_total", Counter, "model", "batches run";
    MODEL_FRAMES = "omma_model_frames_total", Counter, "model", "frames in these batches";
    FAILED = "omma_model_failed_batches_total", Counter, "model", "batches that failed as a whole";
    BUSY = "omma_model_busy_seconds_total", Counter, "model", "time that all copies together spent in the model";
    PREPARE = "omma_model_prepare_seconds_total", Counter, "model", "time that all threads together spent decoding pictures";
    ABANDONED = "omma_model_instances_abandoned_total", Counter, "model", "copies given up because they did not answer in time";
    REOPENED = "omma_model_instances_reopened_total", Counter, "model", "copies opened again after they broke";
    LOADS = "omma_model_loads_total", Counter, "model", "versions that took over while omma ran";
    LOADS_FAILED = "omma_model_loads_failed_total", Counter, "model", "versions that did not do; what served before served on";
    SINK_PUBLISHED = "omma_sink_published_total", Counter, "sink", "results that the sink took";
    SINK_RETRIES = "omma_sink_retries_total", Counter, "sink", "publications that failed and were tried again";
    SINK_BUFFERED = "omma_sink_buffered_frames", Gauge, "sink", "results that wait for the sink";
    SINK_FAILING = "omma_sink_failing", Gauge, "sink", "1 while the sink refuses what it is given";
    POLLS = "omma_source_polls_total", Counter, "", "polls of all sources by all readers";
    SOURCE_ERRORS = "omma_source_errors_total", Counter, "", "polls and acknowledgements that failed";
    REPORTS = "omma_reports_total", Counter, "level", "events worth telling a person, repetitions included";
    CAMERA_RECEIVED = "omma_camera_frames_received_total", Counter, "camera", "as omma_frames_received_total, for one camera";
    CAMERA_PUBLISHED = "omma_camera_frames_published_total", Counter, "camera", "as omma_frames_published_total, for one camera";
    CAMERA_DROPPED = "omma_camera_frames_dropped_total", Counter, "camera, reason", "as omma_frames_dropped_total, for one camera; reasons that occurred";
    CAMERA_IN_FLIGHT = "omma_camera_frames_in_flight", Gauge, "camera", "as omma_frames_in_flight, for one camera";
    CAMERA_LOST = "omma_camera_frames_lost_upstream_total", Counter, "camera", "as omma_frames_lost_upstream_total, for one camera";
    OMITTED = "omma_camera_series_omitted", Gauge, "", "cameras without series of their own, because there are more than may have them";
    CPU = "process_cpu_seconds_total", Counter, "", "CPU time of the process, user and system";
    MEMORY = "process_resident_memory_bytes", Gauge, "", "memory of the process that is in RAM";
}

/// Upper bounds of the histograms' buckets, in microseconds: two and a half per decade, 100 us to 30 s.
const BOUNDS_US: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// The page as it stands now. Without an engine (models still load) it says that much.
#[must_use]
pub fn render(shared: Option<&Shared>, camera_series_max: usize) -> String {
    let mut page = Page::default();
    one(&mut page, BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let phase = shared.map_or(Phase::Starting, |shared| shared.lifecycle.phase());
    head(&mut page, PHASE);
    for each in [Phase::Starting, Phase::Running, Phase::Draining, Phase::Flushing, Phase::Stopped] {
        page.sample(PHASE.name, &[("phase", each.name())], f64::from(u8::from(each == phase)));
    }
    one(&mut page, READY, &[], f64::from(u8::from(shared.is_some_and(Shared::ready))));
    if let Some(shared) = shared {
        engine(&mut page, shared);
        stages(&mut page, shared);
        models(&mut page, shared);
        sinks(&mut page, shared);
        cameras(&mut page, shared, camera_series_max);
    }
    process(&mut page);
    page.finish()
}

fn head(page: &mut Page, family: Family) {
    page.family(family.name, family.kind, family.help);
}

fn one(page: &mut Page, family: Family, labels: &[(&str, &str)], value: f64) {
    head(page, family);
    page.sample(family.name, labels, value);
}

fn get(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

fn seconds(ns: &AtomicU64) -> f64 {
    Duration::from_nanos(ns.load(Ordering::Relaxed)).as_secs_f64()
}

fn engine(page: &mut Page, shared: &Shared) {
    let total = shared.ledger.total();
    one(page, UPTIME, &[], Duration::from_nanos(shared.clock.mono().0).as_secs_f64());
    one(page, CAMERAS, &[], shared.cameras.len() as f64);
    one(page, RECEIVED, &[], total.received as f64);
    one(page, PUBLISHED, &[], total.published as f64);
    head(page, DROPPED);
    for reason in DropReason::ALL {
        page.sample(DROPPED.name, &[("reason", reason.name())], total.dropped(reason) as f64);
    }
    one(page, IN_FLIGHT, &[], total.in_flight as f64);
    one(page, LOST, &[], total.lost_upstream as f64);
    let readers = &shared.metrics.readers;
    one(page, VIOLATIONS, &[], get(&readers.ledger_violations));
    one(page, POLLS, &[], get(&readers.polls));
    one(page, SOURCE_ERRORS, &[], get(&readers.source_errors));
    head(page, REPORTS);
    for (level, name) in [(Level::Info, "info"), (Level::Warning, "warning"), (Level::Error, "error")] {
        page.sample(REPORTS.name, &[("level", name)], shared.reports.count(level) as f64);
    }
}

fn stages(page: &mut Page, shared: &Shared) {
    head(page, STAGE);
    for stage in Stage::ALL {
        // Copied out bucket by bucket under the lock, formatted after it.
        let counted = shared.metrics.stages.read(stage, |histogram| {
            let mut counts = [0u64; BOUNDS_US.len()];
            for step in histogram.iter_recorded() {
                // A value is known within its bucket of the histogram; by its lower end, a frame of exactly a bound's
                // length counts as within the bound.
                let us = histogram.lowest_equivalent(step.value_iterated_to());
                if let Some(bucket) = BOUNDS_US.iter().position(|bound| us <= *bound) {
                    counts[bucket] += step.count_at_value();
                }
            }
            (counts, histogram.len())
        });
        let (counts, all) = counted.unwrap_or_default();
        let mut below = 0;
        for (bound, count) in BOUNDS_US.iter().zip(counts) {
            below += count;
            let le = Duration::from_micros(*bound).as_secs_f64().to_string();
            page.sample("omma_stage_seconds_bucket", &[("stage", stage.name()), ("le", &le)], below as f64);
        }
        page.sample("omma_stage_seconds_bucket", &[("stage", stage.name()), ("le", "+Inf")], all as f64);
        let sum = shared.metrics.stages.sum(stage).as_secs_f64();
        page.sample("omma_stage_seconds_sum", &[("stage", stage.name())], sum);
        page.sample("omma_stage_seconds_count", &[("stage", stage.name())], all as f64);
    }
}

fn models(page: &mut Page, shared: &Shared) {
    let models = shared.models();
    head(page, MODEL);
    for (model, serving) in models.iter().filter_map(|model| Some((model, model.serving.as_ref()?))) {
        let mode = if serving.chosen.ahead { "async" } else { "sync" };
        let labels = [("model", model.name.as_str()), ("runtime", &serving.info.runtime), ("mode", mode)];
        page.sample(MODEL.name, &labels, 1.0);
    }
    head(page, MODEL_VERSION);
    for model in &models {
        let version = model.serving.as_ref().map_or(0, |serving| serving.version);
        page.sample(MODEL_VERSION.name, &[("model", &model.name)], f64::from(version));
    }
    head(page, MODEL_WAITING);
    for (number, model) in models.iter().enumerate() {
        page.sample(MODEL_WAITING.name, &[("model", &model.name)], shared.waiting(number) as f64);
    }
    type Read = fn(&omma_engine::metrics::ModelCounters) -> f64;
    let families: [(Family, Read); 10] = [
        (INSTANCES, |c| get(&c.instances_running)),
        (BATCHES, |c| get(&c.batches)),
        (MODEL_FRAMES, |c| get(&c.frames)),
        (FAILED, |c| get(&c.failed_batches)),
        (BUSY, |c| seconds(&c.busy_ns)),
        (PREPARE, |c| seconds(&c.prepare_ns)),
        (ABANDONED, |c| get(&c.instances_abandoned)),
        (REOPENED, |c| get(&c.instances_reopened)),
        (LOADS, |c| get(&c.loads)),
        (LOADS_FAILED, |c| get(&c.loads_failed)),
    ];
    for (family, read) in families {
        head(page, family);
        for (model, counters) in models.iter().zip(&shared.metrics.models) {
            page.sample(family.name, &[("model", &model.name)], read(counters));
        }
    }
}

fn sinks(page: &mut Page, shared: &Shared) {
    type Read = fn(&omma_engine::metrics::SinkCounters) -> f64;
    let families: [(Family, Read); 4] = [
        (SINK_PUBLISHED, |c| get(&c.published)),
        (SINK_RETRIES, |c| get(&c.retries)),
        (SINK_BUFFERED, |c| get(&c.buffered)),
        (SINK_FAILING, |c| get(&c.failing)),
    ];
    for (family, read) in families {
        head(page, family);
        for (sink, counters) in shared.plan.sinks.iter().zip(&shared.metrics.sinks) {
            page.sample(family.name, &[("sink", &sink.name)], read(counters));
        }
    }
}

fn cameras(page: &mut Page, shared: &Shared, series_max: usize) {
    let table = shared.cameras.snapshot();
    let shown: Vec<_> = table
        .iter()
        .take(series_max)
        .map(|camera| (camera.plan.id.as_str(), shared.ledger.camera(camera.index)))
        .collect();
    type Read = fn(&Counts) -> u64;
    let families: [(Family, Read); 4] = [
        (CAMERA_RECEIVED, |counts| counts.received),
        (CAMERA_PUBLISHED, |counts| counts.published),
        (CAMERA_IN_FLIGHT, |counts| counts.in_flight),
        (CAMERA_LOST, |counts| counts.lost_upstream),
    ];
    for (family, read) in families {
        head(page, family);
        for (id, counts) in &shown {
            page.sample(family.name, &[("camera", id)], read(counts) as f64);
        }
    }
    head(page, CAMERA_DROPPED);
    for (id, counts) in &shown {
        for (reason, count) in counts.drops() {
            page.sample(CAMERA_DROPPED.name, &[("camera", id), ("reason", reason.name())], count as f64);
        }
    }
    one(page, OMITTED, &[], table.len().saturating_sub(series_max) as f64);
}

/// From Linux' process file system; left out where there is none.
fn process(page: &mut Page) {
    /// Ticks per second in `/proc/self/stat`: a constant of Linux' interface, whatever the kernel's own is.
    const TICKS: f64 = 100.0;
    let read = |path| std::fs::read_to_string(path).ok();
    // The second field is the program's name in parentheses, which may hold anything: count from behind it.
    let cpu = read("/proc/self/stat").and_then(|text| {
        let rest = text.rsplit_once(')')?.1;
        let mut fields = rest.split_ascii_whitespace().skip(11);
        let (user, system) = (fields.next()?.parse::<f64>().ok()?, fields.next()?.parse::<f64>().ok()?);
        Some((user + system) / TICKS)
    });
    let memory = read("/proc/self/status").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0)
    });
    for (family, value) in [(CPU, cpu), (MEMORY, memory)] {
        if let Some(value) = value {
            one(page, family, &[], value);
        }
    }
}
