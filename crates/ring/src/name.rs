//! The names of segments: what a producer is called, and what a message from outside may name.

use std::fmt;

/// Every segment's file begins with it, so that nothing else in the folder can be named by a message, or swept.
const PREFIX: &str = "omma-";

/// So do those of the Python pipeline that we replace (`compat.rs`).
const COMPAT_PREFIX: &str = "shm_";

/// The longest name of a producer in bytes; with the prefix it stays far below what a file's name may have.
const BYTES_MAX: usize = 128;

/// A segment's name: the name of its file, `omma-` and the producer's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentName(Box<str>);

/// Why a text names no segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    Prefix { expected: &'static str },
    Length { bytes: usize },
    Character { found: char },
}

impl SegmentName {
    /// The segment of a producer of this name: 1 to 128 letters, digits, `.`, `_` and `-`.
    ///
    /// # Errors
    /// It has another length, or holds other characters.
    pub fn of_producer(name: &str) -> Result<Self, NameError> {
        check(name)?;
        Ok(Self(format!("{PREFIX}{name}").into()))
    }

    /// A segment's name as a message gives it.
    ///
    /// # Errors
    /// It does not begin with `omma-`, or what follows is no producer's name: above all, it is not one component of a
    /// path.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(rest(text, PREFIX)?)?;
        Ok(Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a message of the Python pipeline may name this segment.
///
/// # Errors
/// As [`SegmentName::parse`], with another prefix.
pub(crate) fn check_compat(text: &str) -> Result<(), NameError> {
    check(rest(text, COMPAT_PREFIX)?)
}

fn rest<'a>(text: &'a str, expected: &'static str) -> Result<&'a str, NameError> {
    text.strip_prefix(expected).ok_or(NameError::Prefix { expected })
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > BYTES_MAX {
        return Err(NameError::Length { bytes: name.len() });
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        Some(found) => Err(NameError::Character { found }),
        None => Ok(()),
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix { expected } => write!(f, "a segment's name begins with something else than {expected:?}"),
            Self::Length { bytes } => {
                write!(f, "a producer's name has {bytes} bytes, expected 1 to {BYTES_MAX}")
            }
            Self::Character { found } => {
                write!(f, "a segment's name holds {found:?}, expected letters, digits, '.', '_' and '-'")
            }
        }
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_component_of_a_path_behind_the_prefix() {
        let table = [
            ("omma-gate", Ok(())),
            ("omma-a.b_c-9", Ok(())),
            ("omma-..", Ok(())),
            ("", Err(NameError::Prefix { expected: PREFIX })),
            ("gate", Err(NameError::Prefix { expected: PREFIX })),
            ("../omma-gate", Err(NameError::Prefix { expected: PREFIX })),
            ("OMMA-gate", Err(NameError::Prefix { expected: PREFIX })),
            ("omma-", Err(NameError::Length { bytes: 0 })),
            ("omma-/etc/passwd", Err(NameError::Character { found: '/' })),
            ("omma-../x", Err(NameError::Character { found: '/' })),
            ("omma-a\0", Err(NameError::Character { found: '\0' })),
            ("omma-größe", Err(NameError::Character { found: 'ö' })),
            ("omma-a b", Err(NameError::Character { found: ' ' })),
        ];
        for (text, expected) in table {
            assert_eq!(SegmentName::parse(text).map(|_| ()), expected, "{text:?}");
        }
        assert_eq!(check_compat("shm_rb_gate"), Ok(()));
        assert_eq!(check_compat("omma-gate"), Err(NameError::Prefix { expected: COMPAT_PREFIX }));
        assert_eq!(check_compat("shm_a/b"), Err(NameError::Character { found: '/' }));
        let long = "x".repeat(129);
        assert_eq!(SegmentName::of_producer(&long), Err(NameError::Length { bytes: 129 }));
        assert_eq!(SegmentName::of_producer(&long[1..]).map(|name| name.as_str().len()), Ok(133));
    }
}
