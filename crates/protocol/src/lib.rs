//! The Open Inference Protocol, version 2, as both of its sides need it: the messages and services of gRPC, element types
//! and shapes, and the bodies that HTTP carries them in. One form for both transports: what arrives by HTTP becomes the
//! gRPC message, and goes out of it again.
//!
//! Pure: no connection, no thread, no clock. Tensors are `Bytes`: parts of the message that they came in, never copies.
//! Everything here reads bytes from outside, so every length is checked before it is used, and errors say what was found.

pub mod datatype;
pub mod elements;
pub mod http;
pub mod parameters;
pub mod shape;

/// The messages and services, made from `proto/open_inference.proto` when the crate is built.
#[allow(clippy::all, clippy::pedantic, reason = "written by a generator")]
pub mod wire {
    tonic::include_proto!("inference");
}

pub use datatype::Datatype;
pub use parameters::SharedMemory;

/// What is wrong with a message, for whoever sent it: `INVALID_ARGUMENT` in gRPC, 400 in HTTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Tensors in one list, parameters in one place: more than any model has, and than any client sends.
pub const TENSORS_MAX: usize = 256;
pub const PARAMETERS_MAX: usize = 64;

/// A text from outside, fit to stand in a message: quoted, and cut where it is long.
#[must_use]
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 100;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{:?}...", &text[..at]),
        None => format!("{text:?}"),
    }
}
