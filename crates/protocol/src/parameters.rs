//! The parameters that the protocol's extensions give a meaning to.

use std::collections::HashMap;

use crate::wire::InferParameter;
use crate::wire::infer_parameter::ParameterChoice;
use crate::{Invalid, quoted};

/// Parameters of a request, a response or a tensor.
pub type Parameters = HashMap<String, InferParameter>;

/// Name of the region that a tensor lies in.
pub const REGION: &str = "shared_memory_region";
/// Where in the region it begins; 0 if it is not said.
pub const OFFSET: &str = "shared_memory_offset";
/// Bytes that it has, or may take, there.
pub const BYTE_SIZE: &str = "shared_memory_byte_size";

#[must_use]
pub fn number(value: i64) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(value)) }
}

#[must_use]
pub fn text(value: impl Into<String>) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::StringParam(value.into())) }
}

#[must_use]
pub fn flag(value: bool) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(value)) }
}

/// A parameter's value for people.
fn described(parameter: &InferParameter) -> String {
    match &parameter.parameter_choice {
        None => "nothing".to_owned(),
        Some(ParameterChoice::BoolParam(value)) => value.to_string(),
        Some(ParameterChoice::Int64Param(value)) => value.to_string(),
        Some(ParameterChoice::Uint64Param(value)) => value.to_string(),
        Some(ParameterChoice::DoubleParam(value)) => value.to_string(),
        Some(ParameterChoice::StringParam(value)) => quoted(value),
    }
}

/// A parameter that counts something; `None` if it is not there.
///
/// # Errors
/// It is there and no number of 0 or more.
pub fn count(parameters: &Parameters, name: &str) -> Result<Option<usize>, Invalid> {
    let Some(parameter) = parameters.get(name) else { return Ok(None) };
    let value = match parameter.parameter_choice {
        Some(ParameterChoice::Int64Param(value)) => usize::try_from(value).ok(),
        Some(ParameterChoice::Uint64Param(value)) => usize::try_from(value).ok(),
        _ => None,
    };
    let wrong = || Invalid::new(format!("parameter {name} is {}, expected a count", described(parameter)));
    value.map(Some).ok_or_else(wrong)
}

/// A parameter that is on or off; `None` if it is not there.
///
/// # Errors
/// It is there and neither.
pub fn switch(parameters: &Parameters, name: &str) -> Result<Option<bool>, Invalid> {
    match parameters.get(name).map(|parameter| (parameter, &parameter.parameter_choice)) {
        None => Ok(None),
        Some((_, Some(ParameterChoice::BoolParam(value)))) => Ok(Some(*value)),
        Some((parameter, _)) => {
            Err(Invalid::new(format!("parameter {name} is {}, expected true or false", described(parameter))))
        }
    }
}

/// Where in shared memory a tensor lies, or is to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedMemory {
    pub region: String,
    pub offset: usize,
    pub byte_size: usize,
}

impl SharedMemory {
    /// What a tensor's parameters say of it; `None` if they name no region.
    ///
    /// # Errors
    /// They name one, but not its size, or a parameter is of the wrong kind.
    pub fn of(parameters: &Parameters) -> Result<Option<Self>, Invalid> {
        let Some(region) = parameters.get(REGION) else { return Ok(None) };
        let Some(ParameterChoice::StringParam(name)) = &region.parameter_choice else {
            return Err(Invalid::new(format!("parameter {REGION} is {}, expected a name", described(region))));
        };
        let Some(byte_size) = count(parameters, BYTE_SIZE)? else {
            return Err(Invalid::new(format!("parameter {REGION} without {BYTE_SIZE}, expected both")));
        };
        let offset = count(parameters, OFFSET)?.unwrap_or(0);
        Ok(Some(Self { region: name.clone(), offset, byte_size }))
    }

    /// The parameters that say so.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        let number_of = |count: usize| number(i64::try_from(count).unwrap_or(i64::MAX));
        let mut parameters = Parameters::with_capacity(3);
        parameters.insert(REGION.to_owned(), text(self.region.clone()));
        parameters.insert(BYTE_SIZE.to_owned(), number_of(self.byte_size));
        if self.offset > 0 {
            parameters.insert(OFFSET.to_owned(), number_of(self.offset));
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_shared_memory_are_read_as_they_were_written() {
        for offset in [0, 4096] {
            let place = SharedMemory { region: "pool-1".into(), offset, byte_size: 12 };
            assert_eq!(SharedMemory::of(&place.parameters()), Ok(Some(place)));
        }
        assert_eq!(SharedMemory::of(&Parameters::new()), Ok(None));
    }

    #[test]
    fn parameters_of_the_wrong_kind_say_what_was_found() {
        for (given, expected) in [
            (vec![(REGION, number(3))], "parameter shared_memory_region is 3, expected a name"),
            (
                vec![(REGION, text("r"))],
                "parameter shared_memory_region without shared_memory_byte_size, expected both",
            ),
            (
                vec![(REGION, text("r")), (BYTE_SIZE, text("many"))],
                "parameter shared_memory_byte_size is \"many\", expected a count",
            ),
            (
                vec![(REGION, text("r")), (BYTE_SIZE, number(4)), (OFFSET, number(-1))],
                "parameter shared_memory_offset is -1, expected a count",
            ),
        ] {
            let parameters = given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            assert_eq!(SharedMemory::of(&parameters), Err(Invalid::new(expected)));
        }
    }
}
