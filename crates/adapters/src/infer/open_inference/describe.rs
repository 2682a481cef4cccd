//! What the server says of the model, held against what omma can ask of it: one batch of pictures in, tensors out.

use omma_engine::infer::backend::{BatchLimit, ModelInfo};
use omma_engine::tensor::{DType, TensorInfo};
use omma_protocol::wire::model_config::SchedulingChoice;
use omma_protocol::wire::model_metadata_response::TensorMetadata;
use omma_protocol::wire::{ModelConfig, ModelMetadataResponse};
use omma_protocol::{Datatype, quoted};

use super::options::Send;
use crate::infer::fit::batch_limit;

/// Outputs of one model; no model has more, and their names are kept.
const OUTPUTS_MAX: usize = 256;

/// A model as its server describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Described {
    pub(super) info: ModelInfo,
    pub(super) input: String,
    pub(super) input_type: Datatype,
    pub(super) outputs: Vec<Output>,
    /// Copies of the model that one server runs at the same time.
    pub(super) instances: usize,
}

/// An output as it is declared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) datatype: Datatype,
    /// With the batch; `None` is a dimension that may vary.
    pub(super) shape: Vec<Option<usize>>,
}

impl Output {
    /// Bytes of one row; `None` where they may vary.
    pub(super) fn row_bytes(&self) -> Option<usize> {
        let row = self.shape.iter().skip(1).try_fold(1_usize, |row, size| row.checked_mul((*size)?))?;
        row.checked_mul(self.datatype.size()?)
    }

    /// What the engine sees of it.
    pub(super) fn dtype(&self) -> DType {
        seen_as(self.datatype).unwrap_or(DType::F32)
    }
}

impl Described {
    /// Whether what `other` says, which another server has by the same name, can be asked in place of this one.
    ///
    /// # Errors
    /// What is different: what it has, and what is expected.
    pub(super) fn stands_in(&self, other: &Self) -> Result<(), String> {
        let input = |of: &Self| format!("{} {}", of.input_type.name(), shown(&of.input, &of.info.inputs[0].shape));
        if (&self.input, self.input_type, &self.info.inputs) != (&other.input, other.input_type, &other.info.inputs) {
            return Err(format!("its input is {}, expected {} as on the first server", input(other), input(self)));
        }
        if let Some(missing) = self.outputs.iter().find(|output| !other.outputs.contains(output)) {
            let output = |output: &Output| format!("{} {}", output.datatype.name(), shown(&output.name, &output.shape));
            let outputs: Vec<_> = other.outputs.iter().take(8).map(output).collect();
            return Err(format!(
                "its outputs are {}, expected {} as on the first server",
                outputs.join(", "),
                output(missing)
            ));
        }
        match (self.info.batch, other.info.batch) {
            (BatchLimit::UpTo(most), BatchLimit::UpTo(other)) if other >= most => Ok(()),
            (ours, theirs) if ours == theirs => Ok(()),
            (ours, theirs) => {
                Err(format!("it takes {}, expected {} as on the first server", batches(theirs), batches(ours)))
            }
        }
    }
}

fn batches(limit: BatchLimit) -> String {
    match limit {
        BatchLimit::UpTo(usize::MAX) => "batches of any size".to_owned(),
        BatchLimit::UpTo(most) => format!("batches of up to {most}"),
        BatchLimit::Exactly(fixed) => format!("batches of exactly {fixed}"),
    }
}

fn shown(name: &str, shape: &[Option<usize>]) -> String {
    let shape: Vec<_> =
        shape.iter().map(|size| size.map_or_else(|| "any".to_owned(), |size| size.to_string())).collect();
    format!("{} [{}]", quoted(name), shape.join(", "))
}

/// The engine's type for the values of a tensor: halves are widened, truth values are bytes.
pub(super) fn seen_as(datatype: Datatype) -> Option<DType> {
    match datatype {
        Datatype::Uint8 | Datatype::Bool => Some(DType::U8),
        Datatype::Fp32 | Datatype::Fp16 | Datatype::Bf16 => Some(DType::F32),
        Datatype::Int32 => Some(DType::I32),
        Datatype::Int64 => Some(DType::I64),
        _ => None,
    }
}

/// The type of the pictures that are sent; encoded ones are bytes.
fn taken_as(datatype: Datatype) -> DType {
    match datatype {
        Datatype::Fp16 => DType::F16,
        Datatype::Fp32 => DType::F32,
        _ => DType::U8,
    }
}

/// # Errors
/// The model cannot be asked for batches of pictures: what it has, and what is expected.
pub(super) fn describe(
    metadata: &ModelMetadataResponse,
    config: Option<&ModelConfig>,
    send: Send,
) -> Result<Described, String> {
    if let Some(config) = config {
        if config.model_transaction_policy.is_some_and(|policy| policy.decoupled) {
            return Err("it is decoupled (any number of responses to a request), expected one response".to_owned());
        }
        if let Some(SchedulingChoice::SequenceBatching(_)) = config.scheduling_choice {
            return Err("it keeps state from request to request (sequence_batching), expected none".to_owned());
        }
    }
    let [input] = metadata.inputs.as_slice() else {
        let names: Vec<_> = metadata.inputs.iter().take(OUTPUTS_MAX).map(|input| quoted(&input.name)).collect();
        let (count, names) = (metadata.inputs.len(), names.join(", "));
        return Err(format!("it has {count} inputs ({names}), expected exactly one, a batch of pictures"));
    };
    let input_type = datatype(input)?;
    let expected = match send {
        Send::Tensor => matches!(input_type, Datatype::Uint8 | Datatype::Fp16 | Datatype::Fp32),
        Send::Picture => input_type == Datatype::Bytes,
    };
    if !expected {
        let hint = match (send, input_type) {
            (Send::Tensor, Datatype::Bytes) => {
                "UINT8, FP16 or FP32; for a model that decodes pictures itself set send = \"picture\""
            }
            (Send::Tensor, _) => "UINT8, FP16 or FP32",
            (Send::Picture, _) => "BYTES with send = \"picture\"",
        };
        return Err(format!("its input {} holds {}, expected {hint}", quoted(&input.name), input_type.name()));
    }
    let shown = TensorInfo { name: input.name.clone(), dtype: taken_as(input_type), shape: shape(input)? };
    if metadata.outputs.is_empty() || metadata.outputs.len() > OUTPUTS_MAX {
        return Err(format!("it has {} outputs, expected 1 to {OUTPUTS_MAX}", metadata.outputs.len()));
    }
    let outputs = metadata.outputs.iter().map(output).collect::<Result<Vec<_>, _>>()?;
    let batch = match config.map(|config| config.max_batch_size) {
        Some(most) if most > 0 => BatchLimit::UpTo(usize::try_from(most).unwrap_or(1)),
        // Its shapes are whole: what stands first in them is the batch, if anything is.
        _ => batch_limit(std::slice::from_ref(&shown)),
    };
    let instances = config.map_or(1, |config| {
        config.instance_group.iter().map(|group| usize::try_from(group.count).unwrap_or(0)).sum::<usize>().clamp(1, 256)
    });
    let kind = [metadata.platform.as_str(), config.map_or("", |config| config.backend.as_str())];
    let kind = kind.into_iter().find(|kind| !kind.is_empty()).map_or_else(|| "a model".to_owned(), quoted);
    let seen =
        |output: &Output| TensorInfo { name: output.name.clone(), dtype: output.dtype(), shape: output.shape.clone() };
    let info = ModelInfo { runtime: kind, inputs: vec![shown], outputs: outputs.iter().map(seen).collect(), batch };
    Ok(Described { info, input: input.name.clone(), input_type, outputs, instances })
}

fn output(tensor: &TensorMetadata) -> Result<Output, String> {
    let datatype = datatype(tensor)?;
    if seen_as(datatype).is_none() {
        return Err(format!(
            "its output {} holds {}, expected UINT8, BOOL, INT32, INT64, FP16, BF16 or FP32",
            quoted(&tensor.name),
            datatype.name()
        ));
    }
    Ok(Output { name: tensor.name.clone(), datatype, shape: shape(tensor)? })
}

fn datatype(tensor: &TensorMetadata) -> Result<Datatype, String> {
    Datatype::parse(&tensor.datatype).ok_or_else(|| {
        format!("its tensor {} holds {}, which is no type", quoted(&tensor.name), quoted(&tensor.datatype))
    })
}

fn shape(tensor: &TensorMetadata) -> Result<Vec<Option<usize>>, String> {
    const RANK_MAX: usize = omma_protocol::shape::RANK_MAX;
    if tensor.shape.is_empty() || tensor.shape.len() > RANK_MAX {
        let (name, rank) = (quoted(&tensor.name), tensor.shape.len());
        return Err(format!("its tensor {name} has rank {rank}, expected 1 to {RANK_MAX}, the batch first"));
    }
    let size = |&size: &i64| match size {
        -1 => Ok(None),
        size => usize::try_from(size)
            .map(Some)
            .map_err(|_| format!("its tensor {} has dimension {size}, expected -1 or more", quoted(&tensor.name))),
    };
    tensor.shape.iter().map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_protocol::wire::{ModelInstanceGroup, ModelSequenceBatching, ModelTransactionPolicy};

    fn tensor(name: &str, datatype: &str, shape: &[i64]) -> TensorMetadata {
        TensorMetadata { name: name.into(), datatype: datatype.into(), shape: shape.into() }
    }

    fn metadata(input: TensorMetadata, output: TensorMetadata) -> ModelMetadataResponse {
        ModelMetadataResponse {
            platform: "python".into(),
            inputs: vec![input],
            outputs: vec![output],
            ..Default::default()
        }
    }

    fn images() -> TensorMetadata {
        tensor("images", "UINT8", &[-1, 3, 8, 8])
    }

    #[test]
    fn batches_are_as_the_configuration_says_or_else_the_shape() {
        let config = |most: i32| ModelConfig {
            max_batch_size: most,
            instance_group: vec![ModelInstanceGroup { count: 2, ..Default::default() }; 2],
            ..Default::default()
        };
        for (first, config, batch, instances) in [
            (-1, Some(config(8)), BatchLimit::UpTo(8), 4),
            (4, Some(config(0)), BatchLimit::Exactly(4), 4),
            (-1, Some(config(0)), BatchLimit::UpTo(usize::MAX), 4),
            (-1, None, BatchLimit::UpTo(usize::MAX), 1),
            (1, None, BatchLimit::Exactly(1), 1),
        ] {
            let metadata = metadata(tensor("images", "FP32", &[first, 3, 8, 8]), tensor("out", "FP16", &[first, 4, 2]));
            let described = describe(&metadata, config.as_ref(), Send::Tensor).expect("a model");
            assert_eq!((described.info.batch, described.instances), (batch, instances));
            assert_eq!(described.outputs[0].row_bytes(), Some(16));
            assert_eq!(described.info.outputs[0].dtype, DType::F32, "halves are widened");
        }
    }

    #[test]
    fn a_server_with_another_model_by_the_same_name_says_what_is_different() {
        let config = |most: i32| ModelConfig { max_batch_size: most, ..Default::default() };
        let of = |input, outputs: &[TensorMetadata], most| {
            let metadata = ModelMetadataResponse { outputs: outputs.to_vec(), ..metadata(input, outputs[0].clone()) };
            describe(&metadata, Some(&config(most)), Send::Tensor).expect("a model")
        };
        let (out, more) = (tensor("out", "FP32", &[-1, 4]), tensor("more", "INT64", &[-1]));
        let first = of(images(), std::slice::from_ref(&out), 8);
        assert_eq!(first.stands_in(&of(images(), &[more.clone(), out.clone()], 16)), Ok(()), "more is no harm");
        for (other, expected) in [
            (
                of(tensor("images", "UINT8", &[-1, 3, 4, 4]), std::slice::from_ref(&out), 8),
                "its input is UINT8 \"images\" [any, 3, 4, 4], expected UINT8 \"images\" [any, 3, 8, 8] as on the first server",
            ),
            (
                of(images(), &[more], 8),
                "its outputs are INT64 \"more\" [any], expected FP32 \"out\" [any, 4] as on the first server",
            ),
            (
                of(images(), &[out], 4),
                "it takes batches of up to 4, expected batches of up to 8 as on the first server",
            ),
        ] {
            assert_eq!(first.stands_in(&other), Err(expected.to_owned()));
        }
    }

    #[test]
    fn models_that_cannot_be_asked_say_why() {
        let out = || tensor("out", "FP32", &[-1, 4]);
        let decoupled = ModelConfig {
            model_transaction_policy: Some(ModelTransactionPolicy { decoupled: true }),
            ..Default::default()
        };
        let stateful = ModelConfig {
            scheduling_choice: Some(SchedulingChoice::SequenceBatching(ModelSequenceBatching::default())),
            ..Default::default()
        };
        let two = ModelMetadataResponse { inputs: vec![images(), images()], ..metadata(images(), out()) };
        let none = ModelMetadataResponse { outputs: vec![], ..metadata(images(), out()) };
        for (metadata, config, send, expected) in [
            (metadata(images(), out()), Some(decoupled), Send::Tensor, "it is decoupled"),
            (metadata(images(), out()), Some(stateful), Send::Tensor, "it keeps state"),
            (two, None, Send::Tensor, "it has 2 inputs (\"images\", \"images\"), expected exactly one"),
            (none, None, Send::Tensor, "it has 0 outputs"),
            (
                metadata(tensor("x", "INT8", &[1]), out()),
                None,
                Send::Tensor,
                "its input \"x\" holds INT8, expected UINT8, FP16 or FP32",
            ),
            (metadata(tensor("x", "BYTES", &[-1, 1]), out()), None, Send::Tensor, "set send = \"picture\""),
            (metadata(images(), out()), None, Send::Picture, "holds UINT8, expected BYTES with send = \"picture\""),
            (
                metadata(tensor("x", "WORDS", &[1]), out()),
                None,
                Send::Tensor,
                "its tensor \"x\" holds \"WORDS\", which is no type",
            ),
            (
                metadata(tensor("x", "UINT8", &[-2, 3]), out()),
                None,
                Send::Tensor,
                "has dimension -2, expected -1 or more",
            ),
            (metadata(tensor("x", "UINT8", &[]), out()), None, Send::Tensor, "has rank 0"),
            (
                metadata(images(), tensor("out", "BYTES", &[-1, 1])),
                None,
                Send::Tensor,
                "its output \"out\" holds BYTES",
            ),
        ] {
            let error = describe(&metadata, config.as_ref(), send).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
