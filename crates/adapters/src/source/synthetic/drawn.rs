//! Cameras whose pictures are drawn and encoded while they run, by a few threads that all cameras share.
//!
//! A camera belongs to one drawing thread for good, which serves its cameras in the order of their due times. Between
//! the threads and `poll` lies one small mailbox for each camera. A thread that cannot keep up skips pictures of live
//! cameras (counted, and seen as gaps in their sequences) and falls behind with the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use omma_engine::clock::Clock;
use omma_engine::source::{Arrival, Demand, Polled, Settlement, Source, SourceError};
use omma_engine::threads::Role;
use omma_frame::{CameraIndex, Payload, Token, UnixNanos};

use super::super::Keep;
use super::super::mailbox::{Mailboxes, Put};
use super::super::pace::Timetable;
use super::agenda::{Agenda, Job, Step};
use super::{NAME, SyntheticCounts, SyntheticOptions, add, refused, unix_at};
use crate::threads::schedule;

/// Draws picture `number` of a camera and appends it, encoded, to the empty vector, which is used again. An error is a
/// message; the camera goes on with its next picture.
pub type Painter = Box<dyn FnMut(CameraIndex, u64, &mut Vec<u8>) -> Result<(), String> + Send>;

/// Unread pictures that a camera's mailbox holds: one that is being read, one that is coming.
const WAITING_PICTURES_MAX: usize = 2;

/// The most drawing threads of one source; a larger number is a mistake in a configuration.
const THREADS_MAX: usize = 256;

struct Picture {
    number: u64,
    captured_at: UnixNanos,
    /// Or why it could not be drawn.
    encoded: Result<Bytes, String>,
}

/// Drawn cameras. Dropping it ends its threads, each after the picture it is at.
pub struct DrawnSource {
    cameras: Vec<CameraIndex>,
    boxes: Arc<Mailboxes<Picture>>,
    /// Mailboxes that were announced and are not yet empty.
    filled: VecDeque<usize>,
    threads: Vec<DrawingThread>,
    counts: Arc<SyntheticCounts>,
}

struct DrawingThread {
    /// Entries of its agenda that have room again; closed to end the thread.
    wake: Option<Sender<usize>>,
    unfinished: Arc<AtomicUsize>,
    handle: Option<JoinHandle<()>>,
}

impl DrawnSource {
    /// Starts `threads` drawing threads (never more than cameras). `painter` makes the painter of one thread, which
    /// draws the cameras listed and no others.
    ///
    /// # Errors
    /// The options make no sense, or a thread could not be started.
    pub fn open(
        options: SyntheticOptions,
        threads: usize,
        mut painter: impl FnMut(&[CameraIndex]) -> Painter,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        let options = options.checked()?;
        if threads == 0 || threads > THREADS_MAX {
            return Err(refused(format!("{threads} drawing threads, expected 1 to {THREADS_MAX}")));
        }
        let count = options.cameras.len();
        let threads = threads.min(count);
        let mut source = Self {
            cameras: options.cameras.iter().map(|camera| camera.camera).collect(),
            boxes: Arc::new(Mailboxes::new(count, WAITING_PICTURES_MAX)),
            filled: VecDeque::new(),
            threads: Vec::with_capacity(threads),
            counts: Arc::default(),
        };
        let start = clock.mono();
        for thread in 0..threads {
            // Neighbours in phase go to different threads, so that each thread's load is even as well.
            let own: Vec<usize> = (thread..count).step_by(threads).collect();
            let tables = own.iter().map(|&position| {
                let phase = position as f64 / count as f64;
                (options.cameras[position].keep, Timetable::new(start, options.pace, phase))
            });
            let unfinished = Arc::new(AtomicUsize::new(own.len()));
            let (wake, woken) = bounded(own.len());
            let own_cameras: Vec<CameraIndex> = own.iter().map(|&position| source.cameras[position]).collect();
            let mut drawing = Drawing {
                agenda: Agenda::new(tables, options.frames),
                cameras: own.iter().map(|&position| (position, options.cameras[position])).collect(),
                painter: painter(&own_cameras),
                period: Timetable::new(start, options.pace, 0.0).period(),
                boxes: Arc::clone(&source.boxes),
                counts: Arc::clone(&source.counts),
                unfinished: Arc::clone(&unfinished),
                clock: Arc::clone(&clock),
                encoded: Vec::new(),
            };
            if options.frames == Some(0) {
                unfinished.store(0, Ordering::Release);
            }
            let handle = std::thread::Builder::new()
                .name(format!("draw-{thread}"))
                .spawn(move || {
                    schedule(Role::Compute);
                    drawing.run(&woken);
                })
                .map_err(|error| refused(format!("cannot start a drawing thread: {error}")))?;
            source.threads.push(DrawingThread { wake: Some(wake), unfinished, handle: Some(handle) });
        }
        Ok(source)
    }

    /// Stays readable after the source has moved into the engine.
    #[must_use]
    pub fn counts(&self) -> Arc<SyntheticCounts> {
        Arc::clone(&self.counts)
    }

    /// A drawing thread ends early only by a panic of its painter.
    fn take_panic(&mut self) -> Option<SourceError> {
        for thread in &mut self.threads {
            if thread.handle.as_ref().is_some_and(JoinHandle::is_finished) {
                let panicked = thread.handle.take().is_some_and(|handle| handle.join().is_err());
                let stopped = thread.unfinished.swap(0, Ordering::AcqRel);
                if panicked {
                    return Some(refused(format!("a drawing thread panicked: {stopped} cameras have stopped")));
                }
            }
        }
        None
    }
}

impl Source for DrawnSource {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        let panic = self.take_panic();
        // Read before the mailboxes are: what was put before a camera finished is then seen.
        let finished = self.threads.iter().all(|thread| thread.unfinished.load(Ordering::Acquire) == 0);
        while let Some(position) = self.boxes.next_filled() {
            self.filled.push_back(position);
        }
        let mut left = demand.total();
        let mut failed = None;
        let before = arrivals.len();
        for _ in 0..self.filled.len() {
            if left == 0 {
                break;
            }
            let Some(position) = self.filled.pop_front() else { break };
            let camera = self.cameras[position];
            let room = demand.room(camera).min(left);
            let taken = self.boxes.take(position, room, |picture| match picture.encoded {
                Ok(encoded) => {
                    left -= 1;
                    arrivals.push(Arrival {
                        camera,
                        sequence: Some(picture.number),
                        captured_at: Some(picture.captured_at),
                        payload: Payload::Encoded(encoded),
                        token: Token(picture.number, 0),
                        overtaken: 0,
                        redelivered: false,
                        name: None,
                    });
                }
                Err(message) => failed = Some((camera, picture.number, message)),
            });
            if taken.more {
                self.filled.push_back(position);
            }
            if taken.unblocked {
                let thread = &self.threads[position % self.threads.len()];
                let entry = position / self.threads.len();
                // A place for each of its cameras, and each is woken once: never full. Closed only by a panic.
                let _ = thread.wake.as_ref().map(|wake| wake.try_send(entry));
            }
        }
        add(&self.counts.delivered, (arrivals.len() - before) as u64);
        if let Some(panic) = panic {
            return Err(panic);
        }
        if let Some((camera, number, message)) = failed {
            return Err(SourceError {
                source: NAME.into(),
                camera: Some(camera),
                message: format!("cannot draw picture {number}: {message}"),
                retry_after: Some(std::time::Duration::ZERO),
            });
        }
        Ok(if finished && self.filled.is_empty() { Polled::Ended } else { Polled::Open })
    }

    /// Nothing to acknowledge: a picture can be drawn again by its number.
    fn settle(&mut self, _: &[Settlement]) -> Result<(), SourceError> {
        Ok(())
    }
}

impl Drop for DrawnSource {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.wake = None;
        }
        for thread in &mut self.threads {
            // Its panic, if any, was its own message on the way down.
            let _ = thread.handle.take().map(JoinHandle::join);
        }
    }
}

/// What one drawing thread owns.
struct Drawing {
    agenda: Agenda,
    /// By entry of the agenda: its position in the source, and its settings.
    cameras: Vec<(usize, super::SyntheticCamera)>,
    painter: Painter,
    period: std::time::Duration,
    boxes: Arc<Mailboxes<Picture>>,
    counts: Arc<SyntheticCounts>,
    unfinished: Arc<AtomicUsize>,
    clock: Arc<dyn Clock>,
    encoded: Vec<u8>,
}

impl Drawing {
    fn run(&mut self, woken: &Receiver<usize>) {
        loop {
            loop {
                match woken.try_recv() {
                    Ok(entry) => self.agenda.wake(entry),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            let now = self.clock.mono();
            match self.agenda.step(now) {
                Step::Draw(job) => self.draw(job),
                Step::Until(due) => match woken.recv_timeout(due.since(now)) {
                    Ok(entry) => self.agenda.wake(entry),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                },
                Step::Blocked => match woken.recv() {
                    Ok(entry) => self.agenda.wake(entry),
                    Err(_) => return,
                },
                Step::Done => return,
            }
        }
    }

    fn draw(&mut self, job: Job) {
        let (position, camera) = self.cameras[job.entry];
        if camera.keep == Keep::All && !self.boxes.has_room_or_block(position) {
            return;
        }
        self.encoded.clear();
        let drawn = (self.painter)(camera.camera, job.number, &mut self.encoded);
        let now = self.clock.mono();
        let late = now.since(job.due) > self.period && !self.period.is_zero();
        // Without a pace a picture is due when it is made; with one, being late must show in its age.
        let due = if self.period.is_zero() { now } else { job.due };
        let encoded = drawn.map(|()| Bytes::copy_from_slice(&self.encoded));
        add(&self.counts.failed, u64::from(encoded.is_err()));
        add(&self.counts.late, u64::from(late));
        let picture = Picture { number: job.number, captured_at: unix_at(due, now, self.clock.unix()), encoded };
        let put = self.boxes.put(position, picture, camera.keep);
        add(&self.counts.overtaken, job.skipped + u64::from(put == Put::Replaced));
        if self.agenda.drawn(job.entry) {
            self.unfinished.fetch_sub(1, Ordering::Release);
        }
    }
}
