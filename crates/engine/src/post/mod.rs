//! From a model's output tensors to results, and from results in any order to results in each camera's order.

pub mod decode;
pub mod labels;
pub mod nms;

use std::fmt;

use omma_frame::Output;

use crate::picture::Fit;
use crate::tensor::TensorView;

/// Reads the outputs of one frame. Stateless but for buffers: runs on the instance's thread, right after the model,
/// while its outputs are still in the cache.
pub trait OutputDecoder: Send {
    /// `outputs` are one frame's tensors without the batch dimension; boxes come out in pixels of the original picture,
    /// clipped to it.
    ///
    /// # Errors
    /// The tensors are not what this decoder reads (a wrong shape, a value that is not a number).
    fn decode(&mut self, outputs: &[TensorView<'_>], fit: &Fit) -> Result<Output, OutputError>;
}

/// Makes the decoders of one model, one per instance.
pub trait OutputDecoderFactory: Send + Sync {
    fn open(&self) -> Box<dyn OutputDecoder>;
}

/// An output that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputError {
    pub message: String,
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OutputError {}
pub mod reorder;
