//! The errors of this folder, and the one place where their words are made.

use std::fmt;

use omma_engine::picture::{PictureError, PictureSpec};
use omma_engine::tensor::DType;
use omma_frame::{DropReason, Size};

#[cold]
pub(super) fn corrupt(message: String) -> PictureError {
    PictureError { reason: DropReason::PictureCorrupt, message }
}

#[cold]
pub(super) fn unfit(message: String) -> PictureError {
    PictureError { reason: DropReason::PictureUnfit, message }
}

#[cold]
pub(super) fn too_large(message: String) -> PictureError {
    PictureError { reason: DropReason::PayloadTooLarge, message }
}

/// The first bytes of a payload, for a message.
pub(super) fn hex(bytes: &[u8]) -> String {
    let shown: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
    shown.join(" ")
}

/// Why a model's input can take no pictures.
#[derive(Debug, Clone, PartialEq)]
pub enum SpecError {
    /// Pictures are decoded to `u8`, `f16` or `f32`.
    DType(DType),
    /// A side is zero, or longer than 65,535.
    Size(Size),
    /// `scale`, `mean` or `std` would make values that are not finite.
    Normalisation { scale: f32, mean: [f32; 3], std: [f32; 3] },
}

impl SpecError {
    pub(super) fn check(spec: &PictureSpec) -> Result<(), Self> {
        if !DType::OF_PICTURES.contains(&spec.dtype) {
            return Err(Self::DType(spec.dtype));
        }
        let sides = 1..=super::limits::SIDE_MAX;
        if !sides.contains(&spec.size.width) || !sides.contains(&spec.size.height) {
            return Err(Self::Size(spec.size));
        }
        let channels = spec.color.channels();
        let finite = spec.mean[..channels].iter().zip(&spec.std[..channels]).all(|(mean, std)| {
            let ends = [0.0, 255.0].map(|pixel: f32| (pixel * spec.scale - mean) / std);
            ends.iter().all(|value| value.is_finite()) && (spec.scale / std).is_finite() && (mean / std).is_finite()
        });
        if spec.dtype != DType::U8 && !finite {
            return Err(Self::Normalisation { scale: spec.scale, mean: spec.mean, std: spec.std });
        }
        Ok(())
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DType(dtype) => {
                write!(
                    f,
                    "the model's input has elements of type {}, expected u8, f16 or f32 for pictures",
                    dtype.name()
                )
            }
            Self::Size(size) => write!(
                f,
                "the model's input is {}x{}, expected 1 to {} pixels on each side",
                size.width,
                size.height,
                super::limits::SIDE_MAX
            ),
            Self::Normalisation { scale, mean, std } => {
                write!(
                    f,
                    "scale {scale}, mean {mean:?} and std {std:?} give values that are not finite, expected finite numbers and no zero in std"
                )
            }
        }
    }
}

impl std::error::Error for SpecError {}
