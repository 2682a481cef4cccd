//! The cameras of the workloads: frames by reference, as fast as there is room or at an exact rate.

use std::time::{Duration, Instant};

use bytes::Bytes;
use omma_engine::source::{Arrival, Demand, Polled, Settlement, Source, SourceError};
use omma_frame::{CameraIndex, Payload, Token};

/// Pictures that all cameras deliver in turn; sharing one costs a reference, no copy.
pub type Pictures = Vec<Bytes>;

/// Cameras that deliver whenever they have room, or each at a fixed rate.
pub struct Load {
    cameras: Vec<CameraIndex>,
    pictures: Pictures,
    next: usize,
    count: Vec<u64>,
    /// `None`: as fast as there is room.
    rate: Option<Rate>,
    left: Option<u64>,
}

struct Rate {
    started: Instant,
    /// Frames per second, all cameras together.
    per_s: f64,
    sent: u64,
}

impl Load {
    pub fn saturating(cameras: Vec<CameraIndex>, pictures: Pictures) -> Self {
        let count = vec![0; cameras.len()];
        Self { cameras, pictures, next: 0, count, rate: None, left: None }
    }

    /// `per_s` frames per second in all, cameras in turn.
    pub fn at(per_s: f64, cameras: Vec<CameraIndex>, pictures: Pictures) -> Self {
        let rate = Rate { started: Instant::now(), per_s, sent: 0 };
        Self { rate: Some(rate), ..Self::saturating(cameras, pictures) }
    }

    /// Counts from `started` instead of from now; each frame's token says when it was due, in nanoseconds since then.
    pub fn since(mut self, started: Instant) -> Self {
        if let Some(rate) = &mut self.rate {
            rate.started = started;
        }
        self
    }

    /// Ends after `frames`.
    pub fn ending_after(mut self, frames: u64) -> Self {
        self.left = Some(frames);
        self
    }

    fn due(&self, most: usize) -> usize {
        let due = match &self.rate {
            None => most,
            Some(rate) => {
                let due = (rate.started.elapsed().as_secs_f64() * rate.per_s) as u64;
                usize::try_from(due.saturating_sub(rate.sent)).unwrap_or(most).min(most)
            }
        };
        self.left.map_or(due, |left| due.min(usize::try_from(left).unwrap_or(due)))
    }
}

/// When the frame that is `ahead` of those sent was due, in nanoseconds since the start; 0 without a rate.
fn due_ns(rate: &Option<Rate>, ahead: usize) -> u64 {
    rate.as_ref().map_or(0, |rate| ((rate.sent + ahead as u64 + 1) as f64 / rate.per_s * 1e9) as u64)
}

impl Source for Load {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        let due = self.due(demand.total());
        let already = arrivals.len();
        let mut sent = 0;
        // Each camera gives what it has room for, at most its part of what is due.
        let share = due.div_ceil(self.cameras.len().max(1)).max(1);
        for _ in 0..self.cameras.len() {
            if sent >= due {
                break;
            }
            let place = self.next;
            self.next = (self.next + 1) % self.cameras.len();
            let camera = self.cameras[place];
            let room = demand.room(camera).min(share).min(due - sent);
            for _ in 0..room {
                let sequence = self.count[place];
                self.count[place] += 1;
                let picture = (sequence as usize + place) % self.pictures.len();
                arrivals.push(Arrival {
                    camera,
                    sequence: Some(sequence),
                    captured_at: None,
                    payload: Payload::Encoded(self.pictures[picture].clone()),
                    token: Token(sequence, due_ns(&self.rate, arrivals.len() - already)),
                    overtaken: 0,
                    redelivered: false,
                    name: None,
                });
            }
            sent += room;
        }
        if let Some(rate) = &mut self.rate {
            rate.sent += sent as u64;
        }
        if let Some(left) = &mut self.left {
            *left -= sent as u64;
            if *left == 0 {
                return Ok(Polled::Ended);
            }
        }
        Ok(Polled::Open)
    }

    fn settle(&mut self, _settlements: &[Settlement]) -> Result<(), SourceError> {
        Ok(())
    }
}

/// Sleeps for the whole span, whatever wakes it.
pub fn rest(span: Duration) {
    let until = Instant::now() + span;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::sleep(left);
    }
}
