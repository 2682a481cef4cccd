//! The load: cameras that show pictures from memory, at a pace and in a number that can be changed while they run.
//!
//! Open loop: a camera's pictures are due by the clock, whether the engine keeps up or not, and a picture that found no
//! room counts as lost. How late the reader came to take it counts as latency, so that a stalled reader cannot hide
//! what it stalls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use omma_engine::clock::Clock;
use omma_engine::source::{Arrival, Demand, Polled, Settlement, Source, SourceError};
use omma_frame::{CameraIndex, Mono, Payload, Token, UnixNanos};
use parking_lot::Mutex;

/// What all readers' loads share with the main thread.
pub struct Control {
    /// Cameras that deliver: those of the lowest positions.
    active: AtomicUsize,
    due: AtomicU64,
    refused: AtomicU64,
    lag_us: Mutex<Histogram<u64>>,
}

/// What was offered in some time.
#[derive(Clone)]
pub struct Offered {
    pub due: u64,
    /// Found no room.
    pub refused: u64,
    /// How late pictures were taken.
    pub lag_p99: Duration,
}

impl Control {
    /// # Errors
    /// Never: the histogram's bounds are sound.
    pub fn new() -> Result<Arc<Self>, String> {
        let lag_us = Histogram::new_with_bounds(1, 60_000_000, 2).map_err(|error| error.to_string())?;
        Ok(Arc::new(Self {
            active: AtomicUsize::new(0),
            due: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            lag_us: Mutex::new(lag_us),
        }))
    }

    /// From now on so many cameras deliver, each from its first picture on.
    pub fn set_active(&self, cameras: usize) {
        self.active.store(cameras, Ordering::Release);
    }

    /// What was offered since the last call.
    pub fn take(&self) -> Offered {
        let mut lag = self.lag_us.lock();
        let lag_p99 = Duration::from_micros(if lag.is_empty() { 0 } else { lag.value_at_quantile(0.99) });
        lag.reset();
        Offered { due: self.due.swap(0, Ordering::AcqRel), refused: self.refused.swap(0, Ordering::AcqRel), lag_p99 }
    }
}

/// One camera of the load.
pub struct LoadCamera {
    pub camera: CameraIndex,
    /// Among all cameras of the bench: decides when it becomes active, and its phase.
    pub position: usize,
    /// Encoded or raw, shared; shown in turn.
    pub pictures: Arc<[Payload]>,
}

/// The cameras of one reader.
pub struct LoadSource {
    control: Arc<Control>,
    clock: Arc<dyn Clock>,
    period: Duration,
    /// By phase.
    cameras: Vec<LoadCamera>,
    active: usize,
    /// Active ones, by phase: their places in `cameras`.
    turn: Vec<usize>,
    start: Mono,
    cycle: u64,
    next: usize,
    polls: u64,
    /// By place: in which poll it last gave, and how many then.
    given: Vec<(u64, usize)>,
}

impl LoadSource {
    pub fn new(control: Arc<Control>, clock: Arc<dyn Clock>, fps: f64, mut cameras: Vec<LoadCamera>) -> Self {
        cameras.sort_by(|a, b| phase(a.position).total_cmp(&phase(b.position)));
        let period = Duration::from_secs_f64(1.0 / fps);
        let start = clock.mono();
        let given = vec![(0, 0); cameras.len()];
        Self { control, clock, period, cameras, active: 0, turn: Vec::new(), start, cycle: 0, next: 0, polls: 0, given }
    }

    fn restart(&mut self, active: usize, now: Mono) {
        self.active = active;
        self.turn = (0..self.cameras.len()).filter(|&place| self.cameras[place].position < active).collect();
        self.start = now;
        self.cycle = 0;
        self.next = 0;
    }

    fn due(&self, place: usize) -> Mono {
        let periods = self.cycle as f64 + phase(self.cameras[place].position);
        self.start.plus(self.period.mul_f64(periods))
    }
}

/// Part of a period by which a camera comes later than the first: even, whatever the number of cameras.
fn phase(position: usize) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    (position as f64 * GOLDEN).fract()
}

impl Source for LoadSource {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        let now = self.clock.mono();
        let active = self.control.active.load(Ordering::Acquire);
        if active != self.active {
            self.restart(active, now);
        }
        if self.turn.is_empty() {
            return Ok(Polled::Open);
        }
        let unix = self.clock.unix();
        let (mut due_now, mut refused) = (0, 0);
        let mut lag = None;
        self.polls += 1;
        let total = demand.total();
        loop {
            let place = self.turn[self.next];
            let due = self.due(place);
            if due > now || due_now as usize >= total {
                break;
            }
            due_now += 1;
            let camera = &self.cameras[place];
            let late = now.since(due);
            lag.get_or_insert_with(|| self.control.lag_us.lock())
                .saturating_record(u64::try_from(late.as_micros()).unwrap_or(u64::MAX).max(1));
            let pictures = &camera.pictures;
            let shown = (self.cycle as usize).wrapping_add(camera.position) % pictures.len();
            // Room is as of the poll's beginning: what this poll has given is taken off.
            let given = &mut self.given[place];
            if given.0 != self.polls {
                *given = (self.polls, 0);
            }
            if demand.room(camera.camera) > given.1 {
                given.1 += 1;
                arrivals.push(Arrival {
                    camera: camera.camera,
                    sequence: None,
                    captured_at: Some(UnixNanos(unix.0.saturating_sub(u64::try_from(late.as_nanos()).unwrap_or(0)))),
                    payload: pictures[shown].clone(),
                    token: Token(self.cycle, 0),
                    overtaken: 0,
                    redelivered: false,
                    name: None,
                });
            } else {
                refused += 1;
            }
            self.next += 1;
            if self.next == self.turn.len() {
                self.next = 0;
                self.cycle += 1;
            }
        }
        drop(lag);
        self.control.due.fetch_add(due_now, Ordering::AcqRel);
        self.control.refused.fetch_add(refused, Ordering::AcqRel);
        Ok(Polled::Open)
    }

    fn settle(&mut self, _: &[Settlement]) -> Result<(), SourceError> {
        Ok(())
    }
}

/// A payload of memory: sharing it costs a reference count.
pub fn shared(payload: &Payload) -> Payload {
    match payload {
        // The original may be a slice of a large read buffer, which would be kept alive.
        Payload::Encoded(bytes) => Payload::Encoded(Bytes::copy_from_slice(bytes)),
        raw => raw.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_engine::clock::ManualClock;

    struct Room(usize);

    impl Demand for Room {
        fn room(&self, _: CameraIndex) -> usize {
            self.0
        }

        fn total(&self) -> usize {
            4096
        }
    }

    /// So many cameras at 10 frames/s; none delivers yet.
    fn load(cameras: u32) -> (LoadSource, Arc<Control>, Arc<ManualClock>) {
        let control = Control::new().unwrap();
        let clock = Arc::new(ManualClock::at(Mono(1), UnixNanos(1 << 60)));
        let pictures: Arc<[Payload]> = vec![Payload::Encoded(Bytes::from_static(b"picture"))].into();
        let cameras = (0..cameras)
            .map(|at| LoadCamera { camera: CameraIndex(at), position: at as usize, pictures: Arc::clone(&pictures) })
            .collect();
        (LoadSource::new(Arc::clone(&control), Arc::clone(&clock) as Arc<dyn Clock>, 10.0, cameras), control, clock)
    }

    /// Polls every millisecond of so long; which cameras delivered, in order.
    fn run(source: &mut LoadSource, clock: &ManualClock, ms: u64, room: usize) -> Vec<u32> {
        let mut arrivals = Vec::new();
        for _ in 0..ms {
            source.poll(&Room(room), &mut arrivals).unwrap();
            clock.advance(Duration::from_millis(1));
        }
        arrivals.iter().map(|arrival| arrival.camera.0).collect()
    }

    #[test]
    fn as_many_cameras_as_are_active_deliver_at_their_rate() {
        let (mut source, control, clock) = load(100);
        for active in [0, 1, 7, 100, 3] {
            control.set_active(active);
            let seen = run(&mut source, &clock, 1000, 1);
            assert!(seen.len().abs_diff(active * 10) <= 1, "{active}: {}", seen.len());
            assert!(seen.iter().all(|camera| (*camera as usize) < active));
            assert_eq!(control.take().due, seen.len() as u64);
        }
    }

    #[test]
    fn load_is_even_over_a_period() {
        let (mut source, control, clock) = load(100);
        control.set_active(50);
        let tenths: Vec<_> = (0..10).map(|_| run(&mut source, &clock, 10, 1).len()).collect();
        assert!(tenths.iter().all(|count| (3..=7).contains(count)), "{tenths:?}");
    }

    #[test]
    fn what_finds_no_room_is_lost_and_what_is_taken_late_is_late() {
        let (mut source, control, clock) = load(2);
        control.set_active(2);
        assert!(run(&mut source, &clock, 1000, 0).is_empty());
        let offered = control.take();
        assert_eq!((offered.due, offered.refused), (20, 20));
        // A reader that did not come for half a second: five pictures of each camera are due, two have room.
        clock.advance(Duration::from_millis(499));
        let mut arrivals = Vec::new();
        source.poll(&Room(2), &mut arrivals).unwrap();
        let offered = control.take();
        assert_eq!((arrivals.len(), offered.due, offered.refused), (4, 10, 6));
        assert!(offered.lag_p99 > Duration::from_millis(400), "{:?}", offered.lag_p99);
    }
}
