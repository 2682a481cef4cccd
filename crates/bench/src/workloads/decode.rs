//! 1,000 cameras of 640x480 JPEGs through Redis, each picture really decoded to 320x320 for a null model: against what
//! decoding alone allows on the cores that Redis and the producer leave.
//!
//! What decoding alone costs is measured in the same run: the same pictures, each camera's in memory of its own, and the same
//! decoder in a bare loop on every core. Whatever omma does besides, waiting included, makes the ratio smaller.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use omma_adapters::picture::{self, PictureLimits};
use omma_engine::tensor::BatchTensor;
use omma_frame::Payload;

use super::{Options, redis};
use crate::figures::Figures;
use crate::load::rest;
use crate::redis::consumers::Consumer;
use crate::redis::offer::{self, Load, Rate};
use crate::redis::stand::{Run, Stand};
use crate::rig::picture_spec;
use crate::usage::Usage;

const LOAD: Load = Load::Jpeg { width: 640, height: 480, bytes: None };
/// Two frames of each camera: more than a second's work.
const AHEAD: u64 = 2000;

pub fn run(options: &Options) -> Result<Figures, String> {
    let stand = Stand::start()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        let decode_us = bare_decode(cores, options.span())?;
        let run = Run { load: LOAD, ..redis::jpegs(Rate::Ahead(AHEAD), options.span()) };
        let measured = stand.run(&run, &Consumer::Omma { decode: true, latest: false })?;
        let others = measured.results_per_s * (measured.server_us + measured.producer_us) / 1e6;
        let allowed = (cores as f64 - others) * 1e6 / decode_us;
        figures.add("ratio_to_decode", "1", measured.results_per_s / allowed);
        figures.add("results_per_s", "1/s", measured.results_per_s);
        figures.add("decode_allows_per_s", "1/s", allowed);
        figures.add("decode_us_per_frame", "us", decode_us);
        figures.add("lost", "1", measured.lost as f64);
        measured.add_costs(&mut figures);
    }
    figures.limit("ratio_to_decode", ">= 0.95");
    figures.limit("lost", "0");
    Ok(figures)
}

/// The same picture elsewhere in memory.
fn apart(picture: &Payload) -> Payload {
    match picture {
        Payload::Encoded(bytes) => Payload::Encoded(Bytes::copy_from_slice(bytes)),
        other => other.clone(),
    }
}

/// Microseconds of a core that decoding one picture takes while all cores do nothing else.
fn bare_decode(threads: usize, span: Duration) -> Result<f64, String> {
    let pictures = offer::pictures(LOAD)?;
    // Frames arrive in memory of their own, in no core's cache. One set of pictures for all cameras would stay there, and
    // decoding alone would look a tenth faster than it can be.
    let own: Vec<Payload> = (0..redis::CAMERAS).map(|camera| apart(pictures.show(camera, 0))).collect();
    let spec = picture_spec();
    let decoders = picture::factory(spec.clone(), PictureLimits::default()).map_err(|error| error.to_string())?;
    let stop = AtomicBool::new(false);
    let (frames, seconds) = std::thread::scope(|scope| {
        let usage = Usage::now();
        let decode = |first: usize| {
            let mut decoder = decoders.open();
            let mut tensor = BatchTensor::new(1, spec.slot_bytes());
            let mut frames = 0;
            while !stop.load(Ordering::Acquire) {
                let picture = &own[(first + frames * threads) % own.len()];
                decoder.decode(picture, tensor.slot_mut(0)).map_err(|error| error.to_string())?;
                frames += 1;
            }
            Ok::<_, String>(frames)
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || decode(first))).collect();
        rest(span);
        stop.store(true, Ordering::Release);
        let mut frames = 0;
        for thread in running {
            frames += thread.join().map_err(|_| "the decoder panicked".to_owned())??;
        }
        Ok::<_, String>((frames, usage.spent().wall.as_secs_f64()))
    })?;
    Ok(seconds * threads as f64 * 1e6 / frames.max(1) as f64)
}
