//! A request of the protocol held against the model that it names, and the answer made of its outputs.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use omma_engine::pipeline::Shared;
use omma_protocol::wire::model_infer_request::InferInputTensor;
use omma_protocol::wire::model_infer_response::InferOutputTensor;
use omma_protocol::wire::{InferTensorContents, ModelInferRequest, ModelInferResponse};
use omma_protocol::{Datatype, SharedMemory, parameters, quoted, shape};

use super::Api;
use super::error::ApiError;
use super::exchange::{Output, Room, Source, Tensors, Wanted};
use super::models::{self, ITEMS_MAX, Served};

/// The microseconds that a request may take, of its parameters.
const TIMEOUT: &str = "timeout";
/// Outputs as the best classes instead of values; not done here.
const CLASSIFICATION: &str = "classification";

/// A request that fits its model.
pub struct Checked {
    pub model: Served,
    pub items: usize,
    pub tensors: Arc<Tensors>,
    pub timeout: Option<Duration>,
}

/// # Errors
/// There is no such model, or the request does not fit it: what was found, and what is expected. Or there is no room for
/// its answer now.
///
/// The request can be checked again, against another version: its values stay, raw from then on.
pub fn check(
    api: &Api,
    shared: &Arc<Shared>,
    request: &mut ModelInferRequest,
    mut room: Room,
) -> Result<Checked, ApiError> {
    let model = models::find(shared, &request.model_name, &request.model_version)?;
    let timeout = parameters::count(&request.parameters, TIMEOUT)?.filter(|micros| *micros > 0);
    let timeout = timeout.map(|micros| Duration::from_micros(micros as u64));
    let [input] = request.inputs.as_mut_slice() else {
        return Err(ApiError::invalid(format!(
            "model {} takes 1 input, {}, found {}",
            quoted(&model.name),
            quoted(model.input()),
            request.inputs.len()
        )));
    };
    let (items, source) = read(api, &model, input, &mut request.raw_input_contents)?;
    let mut wanted: Vec<Wanted> = Vec::with_capacity(request.outputs.len());
    for output in &request.outputs {
        let name = &output.name;
        if !model.outputs().iter().any(|known| known.name == *name) {
            let known: Vec<_> = model.outputs().iter().map(|output| output.name.as_str()).collect();
            return Err(ApiError::invalid(format!(
                "model {} has no output {}, its outputs are: {}",
                quoted(&model.name),
                quoted(name),
                known.join(", ")
            )));
        }
        if wanted.iter().any(|wanted| wanted.name == *name) {
            return Err(ApiError::invalid(format!("output {} is asked for twice", quoted(name))));
        }
        if parameters::count(&output.parameters, CLASSIFICATION)?.is_some_and(|count| count > 0) {
            return Err(ApiError::invalid(format!("output {}: classification is not done here", quoted(name))));
        }
        let place = SharedMemory::of(&output.parameters)?.map(|place| api.regions.place(&place)).transpose()?;
        wanted.push(Wanted { name: name.clone(), place });
    }
    for output in model.outputs() {
        let goes_along = |wanted: &Wanted| wanted.name == output.name && wanted.place.is_none();
        if (wanted.is_empty() || wanted.iter().any(goes_along))
            && let Some(bytes) = models::output_bytes(output)
        {
            room.foresee(&output.name, output.dtype, bytes.saturating_mul(items))?;
        }
    }
    let tensors = Arc::new(Tensors::new(items, model.picture().slot_bytes(), source, wanted, room));
    Ok(Checked { model, items, tensors, timeout })
}

fn read(
    api: &Api,
    model: &Served,
    input: &mut InferInputTensor,
    raw: &mut Vec<Bytes>,
) -> Result<(usize, Source), ApiError> {
    let contents = input.contents.take();
    let wrong = |what: String| ApiError::invalid(format!("input {}: {what}", quoted(&input.name)));
    if input.name != model.input() {
        return Err(wrong(format!("model {} has the input {}", quoted(&model.name), quoted(model.input()))));
    }
    let expected = models::datatype(model.picture().dtype);
    if input.datatype != expected.name() {
        return Err(wrong(format!("datatype {}, expected {}", quoted(&input.datatype), expected.name())));
    }
    let dims = model.input_dims();
    let items = match input.shape.split_first() {
        Some((&items, rest)) if rest == dims => usize::try_from(items).unwrap_or(0),
        _ => 0,
    };
    if !(1..=ITEMS_MAX).contains(&items) {
        return Err(wrong(format!(
            "shape {:?}, expected [n, {}] with n from 1 to {ITEMS_MAX}",
            &input.shape[..input.shape.len().min(shape::RANK_MAX)],
            dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )));
    }
    let bytes = items * model.picture().slot_bytes();
    let found = |found: usize| wrong(format!("{found} byte(s), its shape has {bytes}"));
    if raw.len() > 1 {
        return Err(wrong("more raw contents than inputs".to_owned()));
    }
    let source = match (SharedMemory::of(&input.parameters)?, raw.first().cloned(), contents) {
        (Some(place), None, None) => {
            let place = api.regions.place(&place)?;
            if place.byte_size != bytes {
                return Err(found(place.byte_size));
            }
            Source::Memory(place)
        }
        (None, Some(content), None) if content.len() == bytes => Source::Body(content),
        (None, Some(content), None) => return Err(found(content.len())),
        (None, None, Some(contents)) => {
            let content = typed(expected, &contents, bytes).map_err(wrong)?;
            raw.push(content.clone());
            Source::Body(content)
        }
        (None, None, None) => return Err(wrong("no values".to_owned())),
        _ => return Err(wrong("more than one of raw contents, typed contents and shared memory".to_owned())),
    };
    Ok((items, source))
}

/// Typed contents as raw ones.
fn typed(datatype: Datatype, contents: &InferTensorContents, bytes: usize) -> Result<Bytes, String> {
    let mut raw = BytesMut::with_capacity(bytes);
    let count = match datatype {
        Datatype::Fp32 => {
            contents.fp32_contents.iter().take(bytes).for_each(|value| raw.put_f32_le(*value));
            contents.fp32_contents.len()
        }
        Datatype::Int32 => {
            contents.int_contents.iter().take(bytes).for_each(|value| raw.put_i32_le(*value));
            contents.int_contents.len()
        }
        Datatype::Int64 => {
            contents.int64_contents.iter().take(bytes).for_each(|value| raw.put_i64_le(*value));
            contents.int64_contents.len()
        }
        Datatype::Uint8 => {
            for value in contents.uint_contents.iter().take(bytes) {
                raw.put_u8(u8::try_from(*value).map_err(|_| format!("{value} is no value of UINT8"))?);
            }
            contents.uint_contents.len()
        }
        other => return Err(format!("typed contents of {}, expected raw contents", other.name())),
    };
    let size = datatype.size().unwrap_or(1);
    if count.checked_mul(size) != Some(bytes) {
        return Err(format!("{count} value(s) of {}, expected {}", datatype.name(), bytes / size));
    }
    Ok(raw.freeze())
}

/// The answer: outputs with the batch in front of their shapes.
#[must_use]
pub fn response(
    model: &Served,
    items: usize,
    id: String,
    outputs: Vec<Output>,
    tensors: &Tensors,
) -> ModelInferResponse {
    let mut response = ModelInferResponse {
        model_name: model.name.clone(),
        model_version: model.version.clone(),
        id,
        ..ModelInferResponse::default()
    };
    for output in outputs {
        let sizes = std::iter::once(items).chain(output.shape.iter().copied());
        let mut said = InferOutputTensor {
            name: output.name.clone(),
            datatype: models::datatype(output.dtype).name().to_owned(),
            shape: sizes.map(|size| i64::try_from(size).unwrap_or(i64::MAX)).collect(),
            ..InferOutputTensor::default()
        };
        if let Some(place) = tensors.place(&output.name) {
            let place = SharedMemory { byte_size: output.byte_len, ..place };
            said.parameters = place.parameters();
        }
        response.outputs.push(said);
        response.raw_output_contents.push(output.content.into());
    }
    response
}
