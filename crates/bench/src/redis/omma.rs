//! omma's role: the real engine between the real Redis source and the real Redis sink, with order, ledger and metrics
//! on, set up as `omma run` sets them up where a file says nothing else.
//!
//! The model is null. Its pictures are not looked at, or decoded as for a real one. Between engine and sink sits what
//! measures: it counts results onto the board once Redis has acknowledged them, and takes their latency then, from the
//! entry id that Redis gave the frame at its XADD. An id tells whole milliseconds, rounded down, so that a latency is too
//! long by up to one and never too short.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use omma_adapters::infer::null;
use omma_adapters::picture::{self, PictureLimits};
use omma_adapters::redis::RedisOptions;
use omma_adapters::sink::encode::ModelLabels;
use omma_adapters::sink::redis::{RedisSink, RedisSinkOptions, ResultNames};
use omma_adapters::source::redis::{RedisSource, RedisSourceOptions};
use omma_engine::cameras::{Camera, CameraPlan, Delivery};
use omma_engine::clock::SystemClock;
use omma_engine::plan::{BatchPlan, Mode};
use omma_engine::sink::{Sink, SinkError};
use omma_frame::{CameraId, FrameResult};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::board::Board;
use super::role;
use super::stand::GROUP;
use crate::load::rest;
use crate::rig::{Blind, Rig, no_pictures, picture_spec};

/// What omma is told.
#[derive(Serialize, Deserialize, Clone)]
pub struct Told {
    pub socket: PathBuf,
    pub board: PathBuf,
    pub cameras: usize,
    /// Decodes each picture for a model of 320x320.
    pub decode: bool,
    /// The cameras are live: of each the newest frame counts, however old.
    pub latest: bool,
    /// Frames that were sent so soon after the first have no part in the latencies.
    pub warm_up_ms: u64,
    /// Latencies are told for each span of so long.
    pub window_ms: u64,
    /// Results that Redis keeps of each camera; `None`: all.
    pub results_max: Option<u64>,
}

/// What it did.
#[derive(Serialize, Deserialize)]
pub struct Said {
    pub published: u64,
    pub dropped: u64,
    /// Frames that were in flight when the drain was over, or are of an unknown fate.
    pub unfinished: u64,
    pub windows: Vec<Window>,
}

/// Latencies from XADD to the acknowledged result, of frames that were sent within a span.
#[derive(Serialize, Deserialize, Debug, Clone, Copy)]
pub struct Window {
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Window {
    fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50_ms: ms(0.5), p99_ms: ms(0.99) }
    }
}

pub fn run(told: Told, stop: Arc<AtomicBool>) -> Result<Said, String> {
    let redis = RedisOptions::new(&format!("unix://{}", told.socket.display()));
    let names = ResultNames::parse("omma:results:{camera}").ok_or("the name of the result streams")?;
    let options = RedisSinkOptions { entries_max: told.results_max, ..RedisSinkOptions::new(redis.clone(), names) };
    let labels = vec![ModelLabels { name: "bench".to_owned(), labels: Vec::new() }];
    let latencies = Arc::new(Mutex::new(Latencies::new(told.warm_up_ms, told.window_ms)));
    let sink = Measuring {
        sink: RedisSink::new(options, labels).map_err(|error| error.message)?,
        board: Board::open(&told.board).map_err(|error| error.to_string())?,
        latencies: Arc::clone(&latencies),
    };
    let engine = rig(&told)?.start_into(Arc::new(SystemClock::new()), Box::new(sink), |cameras, indexes| {
        // Of cameras that are found; here there are none.
        let template = CameraPlan {
            id: CameraId::new("found").map_err(|error| error.to_string())?,
            delivery: delivery(&told),
            model: 0,
            route: 0,
            entry_ids: true,
            waiting_frames_max: 64,
            in_flight_frames_max: 256,
        };
        let options = RedisSourceOptions {
            group: GROUP.to_owned(),
            ..RedisSourceOptions::new("bench", redis, Arc::clone(cameras), template)
        };
        let source = RedisSource::open(options, &indexes).map_err(|error| error.to_string())?;
        Ok(Box::new(source))
    })?;
    role::say("ready")?;
    while !stop.load(Ordering::Acquire) {
        rest(Duration::from_millis(5));
    }
    let drained = engine.drain();
    if !drained.counts.balanced() {
        return Err(format!("the ledger does not balance: {drained:?}"));
    }
    let windows = latencies.lock().windows();
    Ok(Said {
        published: drained.counts.published,
        dropped: drained.counts.dropped_total(),
        unfinished: drained.late + drained.unsettled as u64,
        windows,
    })
}

fn delivery(told: &Told) -> Delivery {
    if told.latest { Delivery::Latest { age_max: Duration::from_secs(3600) } } else { Delivery::Every }
}

fn rig(told: &Told) -> Result<Rig, String> {
    let (spec, pictures, mode, instances): (_, Arc<dyn omma_engine::picture::PictureDecoderFactory>, _, _) =
        if told.decode {
            let spec = picture_spec();
            let decoders = picture::factory(spec.clone(), PictureLimits::default());
            (spec, decoders.map_err(|error| error.to_string())?, Mode::Auto, None)
        } else {
            // What `sync` is for: a model that takes no time gains nothing from a second thread.
            (no_pictures(), Arc::new(Blind), Mode::Sync, Some(1))
        };
    Ok(Rig {
        cameras: told.cameras,
        delivery: delivery(told),
        waiting_frames_max: if told.latest { 1 } else { 64 },
        in_flight_frames_max: 256,
        entry_ids: true,
        mode,
        instances,
        batch: BatchPlan::default(),
        model: null(&spec),
        spec,
        pictures,
        outputs: Arc::new(Blind),
    })
}

/// A sink that is watched.
struct Measuring {
    sink: RedisSink,
    board: Board,
    latencies: Arc<Mutex<Latencies>>,
}

impl Sink for Measuring {
    fn interval_min(&self) -> Duration {
        self.sink.interval_min()
    }

    fn publish(&mut self, results: &[FrameResult], cameras: &[Arc<Camera>]) -> Result<(), SinkError> {
        let outcome = self.sink.publish(results, cameras);
        let done = outcome.as_ref().map_or_else(|error| error.published, |()| results.len());
        let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        self.latencies.lock().take(now_ns, results[..done].iter().map(|result| result.token.0));
        self.board.add_done(done as u64);
        outcome
    }
}

struct Latencies {
    warm_up_ms: u64,
    window_ms: u64,
    /// When the first frame was sent.
    first_ms: Option<u64>,
    /// Of windows whose frames have all come out.
    closed: Vec<Window>,
    /// Of the newest, in microseconds. Few, or they would show as a growth of memory.
    open: VecDeque<Histogram<u64>>,
}

impl Latencies {
    /// Enough for a day and night of windows of ten minutes.
    const WINDOWS_MAX: usize = 256;
    const OPEN_MAX: usize = 3;

    fn new(warm_up_ms: u64, window_ms: u64) -> Self {
        Self { warm_up_ms, window_ms: window_ms.max(1), first_ms: None, closed: Vec::new(), open: VecDeque::new() }
    }

    /// Results of frames that were sent at these times, in Unix milliseconds, are there now.
    fn take(&mut self, now_ns: u64, sent_ms: impl Iterator<Item = u64>) {
        for sent_ms in sent_ms {
            let first_ms = *self.first_ms.get_or_insert(sent_ms);
            let Some(since) = sent_ms.checked_sub(first_ms + self.warm_up_ms) else { continue };
            let window = ((since / self.window_ms) as usize).min(Self::WINDOWS_MAX);
            while self.closed.len() + self.open.len() <= window {
                if self.open.len() == Self::OPEN_MAX {
                    self.closed.extend(self.open.pop_front().as_ref().map(Window::of));
                }
                // Three digits up to a minute.
                let Ok(histogram) = Histogram::new_with_bounds(1, 60_000_000, 3) else { return };
                self.open.push_back(histogram);
            }
            // A frame that comes out so late counts with the oldest that is open.
            let place = window.saturating_sub(self.closed.len());
            self.open[place].saturating_record((now_ns.saturating_sub(sent_ms * 1_000_000) / 1000).max(1));
        }
    }

    fn windows(&self) -> Vec<Window> {
        self.closed.iter().copied().chain(self.open.iter().map(Window::of)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_told_by_when_frames_were_sent_and_without_the_warm_up() {
        let mut latencies = Latencies::new(1000, 500);
        latencies.take(10_900_000_000, [10_000, 10_500].into_iter());
        assert_eq!(latencies.windows().len(), 0, "warming up");
        latencies.take(11_040_000_000, [11_000, 11_020].into_iter());
        latencies.take(11_605_000_000, [11_600].into_iter());
        let found: Vec<_> = latencies.windows().iter().map(|w| (w.p50_ms.round(), w.p99_ms.round())).collect();
        assert_eq!(found, [(20.0, 40.0), (5.0, 5.0)]);
    }
}
