//! When each camera's frames are due: pure arithmetic, time is an argument.
//!
//! Every due time is computed from the start, never from the frame before it, so that a rate holds to the nanosecond
//! however long it runs and however late the sender was. Cameras' phases are spread over the period, so that the load
//! is even. Jitter moves single frames and nothing after them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// How often a camera has a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// Frames per second of each camera, outside of bursts.
    pub fps: f64,
    /// Frames come later than at the exact rate by up to this part of the time between two frames, 0 to 1, each by
    /// another; the rate stays.
    pub jitter: f64,
    pub bursts: Option<Bursts>,
}

/// Cameras that become faster for a while, again and again: at the end of every `every` they send `factor` times as
/// many frames for `length`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bursts {
    pub factor: f64,
    pub length: Duration,
    pub every: Duration,
    /// How many cameras burst, those with the lowest numbers.
    pub cameras: usize,
}

/// When a camera's frames end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// Never by itself.
    Never,
    /// After so many frames of each camera.
    Frames(u64),
    /// After so much time.
    After(Duration),
}

impl Timing {
    /// Frames that are due in a whole period of bursts (or a second), of a camera that bursts.
    fn frames_per_cycle(&self, bursts: &Bursts) -> f64 {
        let (length, every) = (bursts.length.as_secs_f64(), bursts.every.as_secs_f64());
        self.fps * (every - length + length * bursts.factor)
    }

    /// Seconds after the start at which `frames` frames (with a fraction) of a camera are over, and the rate then.
    fn seconds(&self, frames: f64, bursts: Option<&Bursts>) -> (f64, f64) {
        let Some(bursts) = bursts else { return (frames / self.fps, self.fps) };
        let cycle = self.frames_per_cycle(bursts);
        let cycles = (frames / cycle).floor();
        let left = frames - cycles * cycle;
        let every = bursts.every.as_secs_f64();
        let calm_seconds = every - bursts.length.as_secs_f64();
        let calm = self.fps * calm_seconds;
        if left < calm {
            (cycles * every + left / self.fps, self.fps)
        } else {
            let fast = self.fps * bursts.factor;
            (cycles * every + calm_seconds + (left - calm) / fast, fast)
        }
    }
}

/// One frame that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The camera's place among those of this schedule.
    pub place: usize,
    /// Its frame, counted from 0.
    pub number: u64,
    /// Nanoseconds after the start.
    pub at_ns: u64,
}

/// The due times of some cameras, in order. A step costs one heap operation.
pub struct Schedule {
    timing: Timing,
    end: End,
    cameras: Vec<Camera>,
    queue: BinaryHeap<Reverse<(u64, usize)>>,
}

struct Camera {
    /// Among all cameras, whoever sends them.
    number: usize,
    phase: f64,
    bursts: bool,
    next: u64,
}

impl Schedule {
    /// The cameras with these numbers, of `total` in all.
    pub fn new(timing: Timing, end: End, numbers: impl IntoIterator<Item = usize>, total: usize) -> Self {
        let camera = |number| Camera {
            number,
            phase: number as f64 / total.max(1) as f64,
            bursts: timing.bursts.is_some_and(|bursts| number < bursts.cameras),
            next: 0,
        };
        let cameras: Vec<Camera> = numbers.into_iter().map(camera).collect();
        let mut schedule = Self { timing, end, queue: BinaryHeap::with_capacity(cameras.len()), cameras };
        (0..schedule.cameras.len()).for_each(|place| schedule.enqueue(place));
        schedule
    }

    fn enqueue(&mut self, place: usize) {
        let camera = &self.cameras[place];
        let bursts = self.timing.bursts.as_ref().filter(|_| camera.bursts);
        let (seconds, rate) = self.timing.seconds(camera.next as f64 + camera.phase, bursts);
        let over = match self.end {
            End::Never => false,
            End::Frames(frames) => camera.next >= frames,
            End::After(time) => seconds >= time.as_secs_f64(),
        };
        if !over {
            let moved = self.timing.jitter * unit(camera.number as u64, camera.next) / rate;
            self.queue.push(Reverse((((seconds + moved) * 1e9) as u64, place)));
        }
    }

    /// When the next frame is due, in nanoseconds after the start; `None` if there is none any more.
    #[must_use]
    pub fn next_ns(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((at_ns, _))| *at_ns)
    }

    /// Takes the next frame if it is due at `now_ns`.
    pub fn take(&mut self, now_ns: u64) -> Option<Due> {
        let Reverse((at_ns, place)) = *self.queue.peek().filter(|Reverse((at_ns, _))| *at_ns <= now_ns)?;
        self.queue.pop();
        let number = self.cameras[place].next;
        self.cameras[place].next += 1;
        self.enqueue(place);
        Some(Due { place, number, at_ns })
    }
}

/// Even in 0..1, the same for the same camera and frame (splitmix64).
fn unit(camera: u64, frame: u64) -> f64 {
    let mut z = camera.wrapping_mul(0xD6E8_FEB8_6659_FD93).wrapping_add(frame).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn steady(fps: f64) -> Timing {
        Timing { fps, jitter: 0.0, bursts: None }
    }

    fn all(schedule: &mut Schedule, until_ns: u64) -> Vec<Due> {
        std::iter::from_fn(|| schedule.take(until_ns)).collect()
    }

    #[test]
    fn a_rate_does_not_drift() {
        // A day of an awkward rate.
        let mut schedule = Schedule::new(steady(29.97), End::Never, [0], 1);
        let mut last = None;
        while let Some(due) = schedule.take(86_400 * SECOND) {
            last = Some(due);
        }
        let last = last.expect("frames");
        assert_eq!(last.number, 2_589_408);
        assert!(last.at_ns.abs_diff((2_589_408.0 / 29.97 * 1e9) as u64) < 100);
    }

    #[test]
    fn phases_spread_cameras_over_the_period() {
        let mut schedule = Schedule::new(steady(10.0), End::Frames(2), 0..4, 4);
        let due: Vec<_> = all(&mut schedule, SECOND).iter().map(|d| (d.place, d.number, d.at_ns / 1_000_000)).collect();
        assert_eq!(
            due,
            [(0, 0, 0), (1, 0, 25), (2, 0, 50), (3, 0, 75), (0, 1, 100), (1, 1, 125), (2, 1, 150), (3, 1, 175)]
        );
        assert_eq!(schedule.next_ns(), None);
    }

    #[test]
    fn nothing_is_taken_before_it_is_due() {
        let mut schedule = Schedule::new(steady(1.0), End::Never, [1], 2);
        assert_eq!((schedule.take(SECOND / 2 - 1), schedule.next_ns()), (None, Some(SECOND / 2)));
        assert_eq!(schedule.take(SECOND / 2), Some(Due { place: 0, number: 0, at_ns: SECOND / 2 }));
    }

    #[test]
    fn jitter_keeps_the_rate_and_the_order_of_a_camera() {
        let timing = Timing { jitter: 1.0, ..steady(100.0) };
        let due = all(&mut Schedule::new(timing, End::After(Duration::from_secs(10)), [3], 10), u64::MAX);
        assert_eq!(due.len(), 1000);
        let exact = all(&mut Schedule::new(steady(100.0), End::After(Duration::from_secs(10)), [3], 10), u64::MAX);
        let late: Vec<u64> = due.iter().zip(&exact).map(|(due, exact)| due.at_ns - exact.at_ns).collect();
        assert!(late.iter().all(|late| *late <= SECOND / 100));
        assert!(late.iter().max() > Some(&9_000_000) && late.iter().min() < Some(&1_000_000), "it uses its range");
        assert!(due.windows(2).all(|pair| pair[0].number < pair[1].number && pair[0].at_ns <= pair[1].at_ns));
    }

    #[test]
    fn bursts_come_at_the_end_of_each_cycle_for_those_who_burst() {
        let bursts =
            Bursts { factor: 50.0, length: Duration::from_secs(1), every: Duration::from_secs(10), cameras: 1 };
        let timing = Timing { bursts: Some(bursts), ..steady(2.0) };
        let mut schedule = Schedule::new(timing, End::After(Duration::from_secs(20)), 0..2, 2);
        let due = all(&mut schedule, u64::MAX);
        let in_second =
            |place, second| due.iter().filter(|due| due.place == place && due.at_ns / SECOND == second).count();
        for (second, expected) in [(0, 2), (8, 2), (9, 100), (10, 2), (18, 2), (19, 100)] {
            assert_eq!(in_second(0, second), expected, "second {second} of the camera that bursts");
            assert_eq!(in_second(1, second), 2, "second {second} of the other");
        }
    }

    #[test]
    fn ends() {
        for (end, expected) in
            [(End::Frames(3), 3), (End::Frames(0), 0), (End::After(Duration::from_secs(2)), 20), (End::Never, 101)]
        {
            let due = all(&mut Schedule::new(steady(10.0), end, [0], 1), 10 * SECOND);
            assert_eq!(due.len(), expected, "{end:?}");
        }
    }
}
