//! What has become of each result of a call, and of those that the engine will give again: a pipeline leaves results
//! behind the first failure published too, and they must not be published a second time.

use std::collections::VecDeque;

use omma_frame::{CameraIndex, FrameResult, Token};

/// One result's fate so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not in the stream, or it does no harm to send it again: its id is refused if it is.
    Open,
    /// Sent without an id of its own, and the answer was lost: the stream must be asked.
    Doubtful,
    Taken,
    /// It will never be taken.
    Refused,
}

type Mark = (CameraIndex, u64, Token);

fn mark(result: &FrameResult) -> Mark {
    (result.camera, result.sequence, result.token)
}

/// The fates of one call's results, by place.
#[derive(Default)]
pub(super) struct Fates {
    now: Vec<Fate>,
    /// From the first result that the last call has left over.
    carried: VecDeque<(Mark, Fate)>,
}

impl Fates {
    /// Begins a call. The engine gives what was left over again, first; if it does not, it has given those results up.
    pub fn begin(&mut self, results: &[FrameResult]) {
        self.now.clear();
        for result in results {
            let known = self.carried.pop_front().filter(|(known, _)| *known == mark(result));
            if known.is_none() {
                self.carried.clear();
            }
            self.now.push(known.map_or(Fate::Open, |(_, fate)| fate));
        }
        self.carried.clear();
    }

    pub fn get(&self, place: usize) -> Fate {
        self.now[place]
    }

    pub fn set(&mut self, place: usize, fate: Fate) {
        self.now[place] = fate;
    }

    pub fn places(&self, fate: Fate) -> impl Iterator<Item = usize> {
        self.now.iter().enumerate().filter(move |(_, found)| **found == fate).map(|(place, _)| place)
    }

    /// Ends a call: how many from the front are done with, and the places of those among them that are refused. The
    /// fates of the others are kept.
    pub fn end(&mut self, results: &[FrameResult]) -> (usize, Vec<usize>) {
        let done = |fate: &Fate| matches!(fate, Fate::Taken | Fate::Refused);
        let front = self.now.iter().position(|fate| !done(fate)).unwrap_or(self.now.len());
        self.carried = results[front..].iter().map(mark).zip(self.now[front..].iter().copied()).collect();
        let refused = self.now[..front].iter().enumerate().filter(|(_, fate)| **fate == Fate::Refused);
        (front, refused.map(|(place, _)| place).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_frame::{Outcome, Output};
    use omma_testkit::sink::result;

    fn results(sequences: std::ops::Range<u64>) -> Vec<FrameResult> {
        sequences.map(|n| result(CameraIndex(0), n, Outcome::Inferred(Output::Nothing))).collect()
    }

    #[test]
    fn what_is_left_over_keeps_its_fate() {
        use Fate::{Doubtful, Open, Refused, Taken};
        let mut fates = Fates::default();
        let first = results(0..6);
        fates.begin(&first);
        for (place, fate) in [Taken, Refused, Doubtful, Taken, Refused, Open].into_iter().enumerate() {
            fates.set(place, fate);
        }
        assert_eq!(fates.end(&first), (2, vec![1]));
        let again = results(2..8);
        fates.begin(&again);
        assert_eq!(fates.now, [Doubtful, Taken, Refused, Open, Open, Open]);
        fates.set(0, Taken);
        assert_eq!(fates.end(&again), (3, vec![2]));
        // The engine has given up what was left over: other results come.
        let others = results(20..22);
        fates.begin(&others);
        assert_eq!(fates.now, [Open, Open]);
    }

    #[test]
    fn a_call_that_is_cut_off_in_between_is_not_mistaken() {
        let mut fates = Fates::default();
        let first = results(0..4);
        fates.begin(&first);
        (0..4).for_each(|place| fates.set(place, if place == 0 { Fate::Open } else { Fate::Taken }));
        assert_eq!(fates.end(&first), (0, vec![]));
        let cut: Vec<_> = [results(0..2), results(3..4)].concat();
        fates.begin(&cut);
        assert_eq!(fates.now, [Fate::Open, Fate::Taken, Fate::Open], "behind the cut nothing is known");
    }
}
