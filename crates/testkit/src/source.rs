//! Sources: what every [`Source`] must hold to ([`conformance`]), and one that a test drives by hand ([`manual`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use omma_engine::source::{Arrival, Demand, Fate, Polled, Settlement, Source, SourceError};
use omma_frame::{CameraIndex, Payload, Token};
use parking_lot::Mutex;

/// How long a suite waits for a source that has threads or sockets before it calls it stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// A demand that a test sets: the same room for every camera but those it names.
#[derive(Debug, Clone)]
pub struct TestDemand {
    pub room: usize,
    pub exceptions: HashMap<CameraIndex, usize>,
    pub total: usize,
}

impl TestDemand {
    #[must_use]
    pub fn new(room: usize, total: usize) -> Self {
        Self { room, exceptions: HashMap::new(), total }
    }

    #[must_use]
    pub fn except(mut self, camera: CameraIndex, room: usize) -> Self {
        self.exceptions.insert(camera, room);
        self
    }
}

impl Demand for TestDemand {
    fn room(&self, camera: CameraIndex) -> usize {
        self.exceptions.get(&camera).copied().unwrap_or(self.room)
    }

    fn total(&self) -> usize {
        self.total
    }
}

/// A source under test: finite, undisturbed, and able to deliver all it has within a few seconds.
pub struct Specimen {
    pub source: Box<dyn Source>,
    pub cameras: Vec<CameraIndex>,
    /// What each camera has to give.
    pub frames: u64,
    /// It keeps all: every frame arrives, in sequence, however rarely it is polled.
    pub lossless: bool,
    /// It says so when all cameras have ended.
    pub ends: bool,
    /// Whatever the source needs to live (a server, a folder).
    pub keep: Option<Box<dyn std::any::Any>>,
}

/// What every source must hold to. `make` gives a fresh source of the same kind each time.
pub fn conformance(mut make: impl FnMut() -> Specimen) {
    gives_nothing_without_demand(make());
    obeys_room_and_total(make());
    a_camera_without_room_delays_no_other(make());
    hears_settlements(make());
}

/// Polls until `done` or the specimen's source has ended, the way a reader thread does.
fn drive(
    specimen: &mut Specimen,
    mut demand: impl FnMut(usize) -> TestDemand,
    mut seen: impl FnMut(&TestDemand, &[Arrival]) -> bool,
) -> Vec<Arrival> {
    let (mut all, mut arrivals) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    for round in 0.. {
        let demand = demand(round);
        let polled = specimen.source.poll(&demand, &mut arrivals);
        let done = seen(&demand, &arrivals);
        let quiet = arrivals.is_empty();
        all.append(&mut arrivals);
        match polled {
            Ok(Polled::Ended) => return all,
            Ok(Polled::Open) if done => return all,
            Ok(Polled::Open) => {}
            Err(error) => panic!("an undisturbed source failed: {error}"),
        }
        assert!(begin.elapsed() < PATIENCE, "stuck after {} frames", all.len());
        if quiet {
            // As the reader does between polls: nothing is waited *for* here.
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    all
}

fn gives_nothing_without_demand(mut specimen: Specimen) {
    let without = [TestDemand::new(0, 100), TestDemand::new(100, 0)];
    let begin = Instant::now();
    // Long enough for a source with threads to have something to give.
    while begin.elapsed() < Duration::from_millis(50) {
        for demand in &without {
            let mut arrivals = Vec::new();
            let polled = specimen.source.poll(demand, &mut arrivals);
            assert!(arrivals.is_empty(), "{} frames without demand ({demand:?})", arrivals.len());
            assert_eq!(polled.expect("an undisturbed source"), Polled::Open, "frames are still to come");
        }
    }
}

fn obeys_room_and_total(mut specimen: Specimen) {
    let cameras = specimen.cameras.clone();
    let expected = specimen.frames * cameras.len() as u64;
    let mut count = 0;
    let arrivals = drive(
        &mut specimen,
        |round| {
            let demand = TestDemand::new(round % 3, 1 + round % 5);
            cameras.first().map_or(demand.clone(), |&first| demand.except(first, round % 2))
        },
        |demand, arrivals| {
            assert!(arrivals.len() <= demand.total, "{} frames, total was {}", arrivals.len(), demand.total);
            for &camera in &cameras {
                let frames = arrivals.iter().filter(|arrival| arrival.camera == camera).count();
                assert!(
                    frames <= demand.room(camera),
                    "{frames} frames of {camera:?}, room was {}",
                    demand.room(camera)
                );
            }
            count += arrivals.len() as u64;
            count >= expected
        },
    );
    check_order(&specimen, &arrivals);
    if specimen.lossless {
        assert_eq!(arrivals.len() as u64, expected, "a source that keeps all has lost some");
    }
    if specimen.ends {
        // The end may need one more poll to be noticed, and stays.
        drive(
            &mut specimen,
            |_| TestDemand::new(9, 9),
            |_, arrivals| {
                assert!(arrivals.is_empty(), "frames beyond the last");
                false
            },
        );
        let mut none = Vec::new();
        let polled = specimen.source.poll(&TestDemand::new(9, 9), &mut none);
        assert!(matches!(polled, Ok(Polled::Ended)) && none.is_empty(), "an ended source stays ended");
    }
}

fn check_order(specimen: &Specimen, arrivals: &[Arrival]) {
    let mut next: HashMap<CameraIndex, u64> = HashMap::new();
    for (at, arrival) in arrivals.iter().enumerate() {
        assert!(
            specimen.cameras.contains(&arrival.camera),
            "frame of {:?}, which is not this source's",
            arrival.camera
        );
        let Some(sequence) = arrival.sequence else { continue };
        let expected = next.entry(arrival.camera).or_insert(if specimen.lossless { 0 } else { sequence });
        if specimen.lossless {
            assert_eq!(sequence, *expected, "sequence of {:?} at frame {at}", arrival.camera);
        } else {
            assert!(sequence >= *expected, "{:?} went back to {sequence} from {expected}", arrival.camera);
        }
        *expected = sequence + 1;
    }
}

fn a_camera_without_room_delays_no_other(mut specimen: Specimen) {
    let (Some(&full), true) = (specimen.cameras.first(), specimen.lossless) else { return };
    let frames_each = specimen.frames;
    let others = frames_each * (specimen.cameras.len() as u64 - 1);
    let mut count = 0;
    let mut arrivals = Vec::new();
    if others > 0 {
        arrivals = drive(
            &mut specimen,
            |_| TestDemand::new(8, 64).except(full, 0),
            |_, arrivals| {
                count += arrivals.len() as u64;
                count >= others
            },
        );
    }
    assert!(arrivals.iter().all(|arrival| arrival.camera != full), "frames of a camera without room");
    assert_eq!(arrivals.len() as u64, others);
    // And once it has room, everything that it had kept comes.
    let mut count = 0;
    let late = drive(
        &mut specimen,
        |_| TestDemand::new(8, 64),
        |_, arrivals| {
            count += arrivals.len() as u64;
            count >= frames_each
        },
    );
    assert_eq!(late.len() as u64, frames_each, "frames of the camera that had no room");
    check_order(&specimen, &late);
}

fn hears_settlements(mut specimen: Specimen) {
    let arrivals = drive(&mut specimen, |_| TestDemand::new(4, 16), |_, arrivals| !arrivals.is_empty());
    let fates = [Fate::Published, Fate::Dropped(omma_frame::DropReason::Overtaken)];
    let settlements: Vec<Settlement> = arrivals
        .iter()
        .zip(fates.iter().cycle())
        .map(|(arrival, &fate)| Settlement {
            camera: arrival.camera,
            sequence: arrival.sequence.unwrap_or_default(),
            token: arrival.token,
            fate,
        })
        .collect();
    specimen.source.settle(&settlements).expect("settlements are accepted");
    specimen.source.settle(&[]).expect("and so is none at all");
}

/// A source that gives what a test pushes, and the handle to push with. Whatever has no room stays queued.
#[must_use]
pub fn manual() -> (ManualSource, ManualHandle) {
    let state = Arc::new(Mutex::new(Manual::default()));
    (ManualSource(Arc::clone(&state)), ManualHandle(state))
}

#[derive(Default)]
struct Manual {
    queue: VecDeque<Arrival>,
    errors: VecDeque<SourceError>,
    settlements: Vec<Settlement>,
    polls: u64,
    ended: bool,
}

pub struct ManualSource(Arc<Mutex<Manual>>);

#[derive(Clone)]
pub struct ManualHandle(Arc<Mutex<Manual>>);

impl ManualHandle {
    /// Queues a frame; the oldest of a camera is given first.
    pub fn push(&self, camera: CameraIndex, sequence: u64, payload: impl Into<Bytes>) {
        self.0.lock().queue.push_back(Arrival {
            camera,
            sequence: Some(sequence),
            captured_at: None,
            payload: Payload::Encoded(payload.into()),
            token: Token(sequence, 0),
            overtaken: 0,
            redelivered: false,
            name: None,
        });
    }

    /// Queues a frame of any form: without a sequence, with a capture time, raw.
    pub fn push_arrival(&self, arrival: Arrival) {
        self.0.lock().queue.push_back(arrival);
    }

    /// The next poll fails with this, after giving what has room.
    pub fn fail(&self, error: SourceError) {
        self.0.lock().errors.push_back(error);
    }

    /// The source ends once its queue is empty.
    pub fn end(&self) {
        self.0.lock().ended = true;
    }

    /// What it was told about its frames, so far.
    #[must_use]
    pub fn settlements(&self) -> Vec<Settlement> {
        self.0.lock().settlements.clone()
    }

    /// Frames that nobody has read yet.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.0.lock().queue.len()
    }

    #[must_use]
    pub fn polls(&self) -> u64 {
        self.0.lock().polls
    }
}

impl Source for ManualSource {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        let mut state = self.0.lock();
        state.polls += 1;
        let mut rooms: HashMap<CameraIndex, usize> = HashMap::new();
        let mut left = demand.total();
        let mut kept = VecDeque::with_capacity(state.queue.len());
        while let Some(arrival) = state.queue.pop_front() {
            let room = rooms.entry(arrival.camera).or_insert_with(|| demand.room(arrival.camera));
            if *room > 0 && left > 0 {
                *room -= 1;
                left -= 1;
                arrivals.push(arrival);
            } else {
                // Nothing younger of this camera may pass it, even if a total were left.
                *room = 0;
                kept.push_back(arrival);
            }
        }
        state.queue = kept;
        if let Some(error) = state.errors.pop_front() {
            return Err(error);
        }
        Ok(if state.ended && state.queue.is_empty() { Polled::Ended } else { Polled::Open })
    }

    fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        self.0.lock().settlements.extend_from_slice(settlements);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_source_conforms() {
        conformance(|| {
            let cameras: Vec<CameraIndex> = (0..4).map(CameraIndex).collect();
            let (source, handle) = manual();
            for sequence in 0..10 {
                cameras.iter().for_each(|&camera| handle.push(camera, sequence, vec![1]));
            }
            handle.end();
            Specimen { source: Box::new(source), cameras, frames: 10, lossless: true, ends: true, keep: None }
        });
    }

    #[test]
    #[should_panic(expected = "frames without demand")]
    fn the_suite_catches_a_source_that_ignores_room() {
        struct Pushy;
        impl Source for Pushy {
            fn poll(&mut self, _: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
                let payload = Payload::Encoded(Bytes::from_static(b"x"));
                arrivals.push(Arrival {
                    camera: CameraIndex(0),
                    sequence: None,
                    captured_at: None,
                    payload,
                    token: Token(0, 0),
                    overtaken: 0,
                    redelivered: false,
                    name: None,
                });
                Ok(Polled::Open)
            }
            fn settle(&mut self, _: &[Settlement]) -> Result<(), SourceError> {
                Ok(())
            }
        }
        conformance(|| Specimen {
            source: Box::new(Pushy),
            cameras: vec![CameraIndex(0)],
            frames: 1,
            lossless: true,
            ends: false,
            keep: None,
        });
    }
}
