//! Tensors of type BYTES: each element is its length, four bytes with the lowest first, and then itself.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Invalid;

/// The elements of a BYTES tensor as parts of its content.
///
/// # Errors
/// The content ends inside an element, goes on after the last, or there are others than `expected`.
pub fn split(mut content: Bytes, expected: usize) -> Result<Vec<Bytes>, Invalid> {
    // Never more room than the content can have elements for, whatever is expected of it.
    let mut elements = Vec::with_capacity(expected.min(content.len() / 4));
    let whole = content.len();
    while !content.is_empty() {
        let at = whole - content.len();
        if elements.len() == expected {
            return Err(Invalid::new(format!("{} byte(s) after the last of {expected} element(s)", content.len())));
        }
        let Some(length) = content.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize) else {
            return Err(Invalid::new(format!("element {} at byte {at}: no room for its length", elements.len())));
        };
        let rest = content.slice(4..);
        if length > rest.len() {
            return Err(Invalid::new(format!(
                "element {} at byte {at} says {length} bytes, {} are left",
                elements.len(),
                rest.len()
            )));
        }
        elements.push(rest.slice(..length));
        content = rest.slice(length..);
    }
    if elements.len() < expected {
        return Err(Invalid::new(format!("{} element(s), expected {expected}", elements.len())));
    }
    Ok(elements)
}

/// Bytes that [`join`] takes for these elements.
#[must_use]
pub fn joined_len<'a>(elements: impl IntoIterator<Item = &'a [u8]>) -> usize {
    elements.into_iter().map(|element| 4 + element.len()).sum()
}

/// The content of a BYTES tensor.
///
/// # Errors
/// An element has 4 GiB or more, which its length cannot say.
pub fn join(elements: &[impl AsRef<[u8]>]) -> Result<Bytes, Invalid> {
    let mut content = BytesMut::with_capacity(joined_len(elements.iter().map(AsRef::as_ref)));
    for (at, element) in elements.iter().enumerate() {
        let element = element.as_ref();
        let length = u32::try_from(element.len())
            .map_err(|_| Invalid::new(format!("element {at} has {} bytes, expected less than 4 GiB", element.len())))?;
        content.put_u32_le(length);
        content.put_slice(element);
    }
    Ok(content.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn contents_that_are_no_elements_say_where() {
        for (content, expected, error) in [
            (&b"\x01\0\0\0a\x02\0\0\0b"[..], 2, "element 1 at byte 5 says 2 bytes, 1 are left"),
            (b"\x01\0\0\0a\x01", 2, "element 1 at byte 5: no room for its length"),
            (b"\x01\0\0\0a", 2, "1 element(s), expected 2"),
            (b"\x01\0\0\0ab", 1, "1 byte(s) after the last of 1 element(s)"),
            (b"\xff\xff\xff\xff", usize::MAX, "element 0 at byte 0 says 4294967295 bytes, 0 are left"),
        ] {
            assert_eq!(split(Bytes::from_static(content), expected), Err(Invalid::new(error)));
        }
    }

    proptest! {
        #[test]
        fn elements_come_back_as_they_went(elements in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..8)) {
            let content = join(&elements).unwrap();
            prop_assert_eq!(content.len(), joined_len(elements.iter().map(Vec::as_slice)));
            let back = split(content, elements.len()).unwrap();
            prop_assert_eq!(back.iter().map(|element| element.to_vec()).collect::<Vec<_>>(), elements);
        }

        #[test]
        fn no_content_makes_it_panic(content in proptest::collection::vec(any::<u8>(), 0..64), expected in any::<usize>()) {
            let _ = split(content.into(), expected);
        }
    }
}
