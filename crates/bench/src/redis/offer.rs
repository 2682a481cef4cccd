//! The producer's role: the same publisher as `omma publish`, at a rate or as far ahead of the results as it may be.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use omma_adapters::redis::RedisOptions;
use omma_adapters::redis::wire::Wire;
use omma_frame::{PixelFormat, Size};
use omma_publish::timing::{End, Timing};
use omma_publish::{Carry, Form, Options, Pacing, Pictures, Publisher};
use omma_ring::RingOptions;
use serde::{Deserialize, Serialize};

use super::board::{Ahead, Board};
use super::role;
use super::stand::frames_stream;

/// What frames carry.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub enum Load {
    /// JPEGs of this size, of about so many bytes if any number is given.
    Jpeg { width: u32, height: u32, bytes: Option<usize> },
    /// Raw RGB.
    Rgb { width: u32, height: u32 },
}

/// How fast they come.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub enum Rate {
    /// So many a second, all cameras together, whether they are taken or not.
    PerSecond(f64),
    /// As fast as they are taken: at most so many frames ahead of the results.
    Ahead(u64),
}

/// What the producer is told.
#[derive(Serialize, Deserialize, Clone)]
pub struct Told {
    pub socket: PathBuf,
    pub board: PathBuf,
    pub cameras: usize,
    pub load: Load,
    /// In a ring of so many bytes instead of in the message.
    pub ring_bytes: Option<u64>,
    pub rate: Rate,
    /// Entries that Redis keeps of each stream.
    pub entries_max: u64,
    pub workers: usize,
}

/// What it did.
#[derive(Serialize, Deserialize)]
pub struct Said {
    pub sent: Vec<u64>,
    pub unsent: u64,
    pub why: String,
    pub lag_p99_ms: f64,
    pub payload_bytes: f64,
}

pub fn run(told: Told, stop: Arc<AtomicBool>) -> Result<Said, String> {
    let pictures = pictures(told.load)?;
    let payload_bytes = pictures.bytes_mean();
    let pacing = match told.rate {
        Rate::PerSecond(per_s) => {
            let timing = Timing { fps: per_s / told.cameras as f64, jitter: 0.0, bursts: None };
            Pacing::Timed { timing, end: End::Never }
        }
        Rate::Ahead(frames) => {
            let board = Board::open(&told.board).map_err(|error| error.to_string())?;
            Pacing::Gated(Arc::new(Ahead { board, frames }))
        }
    };
    let carry = match told.ring_bytes {
        None => Carry::Bytes,
        Some(bytes) => Carry::Handles { name: format!("bench-{}", std::process::id()), ring: RingOptions::new(bytes) },
    };
    let publisher = Publisher::start(Options {
        redis: RedisOptions::new(&format!("unix://{}", told.socket.display())),
        wire: Wire::Own,
        entries_max: Some(told.entries_max),
        streams: (0..told.cameras).map(frames_stream).collect(),
        pictures,
        carry,
        pacing,
        workers: told.workers,
    })?;
    role::say("ready")?;
    while !stop.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(5));
    }
    publisher.stop();
    let report = publisher.join()?;
    let why = report.said.iter().map(|(why, text)| format!("{}: {text}", why.name())).collect::<Vec<_>>().join("; ");
    Ok(Said {
        sent: report.sent_by_camera,
        unsent: report.counts.unsent_total(),
        why,
        lag_p99_ms: report.lag_p99.as_secs_f64() * 1e3,
        payload_bytes,
    })
}

/// The pictures of a load, always the same.
pub fn pictures(load: Load) -> Result<Pictures, String> {
    const SEED: u64 = 7;
    const PICTURES: usize = 4;
    match load {
        Load::Rgb { width, height } => {
            Pictures::synthetic(SEED, 1, Size { width, height }, Form::Raw(PixelFormat::Rgb))
        }
        Load::Jpeg { width, height, bytes } => {
            let size = Size { width, height };
            let quality = match bytes {
                None => 80,
                // A better quality is never smaller.
                Some(bytes) => {
                    let fits = |quality| {
                        let some = Pictures::synthetic(SEED, PICTURES, size, Form::Encoded { quality })?;
                        Ok::<_, String>(some.bytes_mean() <= bytes as f64)
                    };
                    let (mut low, mut high) = (1, 100);
                    while low + 1 < high {
                        let middle = (low + high) / 2;
                        if fits(middle)? { low = middle } else { high = middle }
                    }
                    low
                }
            };
            Pictures::synthetic(SEED, PICTURES, size, Form::Encoded { quality })
        }
    }
}
