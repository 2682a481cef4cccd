//! Inference by HTTP: a JSON header, and behind it the tensors as they are (the binary tensor extension).
//!
//! In memory a request and a response are the gRPC messages. Decoding moves what the header says into them, tensors as
//! parts of the body; encoding gives the body in pieces, of which only the header is new. `data` in the header (values
//! as JSON) is read into raw contents straight from the text, so that a body costs no more memory than it has bytes times
//! the size of an element, and what a few hundred tensors and their parameters take; it is written straight from raw
//! contents, of which a byte comes to so many characters ([`text_per_byte`]).

mod data;
mod describe;
mod header;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::parameters::{self, Parameters, SharedMemory};
use crate::wire::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::wire::model_infer_response::InferOutputTensor;
use crate::wire::{ModelInferRequest, ModelInferResponse};
use crate::{Datatype, Invalid, quoted, shape};
pub use data::text_per_byte;
pub use describe::{decode_config, decode_metadata};
use header::{Header, Tensor};

/// The HTTP header that says how long the JSON at the front of the body is; without it the body is all JSON.
pub const HEADER_LENGTH: &str = "inference-header-content-length";
/// The content type of a body with tensors behind its JSON.
pub const BINARY: &str = "application/octet-stream";
/// The content type of a body that is JSON alone.
pub const JSON: &str = "application/json";

const BINARY_SIZE: &str = "binary_data_size";
const BINARY_OUTPUT: &str = "binary_data_output";
const BINARY_DATA: &str = "binary_data";

/// A body to be sent, piece after piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// What [`HEADER_LENGTH`] says; `None`: the body is all JSON, and the header is left out.
    pub header_length: Option<usize>,
    pub parts: Vec<Bytes>,
}

impl Body {
    fn new(header: Bytes, tensors: Vec<Bytes>) -> Self {
        let header_length = (!tensors.is_empty()).then_some(header.len());
        let mut parts = vec![header];
        parts.extend(tensors);
        Self { header_length, parts }
    }

    /// Bytes of all parts together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The body of a request. Model and version stand in the URL; all outputs are asked for as binary tensors but those that
/// are to lie in shared memory.
///
/// # Errors
/// The raw contents are not one for each input outside of shared memory.
pub fn encode_request(request: &ModelInferRequest) -> Result<Body, Invalid> {
    let mut contents = request.raw_input_contents.iter();
    let (mut inputs, mut tensors) = (Vec::new(), Vec::new());
    for input in &request.inputs {
        let mut given = header::parameters_json(&input.parameters);
        if SharedMemory::of(&input.parameters)?.is_none() {
            let missing = || Invalid::new(format!("input {} has no raw contents", quoted(&input.name)));
            let content = contents.next().ok_or_else(missing)?;
            given.insert(BINARY_SIZE.to_owned(), content.len().into());
            tensors.push(content.clone());
        }
        inputs.push(json!({
            "name": input.name, "datatype": input.datatype, "shape": input.shape, "parameters": given,
        }));
    }
    if contents.next().is_some() {
        return Err(Invalid::new("more raw contents than inputs outside of shared memory"));
    }
    let mut given = header::parameters_json(&request.parameters);
    given.insert(BINARY_OUTPUT.to_owned(), true.into());
    let mut header = json!({ "inputs": inputs, "parameters": given });
    if !request.id.is_empty() {
        header["id"] = request.id.clone().into();
    }
    if !request.outputs.is_empty() {
        let output = |output: &InferRequestedOutputTensor| json!({ "name": output.name, "parameters": header::parameters_json(&output.parameters) });
        header["outputs"] = request.outputs.iter().map(output).collect::<Vec<_>>().into();
    }
    Ok(Body::new(header.to_string().into(), tensors))
}

/// What a request's body says. Every input ends up with raw contents or in shared memory; model and version are the
/// caller's to fill in.
///
/// # Errors
/// The body is no request: what was found, and what is expected.
pub fn decode_request(header_length: Option<usize>, body: &Bytes) -> Result<ModelInferRequest, Invalid> {
    let (header, mut rest) = split(header_length, body)?;
    let header: Header<'_> = Header::parse(&header, "inputs")?;
    let mut request =
        ModelInferRequest { id: header.id.into_owned(), parameters: header.parameters, ..ModelInferRequest::default() };
    for tensor in header.tensors {
        let (name, input) = (tensor.name.clone().into_owned(), read(tensor, &mut rest)?);
        let (datatype, shape, parameters, content) = input;
        if content.is_none() && SharedMemory::of(&parameters)?.is_none() {
            let message = "neither data nor binary_data_size nor shared memory";
            return Err(Invalid::new(format!("tensor {}: {message}", quoted(&name))));
        }
        request.raw_input_contents.extend(content);
        request.inputs.push(InferInputTensor { name, datatype, shape, parameters, contents: None });
    }
    for output in header.outputs {
        let (name, parameters) = (output.name.into_owned(), output.parameters);
        request.outputs.push(InferRequestedOutputTensor { name, parameters });
    }
    finished(&rest)?;
    Ok(request)
}

/// Which outputs go as binary tensors; the others go as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    named: Vec<(String, bool)>,
    others: bool,
}

impl Binary {
    /// All of them.
    pub const ALL: Self = Self { named: Vec::new(), others: true };

    /// What a request that came by HTTP says.
    ///
    /// # Errors
    /// A parameter that says so is neither true nor false.
    pub fn of(request: &ModelInferRequest) -> Result<Self, Invalid> {
        let others = parameters::switch(&request.parameters, BINARY_OUTPUT)?.unwrap_or(false);
        let one = |output: &InferRequestedOutputTensor| {
            let said = parameters::switch(&output.parameters, BINARY_DATA)?;
            Ok((output.name.clone(), said.unwrap_or(others)))
        };
        Ok(Self { named: request.outputs.iter().map(one).collect::<Result<_, Invalid>>()?, others })
    }

    #[must_use]
    pub fn has(&self, output: &str) -> bool {
        self.named.iter().find(|(name, _)| name == output).map_or(self.others, |(_, binary)| *binary)
    }
}

/// The JSON of a response.
#[derive(Serialize)]
struct ResponseHeader<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    model_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    model_version: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    parameters: Map<String, Value>,
    outputs: Vec<OutputHeader<'a>>,
}

#[derive(Serialize)]
struct OutputHeader<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: &'a [i64],
    #[serde(skip_serializing_if = "Map::is_empty")]
    parameters: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<data::Written<'a>>,
}

/// The body of a response.
///
/// # Errors
/// The raw contents are not one for each output, or an output that is to go as JSON has values that JSON has not.
pub fn encode_response(response: &ModelInferResponse, binary: &Binary) -> Result<Body, Invalid> {
    /// For everything but values.
    const HEADER_BYTES: usize = 512;
    if response.raw_output_contents.len() != response.outputs.len() {
        let (contents, outputs) = (response.raw_output_contents.len(), response.outputs.len());
        return Err(Invalid::new(format!("{contents} raw contents, expected {outputs}, one for each output")));
    }
    let (mut outputs, mut tensors) = (Vec::new(), Vec::new());
    for (output, content) in response.outputs.iter().zip(&response.raw_output_contents) {
        let InferOutputTensor { name, datatype: kind, shape, .. } = output;
        let mut parameters = header::parameters_json(&output.parameters);
        let mut values = None;
        if SharedMemory::of(&output.parameters)?.is_none() {
            if binary.has(name) {
                parameters.insert(BINARY_SIZE.to_owned(), content.len().into());
                tensors.push(content.clone());
            } else {
                let written = data::Written::new(name, datatype(kind)?, shape, content)
                    .map_err(|error| Invalid::new(format!("output {}: {error}", quoted(name))))?;
                values = Some(written);
            }
        }
        outputs.push(OutputHeader { name, datatype: kind, shape, parameters, data: values });
    }
    let values = outputs.iter().filter_map(|output| output.data.as_ref()).map(data::Written::text_max);
    let mut text = Vec::with_capacity(HEADER_BYTES + values.sum::<usize>());
    let header = ResponseHeader {
        id: &response.id,
        model_name: &response.model_name,
        model_version: &response.model_version,
        parameters: header::parameters_json(&response.parameters),
        outputs,
    };
    serde_json::to_writer(&mut text, &header).map_err(|error| Invalid::new(error.to_string()))?;
    Ok(Body::new(text.into(), tensors))
}

/// What a response's body says: as by gRPC, raw contents for every output, empty for those in shared memory, of which
/// servers need not say that they lie there.
///
/// # Errors
/// The body is no response: what was found, and what is expected.
pub fn decode_response(header_length: Option<usize>, body: &Bytes) -> Result<ModelInferResponse, Invalid> {
    let (header, mut rest) = split(header_length, body)?;
    let header: Header<'_> = Header::parse(&header, "outputs")?;
    let mut response = ModelInferResponse {
        model_name: header.model_name.into_owned(),
        model_version: header.model_version.into_owned(),
        id: header.id.into_owned(),
        parameters: header.parameters,
        ..ModelInferResponse::default()
    };
    for tensor in header.tensors {
        let (name, output) = (tensor.name.clone().into_owned(), read(tensor, &mut rest)?);
        let (datatype, shape, parameters, content) = output;
        response.raw_output_contents.push(content.unwrap_or_default());
        response.outputs.push(InferOutputTensor { name, datatype, shape, parameters, contents: None });
    }
    finished(&rest)?;
    Ok(response)
}

/// The body of an answer that says what went wrong.
#[must_use]
pub fn encode_error(message: &str) -> Bytes {
    json!({ "error": message }).to_string().into()
}

/// What such an answer says; the start of the body itself if it is none.
#[must_use]
pub fn decode_error(body: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(body).ok();
    match said.as_ref().and_then(|said| said.get("error")).and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => quoted(&String::from_utf8_lossy(&body[..body.len().min(400)])),
    }
}

/// What is wrong with a text, which the library may quote as long as it is: cut in its middle, for the place is at its end.
fn json_error(error: &serde_json::Error) -> String {
    const SHOWN: usize = 120;
    let text = error.to_string();
    let chars = text.chars().count();
    if chars <= 2 * SHOWN {
        return text;
    }
    let (start, end) = (text.chars().take(SHOWN), text.chars().skip(chars - SHOWN));
    start.chain("...".chars()).chain(end).collect()
}

fn datatype(name: &str) -> Result<Datatype, Invalid> {
    Datatype::parse(name).ok_or_else(|| Invalid::new(format!("datatype {}, expected one such as FP32", quoted(name))))
}

/// The JSON at the front, and what follows it.
fn split(header_length: Option<usize>, body: &Bytes) -> Result<(Bytes, Bytes), Invalid> {
    let length = header_length.unwrap_or(body.len());
    if length > body.len() {
        return Err(Invalid::new(format!("a header of {length} bytes in a body of {}", body.len())));
    }
    Ok((body.slice(..length), body.slice(length..)))
}

/// Datatype, shape, parameters, and raw contents if the body has them.
type Read = (String, Vec<i64>, Parameters, Option<Bytes>);

fn read(tensor: Tensor<'_>, rest: &mut Bytes) -> Result<Read, Invalid> {
    let name = quoted(&tensor.name);
    let at = |error: Invalid| Invalid::new(format!("tensor {name}: {error}"));
    let mut parameters = tensor.parameters;
    let kind = datatype(&tensor.datatype).map_err(at)?;
    let binary = parameters::count(&parameters, BINARY_SIZE).map_err(at)?;
    parameters.remove(BINARY_SIZE);
    let shared = SharedMemory::of(&parameters).map_err(at)?;
    let content = match (shared, binary, tensor.data) {
        (Some(_), None, None) => None,
        (None, Some(length), None) if length <= rest.len() => Some(rest.split_to(length)),
        (None, Some(length), None) => {
            return Err(at(Invalid::new(format!("{length} binary bytes, {} are left in the body", rest.len()))));
        }
        (None, None, Some(data)) => {
            Some(data::read(kind, shape::elements(&tensor.shape).map_err(at)?, data).map_err(at)?)
        }
        (None, None, None) => None,
        _ => return Err(at(Invalid::new("more than one of data, binary_data_size and shared memory"))),
    };
    Ok((kind.name().to_owned(), tensor.shape, parameters, content))
}

fn finished(rest: &Bytes) -> Result<(), Invalid> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(Invalid::new(format!("{} byte(s) after the last tensor", rest.len())))
}

#[cfg(test)]
mod tests;
