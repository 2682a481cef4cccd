//! What a request for inference takes once it is decoded, found out before it is: two bytes of a message may become a
//! tensor of some hundred bytes, and one byte a number of eight. Pure; passes over the tensors themselves.
//!
//! Lists of which each element costs many times its bytes are bounded in number, as in JSON; numbers are weighed.

use bytes::Buf;
use omma_protocol::{PARAMETERS_MAX, TENSORS_MAX};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tonic::Status;

/// What a value of `bytes_contents` costs beside its bytes: its place in a list that grows by doubling.
const ELEMENT_BYTES: usize = 2 * size_of::<bytes::Bytes>();
/// A whole number takes one byte at least, and eight in memory.
const NUMBER_BYTES: usize = size_of::<u64>();

/// The bytes that the values of a `ModelInferRequest` take beside the message.
///
/// # Errors
/// One of its lists is too long. What is malformed is left to be found by whoever decodes it.
pub(super) fn weigh(message: &mut impl Buf) -> Result<usize, Status> {
    let (mut inputs, mut outputs, mut contents, mut parameters) = (0, 0, 0, 0);
    let mut values = 0;
    let bytes = message.remaining();
    fields(message, bytes, |message, number, length| match (number, length) {
        (4, Some(_)) => count(&mut parameters, PARAMETERS_MAX, "parameters of the request"),
        (5, Some(length)) => {
            count(&mut inputs, TENSORS_MAX, "inputs")?;
            weigh_input(message, length, &mut values)
        }
        (6, Some(length)) => {
            count(&mut outputs, TENSORS_MAX, "outputs")?;
            let mut parameters = 0;
            fields(message, length, |_, number, _| match number {
                2 => count(&mut parameters, PARAMETERS_MAX, "parameters of one output"),
                _ => Ok(()),
            })
        }
        (7, Some(_)) => count(&mut contents, TENSORS_MAX, "raw contents"),
        _ => Ok(()),
    })?;
    Ok(values)
}

fn weigh_input(message: &mut impl Buf, bytes: usize, values: &mut usize) -> Result<(), Status> {
    let mut parameters = 0;
    fields(message, bytes, |message, number, length| match (number, length) {
        // The shape.
        (3, length) => add(values, length.unwrap_or(1).saturating_mul(NUMBER_BYTES)),
        (4, _) => count(&mut parameters, PARAMETERS_MAX, "parameters of one input"),
        (5, Some(length)) => fields(message, length, |_, number, length| match (number, length) {
            (1..=5, length) => add(values, length.unwrap_or(1).saturating_mul(NUMBER_BYTES)),
            (6 | 7, length) => add(values, length.unwrap_or(NUMBER_BYTES)),
            (8, Some(_)) => add(values, ELEMENT_BYTES),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })
}

fn add(values: &mut usize, bytes: usize) -> Result<(), Status> {
    *values = values.saturating_add(bytes);
    Ok(())
}

fn count(so_far: &mut usize, most: usize, what: &str) -> Result<(), Status> {
    *so_far += 1;
    if *so_far <= most {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("more than {most} {what}, which no model has")))
}

/// The fields of the next `bytes` bytes: of each its number and, if it has one, its length, `message` standing at its
/// content.
fn fields<B: Buf>(
    message: &mut B,
    bytes: usize,
    mut field: impl FnMut(&mut B, u32, Option<usize>) -> Result<(), Status>,
) -> Result<(), Status> {
    let end = message.remaining().saturating_sub(bytes);
    while message.remaining() > end {
        let Ok((number, wire)) = decode_key(message) else { return Ok(()) };
        if wire != WireType::LengthDelimited {
            if skip_field(wire, number, message, DecodeContext::default()).is_err() {
                return Ok(());
            }
            field(message, number, None)?;
            continue;
        }
        let length = decode_varint(message).ok().and_then(|length| usize::try_from(length).ok());
        let after = length.and_then(|length| message.remaining().checked_sub(length)).filter(|after| *after >= end);
        let (Some(length), Some(after)) = (length, after) else { return Ok(()) };
        field(message, number, Some(length))?;
        let Some(left) = message.remaining().checked_sub(after) else { return Ok(()) };
        message.advance(left);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use omma_protocol::wire::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
    use omma_protocol::wire::{InferParameter, InferTensorContents, ModelInferRequest};
    use prost::Message as _;

    fn input(contents: InferTensorContents) -> ModelInferRequest {
        let input = InferInputTensor { contents: Some(contents), ..InferInputTensor::default() };
        ModelInferRequest { inputs: vec![input], ..ModelInferRequest::default() }
    }

    fn named(count: usize) -> std::collections::HashMap<String, InferParameter> {
        (0..count).map(|number| (number.to_string(), InferParameter::default())).collect()
    }

    fn weight(request: &ModelInferRequest) -> Result<usize, String> {
        weigh(&mut &request.encode_to_vec()[..]).map_err(|status| status.message().to_owned())
    }

    #[test]
    fn values_weigh_what_they_take() {
        for (request, expected) in [
            (ModelInferRequest { raw_input_contents: vec![Bytes::from(vec![1; 9000])], ..Default::default() }, 0),
            (input(InferTensorContents { int64_contents: vec![0; 1000], ..Default::default() }), 8000),
            (input(InferTensorContents { uint_contents: vec![0; 1000], ..Default::default() }), 8000),
            (input(InferTensorContents { bool_contents: vec![true; 1000], ..Default::default() }), 8000),
            (input(InferTensorContents { fp32_contents: vec![0.0; 1000], ..Default::default() }), 4000),
            (input(InferTensorContents { fp64_contents: vec![0.0; 1000], ..Default::default() }), 8000),
            (input(InferTensorContents { bytes_contents: vec![Bytes::new(); 1000], ..Default::default() }), 64_000),
        ] {
            assert_eq!(weight(&request), Ok(expected), "{request:?}");
        }
        let shape = InferInputTensor { shape: vec![1; 1000], ..InferInputTensor::default() };
        assert_eq!(weight(&ModelInferRequest { inputs: vec![shape], ..Default::default() }), Ok(8000));
        // Numbers that are not packed: each behind its key.
        let contents = [[1 << 3, 1].repeat(1000), [7 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0].repeat(10)].concat();
        let head = |number: u8, length: usize| {
            let mut head = vec![number << 3 | 2];
            prost::encode_length_delimiter(length, &mut head).expect("room");
            head
        };
        let input = [head(5, contents.len()), contents].concat();
        let message = [head(5, input.len()), input].concat();
        assert!(ModelInferRequest::decode(&message[..]).is_ok());
        assert_eq!(weigh(&mut &message[..]).expect("weighed"), 8080);
    }

    #[test]
    fn lists_of_which_each_element_costs_much_are_bounded() {
        let inputs = |count| vec![InferInputTensor::default(); count];
        let outputs = |count| vec![InferRequestedOutputTensor::default(); count];
        let with = ModelInferRequest::default;
        for (request, expected) in [
            (ModelInferRequest { inputs: inputs(256), outputs: outputs(256), parameters: named(64), ..with() }, None),
            (ModelInferRequest { inputs: inputs(257), ..with() }, Some("more than 256 inputs")),
            (ModelInferRequest { outputs: outputs(257), ..with() }, Some("more than 256 outputs")),
            (ModelInferRequest { parameters: named(65), ..with() }, Some("more than 64 parameters of the request")),
            (
                ModelInferRequest { raw_input_contents: vec![Bytes::new(); 257], ..with() },
                Some("more than 256 raw contents"),
            ),
            (
                ModelInferRequest {
                    inputs: vec![InferInputTensor { parameters: named(65), ..InferInputTensor::default() }],
                    ..with()
                },
                Some("more than 64 parameters of one input"),
            ),
            (
                ModelInferRequest {
                    outputs: vec![InferRequestedOutputTensor { parameters: named(65), ..Default::default() }],
                    ..with()
                },
                Some("more than 64 parameters of one output"),
            ),
        ] {
            match expected {
                None => assert_eq!(weight(&request), Ok(0)),
                Some(expected) => assert!(weight(&request).expect_err(expected).starts_with(expected)),
            }
        }
    }

    #[test]
    fn what_is_malformed_is_left_to_whoever_decodes_it() {
        for message in
            [&b"\xff"[..], b"\x2a\x05\x0a", b"\x2a\x02\x0a\x05", b"\x2b\x2c\x08", b"\x2a\xff\xff\xff\xff\x0f"]
        {
            assert_eq!(weigh(&mut &message[..]).expect("no list is too long"), 0, "{message:?}");
        }
        // Behind a group that nobody knows things go on.
        let message = [&[0x7b, 0x7c][..], &[0x2a, 0].repeat(257)].concat();
        assert!(weigh(&mut &message[..]).is_err());
    }
}
