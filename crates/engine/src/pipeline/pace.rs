//! A reader's pace: how long it pauses between two turns. Pure.
//!
//! A turn costs two changes of thread and a look at every source, so turns that gain nothing are not taken: in a lull
//! pauses grow, and so they do while each model has enough to do already. What waits is then read no later than it would
//! have been anyway, as pauses grow only while at most a quarter of it leaves between two turns.

use std::time::Duration;

use omma_frame::Mono;

/// Without a frame for this long, pauses grow: the gaps between the frames of a few cameras are no lull.
const LULL: Duration = Duration::from_millis(500);
/// The pause after a turn that brought frames: more are likely there, and other threads want the core.
const BUSY_PAUSE: Duration = Duration::from_micros(200);
/// Rounds of batches, one for each instance, that wait at a model which has enough to do. Fewer would be gone within
/// one pause if the instances happened to ask at the same time.
const ROUNDS_ENOUGH: usize = 4;

pub(super) struct Pace {
    pause_min: Duration,
    pause_max: Duration,
    pause: Duration,
    quiet_since: Mono,
    models: Vec<Stock>,
}

/// What one model has to do.
#[derive(Clone, Default)]
struct Stock {
    /// Frames that waited after the last turn.
    left: usize,
    enough: bool,
    /// When this reader last brought it a frame.
    brought_at: Option<Mono>,
}

impl Pace {
    pub(super) fn new(models: usize, pause_min: Duration, pause_max: Duration, now: Mono) -> Self {
        Self { pause_min, pause_max, pause: pause_min, quiet_since: now, models: vec![Stock::default(); models] }
    }

    /// A turn begins: so many frames wait for the model, whose instances take `round` of them at a time.
    pub(super) fn begins(&mut self, model: usize, waiting: usize, round: usize) {
        let stock = &mut self.models[model];
        stock.enough = stock.left >= ROUNDS_ENOUGH * round.max(1) && waiting >= stock.left - stock.left / 4;
    }

    /// The turn has brought frames for the model.
    pub(super) fn brought(&mut self, model: usize, now: Mono) {
        self.models[model].brought_at = Some(now);
    }

    /// A turn is over: so many frames wait for the model.
    pub(super) fn ends(&mut self, model: usize, waiting: usize) {
        self.models[model].left = waiting;
    }

    /// The pause after a turn that brought frames, or heard what became of some.
    pub(super) fn pause(&mut self, now: Mono, brought: bool, heard: bool) -> Duration {
        if brought || heard {
            self.quiet_since = now;
        }
        let recent = |stock: &&Stock| stock.brought_at.is_some_and(|at| now.since(at) < LULL);
        let mut served = self.models.iter().filter(recent).peekable();
        let busy_pause = BUSY_PAUSE.min(self.pause_min);
        self.pause = if served.peek().is_some() && served.all(|stock| stock.enough) {
            (self.pause * 2).clamp(busy_pause, self.pause_max)
        } else if brought {
            busy_pause
        } else if now.since(self.quiet_since) < LULL {
            self.pause_min
        } else {
            (self.pause * 2).clamp(self.pause_min, self.pause_max)
        };
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(1);
    const MAX: Duration = Duration::from_millis(20);

    fn at_ms(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn pauses_are_short_while_frames_come_and_grow_in_a_lull() {
        let mut pace = Pace::new(1, MIN, MAX, at_ms(0));
        // (at ms, brought, heard) -> pause in us
        for (ms, brought, heard, expected_us) in [
            (0, true, false, 200),
            (1, false, false, 1000),
            (400, false, true, 1000),
            (899, false, false, 1000),
            (900, false, false, 2000),
            (902, false, false, 4000),
            (906, false, false, 8000),
            (914, false, false, 16_000),
            (930, false, false, 20_000),
            (950, false, false, 20_000),
            (970, true, false, 200),
        ] {
            let pause = pace.pause(at_ms(ms), brought, heard);
            assert_eq!(pause, Duration::from_micros(expected_us), "at {ms} ms");
        }
    }

    #[test]
    fn pauses_grow_while_every_model_that_is_brought_frames_has_enough_to_do() {
        // By model: (waited after the turn before, wait now, one round) -> whether the pause grows
        let table: [(&[(usize, usize, usize)], bool); 9] = [
            (&[(100, 100, 2)], true),
            (&[(100, 75, 2)], true),
            (&[(100, 74, 2)], false),
            (&[(8, 8, 2)], true),
            (&[(7, 7, 2)], false),
            (&[(0, 0, 1)], false),
            (&[(100, 90, 2), (100, 90, 16)], true),
            (&[(100, 90, 2), (0, 0, 1)], false),
            (&[(100, 90, 2), (60, 60, 16)], false),
        ];
        for (models, grows) in table {
            let mut pace = Pace::new(models.len(), MIN, MAX, at_ms(0));
            for (model, (before, now, round)) in models.iter().enumerate() {
                pace.brought(model, at_ms(0));
                pace.ends(model, *before);
                pace.begins(model, *now, *round);
            }
            let pauses: Vec<u128> = (0..9).map(|ms| pace.pause(at_ms(ms), true, true).as_micros()).collect();
            let expected: &[u128] =
                if grows { &[2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000, 20_000, 20_000] } else { &[200; 9] };
            assert_eq!(pauses, expected, "{models:?}");
        }
    }

    #[test]
    fn a_model_that_is_brought_nothing_any_more_holds_up_no_other() {
        let mut pace = Pace::new(2, MIN, MAX, at_ms(0));
        (0..2).for_each(|model| pace.brought(model, at_ms(0)));
        pace.ends(0, 100);
        pace.begins(0, 100, 1);
        assert_eq!(pace.pause(at_ms(1), true, false), Duration::from_micros(200), "the other may want frames");
        pace.brought(0, at_ms(600));
        assert_eq!(pace.pause(at_ms(600), true, false), Duration::from_micros(400));
    }
}
