//! What runs models on this machine: which runtimes are there, where they were looked for, what they compute with.
//!
//! Loads each runtime's library as opening a model would, so what it says is what happens.

use std::path::PathBuf;

#[cfg(any(feature = "onnxruntime", feature = "openvino"))]
use super::onnx::Refusal;
use super::onnx::Runtime;
use super::provider::Provider;

/// A runtime on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub runtime: Runtime,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Present {
        /// `None`: it is part of omma.
        library: Option<PathBuf>,
        version: String,
        /// What it computes with.
        providers: Vec<Provider>,
        /// What it was built with besides, and why that does not start here.
        failing: Vec<(Provider, String)>,
    },
    /// It is not there, or cannot be loaded, and why; for what is not there, where it was looked for.
    Missing { why: String },
}

/// Looks for every runtime.
#[must_use]
pub fn survey() -> Vec<Found> {
    Runtime::ALL.into_iter().map(|runtime| Found { runtime, state: look_for(runtime) }).collect()
}

fn look_for(runtime: Runtime) -> State {
    match runtime {
        #[cfg(feature = "openvino")]
        Runtime::OpenVino => match super::openvino::survey() {
            Ok((library, version)) => {
                State::Present { library: Some(library), version, providers: vec![Provider::Cpu], failing: vec![] }
            }
            Err(refusal) => missing(refusal),
        },
        #[cfg(feature = "onnxruntime")]
        Runtime::OnnxRuntime => match super::onnxruntime::survey() {
            Ok(there) => there,
            Err(refusal) => missing(refusal),
        },
        #[cfg(feature = "rten")]
        Runtime::Rten => {
            let (version, providers) = ("built in".to_owned(), vec![Provider::Cpu]);
            State::Present { library: None, version, providers, failing: vec![] }
        }
        #[allow(unreachable_patterns)]
        _ => State::Missing { why: "this build was made without it".to_owned() },
    }
}

#[cfg(any(feature = "onnxruntime", feature = "openvino"))]
fn missing(refusal: Refusal) -> State {
    let why = match refusal {
        Refusal::Absent(why) | Refusal::Refused(why) | Refusal::Unfit(why) => why,
    };
    State::Missing { why }
}
