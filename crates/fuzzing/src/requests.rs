//! What clients of the direct API send: bodies of inference by HTTP, forms with a picture in them.

use bytes::Bytes;
use omma_protocol::SharedMemory;
use omma_protocol::http::{Binary, Body, decode_request, decode_response, encode_request};
use omma_server::multipart::{boundary, first_file};

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
    let in_memory = |input: &omma_protocol::wire::model_infer_request::InferInputTensor| {
        SharedMemory::of(&input.parameters).map(|place| place.is_some())
    };
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

pub(crate) fn form_file_seeds() -> Vec<Vec<u8>> {
    [
        "multipart/form-data; boundary=b\n--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.jpg\"\r\n\r\n\x00--b\r\n--\r\nx\r\n--b--\r\n",
        "multipart/form-data; boundary=\"a b\"\n--a b\r\nA: b\r\n\r\nonly\r\n--a b--",
        "multipart/form-data; boundary=--\npreamble\r\n----\r\nA: b\r\n\r\n\r\n------",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
