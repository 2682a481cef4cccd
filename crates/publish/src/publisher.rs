//! Starts the workers, watches and ends them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use omma_adapters::redis::link::{Answer, Commands, Place};
use omma_adapters::redis::wire::Wire;
use omma_adapters::redis::{Link, LinkError, RedisOptions};
use omma_ring::{Producer, RingOptions};
use parking_lot::Mutex;

use crate::Pictures;
use crate::counts::{Counts, Tally, Unsent};
use crate::outbox::{Camera, FrameForm, Outbox, has_form};
use crate::timing::{End, Schedule, Timing};
use crate::worker::{Pace, Worker};

/// More workers than these would only wait for one another: Redis runs commands on one thread.
pub const WORKERS_MAX: usize = 8;

/// What is published, and how.
pub struct Options {
    pub redis: RedisOptions,
    pub wire: Wire,
    /// Redis keeps about so many entries of each stream.
    pub entries_max: Option<u64>,
    /// One stream for each camera; a camera's number is its place here.
    pub streams: Vec<String>,
    pub pictures: Pictures,
    pub carry: Carry,
    pub pacing: Pacing,
    pub workers: usize,
}

/// How a payload travels.
pub enum Carry {
    /// In the message.
    Bytes,
    /// In a ring of shared memory that the whole process has; the message holds its handle.
    Handles { name: String, ring: RingOptions },
}

/// When frames are sent.
#[derive(Clone)]
pub enum Pacing {
    /// By the clock, whether they are taken or not.
    Timed { timing: Timing, end: End },
    /// Cameras in turn, as fast as the gate opens.
    Gated(Arc<dyn Gate>),
}

/// Says how many frames may be sent.
pub trait Gate: Send + Sync {
    /// Takes leave to send up to `most` frames.
    fn take(&self, most: usize) -> usize;
}

/// Cameras that are being published. Dropping it without [`Publisher::join`] leaves its threads running to their end.
pub struct Publisher {
    begun: Instant,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Sent>>,
    /// The segment lives until the report is taken, so that readers find it when the last frame has been sent.
    _ring: Option<Arc<Mutex<Producer>>>,
}

/// What the workers and their publisher share.
pub(crate) struct Shared {
    pub tallies: Vec<Tally>,
    pub stop: AtomicBool,
    /// The last words for each reason, for people; taken when something fails, not for each frame.
    pub said: Mutex<BTreeMap<Unsent, String>>,
}

impl Shared {
    pub fn say(&self, why: Unsent, message: &str) {
        let mut said = self.said.lock();
        let known = said.entry(why).or_default();
        if known != message {
            message.clone_into(known);
        }
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.tallies.iter().for_each(|tally| tally.add_to(&mut counts));
        counts
    }
}

/// What one worker leaves behind.
pub(crate) struct Sent {
    /// Its cameras' numbers, and how many frames of each Redis has.
    pub cameras: Vec<(usize, u64)>,
    /// Microseconds from due to sent.
    pub lag_us: Option<Histogram<u64>>,
}

/// How it went.
#[derive(Debug, Clone)]
pub struct Report {
    pub counts: Counts,
    /// The last words for each reason for which something was not sent.
    pub said: BTreeMap<Unsent, String>,
    pub took: Duration,
    pub lag_p50: Duration,
    pub lag_p99: Duration,
    pub lag_max: Duration,
    /// Frames of each camera that Redis has.
    pub sent_by_camera: Vec<u64>,
}

impl Publisher {
    /// Connects once, to find out whether it can be done at all, makes the ring if there is one, and starts.
    ///
    /// # Errors
    /// What cannot be: the server cannot be reached or refuses us, the ring cannot be made, the wire has no form for
    /// the frames.
    pub fn start(options: Options) -> Result<Self, String> {
        let Options { redis, wire, entries_max, streams, pictures, carry, pacing, workers } = options;
        has_form(wire, pictures.show(0, 0), matches!(carry, Carry::Handles { .. }))?;
        let workers = workers.clamp(1, WORKERS_MAX).min(streams.len().max(1));
        let mut links = (0..workers).map(|_| Link::new(redis.clone())).collect::<Result<Vec<_>, _>>().map_err(shown)?;
        greet(&mut links[0]).map_err(shown)?;
        let ring = match carry {
            Carry::Bytes => None,
            Carry::Handles { name, ring } => {
                let ring = Producer::create(&name, &ring).map_err(|error| error.to_string())?;
                Some((ring.segment().to_owned(), Arc::new(Mutex::new(ring))))
            }
        };
        let tallies = (0..workers).map(|_| Tally::default()).collect();
        let shared = Arc::new(Shared { tallies, stop: AtomicBool::new(false), said: Mutex::default() });
        let pictures = Arc::new(pictures);
        let form = FrameForm { wire, entries_max: entries_max.map(|max| max.to_string()) };
        let begun = Instant::now();
        let _ring = ring.as_ref().map(|(_, ring)| Arc::clone(ring));
        let mut publisher = Self { begun, shared: Arc::clone(&shared), threads: Vec::new(), _ring };
        for (number, link) in links.into_iter().enumerate() {
            // Neighbours in phase go to different workers, so that each worker's load is even as well.
            let own = || (number..streams.len()).step_by(workers);
            let pace = match &pacing {
                Pacing::Timed { timing, end } => Pace::Timed {
                    schedule: Schedule::new(*timing, *end, own(), streams.len()),
                    late_ns: (1e9 / timing.fps).max(1e7) as u64,
                    lag_us: Box::new(Histogram::new_with_bounds(1, 60_000_000, 2).map_err(|error| error.to_string())?),
                },
                Pacing::Gated(gate) => Pace::Gated { gate: Arc::clone(gate), turn: 0, next_ns: 0 },
            };
            let outbox = Outbox {
                number,
                shared: Arc::clone(&shared),
                link,
                form: form.clone(),
                ring: ring.clone(),
                pictures: Arc::clone(&pictures),
                cameras: own().map(|camera| Camera::new(camera, &streams[camera])).collect(),
                commands: Commands::default(),
                pipeline: Vec::new(),
            };
            let worker = Worker { pace, outbox, begun };
            let thread = std::thread::Builder::new().name(format!("publish-{number}")).spawn(move || worker.run());
            match thread {
                Ok(thread) => publisher.threads.push(thread),
                Err(error) => {
                    publisher.stop();
                    return Err(format!("cannot start a thread: {error}"));
                }
            }
        }
        Ok(publisher)
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Whether every camera has ended.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Ends the cameras: what is on its way is waited for, nothing more is sent.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }

    /// Waits for the end and says how it went.
    ///
    /// # Errors
    /// A worker has panicked.
    pub fn join(self) -> Result<Report, String> {
        let mut lag: Option<Histogram<u64>> = None;
        let mut by_camera: Vec<(usize, u64)> = Vec::new();
        for thread in self.threads {
            let sent = thread.join().map_err(|_| "a worker panicked".to_owned())?;
            by_camera.extend(sent.cameras);
            match (&mut lag, sent.lag_us) {
                // Of the same bounds, so it always fits.
                (Some(lag), Some(more)) => lag.add(more).map_err(|error| error.to_string())?,
                (_, more) => lag = more,
            }
        }
        by_camera.sort_unstable();
        let quantile = |q: f64| {
            let us = lag.as_ref().filter(|lag| !lag.is_empty()).map_or(0, |lag| lag.value_at_quantile(q));
            Duration::from_micros(us)
        };
        Ok(Report {
            counts: self.shared.counts(),
            said: self.shared.said.lock().clone(),
            took: self.begun.elapsed(),
            lag_p50: quantile(0.5),
            lag_p99: quantile(0.99),
            lag_max: quantile(1.0),
            sent_by_camera: by_camera.into_iter().map(|(_, sent)| sent).collect(),
        })
    }
}

/// Whether the server is there and lets us in.
pub(crate) fn greet(link: &mut Link) -> Result<(), LinkError> {
    let mut commands = Commands::default();
    commands.push(Place::Any, &[b"PING"]);
    let mut outcome = Ok(());
    link.exchange(&commands, &mut |_, answer| {
        match answer {
            Answer::Reply(replies) => drop(replies.value()?),
            Answer::Refused(text) => outcome = Err(LinkError::of_refusal(text)),
            Answer::Lost(error) => outcome = Err(error.clone()),
        }
        Ok(())
    });
    outcome
}

fn shown(error: LinkError) -> String {
    error.message
}
