//! What runs models: ONNX files on one of three runtimes in this process, servers that speak the Open Inference Protocol
//! (`open_inference`), and two stand-ins without a model.
//!
//! Owns nothing while the pipeline runs: [`open`] inspects a file, picks the runtime and hands the engine an opener;
//! each instance then lives on the engine's thread that opened it, with its own session. A batch costs no copy on
//! its way in (the runtimes read the batch tensor where it lies) nor on its way out (the reply sees their outputs; half
//! floats are widened). On a GPU both lie in memory that it reaches itself.
//!
//! What is absent: no decoding of pictures or outputs, and no network but in `open_inference`.

// Without any runtime (as the fuzzers build it) nobody asks for a batch.
#![cfg_attr(not(any(feature = "onnxruntime", feature = "openvino", feature = "rten")), allow(dead_code, unused))]

mod doctor;
mod file;
mod fit;
#[cfg(any(feature = "onnxruntime", feature = "openvino"))]
mod library;
mod onnx;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
#[cfg(feature = "triton")]
pub mod open_inference;
#[cfg(feature = "openvino")]
mod openvino;
#[cfg(feature = "openvino")]
mod openvino_c;
mod outputs;
mod place;
mod provider;
pub mod python;
#[cfg(feature = "rten")]
mod rten;
mod simulated;
mod sizes;
mod versions;

pub use doctor::{Found, State, survey};
pub use file::FileProblem;
#[cfg(feature = "fuzzing")]
pub(crate) use file::look;
pub use fit::{check, guess_spec};
pub use onnx::{Attempt, Choice, OnnxModel, OnnxOptions, OpenError, Runtime, open};
pub use provider::Provider;
pub use simulated::{Cost, Waiting, identity, null, simulated};
pub use versions::{Located, Lookout, Stamp, locate, versions};
