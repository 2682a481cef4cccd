//! Raw tensors: copied out, for those who read them elsewhere.

use omma_frame::{Output, OwnedTensor};

use super::super::{OutputDecoder, OutputError};
use super::TensorsPlan;
use super::view::{find, unreadable};
use crate::picture::Fit;
use crate::tensor::{TensorView, Values};

pub(super) struct TensorsDecoder {
    plan: TensorsPlan,
}

impl TensorsDecoder {
    pub(super) fn new(plan: TensorsPlan) -> Self {
        Self { plan }
    }
}

impl OutputDecoder for TensorsDecoder {
    fn decode(&mut self, outputs: &[TensorView<'_>], _fit: &Fit) -> Result<Output, OutputError> {
        let names = &self.plan.names;
        let count = if names.is_empty() { outputs.len() } else { names.len() };
        let mut tensors = Vec::with_capacity(count);
        let mut room = self.plan.values_max;
        for position in 0..count {
            let tensor = find(outputs, names.get(position).map(String::as_str), position)?;
            room = room.checked_sub(tensor.values.len()).ok_or_else(|| {
                unreadable(format_args!(
                    "output \"{}\" brings the frame above values_max {}: it has {} values",
                    tensor.name,
                    self.plan.values_max,
                    tensor.values.len()
                ))
            })?;
            tensors.push(OwnedTensor {
                name: tensor.name.to_owned(),
                shape: tensor.shape.to_vec(),
                values: match tensor.values {
                    Values::U8(v) => v.iter().map(|&value| f32::from(value)).collect(),
                    Values::F32(v) => v.to_vec(),
                    Values::I32(v) => v.iter().map(|&value| value as f32).collect(),
                    Values::I64(v) => v.iter().map(|&value| value as f32).collect(),
                },
            });
        }
        Ok(Output::Tensors(tensors))
    }
}

#[cfg(test)]
mod tests {
    use super::super::OutputPlan;
    use super::super::tests::{fit_one_to_one, message, open, tensor};
    use super::*;

    #[test]
    fn tensors_come_out_as_they_are() {
        let shape = [2];
        let ids = TensorView { name: "ids", shape: &shape, values: Values::I64(&[7, -1]) };
        let outputs = [tensor("a", &[1, 2], &[0.5, f32::INFINITY]), ids, tensor("scalar", &[], &[3.0])];
        let cases: [(&[&str], &[&str]); 3] =
            [(&[], &["a", "ids", "scalar"]), (&["scalar", "a"], &["scalar", "a"]), (&["ids"], &["ids"])];
        for (asked, given) in cases {
            let names = asked.iter().map(|&name| name.to_owned()).collect();
            let plan = OutputPlan::Tensors(TensorsPlan { names, ..TensorsPlan::default() });
            let Ok(Output::Tensors(tensors)) = open(&plan).decode(&outputs, &fit_one_to_one()) else {
                panic!("expected tensors for {asked:?}")
            };
            assert_eq!(tensors.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), given);
            for tensor in tensors {
                match tensor.name.as_str() {
                    "a" => assert_eq!((tensor.shape, tensor.values), (vec![1, 2], vec![0.5, f32::INFINITY])),
                    "ids" => assert_eq!((tensor.shape, tensor.values), (vec![2], vec![7.0, -1.0])),
                    _ => assert_eq!((tensor.shape, tensor.values), (vec![], vec![3.0])),
                }
            }
        }
    }

    #[test]
    fn an_answer_that_is_too_large_or_lacks_a_tensor_fails_the_frame() {
        let outputs = [tensor("a", &[2], &[1.0, 2.0]), tensor("b", &[2], &[3.0, 4.0])];
        let plan = |names: &[&str], values_max| {
            OutputPlan::Tensors(TensorsPlan { names: names.iter().map(|&n| n.to_owned()).collect(), values_max })
        };
        let cases = [
            (plan(&[], 3), "output \"b\" brings the frame above values_max 3: it has 2 values"),
            (plan(&["a", "c"], 9), "the model gives no output \"c\", its outputs are: \"a\", \"b\""),
        ];
        for (plan, expected) in cases {
            assert_eq!(message(open(&plan).decode(&outputs, &fit_one_to_one())), expected);
        }
    }
}
