//! The engine's models as the protocol describes them.

use std::sync::Arc;

use omma_engine::infer::backend::{BatchLimit, TensorInfo};
use omma_engine::lifecycle::Phase;
use omma_engine::picture::{Layout, PictureSpec};
use omma_engine::pipeline::{ModelState, ModelStatus, Serving, Shared};
use omma_engine::tensor::DType;
use omma_frame::FrameResult;
use omma_protocol::wire::model_metadata_response::TensorMetadata;
use omma_protocol::{Datatype, quoted, wire};

use super::error::{ApiError, Kind};

/// The most items of one request; they may run in several batches.
pub const ITEMS_MAX: usize = 128;

/// A model that direct requests may use now.
pub struct Served {
    pub number: usize,
    pub name: String,
    pub version: String,
    serving: Arc<Serving>,
}

/// The model of this name, in this version if one is named.
///
/// # Errors
/// There is none, or it serves nobody now.
pub fn find(shared: &Arc<Shared>, name: &str, version: &str) -> Result<Served, ApiError> {
    let Some(number) = shared.find_model(name) else {
        return Err(ApiError::new(Kind::NotFound, format!("there is no model {}", quoted(name))));
    };
    let Some(serving) = shared.model(number).and_then(|model| model.serving) else {
        let message = format!("model {} is not loaded", quoted(name));
        return Err(ApiError::new(Kind::NotFound, message));
    };
    let served = Served { number, name: name.to_owned(), version: serving.version.to_string(), serving };
    if !version.is_empty() && version != served.version {
        let message =
            format!("there is no version {} of model {}, {} serves", quoted(version), quoted(name), served.version);
        return Err(ApiError::new(Kind::NotFound, message));
    }
    Ok(served)
}

/// One line of the repository's index.
pub struct Listed {
    pub name: String,
    pub version: String,
    pub state: &'static str,
    pub reason: String,
}

/// What the index calls a model that answers.
pub const READY: &str = "READY";

#[must_use]
pub fn list(shared: &Arc<Shared>) -> Vec<Listed> {
    let listed = |model: ModelStatus| Listed {
        name: model.name,
        version: model.serving.map_or_else(String::new, |serving| serving.version.to_string()),
        state: match model.state {
            ModelState::Loading => "LOADING",
            ModelState::Ready => READY,
            ModelState::Unloaded => "UNAVAILABLE",
        },
        reason: model.reason.unwrap_or_default(),
    };
    shared.models().into_iter().map(listed).collect()
}

/// Whether the model answers requests: from when it was loaded, not only from when its first instance has begun to take.
#[must_use]
pub fn ready(shared: &Arc<Shared>, number: usize) -> bool {
    let ready = shared.model(number).is_some_and(|model| model.state == ModelState::Ready);
    ready && shared.lifecycle.phase() == Phase::Running
}

#[must_use]
pub const fn datatype(dtype: DType) -> Datatype {
    match dtype {
        DType::U8 => Datatype::Uint8,
        DType::F16 => Datatype::Fp16,
        DType::F32 => Datatype::Fp32,
        DType::I32 => Datatype::Int32,
        DType::I64 => Datatype::Int64,
    }
}

/// The input's dimensions behind the batch's: what the pictures of this model are made to.
#[must_use]
pub fn item_shape(picture: &PictureSpec) -> [usize; 3] {
    let (width, height, channels) =
        (picture.size.width as usize, picture.size.height as usize, picture.color.channels());
    match picture.layout {
        Layout::Nchw => [channels, height, width],
        Layout::Nhwc => [height, width, channels],
    }
}

/// Bytes of an output of one item, if the model says its shape beforehand.
#[must_use]
pub fn output_bytes(output: &TensorInfo) -> Option<usize> {
    let size = datatype(output.dtype).size()?;
    output.shape.iter().skip(1).try_fold(size, |bytes, &size| bytes.checked_mul(size?))
}

fn dimension(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

impl Served {
    /// Whether the result is this version's, in all of its items.
    #[must_use]
    pub fn gave(&self, result: &FrameResult) -> bool {
        result.served_by.version == self.serving.version
    }

    #[must_use]
    pub fn picture(&self) -> &PictureSpec {
        &self.serving.picture
    }

    #[must_use]
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.serving.info.outputs
    }

    /// The name of the model's one input.
    #[must_use]
    pub fn input(&self) -> &str {
        self.serving.info.inputs.first().map_or("images", |input| &input.name)
    }

    /// The shape of the input, without the batch.
    #[must_use]
    pub fn input_dims(&self) -> Vec<i64> {
        item_shape(self.picture()).map(dimension).to_vec()
    }

    fn output_dims(output: &TensorInfo) -> Vec<i64> {
        output.shape.iter().skip(1).map(|size| size.map_or(-1, dimension)).collect()
    }

    #[must_use]
    pub fn metadata(&self) -> wire::ModelMetadataResponse {
        let batched = |dims: Vec<i64>| std::iter::once(-1).chain(dims).collect();
        wire::ModelMetadataResponse {
            name: self.name.clone(),
            versions: vec![self.version.clone()],
            platform: "omma".to_owned(),
            inputs: vec![TensorMetadata {
                name: self.input().to_owned(),
                datatype: datatype(self.picture().dtype).name().to_owned(),
                shape: batched(self.input_dims()),
            }],
            outputs: self
                .outputs()
                .iter()
                .map(|output| TensorMetadata {
                    name: output.name.clone(),
                    datatype: datatype(output.dtype).name().to_owned(),
                    shape: batched(Self::output_dims(output)),
                })
                .collect(),
        }
    }

    #[must_use]
    pub fn config(&self) -> wire::ModelConfig {
        let preferred = match self.serving.info.batch {
            BatchLimit::Exactly(count) if count > 1 => vec![i32::try_from(count).unwrap_or(i32::MAX)],
            _ => Vec::new(),
        };
        wire::ModelConfig {
            name: self.name.clone(),
            platform: "omma".to_owned(),
            backend: "omma".to_owned(),
            runtime: self.serving.info.runtime.clone(),
            max_batch_size: ITEMS_MAX as i32,
            input: vec![wire::ModelInput {
                name: self.input().to_owned(),
                data_type: datatype(self.picture().dtype).config() as i32,
                dims: self.input_dims(),
                ..wire::ModelInput::default()
            }],
            output: self
                .outputs()
                .iter()
                .map(|output| wire::ModelOutput {
                    name: output.name.clone(),
                    data_type: datatype(output.dtype).config() as i32,
                    dims: Self::output_dims(output),
                    ..wire::ModelOutput::default()
                })
                .collect(),
            instance_group: vec![wire::ModelInstanceGroup {
                name: self.name.clone(),
                count: i32::try_from(self.serving.chosen.instances).unwrap_or(i32::MAX),
                kind: wire::model_instance_group::Kind::Cpu as i32,
                gpus: Vec::new(),
            }],
            scheduling_choice: Some(wire::model_config::SchedulingChoice::DynamicBatching(
                wire::ModelDynamicBatching { preferred_batch_size: preferred, ..wire::ModelDynamicBatching::default() },
            )),
            ..wire::ModelConfig::default()
        }
    }
}
