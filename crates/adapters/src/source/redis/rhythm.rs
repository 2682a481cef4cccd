//! When a stream is worth asking: pure.
//!
//! Asking a stream that has nothing costs the server about as much as an entry, and of 10,000 cameras nearly all have
//! nothing at any one moment. Cameras are regular, though. From the times in its entries' ids a stream's interval and how
//! far frames stray from it are learned, as a round-trip time is for TCP (RFC 6298), and after a frame the stream is left
//! alone until shortly before the next is due. One whose frames come as they like strays by as much as its interval and
//! is asked at every turn, as is one whose ids are not times.

use std::time::{Duration, Instant};

/// A regular camera may quicken: it is asked after this time at the latest.
const SURPRISE_MAX: Duration = Duration::from_millis(100);
/// How far the second frame is expected to stray from the first distance, in parts of that.
const STRAY_FIRST: f64 = 1.0 / 4.0;
/// Weights of the newest distance.
const INTERVAL_PART: f64 = 1.0 / 8.0;
const STRAY_PART: f64 = 1.0 / 4.0;
/// Whose frames stray by more than this part of the interval is not regular.
const REGULAR_MAX: f64 = 0.25;
/// How often the time that a frame is asked for early is doubled at most.
const DOUBLINGS_MAX: u32 = 10;
/// A frame that is late is asked for again after so great a part of its lateness.
const LATE_PART: u32 = 8;

/// What one turn is for all streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub now: Instant,
    /// How far apart turns are.
    pub step: Duration,
    /// How long a stream can be left unasked that may have something.
    pub patience: Duration,
}

#[derive(Debug)]
pub(super) struct Rhythm {
    /// The time of the newest entry, as its id tells it.
    last_ms: u64,
    interval_ms: f64,
    stray_ms: f64,
    /// Frames in a row that were there when they were first asked for: how long they had lain is not known.
    met: u32,
    missed: bool,
    /// The next frame is due then.
    expected: Instant,
    next: Instant,
}

impl Rhythm {
    pub fn new(now: Instant) -> Self {
        Self { last_ms: 0, interval_ms: 0.0, stray_ms: 0.0, met: 0, missed: false, expected: now, next: now }
    }

    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// An entry has come whose id tells this time.
    pub fn came(&mut self, ms: u64) {
        let before = std::mem::replace(&mut self.last_ms, ms);
        if before == 0 {
            return;
        }
        let distance = ms.saturating_sub(before) as f64;
        if self.interval_ms == 0.0 {
            (self.interval_ms, self.stray_ms) = (distance, distance * STRAY_FIRST);
            return;
        }
        let stray = (distance - self.interval_ms).abs();
        self.stray_ms += STRAY_PART * (stray - self.stray_ms);
        self.interval_ms += INTERVAL_PART * (distance - self.interval_ms);
    }

    /// It was asked, and had something.
    pub fn found(&mut self, Pace { now, step, .. }: Pace) {
        self.met = if std::mem::take(&mut self.missed) { 0 } else { (self.met + 1).min(DOUBLINGS_MAX) };
        let early_ms = if self.stray_ms > self.interval_ms * REGULAR_MAX {
            self.interval_ms
        } else {
            // Earlier after each frame that was there already, until once too early: else what a stall has delayed would
            // stay so for ever, each frame found as late after it came as the one before.
            let least_ms = (step.as_secs_f64() * 1e3).max(2.0 * self.stray_ms);
            (least_ms * f64::from(1 << self.met)).min(self.interval_ms / 2.0)
        };
        let wait_ms = (self.interval_ms - early_ms).clamp(0.0, 1e6);
        self.expected = now + Duration::from_secs_f64(wait_ms / 1e3);
        self.next = self.expected.min(now + SURPRISE_MAX);
    }

    /// It was asked, and had nothing.
    pub fn missed(&mut self, Pace { now, patience, .. }: Pace) {
        self.next = if now < self.expected {
            self.expected.min(now + SURPRISE_MAX)
        } else {
            self.missed = true;
            now + ((now - self.expected) / LATE_PART).min(patience)
        };
    }

    /// It has more than it was asked for.
    pub fn at_once(&mut self, now: Instant) {
        self.next = now;
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const STEP: Duration = Duration::from_millis(5);
    const PATIENCE: Duration = Duration::from_millis(20);

    fn pace(now: Instant, step: Duration) -> Pace {
        Pace { now, step, patience: PATIENCE }
    }

    /// Plays a camera whose frames lie at `times` (ms) against turns every `step_ms`, none of them within `stall`: how
    /// often it was asked for each frame, and how long a frame lay at most, both of the last half.
    fn play(times: &[u64], step_ms: u64, stall: &Range<u64>) -> (f64, u64) {
        let step = Duration::from_millis(step_ms);
        let begin = Instant::now();
        let mut rhythm = Rhythm::new(begin);
        let (mut next, mut asked, mut lain) = (0, 0, 0);
        let last = times[times.len() - 1];
        for turn_ms in (0..=last + 1000).step_by(step_ms as usize) {
            if next == times.len() {
                break;
            }
            let now = begin + Duration::from_millis(turn_ms);
            if !rhythm.is_due(now) || stall.contains(&turn_ms) {
                continue;
            }
            let second_half = next >= times.len() / 2;
            asked += u32::from(second_half);
            let first = next;
            while next < times.len() && times[next] <= turn_ms {
                rhythm.came(times[next] + 1_700_000_000_000);
                if second_half {
                    lain = lain.max(turn_ms - times[next]);
                }
                next += 1;
            }
            match next > first {
                true => rhythm.found(pace(now, step)),
                false => rhythm.missed(pace(now, step)),
            }
        }
        (f64::from(asked) / (times.len() / 2) as f64, lain)
    }

    #[test]
    fn regular_cameras_are_asked_about_twice_for_a_frame_and_others_at_every_turn() {
        let every = |interval: u64| (1..200).map(|frame| frame * interval).collect::<Vec<_>>();
        // From a fixed generator: off by up to so much, or as they like.
        let mut state = 7_u64;
        let mut random = move |most: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % most
        };
        let jittered: Vec<u64> = (1..200).map(|frame| frame * 100 + random(11)).collect();
        let mut at = 0;
        let wild: Vec<u64> = (0..200)
            .map(|_| {
                at += if random(4) == 0 { 1 + random(400) } else { random(10) };
                at
            })
            .collect();
        // Name, frames, milliseconds between turns; asked for each frame at most, a frame lies at most (ms).
        let table = [
            ("10 frames/s", every(100), 5, 2.5, 10),
            ("25 frames/s", every(40), 5, 2.5, 10),
            ("1 frame/s", every(1000), 5, 13.0, 10),
            ("one each turn", every(5), 5, 1.1, 5),
            ("five each turn", every(1), 5, 0.3, 5),
            ("10 frames/s, each up to 10 ms late", jittered, 5, 5.0, 15),
            ("as they like", wild, 5, 12.0, 60),
        ];
        for (name, times, step_ms, asked_max, lain_max) in table {
            let (asked, lain) = play(&times, step_ms, &(0..0));
            assert!(asked <= asked_max && lain <= lain_max, "{name}: asked {asked} times a frame, lay {lain} ms");
        }
    }

    #[test]
    fn what_a_stall_of_the_turns_has_delayed_is_caught_up_with() {
        let times: Vec<u64> = (1..200).map(|frame| frame * 200).collect();
        // The frame of 18,000 ms is found 99 ms after it came.
        let (asked, lain) = play(&times, 1, &(17_990..18_099));
        assert!(asked <= 5.0 && lain <= 5, "asked {asked} times a frame, lay {lain} ms");
    }

    #[test]
    fn a_camera_that_stops_is_asked_after_its_patience_and_one_that_quickens_after_a_tenth_of_a_second() {
        let begin = Instant::now();
        let mut rhythm = Rhythm::new(begin);
        let mut now = begin;
        for frame in 1..100 {
            now = begin + Duration::from_secs(2 * frame);
            rhythm.came(frame * 2000);
            rhythm.found(pace(now, STEP));
        }
        assert!(!rhythm.is_due(now + Duration::from_millis(99)) && rhythm.is_due(now + SURPRISE_MAX));
        let late = now + Duration::from_secs(60);
        rhythm.missed(pace(late, STEP));
        assert!(!rhythm.is_due(late + Duration::from_millis(19)) && rhythm.is_due(late + PATIENCE));
    }
}
