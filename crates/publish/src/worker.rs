//! One worker: some cameras, a connection, a pipeline at a time.
//!
//! What is due goes out together and its answers are heard before the next pipeline is made, so what a worker holds is
//! bounded by one pipeline whatever Redis does. Frames that come due while Redis is slow or away are not kept: a frame
//! whose turn comes a second late, or without a connection, is dropped by name, and its number stays missing in the
//! camera's count, so that readers see the gap.
//!
//! Costs per frame: one heap operation of the schedule, one copy into the pipeline (or into the ring), no system call.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::counts::Unsent;
use crate::outbox::Outbox;
use crate::publisher::{Gate, Sent};
use crate::timing::Schedule;

/// Frames gather for this long before they go out together.
const GATHER: Duration = Duration::from_millis(1);
/// A frame later than this is not sent any more.
const LATENESS_NS_MAX: u64 = 1_000_000_000;
/// Between attempts to connect, growing.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How soon a stop is seen while nothing is due.
const STOP_SEEN: Duration = Duration::from_millis(50);

pub(crate) enum Pace {
    Timed {
        schedule: Schedule,
        late_ns: u64,
        lag_us: Box<Histogram<u64>>,
    },
    /// Frames gather behind the gate until `next_ns`.
    Gated {
        gate: Arc<dyn Gate>,
        turn: u64,
        next_ns: u64,
    },
}

pub(crate) struct Worker {
    pub pace: Pace,
    pub outbox: Outbox,
    pub begun: Instant,
}

/// What is to be done next.
enum Next {
    Send,
    Wait(Duration),
    End,
}

/// Redis is away: when it is looked for again, and after which pause.
struct Away {
    until: Instant,
    pause: Duration,
}

impl Worker {
    pub fn run(mut self) -> Sent {
        let mut away: Option<Away> = None;
        while !self.outbox.shared.stop.load(Ordering::Acquire) {
            match self.gather(away.is_some()) {
                Next::Send => {
                    if self.outbox.send() {
                        away = Some(Away { until: Instant::now() + BACKOFF_MIN, pause: BACKOFF_MIN });
                    }
                }
                Next::Wait(wait) => std::thread::sleep(wait),
                Next::End => break,
            }
            if let Some(gone) = away.as_mut().filter(|gone| gone.until <= Instant::now()) {
                let found = self.outbox.greet();
                // What came due during the attempt found no connection either.
                self.gather(true);
                if found {
                    away = None;
                } else {
                    gone.pause = (gone.pause * 2).min(BACKOFF_MAX);
                    gone.until = Instant::now() + gone.pause;
                }
            }
        }
        let lag_us = match self.pace {
            Pace::Timed { lag_us, .. } => Some(*lag_us),
            Pace::Gated { .. } => None,
        };
        Sent { cameras: self.outbox.sent_by_camera(), lag_us }
    }

    /// Makes a pipeline of what is due. Without a connection, what is due is dropped.
    fn gather(&mut self, away: bool) -> Next {
        let now_ns = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let outbox = &mut self.outbox;
        let mut filling = outbox.begin();
        let wait = match &mut self.pace {
            Pace::Timed { schedule, late_ns, lag_us } => {
                let (mut behind, mut disconnected) = (0, 0);
                while filling.has_room()
                    && let Some(due) = schedule.take(now_ns)
                {
                    let lag_ns = now_ns - due.at_ns;
                    if away {
                        disconnected += 1;
                    } else if lag_ns > LATENESS_NS_MAX {
                        behind += 1;
                    } else {
                        lag_us.saturating_record((lag_ns / 1000).max(1));
                        filling.add(due.place, due.number, lag_ns > *late_ns);
                    }
                }
                filling.skip(Unsent::Disconnected, disconnected);
                filling.skip(Unsent::Behind, behind);
                let next = schedule.next_ns();
                next.map(|at_ns| Duration::from_nanos(at_ns.saturating_sub(now_ns)).clamp(GATHER, STOP_SEEN))
            }
            Pace::Gated { .. } if away => Some(GATHER),
            Pace::Gated { next_ns, .. } if now_ns < *next_ns => Some(Duration::from_nanos(*next_ns - now_ns)),
            Pace::Gated { gate, turn, next_ns } => {
                let (cameras, room) = (filling.cameras() as u64, filling.room());
                let taken = gate.take(room);
                for _ in 0..taken {
                    filling.add((*turn % cameras) as usize, *turn / cameras, false);
                    *turn += 1;
                }
                // More than there was room for goes out at once.
                *next_ns = if taken < room { now_ns + GATHER.as_nanos() as u64 } else { now_ns };
                Some(GATHER)
            }
        };
        match wait {
            _ if !filling.is_empty() => Next::Send,
            Some(wait) => Next::Wait(wait),
            None => Next::End,
        }
    }
}
