//! The names of a model's classes. Plain data: reading the file is the caller's business.

use std::borrow::Cow;
use std::fmt;

/// More classes than any published model has; a larger file is some other file.
const CLASSES_MAX: usize = 65_536;
/// A label is a metric label and a column in a report, not a text.
const LABEL_BYTES_MAX: usize = 256;

/// The names of classes 0, 1, 2, ... Two classes may bear the same name: published lists do (ImageNet has two cranes,
/// COCO's list of 91 fills its gaps with one placeholder).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    names: Vec<Box<str>>,
}

/// Why a text is no list of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelsError {
    /// Not one label in it.
    NoLabels,
    /// Nothing where a label should be; skipping it would shift every class after it.
    Empty {
        line: usize,
    },
    TooLong {
        line: usize,
        bytes: usize,
    },
    ControlCharacter {
        line: usize,
    },
    TooMany,
}

impl Labels {
    /// Reads one label per line: the first line is class 0. Space around a label, a byte order mark and empty lines
    /// at the very end are ignored.
    ///
    /// # Errors
    /// No label, an empty line before the last label, a label that is too long or holds a control character, or more
    /// than 65,536 labels. The line is counted from 1.
    pub fn parse(text: &str) -> Result<Self, LabelsError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::from_names(text.trim_end().lines())
    }

    /// Takes the names as they stand, class 0 first; errors give the place in the list, from 1, as the line.
    ///
    /// # Errors
    /// As [`Labels::parse`].
    pub fn from_names<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, LabelsError> {
        let mut labels = Self::default();
        for (line, name) in (1..).zip(names) {
            if line > CLASSES_MAX {
                return Err(LabelsError::TooMany);
            }
            let name = name.as_ref().trim();
            if name.is_empty() {
                return Err(LabelsError::Empty { line });
            }
            if name.len() > LABEL_BYTES_MAX {
                return Err(LabelsError::TooLong { line, bytes: name.len() });
            }
            if name.chars().any(char::is_control) {
                return Err(LabelsError::ControlCharacter { line });
            }
            labels.names.push(name.into());
        }
        if labels.is_empty() { Err(LabelsError::NoLabels) } else { Ok(labels) }
    }

    /// The name of a class, or `class 17` for one that the list does not reach.
    #[must_use]
    pub fn name(&self, class: u32) -> Cow<'_, str> {
        match self.names.get(class as usize) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(format!("class {class}")),
        }
    }

    /// The first class of this name, for filters that people write by name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u32> {
        self.names.iter().position(|known| **known == *name).and_then(|class| u32::try_from(class).ok())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

impl fmt::Display for LabelsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLabels => f.write_str("no labels found, expected one per line, class 0 first"),
            Self::Empty { line } => {
                write!(f, "label {line} is empty, expected a name: a gap would shift the classes after it")
            }
            Self::TooLong { line, bytes } => {
                write!(f, "label {line} has {bytes} bytes, expected at most {LABEL_BYTES_MAX}")
            }
            Self::ControlCharacter { line } => {
                write!(f, "label {line} holds a control character, expected printable text")
            }
            Self::TooMany => write!(f, "more than {CLASSES_MAX} labels found, expected one per class of the model"),
        }
    }
}

impl std::error::Error for LabelsError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_label_per_line() {
        let cases: [(&str, &[&str]); 7] = [
            ("person\nbicycle\ncar", &["person", "bicycle", "car"]),
            ("person\nbicycle\n", &["person", "bicycle"]),
            ("person\r\ntraffic light\r\n\r\n\n", &["person", "traffic light"]),
            ("\u{feff}person\n", &["person"]),
            ("  person \n\tcar\n", &["person", "car"]),
            ("crane\nN/A\ncrane\nN/A", &["crane", "N/A", "crane", "N/A"]),
            ("# not a comment\nЗайчик", &["# not a comment", "Зайчик"]),
        ];
        for (text, names) in cases {
            let labels = Labels::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            let read: Vec<_> = (0..).map(|class| labels.name(class)).take(labels.len()).collect();
            assert_eq!(read, names, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_labels_says_where_and_why() {
        let long = format!("a\nb\n{}", "x".repeat(257));
        let many = "x\n".repeat(CLASSES_MAX + 1);
        let cases = [
            ("", "no labels found, expected one per line, class 0 first"),
            (" \n\n", "no labels found, expected one per line, class 0 first"),
            ("a\n\nb\n", "label 2 is empty, expected a name: a gap would shift the classes after it"),
            ("\na", "label 1 is empty, expected a name: a gap would shift the classes after it"),
            ("a\nb\u{0}c", "label 2 holds a control character, expected printable text"),
            (long.as_str(), "label 3 has 257 bytes, expected at most 256"),
            (many.as_str(), "more than 65536 labels found, expected one per class of the model"),
        ];
        for (text, message) in cases {
            let error = Labels::parse(text).map_err(|error| error.to_string());
            assert_eq!(error, Err(message.to_owned()));
        }
    }

    #[test]
    fn a_class_without_a_label_is_called_by_its_number() {
        let labels = Labels::from_names(["person"]).unwrap();
        assert_eq!(labels.name(0), "person");
        assert_eq!(labels.name(17), "class 17");
        assert_eq!(Labels::default().name(u32::MAX), "class 4294967295");
    }

    #[test]
    fn a_class_is_found_by_its_name() {
        let labels = Labels::from_names(["person", "crane", "crane"]).unwrap();
        assert_eq!(labels.find("crane"), Some(1));
        assert_eq!(labels.find("Person"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            if let Ok(labels) = Labels::parse(&text) {
                prop_assert!(!labels.is_empty());
            }
        }

        #[test]
        fn what_is_written_is_read(names in prop::collection::vec("[a-z]([a-z ]{0,20}[a-z])?", 1..50)) {
            let labels = Labels::parse(&names.join("\n")).unwrap();
            prop_assert_eq!(labels, Labels::from_names(&names).unwrap());
        }
    }
}
