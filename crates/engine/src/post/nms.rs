//! Which of many boxes around one thing is kept: greedy non-maximum suppression.
//!
//! Pure, on the instance's thread. Ranking costs O(n log n), suppression O(n * k) for n candidates and k kept boxes;
//! both n and k are bounded by the caller. A grid or a tree over the boxes would save comparisons, but below some
//! thousand candidates building it costs more than it saves.

use omma_frame::Detection;

/// Orders candidates by falling score, then by rising index, packed into one integer: sorting the keys upwards gives
/// the order, and no two candidates are ever equal in it.
///
/// `score` must be at least positive zero: only there do the bits of a float sort as the float does.
pub(super) fn rank(score: f32, index: u32) -> u64 {
    debug_assert!(score.is_sign_positive() && !score.is_nan());
    (u64::from(!score.to_bits()) << 32) | u64::from(index)
}

/// The score and the index that [`rank`] packed.
pub(super) fn unrank(key: u64) -> (f32, u32) {
    (f32::from_bits(!((key >> 32) as u32)), key as u32)
}

/// Keeps the best `max` keys, best first. The rest is split off before the sort, so that ten thousand candidates of
/// which a hundred may stay cost one pass and a small sort.
pub(super) fn keep_best(keys: &mut Vec<u64>, max: usize) {
    if max == 0 {
        keys.clear();
    } else if keys.len() > max {
        keys.select_nth_unstable(max - 1);
        keys.truncate(max);
    }
    keys.sort_unstable();
}

/// Suppresses boxes that overlap a better one. Reuses its buffer.
#[derive(Debug)]
pub struct Nms {
    iou_max: f32,
    across_classes: bool,
    kept: Vec<u32>,
}

impl Nms {
    /// Two boxes may both stay if their intersection is at most `iou_max` (0 to 1) of their union. Unless
    /// `across_classes`, boxes of different classes never suppress one another.
    #[must_use]
    pub fn new(iou_max: f32, across_classes: bool) -> Self {
        Self { iou_max, across_classes, kept: Vec::new() }
    }

    /// The indexes of the boxes that stay, rising, at most `keep_max`. `ranked` is ordered best first; the order is
    /// taken as it is, so ties are decided by whoever made it.
    pub fn keep(&mut self, ranked: &[Detection], keep_max: usize) -> &[u32] {
        self.kept.clear();
        for (index, candidate) in (0..).zip(ranked) {
            if self.kept.len() >= keep_max {
                break;
            }
            if !self.kept.iter().any(|&better| self.suppresses(&ranked[better as usize], candidate)) {
                self.kept.push(index);
            }
        }
        &self.kept
    }

    fn suppresses(&self, better: &Detection, other: &Detection) -> bool {
        if better.class != other.class && !self.across_classes {
            return false;
        }
        let width = better.x2.min(other.x2) - better.x1.max(other.x1);
        let height = better.y2.min(other.y2) - better.y1.max(other.y1);
        if width <= 0.0 || height <= 0.0 {
            return false;
        }
        let both = width * height;
        // Compared without a division: it is slower, and rounds where the product of whole pixels does not.
        both > self.iou_max * (area(better) + area(other) - both)
    }
}

fn area(of: &Detection) -> f32 {
    (of.x2 - of.x1) * (of.y2 - of.y1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn detection(class: u32, score: f32, [x1, y1, x2, y2]: [f32; 4]) -> Detection {
        Detection { class, score, x1, y1, x2, y2 }
    }

    #[test]
    fn of_two_boxes_the_better_stays_unless_they_overlap_too_little() {
        // Two boxes 10 wide and high, the second shifted to the right: intersection over union is
        // (10 - shift) / (10 + shift).
        let cases = [
            ("the same box", 0.0, 0, 0.5, false, 1),
            ("overlap above the limit", 3.0, 0, 0.5, false, 1),
            ("overlap of exactly the limit stays", 6.0, 0, 0.25, false, 2),
            ("overlap below the limit", 4.0, 0, 0.5, false, 2),
            ("side by side", 10.0, 0, 0.0, false, 2),
            ("apart", 30.0, 0, 0.0, false, 2),
            ("another class", 0.0, 1, 0.5, false, 2),
            ("another class, across classes", 0.0, 1, 0.5, true, 1),
            ("a limit of one keeps even the same box", 0.0, 0, 1.0, true, 2),
        ];
        for (what, shift, class, iou_max, across_classes, kept) in cases {
            let ranked =
                [detection(0, 0.9, [0.0, 0.0, 10.0, 10.0]), detection(class, 0.8, [shift, 0.0, 10.0 + shift, 10.0])];
            let mut nms = Nms::new(iou_max, across_classes);
            assert_eq!(nms.keep(&ranked, 10), &[0, 1][..kept], "{what}");
        }
    }

    #[test]
    fn a_suppressed_box_suppresses_nobody() {
        let ranked = [0.0, 4.0, 8.0].map(|x| detection(0, 0.5, [x, 0.0, x + 10.0, 10.0]));
        assert_eq!(Nms::new(0.3, false).keep(&ranked, 10), [0, 2]);
    }

    #[test]
    fn a_rank_orders_by_falling_score_and_then_by_rising_index() {
        let order = [(1.0, 7), (0.5, 0), (0.5, 1), (0.25, 0), (f32::MIN_POSITIVE, u32::MAX), (0.0, 3)];
        let keys = order.map(|(score, index)| rank(score, index));
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(keys.map(unrank), order);
    }

    /// Boxes with corners on whole pixels, few classes and few scores, so that overlaps, exact limits and ties are
    /// common.
    fn boxes() -> impl Strategy<Value = Vec<(u32, u8, [i64; 4])>> {
        let one = (0..3u32, 0..6u8, 0..24i64, 0..24i64, 1..16i64, 1..16i64)
            .prop_map(|(class, score, x, y, w, h)| (class, score, [x, y, x + w, y + h]));
        prop::collection::vec(one, 0..60)
    }

    /// The definition, in integers: while a box is left, keep the best and throw out what overlaps it.
    fn reference(boxes: &[(u32, u8, [i64; 4])], eighths_max: i64, across: bool, keep_max: usize) -> Vec<usize> {
        let area = |b: [i64; 4]| (b[2] - b[0]).max(0) * (b[3] - b[1]).max(0);
        let mut left: Vec<usize> = (0..boxes.len()).collect();
        let mut kept = Vec::new();
        while kept.len() < keep_max {
            // `max_by_key` gives the last of equals, and the first is wanted: walk backwards.
            let Some(&best) = left.iter().rev().max_by_key(|&&i| boxes[i].1) else { break };
            kept.push(best);
            let (class, _, a) = boxes[best];
            left.retain(|&i| {
                let (other, _, b) = boxes[i];
                let both = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
                let too_much = 8 * both > eighths_max * (area(a) + area(b) - both);
                i != best && !(too_much && (across || class == other))
            });
        }
        kept
    }

    fn ranked(boxes: &[(u32, u8, [i64; 4])], max: usize) -> (Vec<u32>, Vec<Detection>) {
        let mut keys: Vec<u64> = (0..).zip(boxes).map(|(i, b)| rank(f32::from(b.1) / 8.0, i)).collect();
        keep_best(&mut keys, max);
        let order: Vec<u32> = keys.iter().map(|&key| unrank(key).1).collect();
        let detections = keys
            .iter()
            .map(|&key| {
                let (score, index) = unrank(key);
                let (class, _, corners) = boxes[index as usize];
                detection(class, score, corners.map(|c| c as f32))
            })
            .collect();
        (order, detections)
    }

    fn fast(boxes: &[(u32, u8, [i64; 4])], eighths_max: i64, across: bool, keep_max: usize) -> Vec<usize> {
        let (order, detections) = ranked(boxes, usize::MAX);
        let mut nms = Nms::new(eighths_max as f32 / 8.0, across);
        nms.keep(&detections, keep_max).iter().map(|&i| order[i as usize] as usize).collect()
    }

    proptest! {
        #[test]
        fn keeps_what_the_definition_keeps(boxes in boxes(), eighths in 0..=8i64, across: bool, keep_max in 0..40usize) {
            prop_assert_eq!(fast(&boxes, eighths, across, keep_max), reference(&boxes, eighths, across, keep_max));
        }

        #[test]
        fn what_is_kept_is_kept_again(boxes in boxes(), eighths in 0..=8i64, across: bool) {
            let once: Vec<_> = fast(&boxes, eighths, across, 100).into_iter().map(|i| boxes[i]).collect();
            let twice = fast(&once, eighths, across, 100);
            prop_assert_eq!(twice, (0..once.len()).collect::<Vec<_>>());
        }

        #[test]
        fn moving_and_doubling_all_boxes_changes_nothing(boxes in boxes(), eighths in 0..=8i64, by in -50..50i64) {
            let moved: Vec<_> = boxes.iter().map(|&(c, s, b)| (c, s, b.map(|v| 2 * v + by))).collect();
            prop_assert_eq!(fast(&boxes, eighths, false, 100), fast(&moved, eighths, false, 100));
        }

        #[test]
        fn a_smaller_bound_keeps_the_front(boxes in boxes(), eighths in 0..=8i64, keep_max in 0..20usize) {
            let all = fast(&boxes, eighths, false, 100);
            prop_assert_eq!(fast(&boxes, eighths, false, keep_max), &all[..keep_max.min(all.len())]);
        }

        #[test]
        fn classes_do_not_meet_one_another(boxes in boxes(), eighths in 0..=8i64, class in 0..3u32) {
            let alone: Vec<_> = boxes.iter().copied().filter(|b| b.0 == class).collect();
            let all = fast(&boxes, eighths, false, 100).into_iter().map(|i| boxes[i]).filter(|b| b.0 == class);
            let alone_kept = fast(&alone, eighths, false, 100).into_iter().map(|i| alone[i]);
            prop_assert!(all.eq(alone_kept));
        }

        #[test]
        fn the_best_keys_are_the_front_of_all(scores in prop::collection::vec(0..9u8, 0..60), max in 0..70usize) {
            let mut keys: Vec<u64> = (0..).zip(&scores).map(|(i, &s)| rank(f32::from(s) / 8.0, i)).collect();
            let mut all = keys.clone();
            all.sort_unstable();
            keep_best(&mut keys, max);
            prop_assert_eq!(&keys[..], &all[..max.min(all.len())]);
        }
    }
}
