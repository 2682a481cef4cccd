//! The JSON at the front of a body: its form, and its parameters.
//!
//! What a body says takes memory in proportion to its bytes: lists of which each element costs many times its text are
//! bounded in number, and nothing is built that is not taken.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::json_error;
use crate::parameters::Parameters;
use crate::wire::InferParameter;
use crate::wire::infer_parameter::ParameterChoice;
use crate::{Invalid, PARAMETERS_MAX, TENSORS_MAX, quoted};

/// A request's header or a response's.
#[derive(Default)]
pub(super) struct Header<'a> {
    pub model_name: Cow<'a, str>,
    pub model_version: Cow<'a, str>,
    pub id: Cow<'a, str>,
    pub parameters: Parameters,
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
    #[serde(default, deserialize_with = "parameters")]
    pub parameters: Parameters,
    /// Left as it stands until the type of its values is known.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Wanted<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(default, deserialize_with = "parameters")]
    pub parameters: Parameters,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(default, deserialize_with = "parameters")]
    parameters: Parameters,
    #[serde(borrow, deserialize_with = "tensors")]
    inputs: Vec<Tensor<'a>>,
    #[serde(borrow, default, deserialize_with = "tensors")]
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
    #[serde(default, deserialize_with = "parameters")]
    parameters: Parameters,
    #[serde(borrow, deserialize_with = "tensors")]
    outputs: Vec<Tensor<'a>>,
}

impl<'a> Header<'a> {
    /// `tensors` says which: `inputs` of a request, `outputs` of a response.
    pub(super) fn parse(text: &'a [u8], tensors: &str) -> Result<Self, Invalid> {
        let wrong = |error: serde_json::Error| Invalid::new(format!("the JSON header: {}", json_error(&error)));
        if tensors == "inputs" {
            let Request { id, parameters, inputs, outputs } = serde_json::from_slice(text).map_err(wrong)?;
            return Ok(Self { id, parameters, tensors: inputs, outputs, ..Self::default() });
        }
        let Response { model_name, model_version, id, parameters, outputs } =
            serde_json::from_slice(text).map_err(wrong)?;
        Ok(Self { model_name, model_version, id, parameters, tensors: outputs, outputs: Vec::new() })
    }
}

/// A list of tensors, or of what is asked of them.
fn tensors<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Tensors<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Tensors<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {TENSORS_MAX} tensors")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut tensors = Vec::new();
            while let Some(tensor) = list.next_element()? {
                if tensors.len() == TENSORS_MAX {
                    return Err(A::Error::invalid_length(TENSORS_MAX + 1, &self));
                }
                tensors.push(tensor);
            }
            Ok(tensors)
        }
    }

    deserializer.deserialize_seq(Tensors(PhantomData))
}

/// Parameters as messages hold them.
fn parameters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Parameters, D::Error> {
    struct All;

    impl<'de> Visitor<'de> for All {
        type Value = Parameters;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {PARAMETERS_MAX} parameters by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
            let mut parameters = Parameters::new();
            while let Some(name) = map.next_key::<String>()? {
                if parameters.len() == PARAMETERS_MAX {
                    return Err(A::Error::invalid_length(PARAMETERS_MAX + 1, &self));
                }
                let choice = map.next_value_seed(Of(&name))?;
                parameters.insert(name, InferParameter { parameter_choice: Some(choice) });
            }
            Ok(parameters)
        }
    }

    deserializer.deserialize_map(All)
}

/// The value of the parameter of this name.
struct Of<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Of<'_> {
    type Value = ParameterChoice;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ParameterChoice, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Of<'_> {
    type Value = ParameterChoice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number, a text, true or false as parameter {}", quoted(self.0))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<ParameterChoice, E> {
        Ok(ParameterChoice::BoolParam(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<ParameterChoice, E> {
        Ok(ParameterChoice::Int64Param(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<ParameterChoice, E> {
        Ok(i64::try_from(value).map_or(ParameterChoice::Uint64Param(value), ParameterChoice::Int64Param))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<ParameterChoice, E> {
        Ok(ParameterChoice::DoubleParam(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<ParameterChoice, E> {
        Ok(ParameterChoice::StringParam(value.to_owned()))
    }
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
