//! The inner loops over scores: which anchors have one that is worth a second look.
//!
//! Two laws. A value that is not a number is always noticed, for a comparison with it is silently false. And nothing
//! but the best score is computed here: the class is looked up afterwards, for the few that pass, which leaves loops
//! of loads and maxima that compile to vector code.

use std::fmt;

use super::super::OutputError;
use super::super::nms::rank;
use super::classes::SCORE_MAX;
use super::view::unreadable;

/// The rows whose score passes, as [`rank`] keys. Reused from frame to frame.
pub(super) struct Candidates {
    threshold: f32,
    pub(super) keys: Vec<u64>,
}

impl Candidates {
    pub(super) fn new(score_min: f32) -> Self {
        // Above zero, so that padding never passes; a negative score has no rank and stays out too.
        Self { threshold: score_min.max(f32::MIN_POSITIVE), keys: Vec::new() }
    }

    pub(super) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Takes the row if its score passes. `place` names it in the error.
    pub(super) fn offer(&mut self, score: f32, row: usize, place: Place<'_>) -> Result<(), OutputError> {
        if score >= self.threshold {
            if score > SCORE_MAX {
                return Err(place.unreadable(row, score, "a score from 0 to 1 (raw logits, or another layout?)"));
            }
            self.keys.push(rank(score.min(1.0), row as u32));
        } else if score.is_nan() {
            return Err(place.unreadable(row, score, "a score from 0 to 1"));
        }
        Ok(())
    }
}

/// How errors name a value: which tensor, and whether its items are anchors or rows.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) tensor: &'a str,
    pub(super) item: &'static str,
}

impl Place<'_> {
    pub(super) fn unreadable(&self, row: usize, found: impl fmt::Debug, expected: &str) -> OutputError {
        unreadable(format_args!("output \"{}\" has {found:?} at {} {row}, expected {expected}", self.tensor, self.item))
    }
}

/// The greater; `other` if either is not a number. Unlike `f32::max` this is one instruction.
fn greater(one: f32, other: f32) -> f32 {
    if one > other { one } else { other }
}

/// Sets `best` to the highest score of each anchor, where `scores` holds one plane of all anchors per class, and says
/// whether every score is a number.
pub(super) fn best_of_planes(scores: &[f32], best: &mut [f32]) -> bool {
    best.fill(f32::NEG_INFINITY);
    let anchors = best.len();
    if anchors == 0 {
        return true;
    }
    // Four planes at a time: `best` is loaded and stored once for four loads of scores.
    let mut fours = scores.chunks_exact(4 * anchors);
    let mut numbers = true;
    for four in &mut fours {
        let (ab, cd) = four.split_at(2 * anchors);
        let ((a, b), (c, d)) = (ab.split_at(anchors), cd.split_at(anchors));
        let mut odd = false;
        for ((((best, &a), &b), &c), &d) in best.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            // `|` and not `||`: a branch would keep the loop scalar.
            odd |= (a.is_nan() | b.is_nan()) | (c.is_nan() | d.is_nan());
            *best = greater(greater(greater(a, b), greater(c, d)), *best);
        }
        numbers &= !odd;
    }
    for plane in fours.remainder().chunks_exact(anchors) {
        let mut odd = false;
        for (best, &score) in best.iter_mut().zip(plane) {
            odd |= score.is_nan();
            *best = greater(score, *best);
        }
        numbers &= !odd;
    }
    numbers
}

/// The highest of a row's scores, not a number if one of them is none; minus infinity for an empty row.
pub(super) fn best_of_row(scores: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut best = [f32::NEG_INFINITY; LANES];
    let mut odd = [false; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            odd[lane] |= chunk[lane].is_nan();
            best[lane] = greater(chunk[lane], best[lane]);
        }
    }
    for (lane, &score) in rest.iter().enumerate() {
        odd[lane] |= score.is_nan();
        best[lane] = greater(score, best[lane]);
    }
    if odd.contains(&true) { f32::NAN } else { best.into_iter().fold(f32::NEG_INFINITY, greater) }
}

/// The first place of the highest of some scores.
pub(super) fn first_best(scores: impl Iterator<Item = f32>) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (class, score) in (0..).zip(scores) {
        if score > best.0 {
            best = (score, class);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn score() -> impl Strategy<Value = f32> {
        prop_oneof![20 => -1.0f32..1.0, 1 => Just(f32::NEG_INFINITY), 1 => Just(f32::INFINITY)]
    }

    proptest! {
        #[test]
        fn planes_and_rows_have_the_best_that_a_plain_loop_finds(
            (classes, anchors, mut scores) in (0..11usize, 0..40usize)
                .prop_flat_map(|(c, a)| (Just(c), Just(a), prop::collection::vec(score(), c * a))),
            odd in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let odd = odd.filter(|_| !scores.is_empty()).map(|index| index.index(scores.len()));
            if let Some(odd) = odd {
                scores[odd] = -f32::NAN;
            }
            let mut best = vec![0.0; anchors];
            prop_assert_eq!(best_of_planes(&scores, &mut best), odd.is_none());
            for anchor in 0..anchors {
                let column: Vec<f32> = (0..classes).map(|class| scores[class * anchors + anchor]).collect();
                let highest = column.iter().copied().filter(|s| !s.is_nan()).fold(f32::NEG_INFINITY, f32::max);
                if odd.is_none_or(|odd| odd % anchors != anchor) {
                    prop_assert_eq!(best[anchor], highest);
                    prop_assert_eq!(best_of_row(&column), highest);
                    let first = column.iter().position(|&s| s == highest).unwrap_or(0);
                    if highest > f32::NEG_INFINITY {
                        prop_assert_eq!(first_best(column.iter().copied()) as usize, first);
                    }
                } else {
                    prop_assert!(best_of_row(&column).is_nan());
                }
            }
        }

        #[test]
        fn a_long_row_hides_nothing(length in 1..200usize, at in any::<prop::sample::Index>()) {
            let mut row = vec![0.25; length];
            row[at.index(length)] = 0.5;
            prop_assert_eq!(best_of_row(&row), 0.5);
            prop_assert_eq!(first_best(row.iter().copied()) as usize, at.index(length));
            row[at.index(length)] = f32::NAN;
            prop_assert!(best_of_row(&row).is_nan());
        }
    }
}
