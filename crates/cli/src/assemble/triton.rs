//! A model on Open Inference Protocol servers: what the configuration and the servers say, put together.

use omma_adapters::infer::open_inference::{
    self as oip, OpenInferenceModel, OpenInferenceOptions, ServerUrl, passing_on, slot_spec,
};
use omma_adapters::infer::{check, guess_spec};
use omma_adapters::picture::PictureLimits;
use omma_config::{ModelConfig, SendAs, SharedMemoryUse, TritonConfig};
use omma_engine::infer::backend::BatchLimit;
use omma_engine::pipeline::ModelParts;
use omma_engine::post::decode::{BoxUnits, OutputPlan};
use omma_frame::Size;

use super::models::{FIRST, OpenedModel, finish};
use super::outputs;

pub(super) fn open(model: &ModelConfig, triton: &TritonConfig, limits: PictureLimits) -> Result<OpenedModel, String> {
    let mut opened = oip::open(options(model, triton)?)?;
    opened.notes.extend(smaller(model.batch.size, opened.model.info.batch));
    match triton.send {
        SendAs::Tensor => tensors(model, opened, limits),
        SendAs::Picture => pictures(model, triton, opened, limits),
    }
}

/// What is to be said of a batch that is smaller than `batch_size` because the server takes no larger one.
fn smaller(size: usize, limit: BatchLimit) -> Option<String> {
    let (most, takes) = match limit {
        BatchLimit::UpTo(most) => (most, "at most"),
        BatchLimit::Exactly(fixed) => (fixed, "exactly"),
    };
    (size > most).then(|| {
        format!(
            "batch_size is {size}, but the server takes batches of {takes} {most}: no batch is larger (raise max_batch_size in the \
             model's config.pbtxt, or set batch_size = {most})"
        )
    })
}

fn options(model: &ModelConfig, triton: &TritonConfig) -> Result<OpenInferenceOptions, String> {
    let servers = triton.servers.iter().map(|url| ServerUrl::parse(url)).collect::<Result<_, _>>()?;
    Ok(OpenInferenceOptions {
        servers,
        model: triton.model.clone(),
        name: model.name.clone(),
        version: triton.version.map(|version| version.to_string()).unwrap_or_default(),
        shared_memory: match triton.shared_memory {
            SharedMemoryUse::Auto => oip::SharedMemoryUse::Auto,
            SharedMemoryUse::On => oip::SharedMemoryUse::On,
            SharedMemoryUse::Off => oip::SharedMemoryUse::Off,
        },
        send: match triton.send {
            SendAs::Tensor => oip::Send::Tensor,
            SendAs::Picture => oip::Send::Picture,
        },
        requests_max: triton.requests_max,
        connect_timeout: triton.connect_timeout,
        start_timeout: triton.start_timeout,
        deadline: model.deadline,
        retries_max: triton.retries_max,
    })
}

/// The model takes decoded pictures.
fn tensors(model: &ModelConfig, opened: OpenInferenceModel, limits: PictureLimits) -> Result<OpenedModel, String> {
    let info = &opened.model.info;
    let size = Option::zip(model.input.width, model.input.height).map(|(width, height)| Size { width, height });
    let picture = model
        .input
        .picture(guess_spec(info, size).as_ref())
        .ok_or("its input leaves the pictures' size open: set input.width and input.height")?;
    check(info, &picture)?;
    let OpenedModel { parts, picture, mut notes, .. } = finish(opened.model, picture, &model.output, limits)?;
    notes.splice(0..0, opened.notes);
    Ok(OpenedModel { parts, picture, choice: None, instances: Some(opened.instances), notes })
}

/// The model decodes pictures itself.
fn pictures(
    model: &ModelConfig,
    triton: &TritonConfig,
    opened: OpenInferenceModel,
    limits: PictureLimits,
) -> Result<OpenedModel, String> {
    let seen = Option::zip(model.input.width, model.input.height).map(|(width, height)| Size { width, height });
    let (plan, why) = outputs::plan(&model.output, &opened.model.info.outputs, seen.unwrap_or_default())?;
    if let OutputPlan::Detections(detections) = &plan
        && detections.units == BoxUnits::Normalized
        && seen.is_none()
    {
        return Err(
            "its boxes are normalized to an input whose size is not known: set input.width and input.height".to_owned()
        );
    }
    let mut notes = opened.notes;
    notes.push(format!("pictures as they came, of up to {} bytes", triton.picture_bytes_max));
    notes.extend(why.map(|why| format!("outputs read as guessed: {why}")));
    let parts = ModelParts {
        version: FIRST,
        outputs: plan.factory(seen.unwrap_or_default()),
        loaded: opened.model,
        pictures: passing_on(limits, seen.map(|size| (size, model.input.resize))),
    };
    let picture = slot_spec(triton.picture_bytes_max);
    Ok(OpenedModel { parts, picture, choice: None, instances: Some(opened.instances), notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_the_server_makes_smaller_are_said_to_be() {
        for (size, limit, expected) in [
            (8, BatchLimit::UpTo(8), None),
            (16, BatchLimit::UpTo(usize::MAX), None),
            (1, BatchLimit::Exactly(4), None),
            (16, BatchLimit::UpTo(8), Some("batch_size is 16, but the server takes batches of at most 8: ")),
            (2, BatchLimit::Exactly(1), Some("batch_size is 2, but the server takes batches of exactly 1: ")),
        ] {
            let said = smaller(size, limit);
            match expected {
                None => assert_eq!(said, None),
                Some(start) => assert!(said.as_ref().is_some_and(|said| said.starts_with(start)), "{said:?}"),
            }
        }
    }
}
