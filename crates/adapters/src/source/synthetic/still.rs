//! Cameras that all show the same few pictures, encoded once: for measuring everything but the drawing.
//!
//! No threads: a poll hands over what is due, at the cost of a shared reference per frame. A poll at which nothing is
//! due costs nothing per camera.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use omma_engine::clock::Clock;
use omma_engine::source::{Arrival, Demand, Polled, Settlement, Source, SourceError};
use omma_frame::{Mono, Payload, Token};

use super::super::pace::Timetable;
use super::super::{Keep, Pace};
use super::{SyntheticCamera, SyntheticCounts, SyntheticOptions, add, refused, unix_at};

/// Cameras of shared pictures.
pub struct StillSource {
    cameras: Vec<Still>,
    pictures: Vec<Bytes>,
    /// Of all cameras together: tick `t` is picture `t / N` of camera `t % N`.
    ticks: Timetable,
    next_tick: u64,
    pace: Pace,
    frames: u64,
    /// Cameras that owe pictures, each once.
    owing: VecDeque<usize>,
    unfinished: usize,
    counts: Arc<SyntheticCounts>,
    clock: Arc<dyn Clock>,
}

struct Still {
    options: SyntheticCamera,
    /// Number of its next picture.
    next: u64,
    /// Pictures that are due and not delivered.
    owed: u64,
}

impl StillSource {
    /// Every camera shows `pictures` (encoded, at least one) in turn, beginning at a different one.
    ///
    /// # Errors
    /// The options make no sense or there is no picture.
    pub fn open(options: SyntheticOptions, pictures: Vec<Bytes>, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        let options = options.checked()?;
        if pictures.is_empty() {
            return Err(refused("no picture to show, expected at least one".into()));
        }
        let count = options.cameras.len();
        let frames = options.frames.unwrap_or(u64::MAX);
        // The ticks of all cameras are one timetable of N times the pace; a camera's phase falls out of it.
        let tick_pace = match options.pace {
            Pace::PerSecond(rate) => Pace::PerSecond(rate * count.max(1) as f64),
            Pace::Unlimited => Pace::Unlimited,
        };
        let unlimited = options.pace == Pace::Unlimited;
        let owed = if unlimited { frames } else { 0 };
        let cameras = options.cameras.into_iter().map(|options| Still { options, next: 0, owed }).collect();
        Ok(Self {
            cameras,
            pictures,
            ticks: Timetable::new(clock.mono(), tick_pace, 0.0),
            next_tick: 0,
            pace: options.pace,
            frames,
            owing: if owed > 0 { (0..count).collect() } else { VecDeque::new() },
            unfinished: if frames > 0 { count } else { 0 },
            counts: Arc::default(),
            clock,
        })
    }

    /// Stays readable after the source has moved into the engine.
    #[must_use]
    pub fn counts(&self) -> Arc<SyntheticCounts> {
        Arc::clone(&self.counts)
    }

    /// Books what has become due. After a long pause whole rounds are booked at once, so that a poll's cost does not
    /// grow with the pause.
    fn book(&mut self, now: Mono) {
        let count = self.cameras.len() as u64;
        let Some(newest) = self.ticks.newest_due(now).filter(|_| count > 0) else { return };
        let due = (newest + 1).saturating_sub(self.next_tick);
        let rounds = due / count;
        if rounds > 0 {
            (0..self.cameras.len()).for_each(|position| self.owe(position, rounds));
        }
        for tick in self.next_tick + rounds * count..self.next_tick + due {
            self.owe((tick % count) as usize, 1);
        }
        self.next_tick += due;
    }

    fn owe(&mut self, position: usize, pictures: u64) {
        let still = &mut self.cameras[position];
        let left = self.frames - still.next - still.owed;
        let pictures = pictures.min(left);
        if still.owed == 0 && pictures > 0 {
            self.owing.push_back(position);
        }
        still.owed += pictures;
    }
}

impl Source for StillSource {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        let (now, unix) = (self.clock.mono(), self.clock.unix());
        self.book(now);
        let count = self.cameras.len() as u64;
        let unlimited = self.pace == Pace::Unlimited;
        let mut left = demand.total();
        let (mut delivered, mut late, mut overtaken) = (0, 0, 0);
        for _ in 0..self.owing.len() {
            if left == 0 {
                break;
            }
            let Some(position) = self.owing.pop_front() else { break };
            let still = &mut self.cameras[position];
            let camera = still.options.camera;
            let room = demand.room(camera).min(left);
            if still.options.keep == Keep::Newest {
                // As a live camera's small buffer would: what has no room is lost but for the newest.
                let lost = still.owed.saturating_sub(room.max(1) as u64);
                overtaken += lost;
                still.next += lost;
                still.owed -= lost;
            }
            let take = still.owed.min(room as u64);
            for number in still.next..still.next + take {
                let due = if unlimited { now } else { self.ticks.due(number * count + position as u64) };
                late += u64::from(!unlimited && self.ticks.due((number + 1) * count + position as u64) < now);
                let picture = (number as usize).wrapping_add(position) % self.pictures.len();
                arrivals.push(Arrival {
                    camera,
                    sequence: Some(number),
                    captured_at: Some(unix_at(due, now, unix)),
                    payload: Payload::Encoded(self.pictures[picture].clone()),
                    token: Token(number, 0),
                    overtaken: 0,
                    redelivered: false,
                    name: None,
                });
            }
            still.next += take;
            still.owed -= take;
            left -= take as usize;
            delivered += take;
            if still.owed > 0 {
                self.owing.push_back(position);
            } else if still.next == self.frames {
                self.unfinished -= 1;
            }
        }
        add(&self.counts.delivered, delivered);
        add(&self.counts.late, late);
        add(&self.counts.overtaken, overtaken);
        Ok(if self.unfinished == 0 { Polled::Ended } else { Polled::Open })
    }

    /// Nothing to acknowledge: the pictures never change.
    fn settle(&mut self, _: &[Settlement]) -> Result<(), SourceError> {
        Ok(())
    }
}
