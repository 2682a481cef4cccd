//! Embeddings: one vector per frame.

use omma_frame::Output;

use super::super::{OutputDecoder, OutputError};
use super::EmbeddingPlan;
use super::view::{find, floats, unreadable, vector, wrong_shape};
use crate::picture::Fit;
use crate::tensor::TensorView;

const EXPECTED: &str = "[length] with at least 1 value";

pub(super) struct EmbeddingDecoder {
    plan: EmbeddingPlan,
}

impl EmbeddingDecoder {
    pub(super) fn new(plan: EmbeddingPlan) -> Self {
        Self { plan }
    }
}

impl OutputDecoder for EmbeddingDecoder {
    fn decode(&mut self, outputs: &[TensorView<'_>], _fit: &Fit) -> Result<Output, OutputError> {
        let tensor = find(outputs, self.plan.tensor.as_deref(), 0)?;
        if vector(&tensor, EXPECTED)? == 0 {
            return Err(wrong_shape(&tensor, EXPECTED));
        }
        let values = floats(&tensor)?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(unreadable(format_args!(
                "output \"{}\" is {} at [{index}], expected a finite number",
                tensor.name, values[index]
            )));
        }
        if !self.plan.normalize {
            return Ok(Output::Embedding(values.to_vec()));
        }
        // In f64 the square of the largest f32 does not overflow and that of the smallest does not vanish.
        let norm = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        if norm == 0.0 {
            return Err(unreadable(format_args!(
                "output \"{}\" is all zeros, expected a vector that has a direction to normalise",
                tensor.name
            )));
        }
        Ok(Output::Embedding(values.iter().map(|&value| (f64::from(value) / norm) as f32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::OutputPlan;
    use super::super::tests::{fit_one_to_one, message, open, tensor};
    use super::*;

    fn decode(normalize: bool, shape: &[usize], values: &[f32]) -> Result<Output, OutputError> {
        let plan = OutputPlan::Embedding(EmbeddingPlan { normalize, ..EmbeddingPlan::default() });
        open(&plan).decode(&[tensor("embedding", shape, values)], &fit_one_to_one())
    }

    #[test]
    fn a_vector_comes_out_as_it_is_or_with_length_one() {
        type Case<'a> = (bool, &'a [usize], &'a [f32], &'a [f32]);
        let cases: [Case<'_>; 5] = [
            (false, &[2], &[3.0, -4.0], &[3.0, -4.0]),
            (true, &[2], &[3.0, -4.0], &[0.6, -0.8]),
            (true, &[2, 1, 1], &[0.0, 5.0], &[0.0, 1.0]),
            (true, &[1], &[f32::MAX], &[1.0]),
            (true, &[2], &[0.0, f32::from_bits(1)], &[0.0, 1.0]),
        ];
        for (normalize, shape, values, expected) in cases {
            assert_eq!(decode(normalize, shape, values), Ok(Output::Embedding(expected.to_vec())), "{values:?}");
        }
    }

    #[test]
    fn what_is_no_vector_fails_the_frame() {
        let cases: [(&[usize], &[f32], &str); 4] = [
            (
                &[2],
                &[0.0, 0.0],
                "output \"embedding\" is all zeros, expected a vector that has a direction to normalise",
            ),
            (&[2], &[1.0, f32::NAN], "output \"embedding\" is NaN at [1], expected a finite number"),
            (&[2, 2], &[1.0; 4], "output \"embedding\" has shape [2, 2], expected [length] with at least 1 value"),
            (&[0], &[], "output \"embedding\" has shape [0], expected [length] with at least 1 value"),
        ];
        for (shape, values, expected) in cases {
            assert_eq!(message(decode(true, shape, values)), expected);
        }
    }

    proptest! {
        #[test]
        fn scaling_a_vector_does_not_turn_it(values in prop::collection::vec(-1.0e3f32..1.0e3, 1..40), by in 0.01f32..100.0) {
            prop_assume!(values.iter().any(|v| v.abs() > 1e-3));
            let scaled: Vec<f32> = values.iter().map(|v| v * by).collect();
            let shape = [values.len()];
            let (Ok(Output::Embedding(a)), Ok(Output::Embedding(b))) =
                (decode(true, &shape, &values), decode(true, &shape, &scaled)) else {
                panic!("expected embeddings")
            };
            prop_assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
            prop_assert!((a.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-4);
        }
    }
}
