//! What clients of the direct API send: bodies of inference by HTTP and messages of it by gRPC, forms with a picture in
//! them. What a server says of a model by HTTP.

use std::cell::Cell;

use bytes::Bytes;
use omma_protocol::SharedMemory;
use omma_protocol::http::{
    Binary, Body, decode_config, decode_metadata, decode_request, decode_response, encode_request,
};
use omma_protocol::wire::ModelInferRequest;
use omma_protocol::wire::model_infer_request::InferInputTensor;
use omma_server::message::Message;
use omma_server::multipart::{boundary, first_file};

use crate::input::Input;

/// A message about a body goes back to its client, whose own texts in it are cut.
const MESSAGE_CHARS_MAX: usize = 2000;
/// A value that JSON has in two characters (`0,`) has at most eight bytes.
const BYTES_PER_CHARACTER_MAX: usize = 8;

/// A body of inference behind two bytes of its header's length; both zero: there is no such header.
pub fn infer_body(bytes: &[u8]) {
    let (length, body) = bytes.split_at(bytes.len().min(2));
    let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    let (length, body) = ((length > 0).then_some(length), Bytes::copy_from_slice(body));
    if let Err(invalid) = decode_response(length, &body) {
        assert!(invalid.0.chars().count() <= MESSAGE_CHARS_MAX, "{invalid}");
    }
    let request = match decode_request(length, &body) {
        Ok(request) => request,
        Err(invalid) => {
            assert!(!invalid.0.is_empty() && invalid.0.chars().count() <= MESSAGE_CHARS_MAX, "{invalid}");
            return;
        }
    };
    let content: usize = request.raw_input_contents.iter().map(Bytes::len).sum();
    assert!(content <= body.len() * BYTES_PER_CHARACTER_MAX, "{content} bytes out of {}", body.len());
    let _ = Binary::of(&request);
    let in_memory = |input: &InferInputTensor| SharedMemory::of(&input.parameters).map(|place| place.is_some());
    let Ok(places) = request.inputs.iter().map(in_memory).collect::<Result<Vec<bool>, _>>() else { return };
    let outside = places.iter().filter(|&&in_memory| !in_memory).count();
    assert_eq!(outside, request.raw_input_contents.len(), "values for each input that is not in shared memory");
    let Ok(Body { header_length, parts }) = encode_request(&request) else { return };
    let again = decode_request(header_length, &parts.concat().into()).expect("what is written can be read");
    assert_eq!((&again.id, &again.raw_input_contents), (&request.id, &request.raw_input_contents));
    assert_eq!(again.inputs.len(), request.inputs.len());
    for (again, input) in again.inputs.iter().zip(&request.inputs) {
        assert_eq!((&again.name, &again.datatype, &again.shape), (&input.name, &input.datatype, &input.shape));
    }
}

/// What the numbers and lists of an input take.
fn value_bytes(input: &InferInputTensor) -> usize {
    let contents = input.contents.clone().unwrap_or_default();
    size_of_val(&input.shape[..])
        + size_of_val(&contents.bool_contents[..])
        + size_of_val(&contents.int_contents[..])
        + size_of_val(&contents.int64_contents[..])
        + size_of_val(&contents.uint_contents[..])
        + size_of_val(&contents.uint64_contents[..])
        + size_of_val(&contents.fp32_contents[..])
        + size_of_val(&contents.fp64_contents[..])
        + size_of_val(&contents.bytes_contents[..])
}

/// A message of inference by gRPC behind the sizes of the pieces that it comes in, and whether its prefix is left to say
/// its length.
pub fn infer_message(bytes: &[u8]) {
    const BYTES_MAX: usize = 1 << 20;
    let mut input = Input::new(bytes);
    let sizes = [input.byte(), input.byte(), input.byte()].map(|size| (usize::from(size) * 64).max(1));
    let honest = input.flag();
    let mut whole = input.rest().to_vec();
    if honest {
        let length = u32::try_from(whole.len()).expect("no input is so large").to_be_bytes();
        whole.splice(..0, [0].into_iter().chain(length));
    }
    let whole = Bytes::from(whole);
    let weight = Cell::new(0);
    let gathered = |sizes: &[usize]| -> Result<ModelInferRequest, String> {
        let (mut message, mut rest) = (Message::new(BYTES_MAX), whole.clone());
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let size = sizes.next().map_or(usize::MAX, |&size| size).min(rest.len());
            message.add(rest.split_to(size)).map_err(|status| status.message().to_owned())?;
        }
        let take = |bytes| {
            weight.set(bytes);
            Ok(())
        };
        message.finish(take).map_err(|status| status.message().to_owned())
    };
    let (at_once, in_pieces) = (gathered(&[usize::MAX]), gathered(&sizes));
    match &at_once {
        Ok(request) => {
            let content: usize = request.raw_input_contents.iter().map(Bytes::len).sum();
            assert!(content <= whole.len(), "{content} bytes out of {}", whole.len());
            let values: usize = request.inputs.iter().map(value_bytes).sum();
            assert!(values <= weight.get(), "{values} bytes of values, {} were asked for", weight.get());
        }
        Err(message) => assert!(!message.is_empty() && message.chars().count() <= MESSAGE_CHARS_MAX, "{message}"),
    }
    // Bit patterns that are no numbers are not equal to themselves.
    assert_eq!(format!("{at_once:?}"), format!("{in_pieces:?}"), "pieces of {sizes:?}");
}

/// A model's metadata or configuration, as a server's body.
pub fn model_description(body: &[u8]) {
    let said = |message: &str| {
        assert!(!message.is_empty() && message.chars().count() <= MESSAGE_CHARS_MAX, "{message}");
        assert!(!message.contains('\n'), "{message}");
    };
    match decode_metadata(body) {
        Ok(metadata) => {
            let tensors = metadata.inputs.iter().chain(&metadata.outputs);
            let texts =
                tensors.map(|tensor| tensor.name.len() + tensor.datatype.len() + tensor.shape.len()).sum::<usize>();
            assert!(metadata.name.len() + texts <= body.len(), "{texts} out of {}", body.len());
        }
        Err(invalid) => said(&invalid.0),
    }
    match decode_config(body) {
        Ok(config) => {
            assert!(config.name.len() + config.platform.len() + config.backend.len() <= body.len());
            assert!(config.instance_group.len() <= body.len());
        }
        Err(invalid) => said(&invalid.0),
    }
}

/// A form behind the content type that names its boundary: separated by the first line end.
pub fn form_file(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let content_type = String::from_utf8_lossy(&bytes[..end]);
    let body = Bytes::copy_from_slice(bytes.get(end + 1..).unwrap_or_default());
    let Some(boundary) = boundary(&content_type) else { return };
    assert!((1..=70).contains(&boundary.len()), "{boundary:?}");
    match first_file(&boundary, &body) {
        Ok(content) => {
            let at = content.as_ptr() as usize - body.as_ptr() as usize;
            let behind = format!("\r\n--{boundary}");
            assert!(body[..at].ends_with(b"\r\n\r\n"), "no head before {at}");
            assert!(body[at + content.len()..].starts_with(behind.as_bytes()), "no boundary behind the file");
        }
        Err(error) => assert!(error.message.chars().count() <= MESSAGE_CHARS_MAX, "{error}"),
    }
}

pub(crate) fn infer_body_seeds() -> Vec<Vec<u8>> {
    const JSON: &[u8] = br#"{"id":"7","inputs":[{"name":"images","datatype":"UINT8","shape":[1,2,2],"data":[[[1,2],[3,4]]]},{"name":"b","datatype":"FP32","shape":[2],"data":[1.5,-2e3],"parameters":{"x":true}}],"outputs":[{"name":"o","parameters":{"binary_data":true}}],"parameters":{"binary_data_output":true,"timeout":5}}"#;
    const TENSOR: &[u8] =
        br#"{"inputs":[{"name":"a","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}}]}"#;
    const MEMORY: &[u8] = br#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1],"parameters":{"shared_memory_region":"r","shared_memory_byte_size":4,"shared_memory_offset":4}}]}"#;
    const TEXTS: &[u8] =
        br#"{"inputs":[{"name":"a","datatype":"BYTES","shape":[2],"data":["\u00e9","b"]}],"outputs":[{"name":"o"}]}"#;
    const ANSWER: &[u8] = br#"{"model_name":"m","model_version":"1","outputs":[{"name":"o","datatype":"FP64","shape":[2],"data":[0.1,null]}]}"#;
    let plain = |json: &[u8]| [&[0, 0], json].concat();
    let length = TENSOR.len() as u16;
    let binary = [&length.to_be_bytes(), TENSOR, &7_i64.to_le_bytes()].concat();
    vec![plain(JSON), binary, plain(MEMORY), plain(TEXTS), plain(ANSWER)]
}

pub(crate) fn infer_message_seeds() -> Vec<Vec<u8>> {
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        [&[number << 3 | 2, (length & 0x7F) as u8 | 0x80, (length >> 7) as u8], content].concat()
    }
    let input = [field(1, b"images"), field(2, b"UINT8"), field(3, &[1, 2, 4])].concat();
    let raw = |bytes| [field(1, b"model"), field(3, b"7"), field(5, &input), field(7, &vec![1; bytes])].concat();
    let typed = [field(1, b"model"), field(5, &[input.clone(), field(5, &field(4, &[1, 2, 3]))].concat())].concat();
    let lists =
        [field(1, b"model"), field(5, &field(5, &[field(8, b"x"), field(3, &[1; 9])].concat())), vec![0x7b, 0x7c]];
    let head = |honest| vec![1, 0, 80, honest];
    let dishonest = [&[0, 0, 0, 1, 0], &raw(8)[..]].concat();
    vec![
        [head(1), raw(8)].concat(),
        [head(1), raw(6000)].concat(),
        [head(1), typed].concat(),
        [head(1), lists.concat()].concat(),
        [head(0), dishonest].concat(),
        [head(0), vec![1, 0, 0, 0, 0]].concat(),
    ]
}

pub(crate) fn model_description_seeds() -> Vec<Vec<u8>> {
    const METADATA: &str = r#"{"name":"m","versions":["1"],"platform":"python","inputs":[{"name":"images","datatype":"UINT8","shape":[-1,3,16,24]}],"outputs":[{"name":"output","datatype":"FP32","shape":[-1,4]}]}"#;
    const CONFIG: &str = r#"{"name":"m","platform":"","backend":"python","max_batch_size":8,"instance_group":[{"name":"m_0","kind":"KIND_CPU","count":2}],"dynamic_batching":{},"model_transaction_policy":{"decoupled":true}}"#;
    const SEQUENCES: &str = r#"{"sequence_batching":{},"ensemble_scheduling":{"step":[]}}"#;
    let long = format!(r#"{{"name":"m","max_batch_size":"{}","inputs":"{0}"}}"#, "8\\n".repeat(1000));
    [METADATA, CONFIG, SEQUENCES, &long].map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(crate) fn form_file_seeds() -> Vec<Vec<u8>> {
    [
        "multipart/form-data; boundary=b\n--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.jpg\"\r\n\r\n\x00--b\r\n--\r\nx\r\n--b--\r\n",
        "multipart/form-data; boundary=\"a b\"\n--a b\r\nA: b\r\n\r\nonly\r\n--a b--",
        "multipart/form-data; boundary=--\npreamble\r\n----\r\nA: b\r\n\r\n\r\n------",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
