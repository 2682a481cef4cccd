//! Classifiers: one score per class, of which the best few come out.

use omma_frame::{ClassScore, Output};

use super::super::nms::{keep_best, rank, unrank};
use super::super::{OutputDecoder, OutputError};
use super::view::{find, floats, unreadable, vector, wrong_shape};
use super::{Activation, ClassesPlan};
use crate::picture::Fit;
use crate::tensor::TensorView;

const EXPECTED: &str = "[classes] with at least 1 class";
/// A score above 1 by no more than this is rounding; what is higher was never a score.
pub(super) const SCORE_MAX: f32 = 1.01;

pub(super) struct ClassesDecoder {
    plan: ClassesPlan,
    keys: Vec<u64>,
    scores: Vec<f32>,
}

impl ClassesDecoder {
    pub(super) fn new(plan: ClassesPlan) -> Self {
        Self { plan, keys: Vec::new(), scores: Vec::new() }
    }
}

impl OutputDecoder for ClassesDecoder {
    fn decode(&mut self, outputs: &[TensorView<'_>], _fit: &Fit) -> Result<Output, OutputError> {
        let tensor = find(outputs, self.plan.tensor.as_deref(), 0)?;
        if vector(&tensor, EXPECTED)? == 0 {
            return Err(wrong_shape(&tensor, EXPECTED));
        }
        let values = floats(&tensor)?;
        let right = |value: f32| match self.plan.activation {
            Activation::None => (-0.01..=SCORE_MAX).contains(&value),
            Activation::Softmax | Activation::Sigmoid => value.is_finite(),
        };
        if let Some(class) = values.iter().position(|&value| !right(value)) {
            let expected = match self.plan.activation {
                Activation::None => "0 to 1 (logits need the activation \"softmax\" or \"sigmoid\")",
                Activation::Softmax | Activation::Sigmoid => "a finite number",
            };
            return Err(unreadable(format_args!(
                "output \"{}\" is {} at class {class}, expected {expected}",
                tensor.name, values[class]
            )));
        }
        self.scores.clear();
        match self.plan.activation {
            Activation::None => self.scores.extend_from_slice(values),
            Activation::Sigmoid => self.scores.extend(values.iter().map(|&logit| sigmoid(logit))),
            Activation::Softmax => softmax(values, &mut self.scores),
        }
        self.keys.clear();
        for (class, &score) in (0..).zip(&self.scores) {
            // Adding zero turns a negative zero into a positive one.
            let score = score.clamp(0.0, 1.0) + 0.0;
            if score >= self.plan.score_min {
                self.keys.push(rank(score, class));
            }
        }
        keep_best(&mut self.keys, self.plan.top);
        let best = self.keys.iter().map(|&key| unrank(key));
        Ok(Output::Classes(best.map(|(score, class)| ClassScore { class, score }).collect()))
    }
}

/// Scores of all classes that sum to 1. Subtracting the highest logit first keeps the largest power at 1.
pub(super) fn softmax(logits: &[f32], scores: &mut Vec<f32>) {
    scores.clear();
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.extend(logits.iter().map(|&logit| (logit - highest).exp()));
    // Tens of thousands of small powers add up to something that an f32 would lose.
    let sum: f64 = scores.iter().map(|&power| f64::from(power)).sum();
    let by = (1.0 / sum) as f32;
    scores.iter_mut().for_each(|score| *score *= by);
}

pub(super) fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::OutputPlan;
    use super::super::tests::{fit_one_to_one, message, open, tensor};
    use super::*;

    fn decode(plan: ClassesPlan, shape: &[usize], values: &[f32]) -> Result<Output, OutputError> {
        open(&OutputPlan::Classes(plan)).decode(&[tensor("logits", shape, values)], &fit_one_to_one())
    }

    fn classes(plan: ClassesPlan, values: &[f32]) -> Vec<(u32, f32)> {
        match decode(plan, &[values.len()], values) {
            Ok(Output::Classes(classes)) => classes.iter().map(|c| (c.class, c.score)).collect(),
            other => panic!("expected classes, found {other:?}"),
        }
    }

    #[test]
    fn the_best_classes_come_out_best_first() {
        use Activation::{None, Sigmoid, Softmax};
        type Case<'a> = (Activation, usize, f32, &'a [f32], &'a [(u32, f32)]);
        let ln = f32::ln;
        let cases: [Case<'_>; 9] = [
            (None, 2, 0.0, &[0.1, 0.7, 0.2], &[(1, 0.7), (2, 0.2)]),
            (None, 5, 0.15, &[0.1, 0.7, 0.2], &[(1, 0.7), (2, 0.2)]),
            (None, 5, 0.9, &[0.1, 0.7, 0.2], &[]),
            (None, 2, 0.0, &[0.5, 0.5, 0.5], &[(0, 0.5), (1, 0.5)]),
            (None, 9, 0.0, &[-0.0, 1.001, -0.005], &[(1, 1.0), (0, 0.0), (2, 0.0)]),
            (Softmax, 2, 0.0, &[ln(1.0), ln(2.0), ln(5.0)], &[(2, 0.625), (1, 0.25)]),
            (Softmax, 1, 0.0, &[3.0e38, -3.0e38], &[(0, 1.0)]),
            (Sigmoid, 3, 0.0, &[0.0, ln(3.0), -ln(3.0)], &[(1, 0.75), (0, 0.5), (2, 0.25)]),
            (Sigmoid, 3, 0.1, &[-3.0e38, 3.0e38], &[(1, 1.0)]),
        ];
        for (activation, top, score_min, values, expected) in cases {
            let found = classes(ClassesPlan { tensor: Option::None, activation, top, score_min }, values);
            let close = |(a, b): (&(u32, f32), &(u32, f32))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6;
            assert!(
                found.len() == expected.len() && found.iter().zip(expected).all(close),
                "{activation:?} of {values:?} gave {found:?}, expected {expected:?}"
            );
        }
    }

    #[test]
    fn what_is_no_list_of_scores_fails_the_frame() {
        let none = || ClassesPlan { activation: Activation::None, ..ClassesPlan::default() };
        let cases: [(ClassesPlan, &[usize], &[f32], &str); 6] = [
            (
                ClassesPlan::default(),
                &[2],
                &[0.0, f32::NAN],
                "output \"logits\" is NaN at class 1, expected a finite number",
            ),
            (
                ClassesPlan::default(),
                &[2],
                &[f32::INFINITY, 0.0],
                "output \"logits\" is inf at class 0, expected a finite number",
            ),
            (
                none(),
                &[2],
                &[0.0, f32::NAN],
                "output \"logits\" is NaN at class 1, expected 0 to 1 (logits need the activation \"softmax\" or \"sigmoid\")",
            ),
            (
                none(),
                &[2],
                &[7.5, 0.0],
                "output \"logits\" is 7.5 at class 0, expected 0 to 1 (logits need the activation \"softmax\" or \"sigmoid\")",
            ),
            (
                none(),
                &[2, 3],
                &[0.0; 6],
                "output \"logits\" has shape [2, 3], expected [classes] with at least 1 class",
            ),
            (none(), &[3, 0], &[], "output \"logits\" has shape [3, 0], expected [classes] with at least 1 class"),
        ];
        for (plan, shape, values, expected) in cases {
            assert_eq!(message(decode(plan, shape, values)), expected);
        }
    }

    #[test]
    fn dimensions_of_one_are_passed_over() {
        let given = decode(ClassesPlan::default(), &[1, 2, 1, 1], &[1.0, 1.0]);
        let half = |class| ClassScore { class, score: 0.5 };
        assert_eq!(given, Ok(Output::Classes(vec![half(0), half(1)])));
    }

    #[test]
    fn a_decoder_keeps_nothing_of_the_frame_before() {
        for activation in [Activation::None, Activation::Softmax, Activation::Sigmoid] {
            let plan = OutputPlan::Classes(ClassesPlan { activation, ..ClassesPlan::default() });
            let mut decoder = open(&plan);
            let frame = [tensor("logits", &[2], &[0.25, 0.75])];
            let fresh = decoder.decode(&frame, &fit_one_to_one());
            for before in [&[0.9, 0.8, 0.7][..], &[f32::NAN, 0.5, 0.5]] {
                let _ = decoder.decode(&[tensor("logits", &[3], before)], &fit_one_to_one());
                assert_eq!(decoder.decode(&frame, &fit_one_to_one()), fresh, "{activation:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn softmax_sums_to_one_and_ignores_a_shift(logits in prop::collection::vec(-20.0f32..20.0, 1..50), by in -50.0f32..50.0) {
            let plan = || ClassesPlan { top: 100, ..ClassesPlan::default() };
            let scores = classes(plan(), &logits);
            prop_assert_eq!(scores.len(), logits.len());
            prop_assert!((scores.iter().map(|s| s.1).sum::<f32>() - 1.0).abs() < 1e-4);
            prop_assert!(scores.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)));
            let shifted: Vec<f32> = logits.iter().map(|l| l + by).collect();
            let mut again = classes(plan(), &shifted);
            let mut scores = scores;
            scores.sort_by_key(|s| s.0);
            again.sort_by_key(|s| s.0);
            prop_assert!(scores.iter().zip(&again).all(|(a, b)| (a.1 - b.1).abs() < 1e-4));
        }
    }
}
