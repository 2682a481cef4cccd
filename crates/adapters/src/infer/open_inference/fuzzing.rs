//! What crates/fuzzing may see of the parser here: a server's answer as plain values.

use omma_protocol::Datatype;
use omma_protocol::wire::ModelInferResponse;

use super::answer;
use super::describe::{Output, seen_as};

/// Name, type and shape of an output that a model declares.
pub type Declared = (String, Datatype, Vec<Option<usize>>);

/// Name and shape of an output that was read, and how many values it has.
pub type Read = (String, Vec<usize>, usize);

/// Reads an answer to a request without shared memory. `None`: no model that declares such an output is taken.
///
/// # Errors
/// It is not what is declared.
pub fn answer(response: &ModelInferResponse, declared: &[Declared]) -> Option<Result<Vec<Read>, String>> {
    let output = |(name, datatype, shape): &Declared| {
        seen_as(*datatype).map(|_| Output { name: name.clone(), datatype: *datatype, shape: shape.clone() })
    };
    let declared: Vec<Output> = declared.iter().map(output).collect::<Option<_>>()?;
    let read = answer::read(response, &declared, None);
    Some(read.map(|answered| {
        let plain = |answered: &answer::Answered| {
            let view = answered.view();
            (view.name.to_owned(), view.shape.to_vec(), view.values.len())
        };
        answered.iter().map(plain).collect()
    }))
}
