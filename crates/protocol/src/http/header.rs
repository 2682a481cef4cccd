//! The JSON at the front of a body: its form, and its parameters.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::parameters::Parameters;
use crate::wire::InferParameter;
use crate::wire::infer_parameter::ParameterChoice;
use crate::{Invalid, quoted};

/// Parameters as they stand in the text.
pub(super) type Given<'a> = BTreeMap<Cow<'a, str>, Value>;

/// A request's header or a response's.
#[derive(Default)]
pub(super) struct Header<'a> {
    pub model_name: Cow<'a, str>,
    pub model_version: Cow<'a, str>,
    pub id: Cow<'a, str>,
    pub parameters: Given<'a>,
    /// A request's inputs, a response's outputs.
    pub tensors: Vec<Tensor<'a>>,
    /// What a request asks for.
    pub outputs: Vec<Wanted<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Tensor<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow)]
    pub datatype: Cow<'a, str>,
    pub shape: Vec<i64>,
    #[serde(borrow, default)]
    pub parameters: Given<'a>,
    /// Left as it stands until the type of its values is known.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Wanted<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub parameters: Given<'a>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    parameters: Given<'a>,
    #[serde(borrow)]
    inputs: Vec<Tensor<'a>>,
    #[serde(borrow, default)]
    outputs: Vec<Wanted<'a>>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    model_name: Cow<'a, str>,
    #[serde(borrow, default)]
    model_version: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    parameters: Given<'a>,
    #[serde(borrow)]
    outputs: Vec<Tensor<'a>>,
}

impl<'a> Header<'a> {
    /// `tensors` says which: `inputs` of a request, `outputs` of a response.
    pub(super) fn parse(text: &'a [u8], tensors: &str) -> Result<Self, Invalid> {
        let wrong = |error: serde_json::Error| Invalid::new(format!("the JSON header: {error}"));
        if tensors == "inputs" {
            let Request { id, parameters, inputs, outputs } = serde_json::from_slice(text).map_err(wrong)?;
            return Ok(Self { id, parameters, tensors: inputs, outputs, ..Self::default() });
        }
        let Response { model_name, model_version, id, parameters, outputs } =
            serde_json::from_slice(text).map_err(wrong)?;
        Ok(Self { model_name, model_version, id, parameters, tensors: outputs, outputs: Vec::new() })
    }
}

/// Parameters as messages hold them.
pub(super) fn parameters(given: Given<'_>) -> Result<Parameters, Invalid> {
    let one = |(name, value): (Cow<'_, str>, Value)| {
        let choice = match value {
            Value::Bool(value) => Some(ParameterChoice::BoolParam(value)),
            Value::String(value) => Some(ParameterChoice::StringParam(value)),
            Value::Number(number) => number
                .as_i64()
                .map(ParameterChoice::Int64Param)
                .or(number.as_u64().map(ParameterChoice::Uint64Param))
                .or(number.as_f64().map(ParameterChoice::DoubleParam)),
            _ => None,
        };
        let expected =
            || Invalid::new(format!("parameter {}: expected a number, a text, true or false", quoted(&name)));
        let parameter = InferParameter { parameter_choice: Some(choice.ok_or_else(expected)?) };
        Ok((name.into_owned(), parameter))
    };
    given.into_iter().map(one).collect()
}

/// Parameters as the text spells them.
pub(super) fn parameters_json(parameters: &Parameters) -> Map<String, Value> {
    let value = |parameter: &InferParameter| match &parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => (*value).into(),
        Some(ParameterChoice::Int64Param(value)) => (*value).into(),
        Some(ParameterChoice::Uint64Param(value)) => (*value).into(),
        Some(ParameterChoice::DoubleParam(value)) => (*value).into(),
        Some(ParameterChoice::StringParam(value)) => value.as_str().into(),
        None => Value::Null,
    };
    parameters.iter().map(|(name, parameter)| (name.clone(), value(parameter))).collect()
}
