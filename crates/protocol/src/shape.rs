//! How many elements and bytes a shape stands for, whatever numbers it is made of.

use crate::{Datatype, Invalid};

/// More dimensions than any model has.
pub const RANK_MAX: usize = 32;

/// The shape as sizes.
///
/// # Errors
/// A dimension is negative, which only metadata may have, or there are more than [`RANK_MAX`].
pub fn sizes(shape: &[i64]) -> Result<Vec<usize>, Invalid> {
    if shape.len() > RANK_MAX {
        return Err(Invalid::new(format!("a shape of {} dimensions, expected at most {RANK_MAX}", shape.len())));
    }
    let size = |&dimension: &i64| {
        usize::try_from(dimension)
            .map_err(|_| Invalid::new(format!("shape {shape:?} has dimension {dimension}, expected 0 or more")))
    };
    shape.iter().map(size).collect()
}

/// Elements of a tensor of this shape.
///
/// # Errors
/// As [`sizes`], or no number can hold the product.
pub fn elements(shape: &[i64]) -> Result<usize, Invalid> {
    let sizes = sizes(shape)?;
    // A zero anywhere makes the product zero, however large the others are.
    if sizes.contains(&0) {
        return Ok(0);
    }
    let product = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    product.ok_or_else(|| Invalid::new(format!("shape {shape:?} has more elements than can be counted")))
}

/// Bytes of a tensor of this shape; `None` where each element has its own length.
///
/// # Errors
/// As [`elements`].
pub fn bytes(datatype: Datatype, shape: &[i64]) -> Result<Option<usize>, Invalid> {
    let elements = elements(shape)?;
    let Some(size) = datatype.size() else { return Ok(None) };
    let bytes = elements.checked_mul(size);
    bytes.map(Some).ok_or_else(|| Invalid::new(format!("shape {shape:?} has more bytes than can be counted")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_multiplied_without_overflow() {
        for (datatype, shape, expected) in [
            (Datatype::Fp32, &[2, 3, 4][..], Ok(Some(96))),
            (Datatype::Uint8, &[], Ok(Some(1))),
            (Datatype::Int64, &[7, 0, i64::MAX, i64::MAX], Ok(Some(0))),
            (Datatype::Bytes, &[4], Ok(None)),
            (Datatype::Fp32, &[1, -1], Err("shape [1, -1] has dimension -1, expected 0 or more")),
            (
                Datatype::Uint8,
                &[i64::MAX, 3],
                Err("shape [9223372036854775807, 3] has more elements than can be counted"),
            ),
            (Datatype::Fp64, &[i64::MAX], Err("shape [9223372036854775807] has more bytes than can be counted")),
            (
                Datatype::Bytes,
                &[i64::MAX, 2, 2],
                Err("shape [9223372036854775807, 2, 2] has more elements than can be counted"),
            ),
        ] {
            assert_eq!(bytes(datatype, shape), expected.map_err(|text: &str| Invalid::new(text)), "{shape:?}");
        }
        assert_eq!(elements(&[1; 33]), Err(Invalid::new("a shape of 33 dimensions, expected at most 32")));
    }
}
