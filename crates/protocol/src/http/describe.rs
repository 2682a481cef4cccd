//! What a server says of a model, as JSON: the part of it that a client looks at.

use serde::Deserialize;

use super::json_error;
use crate::wire::model_config::SchedulingChoice;
use crate::wire::model_metadata_response::TensorMetadata;
use crate::wire::{
    ModelConfig, ModelEnsembling, ModelInstanceGroup, ModelMetadataResponse, ModelSequenceBatching,
    ModelTransactionPolicy,
};
use crate::{Invalid, quoted};

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    platform: String,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    name: String,
    #[serde(default)]
    platform: String,
    #[serde(default)]
    backend: String,
    #[serde(default)]
    max_batch_size: i32,
    #[serde(default)]
    instance_group: Vec<Group>,
    #[serde(default)]
    model_transaction_policy: Transaction,
    sequence_batching: Option<serde::de::IgnoredAny>,
    ensemble_scheduling: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    count: i32,
}

#[derive(Deserialize, Default)]
struct Transaction {
    #[serde(default)]
    decoupled: bool,
}

fn wrong(body: &[u8], error: &serde_json::Error) -> Invalid {
    let start = String::from_utf8_lossy(&body[..body.len().min(400)]);
    Invalid::new(format!("a description that cannot be read ({}): {}", json_error(error), quoted(&start)))
}

/// # Errors
/// The body is no model's metadata.
pub fn decode_metadata(body: &[u8]) -> Result<ModelMetadataResponse, Invalid> {
    let Metadata { name, versions, platform, inputs, outputs } =
        serde_json::from_slice(body).map_err(|error| wrong(body, &error))?;
    let tensors = |tensors: Vec<Tensor>| {
        let tensor = |Tensor { name, datatype, shape }| TensorMetadata { name, datatype, shape };
        tensors.into_iter().map(tensor).collect()
    };
    Ok(ModelMetadataResponse { name, versions, platform, inputs: tensors(inputs), outputs: tensors(outputs) })
}

/// The configuration as far as it says how a model may be asked: batches, copies, scheduling.
///
/// # Errors
/// The body is no model's configuration.
pub fn decode_config(body: &[u8]) -> Result<ModelConfig, Invalid> {
    let config: Config = serde_json::from_slice(body).map_err(|error| wrong(body, &error))?;
    let scheduling = if config.sequence_batching.is_some() {
        Some(SchedulingChoice::SequenceBatching(ModelSequenceBatching::default()))
    } else {
        config.ensemble_scheduling.map(|_| SchedulingChoice::EnsembleScheduling(ModelEnsembling::default()))
    };
    let group = |group: Group| ModelInstanceGroup { count: group.count, ..Default::default() };
    Ok(ModelConfig {
        name: config.name,
        platform: config.platform,
        backend: config.backend,
        max_batch_size: config.max_batch_size,
        instance_group: config.instance_group.into_iter().map(group).collect(),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: config.model_transaction_policy.decoupled }),
        scheduling_choice: scheduling,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_read_as_triton_writes_them() {
        let metadata = br#"{"name":"m","versions":["1"],"platform":"python","inputs":[{"name":"images","datatype":"UINT8","shape":[-1,3,16,24]}],"outputs":[{"name":"output","datatype":"FP32","shape":[-1,4]}]}"#;
        let metadata = decode_metadata(metadata).unwrap();
        assert_eq!((metadata.name.as_str(), metadata.inputs[0].shape.as_slice()), ("m", &[-1, 3, 16, 24][..]));
        let config = br#"{"name":"m","platform":"","backend":"python","max_batch_size":8,"instance_group":[{"name":"m_0","kind":"KIND_CPU","count":2}],"dynamic_batching":{},"model_warmup":[]}"#;
        let config = decode_config(config).unwrap();
        assert_eq!((config.max_batch_size, config.instance_group[0].count, config.scheduling_choice), (8, 2, None));
        let config =
            decode_config(br#"{"sequence_batching":{},"model_transaction_policy":{"decoupled":true}}"#).unwrap();
        assert!(matches!(config.scheduling_choice, Some(SchedulingChoice::SequenceBatching(_))));
        assert!(config.model_transaction_policy.is_some_and(|policy| policy.decoupled));
        for body in [&b""[..], b"[]", b"{\"name\":1}", b"<html>"] {
            assert!(decode_metadata(body).is_err());
        }
        assert!(decode_config(b"[1]").is_err());
    }
}
