//! What showing a runtime's outputs to the engine takes beside the memory that they lie in.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// What of an output cannot be shown where the runtime left it; kept for the next batch.
#[cfg(any(feature = "onnxruntime", feature = "openvino"))]
#[derive(Default)]
pub(super) struct Space {
    /// The shape in the engine's integers.
    pub(super) shape: Vec<usize>,
    /// Half floats as full ones.
    pub(super) widened: Vec<f32>,
}

/// Half floats as full ones, in `space`.
pub(super) fn widen<'a>(halves: &[f16], space: &'a mut Vec<f32>) -> &'a [f32] {
    space.resize(halves.len(), 0.0);
    halves.convert_to_f32_slice(space);
    space
}
