//! Finding a tensor among a model's outputs and checking what it is before a value of it is read.

use std::fmt::{self, Write as _};

use super::super::OutputError;
use crate::tensor::{DType, TensorView, Values};

/// Why a frame's outputs are unreadable, as an error.
pub(super) fn unreadable(message: fmt::Arguments<'_>) -> OutputError {
    OutputError { message: message.to_string() }
}

/// The output of this name, or the one at this position.
pub(super) fn find<'a>(
    outputs: &[TensorView<'a>],
    name: Option<&str>,
    position: usize,
) -> Result<TensorView<'a>, OutputError> {
    let found = match name {
        Some(name) => outputs.iter().find(|tensor| tensor.name == name),
        None => outputs.get(position),
    };
    let tensor = *found.ok_or_else(|| match name {
        Some(name) => {
            let mut given = String::new();
            for tensor in outputs {
                let comma = if given.is_empty() { "" } else { ", " };
                let _ = write!(given, "{comma}\"{}\"", tensor.name);
            }
            unreadable(format_args!("the model gives no output \"{name}\", its outputs are: {given}"))
        }
        None => {
            unreadable(format_args!("the model gives {} outputs, expected at least {}", outputs.len(), position + 1))
        }
    })?;
    let filled = tensor.shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
    if filled != Some(tensor.values.len()) {
        return Err(unreadable(format_args!(
            "output \"{}\" has {} values, expected as many as its shape {:?} holds",
            tensor.name,
            tensor.values.len(),
            tensor.shape
        )));
    }
    Ok(tensor)
}

/// The values, if they are floats.
pub(super) fn floats<'a>(tensor: &TensorView<'a>) -> Result<&'a [f32], OutputError> {
    match tensor.values {
        Values::F32(values) => Ok(values),
        other => Err(unreadable(format_args!(
            "output \"{}\" is {}, expected {}",
            tensor.name,
            other.dtype().name(),
            DType::F32.name()
        ))),
    }
}

/// Rows and columns of a matrix; dimensions of one are passed over as long as there are more than two, from the left.
pub(super) fn matrix(tensor: &TensorView<'_>, expected: &str) -> Result<(usize, usize), OutputError> {
    let mut surplus = tensor.shape.len().saturating_sub(2);
    let mut dims = [0; 2];
    let mut count = 0;
    for &dim in tensor.shape {
        if dim == 1 && surplus > 0 {
            surplus -= 1;
        } else {
            *dims.get_mut(count).ok_or_else(|| wrong_shape(tensor, expected))? = dim;
            count += 1;
        }
    }
    // Rows are counted in 32 bits from here on.
    let counted = dims.iter().all(|&dim| u32::try_from(dim).is_ok());
    if count == 2 && counted { Ok((dims[0], dims[1])) } else { Err(wrong_shape(tensor, expected)) }
}

/// The length of a vector; all dimensions but one are one.
pub(super) fn vector(tensor: &TensorView<'_>, expected: &str) -> Result<usize, OutputError> {
    let mut long = tensor.shape.iter().filter(|&&dim| dim != 1);
    match (long.next(), long.next()) {
        (None, _) => Ok(1),
        (Some(&length), None) => Ok(length),
        _ => Err(wrong_shape(tensor, expected)),
    }
}

pub(super) fn wrong_shape(tensor: &TensorView<'_>, expected: &str) -> OutputError {
    unreadable(format_args!("output \"{}\" has shape {:?}, expected {expected}", tensor.name, tensor.shape))
}

/// One value of any element type; `None` beyond the end.
pub(super) fn number(values: &Values<'_>, index: usize) -> Option<f64> {
    Some(match values {
        Values::U8(v) => f64::from(*v.get(index)?),
        Values::F32(v) => f64::from(*v.get(index)?),
        Values::I32(v) => f64::from(*v.get(index)?),
        Values::I64(v) => *v.get(index)? as f64,
    })
}
